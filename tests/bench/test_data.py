import json
import os
import signal
import subprocess
import time

import numpy as np
import pytest

from hpcasr.bench import cache, synthetic
from hpcasr.bench.data import percent
from hpcasr.data.check import problems
from hpcasr.data.progress import silent
from hpcasr.data.store import Store
from tests.conftest import command, environment

FIELDS = {'bytes', 'make_seconds', 'resident_made', 'resident_dropped', 'path', 'utterances', 'frames', 'model', 'algo',
          'ranks', 'batch', 'chunk', 'ahead', 'steps', 'first_steps', 'first_wait_share', 'first_wait_ms',
          'wait_share_median', 'wait_share_mean', 'wait_share_largest', 'step_ms', 'step_ms_without_reading', 'seconds',
          'read_bytes', 'read_bytes_per_second', 'memory_start', 'memory_end'}
SMALL = '--size', '20M', '--model', 'tiny', '--batch', 4, '--steps', 12


@pytest.fixture
def bench_data(hpcasr, tmp_path):
    """bench_data('--size', ...) makes its store in tmp_path."""
    return lambda *args, **options: hpcasr('bench', 'data', '--dir', tmp_path, *args, **options)


@pytest.mark.launch
@pytest.mark.parametrize('ranks', [0, 2])
def test_all_figures(bench_data, tmp_path, ranks):
    found = json.loads(bench_data(*SMALL, '--json', ranks=ranks).stdout)
    assert set(found) == FIELDS
    assert found['ranks'] == max(ranks, 1) and found['steps'] == 12 and found['first_steps'] == 6
    assert 20e6 <= found['bytes'] <= 21e6
    assert all(0 <= found[k] <= 1 for k in FIELDS if 'share' in k or 'resident' in k)
    assert found['memory_end'] > 1e6 and found['read_bytes'] >= 0
    assert not os.listdir(tmp_path)


@pytest.mark.launch
def test_algorithms_that_meet_now_and_then(bench_data):
    """They hear of the end some steps later, all of which are counted; the steps without reading are not cut short."""
    found = json.loads(bench_data(*SMALL, '--json', '--set', 'train.algo=sync-decentralized', '--set',
                                  'exchange.meet=2', ranks=2).stdout)
    assert 12 < found['steps'] <= 16 and found['step_ms_without_reading'] > 0


def test_lines_and_a_store_that_is_kept(bench_data):
    done = bench_data(*SMALL, '--keep')
    assert [line.split()[0] for line in done.stdout.splitlines()] == [
        'store', 'model', 'first', 'then', 'alone', 'disk', 'memory', 'kept']
    path = done.stdout.split()[-1]
    assert Store(path).num_targets == 72


@pytest.mark.parametrize('args, message', [
    (['--size', '900000G'], 'GB free'),
    (['--size', 'big'], 'give bytes, such as'),
    (['--size', '10'], '1M or more'),
    (['--size', '20M', '--batch', '1000000', '--chunk', '1000'], 'give a smaller model, --batch or --chunk'),
    (['--size', '20M', '--model', 'tinny'], 'did you mean tiny'),
])
def test_bad_input_is_one_line(bench_data, tmp_path, args, message):
    done = bench_data(*args, status=2)
    assert message in done.stderr and done.stderr.count('\n') == 1 and not done.stdout
    assert not os.listdir(tmp_path)


def test_a_signal_leaves_no_store(tmp_path):
    line = command(0, None, 'bench', 'data', '--size', '400M', '--dir', tmp_path)
    process = subprocess.Popen(line, env=environment(), stderr=subprocess.PIPE, text=True)
    while not list(tmp_path.glob('*/store.h5*')):
        assert process.poll() is None
        time.sleep(0.05)
    process.send_signal(signal.SIGTERM)
    assert 'ended by SIGTERM' in process.communicate(timeout=30)[1]
    assert process.returncode == 2 and not os.listdir(tmp_path)


def test_no_folder(bench_data):
    assert 'give a folder as --dir' in bench_data('--dir', 'nowhere', status=2).stderr


def test_a_synthetic_store_has_the_size_asked_for_and_is_sound(tmp_path):
    path = str(tmp_path/'s.h5')
    synthetic.write(path, 3_000_000, 40, 72)
    store = Store(path)
    lengths = np.diff(store.offsets)
    assert store.num_frames == 3_000_000//164
    assert lengths[:-1].min() >= 200 and lengths.max() <= 1500 and lengths.min() > 0
    assert not problems(path, False, silent)
    assert abs(store.frames.std() - 1) < 0.01


@pytest.fixture
def on_a_disk(tmp_path):
    if subprocess.run(['stat', '-f', '-c', '%T', tmp_path], capture_output=True, text=True).stdout.strip() == 'tmpfs':
        pytest.skip('what lies in a tmpfs stays in memory')


@pytest.mark.usefixtures('on_a_disk')
def test_dropped_pages_are_gone(tmp_path):
    path = tmp_path/'x'
    path.write_bytes(bytes(1 << 22))
    assert cache.resident(path) == pytest.approx(1, abs=0.01)
    cache.drop(path)
    assert cache.resident(path) < 0.01


def test_memory_of_this_process():
    before = cache.anonymous_memory()
    block = np.ones(1 << 24)
    assert cache.anonymous_memory() - before > 0.9*block.nbytes


def test_fields_of_proc(tmp_path):
    (tmp_path/'io').write_text('rchar: 5\nread_bytes: 4096\ncancelled_write_bytes: 7\n')
    assert cache.field(tmp_path/'io', 'read_bytes') == 4096


@pytest.mark.usefixtures('on_a_disk')
def test_bytes_read_from_the_disk(tmp_path):
    path = tmp_path/'x'
    path.write_bytes(bytes(1 << 22))
    cache.drop(path)
    before = cache.bytes_read()
    path.read_bytes()
    assert 1 << 22 <= cache.bytes_read() - before < 1 << 24


def test_what_the_kernel_will_not_tell_is_null(tmp_path, monkeypatch):
    (tmp_path/'x').write_bytes(bytes(100))

    class Refusing:
        def mincore(self, *_):
            return -1
    monkeypatch.setattr(cache.ctypes, 'CDLL', lambda _: Refusing())
    monkeypatch.setattr(cache, 'drop_all', lambda: pytest.fail('everything was dropped'))
    assert json.dumps(cache.resident(tmp_path/'x'), allow_nan=False) == 'null'
    cache.drop(tmp_path/'x')
    assert percent(None) == 'unknown' and percent(0.25) == '25.0 %'
