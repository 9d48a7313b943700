"""Compressed exchanges: what is sent and summed, what is left over, and what no compression may change."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.algorithms import ALGORITHMS, get_algorithm
from hpcasr.backend import get_backend
from hpcasr.comm.base import Comm, cuts
from hpcasr.comm.mpi import MPIComm
from hpcasr.comm.virtual import World
from hpcasr.compress import get_codec
from hpcasr.compress.parcel import padded, rest, striped, tensors
from hpcasr.compress.sum import CompressedSum
from hpcasr.compress.takes import METHODS, SUMS
from hpcasr.config import Config
from hpcasr.errors import BadInput
from hpcasr.model.params import NONFINITE, SLOTS, Params
from tests.algorithms.problems import Acoustic, Player, Quadratic, live
from tests.compress.replica import Replica

OPTIONS = {'compress.ratio': 0.3, 'compress.threshold': 2.0, 'optim.momentum': 0.5}
TAKERS = [name for name, cls in ALGORITHMS.items() if {*SUMS} <= {*cls.compression.methods}]  # those that sum
methods, sizes = pytest.mark.parametrize('method', SUMS), pytest.mark.parametrize('size', [1, 2, 3, 4, 5])
takers = pytest.mark.parametrize('name', TAKERS)
WIDE = Quadratic(n=2607, empty=0.3, stride=301)  # blocks of 512 and 1024, a last one not whole, a bias


def lives(size, name, method, steps, problem=WIDE, seed=0, **options):
    """[Life] of virtual learners."""
    options = {'compress.method': method, 'train.bucket': 500, **OPTIONS, **dotted(options)}
    return World(size, schedule='random', seed=seed, strict=True).run(
        lambda comm: live(comm, name, problem, steps, dtype='float32', options=options, lr=0.02))


def dotted(options):
    return {k.replace('__', '.'): v for k, v in options.items()}


def bits(lives):
    return [life.bits() for life in lives]


# what is summed

@methods
@sizes
def test_every_message_is_as_one_process_would_send_it(method, size):
    replica = Replica(WIDE, size, {'compress.method': method, **OPTIONS})
    models = np.array([replica.step(0.02) for _ in range(5)])
    for life in lives(size, 'sync-allreduce', method, 5):
        assert life.models.tobytes() == models.tobytes()


@methods
def test_also_of_a_model_with_many_tensors(method):
    problem, options = Acoustic(), {'compress.method': method, 'compress.least': 60, **OPTIONS}
    replica = Replica(problem, 3, options)
    models = np.array([replica.step(0.02) for _ in range(4)])
    assert 2 < len(replica.tensors) < len(replica.learners[0].params.shapes)
    for life in lives(3, 'sync-allreduce', method, 4, problem, compress__least=60):
        assert life.models.tobytes() == models.tobytes()


@pytest.mark.mpi
@takers
@methods
def test_ranks_are_virtual_learners_bit_for_bit(name, method):
    comm, options = MPIComm(), {'compress.method': method, 'train.bucket': 500, **OPTIONS}
    here = lambda comm: live(comm, name, WIDE, 7, dtype='float32', options=options, lr=0.02)
    real, virtual = here(comm), World(comm.size).run(here)[comm.rank]
    assert real.bits() == virtual.bits()
    assert np.array_equal(real.slots, virtual.slots)


@takers
@methods
def test_neither_buckets_nor_the_order_of_learners_change_a_bit(name, method):
    problem = Acoustic()
    one, other = (lives(3, name, method, 4, problem, seed, train__bucket=bucket, compress__least=60)
                  for seed, bucket in ((0, 1), (1, 10**9)))
    assert bits(one) == bits(other)
    assert np.array_equal(one[0].slots, other[0].slots)


@pytest.mark.parametrize('name', ['sync-allreduce', 'sync-ps'])
@methods
@pytest.mark.parametrize('size', [2, 5])
def test_measured_bytes_are_those_of_the_messages(name, method, size):
    options = {'compress.method': method, **OPTIONS, 'compress.threshold': 0.0, 'compress.ratio': 1.0}

    def work(comm):
        player = Player(comm, name, WIDE, dtype='float32', options=options)
        before = comm.bytes_sent
        player.step(0)
        return comm.bytes_sent - before
    sent, n = World(size).run(work), WIDE.n
    codec = get_codec(Config().with_values(options, 'test').compress, get_backend('reference'))
    exact = 2*4*(7 + SLOTS + 1)*(size - 1)/size  # the bias, the slots, and whether all is sound
    if name == 'sync-ps':
        assert [round(s - exact) for s in sent] == [4*n*(size - 1)] + [padded(codec.size(n - 7))]*(size - 1)
    elif method in ('topk', 'threshold'):
        assert [round(s - exact) for s in sent] == [padded(codec.size(n - 7))*(size - 1)]*size
    else:
        slices = np.diff(np.minimum(cuts(-(-(n - 7)//codec.every), size)*codec.every, n - 7))
        coded = [padded(codec.size(int(m))) for m in slices]
        assert [round(s - exact) for s in sent] == [sum(coded) - own + own*(size - 1) for own in coded]


# what is left over

class Learner:
    """A CompressedSum of one learner, and random vectors to sum."""

    def __init__(self, comm, method, **options):
        self.comm, options = comm, Config().with_values(
            {'compress.method': method, **OPTIONS, **dotted(options)}, 'test').compress
        self.params = Params({'a': (40, 31), 'b': (31,), 'c': (31, 50), 'd': (50,)}, 'float32')
        self.sum = CompressedSum(comm, options, self.params, get_backend('reference'), comm.start_sum)
        self.rng = np.random.default_rng(comm.rank)

    def vector(self):
        n = self.params.size
        return np.append(self.rng.normal(size=n)*10.0**self.rng.integers(-3, 4, n), [1, 2]).astype(np.float32)

    def residuals(self):
        """Σ of all that has not been said, the same on all learners."""
        mine = [np.array(f.r, np.float64) for f in (self.sum.carrier.first, self.sum.carrier.second) if f]
        return np.sum(self.comm.allgather(np.sum(mine, 0)), 0)


@methods
@pytest.mark.parametrize('size', [1, 3])
def test_what_was_said_and_what_is_left_is_what_there_was(method, size):
    def work(comm):
        learner, given, got = Learner(comm, method), 0.0, 0.0
        for _ in range(25):
            x = learner.vector()
            given = given + x.astype(np.float64)
            ends = [learner.sum.start(x, lo, hi) for lo, hi in pairwise([0, 700, 1271, x.size])]
            for finish in ends:
                finish()
            got = got + x.astype(np.float64)
        return np.sum(comm.allgather(given), 0), got, learner.residuals()
    for wanted, got, left in World(size, strict=True).run(work):
        assert np.linalg.norm(got[:-2] + left - wanted[:-2]) < 1e-5*np.linalg.norm(wanted[:-2])
        np.testing.assert_array_equal(got[-2:], wanted[-2:])


@methods
def test_without_feedback_nothing_is_carried_over(method):
    def work(comm):
        learner = Learner(comm, method, compress__feedback=False)
        x = learner.vector()
        found = []
        for _ in range(2):
            y = x.copy()
            learner.sum.start(y, 0, y.size)()
            found.append(y)
        return found
    for one, two in World(2).run(work):
        assert method == 'qsgd' or np.array_equal(one, two)


@takers
@pytest.mark.parametrize('method', ['onebit', 'qsgd', 'threshold'])
@given(size=st.integers(1, 5), resume=st.sets(st.integers(0, 8), min_size=1, max_size=3))
@settings(max_examples=4, deadline=None)
def test_nothing_is_forgotten(name, method, size, resume):
    def run(resume):
        options = {'compress.method': method, **OPTIONS, 'compress.after': 2}
        return World(size, schedule='random', strict=True).run(lambda comm: live(
            comm, name, WIDE, 9, dtype='float32', options=options, resume=resume, lr=0.02))
    assert bits(run(resume)) == bits(run(()))


@pytest.mark.mpi
@takers
def test_ranks_forget_nothing(name):
    comm, how = MPIComm(), {'dtype': 'float32', 'options': {'compress.method': 'onebit', **OPTIONS}, 'lr': 0.02}
    assert live(comm, name, WIDE, 8, resume=(2, 5), **how).bits() == live(comm, name, WIDE, 8, **how).bits()


def test_momentum_with_the_learners_is_not_forgotten():
    how = {'compress__correction': True, 'compress__after': 2}
    whole = lives(3, 'sync-allreduce', 'topk', 8, **how)
    options = {'compress.method': 'topk', 'train.bucket': 500, **OPTIONS, **dotted(how)}
    cut = World(3).run(lambda comm: live(comm, 'sync-allreduce', WIDE, 8, dtype='float32', options=options,
                                         resume=(1, 5), lr=0.02))
    assert bits(cut) == bits(whole)


@pytest.mark.parametrize('method', ['onebit', 'topk'])
def test_residuals_and_bytes_are_told(method):
    def work(comm):
        learner = Learner(comm, method)
        carrier, before = learner.sum.carrier, comm.bytes_sent
        for _ in range(3):
            x = learner.vector()
            learner.sum.start(x, 0, x.size)()
        sent = comm.bytes_sent - before
        squares = [float(f.r.astype(float) @ f.r.astype(float)) for f in (carrier.first, carrier.second) if f]
        return sent, squares, learner.sum.told(), learner.sum.told()['compressed_bytes']
    found = World(3).run(work)
    norms = np.sqrt(np.sum([squares for _, squares, *_ in found], 0))
    for _, _, told, again in found:
        assert told['compressed_bytes'] == sum(sent for sent, *_ in found) and again == 0
        assert told['residual_norm'] == pytest.approx(norms[0])
        assert told.get('second_residual_norm') == (pytest.approx(norms[1]) if method == 'onebit' else None)


# what may not change

@takers
@methods
def test_until_then_nothing_is_compressed(name, method):
    plain = lives(3, name, 'none', 9)
    assert bits(lives(3, name, method, 9, compress__after=9)) == bits(plain)
    later = lives(3, name, method, 9, compress__after=4)
    assert later[0].models[:4].tobytes() == plain[0].models[:4].tobytes()
    assert later[0].models[-1].tobytes() != plain[0].models[-1].tobytes()


@takers
@sizes
def test_sending_everything_is_not_compressing(name, size):
    plain, all_sent = (lives(size, name, method, 9, compress__ratio=1.0, compress__least=0)
                       for method in ('none', 'topk'))
    for a, b in zip(all_sent, plain, strict=True):
        assert np.linalg.norm(a.models - b.models) < 1e-5*np.linalg.norm(b.models)
        np.testing.assert_allclose(a.slots, b.slots, 1e-5)


@pytest.mark.parametrize('after', [0, 4])
def test_momentum_of_all_learners_is_that_of_their_sum(after):
    """With equal frames, and sending everything; so the correction is right, whatever is sent late."""
    options = {'compress__ratio': 1.0, 'compress__least': 100, 'compress__after': after}
    even = Quadratic(n=2607, even=True, empty=0, stride=301)
    plain = lives(3, 'sync-allreduce', 'none', 9, even)
    for name in 'sync-allreduce', 'sync-ps':
        corrected = lives(3, name, 'topk', 9, even, compress__correction=True, **options)
        assert np.linalg.norm(corrected[0].models - plain[0].models) < 1e-5*np.linalg.norm(plain[0].models)


def test_small_tensors_and_biases_are_summed_exactly():
    params = Params({'a': (4, 5), 'b': (30,), 'c': (6, 5), 'd': (2, 5)}, 'float32')
    spans = lambda pieces: [(p.lo, p.hi) for p in pieces]
    assert spans(tensors(params, 20)) == [(0, 20), (50, 80)]
    assert rest(tensors(params, 20), params.size) == [slice(20, 50), slice(80, 90)]
    assert spans(tensors(params, 0)) == [(0, 20), (20, 50), (50, 80), (80, 90)] and rest(tensors(params, 0), 90) == []
    assert rest(tensors(params, 100), 90) == [slice(0, 90)]
    plain, coded = (lives(3, 'sync-allreduce', method, 4)[0].models for method in ('none', 'onebit'))
    assert coded[:, -7:].tobytes() == plain[:, -7:].tobytes()
    assert bits(lives(3, 'sync-allreduce', 'onebit', 4, compress__least=3000)) == bits(
        lives(3, 'sync-allreduce', 'none', 4))


@given(n=st.integers(1, 5000), owners=st.integers(1, 9), every=st.sampled_from([1, 7, 1024]))
@settings(max_examples=30, deadline=None)
def test_slices_cover_a_tensor_in_whole_blocks(n, owners, every):
    params = Params({'a': (3,), 'b': (n, 1)}, 'float32')
    pieces = list(striped(tensors(params, 1), owners, every))
    assert [p.lo for p in pieces] == [3, *(p.hi for p in pieces[:-1])] and pieces[-1].hi == n + 3
    assert all((p.lo - 3) % every == 0 for p in pieces)
    blocks = [-(-p.size//every) for p in pieces]
    assert max(blocks) - (min(blocks) if len(pieces) == owners else 0) <= 1


@pytest.mark.parametrize('name', ['sync-allreduce', 'sync-ps'])
@methods
def test_a_gradient_that_is_not_finite_changes_nothing_and_is_told(name, method):
    def work(comm):
        player = Player(comm, name, Quadratic(n=2607, bad={(1, 3)}, stride=301), dtype='float32',
                        options={'compress.method': method, **OPTIONS})
        for t in range(3):
            player.step(t)
        before = player.params.data.copy(), player.algorithm.compressed.carrier.first.r.copy()
        player.step(3)
        same = [np.array_equal(a, b) for a, b in zip(before, (
            player.params.data, player.algorithm.compressed.carrier.first.r), strict=True)]
        told = player.params.slots[NONFINITE]
        player.step(4)
        return same, told, np.isfinite(player.params.data).all(), player.params.slots[NONFINITE]
    found = World(3, strict=True).run(work)
    assert [same[0] for same, *_ in found] == [True]*3 and found[1][0][1]
    assert all(told > 0 and sound and not next_one for _, told, sound, next_one in found)


def test_a_model_that_is_not_finite_is_not_hidden_by_a_code():
    """A learner whose model has diverged must not go on from the others' as if nothing had been."""
    def work(comm):
        player = Player(comm, 'local-sgd', WIDE, dtype='float32', options={'compress.method': 'onebit', **OPTIONS})
        for t in range(4):
            player.step(t)
        if comm.rank == 1:
            player.params.data[5] = np.inf
        with np.errstate(invalid='ignore'):
            player.step(4)
            player.step(5)
        return np.isnan(player.params.data).any()
    assert World(3).run(work) == [True]*3


