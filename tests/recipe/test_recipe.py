import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from hpcasr.errors import BadInput, CheckFailed
from hpcasr.lock import hold
from hpcasr.recipe import run
from hpcasr.recipe.plan import Recipe, Stage, plan
from hpcasr.recipe.run import AGAIN, INTERRUPTED, Runner


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


def test_copies_of_other_tempos_are_made_of_the_last_alignment(corpus):
    stages = {s.name: s for s in plan(Recipe(str(corpus), 'out', realign='dnn', tempo='0.9,1.1'))}
    assert stages['perturb'].targets == 'realign' and stages['train-nnet'].needs == ('perturb',)
    assert stages['train-nnet'].argv[1] == 'out/train-sp.h5' and stages['first'].argv[1] == 'out/train.h5'


def test_a_set_or_a_lexicon_that_is_not_there(corpus):
    with pytest.raises(BadInput, match='has no directory eval; name the sets'):
        plan(Recipe(str(corpus), 'out', test=('eval',)))
    (corpus/'lexicon.txt').unlink()
    with pytest.raises(BadInput, match=r'has no local/dict/lexicon\.txt; name the lexicon'):
        plan(Recipe(str(corpus), 'out'))


@pytest.fixture
def ran(monkeypatch):
    """The commands that were run; those named in `ran.fails` end with that status, b makes an experiment before."""
    class Ran(list):
        pass

    ran = Ran()
    ran.fails, ran.exp = {}, None

    def execute(command, resumes):
        name = command[command.index('hpcasr') + 1]
        ran.append(' '.join(command[command.index('hpcasr') + 1:]))
        if ran.exp and name == 'b':
            ran.exp.mkdir(exist_ok=True)
            (ran.exp/'config.toml').write_text(str(len(ran)))
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


def test_what_reads_a_changed_file_is_run_again(tmp_path, ran, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path/'set').mkdir()
    (tmp_path/'set/text').write_text('a b')
    (tmp_path/'lexicon').write_text('a')

    def again():
        ran.clear()
        Runner('out', [Stage('a', ('a', 'set', '--out', 'out/a')), Stage('b', ('b', '--lexicon', 'lexicon'), ('a',)),
                       Stage('c', ('c', 'out/a'), ('a',))], []).run()
        return [command.split()[0] for command in ran]
    assert again() == ['a', 'b', 'c'] and again() == []
    (tmp_path/'lexicon').write_text('a b')
    assert again() == ['b']
    (tmp_path/'set/text').write_text('a b c')
    assert again() == ['a', 'b', 'c']
    (tmp_path/'out/a').write_text('a result')
    assert again() == []


def test_another_name_of_the_directory_is_no_change(tmp_path, ran, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for out in 'out', './out', str(tmp_path/'out'):
        Runner(out, [Stage('a', ('a', '--out', f'{out}/a'))], []).run()
    assert len(ran) == 1


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
    assert ran[2:] == ['b --force', 'c --force']


def trained(tmp_path, *more):
    return [Stage('b', ('b', '--out', str(tmp_path/'exp'), *more), resume=('--resume', 'auto'))]


def test_an_experiment_goes_on_where_it_was(tmp_path, ran):
    ran.exp, ran.fails = tmp_path/'exp', {'b': AGAIN}
    for _ in range(3):
        assert Runner(tmp_path, trained(tmp_path), []).run() == AGAIN
    assert [command.split(' ', 3)[3] for command in ran] == ['--force', '--resume auto', '--resume auto']


def test_the_experiment_of_other_arguments_does_not_go_on(tmp_path, ran):
    """A changed stage that ended before it replaced the old experiment, say because there was no mpirun."""
    ran.exp = tmp_path/'exp'
    Runner(tmp_path, trained(tmp_path), []).run()
    ran.exp, ran.fails = None, {'b': 2}
    for _ in range(2):
        with pytest.raises(BadInput):
            Runner(tmp_path, trained(tmp_path, '--lr', '1'), []).run()
    assert [command.rsplit(' ', 1)[1] for command in ran] == ['--force']*3


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


def test_one_recipe_at_a_time_and_only_one_process(tmp_path, ran, monkeypatch):
    (tmp_path/'stages').mkdir()
    with hold(tmp_path/'stages', 'busy'), pytest.raises(BadInput, match='another job is following a recipe there'):
        Runner(tmp_path, stages(), []).run()
    monkeypatch.setenv('PMI_SIZE', '2')
    with pytest.raises(BadInput, match='start it without mpirun or srun'):
        Runner(tmp_path, stages(), []).run()
    assert ran == []


def test_a_place_that_cannot_be_written(tmp_path, ran):
    (tmp_path/'out').write_text('')
    with pytest.raises(BadInput, match='out/stages: Not a directory; choose another --out'):
        Runner(tmp_path/'out', stages(), []).run()


def sleeper(pid, status):
    """A command that says that it is there, sleeps, and ends in order, with `status`, when SIGTERM or SIGINT come."""
    return [sys.executable, '-c', f"""import os, pathlib, signal, sys, time
for number in signal.SIGTERM, signal.SIGINT:
    signal.signal(number, lambda *_: sys.exit({status}))
pathlib.Path({str(pid)!r}).write_text(str(os.getpid()))
time.sleep(60)"""]


def when_there(pid, action):
    def wait():
        while not pid.exists() or not pid.read_text():
            time.sleep(0.01)
        action()
    threading.Thread(target=wait, daemon=True).start()


@pytest.mark.parametrize('sent, status, found', [
    (signal.SIGTERM, 3, AGAIN), (signal.SIGUSR1, 3, AGAIN), (signal.SIGINT, 3, INTERRUPTED), (signal.SIGTERM, 0, 0)])
def test_signals_end_a_stage_in_order(tmp_path, sent, status, found):
    """SIGUSR1 would kill what does not know it; a stage that was done nevertheless is done."""
    when_there(tmp_path/'pid', lambda: os.kill(os.getpid(), sent))
    before = signal.getsignal(sent)
    assert run.execute(sleeper(tmp_path/'pid', status), resumes=False) == found
    assert signal.getsignal(sent) == before


def test_a_signal_before_there_is_a_process(tmp_path, monkeypatch):
    start = run.start
    monkeypatch.setattr(run, 'start', lambda command: os.kill(os.getpid(), signal.SIGTERM) or start(command))
    assert run.execute(sleeper(tmp_path/'pid', 3)) == AGAIN


@pytest.mark.skipif(sys.platform != 'linux', reason='only Linux tells a process that its parent has died')
def test_what_a_killed_recipe_has_started_ends_too(tmp_path):
    pid = tmp_path/'pid'
    code = f'from hpcasr.recipe.run import execute; execute({sleeper(pid, 3)!r})'
    parent = subprocess.Popen([sys.executable, '-c', code])
    when_there(pid, parent.kill)
    parent.wait()
    with suppress(FileNotFoundError):  # gone
        for _ in range(500):
            state = Path(f'/proc/{pid.read_text()}/stat').read_text().rsplit(')', 1)[1].split()[0]
            if state == 'Z':  # whoever inherits it in a container may not wait for it
                return
            time.sleep(0.01)
        raise AssertionError('still there')
