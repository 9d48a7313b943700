"""What all ranks have found, as one table."""

from dataclasses import replace

from hpcasr import __version__
from hpcasr.doctor.finding import LEVELS
from hpcasr.doctor.job import plural, ranges

VERSION = 1  # of the JSON
ALIKE = {'versions', 'vector width', 'MPI library', 'MPI threads', 'BLAS threads'}  # what all ranks must have in common
MOST = 4  # texts of ranks that differ in figures only


def merged(findings, order):
    """The findings of all ranks, one for each thing that is found, in the `order` of the checks' names.

    Those that all who looked have in common name no ranks.  What must be alike and is not is a warning at least.
    """
    rows = []
    for name in sorted(dict.fromkeys(f.name for f in findings), key=rank_in(order)):
        own = [f for f in findings if f.name == name]
        grouped = {}
        for f in own:
            grouped.setdefault(replace(f, ranks=()), []).extend(f.ranks)
        rows += [same for same in grouped] if len(grouped) == 1 else [
            differing(replace(f, ranks=tuple(sorted(ranks)))) for f, ranks in grouped.items()]
    return rows


def differing(f):
    if f.name not in ALIKE or f.level != 'ok':
        return f
    return replace(f, level='warning', advice='the ranks differ here, so results may; start all with the same '
                   'software, on nodes of one kind')


def rank_in(order):
    places = {name: k for k, name in enumerate(order)}
    return lambda name: places.get(name, len(places))


def status(findings):
    return int(any(f.level == 'error' for f in findings))


def as_json(job, hosts, findings):
    return {'version': VERSION, 'hpcasr': __version__, 'ranks': job.size, 'machines': job.machines, 'hosts': hosts,
            'library': job.library, 'counts': counts(findings), 'checks': [f.plain() for f in findings]}


def counts(findings):
    return {level: sum(f.level == level for f in findings) for level in LEVELS}


def lines(job, hosts, findings):
    """A title, a line for each finding and one that counts them."""
    yield f'hpcasr {__version__}, {plural(job.size, "rank")} on {plural(job.machines, "machine")} ({told(hosts)})'
    width = max(len(f.name) for f in findings)
    for f, more in shortened(findings):
        advice = f' -> {f.advice}' if f.advice else ''
        yield f'{f.level:7}  {f.name:{width}}  {whose(f)}{f.found}{more}{advice}'
    n = counts(findings)
    yield f'{plural(n["error"], "error")}, {plural(n["warning"], "warning")}, {n["ok"]} ok'


def told(hosts):
    return ', '.join(hosts[:MOST]) + (f' and {len(hosts) - MOST} more' if len(hosts) > MOST else '')


def whose(f):
    return f'rank{"s"[:len(f.ranks) > 1]} {ranges(f.ranks)}: ' if f.ranks else ''


def shortened(findings):
    """(finding, what is left out, in words) for the first MOST of those that differ in their figures only."""
    seen = {}
    for f in findings:
        seen.setdefault((f.name, f.level, f.advice), []).append(f)
    for alike in seen.values():
        for f in alike[:MOST]:
            left = sum(len(other.ranks) for other in alike[MOST:])
            yield f, f' (and {left} more ranks alike, see --json)' if left and f is alike[MOST - 1] else ''
