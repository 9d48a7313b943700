"""The microbenchmarks on real ranks: right answers, no false ones, and no wrong one that goes unseen."""

import json

import numpy as np
import pytest

from hpcasr.bench.wire import check_c, onesided, plain_c, room, session, text, verdict
from hpcasr.bench.wire.catalog import TESTS
from hpcasr.bench.wire.collectives import Collective, SumOrdered
from hpcasr.bench.wire.measure import measure, sample
from hpcasr.bench.wire.neighbours import Neighbor
from hpcasr.bench.wire.onesided import Counter, OneSided
from hpcasr.bench.wire.options import Options
from hpcasr.bench.wire.session import Outputs, run, varied
from hpcasr.errors import AgreedBadInput, BadInput

QUICK = {'iterations': 3, 'warm_up': 1, 'cap': 5.0, 'window': 3}
VARIANTS = [(kind, sync) for kind in ('create', 'allocate', 'shared') for sync in ('lock', 'lock_all', 'fence', 'pscw')]


@pytest.fixture
def comm():
    from hpcasr.comm.mpi import MPIComm
    comm = MPIComm()
    if comm.size == 1:
        pytest.skip('one rank')
    yield comm
    comm.close()


def options(**values):
    return Options(**QUICK | values).load()


def fits(comm, cls, opts):
    """Skips where so many ranks cannot run this."""
    try:
        cls.require(comm.size, opts)
    except BadInput as e:
        assert 'even number' in str(e) and comm.size % 2
        pytest.skip(str(e))


@pytest.mark.mpi
@pytest.mark.parametrize('name', TESTS)
def test_every_test_is_right_and_tells_the_same_on_all_ranks(comm, name):
    opts, cls = options(), TESTS[name]
    fits(comm, cls, opts)
    test = cls(comm, 4096, opts)
    for turn, nbytes in enumerate(cls.fixed or (8, 64, 4096)):
        found = measure(test, nbytes, opts, turn)
        assert all(found == other for other in comm.allgather(found)) and not found['wrong'], found
        assert found['iterations'] == 3 and 0 < found['min_us'] <= found['mean_us'] <= found['max_us']
        assert 0 < found['p50_us'] <= found['p90_us'] <= found['p99_us'] <= found['worst_us']
        assert len(text.line(test, found).split()) == len(test.columns) + (cls.fixed != (0,))
    test.close()


@pytest.mark.mpi
@pytest.mark.parametrize('kind, sync', VARIANTS)
def test_every_window_and_synchronization(comm, kind, sync):
    for name in 'put_latency', 'get_bw', 'acc_bw', 'fop_latency', 'cas_latency':
        opts = options(window_kind=kind, sync=sync)
        test = TESTS[name](comm, 264, opts)
        found = measure(test, 8 if test.fixed else 264, opts, 1)
        assert not found['wrong'] and (found['window'], found['sync']) == (kind, sync)
        test.close()


@pytest.mark.mpi
@pytest.mark.parametrize('pattern', ['random-ring', 'pair'])
def test_every_pattern(comm, pattern):
    opts = options(pattern=pattern)
    fits(comm, Neighbor, opts)
    test = Neighbor(comm, 1000, opts)
    assert not measure(test, 1000, opts, 0)['wrong']
    test.close()


@pytest.mark.mpi
def test_a_target_that_computes(comm, monkeypatch):
    monkeypatch.setattr(onesided, 'BUSY', 0.02)
    monkeypatch.setattr(onesided, 'SPAN', 0.01)
    for name in 'put_latency', 'ticket':
        opts = options(target='computing')
        test = TESTS[name](comm, 8, opts)
        found = measure(test, 8, opts, 0)
        assert found['target'] == 'computing' and found['iterations'] >= 1 and not found['wrong']
        test.close()


class Spoiling:
    """A communicator whose sends carry a last entry that is 1 too large."""

    def __init__(self, mpi):
        self.mpi = mpi

    def __getattr__(self, name):
        call = getattr(self.mpi, name)
        return call if name in ('Barrier', 'Recv', 'Irecv', 'Free') else lambda out, *more: call(spec(out), *more)


