"""Vectors on a device, simulated, through the verbs of real and of virtual learners."""

import numpy as np
import pytest

from hpcasr.backend.cuda_simulated import Simulated, plain
from hpcasr.comm.base import cuts
from hpcasr.comm.mpi import MPIComm
from hpcasr.comm.staged import Slotted, Staged
from hpcasr.comm.virtual import World

N = 11


def values(rank, n=N):
    return np.random.default_rng([n, rank]).normal(size=n).astype('f4')


def on_device(comm, x):
    out = comm.device.zeros(x.size)
    comm.device.upload(out, x)
    return out


def verbs(comm):
    """Every verb, of vectors on the host or, if `comm` is Staged, on a device; {name: [vectors]}."""
    there = isinstance(comm, Staged)
    comm.arrange(0)
    give, take = (lambda x: on_device(comm, x) if there else x.copy()), lambda x: np.array(plain(x))
    rank, L, found = comm.rank, comm.size, {}
    shared = comm.shared(N + 3, np.float32)
    shared[:] = give(values(rank, N + 3))
    slots = take(shared[N:])
    g = Slotted(shared[:N], slots) if there else shared
    sums = [comm.start_sum(g[:4])]
    found['gathered'] = [np.array(comm.allgather(rank))]
    comm.progress()
    sums.append(comm.start_sum(g[4:N + 3]))
    for finish in sums:
        finish()
    found['sum'] = [take(g[:N]), take(g[N:])]
    x = give(values(rank))
    comm.sum_ordered(x)
    found['any'] = [take(x)]
    bounds = cuts(N, L)
    x = give(values(rank))
    comm.start_sum_slices(x, bounds)()
    found['slices'] = [take(x)]
    comm.share_slices(x, bounds)
    found['shared'] = [take(x)]
    to, frm = [(rank + 1) % L][:L - 1], [(rank - 1) % L][:L - 1]
    finish, start = comm.start_exchange(x, to, frm), comm.neighbourhood(to, frm)
    found['exchange'] = [take(v) for v in finish()] + [take(v) for v in start(x)()]
    x = give(values(rank))
    comm.broadcast(x, L - 1)
    found['broadcast'] = [take(x)]
    on_host = np.arange(3.0)
    comm.start_library_sum(on_host)()
    found['host'] = [on_host, take(comm.host(x))]
    comm.barrier()
    return found


def require_same(here, there):
    assert here.keys() == there.keys()
    for name in here:
        assert len(here[name]) == len(there[name])
        assert all(map(np.array_equal, here[name], there[name])), name


@pytest.mark.parametrize('L', [1, 2, 3, 5])
def test_verbs_do_to_vectors_on_a_device_what_they_do_on_the_host(L):
    here = World(L, schedule='random', strict=True).run(verbs)
    there = World(L, schedule='random', strict=True).run(lambda comm: verbs(Staged(comm, Simulated('fp32'))))
    for a, b in zip(here, there, strict=True):
        require_same(a, b)


@pytest.mark.mpi
def test_ranks_do_as_well():
    comm = MPIComm()
    here, there = verbs(comm), verbs(Staged(comm, Simulated('fp32')))
    require_same(here, there)
    comm.close()
