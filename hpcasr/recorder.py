"""What a run leaves behind and shows: metrics.jsonl, TensorBoard events, a progress bar or a line per epoch.

The one place that asks for rank 0.
"""

import errno
import json
import math
import os
import pathlib
import sys
from collections import Counter, deque
from time import monotonic

from hpcasr import faults
from hpcasr.checkpoint import writing

SECONDS_BETWEEN_LINES = 60  # in a log that is no terminal


def get_recorder(comm, path, config, total):
    """The Recorder of learner 0; the others get one that keeps silent.  Raises BadInput, on all of them."""
    return comm.together(Recorder if comm.rank == 0 else Silent, path, config, total)


class Silent:
    """Takes every message and does nothing."""

    def __init__(self, *_):
        pass

    def silent(self, *args, **numbers):
        pass

    step = hear = epoch = skip = checkpoint = note = result = flush = rewind = reopen = close = silent


class Recorder:
    """path    directory of the experiment
    config  config.Report
    total   global samples of the whole run
    Raises BadInput if its files cannot be made.  If they cannot be written later, training goes on without them.
    """

    def __init__(self, path, config, total):
        self.path, self.every, self.total = pathlib.Path(path), config.every, total
        self.printed, self.lost, self.distance = monotonic(), False, None
        self.untold = deque()  # (place, seconds and bytes) of steps whose frames are not known yet
        self.steps, self.sums = 0, Counter()  # of the next line
        self.place = {'samples': 0, 'epoch': 0.0}  # where it ends
        with writing(self.path/'metrics.jsonl', 'make room, or choose another --out'):
            self.metrics = open(self.path/'metrics.jsonl', 'ab', buffering=0)
        with writing(self.path/'tensorboard', 'make room, or choose another --out'):
            self.events = get_events(self.path/'tensorboard') if config.tensorboard else None
        self.bar = progress_bar(total) if sys.stderr.isatty() and 'NO_COLOR' not in os.environ else None

    def reopen(self):
        """Go on in a new file: somebody has removed the old one."""
        self.attempt(self.cut_metrics, math.inf)

    def rewind(self, samples):
        """Forget what was recorded after `samples`: a resumed run will record it again."""
        self.attempt(self.cut_metrics, samples)
        if self.events is not None and samples:
            self.attempt(self.events.rewind, samples)
        if self.bar is not None:
            self.bar.update(samples - self.bar.n)

    def cut_metrics(self, samples):
        path, draft = self.path/'metrics.jsonl', self.path/'.metrics.jsonl'
        lines = [line for line in path.read_bytes().splitlines(True) if within(line, samples)] if path.exists() else []
        draft.write_bytes(b''.join(lines))
        os.replace(draft, path)
        old, self.metrics = self.metrics, open(path, 'ab', buffering=0)
        old.close()

    def step(self, *, samples, epoch, lr, told, **spent):
        """One step: the seconds and bytes that it took here, and what has become known with it, for `hear`."""
        self.untold.append(({'samples': samples, 'epoch': round(epoch, 4), 'lr': lr}, spent))
        self.hear(**told)
        if self.bar is not None:
            self.bar.update(samples - self.bar.n)
        if self.steps >= self.every:
            self.flush()

    def hear(self, *, behind=0, distance=None, **sums):
        """`sums` (frames, loss, errors) over all learners, of all steps not heard of yet but the last `behind`.

        These steps and what they took go into the next line, so that it tells all of the same steps.

        distance   between the models of the learners, of which the last counts; None: nothing new
        sums       also seconds and bytes that belong to no step
        """
        self.distance = self.distance if distance is None else distance
        self.sums.update(sums)
        while len(self.untold) > behind:
            self.place, spent = self.untold.popleft()
            self.steps += 1
            self.sums.update(spent)

    def flush(self, **place):
        """Write the line of the steps since the last one, if there are frames to tell of: else they go into the next.

        place   samples and epoch where all learners are; without, where the last of these steps was
        """
        if not self.sums['frames']:
            return
        line = {**self.place, **place, 'steps': self.steps, **means(self.sums, self.steps)}
        if self.distance is not None:
            line['consensus_distance'] = self.distance
        self.write('step', line)
        self.steps, self.sums = 0, Counter()
        scores = f'ce {line["ce"]:.3f}  fer {100*line["fer"]:.1f} %'
        if self.bar is not None:
            self.bar.set_postfix_str(f'epoch {line["epoch"]:.1f} {scores}')
        elif monotonic() - self.printed > SECONDS_BETWEEN_LINES:
            self.note(f'epoch {line["epoch"]:.2f}  {scores}  {line["frames_per_second"]:,.0f} frames/s')

    def epoch(self, *, samples, epoch, text, **numbers):
        """The end of an epoch: `numbers` of the held-out data go into the metrics, `text` is shown."""
        self.flush(samples=samples, epoch=epoch)
        self.write('epoch', {'samples': samples, 'epoch': epoch, **numbers})
        self.note(text)

    def skip(self, *, text, **numbers):
        """Updates that were left out: `numbers` and batches go into the metrics, `text` is shown."""
        self.write('skip', numbers)
        self.note(text)

    def checkpoint(self, **numbers):
        """A checkpoint that has become whole: what it took."""
        self.write('checkpoint', numbers)

    def note(self, text):
        """One line for whoever watches."""
        self.printed = monotonic()
        if self.bar is not None:
            self.bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def result(self, text):
        """One line of the command's result; nobody has to read it."""
        try:
            print(text, flush=True)
        except BrokenPipeError:
            faults.nobody_reads()

    def write(self, kind, numbers):
        self.attempt(self.append, (json.dumps({'kind': kind, **numbers}) + '\n').encode())
        if self.events is not None:
            values = {f'{kind}/{name}': value for name, value in numbers.items()
                      if name != 'samples' and not isinstance(value, dict | list)}
            self.attempt(self.events.scalars, values, numbers['samples'])

    def append(self, line):
        """Write a whole line, or nothing: a disk that is nearly full takes a part."""
        written = self.metrics.write(line)
        if written < len(line):
            self.metrics.truncate(self.metrics.tell() - written)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def attempt(self, write, *args):
        """write(*args); metrics that cannot be written are worth one warning, not the run."""
        try:
            write(*args)
        except OSError as e:
            if not self.lost:
                self.note(f'warning: {self.path}: metrics are lost from here on: {e.strerror or e}')
            self.lost = True

    def close(self):
        self.flush()
        for part in self.metrics, self.events, self.bar:
            if part is not None:
                self.attempt(part.close)


def means(sums, steps):
    """Sums over some steps as the figures people read; `seconds` and `bytes_sent` are sums, the other seconds per step.

    Exchanging, waiting for peers, waiting for data and computing add up to all.
    """
    frames, seconds = max(sums['frames'], 1), max(sums['seconds'], 1e-9)
    parts = {part: sums[f'{part}_seconds'] for part in ('exchange', 'waiting', 'data')}
    parts['compute'] = seconds - sum(parts.values())
    return {'ce': sums['loss']/frames, 'fer': sums['errors']/frames, 'frames_per_second': sums['frames']/seconds,
            **{f'{part}_share': s/seconds for part, s in parts.items()},
            **{f'{part}_seconds': s/max(steps, 1) for part, s in parts.items()},
            'seconds': seconds, 'bytes_sent': sums['bytes_sent']}


def within(line, samples):
    try:
        return json.loads(line)['samples'] <= samples
    except (ValueError, KeyError, TypeError):
        return False  # cut off by a kill


def progress_bar(total):
    from tqdm import tqdm
    return tqdm(total=total, unit=' samples', unit_scale=True, dynamic_ncols=True, leave=False)


def get_events(path):
    from hpcasr.events import Events
    return Events(path)
