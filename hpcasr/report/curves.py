"""The curves of experiments, as a picture and as a table."""

import math
import pathlib

from hpcasr import given
from hpcasr.errors import BadInput

NUMBERS = {'step': ('ce', 'fer', 'epoch', 'frames_per_second'), 'epoch': ('ce', 'fer', 'epoch'), 'skip': (),
           'checkpoint': ()}  # of every line
MOST = 1e30  # finite numbers are smaller


def read(path):
    """The lines of EXP/metrics.jsonl as {kind: [line, ...]}; a last line that was cut off by a kill does not count."""
    try:
        text = given.bytes_of(pathlib.Path(path)/'metrics.jsonl')
    except OSError as e:
        raise BadInput(f'{path}: not an experiment ({e.strerror} for metrics.jsonl)') from None
    kinds, lines = {kind: [] for kind in NUMBERS}, text.splitlines(True)
    for number, line in enumerate(lines, 1):
        entry = parsed(line)
        if entry:
            kinds[entry['kind']].append(entry)
        elif number < len(lines) or line.endswith(b'\n'):
            raise BadInput(f'{path}/metrics.jsonl: line {number} is not one of ours')
    if not kinds['epoch']:
        raise BadInput(f'{path}: no epoch is complete yet')
    return kinds


def parsed(line):
    """The entry of one line, or None."""
    try:
        entry = given.parsed(line.decode())
        return entry if all(is_number(entry[name]) for name in NUMBERS[entry['kind']]) else None
    except (ValueError, KeyError, TypeError):
        return None


def is_number(value):
    """NaN and infinity are, too: they happen in training."""
    return type(value) in (int, float) and not MOST <= abs(value) < math.inf


def rows(paths):
    """One dict per experiment: its last and best held-out scores."""
    return [row(str(path), read(path)) for path in paths]


def row(path, kinds):
    last, best = kinds['epoch'][-1], min(kinds['epoch'], key=lambda e: e['ce'])
    speed = [s['frames_per_second'] for s in kinds['step']]
    return {'experiment': path, 'epochs': last['epoch'], 'ce': last['ce'], 'fer': last['fer'], 'best_ce': best['ce'],
            'best_epoch': best['epoch'], 'frames_per_second': sorted(speed)[len(speed)//2] if speed else None}


def table(rows):
    """The rows as text, one line each."""
    lines = [f'{"experiment":40} {"epochs":>6} {"ce":>7} {"fer %":>6} {"best ce":>8} {"frames/s":>9}']
    lines += [f'{r["experiment"]:40} {r["epochs"]:6} {r["ce"]:7.3f} {100*r["fer"]:6.1f} {r["best_ce"]:8.3f} '
              f'{r["frames_per_second"] or 0:9,.0f}' for r in rows]
    return '\n'.join(lines)


def picture(paths, out):
    """Draw cross-entropy and frame error over epochs into `out` (PNG, SVG or PDF): training thin, held-out thick."""
    try:
        import matplotlib
    except ImportError:
        raise BadInput('pictures need matplotlib: pip install "hpcasr[demo]"') from None
    matplotlib.use('Agg')
    from matplotlib import pyplot
    figure, axes = pyplot.subplots(1, 2, figsize=(10, 4), layout='constrained')
    for number, path in enumerate(paths):
        kinds = read(path)
        for axis, name, unit in (axes[0], 'ce', 1), (axes[1], 'fer', 100):
            draw(axis, kinds, name, unit, f'C{number}', pathlib.Path(path).name)
    axes[0].set(xlabel='epoch', ylabel='cross-entropy (nats per frame)')
    axes[1].set(xlabel='epoch', ylabel='frame error (%)', ylim=(0, None))
    axes[0].legend(frameon=False)
    try:
        figure.savefig(out, dpi=120)
    except (OSError, ValueError) as e:
        raise BadInput(f'{out}: {e}') from None
    pyplot.close(figure)


def draw(axis, kinds, name, unit, colour, label):
    train, heldout = kinds['step'], kinds['epoch']
    axis.plot([e['epoch'] for e in train], [unit*e[name] for e in train], color=colour, lw=0.8, alpha=0.5,
              label=f'{label}: training')
    axis.plot([e['epoch'] for e in heldout], [unit*e[name] for e in heldout], color=colour, lw=2, marker='o', ms=4,
              label=f'{label}: held out')
    axis.grid(alpha=0.3)
