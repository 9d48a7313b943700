"""A check that crashes, hangs or fails is a finding, and the next one is made."""

import faulthandler
import json
import os
import signal
import subprocess
import sys
import time

import pytest

from hpcasr.doctor import files
from hpcasr.doctor.finding import ok
from hpcasr.doctor.isolate import alone, watched
from hpcasr.doctor.run import Notes


@pytest.fixture(autouse=True)
def no_stacks():
    """What crashes here is meant to: its stack need not fill the log."""
    faulthandler.disable()
    yield
    faulthandler.enable(sys.__stderr__)


def raises():
    raise ValueError('two\nlines')


@pytest.mark.parametrize(('check', 'found'), [
    (lambda: os.kill(os.getpid(), signal.SIGSEGV), 'was ended by SIGSEGV'),
    (lambda: os._exit(3), 'ended with status 3'), (raises, 'failed (ValueError: two lines)'),
    (lambda: time.sleep(60), 'did not end within 0.3 s')])
def test_a_check_that_breaks(check, found):
    f, = alone('disk', check, 0.3)
    assert (f.name, f.level) == ('disk', 'error') and f.found == f'the check itself {found}' and f.advice


def test_what_a_check_says():
    assert alone('a', lambda: ok('a', 'fine'), 9) == [ok('a', 'fine')] and alone('a', lambda: [], 9) == []
    assert alone('a', lambda: [ok('a', 'x'*200_000), ok('b', 'y').at(3, 4)], 9)[1].ranks == (3, 4)


def test_what_it_started_ends_with_it(tmp_path):
    def check():
        sleeper = subprocess.Popen(['sleep', '60'])
        (tmp_path/'pid').write_text(str(sleeper.pid))
        sleeper.wait()
    assert 'did not end' in alone('a', check, 1)[0].found
    stat = f'/proc/{(tmp_path/"pid").read_text()}/stat'
    deadline = time.monotonic() + 10
    while os.path.exists(stat) and open(stat).read().split()[2] != 'Z' and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not os.path.exists(stat) or open(stat).read().split()[2] == 'Z'


def test_stdout_is_for_the_table(capfd):
    alone('a', lambda: print('noise', flush=True) or ok('a', ''), 9)
    assert capfd.readouterr().out == ''


def test_a_doctor_whose_streams_are_closed():
    script = """if True:
        import os, sys
        os.closerange(0, 3)
        sys.stderr = None
        from hpcasr.doctor.finding import ok
        from hpcasr.doctor.isolate import alone, standard_streams
        standard_streams()
        os._exit(0 if alone('a', lambda: print('noise') or ok('a', ''), 60) == [ok('a', '')] else 3)
    """
    assert subprocess.run([sys.executable, '-c', script], timeout=100).returncode == 0


def test_what_a_check_that_was_ended_leaves_is_removed(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)

    def check():
        with files.folder('disk'):
            time.sleep(60)
    alone('disk', check, 2)
    (tmp_path/files.prefix(1)).mkdir()  # another doctor's
    left = list(tmp_path.iterdir())
    files.sweep(os.getpid())
    assert len(left) == 2 and [path.name for path in tmp_path.iterdir()] == [files.prefix(1)]


def test_what_was_said_before_the_end_is_kept():
    notes = Notes(lambda check: None)

    def work(say):
        say(['check', 'first'])
        say(['found', [ok('first', 'fine').plain()]])
        say(['check', 'second'])
        os.abort()
    notes.end(watched(work, notes.hear, lambda: 9))
    assert [(f.name, f.level) for f in notes.findings] == [('first', 'ok'), ('second', 'error')]
    assert notes.broke and json.dumps([f.plain() for f in notes.findings])
