"""Vectors between learners: every verb but the sums, against what a loop over all learners would do."""

from itertools import pairwise

import numpy as np
import pytest

from hpcasr.comm.base import add_in_order, cuts
from hpcasr.comm.mpi import MPIComm
from hpcasr.comm.require import require_flat
from hpcasr.errors import BadInput


def vector(rank, n, turn=0, dtype='float32'):
    return np.random.default_rng([rank, n, turn]).normal(size=n).astype(dtype)


def digraph(size, seed):
    """(to, frm) of every learner; degrees differ, and may be zero."""
    edges = np.random.default_rng([size, seed]).random((size, size)) < 0.5
    np.fill_diagonal(edges, False)
    return [(np.flatnonzero(edges[r]).tolist(), np.flatnonzero(edges[:, r]).tolist()) for r in range(size)]


def bounds_of(size, n):
    """Even slices, one server, one server in the middle, and many that have nothing."""
    yield cuts(n, size)
    yield np.array([0] + [n]*size)
    yield np.array([0]*(size//2 + 1) + [n]*(size - size//2))
    yield np.sort(np.r_[0, np.random.default_rng(n).integers(0, n + 1, size - 1), n])


@pytest.mark.mpi
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
@pytest.mark.parametrize('n', [0, 1, 100_003])
def test_exchange_on_digraphs(n, dtype):
    comm = MPIComm()
    for turn in range(6):
        to, frm = digraph(comm.size, turn)[comm.rank]
        x = vector(comm.rank, n, turn, dtype)
        got = comm.start_exchange(x, to, frm)()
        assert [g.tobytes() for g in got] == [vector(f, n, turn, dtype).tobytes() for f in frm]


@pytest.mark.mpi
def test_neighbourhood_is_the_same_exchange():
    comm = MPIComm()
    for turn in range(4):
        to, frm = digraph(comm.size, turn)[comm.rank]
        start = comm.neighbourhood(to, frm)
        for n in 0, 5, 30_001:
            got = start(vector(comm.rank, n, turn))()
            assert [g.tobytes() for g in got] == [vector(f, n, turn).tobytes() for f in frm]


@pytest.mark.mpi
def test_the_same_neighbourhood_is_not_made_twice():
    comm = MPIComm()
    lists = digraph(comm.size, 1)[comm.rank]
    for _ in range(3):
        comm.neighbourhood(*lists)
    assert len(comm.graphs) == (comm.size > 1)
    comm.neighbourhood([], [])
    assert len(comm.graphs) == 2*(comm.size > 1)


@pytest.mark.mpi
@pytest.mark.parametrize('fixed', [False, True])
def test_vectors_are_the_callers_until_the_next_finish(fixed):
    """Two exchanges are under way at once, all the time; what comes is in order and stays for one turn."""
    comm, n = MPIComm(), 2000
    to, frm = (comm.rank + 1) % comm.size, (comm.rank - 1) % comm.size
    lists = ([to], [frm]) if comm.size > 1 else ([], [])
    start = comm.neighbourhood(*lists) if fixed else lambda x: comm.start_exchange(x, *lists)
    sent = [vector(comm.rank, n, turn) for turn in range(20)]
    finish, before = [start(sent[0])], None
    for turn in range(20):
        finish += [start(x) for x in sent[turn + 1:turn + 2]]
        if before:
            assert before[0].tobytes() == vector(frm, n, turn - 1).tobytes()
        before = finish[turn]()
        assert [b.tobytes() for b in before] == [vector(frm, n, turn).tobytes()]*len(lists[1])
    assert sum(map(len, comm.pool.free.values())) <= 2


@pytest.mark.mpi(min_size=2)
def test_unequal_lengths_arrive_in_the_order_they_were_sent():
    comm = MPIComm()
    peers = [r for r in range(comm.size) if r != comm.rank]
    finish = [comm.start_exchange(vector(comm.rank, n), peers, peers) for n in (70_000, 3, 0, 1000)]
    for f, n in zip(finish, (70_000, 3, 0, 1000), strict=True):
        assert [g.tobytes() for g in f()] == [vector(p, n).tobytes() for p in peers]


@pytest.mark.mpi
def test_impossible_peers_are_refused():
    comm, x = MPIComm(), np.zeros(3)
    for peer in comm.rank, comm.size, -1:
        with pytest.raises(ValueError, match='cannot exchange with learner'):
            comm.start_exchange(x, [peer], [])
    with pytest.raises(ValueError, match='cannot exchange with learner'):  # on all, though one is wrong
        comm.neighbourhood([0] if comm.rank == 0 else [], [])
    if comm.size > 1:
        with pytest.raises(ValueError, match='learners 0 and 1 do not agree'):
            comm.neighbourhood([1] if comm.rank == 0 else [], [])


@pytest.mark.mpi
@pytest.mark.parametrize('n', [1, 2, 1000, 10_007])
@pytest.mark.parametrize('node_size', [0, 2])
def test_sum_of_slices_and_sharing_them(n, node_size):
    comm = MPIComm()
    if node_size and comm.size % node_size:
        pytest.skip(f'{node_size} does not divide {comm.size}')
    comm.arrange(node_size)
    total = np.empty(n, 'float32')
    add_in_order([vector(rank, n) for rank in range(comm.size)], comm.nodes, total)
    for bounds in bounds_of(comm.size, n):
        x, mine = vector(comm.rank, n), slice(*bounds[comm.rank:comm.rank + 2])
        want = x.copy()
        want[mine] = total[mine]
        comm.start_sum_slices(x, bounds)()
        assert x.tobytes() == want.tobytes()
        comm.share_slices(x, bounds)
        assert x.tobytes() == total.tobytes()


@pytest.mark.mpi
def test_bounds_that_are_none_are_refused():
    comm, x = MPIComm(), np.zeros(10)
    for bounds in [0]*comm.size, [0]*(comm.size + 1), [1] + [10]*comm.size, [0]*comm.size + [11]:
        with pytest.raises(ValueError, match='are no bounds'):
            comm.start_sum_slices(x, bounds)
        with pytest.raises(ValueError, match='are no bounds'):
            comm.share_slices(x, bounds)


@pytest.mark.mpi
def test_vectors_with_gaps_are_refused():
    comm, x = MPIComm(), np.zeros(20)[::2]
    for verb in (comm.start_sum, comm.start_library_sum, comm.broadcast, comm.neighbourhood([], []),
                 lambda x: comm.start_exchange(x, [], []), lambda x: comm.share_slices(x, [0] + [10]*comm.size),
                 lambda x: comm.start_sum_slices(x, [0] + [10]*comm.size)):
        with pytest.raises(ValueError, match='a contiguous vector is needed'):
            verb(x)
    with pytest.raises(ValueError, match='a contiguous vector'):
        comm.start_sum(np.zeros((2, 2)))


def test_vectors_that_mpi_cannot_count_are_refused():
    with pytest.raises(BadInput, match='2,147,483,648 entries cannot be sent'):
        require_flat(np.empty(2**31, np.uint8))  # never touched: it takes no memory


@pytest.mark.mpi
@pytest.mark.parametrize('dtype', ['float32', 'float64'])
def test_library_sum(dtype):
    comm = MPIComm()
    x, y = np.arange(1000, dtype=dtype), np.empty(0, dtype)
    finish = comm.start_library_sum(x), comm.start_library_sum(y)
    comm.progress()
    for f in finish:
        f()
    assert (x == comm.size*np.arange(1000)).all()


@pytest.mark.mpi
def test_split():
    comm = MPIComm()
    colours = [r % 2 for r in range(comm.size)]
    part, members = comm.split(colours), [r for r in range(comm.size) if r % 2 == comm.rank % 2]
    assert (part.size, part.rank) == (len(members), members.index(comm.rank))
    part.arrange(0)
    for x in part.shared(100, 'float32'), np.empty(100, 'float32'):
        x[:] = vector(comm.rank, 100)
        whole = comm.start_sum(vector(comm.rank, 10))
        part.sum_ordered(x)
        whole()
        want = np.empty(100, 'float32')
        add_in_order([vector(r, 100) for r in members], part.nodes, want)
        assert x.tobytes() == want.tobytes()
    assert part.allgather(comm.rank) == members


@pytest.mark.mpi
def test_what_is_counted():
    comm, n = MPIComm(), 64*60
    L = comm.size
    ring, steps = 2*4*n*(L - 1)//L, 2*(L - 1)
    comm.arrange(0)
    part = comm.split([0]*L)
    x, window, mine = np.ones(n, 'float32'), comm.shared(n, 'float32'), 4*n//L
    to, frm = digraph(L, 1)[comm.rank]
    assert counted(comm, lambda: comm.sum_ordered(x)) == (ring, steps)
    assert counted(comm, lambda: comm.sum_ordered(window)) == (ring, steps)
    assert counted(comm, comm.start_library_sum(x)) == (0, 0)  # it was counted when it started
    assert counted(comm, lambda: part.sum_ordered(x)) == (ring, steps)
    assert counted(comm, lambda: comm.start_exchange(x, to, frm)()) == (4*n*len(to), len(to))
    assert counted(comm, lambda: comm.neighbourhood(to, frm)(x)()) == (4*n*len(to), len(to))
    assert counted(comm, lambda: comm.start_sum_slices(x, cuts(n, L))()) == (4*n - mine, L - 1)
    assert counted(comm, lambda: comm.share_slices(x, cuts(n, L))) == (mine*(L - 1), L - 1)
    assert counted(comm, lambda: comm.start_sum_slices(x, [0] + [n]*L)()) == ((4*n, 1) if comm.rank else (0, 0))
    assert counted(comm, comm.barrier) == (0, 0)
    assert 0 <= comm.waited <= comm.seconds and (comm.waited > 0) == (L > 1 or comm.seconds > 0)
    assert (part.bytes_sent, part.messages_sent) == (ring, steps)
    assert part.seconds <= comm.seconds


def counted(comm, work):
    before = comm.bytes_sent, comm.messages_sent
    work()
    return comm.bytes_sent - before[0], comm.messages_sent - before[1]


@pytest.mark.mpi(min_size=2)
def test_waiting_is_told_from_transfer():
    """The last learner comes 50 ms late; all the others who need it have waited."""
    comm = MPIComm()
    comm.arrange(0)
    L, n = comm.size, 1000
    ring = [(comm.rank + 1) % L], [(comm.rank - 1) % L]
    x, late = np.ones(n, 'float32'), comm.rank == L - 1
    fixed, window = comm.neighbourhood(*ring), comm.shared(n, 'float32')
    for verb, needs in ((lambda: comm.start_sum(x), True), (lambda: comm.start_sum(window), True),
                        (lambda: comm.start_library_sum(x), True),
                        (lambda: comm.start_sum_slices(x, cuts(n, L)), True),
                        (lambda: comm.start_exchange(x, *ring), comm.rank == 0), (lambda: fixed(x), comm.rank == 0)):
        comm.barrier()
        waited = comm.waited
        if late:
            comm.sleep(0.05)
        verb()()
        assert late or not needs or comm.waited - waited > 0.02
    assert comm.waited <= comm.seconds


@pytest.mark.mpi
@pytest.mark.parametrize('verb', ['split', 'shared', 'machines', 'neighbourhood'])
def test_what_blocks_in_the_library_serves_the_others_first(verb):
    """The odd ones finish a sum before it, the even ones behind it."""
    comm, x = MPIComm(), np.ones(100_000)
    if verb == 'shared':
        comm.arrange(0)
    verbs = {'split': lambda: comm.split([0]*comm.size), 'shared': lambda: comm.shared(10, 'float32'),
             'machines': lambda: comm.machines, 'neighbourhood': lambda: comm.neighbourhood([], [])}
    finish = comm.start_sum(x)
    first, second = (finish, verbs[verb]) if comm.rank % 2 else (verbs[verb], finish)
    first()
    second()
    assert (x == comm.size).all()


@pytest.mark.mpi
def test_nothing_is_under_way_after_close():
    """Those who leave in the middle, all at the same point, leave no message that arrives when its memory is gone."""
    comm = MPIComm()
    part, ring = comm.split([0]*comm.size), ([(comm.rank + 1) % comm.size], [(comm.rank - 1) % comm.size])
    total, x = np.ones(100_000), np.full(100_000, comm.rank)
    comm.start_sum(total)
    if comm.size > 1:
        comm.start_exchange(x, *ring)
        part.start_exchange(x, *ring)
        part.neighbourhood(*ring)(x)
    requests = [request for requests in comm.moves.values() for request in requests]
    comm.close()
    assert not any(requests) and not comm.moves and not any(underway.jobs for underway in comm.family)
    assert (total == comm.size).all()


@pytest.mark.mpi
def test_verbs_under_way_together_do_not_meet():
    """Sums, sums of slices and exchanges under way together, finished in another order."""
    comm, n = MPIComm(), 3000
    to, frm = digraph(comm.size, 3)[comm.rank]
    total = sum(vector(r, n, dtype=float).astype('float32') for r in range(comm.size))
    for turn in range(30):
        x, y, bounds = vector(comm.rank, n), vector(comm.rank, n), cuts(n, comm.size)
        finish = [comm.start_sum(x[lo:hi]) for lo, hi in pairwise(bounds)]
        slices, vectors = comm.start_sum_slices(y, bounds), comm.start_exchange(vector(comm.rank, 50, turn), to, frm)
        assert [v.tobytes() for v in vectors()] == [vector(f, 50, turn).tobytes() for f in frm]
        slices()
        for f in finish[::-1]:
            f()
        mine = slice(*bounds[comm.rank:comm.rank + 2])
        np.testing.assert_allclose(x, total, rtol=1e-4, atol=1e-4)
        assert y[mine].tobytes() == x[mine].tobytes()
