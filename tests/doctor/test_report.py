"""One table of what all ranks have found."""

from hpcasr.doctor import report
from hpcasr.doctor.finding import broken, error, ok, warning
from hpcasr.doctor.job import Job

ORDER = 'first', 'vector width', 'last'


def test_what_all_agree_on_names_no_rank():
    found = report.merged([ok('last', 'x').at(r) for r in range(4)] + [error('first', 'y', 'do').at(0)], ORDER)
    assert [(f.name, f.ranks) for f in found] == [('first', ()), ('last', ())]


def test_what_differs_names_them():
    found = report.merged([ok('last', 'a' if r < 3 else 'b').at(r) for r in range(5)], ORDER)
    assert [(f.found, f.ranks, f.level) for f in found] == [('a', (0, 1, 2), 'ok'), ('b', (3, 4), 'ok')]
    assert 'ok       last  ranks 0-2: a' in report.lines(Job(size=5), ['h'], found)


def test_what_must_be_alike_is_a_warning():
    found = report.merged([ok('vector width', str(r % 2)).at(r) for r in range(3)], ORDER)
    assert [f.level for f in found] == ['warning']*2 and 'same' in found[0].advice


def test_many_that_differ_in_figures_are_cut():
    found = report.merged([ok('last', f'{r} MB/s').at(r) for r in range(128)], ORDER)
    lines = list(report.lines(Job(size=128, machines=128), [f'n{r}' for r in range(128)], found))
    assert len(lines) == report.MOST + 2 and lines[-2].endswith('(and 124 more ranks alike, see --json)')
    assert lines[0].endswith('(n0, n1, n2, n3 and 124 more)')


def test_lines_and_status():
    found = [ok('a', 'fine'), warning('bb', 'slow', 'hurry')]
    assert list(report.lines(Job(), ['h'], found))[1:] == [
        'ok       a   fine', 'warning  bb  slow -> hurry', '0 errors, 1 warning, 1 ok']
    assert report.status(found) == 0 and report.status([*found, broken('c', 'crashed')]) == 1


def test_json():
    told = report.as_json(Job(library='x'), ['h'], [warning('bb', 'slow', 'hurry').at(1)])
    assert told['version'] == 1 and told['counts'] == {'ok': 0, 'warning': 1, 'error': 0}
    assert told['checks'] == [{'name': 'bb', 'level': 'warning', 'found': 'slow', 'advice': 'hurry', 'ranks': [1]}]
