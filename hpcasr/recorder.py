"""What a run leaves behind and shows: metrics.jsonl, TensorBoard events, a progress bar or a line per epoch.

The one place that asks for rank 0.
"""

import json
import os
import pathlib
import sys
from time import monotonic

SECONDS_BETWEEN_LINES = 60  # in a log that is no terminal


def get_recorder(comm, path, config, total):
    """The Recorder of learner 0; the others get one that keeps silent."""
    return Recorder(path, config, total) if comm.rank == 0 else Silent()


class Silent:
    """Takes every message and does nothing."""

    def silent(self, *args, **numbers):
        pass

    step = epoch = note = result = rewind = close = silent


class Recorder:
    """path    directory of the experiment
    config  config.Report
    total   global samples of the whole run
    """

    def __init__(self, path, config, total):
        self.path, self.every, self.total = pathlib.Path(path), config.every, total
        self.steps, self.sums, self.printed = 0, {}, monotonic()
        self.metrics = open(self.path/'metrics.jsonl', 'a', buffering=1)
        self.bar = progress_bar(total) if sys.stderr.isatty() and 'NO_COLOR' not in os.environ else None
        self.events = event_writer(self.path/'tensorboard') if config.tensorboard else None

    def rewind(self, samples):
        """Forget what was recorded after `samples`: a resumed run will record it again."""
        path = self.path/'metrics.jsonl'
        lines = [line for line in path.read_text().splitlines(True) if within(line, samples)]
        self.metrics.close()
        path.write_text(''.join(lines))
        self.metrics = open(path, 'a', buffering=1)
        if self.bar is not None:
            self.bar.update(samples - self.bar.n)

    def step(self, *, samples, epoch, lr, steps=1, **sums):
        """One step.  `sums` (frames, loss, errors, seconds of ...) are added up until the next line."""
        self.steps += steps
        for name, value in sums.items():
            self.sums[name] = self.sums.get(name, 0) + value
        if self.bar is not None:
            self.bar.update(samples - self.bar.n)
        if self.steps >= self.every:
            self.flush(samples, epoch, lr)

    def flush(self, samples, epoch, lr):
        line = {'samples': samples, 'epoch': round(epoch, 4), 'lr': lr, 'steps': self.steps, **means(self.sums)}
        self.write('step', line)
        self.steps, self.sums = 0, {}
        if self.bar is not None:
            self.bar.set_postfix_str(f'epoch {epoch:.1f} ce {line["ce"]:.3f} fer {100*line["fer"]:.1f} %')
        elif monotonic() - self.printed > SECONDS_BETWEEN_LINES:
            self.note(f'epoch {epoch:.2f}  ce {line["ce"]:.3f}  fer {100*line["fer"]:.1f} %  '
                      f'{line["frames_per_second"]:,.0f} frames/s')

    def epoch(self, *, samples, epoch, text, **numbers):
        """The end of an epoch: `numbers` of the held-out data go into the metrics, `text` is shown."""
        self.write('epoch', {'samples': samples, 'epoch': epoch, **numbers})
        self.note(text)

    def note(self, text):
        """One line for whoever watches."""
        self.printed = monotonic()
        if self.bar is not None:
            self.bar.write(text, file=sys.stderr)
        else:
            print(text, file=sys.stderr, flush=True)

    def result(self, text):
        """One line of the command's result."""
        print(text, flush=True)

    def write(self, kind, numbers):
        self.metrics.write(json.dumps({'kind': kind, **numbers}) + '\n')
        if self.events is not None:
            for name, value in numbers.items():
                self.events.add_scalar(f'{kind}/{name}', value, numbers['samples'])

    def close(self):
        self.metrics.close()
        for part in filter(lambda p: p is not None, (self.bar, self.events)):
            part.close()


def means(sums):
    """Sums over some steps as the figures people read."""
    frames, seconds = max(sums['frames'], 1), max(sums['seconds'], 1e-9)
    return {'ce': sums['loss']/frames, 'fer': sums['errors']/frames, 'frames_per_second': sums['frames']/seconds,
            **{k: v/seconds for k, v in sums.items() if k.endswith('_share')},
            'seconds': seconds, 'bytes_sent': sums.get('bytes_sent', 0)}


def within(line, samples):
    try:
        return json.loads(line)['samples'] <= samples
    except (ValueError, KeyError):
        return False  # cut off by a kill


def progress_bar(total):
    from tqdm import tqdm
    return tqdm(total=total, unit=' samples', unit_scale=True, dynamic_ncols=True, leave=False)


def event_writer(path):
    from tensorboardX import SummaryWriter
    return SummaryWriter(str(path))
