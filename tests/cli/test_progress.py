from hpcasr.cli import progress


def test_a_line_a_minute_without_a_terminal(monkeypatch, capsys):
    clock = iter([0, 10, 61, 61, 100, 130, 130])
    monkeypatch.setattr(progress, 'monotonic', lambda: next(clock))
    assert list(progress.progress(['a', 'b', 'c', 'd'])) == ['a', 'b', 'c', 'd']
    out, err = capsys.readouterr()
    assert (out, err) == ('', '1 of 4\n3 of 4\n')
