import pytest

from hpcasr.bench import coded, convergence
from hpcasr.bench.convergence import bench, lines, plan, refuse, stages
from hpcasr.compress.takes import METHODS
from hpcasr.errors import BadInput
from tests.bench.test_convergence import faked, trial


def test_every_way_with_every_seed_beside_none():
    t = trial(compress=('onebit', 'onebit,feedback=false'), seeds=2, seed=5, algos=('sync-ps', 'bmuf'))
    runs = plan(t)
    assert [(run.seed, run.variant.algo, run.way) for run in runs] == [
        (seed, algo, way) for seed in (5, 6) for algo in ('sync-ps', 'bmuf')
        for way in ('none', 'onebit', 'onebit,feedback=false')]
    assert len({run.name for run in runs}) == len(runs) and {run.learners*run.batch for run in runs} == {16}
    [stage] = stages(t, runs[0], runs[-1])
    text = ' '.join(stage.argv)
    assert '--algo bmuf --set compress.method=onebit --set compress.feedback=false' in text
    assert '--seed 6 --virtual 4' in text


def test_all_is_every_method():
    ways = coded.ways(('all', 'topk', 'topk,ratio=0.1'))
    assert {way.split(',')[0] for way in ways} == {'none', *METHODS}
    assert (ways[0], ways[-1], len(ways)) == ('none', 'topk,ratio=0.1', len(METHODS) + 3)
    assert plan(trial(compress=('all',)))


@pytest.mark.parametrize(('values', 'message'), [
    ({'compress': ('onebyte',)}, 'onebit'), ({'compress': ('onebit,feedback',)}, 'feedback is no KEY=VALUE'),
    ({'compress': ('topk,rate=1',)}, 'did you mean compress.ratio'),
    ({'compress': ('powersgd',), 'algos': ('sync-ps',)}, 'no factors of their own; take onebit'),
    ({'compress': ('onebit',), 'algos': ('hogwild',)}, 'leave --compress out'),
    ({'compress': ('onebit',), 'sweep': (1,)}, 'leave --sweep and --graph out'), ({'seeds': 2}, 'goes with --compress'),
])
def test_what_makes_no_sense_is_refused(values, message):
    with pytest.raises(BadInput, match=message):
        refuse(trial(**values))
        bench(trial(**values), lambda line: None)


def test_what_is_shown(monkeypatch, tmp_path):
    name = 'sync-allreduce-{}-seed-{}'.format
    results = {name(way, seed): ([ce], {}) for way, ces in (('none', (2.0, 4.0)), ('topk', (2.1, 4.0)),
                                                            ('onebit-feedback-false', (3.0, 4.0)))
               for seed, ce in enumerate(ces)}
    found, status = faked(monkeypatch, tmp_path, results, algo=(), graph=None, test=None, seeds=2,
                          compress=('topk', 'onebit,feedback=false'), fails=[name('onebit-feedback-false', 1)])
    assert status is None and convergence.failures(found) == ['sync-allreduce onebit,feedback=false, seed 1']
    near = [row.get('relative') for row in found['runs']]
    assert near == [0, pytest.approx(0.05), pytest.approx(0.5), 0, 0, None]
    assert [line.split() for line in list(lines(found))[-1].splitlines()[1:]] == [
        ['sync-allreduce', 'none', '3.0000', '+0.00%', '+0.00%', '+0.00%', '50.0%', '2.0', '1.0'],
        ['sync-allreduce', 'topk', '3.0500', '+2.50%', '+0.00%', '+5.00%', '50.0%', '2.0', '1.0'],
        ['sync-allreduce', 'onebit,feedback=false', '1', 'failed']]
