"""A long drill: python tests/soak.py [--faults 100] [--seed 0] [--algo NAME ...]

Trains again and again with random algorithms on 2 to 4 ranks.  In each such journey a random fault (hpcasr/drill.py)
befalls a random rank at a random step; the job is started again with --resume auto, meets the next one, and at last is
let through.  Its model must then be that of a run without faults, bit for bit; of an asynchronous algorithm, that of
the replay of its record by virtual learners.  Nothing that a checkpoint held may be done again.

Ends with exit status 1 if a journey does not come to its end, or to another model.
"""

import argparse
import json
import os
import pathlib
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent))
from hpcasr.algorithms import ALGORITHMS
from tests.conftest import command, done_of, environment
from tests.small import store

BATCH, HANG, LIMIT = 3, 8, 180  # samples of a rank and step; seconds of --hang-timeout; seconds of any one start
PLAN = ('--model', 'tiny', '--set', 'model.cells=8', '--set', 'report.every=1', '--set', 'report.tensorboard=false',
        '--batch', str(BATCH), '--hang-timeout', str(HANG), '--max-skipped', '0')
EVERY = 4  # steps of all ranks between two checkpoints
LENGTH = 3  # epochs for each rank: so many steps for any number of ranks
MEETINGS = 5  # of one journey with a fault, at most
FATAL = 'kill', 'exc', 'exit0', 'sigterm', 'hang', 'stop', 'corrupt-record', 'enospc', 'torn-checkpoint', 'nan', 'slow'
AT_EVERY_PACE = tuple(kind for kind in FATAL if kind != 'nan')  # who receives an update leaves out what is not finite


@dataclass
class Journey:
    """One training, from its beginning to its end."""

    algo: str
    ranks: int
    faults: list = field(default_factory=list)
    lost: list = field(default_factory=list)  # steps done again, of each restart
    recovery: list = field(default_factory=list)  # seconds from a fault to the next step
    seconds: float = 0.0

    @property
    def options(self):
        nodes = ('--node-size', '2') if self.algo == 'hierarchical' else ()
        return (*PLAN, '--algo', self.algo, '--epochs', str(LENGTH*self.ranks),
                '--checkpoint-every', str(EVERY*BATCH*self.ranks), *nodes)

    @property
    def asynchronous(self):
        return ALGORITHMS[self.algo].asynchronous


class Wrong(Exception):
    """What must not be."""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--faults', type=int, default=100, metavar='N')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--algo', action='append', choices=list(ALGORITHMS), help='only this; may be repeated')
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return soak(pathlib.Path(folder), given.faults, Random(given.seed), given.algo or list(ALGORITHMS))


def soak(folder, faults, rng, algorithms):
    """Journeys until so many faults have been met; print what came of them; return the exit status."""
    store(folder/'small.h5', utterances=30)
    journeys, wrong, calm, alone = [], [], {}, []
    while sum(len(j.faults) for j in journeys) < faults and len(wrong) < 3:
        journey = plan(rng, algorithms)
        out = folder/f'{len(journeys)}'
        left = faults - sum(len(j.faults) for j in journeys)
        trouble = ''
        try:
            travel(journey, folder, out, rng, min(left, rng.randint(2, MEETINGS)))
            same_model(journey, folder, out, calm, alone)
        except Wrong as e:
            trouble = f'  WRONG: {e}'
            wrong.append(str(e))
        journeys.append(journey)
        print(f'{journey.algo:20} {journey.ranks} ranks  {journey.seconds:5.1f} s  {" ".join(journey.faults)}'
              + trouble, flush=True)
    return tell(journeys, wrong, alone)


def plan(rng, algorithms):
    algo = rng.choice(algorithms)
    return Journey(algo, 4 if algo == 'hierarchical' else rng.choice([2, 3, 4]))


def travel(journey, folder, out, rng, meetings):
    """Start, and start again, until the training is done; `meetings` of these with a fault."""
    fell, reached = None, 0
    for n in range(3*meetings + 3):
        fault = draw(journey, rng, n) if n < meetings else ''
        committed, began = whole(out), time.time()
        fault_and_more = fault and f'{fault};{crash(fault, rng)}'
        status, said, first = start(journey, folder, out, fault_and_more)
        journey.seconds += time.time() - began
        at = went_on(out, said, committed)
        if n:
            journey.lost.append(max(0, reached - at)/(BATCH*journey.ranks))
        if fell and first:
            journey.recovery.append(first - fell)
        fell = happened(out, fault)
        reached = max(furthest(out), at + steps_before(fault_and_more)*BATCH*journey.ranks) if fell else 0
        if fell:
            journey.faults.append(fault)
        if status == 0:
            return
        if not fell:
            raise Wrong(f'{out.name}: status {status} without a fault: {said[-300:]}')
    raise Wrong(f'{out.name}: does not come to an end')


def crash(fault, rng):
    """What lets the job find a torn checkpoint, soon after it was written; else nothing."""
    step = int(re.search(r'step=(\d+)', fault)[1])
    return f'kill:step={-(-step//EVERY)*EVERY + rng.randint(2, EVERY + 2)}:every' if fault.startswith('torn') else ''


def draw(journey, rng, n):
    """A fault for the n-th start; the last word makes it another one than those before."""
    kind = rng.choice(AT_EVERY_PACE if journey.asynchronous else FATAL)
    step, rank = rng.randint(EVERY, 3*EVERY), 0 if kind == 'torn-checkpoint' else rng.randrange(journey.ranks)
    return f'{kind}:rank={rank}:step={step}:seconds=0.0{n + 1}'


