"""Error feedback where steps are not alike: the last one of an epoch has few samples, perhaps one."""

from functools import partial

import numpy as np
import pytest

from hpcasr.backend import get_backend
from hpcasr.comm.virtual import World
from hpcasr.compress.striped import Striped
from hpcasr.compress.sum import CompressedSum
from hpcasr.compress.warmup import settled
from hpcasr.config import Config
from hpcasr.model.params import FRAMES, Params
from tests.algorithms.problems import Player
from tests.compress.test_sum import OPTIONS, WIDE

CASES = [(name, method, {}) for name, methods in (
    ('sync-allreduce', ('fp16', 'onebit', 'topk', 'qsgd')), ('sync-ps', ('onebit', 'topk')))
    for method in methods]
CASES += [(name, 'topk', {'compress.correction': True, 'compress.after': after})
          for name in ('sync-allreduce', 'sync-ps') for after in (0, 10)]


@pytest.mark.parametrize(('name', 'method', 'more'), CASES)
def test_what_is_left_counts_no_more_in_a_small_step(name, method, more):
    """Of the same mean gradients steps of any size make the same bits: of powers of two no scale rounds."""
    def run(comm, filled):
        player = Player(comm, name, WIDE, dtype='float32', options={'compress.method': method, **OPTIONS, **more})
        rng = np.random.default_rng(comm.rank)
        for share in filled:
            step(player, rng.normal(size=WIDE.n).astype(np.float32), share)
        return player.params.data.tobytes()
    whole, small = (World(3, strict=True).run(partial(run, filled=filled))
                    for filled in ([1]*5, [1, 1, 1/64, 1, 1/2]))
    assert small == whole and len(set(whole)) == 1


def step(player, g, filled):
    """A step of 64·filled frames per learner with mean gradient g."""
    a, p = player.algorithm, player.params
    a.samples, a.filled = 0, filled
    a.begin(p.data)
    p.slots[:] = 0
    p.grad[:], p.slots[FRAMES] = 64*g*filled, 64*filled
    a.step(p.data, p.gradient, 0.02)


@pytest.mark.parametrize('method', ['fp16', 'onebit'])
def test_momentum_is_gathered_once(method):
    """By who sends, and not once more by who owns the sum: without an error, u is what the optimizer would make."""
    options = Config().with_values({'compress.method': method}, 'test').compress

    def work(comm):
        params = Params({'a': (40, 31)}, 'float32')
        total = CompressedSum(comm, options, params, get_backend('reference'), comm.start_sum, Striped, 0.5)
        u, said, carrier = np.zeros(params.size), np.zeros(params.size), total.carrier
        wanted, rng = np.zeros(params.size), np.random.default_rng(0)
        for _ in range(20):
            g = rng.normal(size=params.size).astype(np.float32)
            u = 0.5*u + g
            x = np.append(g, [1]).astype(np.float32)
            total.start(x, 0, x.size)()
            said, wanted = said + x[:-1], wanted + comm.size*u
        left = np.sum(comm.allgather(carrier.first.r.astype(float) + carrier.second.r), 0)
        return np.linalg.norm(said + left - wanted)/np.linalg.norm(wanted)
    assert max(World(2, strict=True).run(work)) < 1e-5


@pytest.mark.parametrize(('values', 'after'), [
    ({'compress.method': 'topk'}, 1000), ({'compress.method': 'topk', 'optim.warmup': 2.5}, 2500),
    ({'compress.method': 'topk', 'optim.warmup': 0.0}, 0), ({'compress.method': 'onebit'}, 0),
    ({'compress.method': 'topk', 'compress.after': 0}, 0), ({'compress.method': 'fp16', 'compress.after': 7}, 7)])
def test_sparse_codes_wait_until_the_rate_is_warm(values, after):
    assert settled(Config().with_values(values, 'test'), 1000).compress.after == after
