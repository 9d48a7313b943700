"""When a job is said to hang: no rank has got on for the time, none earlier, and not because it was suspended."""

import os

import pytest

from hpcasr.watch import flight, guard
from hpcasr.watch.flight import SUM, Flight
from hpcasr.watch.stacks import Stacks, place

TIMEOUT = 10.0


class Mute:
    """Stacks that nobody writes."""

    def of(self, process):
        return ''


@pytest.fixture
def job(tmp_path, monkeypatch):
    """job(size): ([(recorder, guard) of every rank], wait(seconds) -> the status that all guards give, if they do)."""
    now = [100.0]
    monkeypatch.setattr(guard, 'monotonic', lambda: now[0])
    monkeypatch.setattr(guard, 'sleep', lambda seconds: now.__setitem__(0, now[0] + seconds))

    def make(size):
        ranks = []
        for rank in range(size):
            f = Flight(bytearray(flight.SIZE))
            f.tell(out=str(tmp_path), rank=rank, size=size, timeout=TIMEOUT)
            ranks.append((f, guard.Guard(os.getpid(), f.memory, Mute())))

        ended = {}

        def wait(seconds, step=0.25, deaf=(), only=range(size)):
            for _ in range(round(seconds/step)):
                now[0] += step
                for rank, (_, g) in enumerate(ranks):
                    if rank not in ended and rank not in deaf and (status := g.look()):
                        ended[rank] = status
                if len(ended) == len(only) - len(deaf):
                    return ended[only[0]]
            return None
        return ranks, wait
    return make


def test_a_hang_is_told_after_the_time_and_not_before(job, tmp_path, capsys):
    ranks, wait = job(3)
    ranks[0][0].begin(SUM, n=ranks[0][0].collective(0))
    assert wait(0.9*TIMEOUT) is None
    assert wait(0.1*TIMEOUT + 2) == guard.STATUS not in (0, 2, 75)
    told = (tmp_path/'hang-rank000.txt').read_text()
    assert 'rank 1 on' in told and 'does not come to the next exchange' in told and 'a sum, 1, all' in told
    assert capsys.readouterr().err.count('hpcasr: hang: ') == 1


def test_one_that_computes_for_long_keeps_the_others_from_being_called_hung(job, tmp_path):
    ranks, wait = job(3)
    for _ in range(8):
        assert wait(0.6*TIMEOUT) is None and not list(tmp_path.glob('hang-*'))
        ranks[2][0].beat()
    assert wait(1.5*TIMEOUT) == guard.STATUS


def test_a_rank_whose_supervisor_is_silent_too(job, tmp_path):
    ranks, wait = job(3)
    assert wait(1) is None
    for f, _ in ranks[:2]:
        f.begin(SUM, n=f.collective(0))
    assert wait(1.2*TIMEOUT, deaf=[2]) == guard.STATUS
    assert 'rank 2 on' in (tmp_path/'hang-rank000.txt').read_text().split('says nothing any more')[0]


def test_a_job_that_was_suspended_as_a_whole_has_not_hung(job):
    ranks, wait = job(2)
    assert wait(1) is None
    assert wait(100*TIMEOUT, step=50*TIMEOUT) is None  # the supervisors slept, too
    ranks[0][0].beat()
    assert wait(0.9*TIMEOUT) is None


def test_a_rank_that_gets_on_at_the_last_moment(job, tmp_path, monkeypatch, capsys):
    ranks, wait = job(2)
    recorder, slow = ranks[1]
    monkeypatch.setattr(slow.stacks, 'of', lambda process: recorder.beat() or '')
    assert wait(1.2*TIMEOUT) is None
    assert 'hang' not in capsys.readouterr().err and not list(tmp_path.glob('hang-rank001*'))
    ranks[0][0].beat()
    monkeypatch.setattr(slow.stacks, 'of', lambda process: '')
    assert wait(1.5*TIMEOUT) == guard.STATUS


def test_who_has_finished_waits_for_the_others_and_is_not_to_blame(job, tmp_path):
    ranks, wait = job(3)
    for f, _ in ranks[:2]:
        f.tell(finished=True)
    assert wait(0.9*TIMEOUT) is None
    assert wait(TIMEOUT, only=[2]) == guard.STATUS
    assert 'rank 2 on' in (tmp_path/'hang-rank002.txt').read_text()
    assert not (tmp_path/'hang-rank000.txt').exists()


def test_without_a_time_nothing_is_watched(job):
    ranks, wait = job(2)
    for f, _ in ranks:
        f.tell(timeout=0)
    assert wait(5*TIMEOUT) is None


def test_what_fails_in_the_guard_ends_no_job_that_gets_on(job, monkeypatch, capsys):
    _, wait = job(1)
    monkeypatch.setattr(flight, 'read', lambda memory: 1//0)
    assert wait(3*TIMEOUT) is None
    assert capsys.readouterr().err.count('ZeroDivisionError') == 1


def test_reports_are_taken_away_in_the_end(job, tmp_path):
    ranks, wait = job(2)
    wait(1)
    assert len(list((tmp_path/'.watch').iterdir())) == 2
    for _, g in ranks:
        g.close()
    assert not (tmp_path/'.watch').exists()


def test_stacks_of_a_process_that_is_busy_inside_of_a_library():
    stacks = Stacks()
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        stacks.answer()
        os.write(writer, b'.')
        os.read(reader, 1) and os.read(reader, 1)  # blocks for ever
        os._exit(0)
    try:
        import time
        time.sleep(0.2)
        said = stacks.of(child)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)
    assert 'in test_stacks_of_a_process_that_is_busy_inside_of_a_library' in said


def test_the_place_is_the_innermost_frame_of_ours_in_the_thread_of_the_command():
    said = ('Thread 0x1 (most recent call first):\n  File "/x/hpcasr/data/loader.py", line 9 in read\n'
            '  File "/usr/threading.py", line 1 in run\n\n'
            'Current thread 0x2 (most recent call first):\n  File "/usr/numpy/core.py", line 2 in dot\n'
            '  File "/x/hpcasr/model/dense.py", line 33 in forward\n  File "/x/hpcasr/cli/train.py", line 5 in train\n')
    assert place(said) == 'forward (hpcasr/model/dense.py line 33)' and place('') == ''
