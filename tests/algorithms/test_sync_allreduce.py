"""Invariant: L ranks with batch m are one rank with batch L·m, also where frames and samples are uneven."""

import itertools

import numpy as np
import pytest

from hpcasr import config
from hpcasr.algorithms import get_algorithm
from hpcasr.backend import get_backend
from hpcasr.comm.base import Comm
from hpcasr.comm.mpi import MPIComm
from hpcasr.data.loader import Loader
from hpcasr.data.sampler import Chunks
from hpcasr.data.work import StaticWork
from hpcasr.evaluate import evaluate
from hpcasr.model.network import build
from hpcasr.model.params import FRAMES, LOSS, SAMPLES
from hpcasr.optim import get_optimizer
from tests.small import corpus

STEPS, TOLERANCE = 20, {'float32': 1e-5, 'float64': 1e-12}


def trained(comm, batch, dtype, bucket=100, optimizer='sgd', clip=0.0, steps=STEPS):
    """Parameters after some steps of a small blstm on uneven utterances, and the sums that the slots showed."""
    c = config.Config().with_values({'model.preset': 'tiny', 'model.cells': 6, 'train.dtype': dtype,
                                     'optim.optimizer': optimizer, 'optim.momentum': 0.5, 'optim.clip': clip,
                                     'train.bucket': bucket}, 'test')
    data = corpus(60)
    algorithm = get_algorithm('sync-allreduce')(comm, c)
    network = build(c.model, data.dim, data.num_targets, dtype, get_backend('reference'), algorithm.allocate)
    network.init(0)
    p = network.params
    algorithm.bind(p, get_optimizer(c.optim, p.size, dtype, network.ops))
    chunks = Chunks(data, 7)
    work = StaticWork(len(chunks), batch, comm.rank, comm.size)
    seen = []
    for claim, b in itertools.islice(epochs(Loader(data, chunks, work, 0, dtype=dtype), work), steps):
        algorithm.begin(p.data)
        network.loss_and_grad(b, ready=algorithm.ready)
        algorithm.step(p.data, p.gradient, 0.1 if optimizer == 'sgd' else 0.001)
        work.finish(claim)
        seen.append(p.slots[[FRAMES, LOSS, SAMPLES]])
    return p.data, np.array(seen)


def epochs(loader, work):
    while True:
        yield from loader
        work.next_epoch()


@pytest.mark.mpi
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
@pytest.mark.parametrize('m', [1, 4])
def test_ranks_with_batch_m_are_one_rank_with_their_batches_together(dtype, m):
    comm = MPIComm()
    x, seen = trained(comm, m, dtype)
    alone, seen_alone = trained(Comm(), m*comm.size, dtype)
    assert np.linalg.norm(x - alone) < TOLERANCE[dtype]*np.linalg.norm(alone)
    assert np.allclose(seen, seen_alone, rtol=10*TOLERANCE[dtype])
    assert len(set(comm.allgather(x.tobytes()))) == 1


@pytest.mark.mpi
@pytest.mark.parametrize('options', [{'optimizer': 'adam'}, {'clip': 0.01}])
def test_also_with_adam_and_with_clipping(options):
    comm = MPIComm()
    x, _ = trained(comm, 3, 'float64', **options)
    alone, _ = trained(Comm(), 3*comm.size, 'float64', **options)
    assert np.linalg.norm(x - alone) < 1e-11*np.linalg.norm(alone)


@pytest.mark.mpi
def test_buckets_change_no_bit():
    comm = MPIComm()
    results = {trained(comm, 2, 'float32', bucket)[0].tobytes() for bucket in (1, 50, 333, 10**9)}
    assert len(results) == 1


def test_it_learns():
    _, seen = trained(Comm(), 8, 'float64', steps=200)
    frames, loss = seen[:, 0], seen[:, 1]
    assert loss[-5:].sum()/frames[-5:].sum() < 0.9*loss[:5].sum()/frames[:5].sum()


@pytest.mark.mpi
def test_ranks_score_like_one():
    comm, data = MPIComm(), corpus(40)
    c = config.Config().with_values({'model.preset': 'tiny', 'model.cells': 6, 'train.dtype': 'float64'}, 'test')
    network = build(c.model, data.dim, data.num_targets, 'float64', get_backend('reference'))
    network.init(0)
    chunks = Chunks(data, 7)

    def scores(group):
        work = StaticWork(len(chunks), 3, group.rank, group.size)
        return evaluate(network, network.params.data, Loader(data, chunks, work, dtype='float64'), group)
    here, alone = scores(comm), scores(Comm())
    assert here.frames == alone.frames == data.num_frames
    assert here.fer == alone.fer and abs(here.ce - alone.ce) < 1e-12*alone.ce
