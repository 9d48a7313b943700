"""Algorithms that are the same where their options meet, and what block momentum settles at."""

import numpy as np
import pytest

from hpcasr import config
from hpcasr.algorithms import get_algorithm
from hpcasr.comm.base import Comm
from hpcasr.comm.mpi import MPIComm
from hpcasr.comm.virtual import World
from hpcasr.errors import BadInput
from tests.algorithms.problems import Acoustic, Player, Quadratic, live

TOLERANCE = {'float32': 1e-6, 'float64': 1e-13}
STEPS = 12
EVEN = Acoustic(m=2, utterances=20, longest=7), Quadratic(even=True), Quadratic(even=True, seed=1)
sizes = pytest.mark.parametrize('size', [1, 2, 3, 4, 5])
dtypes = pytest.mark.parametrize('dtype', TOLERANCE)


def lives(size, name, problem, steps=STEPS, node_size=0, **how):
    def work(comm):
        comm.arrange(node_size)
        return live(comm, name, problem, steps, **how)
    return World(size, schedule='random', strict=True).run(work)


def require_close(ones, others, tolerance):
    for a, b in zip(ones, others, strict=True):
        assert np.linalg.norm(a.models - b.models) <= tolerance*np.linalg.norm(b.models)
        assert np.linalg.norm(a.consensus - b.consensus) <= tolerance*np.linalg.norm(b.consensus)


@sizes
@dtypes
def test_averaging_in_every_step_is_allreduce(size, dtype):
    """With equal frames: a mean of means is not the mean of all frames else."""
    for problem in EVEN[1:]:
        require_close(lives(size, 'local-sgd', problem, dtype=dtype, options={'exchange.period': 1}),
                      lives(size, 'sync-allreduce', problem, dtype=dtype), TOLERANCE[dtype])


@sizes
@dtypes
@pytest.mark.parametrize('update', ['classic', 'nesterov'])
def test_bmuf_without_block_momentum_is_averaging(size, dtype, update):
    options = {'exchange.block_momentum': 0.0, 'exchange.block_rate': 1.0, 'exchange.block_update': update}
    for problem in Quadratic(), Acoustic():
        require_close(lives(size, 'bmuf', problem, dtype=dtype, options=options),
                      lives(size, 'local-sgd', problem, dtype=dtype), TOLERANCE[dtype])


@sizes
@dtypes
def test_delay_by_one_is_the_complete_topology(size, dtype):
    require_close(lives(size, 'delay-by-one', Quadratic(), dtype=dtype),
                  lives(size, 'sync-decentralized', Quadratic(), dtype=dtype,
                        options={'exchange.topology': 'complete'}), TOLERANCE[dtype])


def test_the_network_computes_with_a_model_that_no_sum_touches():
    player = Player(Comm(), 'delay-by-one', Quadratic())
    assert not np.shares_memory(player.algorithm.sum, player.params.data)


@sizes
@pytest.mark.parametrize('servers', [1, 2, 3, 0])
@pytest.mark.parametrize('optimizer', [{'optim.momentum': 0.7}, {'optim.optimizer': 'adam'}], ids=['sgd', 'adam'])
def test_servers_do_what_allreduce_does_bit_for_bit(size, servers, optimizer):
    servers = min(servers, size)
    for bucket in 1, 10, 1000:
        options = optimizer | {'exchange.servers': servers, 'train.bucket': bucket}
        shards = lives(size, 'sync-ps', Acoustic(), 5, dtype='float32', options=options, lr=0.01)
        whole = lives(size, 'sync-allreduce', Acoustic(), 5, dtype='float32', options=optimizer, lr=0.01)
        assert [a.bits() for a in shards] == [b.bits() for b in whole]
        assert all(np.array_equal(a.slots, b.slots) for a, b in zip(shards, whole, strict=True))


@sizes
@pytest.mark.parametrize('servers', [1, 2, 0])
@dtypes
def test_servers_clip_by_the_whole_norm(size, servers, dtype):
    clip = {'optim.clip': 0.5, 'optim.momentum': 0.7}
    shards = lives(size, 'sync-ps', Quadratic(), dtype=dtype, options=clip | {'exchange.servers': min(servers, size)})
    whole = lives(size, 'sync-allreduce', Quadratic(), dtype=dtype, options=clip)
    require_close(shards, whole, TOLERANCE[dtype])
    assert not np.allclose(whole[0].models, lives(size, 'sync-allreduce', Quadratic())[0].models)


@pytest.mark.parametrize('size, servers, expected', [(5, 1, [0]), (4, 2, [0, 2]), (5, 3, [0, 1, 3]), (3, 0, [0, 1, 2])])
def test_servers_are_spread(size, servers, expected):
    def work(comm):
        ps = get_algorithm('sync-ps')(comm, config.Config().with_values({'exchange.servers': servers}, 'test'))
        slices = np.diff(ps.starts)
        assert slices.sum() == len(expected) and ps.starts[-1] == len(expected)
        return np.flatnonzero(slices).tolist(), ps.describe()
    found, lines = World(size).run(work)[0]
    assert found == expected
    assert lines == [f'servers   {len(expected)} of {size} ranks: {", ".join(map(str, expected))}']


