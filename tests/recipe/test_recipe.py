import pytest

from hpcasr.errors import BadInput, CheckFailed
from hpcasr.recipe import run
from hpcasr.recipe.plan import Recipe, Stage, plan
from hpcasr.recipe.run import Runner


@pytest.fixture
def corpus(tmp_path):
    for name in 'train', 'dev', 'test':
        (tmp_path/'corpus'/name).mkdir(parents=True)
    (tmp_path/'corpus/lexicon.txt').write_text('A AH\n')
    return tmp_path/'corpus'


def names(recipe):
    return [stage.name for stage in plan(recipe)]


def test_every_need_comes_before_what_needs_it(corpus):
    recipe = Recipe(str(corpus), 'out', seeds=2, realign='dnn', systems=True)
    seen = set()
    for stage in plan(recipe):
        assert set(stage.needs) <= seen and stage.name not in seen
        seen.add(stage.name)
        assert not stage.targets or stage.targets in seen
    assert {'flat-start', 'tree', 'realign', 'train-nnet-1', 'score-nnet-1-test', 'decode-mono-dev'} <= seen


def test_features_are_computed_where_there_are_none(corpus):
    (corpus/'dev/feats.scp').touch()
    assert names(Recipe(str(corpus), 'out'))[:5] == ['features-train', 'import-train', 'import-dev', 'features-test',
                                                     'import-test']
    assert 'features-dev' in names(Recipe(str(corpus), 'out', features=True))


def test_scales_come_from_dev_and_networks_differ_by_seed(corpus):
    stages = {s.name: s.argv for s in plan(Recipe(str(corpus), 'out', seeds=2, more={'train': '--lr 0.5'}))}
    assert '--like' not in stages['decode-nnet-0-dev']
    argv = stages['decode-nnet-1-test']
    assert argv[argv.index('--like') + 1] == 'out/nnet-1/decode_dev'
    assert stages['train-nnet-1'][-2:] == ('--lr', '0.5')
    assert '--seed 1 --out out/nnet-1' in ' '.join(stages['train-nnet-1'])


def test_a_set_or_a_lexicon_that_is_not_there(corpus):
    with pytest.raises(BadInput, match='has no directory eval; name the sets'):
        plan(Recipe(str(corpus), 'out', test=('eval',)))
    (corpus/'lexicon.txt').unlink()
    with pytest.raises(BadInput, match=r'has no local/dict/lexicon\.txt; name the lexicon'):
        plan(Recipe(str(corpus), 'out'))


@pytest.fixture
def ran(monkeypatch):
    """The commands that were run; those named in `ran.fails` end with that status."""
    class Ran(list):
        pass

    ran = Ran()
    ran.fails = {}

    def execute(command):
        name = command[command.index('hpcasr') + 1]
        ran.append(' '.join(command[command.index('hpcasr') + 1:]))
        return ran.fails.get(name, 0)
    monkeypatch.setattr(run, 'execute', execute)
    return ran


def stages(b='b'):
    return [Stage('a', ('a',), labels=True), Stage('b', (b,), ('a',), resume=('--resume', 'auto'), targets='a'),
            Stage('c', ('c',), ('b',), labels=True), Stage('d', ('d',), ('a',), targets='a')]


def test_nothing_is_run_twice(tmp_path, ran):
    assert Runner(tmp_path, stages()[:3], []).run() == 0
    assert ran == ['a --force', 'b --force', 'c --force']
    Runner(tmp_path, stages()[:3], []).run()
    assert len(ran) == 3


def test_what_builds_on_a_change_is_run_again(tmp_path, ran):
    Runner(tmp_path, stages()[:3], []).run()
    ran.clear()
    Runner(tmp_path, stages(b='b2')[:2], []).run()
    assert ran == ['b2 --force']


def test_targets_are_those_that_a_stage_asks_for(tmp_path, ran):
    """d reads the targets that a wrote, but c has written others since."""
    Runner(tmp_path, stages(), []).run()
    assert ran == ['a --force', 'b --force', 'c --force', 'a --force', 'd --force']


@pytest.mark.parametrize('status, error', [(2, BadInput), (1, CheckFailed), (-9, CheckFailed)])
def test_a_stage_that_fails_ends_the_recipe_and_goes_on(tmp_path, ran, status, error):
    ran.fails = {'b': status}
    with pytest.raises(error, match='stage b failed with status'):
        Runner(tmp_path, stages(), []).run()
    assert ran == ['a --force', 'b --force']
    ran.fails = {}
    Runner(tmp_path, stages()[:3], []).run()
    assert ran[2:] == ['b --resume auto', 'c --force']


def test_a_stage_that_wants_to_be_started_again(tmp_path, ran):
    ran.fails = {'b': 75}
    assert Runner(tmp_path, stages(), []).run() == 75
    assert not Runner(tmp_path, stages(), []).is_done(stages()[1])


def test_a_damaged_marker_means_not_done(tmp_path, ran):
    runner = Runner(tmp_path, stages()[:1], [])
    runner.run()
    (tmp_path/'stages/a.json').write_text('{"key"')
    runner.run()
    assert ran == ['a --force']*2
