"""Figures over the size of messages, as a picture: medians, and a band from there to the 99th percentile."""

import os

from hpcasr.bench.wire.results import created, key
from hpcasr.bench.wire.verdict import name
from hpcasr.errors import BadInput

ENDINGS = '.png', '.svg', '.pdf'
STYLES = '-', '--', ':', '-.'  # after ten colours


def require(path):
    """Raise BadInput where no picture can be drawn: asked before anything is measured."""
    if not path.lower().endswith(ENDINGS):
        raise BadInput(f'{path}: pictures end in {", ".join(ENDINGS)}')
    load()


def load():
    try:
        import matplotlib
    except ImportError:
        raise BadInput('pictures need matplotlib: pip install "hpcasr[demo]"') from None
    matplotlib.use('Agg')
    from matplotlib import pyplot
    return pyplot


def picture(rows, path, title=''):
    """Draw times to the left, bandwidths to the right, a line for each series of `rows`."""
    pyplot = load()
    figure, (times, rates) = pyplot.subplots(1, 2, figsize=(13, 5), layout='constrained')
    for number, (label, series) in enumerate(grouped(rows).items()):
        x = [row['size'] or 1 for row in series]
        look = {'color': f'C{number % 10}', 'ls': STYLES[number//10 % len(STYLES)], 'marker': 'o', 'ms': 3}
        times.plot(x, [row['p50_us'] for row in series], label=label, **look)
        band = ([row[k] for row in series] for k in ('p50_us', 'p99_us'))
        times.fill_between(x, *band, color=look['color'], alpha=0.1)
        draw_rates(rates, x, series, look)
    times.set(xlabel='bytes', ylabel='us (median; to the 99th percentile)', xscale='log', yscale='log')
    rates.set(xlabel='bytes', ylabel='MB/s (median)', xscale='log', yscale='log')
    for axis in times, rates:
        axis.grid(alpha=0.3)
    figure.legend(loc='outside right upper', frameon=False, fontsize='x-small')
    figure.suptitle(title, fontsize='small')
    save(figure, path)
    pyplot.close(figure)


def save(figure, path):
    try:
        with created(path, 'xb') as file:
            figure.savefig(file, dpi=120, format=os.path.splitext(path)[1][1:].lower())
    except ValueError as e:
        raise BadInput(f'{path}: {e}') from None


def draw_rates(axis, x, series, look):
    rates = [row.get('p50_mb_s') for row in series]
    if all(rates):
        axis.plot(x, rates, **look)


def grouped(rows):
    """{what was varied, in words: its rows by size}."""
    found = {}
    for row in sorted(rows, key=lambda row: row['size']):
        found.setdefault((name(row), key(row)[:-1]), []).append(row)
    names = [label for label, _ in found]
    return {label if names.count(label) == 1 else f'{label}, {row[0]["type"]}, {row[0]["buffers"]}': row
            for (label, _), row in found.items()}
