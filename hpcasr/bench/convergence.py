"""What every algorithm learns from equally many samples, on virtual learners; beside it a run that is not distributed.

The commands are stages of a Runner as those of a recipe: one that is done is not run again, whatever else changes.
"""

import json
import math
import os
import re
import shlex
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from hpcasr import launcher
from hpcasr.algorithms import ALGORITHMS
from hpcasr.bench import coded
from hpcasr.bench.table import table
from hpcasr.bench.variants import Variant, several_nodes, variants
from hpcasr.decode import report, results
from hpcasr.errors import AgreedBadInput, BadInput, CheckFailed
from hpcasr.recipe.plan import Stage
from hpcasr.recipe.run import Runner
from hpcasr.report import curves

TRAINING = '--model small --chunk 32 --lr 4'  # what the demo's speech is learnt well with
VARIED = {'exchange.topology': ('ring', 'random-ring'), 'exchange.block_update': ('nesterov', 'classic')}
SERIAL = 'sync-allreduce'  # of one learner: plain SGD; of several, that with which word error rates are compared
SWEPT = 'sync-allreduce', 'sync-decentralized', 'async-decentralized'
EXPECTED = {'async-ps': (0.5, 2)}  # mean staleness with L equal learners, over L
COMPARED = 'ring', 'random-ring'  # the topologies of the pair
COLUMNS = {'run': ('run', ''), 'learners': ('learners', ''), 'ce': ('ce', ''), 'relative': ('to serial', ''),
           'fer': ('fer', ''), 'megabytes': ('MB sent', ''), 'distance': ('distance', ''),
           'staleness': ('staleness', ''), 'wer': ('%WER', ''), 'difference': (f'to {SERIAL}', '')}


@dataclass(frozen=True)
class Trial:
    """store, dev: paths; dev None: some speakers of `store`; out: where everything lies that is made.

    ranks, many   virtual learners of every algorithm, and of the pair of topologies (0: no pair)
    batch         samples of a learner and step
    epochs, seed  of training; `more` are further arguments of hpcasr train
    algos         names, () for all
    graph, test   decoding graph and store for word error rates, or both None
    sweep         samples of each of `many` learners and step: some algorithms with each of these, in place of all
    compress      what is compressed how (coded.ways): `algos`, or SERIAL, with each of these and none, in place of all;
    seeds         and each of them with so many seeds, from `seed` on
    """

    store: str
    out: str
    dev: str | None = None
    ranks: int = 4
    many: int = 16
    batch: int = 4
    epochs: int = 4
    seed: int = 0
    more: str = TRAINING
    algos: tuple = ()
    graph: str | None = None
    test: str | None = None
    sweep: tuple = ()
    compress: tuple = ()
    seeds: int = 1


@dataclass(frozen=True)
class Run:
    """A training run: `learners` virtual ones with `batch` samples each; 0: this process alone."""

    label: str
    variant: Variant
    learners: int
    batch: int
    seed: int = 0
    way: str = ''  # of --compress

    @property
    def name(self):
        """Of its directory and its stages."""
        return re.sub('[^a-z0-9]+', '-', self.label)


def bench(trial, say):
    """(the figures, a dict; None), or (None, exit status) where a signal ended it.

    Raises BadInput, and CheckFailed where the serial run fails; what fails in others is in the figures.
    """
    refuse(trial)
    planned, failed = plan(trial), {}
    with results_aside():
        for run in planned:
            try:
                status = Runner(trial.out, stages(trial, planned[0], run), [], say).run()
            except CheckFailed as e:
                if run is planned[0]:
                    raise
                failed[run.name] = {'failed': str(e)}
                say(f'{run.label}: {e}')
                continue
            if status:
                return None, status
    other = next((run for run in planned[1:] if run.variant.algo == SERIAL and run.name not in failed), None)
    rows = [named(run) | (failed.get(run.name) or scores(trial, run, other)) for run in planned]
    near = (lambda row: coded.beside(row, rows)) if trial.compress else (lambda row: beside(row, rows[0]))
    return facts(trial, [row | near(row) for row in rows]), None


def refuse(trial):
    """Raise BadInput for what cannot be meant."""
    refuse_ranks()
    if (trial.graph is None) != (trial.test is None):
        raise BadInput('--graph and --test go together: give both for word error rates, or none')
    if trial.graph and not trial.dev:
        raise BadInput('--graph needs --dev as well: the acoustic scale is chosen on held-out speech')
    if trial.sweep and not trial.many:
        raise BadInput('--sweep and --many 0: a sweep is one of --many learners; give their number')
    if trial.compress and (trial.sweep or trial.graph):
        raise BadInput('--compress compares cross-entropies at one batch; leave --sweep and --graph out')
    if trial.seeds > 1 and not trial.compress:
        raise BadInput('--seeds goes with --compress; give --seed for another one')


def refuse_ranks():
    """Raise BadInput, on all of them, where several processes were started."""
    started, variable = launcher.size()
    if (started or 1) > 1:
        raise AgreedBadInput(f'{variable}={started}: virtual learners live in one process; start it without mpirun or '
                             'srun')


