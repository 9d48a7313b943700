import json

import numpy as np
import pytest

from hpcasr.bench import onesided
from hpcasr.bench.onesided import Trial, bench, lines, share, summary
from hpcasr.bench.wrong import Wrong
from hpcasr.comm.base import Comm
from hpcasr.comm.onesided import Window
from hpcasr.config import resolve

FIELDS = {'entries', 'bytes', 'ranks', 'machines', 'library', 'repeats', 'progress', 'small', 'hand_over', 'large'}
TRIAL = Trial(nbytes=4*1001, repeats=1)


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(onesided, 'BUSY', 0.2)
    monkeypatch.setattr(onesided, 'SPAN', 0.01)


@pytest.mark.launch
@pytest.mark.parametrize('ranks', [0, 2])
def test_all_figures(hpcasr, ranks):
    done = hpcasr('bench', 'onesided', '--size', '1M', '--repeats', 1, '--json', ranks=ranks)
    found = json.loads(done.stdout)
    assert set(found) == FIELDS and found['bytes'] == 10**6 and found['ranks'] == max(ranks, 1)
    for row in [*found['small'], found['hand_over']]:
        assert 0 < row['ms'] <= row['longest'] and 0 < row['low'] <= row['high'] and row['count']
    for row in found['large']:
        assert row['gb_per_second'] == pytest.approx(1/row['ms']) and 0 < row['low'] <= row['share'] <= row['high']


@pytest.mark.parametrize('args, message', [
    (['--size', '10'], '1M or more'), (['--size', '90000G'], 'give a smaller --model or --size'),
    (['--model', 'tinny'], 'did you mean tiny'), (['--repeats', 0], 'is not in the range'),
    (['--set', 'exchange.progress=often'], 'choose one of poll, thread')])
def test_bad_input_is_one_line(hpcasr, args, message):
    done = hpcasr('bench', 'onesided', *args, status=2)
    assert message in done.stderr and done.stderr.count('\n') == 1 and not done.stdout


class Lags(Window):
    """Tickets and draws come twice now and then."""

    def change(self, rank, k, f):
        old = super().change(rank, k, f)
        return old - (k == onesided.COUNT and old == 3)


class Forgets(Window):
    def put(self, rank, x, lo=0):
        super().put(rank, x + (x.size == 1), lo)


class Mixes(Window):
    def get(self, rank, out, lo=0):
        super().get(rank, out, lo)
        out[-1:] += out.size > 1000


@pytest.mark.parametrize('cls, message', [
    (Lags, 'fetch-and-add: [0-9]+ draws are not consecutive'), (Forgets, '20 sums under a lock: some are lost|last is'),
    (Mixes, 'pull: 1 entries of 1,001 are wrong')])
def test_a_wrong_answer_is_not_timed(cls, message, monkeypatch):
    comm = Comm()
    monkeypatch.setattr(comm, 'window', lambda n, dtype, counters=0: cls(comm, n, dtype, counters), raising=False)
    monkeypatch.setattr(onesided.selftest, 'run', lambda comm: None)
    with pytest.raises(Wrong, match=message):
        bench(comm, resolve(), TRIAL)


def test_a_target_that_is_never_busy(monkeypatch):
    monkeypatch.setattr(onesided, 'time_all', lambda window, operation: (None, ''))
    monkeypatch.setattr(onesided.selftest, 'run', lambda comm: None)
    with pytest.raises(Wrong, match='got no core of its own'):
        bench(Comm(), resolve(), TRIAL)


def test_a_median_with_the_interval_of_its_turns():
    row = summary('x', [[1e-3]*9, [2e-3], [3e-3]*3])
    assert row == {'name': 'x', 'ms': 1.0, 'low': 1.0, 'high': 3.0, 'p95': 3.0, 'longest': 3.0, 'count': 13}


def test_the_share_of_a_copy_is_that_of_the_pairs():
    row = share('x', 2e6, np.array([[2e-3, 4e-3, 8e-3], [1e-3, 4e-3, 4e-3]]))
    assert (row['share'], row['low'], row['high'], row['ms'], row['gb_per_second']) == (0.5, 0.5, 1.0, 4.0, 0.5)


@pytest.mark.mpi
@pytest.mark.parametrize('how', ['poll', 'thread'])
def test_on_real_ranks(how):
    from hpcasr.comm.mpi import MPIComm
    comm = MPIComm()
    found = bench(comm, resolve(options={'exchange.progress': how}), TRIAL)
    assert all(found == other for other in comm.allgather(found)) and '\n'.join(lines(found))
    comm.close()
    assert not comm.exposed
