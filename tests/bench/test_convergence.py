import json
from pathlib import Path

import pytest

from hpcasr.algorithms import ALGORITHMS
from hpcasr.bench import convergence, synthetic
from hpcasr.bench.convergence import TRAINING, Trial, bench, failures, lines, plan, refuse, stages
from hpcasr.errors import BadInput, CheckFailed

FIELDS = {'run', 'algo', 'options', 'learners', 'batch', 'ce', 'fer', 'bytes_sent', 'distance'}
QUICK = ('--ranks', 2, '--batch', 2, '--epochs', 1, '--more', '--model tiny --chunk 32', '--out', 'exp')


@pytest.fixture(scope='module')
def stores(tmp_path_factory):
    folder = tmp_path_factory.mktemp('stores')
    for name, size in ('train', 400_000), ('dev', 100_000):
        synthetic.write(str(folder/f'{name}.h5'), size, 40, 72)
    return folder


@pytest.fixture
def compare(hpcasr, stores):
    """compare('--algo', ...) on small stores of random numbers."""
    return lambda *args, **options: hpcasr('bench', 'convergence', stores/'train.h5', '--dev', stores/'dev.h5', *QUICK,
                                           *args, **{'timeout': 200, **options})


def trial(**values):
    return Trial('train.h5', 'exp', **values)


def argv(trial, run):
    """{stage: arguments} of one run."""
    return {stage.name: stage.argv for stage in stages(trial, plan(trial)[0], run)}


def test_runs_that_are_done_are_not_repeated(compare):
    algos = '--algo', 'sync-allreduce', '--algo', 'local-sgd'
    first = compare(*algos, '--json')
    serial, other, replicas = json.loads(first.stdout)['runs']
    assert set(serial) == set(other) == set(replicas) == FIELDS | {'relative'}
    assert (serial['run'], serial['learners'], serial['batch'], serial['bytes_sent']) == ('serial', 1, 4, 0)
    assert (other['run'], other['learners'], other['batch']) == ('sync-allreduce', 2, 2)
    assert other['bytes_sent'] > 0 and other['distance'] == serial['relative'] == 0 < replicas['distance']
    assert abs(other['relative']) < 1e-4  # the same mathematics
    again = compare(*algos)
    assert not again.stderr
    rows = again.stdout.splitlines()[2:]
    assert [row.split()[0] for row in rows] == ['run', 'serial', 'sync-allreduce', 'local-sgd']


def test_asynchronous_ones_and_a_sweep(compare):
    done = compare('--algo', 'async-decentralized', '--many', 4, '--sweep', '1,2', '--json')
    _, *found = json.loads(done.stdout)['runs']
    assert [(row['learners'], row['batch']) for row in found] == [(4, 1), (4, 2)]
    assert all(set(row) - {'relative'} == FIELDS | {'staleness'} and row['staleness'] > 0 for row in found)


@pytest.mark.parametrize('args, message', [
    (['--algo', 'sync-alreduce'], 'did you mean sync-allreduce'),
    (['--graph', 'graph'], '--graph and --test go together'),
    (['--sweep', '0,1'], 'give numbers from 1 on'), (['--sweep', 'x'], 'give numbers from 1 on'),
    (['--sweep', '2', '--many', 0], 'give their number'), (['--more', '"'], 'No closing quotation'),
    (['--ranks', 0], 'is not in the range'), (['--out', ''], 'is empty'),
])
def test_bad_input_is_one_line(compare, tmp_path, args, message):
    done = compare(*args, status=2)
    assert message in done.stderr and done.stderr.count('\n') == 1 and not done.stdout
    assert not list(tmp_path.iterdir())


def test_bad_arguments_of_training_are_told(hpcasr):
    done = hpcasr('bench', 'convergence', 'nowhere.h5', '--out', 'exp', status=2)
    assert 'nowhere.h5' in done.stderr and 'Traceback' not in done.stderr and not done.stdout


