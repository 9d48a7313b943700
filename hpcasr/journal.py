"""The record of an asynchronous run: who computed which samples, and in which order the windows were changed.

With it a run can be repeated bit for bit, on ranks or on virtual learners.

FILE:  a line of JSON that says of which run it is, then a block for every stretch between two meeting points: its
length in 8 bytes, and zlib-compressed int64, little-endian: for every learner the number of its claims and of its
tickets, then of one learner after the other its claims (lo, hi, samples, position) and its tickets (window, part,
ticket, position), column by column, each number as the difference to the one before.
"""

import json
import pathlib
import zlib
from contextlib import contextmanager

import numpy as np

from hpcasr.checkpoint import writing
from hpcasr.errors import BadInput
from hpcasr.resume import CHANGES_NO_BIT

FORMAT = 'hpcasr-record', 1
COLUMNS = 4
NUMBER = '<i8'
HEADER = 1 << 20  # bytes that its line has at most
FREE = CHANGES_NO_BIT - {'checkpoint.every'} | {'exchange.progress', 'exchange.meet', 'exchange.sample'}


class Journal:
    """What a run has that is neither recorded nor replayed.

    replays   whether claims and tickets are given
    ordered   whether all changes must be made under locks, so that their order is known
    """

    replays, ordered = False, False

    def __init__(self):
        self.windows = []

    def watch(self, window):
        """Take up a window whose locks matter; called by all learners in the same order.  Returns it."""
        self.windows.append(window)
        return window

    def lock(self, window, ranks):
        """As window.lock(ranks), with the tickets that the record says, if there is one."""
        return window.lock(ranks)

    def claims(self, drawn, make):
        """The claims of this learner up to the next meeting point: as they are `drawn`, or make(lo, hi, ...)."""
        return drawn

    def finish(self):
        """A step is done: the one of the first claim that was not."""

    def begin(self, comm, facts, met, request):
        """Before the first step, after `met` meeting points; facts as `facts` gives them, a run.Request.

        Raises BadInput, on all learners.
        """

    def meet(self, comm):
        """All learners have come to a meeting point."""


class Recording(Journal):
    """Notes what happens, and adds it to the file at `path` at every meeting point."""

    ordered = True

    def __init__(self, path):
        super().__init__()
        self.path, self.taken, self.tickets, self.done = path, [], [], 0

    def begin(self, comm, facts, met, request):
        comm.first(create, self.path, facts, met, request.force, bool(request.resume))

    @contextmanager
    def lock(self, window, ranks):
        with window.lock(ranks) as tickets:
            position, number = self.taken[self.done][3] if self.taken else -1, self.windows.index(window)
            self.tickets += [(number, rank, ticket, position) for rank, ticket in tickets.items()]
            yield tickets

    def claims(self, drawn, make):
        for claim in drawn:
            self.taken.append((claim.lo, claim.hi, claim.samples, claim.at))
            yield claim

    def finish(self):
        self.done += 1

    def meet(self, comm):
        everybody = comm.allgather((self.taken, self.tickets))
        self.taken, self.tickets, self.done = [], [], 0
        comm.first(self.append, everybody)

    def append(self, everybody):
        with writing(self.path, 'make room, then go on with --resume auto'), open(self.path, 'ab') as file:
            file.write(pack(everybody))


class Replay(Journal):
    """Lets learners do what a record says."""

    replays = ordered = True

    def __init__(self, path):
        super().__init__()
        self.path = path

    def begin(self, comm, facts, met, request):
        self.take(comm.rank, comm.together(stretches, self.path, facts, met, comm.rank))

    def take(self, rank, stretches):
        """Be learner `rank`, whose claims and tickets up to each meeting point are `stretches`."""
        self.rank, self.stretches = rank, iter(stretches)
        self.meet(None)

    def meet(self, comm):
        """To the next stretch, if there is one."""
        claims, tickets = next(self.stretches, (None, np.empty((0, COLUMNS), int)))
        self.taken, self.tickets, self.place = claims, iter(tickets.tolist()), 0

    def lock(self, window, ranks):
        turns = {}
        for rank in sorted(set(ranks)):
            number, part, ticket, _ = next(self.tickets, (-1, -1, -1, -1))
            if (number, part) != (self.windows.index(window), rank):
                raise BadInput(f'{self.path}: says nothing of what rank {self.rank} changes of rank {rank} in its '
                               f'step {self.place + 1} after the last meeting point; it is of another run')
            turns[rank] = ticket
        return window.lock(ranks, turns)

    def claims(self, drawn, make):
        if self.taken is None:
            raise BadInput(f'{self.path}: ends before this run does; give the --epochs of the run that was recorded')
        return (make(*claim) for claim in self.taken.tolist())

    def finish(self):
        self.place += 1


def pack(everybody):
    """The block of [(claims, tickets)] of all learners."""
    tables = [np.array(rows, NUMBER).reshape(-1, COLUMNS) for pair in everybody for rows in pair]
    counts = np.array([len(table) for table in tables], NUMBER)
    body = zlib.compress(b''.join([counts.tobytes(), *(changes(table) for table in tables)]))
    return len(body).to_bytes(8, 'little') + body


def changes(table):
    """Column by column, the difference of each number to the one before."""
    return np.diff(table, axis=0, prepend=np.zeros((1, COLUMNS), NUMBER)).T.tobytes()


