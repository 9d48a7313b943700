"""Whom everybody waits for: a pure function of what the ranks say of themselves.

A report is flight.read, `finished` where nothing is left to do, and: `host`, `process`, `state` (stacks.state), `where`
(stacks.place), `quiet` [s] without a beat, and `silent`, whether nobody supervises the rank any more.
"""

from hpcasr.watch.flight import AWAIT, BARRIER, BROADCAST, EXCHANGE, GATHER, KINDS, MAKE, SHARE, SLICES, SUM, TICKET

STATES = {'T': 'is stopped (SIGSTOP)', 't': 'is stopped by a debugger', 'D': 'waits for a disk or a file system',
          'Z': 'has ended', 'X': 'has ended'}
COLLECTIVE = BARRIER, SUM, SLICES, SHARE, GATHER, BROADCAST, MAKE  # `n` says which of its group it is


def verdict(reports, size):
    """One line about the hang of a job of `size` ranks; reports {rank: report}."""
    guilty, why = culprits(reports, size)
    others = [rank for rank in range(size) if rank not in guilty and doing(reports.get(rank))]
    return '; '.join([f'{who(rank, reports.get(rank))} {why[rank]}' for rank in guilty[:4]]
                     + [f'{len(guilty) - 4} more']*(len(guilty) > 4)
                     + ([waiting(others, reports)] if others else []))


def culprits(reports, size):
    """([the ranks that all others wait for], {rank: what is wrong with it})."""
    for suspect in unheard, stopped, absent:
        why = {rank: text for rank in range(size) if (text := suspect(reports.get(rank)))}
        if why:
            return list(why), why
    guilty = last(reports)
    return guilty, {rank: f'waits{" itself"*(len(guilty) == 1)} in {told(reports[rank])}' for rank in guilty}


def unheard(report):
    """The node is lost, or both processes of the rank are."""
    return 'says nothing any more: its node is lost, or its processes are stopped' if not report or report['silent'] \
        else ''


def stopped(report):
    state = STATES.get(report['state'])
    return f'{state}{during(report)}' if state else ''


def absent(report):
    """It has not come to any exchange, and has work left."""
    return '' if doing(report) or report.get('finished') else f'does not come to the next exchange{during(report)}'


def during(report):
    held = report['held']
    return (f', in step {report["step"]}' + (f', {told(report)}' if doing(report) else '')
            + f', in {report["where"]}'*bool(report['where'])
            + (f', and holds the lock of {several(held)}' if held else ''))


def doing(report):
    """The innermost exchange in which the rank is, or None."""
    return report['doing'][-1] if report and report['doing'] else None


def told(report):
    """An exchange in words."""
    what = doing(report)
    number = f' (number {what["n"]})'*(what['kind'] in COLLECTIVE)
    peers = ', '.join(map(str, what['peers']))
    if what['kind'] == TICKET:
        return f'the lock of rank {peers} (ticket {what["n"]})'
    return KINDS[what['kind']] + (f' with rank {peers}' if peers and what['kind'] != AWAIT else number)


def last(reports):
    """Those whom all others wait for, directly or through others, where everybody waits: one, or a circle."""
    edges = {rank: waits_for(rank, report, reports) for rank, report in reports.items()}
    reach = {rank: reachable(rank, edges) for rank in edges}
    ends = [rank for rank in edges if all(rank in reach[r] for r in reach[rank])]  # nobody outside is waited for
    return sorted(rank for rank in ends if not reports[rank].get('finished'))


def waits_for(rank, report, reports):
    """The ranks for which this one waits in its innermost exchange."""
    what = doing(report)
    if report.get('finished'):
        return {r for r in reports if not reports[r].get('finished')}
    if what['kind'] == TICKET:
        return {r for r, other in reports.items() if set(what['peers']) & set(other['held']) and r != rank}
    members = [r for r in what['members'] or reports if r in reports]
    if what['kind'] in COLLECTIVE:
        return {r for r in members if reports[r]['counts'].get(what['group'], 0) < what['n']} - {rank}
    if what['kind'] == EXCHANGE:
        return set(what['peers'] or members) - {rank}
    return {r for r in members if (doing(reports[r]) or what)['kind'] != what['kind']}


def reachable(rank, edges):
    """`rank` and all for whom it waits, directly or through others."""
    seen, front = {rank}, [rank]
    while front:
        new = edges.get(front.pop(), set()) - seen
        seen |= new
        front += new
    return seen


def waiting(ranks, reports):
    """`ranks 0, 1 wait in a sum (number 7), rank 3 in the lock of rank 2 (ticket 5)`."""
    groups = {}
    for rank in ranks:
        groups.setdefault(told(reports[rank]), []).append(rank)
    return ', '.join(f'{several(ranks)} wait{"s"[:len(ranks) == 1]} in {text}' for text, ranks in groups.items())


def several(ranks):
    first = ', '.join(map(str, ranks[:8]))
    return f'rank{"s"[:len(ranks) > 1]} {first}{" ..."*(len(ranks) > 8)}'


def who(rank, report):
    return f'rank {rank} on {report["host"]} (process {report["process"]})' if report else f'rank {rank}'
