"""Parcels of bytes to one learner each, and its answer to all; and from everybody to everybody."""

import numpy as np
import pytest

from hpcasr.comm.base import Comm
from hpcasr.comm.mpi import MPIComm
from hpcasr.comm.virtual import Link, World
from hpcasr.config import Simulate

EMPTY = 2  # the number of the learner who is sent nothing


def room(k):
    """Bytes of a parcel for learner k, at most: others send less."""
    return 0 if k == EMPTY else 16 + 8*k


def parcel(source, target):
    size = max(room(target) - 8*(source % 2), 0)
    return np.full(size, 16*source + target + 1, np.uint8)


def relays(comm, times=3):
    """What the learners have answered, of several relays under way together."""
    L, found, ends = comm.size, [], []
    answers = [8*(k + 1)*(room(k) > 0) for k in range(L)]

    def fold(parcels):
        heads = [p[0] for p in parcels] + [len(parcels)]
        return np.resize(np.array(heads, np.uint8), answers[comm.rank])
    for _ in range(times):
        found.append([])
        ends.append(comm.start_relay([parcel(comm.rank, k) for k in range(L)], room(comm.rank), answers, fold,
                                     lambda come, found=found[-1]: found.extend(a.tobytes() for a in come)))
        comm.progress()
    for end in ends:
        end()
    return found


def gathers(comm):
    """The first bytes of what everybody sent, of parcels of different length, with a sum in between."""
    found, x = [], np.ones(5, np.float32)
    end = comm.start_gather(np.full(8*(comm.rank + 1), comm.rank, np.uint8), 8*comm.size,
                            lambda come: found.extend(p[:8*(k + 1)].tobytes() for k, p in enumerate(come)))
    comm.sum_ordered(x)
    end()
    return found, x[0]


def wanted(L):
    heads = lambda k: [16*source + k + 1 for source in range(L)] + [L]
    return [np.resize(np.array(heads(k), np.uint8), 8*(k + 1)*(room(k) > 0)).tobytes() for k in range(L)]


def check(comm):
    assert relays(comm) == [wanted(comm.size)]*3
    before = comm.bytes_sent, comm.messages_sent
    relays(comm, 1)
    L, me = comm.size, comm.rank
    others = [parcel(me, k).size for k in range(L) if k != me]
    own = 8*(me + 1)*(room(me) > 0)
    assert comm.bytes_sent - before[0] == sum(others) + own*(L - 1)
    assert comm.messages_sent - before[1] == np.count_nonzero(others) + (L - 1)*(own > 0)
    found, total = gathers(comm)
    assert found == [bytes([k])*8*(k + 1) for k in range(L)] and total == L


@pytest.mark.parametrize('size', [1, 2, 3, 5])
def test_virtual_learners(size):
    World(size, schedule='random', strict=True).run(check)


def test_one_alone():
    check(Comm())


@pytest.mark.mpi
def test_ranks():
    check(MPIComm())


def test_its_bytes_take_their_time():
    """On links of 1 KB/s: the busiest sends three parcels of 1000 bytes, and gets three answers of 500."""
    def work(comm):
        comm.simulate(Simulate(latency=0.0, bandwidth=1e-6))
        comm.start_relay([np.zeros(1000, np.uint8)]*4, 1000, [500]*4, lambda come: np.zeros(500, np.uint8), len)()
        return comm.now()
    assert World(4, Link(0, 1e3)).run(work) == pytest.approx([4.5]*4)
