"""Going on from a checkpoint with another number of learners: what is the mean, what stays, what begins anew."""

import numpy as np
import pytest

from hpcasr.algorithms import ALGORITHMS
from hpcasr.checkpoint import Checkpoints, part, prefixed, read_h5, verify
from hpcasr.comm.base import Comm
from hpcasr.comm.mpi import MPIComm
from hpcasr.comm.virtual import World
from hpcasr.errors import BadInput
from hpcasr.resume import Former, moved
from tests.algorithms.problems import Player, Quadratic
from tests.test_checkpoint import FACTS

OPTIMIZERS = [{'optim.momentum': 0.7}, {'optim.optimizer': 'adam'}]
FORMS = {'bmuf': [{'exchange.block_update': 'classic'}], 'push-sum': [{'exchange.push_delay': 3}],
         'sync-decentralized': [{'exchange.topology': 'pairs'}], 'easgd': [{'exchange.elastic_update': 'sync'}]}
REPLICAS = [(name, options) for name, cls in ALGORITHMS.items() if cls.own_state
            for options in [{}, *FORMS.get(name, [])]]
IDS = [' '.join([name, *(str(v) for v in options.values())]) for name, options in REPLICAS]
replicas = pytest.mark.parametrize(('name', 'options'), REPLICAS, ids=IDS)
optimizers = pytest.mark.parametrize('optimizer', OPTIMIZERS, ids=['momentum', 'adam'])
STEPS = 7  # 3 make a block
PROBLEM = Quadratic(even=True, empty=0)


def world(size):
    return World(size, schedule='random', seed=size, strict=True)


def save(player, path, samples):
    """Checkpoint as run.Run does; (consensus, its own state) of this learner."""
    a, p, comm = player.algorithm, player.params, player.comm
    a.settle(p.data, p.slots)
    consensus = a.consensus(p.data).copy()
    state = {k: np.array(v) for k, v in a.state().items()}
    own = prefixed(algorithm=state | a.apart(), params=p.state()) if a.keeper == comm.rank else {}
    checkpoints = Checkpoints(path, comm, keep=9)
    checkpoints.save(samples, prefixed(params={'params': consensus}), own, FACTS)
    return consensus, state if own else None


def begin(comm, path, *args, **how):
    """(a Player who has gone on from the newest checkpoint of others, the words for it)."""
    player, (path, manifest, _) = Player(comm, *args, **how), Checkpoints(path, comm).newest()
    player.params.load(part(read_h5(path/'shared.h5'), 'params'))
    told = player.algorithm.regroup(Former(path, manifest, comm, 'algorithm'))
    comm.barrier()
    return player, told


def end(player):
    player.algorithm.close(player.params.data)


def before(path, name, nodes, options, problem=PROBLEM, **how):
    """(consensus, [states]) of a run that is saved after STEPS steps."""
    def work(comm):
        comm.nodes = nodes
        player = Player(comm, name, problem, options=options, **how)
        for t in range(STEPS):
            player.step(t)
        found = save(player, path, 1)
        end(player)
        return found
    found = world(len(nodes)).run(work)
    return found[0][0], [state for _, state in found if state]


def after(path, name, nodes, options, look, problem=PROBLEM, **how):
    """[look(player)] of learners that go on from there."""
    def work(comm):
        comm.nodes = nodes
        player, _ = begin(comm, path, name, problem, options=options, **how)
        found = look(player)
        player.algorithm.settle(player.params.data, player.params.slots)
        end(player)
        return found
    return world(len(nodes)).run(work)