def test_a_serial_run_that_diverges(compare):
    wild = '--model tiny --set model.kind=dnn --set model.activation=relu --lr 1e30'
    done = compare('--algo', 'sync-allreduce', '--more', wild, status=1)
    assert 'not finite' in done.stderr and 'stage train-serial failed' in done.stderr and not done.stdout


def test_several_processes(monkeypatch):
    monkeypatch.setattr(convergence.launcher, 'size', lambda: (2, 'PMI_SIZE'))
    with pytest.raises(BadInput, match='PMI_SIZE=2: virtual learners live in one process'):
        refuse(trial())


def test_words_need_held_out_speech():
    with pytest.raises(BadInput, match='--graph needs --dev'):
        refuse(trial(graph='graph', test='test.h5'))


def test_equal_samples_for_all():
    runs = plan(trial(ranks=4, batch=3, many=0))
    assert [run.label for run in runs[:2]] == ['serial', 'sync-allreduce']
    assert list(dict.fromkeys(run.variant.algo for run in runs)) == list(ALGORITHMS)
    assert {run.batch*max(run.learners, 1) for run in runs} == {12}
    assert len({run.name for run in runs}) == len(runs)


def test_the_commands_of_a_run():
    t = trial(algos=('sync-allreduce',), seed=3)
    serial, run = plan(t)
    commands = argv(t, run)
    assert list(commands) == ['train-sync-allreduce']
    assert commands['train-sync-allreduce'] == (
        'train', 'train.h5', *TRAINING.split(), '--algo', 'sync-allreduce', '--batch', '4', '--epochs', '4', '--seed',
        '3', '--virtual', '4', '--out', 'exp/sync-allreduce')
    alone = argv(t, serial)['train-serial']
    assert '--virtual' not in alone and alone[alone.index('--batch') + 1] == '16'


def test_all_are_recognized_at_the_scale_of_the_serial_run():
    t = trial(algos=('sync-allreduce',), dev='dev.h5', graph='graph', test='test.h5')
    serial, run = plan(t)
    assert list(argv(t, serial)) == ['train-serial', 'tune', 'tuned', 'decode-serial', 'score-serial']
    commands = argv(t, run)
    assert list(commands) == ['train-serial', 'tune', 'tuned', *(f'{stage}-sync-allreduce'
                                                                 for stage in ('train', 'decode', 'score'))]
    assert commands['tune'][:5] == ('decode', 'run', 'exp/serial', 'graph', 'dev.h5')
    like = commands['decode-sync-allreduce']
    assert like[like.index('--like') + 1] == commands['tune'][-1] == 'exp/serial/decode_dev'


def test_what_the_command_line_says_of_its_default():
    assert TRAINING in Path(convergence.__file__).parents[1].joinpath('cli', 'bench.py').read_text()


def write(folder, ce, *, distance=None, wer=None, stale=None, hyp='a b c'):
    """What training and recognition leave behind."""
    scoring = folder/'decode_test'/'scoring'
    scoring.mkdir(parents=True)
    (scoring/'ref.txt').write_text('u1 a b c\nu2 d e\n')
    (scoring/'0.1_0.0.txt').write_text(f'u1 {hyp}\nu2 d e\n')
    near = {} if distance is None else {'consensus_distance': distance}
    steps = [{'kind': 'step', 'ce': 9, 'fer': 1, 'epoch': e, 'frames_per_second': 1, 'bytes_sent': 1e6, **near}
             for e in (0.5, 1)]
    staleness = {} if stale is None else {'staleness_mean': stale}
    last = [{'kind': 'epoch', 'epoch': 1, 'ce': ce, 'fer': 0.5, **staleness}]
    (folder/'metrics.jsonl').write_text(''.join(json.dumps(line) + '\n' for line in steps + last))
    best = folder/'decode_test'/'scoring'/'best.json'
    best.write_text(json.dumps({'wer': wer, 'errors': 3, 'words': 10, 'acwt': 0.1}))