def test_momentum_lives_with_its_server():
    """A server writes to its own slice of the momentum only, until all slices are asked for."""
    def work(comm):
        player = Player(comm, 'sync-ps', Quadratic(), options={'exchange.servers': 0, 'optim.momentum': 0.5})
        for t in range(4):
            player.step(t)
        v, own = player.algorithm.optimizer.v, player.algorithm.own
        outside = np.delete(v, np.arange(*own.indices(len(v))))
        assert (v[own] != 0).all() and (outside == 0).all()
        return player.algorithm.state()['v'].tobytes()
    assert len(set(World(4).run(work))) == 1


@sizes
def test_one_node_changes_no_bit_and_several_hardly_any(size):
    flat = lives(size, 'sync-allreduce', Quadratic(), dtype='float32')
    for name in 'sync-allreduce', 'sync-ps':
        assert [a.bits() for a in lives(size, name, Quadratic(), node_size=size, dtype='float32')] == [
            b.bits() for b in flat]
    if size == 4:
        require_close(lives(4, 'sync-allreduce', Quadratic(), node_size=2), lives(4, 'sync-allreduce', Quadratic()),
                      TOLERANCE['float64'])


@pytest.mark.mpi
@pytest.mark.parametrize('name', ['sync-allreduce', 'sync-ps'])
def test_ranks_in_one_node_or_in_nodes_of_one(name):
    comm, results = MPIComm(), {}
    for node_size in 1, comm.size:
        comm.arrange(node_size)
        results[node_size] = live(comm, name, Quadratic(), STEPS)
    require_close([results[1]], [results[comm.size]], TOLERANCE['float64'])


# block momentum

def progress(size, update, blocks, **options):
    """[blocks] by how much W moved in each, in units of what one learner gains in it."""
    K, lr, options = 4, 0.01, {'exchange.period': 4, 'exchange.block_update': update, **options}

    def work(comm):
        found = []
        for b in range(blocks + 1):
            problem = Quadratic(pull='constant', even=True)
            found.append(live(comm, 'bmuf', problem, b*K, options=options, lr=lr).consensus[0] if b else None)
        return found
    centers = World(size).run(work)[0]
    start = Quadratic(pull='constant').learner(0, size, 'float64').params.data[0]
    return -np.diff([start, *centers[1:]])/(K*lr)


@pytest.mark.parametrize('size', [1, 2, 4])
@pytest.mark.parametrize('update', ['classic', 'nesterov'])
def test_bmuf_settles_at_as_many_blocks_progress_as_there_are_learners(size, update):
    """Under a constant gradient, within 1 % after 5·L blocks; block b gains L (1 − η^b)."""
    moved = progress(size, update, 5*size)
    eta = 1 - 1/size
    np.testing.assert_allclose(moved, [size*(1 - eta**b) for b in range(1, 5*size + 1)], rtol=1e-9)
    assert abs(moved[-1] - size) < 0.01*size


def test_bmuf_with_block_momentum_and_rate_of_its_own():
    moved = progress(2, 'nesterov', 6, **{'exchange.block_momentum': 0.5, 'exchange.block_rate': 0.8})
    np.testing.assert_allclose(moved, [0.8*2*(1 - 0.5**b) for b in range(1, 7)], rtol=1e-9)


@pytest.mark.parametrize('update', ['classic', 'nesterov'])
def test_local_momentum_ends_with_its_block(update):
    """The second block of a lone learner, without block momentum, is the first one again."""
    options = {'exchange.period': 3, 'exchange.block_update': update, 'exchange.block_momentum': 0.0,
               'optim.momentum': 0.9}
    models = live(Comm(), 'bmuf', Quadratic(pull='constant', even=True), 6, options=options).models[:, 0]
    start = Quadratic().learner(0, 1, 'float64').params.data[0]
    np.testing.assert_allclose(models[3:] - models[2], models[:3] - start, rtol=1e-9)


# bad input

@pytest.mark.parametrize(('name', 'options', 'match'), [
    ('sync-ps', {'exchange.servers': 4}, 'exchange.servers = 4: there are 3 ranks; give 3 at most, or 0'),
    ('bmuf', {'exchange.block_momentum': -0.5}, 'exchange.block_momentum = -0.5: give 0 or more'),
    ('sync-decentralized', {'exchange.topology': 'rng'}, '--topology rng: .* did you mean ring'),
])
def test_what_cannot_be_is_said_before_anything_is_made(name, options, match):
    c = config.Config().with_values(options, 'test')
    with pytest.raises(BadInput, match=match):
        World(3).run(lambda comm: get_algorithm(name)(comm, c))