def spec(out):
    """What is sent instead; an empty message stays."""
    return [spoiled(out[0]), *out[1:]] if out[1] else out


def spoiled(x):
    y = x.copy()
    y[-1:] += 1
    return y


def spoil(test):
    """Let this rank send, or read, what is not so; of the data, not of the sums."""
    if isinstance(test, Counter):
        draw, lost = test.draw, iter(range(10**6))
        test.draw = lambda: draw() + (next(lost) % 5 == 4)
    elif isinstance(test, OneSided):
        verb = test.access.verb
        test.access.verb = lambda name, x: damaging(verb(name, x), x) if name == 'get' else \
            lambda: verb(name, spoiled(x))()
    elif isinstance(test, Neighbor):
        start = test.start
        test.start = lambda x: start(spoiled(x))
    elif isinstance(test, SumOrdered):
        exact = test.comm.sum_ordered
        test.comm.sum_ordered = lambda x: exact(np.add(x, 1, out=x))
    elif test.name == 'bcast':
        exact = test.run
        test.run = lambda: (exact(), np.add(test.out[0], 1, out=test.out[0]))
    else:
        test.mpi = Spoiling(test.mpi)


def damaging(reach, x):
    def both():
        reach()
        x[-1:] += 1
    return both


@pytest.mark.mpi
@pytest.mark.parametrize('name', [name for name in TESTS if name != 'barrier'])
def test_a_corrupted_transfer_is_caught(comm, name):
    opts, cls = options(), TESTS[name]
    fits(comm, cls, opts)
    test = cls(comm, 256, opts)
    if comm.rank == 0:
        spoil(test)
    nbytes = 8 if cls.fixed else 256
    found = measure(test, nbytes, opts, 4)
    assert found['wrong'] > 0 and found['wrong_ranks'] and all(found == other for other in comm.allgather(found))
    with pytest.raises(verdict.Failed, match=f'{name}.* came wrong at size {nbytes} on rank'):
        verdict.judge([found])
    comm.barrier()


@pytest.mark.mpi
def test_the_time_cap_ends_a_size(comm):
    test = TESTS['barrier'](comm, 0, options())
    test.at(0)
    test.once = lambda: __import__('time').sleep(0.01)
    seconds = sample(test, 10**6, 0.1)
    assert 1 <= len(seconds) <= 10 and len(set(comm.allgather(len(seconds)))) == 1


@pytest.mark.mpi
def test_a_window_that_is_refused_to_two_ranks_is_refused_to_all(comm, monkeypatch):
    monkeypatch.setattr(onesided.rma, 'free', lambda: 0)
    with pytest.raises(AgreedBadInput, match='/dev/shm'):
        session.series(comm, TESTS['put_latency'], options(), [8], None, print)


@pytest.mark.mpi
def test_sizes_beyond_memory_are_refused_and_the_default_fits(comm, monkeypatch):
    monkeypatch.setattr(room, 'free', lambda: 2**20)
    with pytest.raises(BadInput, match='times the free memory'):
        room.sizes(comm, TESTS['alltoall'], options(sizes=(1, 2**20)))
    found = room.sizes(comm, TESTS['alltoall'], options())
    assert found[0] == 1 and found[-1]*2*comm.size*room.busiest(comm) <= 2**19 < 4*found[-1]*2*comm.size**2
    with pytest.raises(BadInput, match='where no MAX is given, sizes end at'):
        room.sizes(comm, TESTS['bw'], options(sizes=(2**20, None)))
    monkeypatch.setattr(room, 'free', lambda: 2**30)
    monkeypatch.setattr(room.cgroup, 'limit', lambda: 2**20)  # of the job
    assert room.sizes(comm, TESTS['bw'], options())[-1] < 2**20
    monkeypatch.setattr(room.cgroup, 'limit', lambda: 2**40)
    monkeypatch.setattr(onesided.rma, 'free', lambda: 2**19)
    assert room.sizes(comm, TESTS['put_bw'], options())[-1] == 2**16
    assert room.sizes(comm, TESTS['put_bw'], options(window_kind='create'))[-1] > 2**20
    assert room.sizes(comm, TESTS['put_bw'], options(sizes=(1, 2**17)))[-1] == 2**17
    with pytest.raises(BadInput, match='more than is free in /dev/shm; at most -m 131072 fits'):
        room.sizes(comm, TESTS['put_bw'], options(sizes=(1, 2**18)))
    with pytest.raises(BadInput, match='no size from'):
        room.sizes(comm, TESTS['allreduce'], options(sizes=(1, 3)))


