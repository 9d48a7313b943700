"""Figures as files: versioned JSON, CSV with a row for each tuple of variables; neither replaces one that is there."""

import csv
import json
import os
from contextlib import contextmanager

from hpcasr.errors import BadInput
from hpcasr.given import json_of

SCHEMA = 'hpcasr-wire/1'
VARIABLES = 'test', 'window', 'sync', 'target', 'pattern', 'road', 'buffers', 'type', 'size'
FIGURES = ('iterations', 'mean_us', 'min_us', 'max_us', 'p50_us', 'p90_us', 'p99_us', 'worst_us', 'mb_s', 'p50_mb_s',
           'messages_s', 'algbw_gb_s', 'busbw_gb_s', 'pure_us', 'compute_us', 'overlap', 'wrong')

MOST = 1e30  # figures are smaller
NEEDED = {'test', 'buffers', 'type', 'size', 'p50_us', 'p99_us', 'wrong', 'wrong_ranks'}  # in every row


def key(row):
    """What was varied, as a tuple."""
    return tuple(row.get(name) for name in VARIABLES)


def require_new(paths):
    """Raise BadInput if one of these files is there, or is named twice, or cannot be made."""
    for path in paths:
        folder = os.path.dirname(path) or '.'
        if os.path.lexists(path):
            raise BadInput(f'{path} is there; figures are never overwritten, choose another name')
        if not os.path.isdir(folder):
            raise BadInput(f'{path}: there is no directory {folder}')
        if not os.access(folder, os.W_OK | os.X_OK):
            raise BadInput(f'{path}: nothing can be written into {folder}')
    if len(set(map(os.path.realpath, paths))) < len(paths):
        raise BadInput(f'{", ".join(paths)}: two files of one name')


@contextmanager
def created(path, mode='x'):
    """A new file to write to; it is removed if that fails, as on a full disk."""
    try:
        file = open(path, mode, newline=None if 'b' in mode else '')
    except OSError as e:
        raise BadInput(f'{path}: {e.strerror}') from None
    try:
        with file:
            yield file
    except OSError as e:
        os.remove(path)
        raise BadInput(f'{path}: {e.strerror}') from None


def write_json(path, found):
    with created(path) as f:
        json.dump({'schema': SCHEMA} | found, f, indent=1)
        f.write('\n')


def write_csv(path, rows):
    with created(path) as f:
        writer = csv.DictWriter(f, [*VARIABLES, *FIGURES], extrasaction='ignore', lineterminator='\n')
        writer.writeheader()
        writer.writerows(rows)


def read(path):
    """What write_json has written.  Raises BadInput for any other file."""
    try:
        found = json_of(path)
    except OSError as e:
        raise BadInput(f'{path}: {e.strerror}') from None
    except ValueError as e:
        raise BadInput(f'{path}: not JSON: {e}') from None
    schema = found.get('schema') if isinstance(found, dict) else None
    if schema != SCHEMA:
        raise BadInput(f'{path}: its schema is {schema or "none"}, figures of this version are {SCHEMA}; measure it '
                       'anew with hpcasr bench ... --json FILE')
    if not isinstance(found.get('machine'), dict) or not is_rows(found.get('rows')):
        raise BadInput(f'{path}: incomplete; measure it anew')
    return found


def is_rows(found):
    return isinstance(found, list) and all(isinstance(row, dict) and is_row(row) for row in found)


def is_row(row):
    """Variables are words or numbers, figures are numbers, None where there is none."""
    figures = [row[name] for name in FIGURES if row.get(name) is not None]
    return (NEEDED <= set(row) and isinstance(row['test'], str) and type(row['size']) is int
            and all(isinstance(value, str | int | float | None) for value in key(row))
            and all(type(value) in (int, float) and abs(value) < MOST for value in figures)
            and isinstance(row['wrong_ranks'], list) and (row['p50_us'] or 0) > 0)
