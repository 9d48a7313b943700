"""What makes the exit status 1: entries that came wrong, times above a baseline, bandwidth under a bound."""

from hpcasr.bench.wire.results import VARIABLES, key
from hpcasr.errors import Agreed, BadInput, CheckFailed

NAMED = 3  # failures that are told one by one


class Failed(Agreed, CheckFailed):
    """The figures do not hold, which every rank knows."""


def judge(rows, baseline=None, tolerance=0.1, least=None):
    """Raise Failed, naming what fails, if anything does.

    baseline   older rows: medians may be longer by the share `tolerance`
    least      MB/s that every test must reach at some size, by its median
    """
    found = [*wrong(rows), *slower(rows, baseline or [], tolerance), *narrow(rows, least)]
    if found:
        more = f'; and {len(found) - NAMED} more' if len(found) > NAMED else ''
        raise Failed('; '.join(found[:NAMED]) + more)


def wrong(rows):
    for row in rows:
        if row['wrong']:
            ranks = row['wrong_ranks']
            yield (f'{name(row)}: {row["wrong"]:,} entries came wrong at size {row["size"]} on '
                   f'rank{"s"[:len(ranks) > 1]} {", ".join(map(str, ranks))}')


def slower(rows, baseline, tolerance):
    before = {key(row): row for row in baseline}
    for row in rows:
        old = before.get(key(row))
        if old and row['p50_us'] > (1 + tolerance)*old['p50_us']:
            yield (f'{name(row)} at size {row["size"]}: median {row["p50_us"]:.2f} us, '
                   f'{row["p50_us"]/old["p50_us"] - 1:.0%} over the baseline\'s {old["p50_us"]:.2f}')


def narrow(rows, least):
    best = {}
    for row in rows if least is not None else ():
        if 'p50_mb_s' in row:  # latencies tell none
            best[name(row)] = max(best.get(name(row), 0.0), row['p50_mb_s'])
    for test, reached in best.items():
        if reached < least:
            yield f'{test}: at most {reached:,.1f} MB/s, less than --min-bw {least:g}'


def name(row):
    """`get_bw (create, lock)`: the test and how it was varied."""
    more = [str(row[variable]) for variable in VARIABLES[1:5] if row.get(variable)]
    return row['test'] + (f' ({", ".join(more)})' if more else '')


def require_comparable(path, old, now, rows=None):
    """Raise BadInput if the figures of `path` are of another machine, or have no row in common with `rows`."""
    there, here = old['machine'], now['machine']
    differ = [what for what in here if there.get(what) != here[what]]
    if differ:
        raise BadInput(f'{path}: of another machine: ' + ', '.join(
            f'{what} {shown(there.get(what))} there, {shown(here[what])} here' for what in differ))
    if rows is not None and not {key(row) for row in rows} & {key(row) for row in old['rows']}:
        raise BadInput(f'{path}: nothing of it was measured now; take the same tests, sizes and types')


def shown(value):
    return ' + '.join(map(str, value)) if isinstance(value, list) else str(value)
