"""Public copies of neighbours: CHOCO-SGD is its rule on the columns of one matrix, and keeps what mixing keeps."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.algorithms import get_algorithm
from hpcasr.algorithms.topology import TOPOLOGIES, get_topology
from hpcasr.backend import get_backend
from hpcasr.comm.base import Comm
from hpcasr.comm.mpi import MPIComm
from hpcasr.comm.virtual import World
from hpcasr.compress import get_codec
from hpcasr.compress.parcel import padded
from hpcasr.compress.public import consensus_step
from hpcasr.config import Config
from hpcasr.errors import BadInput
from hpcasr.model.params import FRAMES
from hpcasr.optim import get_optimizer
from tests.algorithms.problems import Player, Quadratic, live
from tests.algorithms.test_regroup import after, before

FIXED = [name for name, cls in TOPOLOGIES.items() if cls.fixed]
METHODS = get_algorithm('sync-decentralized').compression.methods
OPTIONS = {'compress.ratio': 0.3, 'optim.momentum': 0.5}
WIDE = Quadratic(n=2607, empty=0.3, stride=301, apart=True)
WIDE_MODELS = Quadratic(n=2607, even=True, empty=0, stride=301)
methods, sizes = pytest.mark.parametrize('method', METHODS), pytest.mark.parametrize('size', [1, 2, 3, 4, 5])
topologies = pytest.mark.parametrize('topology', FIXED)
PAIRS = [(method, 'ring') for method in METHODS] + [('onebit', topology) for topology in FIXED[1:]]
pairs = pytest.mark.parametrize(('method', 'topology'), PAIRS, ids=[' '.join(pair) for pair in PAIRS])


def choices(method, topology='ring', **more):
    return {'compress.method': method, 'exchange.topology': topology, **OPTIONS,
            **{k.replace('__', '.'): v for k, v in more.items()}}


def world(size, seed=0):
    return World(size, schedule='random', seed=seed, strict=True)


def lives(size, options, steps, problem=WIDE, lr=0.02, **how):
    return world(size).run(lambda comm: live(comm, 'sync-decentralized', problem, steps, dtype='float32',
                                             options=options, lr=lr, **how))


class Replica:
    """All learners one after the other; W, H [L, n]: models and public copies.  What is not encoded is averaged."""

    def __init__(self, problem, L, options):
        self.config, self.L, self.t, self.H = Config().with_values(options, 'test'), L, 0, None
        self.learners = [problem.learner(rank, L, 'float32') for rank in range(L)]
        self.ops, self.topology = get_backend('reference'), get_topology(self.config.exchange.topology, L)
        self.optimizers = [get_optimizer(self.config.optim, problem.n, 'float32', self.ops) for _ in range(L)]
        self.codec, self.coded = get_codec(self.config.compress, self.ops), slice(0, problem.n - 7)  # then a bias

    @property
    def W(self):
        return np.stack([one.params.data for one in self.learners])

    def step(self, lr):
        W = self.W
        mixed = [self.mix(W, rank) for rank in range(self.L)]
        if self.H is None:
            self.H = W.copy()
        else:
            for rank in range(self.L):
                self.H[rank, self.coded] += self.said(W, rank)
            for rank in range(self.L):
                mixed[rank][self.coded] = self.approach(W[rank], rank)[self.coded]
        for one, x, optimizer in zip(self.learners, mixed, self.optimizers, strict=True):
            one.compute(self.t)
            one.params.data[:] = x
            optimizer(one.params.data, one.params.grad/max(one.params.slots[FRAMES], np.float32(1)), lr)
        self.t += 1
        return self.W

    def mix(self, W, rank):
        """Σ_j T_lj w_j."""
        weights = self.topology.weights(rank)
        return self.sum([W[j] for j in weights], list(weights.values()))

    def approach(self, x, rank):
        """x + γ Σ_j (T − 1)_lj ŵ_j."""
        weights, gamma = self.topology.weights(rank), consensus_step(self.config.compress)
        return self.sum([x, *(self.H[j] for j in weights)],
                        [1.0, *(gamma*(weight - (j == rank)) for j, weight in weights.items())])

    def sum(self, vectors, weights):
        out = np.empty_like(vectors[0])
        self.ops.mix(out, vectors, weights, np.empty((2, 100), np.float32))
        return out

    def said(self, W, rank):
        v = (W[rank] - self.H[rank])[self.coded]
        message, out = np.zeros(self.codec.size(len(v)), np.uint8), np.empty_like(v)
        self.codec.encode(v, np.zeros_like(v), message, (rank, self.t, 0))
        self.codec.decode(message, out)
        return out


# the rule

@methods
@sizes
def test_every_message_is_as_one_process_would_send_it(method, size):
    for topology in FIXED if size in (4, 5) else FIXED[:1]:
        replica = Replica(WIDE, size, choices(method, topology))
        models = np.array([replica.step(0.02) for _ in range(6)])
        for rank, life in enumerate(lives(size, choices(method, topology), 6)):
            assert life.models.tobytes() == models[:, rank].tobytes()


@pytest.mark.mpi
@pairs
def test_ranks_are_virtual_learners_bit_for_bit(method, topology):
    comm = MPIComm()
    here = lambda comm: live(comm, 'sync-decentralized', WIDE, 7, dtype='float32', options=choices(method, topology),
                             lr=0.02, resume=(3,))
    real, virtual = here(comm), World(comm.size).run(here)[comm.rank]
    assert real.bits() == virtual.bits() and np.array_equal(real.slots, virtual.slots)
    comm.close()


@topologies
@pytest.mark.parametrize('least', [0, 1024])
@pytest.mark.parametrize('size', [1, 2, 5])
def test_who_sends_everything_mixes_models(topology, least, size):
    """An exact code and γ = 1 are the algorithm without compression, as far as w − ŵ + ŵ is w."""
    plain = lives(size, choices('none', topology), 9)
    for method, more in ('topk', {'compress__ratio': 1.0}), ('fp16', {}):
        coded = lives(size, choices(method, topology, compress__least=least, compress__consensus_step=1.0, **more), 9)
        for a, b in zip(coded, plain, strict=True):
            wrong = np.linalg.norm(a.models - b.models)/np.linalg.norm(b.models)
            assert wrong < (1e-6 if method == 'topk' else 1e-3)
            assert np.array_equal(a.slots[:, [0, 2]], b.slots[:, [0, 2]])


# what mixing keeps

def mixed(size, options, steps):
    """[steps + 1, L, n] the models of learners that only average."""
    start = np.stack([WIDE.learner(rank, size, 'float32').params.data for rank in range(size)])
    return np.concatenate([start[None], np.stack([one.models for one in lives(size, options, steps, lr=0.0)], 1)])


@pairs
@pytest.mark.parametrize('size', [2, 5])
def test_the_mean_stays_and_the_models_meet(method, topology, size):
    """onebit says no more than a mean of its block, so that large differences take it long."""
    steps, share = {'topk': (150, 1e-3), 'onebit': (60, 0.15)}.get(method, (60, 1e-3))
    models = mixed(size, choices(method, topology, compress__ratio=0.1), steps).astype('float64')
    mean, eps = models.mean(1), np.finfo('float32').eps
    assert np.abs(mean - mean[0]).max() <= 4*eps*steps*np.abs(models).max()
    spread = np.linalg.norm(models - mean[:, None], axis=(1, 2))
    assert spread[-1] <= share*spread[0] and spread.max() <= (1 + 1e-6)*spread[0]


# memory

@pairs
@given(size=st.integers(1, 5), resume=st.sets(st.integers(0, 8), min_size=1, max_size=3))
@settings(max_examples=3, deadline=None)
def test_nothing_is_forgotten(method, topology, size, resume):
    options = choices(method, topology, compress__after=2)
    resumed, whole = (lives(size, options, 9, resume=when) for when in (resume, ()))
    assert [a.bits() for a in resumed] == [b.bits() for b in whole]


@methods
def test_a_copy_is_the_same_wherever_it_is(method):
    def work(comm):
        player = Player(comm, 'sync-decentralized', WIDE, dtype='float32', options=choices(method), lr=0.02)
        for t in range(7):
            player = player.again() if t == 4 else player
            player.step(t)
        player.algorithm.close(player.params.data)
        return {peer: copy.tobytes() for peer, copy in player.algorithm.compressed.copies.items()}
    found = world(5).run(work)
    for rank, copies in enumerate(found):
        assert sorted(copies) == sorted({rank, (rank + 1) % 5, (rank - 1) % 5})
        assert all(copy == found[peer][peer] for peer, copy in copies.items())


def test_other_tensors_may_be_compressed_from_a_checkpoint_on():
    """What is no longer encoded is averaged as it is, whatever was known of it; models still meet."""
    def work(comm, least):
        player = Player(comm, 'sync-decentralized', WIDE, dtype='float32', options=choices('fp16'), lr=0.0)
        for t in range(120):
            player = player.again(options=choices('fp16', compress__least=least)) if t == 4 else player
            player.step(t)
        player.algorithm.close(player.params.data)
        return player.params.data.copy()
    for least in 0, 10**9:
        models = np.array(world(5).run(lambda comm, least=least: work(comm, least)))
        start = np.mean([WIDE.learner(rank, 5, 'float32').params.data for rank in range(5)], 0)
        assert np.abs(models - start).max() < 1e-4


def test_until_then_nothing_is_compressed():
    plain, later = (lives(3, choices(method, compress__after=4), 9) for method in ('none', 'onebit'))
    assert later[0].models[:5].tobytes() == plain[0].models[:5].tobytes()  # the fifth tells the models whole
    assert later[0].models[5].tobytes() != plain[0].models[5].tobytes()


@methods
@pytest.mark.parametrize('topology', ['ring', 'complete'])
def test_measured_bytes_are_those_of_the_messages(method, topology):
    options = choices(method, topology)

    def work(comm):
        player, sent = Player(comm, 'sync-decentralized', WIDE, dtype='float32', options=options), []
        for t in range(2):
            before = comm.bytes_sent, comm.messages_sent
            player.algorithm.begin(player.params.data)
            sent.append((comm.bytes_sent - before[0], comm.messages_sent - before[1]))
            player.learner.compute(t)
            player.algorithm.step(player.params.data, player.params.gradient, 0.1)
        player.algorithm.settle(player.params.data, player.params.slots)
        told = [player.algorithm.told() for _ in range(2)]
        player.algorithm.close(player.params.data)
        return sent, told, np.linalg.norm(player.algorithm.compressed.unsaid.r.astype(float))
    codec = get_codec(Config().with_values(options, 'test').compress, get_backend('reference'))
    n, neighbours = WIDE.n, {'ring': 2, 'complete': 4}[topology]
    coded = padded(codec.size(n - 7)) + padded(4*7)
    found = world(5).run(work)
    for sent, (told, again), _ in found:
        assert sent == [(4*n*neighbours, neighbours), (coded*neighbours, neighbours)]
        assert told['compressed_bytes'] == 5*(4*n + coded)*neighbours and again['compressed_bytes'] == 0
        assert told['residual_norm'] == pytest.approx(np.linalg.norm([norm for *_, norm in found]))


def test_a_model_that_is_not_finite_stays_with_its_learner():
    """Which its loss tells to all; the copies of it stay finite."""
    def work(comm):
        player = Player(comm, 'sync-decentralized', WIDE, dtype='float32', options=choices('onebit'), lr=0.02)
        for t in range(5):
            if t == 3 and comm.rank == 1:
                player.params.data[5] = np.inf
            with np.errstate(invalid='ignore'):
                player.step(t)
        finite = [np.isfinite(copy).all() for copy in player.algorithm.compressed.copies.values()]
        player.algorithm.close(player.params.data)
        return np.isfinite(player.params.data).all(), all(finite)
    assert world(3).run(work) == [(True, True), (False, True), (True, True)]


# going on with others, and refusals

@pytest.mark.parametrize(('then', 'now'), [(3, 2), (1, 4), (2, 5)])
def test_others_make_their_copies_anew(tmp_path, then, now):
    options = choices('onebit')
    consensus, states = before(tmp_path, 'sync-decentralized', (0,)*then, options, WIDE_MODELS, dtype='float32')
    assert all('public' in state for state in states)

    def look(player):
        x, copies = player.params.data.copy(), dict(player.algorithm.compressed.copies)
        for t in range(3):
            player.step(t)
        return x, copies, len(player.algorithm.compressed.copies)
    for x, copies, known in after(tmp_path, 'sync-decentralized', (0,)*now, options, look, WIDE_MODELS,
                                  dtype='float32'):
        np.testing.assert_allclose(x, consensus, rtol=1e-6)
        assert copies == {} and known == min(now, 3)


@pytest.mark.parametrize(('options', 'match'), [
    ({'exchange.topology': 'random-ring'}, 'with --topology random-ring neighbours change .* take ring, exponential'),
    ({'exchange.topology': 'pairs'}, 'with --topology pairs neighbours change'),
    ({'compress.feedback': False}, 'adds differences to public copies, which are what remembers; leave it out'),
])
def test_what_has_no_copies_is_refused(options, match):
    config = Config().with_values({'compress.method': 'topk', **options}, 'test')
    with pytest.raises(BadInput, match=match):
        get_algorithm('sync-decentralized')(Comm(), config)