def unpack(body, learners):
    """[(claims, tickets)] of so many learners, tables [rows, COLUMNS].  Raises ValueError where it is damaged."""
    try:
        numbers = np.frombuffer(zlib.decompress(body), NUMBER)
    except zlib.error as e:
        raise ValueError(str(e)) from None
    counts, at, tables = numbers[:2*learners], 2*learners, []
    for count in counts.tolist():
        columns = numbers[at:at + count*COLUMNS].reshape(COLUMNS, count)
        tables.append(np.cumsum(columns, 1).T)
        at += count*COLUMNS
    if at != len(numbers) or len(counts) != 2*learners:
        raise ValueError(f'{len(numbers)} numbers, {at} expected')
    return list(zip(tables[::2], tables[1::2], strict=True))


def get_journal(request):
    """The Journal that a run.Request asks for.  Raises BadInput."""
    if request.record and request.replay:
        raise BadInput('--record and --replay: give one of them; a replay would only record the same again')
    return Recording(request.record) if request.record else Replay(request.replay) if request.replay else Journal()


def facts(config, total, digest, ranks, first=0):
    """What the line at the head of a record says: of which run it is.

    total, digest   samples of an epoch, and of what store
    first           meeting points before those it tells of
    """
    kept = {k: v for k, v in config.flat().items() if k not in FREE and not k.startswith('simulate.')}
    return {'format': FORMAT[0], 'version': FORMAT[1], 'ranks': ranks, 'total': total, 'store': digest, 'first': first,
            'config': kept}


def create(path, facts, first, force=False, resumed=False):
    """Make the file of a Recording that begins, or goes on, at meeting point `first`.

    Raises BadInput where there is one that must not be lost: of another run, or, unless `resumed`, of any.
    """
    path, kept = pathlib.Path(path), []
    if path.exists() and not force:
        if not resumed:
            raise BadInput(f'--record {path}: exists; choose another name, or add --force to replace it')
        found, blocks = read(path)
        require_same_run(path, found, facts, found['first'])
        if not found['first'] <= first <= found['first'] + len(blocks):
            raise BadInput(f'--record {path}: tells of the meeting points {found["first"]} to '
                           f'{found["first"] + len(blocks)}, and the run goes on from {first}; give another --record')
        kept = blocks[:first - found['first']]
        first = found['first']
    with writing(path, 'make room, or choose another --record'):
        path.write_bytes((json.dumps(facts | {'first': first}) + '\n').encode() + b''.join(kept))


def read(path):
    """(facts, [block]) of a record.  Raises BadInput where it is none, or damaged."""
    try:
        content = pathlib.Path(path).read_bytes()
        line = content[:HEADER].partition(b'\n')[0]
        found = json.loads(line)
        if (found['format'], found['version']) != FORMAT:
            raise ValueError(f'format {found["format"]} {found["version"]} is not read by this version')
        return found, cut(content[len(line) + 1:])
    except OSError as e:
        raise BadInput(f'{path}: {e.strerror}; give the FILE of a run with --record FILE') from None
    except (ValueError, KeyError, TypeError) as e:
        raise BadInput(f'{path}: not a whole record of a run ({e}); give the FILE of a run with --record FILE'
                       ) from None


def cut(content):
    """The blocks of the file behind its first line."""
    blocks, at = [], 0
    while at < len(content):
        end = at + 8 + int.from_bytes(content[at:at + 8], 'little')
        if end > len(content):
            raise ValueError(f'it ends inside of block {len(blocks) + 1}')
        blocks.append(content[at:end])
        at = end
    return blocks


def require_same_run(path, then, now, first):
    """BadInput unless a record is one of the run that starts."""
    differ = [f'{k} = {then["config"].get(k)} in the record, {v} now' for k, v in now['config'].items()
              if then['config'].get(k) != v]
    if then['ranks'] != now['ranks']:
        raise BadInput(f'{path}: is the record of {then["ranks"]} ranks, and there are {now["ranks"]}; start '
                       f'{then["ranks"]}, or as many virtual learners')
    if (then['store'], then['total']) != (now['store'], now['total']):
        raise BadInput(f'{path}: is the record of a run on other data; give the store, and --dev, of that run')
    if differ:
        raise BadInput(f'{path}: is the record of another run: {"; ".join(differ[:3])}')
    if then['first'] > first:
        raise BadInput(f'{path}: begins at meeting point {then["first"]}; replay it with --resume from a checkpoint')


def stretches(path, facts, first, rank):
    """[(claims, tickets)] of learner `rank` between the meeting points from `first` on.  Raises BadInput."""
    found, blocks = read(path)
    require_same_run(path, found, facts, first)
    own = []
    for k, block in enumerate(blocks[first - found['first']:], first):
        try:
            stretch = unpack(block[8:], found['ranks'])
        except ValueError as e:
            raise BadInput(f'{path}: the block after meeting point {k} is damaged ({e})') from None
        require_whole(path, k, stretch)
        own.append(stretch[rank])
    return own


def require_whole(path, k, stretch):
    """BadInput where a ticket is missing or there twice: a learner would wait for it for ever."""
    tickets = np.concatenate([tickets for _, tickets in stretch])
    ordered = tickets[np.lexsort(tickets.T[2::-1])]
    for at, (window, part, ticket, _) in enumerate(ordered.tolist()):
        same = at and (ordered[at - 1, :2] == (window, part)).all()
        if ticket != (ordered[at - 1, 2] + 1 if same else 0):
            raise BadInput(f'{path}: between the meeting points {k} and {k + 1} the order of what was done to rank '
                           f'{part} misses the entry before its number {ticket}')