def plan(trial):
    """[Run]: the serial one, or the first without compression, and those that are compared.  Raises BadInput."""
    if trial.compress:
        return compressed(trial)
    serial = Run('serial', Variant(SERIAL), 0, trial.ranks*trial.batch, trial.seed)
    return [serial, *(sweep if trial.sweep else compare)(trial)]


def compare(trial):
    """[Run]: every variant of every algorithm, and of many learners those that have a topology."""
    chosen = [v for name in dict.fromkeys(trial.algos or ALGORITHMS)
              for v in variants((name,), VARIED | several_nodes(name, math.gcd(trial.ranks, trial.many)))]
    many = [v for v in chosen if trial.many and 'exchange.topology' in dict(v.values)]
    return [*(Run(v.label, v, trial.ranks, trial.batch, trial.seed) for v in chosen),
            *(Run(f'{v.label}, {trial.many} learners', v, trial.many, trial.batch, trial.seed) for v in many)]


def sweep(trial):
    """[Run]: some algorithms with many learners and growing batches; the rate grows with the batch (optim.lr_batch)."""
    chosen = variants(trial.algos or SWEPT, {'exchange.topology': COMPARED[1:]})
    return [Run(f'{v.label}, {trial.many} learners x {batch}', v, trial.many, batch, trial.seed)
            for batch in trial.sweep for v in chosen]


def compressed(trial):
    """[Run]: every way of --compress with every seed; the first ones of a seed without."""
    algos, ways = dict.fromkeys(trial.algos or (SERIAL,)), coded.ways(trial.compress)
    for algo in algos:
        for way in ways:
            coded.require(algo, way)
    return [Run(f'{algo} {way}, seed {seed}', Variant(algo, coded.keys(way)), trial.ranks, trial.batch, seed, way)
            for seed in range(trial.seed, trial.seed + trial.seeds) for algo in algos for way in ways]


def stages(trial, serial, run):
    """[Stage] of one run, and those that it needs of the serial one."""
    made = [training(trial, serial)] if trial.graph or run is serial else []
    made += tuning(trial, serial) if trial.graph else []
    made += [training(trial, run)] if run is not serial else []
    return made + (recognition(trial, serial, run) if trial.graph else [])


def training(trial, run):
    keys = [word for key, value in run.variant.values for word in ('--set', f'{key}={value}')]
    where = ['--virtual', str(run.learners)] if run.learners else []
    return Stage(f'train-{run.name}', ('train', trial.store, *(('--dev', trial.dev) if trial.dev else ()),
                                       *shlex.split(trial.more), '--algo', run.variant.algo, *keys, '--batch',
                                       str(run.batch), '--epochs', str(trial.epochs), '--seed', str(run.seed),
                                       *where, '--out', path(trial, run)), resume=('--resume', 'auto'))


def tuning(trial, serial):
    """The acoustic scale and word penalty that all are recognized with: the best ones of the serial run."""
    out = path(trial, serial, 'decode_dev')
    return [Stage('tune', ('decode', 'run', path(trial, serial), trial.graph, trial.dev, '--checkpoint', 'last',
                           '--out', out), (f'train-{serial.name}',)),
            Stage('tuned', ('decode', 'score', out), ('tune',), force=())]


def recognition(trial, serial, run):
    out = path(trial, run, 'decode_test')
    return [Stage(f'decode-{run.name}', ('decode', 'run', path(trial, run), trial.graph, trial.test, '--checkpoint',
                                         'last', '--like', path(trial, serial, 'decode_dev'), '--out', out),
                  (f'train-{run.name}', 'tuned')),
            Stage(f'score-{run.name}', ('decode', 'score', out), (f'decode-{run.name}',), force=())]


def path(trial, run, *names):
    return os.path.join(trial.out, run.name, *names)


@contextmanager
def results_aside():
    """What the stages print goes to stderr: the result of this command is another one."""
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


def named(run):
    return {'run': run.label, 'algo': run.variant.algo, 'options': dict(run.variant.values),
            'learners': run.learners or 1, 'batch': run.batch,
            **({'compress': run.way, 'seed': run.seed} if run.way else {})}


def scores(trial, run, other):
    """Of a run that is done: held-out scores after its last epoch, bytes that learner 0 sent in all its steps.

    distance   √(mean_l ‖w_l − w̄‖²) as it was last seen; 0 where all learners hold the same w
    staleness  mean of the updates of the last epoch, of an asynchronous algorithm
    other      Run with which the word error rate is compared, or None
    """
    kinds = curves.read(path(trial, run))
    last, steps = kinds['epoch'][-1], kinds['step']
    distances = [0.0, *(s['consensus_distance'] for s in steps if 'consensus_distance' in s)]
    return {'ce': last['ce'], 'fer': last['fer'], 'bytes_sent': sum(s['bytes_sent'] for s in steps),
            'distance': distances[-1], **stale(last), **(recognized(trial, run, other) if trial.graph else {})}


def stale(last):
    return {'staleness': last['staleness_mean']} if 'staleness_mean' in last else {}