def faked(monkeypatch, folder, results, fails=(), status=0, algo='sync-allreduce', **values):
    """bench() with runs that leave `results`, {name: arguments of write}, or fail."""
    class Runner:
        def __init__(self, out, stages, launcher, say):
            self.name = next(s.name for s in reversed(stages) if s.name.startswith('train-')).removeprefix('train-')

        def run(self):
            if self.name in fails:
                raise CheckFailed(f'stage train-{self.name} failed')
            write(folder/self.name, *results[self.name][0], **results[self.name][1])
            return status
    monkeypatch.setattr(convergence, 'Runner', Runner)
    algos = (algo,) if isinstance(algo, str) else algo
    t = Trial('train.h5', str(folder), **{'algos': algos, 'dev': 'd', 'graph': 'g', 'test': 't', **values})
    return bench(t, lambda line: None)


def test_what_a_table_shows(monkeypatch, tmp_path):
    found, _ = faked(monkeypatch, tmp_path, {'serial': ([2.0], {'wer': 30.0}),
                                             'sync-allreduce': ([2.1], {'wer': 31.0, 'distance': 0.25})})
    row = found['runs'][1]
    assert row['relative'] == pytest.approx(0.05) and row['wer'] == 31.0 and row['distance'] == 0.25
    assert row['bytes_sent'] == 2e6 and not failures(found)
    table = list(lines(found))[2].splitlines()
    assert table[2].split() == ['sync-allreduce', '4', '2.1000', '+5.0%', '50.0%', '2.0', '0.25', '31.00', '+0.00',
                                '[+0.00,', '+0.00]']


def test_word_error_rates_are_compared_pair_by_pair(monkeypatch, tmp_path):
    algos = 'sync-allreduce', 'local-sgd'
    found, _ = faked(monkeypatch, tmp_path, {'serial': ([2.0], {}), 'sync-allreduce': ([2.0], {'wer': 0}),
                                             'local-sgd': ([2.0], {'wer': 20, 'hyp': 'a x c'})}, algo=algos)
    paired = found['runs'][2]['difference']
    assert 15 < paired['difference'] < 25 and paired['improves'] == 0  # 1 of 5 words
    assert paired['interval'] == pytest.approx([0, 100/3])  # u2 twice, u1 twice


def test_there_may_be_nothing_to_compare_with(monkeypatch, tmp_path):
    found, _ = faked(monkeypatch, tmp_path, {'serial': ([2.0], {}), 'local-sgd': ([2.0], {})}, algo='local-sgd')
    assert 'difference' not in found['runs'][1] and 'wer' in found['runs'][1]


@pytest.mark.skipif('async-ps' not in ALGORITHMS, reason='it is not there yet')
@pytest.mark.parametrize('ranks, stale, said', [
    (4, 3.1, 'as expected: 2 to 8'), (4, 1.9, 'not as expected: 2 to 8'),
    (2, 0.996, 'as expected: 1 to 4')])  # the first update after a meeting point is not stale
def test_the_staleness_of_equal_learners(monkeypatch, tmp_path, ranks, stale, said):
    found, _ = faked(monkeypatch, tmp_path, {'serial': ([2.0], {'wer': 1}),
                                             'async-ps': ([2.1], {'stale': stale, 'wer': 1})}, algo='async-ps',
                     ranks=ranks)
    assert list(lines(found))[-1] == f'async-ps: mean staleness {stale:.2f} with {ranks} equal learners, {said}'


@pytest.mark.skipif('async-ps' not in ALGORITHMS, reason='it is not there yet')
def test_a_learner_alone_is_never_stale(monkeypatch, tmp_path):
    found, _ = faked(monkeypatch, tmp_path, {'serial': ([2.0], {'wer': 1}),
                                             'async-ps': ([2.0], {'stale': 0.0, 'wer': 1})}, algo='async-ps', ranks=1)
    assert not any('mean staleness' in line for line in lines(found))