@pytest.mark.mpi
def test_bandwidths_are_those_of_nccl_tests(comm):
    L = comm.size
    for name, factor, whole in (('allreduce', 2*(L - 1)/L, 1), ('reduce_scatter', (L - 1)/L, 1),
                                ('allgather', (L - 1)/L, L), ('alltoall', (L - 1)/L, L), ('bcast', 1, 1)):
        test = TESTS[name](comm, 64, options())
        found = Collective.figures(test, {'size': 1000, 'mean_us': 2.0, 'p50_us': 1.0})
        assert found['algbw_gb_s'] == pytest.approx(0.5*whole)
        assert found['busbw_gb_s'] == pytest.approx(0.5*whole*factor)
        test.close()


def test_bandwidth_is_bytes_over_time():
    for name, ways in ('bw', 1), ('bibw', 2):
        test = object.__new__(TESTS[name])
        test.window = 64
        found = test.figures({'size': 1000, 'mean_us': 64.0, 'p50_us': 32.0})
        assert (found['mb_s'], found['p50_mb_s'], found['messages_s']) == (1000*ways, 2000*ways, 1e6*ways)


@pytest.mark.parametrize('name, values, message', [
    ('ticket', {'sync': 'lock'}, 'the lock of training'),
    ('put_bw', {'sync': 'fence', 'target': 'computing'}, 'cannot'),
    ('acc_bw', {'type': 'uint8'}, 'not for sums'), ('allreduce', {'type': 'float16'}, 'not for sums'),
    ('put_bw', {'kind': 'staged'}, 'no device memory')])
def test_what_makes_no_sense(name, values, message):
    with pytest.raises(BadInput, match=message):
        TESTS[name].require(2, Options(**values))


@pytest.mark.parametrize('name, ranks, message', [
    ('bw', 1, 'needs 2 ranks or more'), ('barrier', 1, 'mpirun -n 2 hpcasr bench barrier'),
    ('mbw_mr', 3, 'even number of them, got 3')])
def test_too_few_ranks_and_odd_ones(name, ranks, message):
    with pytest.raises(BadInput, match=message):
        TESTS[name].require(ranks, Options())
    with pytest.raises(BadInput, match='even number'):
        Neighbor.require(5, Options(pattern='pair'))


def test_one_sided_tests_take_every_variant():
    variants = {'window_kind': ['create', 'shared'], 'sync': ['lock', 'fence'], 'target': ['idle'],
                'pattern': ['ring', 'pair']}
    assert [len(varied(TESTS[name], Options(), variants)) for name in ('bw', 'neighbor', 'put_bw')] == [1, 2, 4]