def recognized(trial, run, other):
    """{wer, errors, words} of the test set; difference: {difference, interval, improves} of %WER to the other run's."""
    best = Path(path(trial, run, 'decode_test', 'scoring', 'best.json'))
    found = json.loads(best.read_text())
    paired = {'difference': difference(trial, run, other)} if other else {}
    return {key: found[key] for key in ('wer', 'errors', 'words')} | paired


def difference(trial, run, other):
    """As decode.bootstrap.compare: paired by utterances."""
    folders = [Path(path(trial, each, 'decode_test')) for each in (run, other)]
    mine, theirs = (next(iter(results.hypotheses(folder).values())) for folder in folders)
    scored = results.score_files(folders[0]/'scoring'/'ref.txt', mine)
    found = report.facts(scored, against=theirs)['baseline']
    return {key: found[key] for key in ('difference', 'interval', 'improves')}


def beside(row, serial):
    """{relative: ce/ce_serial − 1} of a run with the global batch of the serial one, else {}."""
    alike = 'ce' in row and row['learners']*row['batch'] == serial['batch']
    return {'relative': row['ce']/serial['ce'] - 1} if alike else {}


def facts(trial, rows):
    return {'store': trial.store, 'epochs': trial.epochs, 'ranks': trial.ranks, 'many': trial.many,
            'batch': trial.batch, 'training': trial.more, 'sweep': list(trial.sweep), 'compress': list(trial.compress),
            'seeds': trial.seeds, 'runs': rows}


def failures(found):
    """What the runs that failed are called; in a sweep it is no failure that some batches are too large."""
    return [row['run'] for row in found['runs'] if 'failed' in row and not found['sweep']]


def lines(found):
    """The figures as text."""
    learners, batch = (found['many'], '/'.join(map(str, found['sweep']))) if found['sweep'] else (
        found['ranks'], found['batch'])
    yield (f'{found["store"]}: {found["epochs"]} epoch{"s"[:found["epochs"] > 1]}, {learners} virtual learners x '
           f'{batch} samples; hpcasr train {found["training"]}')
    if found['compress']:
        yield from coded.lines(found['runs'])
        return
    yield ('held-out cross-entropy (ce) and frame error of the consensus after the last epoch; bytes sent by learner 0 '
           '(with whom the model of hogwild lies)')
    yield table([shown(row) for row in found['runs']], COLUMNS)
    yield from compared(found['runs'])
    yield from expected(found['runs'])
    if found['sweep']:
        yield from by_batch(found['runs'][1:])


def shown(row):
    """The cells of one line of the table."""
    forms = {'ce': '{:.4f}', 'relative': '{:+.1%}', 'distance': '{:.3g}', 'fer': '{:.1%}', 'wer': '{:.2f}',
             'staleness': '{:.1f}', 'difference': '{0[difference]:+.2f} [{0[interval][0]:+.2f}, {0[interval][1]:+.2f}]'}
    cells = {key: form.format(row[key]) if key in row else '' for key, form in forms.items()}
    sent = f'{row["bytes_sent"]/1e6:,.1f}' if 'bytes_sent' in row else ''
    return cells | {'run': row['run'], 'learners': str(row['learners']), 'megabytes': sent,
                    **({'ce': 'failed'} if 'failed' in row else {})}


def compared(rows):
    """A line for each pair of runs that differ in nothing but their topology, the fixed ring and the random one."""
    for one in rows:
        for other in rows:
            if twins(one, other):
                yield (f'{one["algo"]}, {one["learners"]} learners: the consensus distance on a fixed ring is '
                       f'{one["distance"]/max(other["distance"], 1e-300):.2f} times that on a random one, the held-out '
                       f'cross-entropy of the consensus {one["ce"]/other["ce"] - 1:+.1%}')


def twins(one, other):
    topologies = tuple(row['options'].get('exchange.topology') for row in (one, other))
    same = all(one[key] == other[key] for key in ('algo', 'learners', 'batch'))
    return same and topologies == COMPARED and 'ce' in one and 'ce' in other


def expected(rows):
    """A line on the staleness of each run of which it is known what it should be."""
    for row in rows:
        if row['algo'] in EXPECTED and 'staleness' in row and row['learners'] > 1:
            low, high = (factor*row['learners'] for factor in EXPECTED[row['algo']])
            as_it_should = 'as expected' if low <= round(row['staleness'], 1) <= high else 'not as expected'
            yield (f'{row["run"]}: mean staleness {row["staleness"]:.2f} with {row["learners"]} equal learners, '
                   f'{as_it_should}: {low:g} to {high:g}')


def by_batch(rows):
    """Held-out cross-entropy by global batch: a line for each algorithm."""
    batches = dict.fromkeys(row['learners']*row['batch'] for row in rows)
    names = dict.fromkeys(row['run'].split(',')[0] for row in rows)
    ce = {(row['run'].split(',')[0], row['learners']*row['batch']): f'{row["ce"]:.4f}' if 'ce' in row else 'failed'
          for row in rows}
    yield 'held-out cross-entropy by global batch, at a rate in proportion to it'
    yield table([{'name': name, **{str(M): ce[name, M] for M in batches}} for name in names],
                {'name': ('global batch', ''), **{str(M): (f'{M:,}', '') for M in batches}})