# refusals

@pytest.mark.parametrize('method', METHODS)
@pytest.mark.parametrize('name', ALGORITHMS)
def test_what_is_not_taken_is_refused_with_what_would_work(name, method):
    takes, config = ALGORITHMS[name].compression, Config().with_values({'compress.method': method}, 'test')
    assert takes.methods or not takes.what
    if method in takes.methods:
        get_algorithm(name)(Comm(), config)
        return
    with pytest.raises(BadInput) as e:
        get_algorithm(name)(Comm(), config)
    line = str(e.value)
    assert line.startswith(f'--compress {method}: {name} {takes.why}; ') and takes.instead in line
    others = [name for name, cls in ALGORITHMS.items() if cls.compression.methods]
    assert any(other in line for other in (*others, 'onebit', 'leave --compress out'))


@pytest.mark.parametrize(('name', 'options', 'match'), [
    ('sync-allreduce', {'train.dtype': 'float64'}, 'codes are made of float32, not of train.dtype = float64'),
    ('sync-allreduce', {'compress.correction': True}, 'onebit sends every entry in time; it is for topk and threshold'),
    ('local-sgd', {'compress.correction': True}, 'local-sgd sends no gradients; leave it out'),
    ('sync-ps', {'compress.correction': True, 'compress.method': 'topk', 'optim.optimizer': 'adam'}, 'not adam'),
    ('sync-ps', {'compress.correction': True, 'compress.method': 'topk', 'optim.momentum': 0.0}, 'no optim.momentum'),
])
def test_what_makes_no_sense_is_refused(name, options, match):
    config = Config().with_values({'compress.method': 'onebit', **options}, 'test')
    with pytest.raises(BadInput, match=match):
        get_algorithm(name)(Comm(), config)