def together(name, size):
    """Nodes on which any algorithm runs; hierarchical on nodes of two, where that can be."""
    return tuple(rank//2 for rank in range(size)) if name == 'hierarchical' else (0,)*size


SIZES = pytest.mark.parametrize(('then', 'now'), [(2, 3), (3, 1), (1, 4), (5, 2), (3, 3)])


@replicas
@optimizers
@SIZES
def test_the_consensus_stays_and_all_begin_with_it_and_the_mean_state(tmp_path, name, options, optimizer, then, now):
    options = options | optimizer
    consensus, states = before(tmp_path, name, together(name, then), options)

    def look(player):
        a, p = player.algorithm, player.params
        x, consensus = p.data.copy(), a.consensus(p.data).copy()
        a.settle(p.data, p.slots)  # which refreshes models from their windows
        assert np.array_equal(p.data, x)
        return x, consensus, {k: np.array(v) for k, v in a.optimizer.state().items()}
    found = after(tmp_path, name, together(name, now), options, look)
    for x, same, state in found:
        assert same.tobytes() == found[0][1].tobytes()
        np.testing.assert_allclose(same, consensus, rtol=1e-14)
        np.testing.assert_allclose(x, consensus + ahead(name, options, states, now), rtol=1e-13)
        for key, value in state.items():
            mean = np.mean([former[key] for former in states], 0)
            mean = 0 if name == 'bmuf' and key == ('m' if 'steps' in state else 'v') else mean
            np.testing.assert_allclose(value, mean if value.ndim else np.rint(mean), rtol=1e-13)


def ahead(name, options, states, now):
    """How far from the consensus a learner begins."""
    looks = name == 'bmuf' and 'exchange.block_update' not in options
    return (1 - 1/now)*states[0]['D'] if looks else 0


@replicas
def test_they_go_on(tmp_path, name, options):
    """All of them by the same count of steps, which synchronous ones rely on; nobody waits for ever."""
    before(tmp_path, name, together(name, 2), options)

    def look(player):
        first = player.algorithm.t
        for t in range(STEPS):
            player.step(t)
        return first
    counts = set(after(tmp_path, name, together(name, 3), options, look))
    assert counts == {0 if name in ('local-sgd', 'bmuf', 'hogwild') else STEPS}


@replicas
@optimizers
def test_of_equal_learners_as_many_go_on_where_they_were(tmp_path, name, options, optimizer):
    """Once they have been made equal, regrouping the same number is the identity."""
    options = options | optimizer
    before(tmp_path, name, together(name, 4), options)

    def work(comm):
        comm.nodes = together(name, 3)
        one, _ = begin(comm, tmp_path, name, PROBLEM, options=options)
        _, state = save(one, tmp_path, 2)
        two, _ = begin(comm, tmp_path, name, PROBLEM, options=options)
        _, again = save(two, tmp_path, 3)
        end(one)
        end(two)
        return one.params.data, two.params.data, state, again
    for x, y, state, again in world(3).run(work):
        np.testing.assert_allclose(x, y, rtol=1e-15)
        for key in state or ():
            np.testing.assert_allclose(state[key], again[key], rtol=1e-15, err_msg=key)


# what an algorithm has more

@pytest.mark.parametrize('delay', [0, 1, 4])
@SIZES
def test_push_sum_has_the_mass_of_its_learners_and_keeps_it(tmp_path, delay, then, now):
    options = {'exchange.push_delay': delay}
    consensus, _ = before(tmp_path, 'push-sum', (0,)*then, options)

    def look(player):
        a, found = player.algorithm, []
        for t in range(5):
            found.append(a.pair + sum(vector for vector in a.land() if vector is not None))
            player.lr = 0.0
            player.step(t)
        return np.array(found)
    totals = sum(after(tmp_path, 'push-sum', (0,)*now, options, look))
    np.testing.assert_allclose(totals[:, -1], now, rtol=1e-14)
    np.testing.assert_allclose(totals[:, :-1], np.repeat([now*consensus], 5, 0), rtol=1e-12)


@pytest.mark.parametrize('update', ['classic', 'nesterov'])
@SIZES
def test_bmuf_keeps_its_drift(tmp_path, update, then, now):
    options = {'exchange.block_update': update}
    consensus, states = before(tmp_path, 'bmuf', (0,)*then, options)
    for D, W in after(tmp_path, 'bmuf', (0,)*now, options, lambda player: (player.algorithm.D, player.algorithm.W)):
        assert np.array_equal(D, states[0]['D']) and np.array_equal(W, consensus)


@SIZES
def test_easgd_begins_at_its_centre(tmp_path, then, now):
    for form in 'async', 'sync':
        options = {'exchange.elastic_update': form}
        consensus, _ = before(tmp_path/form, 'easgd', (0,)*then, options)
        for x in after(tmp_path/form, 'easgd', (0,)*now, options, lambda player: player.params.data.copy()):
            assert np.array_equal(x, consensus)


@pytest.mark.parametrize('now', [(0, 1, 2, 3), (0, 0, 0, 0), (0, 1, 1, 1)])
def test_hierarchical_goes_on_on_other_nodes(tmp_path, now):
    """The means are over the nodes that were, whatever they had of learners."""
    consensus, states = before(tmp_path, 'hierarchical', (0, 0, 0, 1), {'optim.momentum': 0.7})
    assert len(states) == 2
    for x, v in after(tmp_path, 'hierarchical', now, {'optim.momentum': 0.7},
                      lambda player: (player.params.data.copy(), player.algorithm.optimizer.v)):
        assert np.array_equal(x, consensus)
        np.testing.assert_allclose(v, (states[0]['v'] + states[1]['v'])/2, rtol=1e-14)


def test_who_has_moved():
    versions = {'ranks': 4, 'nodes': '2 x 2'}
    for name, cls in ALGORITHMS.items():
        assert not moved({'versions': versions}, versions, cls)
        assert moved({'versions': versions}, versions | {'ranks': 2}, cls) == cls.own_state
        assert moved({'versions': versions}, versions | {'nodes': '4 x 1'}, cls) == (name == 'hierarchical')


# arithmetic and bad input

def checkpoint(path, vectors, dtype='float32'):
    """One in which learner k has vectors[k]."""
    def work(comm):
        own = prefixed(algorithm={'v': np.array(vectors[comm.rank], dtype), 'steps': np.array(comm.rank)})
        return Checkpoints(path, comm).save(1, {'params/params': np.zeros(3)}, own, FACTS)
    path = World(len(vectors)).run(work)[0]
    return path, verify(path)


@pytest.mark.parametrize('size', [1, 2, 3, 5, 9])
def test_means_are_the_same_bits_whoever_asks(tmp_path, size):
    vectors = np.random.default_rng(0).normal(size=(11, 7)).astype('float32')
    path, manifest = checkpoint(tmp_path, vectors)

    def work(comm):
        state = {'v': np.empty(7, 'float32'), 'steps': np.array(0)}
        Former(path, manifest, comm, 'algorithm').average(state)
        return state
    for state in World(size).run(work):
        assert np.array_equal(state['v'], vectors.astype('float64').mean(0).astype('float32'))
        assert state['steps'] == 5


@pytest.mark.parametrize('learners', [3, 7])
def test_the_mean_of_equal_vectors_is_that_vector(tmp_path, learners):
    vector = np.random.default_rng(1).normal(size=50).astype('float32')
    path, manifest = checkpoint(tmp_path, [vector]*learners)
    state = {'v': np.empty_like(vector)}
    Former(path, manifest, Comm(), 'algorithm').average(state)
    assert np.array_equal(state['v'], vector)


def test_a_missing_file_is_told(tmp_path):
    path, _ = checkpoint(tmp_path, np.eye(3))
    (path/'rank0001.h5').unlink()
    with pytest.raises(BadInput, match='000000000001: not a whole checkpoint'):
        verify(path)


def test_a_checkpoint_without_any_learner_is_told(tmp_path):
    path = Checkpoints(tmp_path, Comm()).save(1, {'params/params': np.zeros(3)}, {}, FACTS)
    with pytest.raises(BadInput, match=r'holds no file of any rank \(rank0000.h5 ...\)'):
        Former(path, verify(path), Comm(), 'algorithm')


def test_a_missing_array_is_told_to_all(tmp_path):
    path, manifest = checkpoint(tmp_path, np.eye(3))

    def work(comm):
        former, told = Former(path, manifest, comm, 'algorithm'), []
        for state in {'w': np.empty(3)}, {'w': np.array(0)}:
            with pytest.raises(BadInput, match=r'rank0000.h5: holds no algorithm/w: another version') as e:
                former.average(state)
            told.append(str(e.value))
        return told
    assert len({str(told) for told in World(3).run(work)}) == 1


@pytest.mark.mpi
@replicas
def test_ranks_go_on_as_virtual_learners_do(mpi_tmp_path, name, options):
    """From two virtual learners; those that step alone are asked before their first step."""
    comm, options = MPIComm(), options | OPTIMIZERS[0]
    path = comm.allgather(str(mpi_tmp_path))[0]
    if comm.rank == 0:
        before(path, name, together(name, 2), options)
    comm.barrier()
    steps = 0 if ALGORITHMS[name].asynchronous else STEPS

    def look(player):
        for t in range(steps):
            player.step(t)
        return player.params.data.tobytes() + player.algorithm.consensus(player.params.data).tobytes()
    comm.nodes = together(name, comm.size)
    player, _ = begin(comm, path, name, PROBLEM, options=options)
    here = look(player)
    end(player)
    comm.close()
    assert here == after(path, name, together(name, comm.size), options, look)[comm.rank]