def test_fixed_and_random_ring_of_many(monkeypatch, tmp_path):
    near = {'serial': ([2.0], {'wer': 30.0})}
    for learners, distances in ('', (1.0, 1.0)), ('-16-learners', (3.0, 2.0)):
        for topology, distance in zip(('ring', 'random-ring'), distances, strict=True):
            name = f'sync-decentralized-topology-{topology}{learners}'
            near[name] = [1 + distance], {'distance': distance, 'wer': 1}
    found, _ = faked(monkeypatch, tmp_path, near, algo='sync-decentralized')
    assert [(row['learners'], 'relative' in row) for row in found['runs']] == [
        (1, True), (4, True), (4, True), (16, False), (16, False)]  # many have another global batch
    assert list(lines(found))[-1] == (
        'sync-decentralized, 16 learners: the consensus distance on a fixed ring is 1.50 times that on a random one, '
        'the held-out cross-entropy of the consensus +33.3%')


def test_one_that_fails_does_not_keep_the_others_from_it(monkeypatch, tmp_path):
    found, _ = faked(monkeypatch, tmp_path, {'serial': ([2.0], {})}, fails=['sync-allreduce'])
    assert failures(found) == ['sync-allreduce'] and 'ce' not in found['runs'][1]
    table = list(lines({**found, 'runs': [{k: v for k, v in row.items() if k != 'wer'} for row in found['runs']]}))
    assert table[2].splitlines()[-1].split() == ['sync-allreduce', '4', 'failed']


def test_a_sweep_of_global_batches():
    runs = plan(trial(sweep=(1, 4), many=16))
    assert [(run.variant.algo, run.learners, run.batch) for run in runs] == [('sync-allreduce', 0, 16)] + [
        (name, 16, batch) for batch in (1, 4) for name in convergence.SWEPT]
    assert len({run.name for run in runs}) == len(runs)
    assert all(run.variant.label.endswith('topology=random-ring') for run in runs if 'decentralized' in run.name)
    named = plan(trial(sweep=(2,), algos=('local-sgd',)))
    assert [run.variant.algo for run in named] == ['sync-allreduce', 'local-sgd']
    with pytest.raises(BadInput, match='give their number'):
        refuse(trial(sweep=(2,), many=0))


def test_what_a_sweep_shows(monkeypatch, tmp_path):
    near = {'serial': ([2.0], {}), 'sync-allreduce-16-learners-x-1': ([2.0], {}),
            'local-sgd-16-learners-x-1': ([1.9], {}), 'local-sgd-16-learners-x-8': ([2.2], {})}
    found, _ = faked(monkeypatch, tmp_path, near, algo=('sync-allreduce', 'local-sgd'), sweep=(1, 8), graph=None,
                     test=None, fails=['sync-allreduce-16-learners-x-8'])
    assert not failures(found)
    text = list(lines(found))[-1].splitlines()
    assert [line.split() for line in text] == [['global', 'batch', '16', '128'], ['sync-allreduce', '2.0000', 'failed'],
                                               ['local-sgd', '1.9000', '2.2000']]


@pytest.mark.skipif('hierarchical' not in ALGORITHMS, reason='it is not there yet')
def test_nodes_are_several():
    labels = [run.label for run in plan(trial(algos=('hierarchical',), many=0))]
    assert labels[1] == 'hierarchical topology=ring node_size=2'
    for run in plan(trial(ranks=9, many=16, algos=('hierarchical',)))[1:]:
        assert run.learners % dict(run.variant.values)['exchange.node_size'] == 0


def test_a_signal_ends_it(monkeypatch, tmp_path):
    assert faked(monkeypatch, tmp_path, {'serial': ([2.0], {})}, status=75) == (None, 75)
