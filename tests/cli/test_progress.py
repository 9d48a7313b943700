import os
import signal

import pytest

from hpcasr.cli import progress, sigterm


def test_sigterm_ends_between_items(capsys):
    before, taken = signal.getsignal(signal.SIGTERM), []
    with pytest.raises(SystemExit, match='143'), sigterm.handled(sigterm.note):
        for n in progress.progress(range(5)):
            taken.append(n)
            if n == 2:
                os.kill(os.getpid(), signal.SIGTERM)
                taken.append('finished')
    assert taken == [0, 1, 2, 'finished']
    assert capsys.readouterr().err == 'hpcasr: error: ended by SIGTERM before it was done\n'
    assert signal.getsignal(signal.SIGTERM) == before and not sigterm.noted


def test_nothing_to_do():
    assert list(progress.progress(iter([]), 0)) == []


def test_a_line_a_minute_without_a_terminal(monkeypatch, capsys):
    clock = iter([0, 10, 61, 61, 100, 130, 130])
    monkeypatch.setattr(progress, 'monotonic', lambda: next(clock))
    assert list(progress.progress(['a', 'b', 'c', 'd'])) == ['a', 'b', 'c', 'd']
    out, err = capsys.readouterr()
    assert (out, err) == ('', '1 of 4\n3 of 4\n')
