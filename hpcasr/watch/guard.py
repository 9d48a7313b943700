"""The process beside a rank: it sees that no rank gets on any more, has it told, and ends the job.

Nothing here needs MPI, NumPy or the help of the rank.  A job hangs when no rank has beaten for the time that the
configuration says: one that computes for long beats between layers, and so keeps the others from being called hung.
Time counts while this process itself runs: a job that was suspended as a whole has not hung.
"""

import os
import sys
import traceback
from contextlib import suppress
from time import monotonic, sleep, strftime

from hpcasr.watch import flight
from hpcasr.watch.board import Board
from hpcasr.watch.flight import KINDS, RECORDS
from hpcasr.watch.stacks import place, state
from hpcasr.watch.verdict import verdict

STATUS = 4  # of a job that hung; a launcher that joins the statuses of ranks by `or` makes neither 0, 2 nor 75 of it
POLL = 0.5  # seconds between two looks, at most
TELL = 30.0  # seconds between two reports of this rank, at most
FOREVER = 1e9  # seconds
LATE = 1.0  # seconds that a look may come late, on a busy machine; more is a suspension
ENDED = 'Z', 'X', ''  # states of a process
ANSWER = 3.0  # seconds to wait for the stacks of other ranks


class Guard:
    """Watches the rank in process `child`, by its flight recorder in `memory` and its `stacks`."""

    def __init__(self, child, memory, stacks):
        self.child, self.memory, self.stacks = child, memory, stacks
        self.board, self.timeout, self.beats, self.quiet = None, 0.0, None, 0.0
        self.looked = self.told = monotonic()
        self.failed, self.over = False, False
        self.heard = {}  # rank: (its last report, since when it is the same)
        self.extra = {'host': os.uname().nodename, 'process': child, 'number': 0}

    @property
    def period(self):
        """Seconds between two looks."""
        return min(POLL, self.timeout/10) if self.timeout else POLL

    def look(self):
        """Called every `period`.  The exit status with which the rank must be ended, as the job hangs; else None.

        What fails in here ends no job that gets on.
        """
        try:
            return None if self.failed else self.status()
        except Exception:
            traceback.print_exc()
            if self.quiet >= self.timeout > 0:
                return STATUS
            self.failed = True
            return None

    def status(self):
        now, state = monotonic(), flight.read(self.memory)
        past, self.looked = min(now - self.looked, self.period + LATE), now
        if state is None or self.over or not self.armed(state):
            return None
        if state.get('finished'):  # what may come is the end of MPI, which waits for the others
            self.over = True
            return self.tell(state, quiet=FOREVER, dumped=True)
        self.quiet = self.quiet + past if state['beats'] == self.beats else 0.0
        self.beats = state['beats']
        if now - self.told >= self.pause():
            self.tell(state)
        if self.quiet < self.timeout/2:
            self.heard.clear()
            return None
        return self.judge(now)

    def pause(self):
        """Seconds between two reports of this rank: few while it gets on."""
        return min(TELL, self.timeout/10) if self.quiet < self.timeout else self.period

    def armed(self, state):
        """Whether the rank has said what to watch for."""
        if self.board is None and state.get('timeout'):
            self.timeout = state['timeout']
            self.board = Board(state['out'], state['rank'], state['size'])
            self.tell(state)
        return self.board is not None

    def tell(self, told, **more):
        """Write the report of this rank."""
        self.told, self.extra['number'] = monotonic(), self.extra['number'] + 1
        self.board.write({**told, 'recent': [], **self.extra, 'quiet': self.quiet, 'silent': False,
                          'state': state(self.child), 'where': '', **more})

    def judge(self, now):
        """Whether all others are quiet, too; they are looked at for the last half of the time only.

        Where some cannot be heard of, as there is no disk to tell it on, they are given as long again.
        """
        reports = self.hear(now)
        patience = self.timeout if len(reports) == self.board.size else 2*self.timeout
        if self.quiet >= patience and all(r['silent'] or r['quiet'] >= self.timeout for r in reports.values()):
            return self.end()
        return None

    def hear(self, now):
        """{rank: report}, in which `silent` are those that have not changed for long."""
        reports = self.board.read()
        for rank, report in reports.items():
            number, since = self.heard.get(rank, (None, now))
            if number != report['number']:
                self.heard[rank] = report['number'], now
            waited = now - since if number == report['number'] else 0.0
            report['silent'] = not report.get('dumped') and waited > max(self.timeout*0.4, 2*self.period)
        return reports

    def end(self):
        """Tell all that is known, wait until the others have, name who holds up the job; return STATUS.

        None if a rank has got on, or has ended, meanwhile.
        """
        told, stacks = flight.read(self.memory), self.ask()
        self.dump('', told, stacks)
        self.tell(told, quiet=max(self.quiet, self.timeout), where=place(stacks), dumped=True)
        alive = [rank for rank, report in self.hear(monotonic()).items() if not report['silent']]
        self.await_others('dumped', alive)
        reports = self.hear(monotonic())
        if not self.hangs_still(told, [reports.get(rank) for rank in alive]):
            return self.forget()
        first = min(rank for rank in [*alive, self.board.rank] if not reports.get(rank, {}).get('finished'))
        if first == self.board.rank:
            self.say(verdict(reports, self.board.size), told, stacks)
        self.tell(told, dumped=True, over=True, quiet=self.timeout)
        self.await_others('over', [first])
        return STATUS

    def hangs_still(self, told, reports):
        """Whether neither this rank nor one of those that left `reports` has got on or ended."""
        return (flight.read(self.memory)['beats'] == told['beats'] and state(self.child) not in ENDED
                and all(report and report['quiet'] >= self.timeout for report in reports))

    def forget(self):
        self.quiet = 0.0
        self.tell(flight.read(self.memory))
        self.file.unlink(missing_ok=True)

    def say(self, who, told, stacks):
        line = (f'hpcasr: hang: no rank has got on for {self.quiet:.0f} s: {who}; records and stacks are in '
                f'{self.board.folder.parent}/hang-rank*.txt\n')
        self.dump(line, told, stacks)
        sys.stderr.write(line)
        sys.stderr.flush()

    def ask(self):
        with suppress(OSError):
            return self.stacks.of(self.child)
        return ''

    def await_others(self, mark, ranks):
        until = monotonic() + ANSWER
        while monotonic() < until:
            reports = self.board.read()
            if all(reports.get(rank, {}).get(mark) for rank in ranks):
                return
            sleep(0.1)

    def dump(self, line, told, stacks):
        """EXP/hang-rankNNN.txt; where it cannot be written, standard error."""
        text = ''.join([f'{strftime("%Y-%m-%d %H:%M:%S")}  rank {self.board.rank} of {self.board.size} on '
                        f'{self.extra["host"]}, process {self.child}, state {state(self.child)}\n', line, '\n',
                        *describe(told), '\n', stacks or 'no Python stacks: the process does not answer\n'])
        try:
            self.file.write_text(text)
        except OSError:
            sys.stderr.write(text)

    @property
    def file(self):
        return self.board.folder.parent/f'hang-rank{self.board.rank:03d}.txt'

    def close(self):
        if self.board:
            self.board.close()


def describe(told):
    """Lines of what flight.read gives: the last exchanges, the newest last."""
    now = monotonic()
    yield f'step {told["step"]} of this start, {told["samples"]} samples of all ranks done\n'
    yield f'the last exchanges (of {RECORDS} kept): seconds ago, seconds taken, step, what, number, ranks\n'
    for row in told['recent']:
        took = f'{row["ended"] - row["began"]:10.6f}' if row['ended'] else '   not yet'
        peers = ' '.join(map(str, row['peers'] or row['members'] or ['all']))
        yield f'{now - row["began"]:10.3f} {took} {row["step"]:6} {KINDS[row["kind"]]}, {row["n"]}, {peers}\n'