@pytest.mark.mpi
def test_files_of_a_session(comm, tmp_path):
    folder = comm.allgather(str(tmp_path))[0]
    said = []
    outputs = Outputs(json=f'{folder}/a.json', csv=f'{folder}/a.csv')
    opts = Options(**QUICK, sizes=(1, 512))
    run(comm, ['latency', 'allreduce'], opts, {}, outputs, said.append)
    comm.barrier()
    with open(f'{folder}/a.json') as f:
        found = json.load(f)
    assert found['ranks'] == comm.size == len(found['binding']) and len(found['rows']) == 10 + 8
    assert bool(said) == (comm.rank == 0) and all(line[0] in '#123456789' for line in said)
    with pytest.raises(BadInput, match='never overwritten'):
        run(comm, ['latency'], opts, {}, outputs, said.append)
    with pytest.raises(BadInput, match='a fit needs 3 sizes or more'):
        run(comm, ['latency'], Options(**QUICK, sizes=(1, 2)), {}, Outputs(machine=f'{folder}/m.json'), said.append)
    run(comm, ['latency'], opts, {}, Outputs(baseline=f'{folder}/a.json', tolerance=1e5), said.append)
    with pytest.raises(BadInput, match='nothing of it was measured now'):
        run(comm, ['barrier'], opts, {}, Outputs(baseline=f'{folder}/a.json'), said.append)
    with pytest.raises(BadInput, match='tells no bandwidth'):
        run(comm, ['barrier'], opts, {}, Outputs(least=1.0), said.append)
    with pytest.raises(verdict.Failed, match='less than --min-bw'):
        run(comm, ['bw'], Options(**QUICK, sizes=(1, 2)), {}, Outputs(least=1e9), said.append)


@pytest.mark.mpi
def test_the_same_calls_in_c(comm, monkeypatch):
    try:
        comm.together(plain_c.load)
    except BadInput as e:
        pytest.skip(str(e))
    monkeypatch.setattr(check_c, 'SHARE', 1e9)
    monkeypatch.setattr(check_c, 'CALL_US', 1e9)
    said, opts = [], options(sizes=(8, 16), plain=True)
    rows = check_c.check(comm, list(TESTS), opts, 3, 3, said.append)
    assert {row['test'] for row in rows} == set(plain_c.LOOPS) and len(rows) == 2*(len(plain_c.LOOPS) + 1)
    assert all(row['us'] > 0 and row['other_us'] > 0 for row in rows) and len(said) == (comm.rank == 0)


@pytest.mark.mpi
def test_the_loops_in_c_move_the_same_bytes(comm):
    from hpcasr.bench.wire import pattern
    try:
        library = comm.together(plain_c.load)
    except BadInput as e:
        pytest.skip(str(e))
    for turn, name in enumerate(('latency', 'bw', 'allreduce', 'put_latency', 'get_latency')):
        opts = options(plain=True)
        test = TESTS[name](comm, 64, opts)
        test.at(64)
        if test.active and name not in ('put_latency', 'get_latency'):
            loop = plain_c.loop(library, name, test.mpi, test.out[0], test.into[0], opts.window)
        elif test.active:
            loop = plain_c.loop(library, name, test.access.win, test.vector, None, opts.window)
            loop = loop if test.first else lambda count: None
        if test.active:
            test.run = lambda loop=loop: loop(1)
        if name == 'bw':
            test.check = lambda t, test=test: one_place(test, t)
        wrong = test.check(turn)
        assert not any(comm.allgather(wrong)), name
        test.run = None
        test.close()
    assert pattern.UNTOUCHED > pattern.PERIOD


def one_place(test, turn):
    """As check() of latency: the window of the loop in C has one place."""
    from hpcasr.bench.wire.pairs import Pair
    wrong = Pair.check(test, turn)
    return wrong if test.active and not test.first else 0


def test_without_a_compiler_it_says_so(monkeypatch):
    monkeypatch.setattr(plain_c.shutil, 'which', lambda name: None)
    with pytest.raises(BadInput, match='there is no gcc and no cc'):
        plain_c.load()
    with pytest.raises(BadInput, match=r'no mpi\.h beside'):
        monkeypatch.setattr(plain_c.sys, 'prefix', '/nowhere')
        plain_c.headers('/nowhere/lib/libmpi.so.12')


def test_verdicts_of_a_comparison():
    assert check_c.verdict(1.0, 0.9, 1.2, 0.95, 1.05) == 'ok'
    assert check_c.verdict(1.1, 1.04, 1.2, 0.95, 1.05) == 'unclear'
    assert check_c.verdict(1.1, 1.06, 1.2, 0.95, 1.05) == check_c.verdict(0.8, 0.7, 0.9, 0.95, 1.05) == 'differs'
