"""Going on from a checkpoint with another number of learners: what was not said yet is neither lost nor doubled."""

import numpy as np
import pytest

from hpcasr.checkpoint import Checkpoints, part, prefixed, verify
from hpcasr.comm.virtual import World
from hpcasr.resume import Former, moved
from tests.algorithms.problems import Player
from tests.compress.test_sum import OPTIONS, TAKERS, WIDE
from tests.test_checkpoint import FACTS

takers = pytest.mark.parametrize('name', TAKERS)


def world(size):
    return World(size, schedule='random', seed=size, strict=True)


def player(comm, name, method):
    return Player(comm, name, WIDE, dtype='float32', options={'compress.method': method, **OPTIONS}, lr=0.02)


def left(player):
    """Σ over all learners of what has not been said, in float64."""
    carrier, comm = player.algorithm.compressed.carrier, player.comm
    mine = sum(np.array(f.r, np.float64) for f in (carrier.first, carrier.second) if f)
    return np.sum(comm.allgather(mine), 0)


def save(player, path, samples):
    """As run.Run.save."""
    a, p, comm = player.algorithm, player.params, player.comm
    a.settle(p.data, p.slots)
    x, state = a.consensus(p.data).copy(), prefixed(algorithm=a.state())
    shared, own = prefixed(params={'params': x}), prefixed(algorithm=a.apart())
    if a.own_state:
        own |= state | prefixed(params=p.state())
    facts = FACTS | {'versions': {'ranks': comm.size}}
    Checkpoints(path, comm).save(samples, shared if a.own_state else shared | state, own, facts)


def load(player, path):
    """As run.Run.find_start; what the log says of it."""
    a, comm = player.algorithm, player.comm
    path, manifest, _ = Checkpoints(path, comm).newest()
    elsewhere = moved(manifest, {'ranks': comm.size}, a)
    shared, own = Checkpoints(path.parents[1], comm).load(path, a.keeper)
    state = shared if elsewhere else shared | own
    player.params.load(part(state, 'params'))
    if not elsewhere or not a.own_state:
        a.load(part(state, 'algorithm'))
    told = a.regroup(Former(path, manifest, comm, 'algorithm')) if elsewhere else ''
    comm.barrier()
    return told


def first(path, name, method, size, steps=7):
    """What is left, and the optimizer's momentum, after some steps of `size` learners, who are saved then."""
    def work(comm):
        p = player(comm, name, method)
        for t in range(steps):
            p.step(t)
        save(p, path, 1)
        found = left(p) if method != 'none' else 0, np.array(p.algorithm.optimizer.v)
        p.algorithm.close(p.params.data)
        return found
    return world(size).run(work)[0]


def then(path, name, method, size):
    def work(comm):
        p = player(comm, name, method)
        told = load(p, path)
        found = left(p), np.array(p.algorithm.optimizer.v), told, p.algorithm.compressed.steps
        p.step(7)
        p.algorithm.settle(p.params.data, p.params.slots)
        p.algorithm.close(p.params.data)
        return *found, p.algorithm.consensus(p.params.data).tobytes()
    return world(size).run(work)


@takers
@pytest.mark.parametrize('method', ['onebit', 'topk'])
@pytest.mark.parametrize('sizes', [(3, 2), (1, 4), (5, 5, 3)])
def test_what_was_not_said_yet_is_kept(tmp_path, name, method, sizes):
    before, v = first(tmp_path, name, method, sizes[0])
    assert np.linalg.norm(before) > 0
    for size in sizes[1:]:
        learners = then(tmp_path, name, method, size)
        for after, now, told, steps, x in learners:
            assert np.linalg.norm(after - before) < 1e-6*np.linalg.norm(before)
            assert ('is shared out evenly' in told) == (size != sizes[0])
            assert steps > 0 and x == learners[0][-1]
            if name in ('sync-allreduce', 'sync-ps'):
                assert np.array_equal(v, now)


@pytest.mark.parametrize(('was', 'now'), [('onebit', 'topk'), ('topk', 'onebit'), ('qsgd', 'fp16')])
@pytest.mark.parametrize('size', [2, 3])
def test_another_method_goes_on_with_what_is_left(tmp_path, was, now, size):
    """From one carrier to another, where residuals lie elsewhere; also with other learners."""
    before, _ = first(tmp_path, 'sync-allreduce', was, 3)
    for after, *_ in then(tmp_path, 'sync-allreduce', now, size):
        assert np.linalg.norm(after - before) < 1e-6*np.linalg.norm(before)


@takers
@pytest.mark.parametrize('size', [2, 3])
def test_a_checkpoint_of_uncompressed_training_leaves_nothing(tmp_path, name, size):
    first(tmp_path, name, 'none', 3)
    for after, *_ in then(tmp_path, name, 'onebit', size):
        assert not after.any()


def test_only_what_learners_do_not_share_is_in_their_files(tmp_path):
    first(tmp_path, 'sync-allreduce', 'onebit', 2)
    [path] = Checkpoints(tmp_path, None).paths()
    files = verify(path)['files']
    assert set(files) == {'shared.h5', 'rank0000.h5', 'rank0001.h5'}
    assert files['rank0001.h5']['bytes'] < 4*WIDE.n + 10000 < files['shared.h5']['bytes']