def start(journey, folder, out, fault):
    """Train until it ends: (exit status, standard error, when the first step was done or None)."""
    record = ('--record', out.with_suffix('.record')) if journey.asynchronous else ()
    line = command(journey.ranks, None, 'train', 'small.h5', '--out', out.name, '--resume', 'auto', *journey.options,
                   *record)
    with tempfile.TemporaryFile('w+') as log:
        job = subprocess.Popen(line, cwd=folder, env=environment() | {'HPCASR_FAULT': fault}, stdout=log, stderr=log,
                               start_new_session=True)
        first = await_end(job, out/'metrics.jsonl', time.time() + LIMIT)
        log.seek(0)
        said = log.read()
    if first is False:
        raise Wrong(f'{out.name}: {fault} did not end within {LIMIT} s: {said[-300:]}')
    return job.returncode, said, first


def await_end(job, metrics, limit):
    """When the first line was added to `metrics` once the job had begun to write; None: never; False: no end."""
    first, seen = None, None
    while job.poll() is None:
        if time.time() > limit:
            os.killpg(job.pid, signal.SIGKILL)
            job.wait()
            return False
        size = metrics.stat().st_size if metrics.exists() else 0
        if first is None and seen is not None and size > seen:
            first = time.time()
        seen = size
        time.sleep(0.02)
    return first


def happened(out, fault):
    """When the fault befell the training, or None."""
    rank = re.search(r'rank=(\d+)', fault)
    mark = out/'.drill'/f'rank{int(rank[1]):04d}' if rank else None
    return mark.stat().st_mtime if mark and mark.exists() and fault in mark.read_text().splitlines() else None


def whole(out):
    """Samples of the newest checkpoint that is whole, 0 without any."""
    found = (path.parent for path in (out/'checkpoints').glob('*/manifest.json'))
    return max((int(path.name) for path in found if path.name.isdigit() and not torn(path)), default=0)


def torn(checkpoint):
    """Whether a file of it is shorter than it was."""
    files = json.loads((checkpoint/'manifest.json').read_text())['files']
    return any((checkpoint/name).stat().st_size != facts['bytes'] for name, facts in files.items())


def went_on(out, said, committed):
    """The samples from which a start went on.  Raises Wrong if a checkpoint held more."""
    found = re.search(r'^resume .*/checkpoints/(\d+) ', said, re.M)
    resumed = int(found[1]) if found else 0
    if resumed < committed:
        raise Wrong(f'{out.name}: went on from {resumed} samples, and a checkpoint held {committed}')
    return resumed


def steps_before(fault):
    """Steps that a start has taken when it meets the last part of `fault`; 0 where that is not known."""
    late = fault.startswith(('enospc', 'slow', 'corrupt', 'sigterm'))
    return 0 if late else int(re.findall(r'step=(\d+)', fault)[-1]) - 1


def furthest(out):
    """Samples that have been learnt from, as far as the metrics say: some algorithms tell at meetings alone."""
    lines = (out/'metrics.jsonl').read_text().splitlines() if (out/'metrics.jsonl').exists() else []
    return max((json.loads(line)['samples'] for line in lines), default=0)


def same_model(journey, folder, out, calm, alone):
    """Raise Wrong unless the model is that of a run without faults."""
    name = f'{out.name}-replay' if journey.asynchronous else f'{journey.algo}-{journey.ranks}'
    if name not in calm:
        began = time.time()
        how = ((0, '--virtual', journey.ranks, '--replay', out.with_suffix('.record')) if journey.asynchronous
               else (journey.ranks,))
        line = command(how[0], None, 'train', 'small.h5', '--out', name, *journey.options, *how[1:])
        done = subprocess.run(line, cwd=folder, env=environment(), capture_output=True, text=True, timeout=LIMIT)
        if done.returncode:
            raise Wrong(f'{out.name}: without faults: {done.stderr[-300:]}')
        calm[name] = done_of(folder/name)['checksum'], time.time() - began
    if not journey.asynchronous:
        alone.append((calm[name][1], journey.seconds))
    if calm[name][0] != done_of(out)['checksum']:
        raise Wrong(f'{out.name}: is another model than without faults')


def tell(journeys, wrong, alone):
    """Print the sums; return the exit status."""
    faults = [fault for journey in journeys for fault in journey.faults]
    kinds = Counter(fault.split(':')[0] for fault in faults)
    lost, recovery = [x for j in journeys for x in j.lost], [x for j in journeys for x in j.recovery]
    print(f'faults     {len(faults)} in {len(journeys)} trainings, of which {len(wrong)} went wrong: '
          + ', '.join(f'{n} {kind}' for kind, n in kinds.most_common()))
    print(f'steps      {sum(lost):.0f} lost in {len(lost)} restarts, about {mean(lost):.1f} each; checkpoints every '
          f'{EVERY}')
    print(f'recovery   {mean(recovery):.1f} s from a fault to the next step (at most {max(recovery, default=0):.1f}; '
          f'--hang-timeout {HANG})')
    if alone:
        print(f'effective  {100*sum(a for a, _ in alone)/sum(b for _, b in alone):.0f} % of the time, beside the same '
              'trainings without faults (synchronous algorithms)')
    print('models     ' + ('\n           '.join(wrong) or 'all as without faults, bit for bit'))
    return bool(wrong)


def mean(x):
    return statistics.mean(x or [0])


if __name__ == '__main__':
    sys.exit(main())
