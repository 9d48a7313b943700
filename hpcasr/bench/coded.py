"""What is learnt with compressed exchanges, beside the same training without, over several seeds."""

import numpy as np

from hpcasr.algorithms import get_algorithm
from hpcasr.bench.table import table
from hpcasr.config import Config
from hpcasr.errors import BadInput

EVERY = 'fp16', 'bf16', 'qsgd', 'onebit', 'powersgd', 'topk', 'threshold', 'onebit,feedback=false'  # what `all` is
PLAIN = 'none'
COLUMNS = {'name': ('run', ''), 'ce': ('ce', ''), 'relative': (f'to {PLAIN}', ''), 'low': ('least', ''),
           'high': ('most', ''), 'fer': ('fer', ''), 'megabytes': ('MB sent', ''), 'fewer': ('fewer', '')}


def ways(texts):
    """[text of --compress], `none` before all others, each once; `all` is EVERY."""
    return list(dict.fromkeys([PLAIN, *(way for text in texts for way in (EVERY if text == 'all' else (text,)))]))


def keys(way):
    """`onebit,feedback=false` -> (('compress.method', 'onebit'), ('compress.feedback', 'false')).  Raises BadInput."""
    method, *others = way.split(',')
    wrong = [other for other in others if '=' not in other]
    if wrong:
        raise BadInput(f'--compress {way}: {wrong[0]} is no KEY=VALUE; give METHOD or METHOD,KEY=VALUE,..., such as '
                       'onebit,feedback=false')
    return (('compress.method', method), *((f'compress.{key}', value)
                                           for key, value in (other.split('=', 1) for other in others)))


def require(algo, way):
    """Raise BadInput unless the algorithm takes it."""
    config = Config().with_values(dict(keys(way)), f'--compress {way}')
    get_algorithm(algo).compression.require(algo, config)


def beside(row, rows):
    """{relative: ce/ce_none − 1} to the run of the same algorithm and seed that compresses nothing, else {}."""
    plain = [other for other in rows if other['compress'] == PLAIN
             and all(other[key] == row[key] for key in ('algo', 'seed')) and 'ce' in other]
    return {'relative': row['ce']/plain[0]['ce'] - 1} if plain and 'ce' in row else {}


def lines(rows):
    """A table: every way of every algorithm, over its seeds."""
    yield (f'held-out cross-entropy (ce) and frame error after the last epoch, means over the seeds; to {PLAIN}: the '
           'mean, the least and the most of ce beside that of the same seed uncompressed; bytes sent by learner 0')
    groups = {}
    for row in rows:
        groups.setdefault((row['algo'], row['compress']), []).append(row)
    sent = {key: mean(group, 'bytes_sent') for key, group in groups.items()}
    yield table([shown(key, group, sent[key], sent[key[0], PLAIN]) for key, group in groups.items()], COLUMNS)


def shown(key, group, sent, plain):
    """The cells of one line."""
    name, found = ' '.join(key), [row['relative'] for row in group if 'relative' in row]
    failed = sum('failed' in row for row in group)
    cells = {column: '' for column in COLUMNS} | {'name': name, 'ce': f'{failed} failed' if failed else ''}
    if not failed:
        cells |= {'ce': f'{mean(group, "ce"):.4f}', 'fer': f'{mean(group, "fer"):.1%}', 'megabytes': f'{sent/1e6:,.1f}',
                  'fewer': f'{plain/sent:.1f}' if sent and plain else ''}
    if found and not failed:
        cells |= {'relative': f'{np.mean(found):+.2%}', 'low': f'{min(found):+.2%}', 'high': f'{max(found):+.2%}'}
    return cells


def mean(group, key):
    """Over the runs that have it; None: none has."""
    found = [row[key] for row in group if key in row]
    return float(np.mean(found)) if found else None
