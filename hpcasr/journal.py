"""The record of an asynchronous run: who computed which samples, and in which order the windows were changed.

With it a run can be repeated bit for bit, on ranks or on virtual learners.

FILE:  a line of JSON that says of which run it is, then a block for every stretch between two meeting points.  A block
is a piece, and holds one piece for every learner; a piece is preceded by its length in 8 bytes.  That of a learner is
zlib-compressed int64, little-endian: the number of its claims and of its tickets, then the claims (lo, hi, samples,
position) and the tickets (window, part, ticket, position), column by column, each number as the difference to the one
before.  The position of a ticket is that of the claim in whose step it was drawn; -1: in none.
"""

import json
import os
import pathlib
import zlib
from array import array
from collections import deque
from contextlib import contextmanager, suppress

import numpy as np

from hpcasr.checkpoint import write_file, writing
from hpcasr.errors import AgreedBadInput, BadInput
from hpcasr.given import bytes_of, parsed
from hpcasr.resume import CHANGES_NO_BIT

FORMAT = 'hpcasr-record', 1
HEAD = {'ranks': int, 'total': int, 'first': int, 'store': str, 'dev': str, 'config': dict, 'versions': dict}
COLUMNS = 4
NUMBER = '<i8'
LENGTH = 8  # bytes
COUNTS, ENTRY = 16, 8*COLUMNS  # bytes of the numbers of claims and tickets, of one of either
MOST = 1032  # bytes that zlib makes of one
LINE = 1 << 20  # bytes that the head has at most
GIVE = 'give the FILE of a run with --record FILE'


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

    def describe(self):
        """Lines for the log, once it has begun."""
        return []

    def arrive(self):
        """This learner has changed all that it changes up to the meeting point."""

    def meet(self, comm):
        """All learners have come to a meeting point."""


class Recording(Journal):
    """Notes what happens, and adds it to the file at `path` at every meeting point.

    taken, tickets   rows of the stretch so far
    open             positions of the claims whose steps are not done
    """

    ordered = True

    def __init__(self, path):
        super().__init__()
        self.path, self.open = pathlib.Path(path), deque()
        self.taken, self.tickets = array('q'), array('q')  # 32 bytes a row, where lists would have 200

    def begin(self, comm, facts, met, request):
        comm.first(create, self.path, facts, met, request.force, bool(request.resume))

    @contextmanager
    def lock(self, window, ranks):
        with window.lock(ranks) as tickets:
            position, number = self.open[0] if self.open else -1, self.windows.index(window)
            for rank, ticket in tickets.items():
                self.tickets.extend((number, rank, ticket, position))
            yield tickets

    def claims(self, drawn, make):
        for claim in drawn:
            self.taken.extend((claim.lo, claim.hi, claim.samples, claim.at))
            self.open.append(claim.at)
            yield claim

    def finish(self):
        self.open.popleft()

    def meet(self, comm):
        pieces = shared(comm, pack(self.taken, self.tickets))
        self.taken, self.tickets = array('q'), array('q')
        comm.first(self.append, b''.join(map(piece, pieces)))

    def append(self, block):
        """A kill in here leaves a part of the block, which `create` drops: its checkpoint was not written yet."""
        with writing(self.path, 'make room, then go on with --resume auto'), open(self.path, 'ab') as file:
            file.write(piece(block))
            file.flush()
            os.fsync(file.fileno())


class Replay(Journal):
    """Lets learners do what a record says."""

    replays = ordered = True

    def __init__(self, path):
        super().__init__()
        self.path = path

    def begin(self, comm, facts, met, request):
        found, own = comm.together(stretches, self.path, facts, met, comm.rank)
        then, now = found['versions'], facts['versions']
        self.differing = [f'{k} {then.get(k)} then, {v} now' for k, v in now.items() if then.get(k) != v]
        self.take(comm.rank, own)

    def describe(self):
        differing = '; not bit-identical, perhaps: '*bool(self.differing) + '; '.join(self.differing)
        return [f'replay    {self.path}{differing}']

    def take(self, rank, stretches):
        """Be learner `rank`, whose claims and tickets up to each meeting point are `stretches`."""
        self.rank, self.stretches = rank, iter(stretches)
        self.meet(None)

    def meet(self, comm):
        """To the next stretch, if there is one."""
        self.taken, self.tickets = next(self.stretches, (None, np.empty((0, COLUMNS), int)))
        self.done, self.drawn = 0, 0  # of both

    def lock(self, window, ranks):
        turns, number = {}, self.windows.index(window)
        for rank in sorted(set(ranks)):
            row = self.tickets[self.drawn:self.drawn + 1].ravel().tolist()
            if row[:2] != [number, rank]:
                raise BadInput(f'{self.path}: says nothing of what rank {self.rank} changes of rank {rank} in its '
                               f'step {self.done + 1} after the last meeting point; it is of another run')
            turns[rank] = row[2]
            self.drawn += 1
        return window.lock(ranks, turns)

    def claims(self, drawn, make):
        if self.taken is None:  # on all learners
            raise AgreedBadInput(f'{self.path}: ends before this run does; what it tells of is done, and checkpointed: '
                                 'replay the epochs that were recorded (--epochs), or go on with --resume auto alone')
        return (make(*claim) for claim in map(np.ndarray.tolist, self.taken))

    def finish(self):
        self.done += 1

    def arrive(self):
        """Raises BadInput rather than leave the others waiting for tickets that this learner does not take."""
        if (self.tickets[self.drawn:, 3] >= 0).any():
            raise BadInput(f'{self.path}: tells of more changes by rank {self.rank} in its {self.done} steps after the '
                           'last meeting point than it makes; it is of another run')


def shared(comm, body):
    """The `body`, bytes, of every learner, one after the other; it may be large."""
    for rank, size in enumerate(comm.allgather(len(body))):
        x = np.frombuffer(body, np.uint8).copy() if rank == comm.rank else np.empty(size, np.uint8)
        comm.broadcast(x, rank)
        yield x.tobytes()


def pack(claims, tickets):
    """The piece of a learner."""
    tables = [np.asarray(rows, NUMBER).reshape(-1, COLUMNS) for rows in (claims, tickets)]
    counts = np.array([len(table) for table in tables], NUMBER)
    return zlib.compress(b''.join([counts.tobytes(), *map(changes, tables)]))


def changes(table):
    """Column by column, the difference of each number to the one before."""
    return np.diff(table, axis=0, prepend=np.zeros((1, COLUMNS), NUMBER)).T.tobytes()


def unpack(body):
    """(claims, tickets) of a learner, tables [rows, COLUMNS].  Raises ValueError where it is damaged."""
    unpacking = zlib.decompressobj()
    try:
        claims, tickets = np.frombuffer(unpacking.decompress(body, COUNTS), NUMBER).tolist()
        size = COUNTS + ENTRY*(claims + tickets)
        if min(claims, tickets) < 0 or size > MOST*len(body):
            raise ValueError(f'{claims} claims and {tickets} tickets in {len(body)} bytes')
        rest = unpacking.decompress(unpacking.unconsumed_tail, size - COUNTS + 1)  # no more than can be right
    except zlib.error as e:
        raise ValueError(str(e)) from None
    numbers = np.frombuffer(rest[:len(rest)//ENTRY*ENTRY], NUMBER)
    if len(rest) != size - COUNTS or not unpacking.eof:
        raise ValueError(f'{len(rest)} bytes for {claims} claims and {tickets} tickets')
    both = numbers[:COLUMNS*claims], numbers[COLUMNS*claims:]
    return tuple(np.cumsum(columns.reshape(COLUMNS, -1), 1).T for columns in both)


def piece(body):
    return len(body).to_bytes(LENGTH, 'little') + body


def cut(content):
    """([body of a piece], how many bytes are left of one that is not whole)."""
    bodies, at = [], 0
    while at < len(content):
        end = at + LENGTH + int.from_bytes(content[at:at + LENGTH], 'little')
        if end > len(content) or at + LENGTH > len(content):
            break
        bodies.append(content[at + LENGTH:end])
        at = end
    return bodies, len(content) - at


def get_journal(request):
    """The Journal that a run.Request asks for.  Raises BadInput."""
    if request.record and request.replay:
        raise BadInput('--record and --replay: give one of them; a replay would only record the same again')
    return Recording(request.record) if request.record else Replay(request.replay) if request.replay else Journal()


def facts(config, task, versions, first=0):
    """What the head of a record says: of which run it is.

    task       data.task.Task
    versions   what can change the bits, `ranks` being the number of learners
    first      meeting points before those it tells of
    """
    kept = {k: v for k, v in config.flat().items() if k not in CHANGES_NO_BIT and not k.startswith('simulate.')}
    return {'format': FORMAT[0], 'version': FORMAT[1], 'ranks': versions['ranks'], 'total': len(task.chunks),
            'store': task.corpus.digest, 'dev': task.dev_digest, 'first': first, 'config': kept, 'versions': versions}


def create(path, facts, first, force=False, resumed=False):
    """Make the file of a Recording that begins, or goes on, at meeting point `first`.

    Raises BadInput where there is one that must not be lost: of another run, or, unless `resumed`, of any.
    """
    kept = []
    if os.path.lexists(path) and not os.path.isfile(path):
        raise BadInput(f'--record {path}: is not a file; choose another name')
    if os.path.isfile(path) and not force:
        if not resumed:
            raise BadInput(f'--record {path}: exists; choose another name, or add --force to replace it')
        facts, kept = go_on(path, facts, first)
    else:
        facts = facts | {'first': first}
    line = (json.dumps(facts) + '\n').encode()
    replace(path, b''.join([line, *map(piece, kept)]))


def go_on(path, facts, first):
    """(head, blocks) of the record at `path` up to meeting point `first`.  What is behind it will be recorded again."""
    found, blocks, _ = read(path)
    require_same_run(f'--record {path}', found, facts, found['first'])
    begins, ends = found['first'], found['first'] + len(blocks)
    if not begins <= first <= ends:
        raise BadInput(f'--record {path}: tells of the meeting points {begins} to {ends}, and the run goes on from '
                       f'{first}; give another --record')
    if not first and ends > 1:  # a run that was ended before its first checkpoint has come to one meeting point at most
        raise BadInput(f'--record {path}: tells of a run up to meeting point {ends}, and there is no checkpoint to go '
                       'on from; choose another name, or add --force to replace it')
    return found, blocks[:first - begins]


def replace(path, content):
    """Write a file, or leave it as it was."""
    real = pathlib.Path(os.path.realpath(path))
    draft = real.with_name(f'.{real.name}.part')
    with writing(path, 'make room, or choose another --record'):
        try:
            write_file(draft, content)
            os.replace(draft, real)
        finally:
            with suppress(OSError):
                draft.unlink()


def read(path):
    """(head, [block], how many bytes are left of one that is not whole).  Raises BadInput where it is no record."""
    try:
        content = bytes_of(path)
        line = content[:LINE].partition(b'\n')[0]
        found = parsed(line.decode())
        require_head(found)
        return found, *cut(content[len(line) + 1:])
    except OSError as e:
        raise BadInput(f'{path}: {e.strerror}; {GIVE}') from None
    except (ValueError, KeyError, TypeError) as e:
        raise BadInput(f'{path}: not the record of a run ({e}); {GIVE}') from None


def require_head(found):
    """Raise ValueError, KeyError or TypeError unless it is what `facts` makes."""
    if (found['format'], found['version']) != FORMAT:
        raise ValueError(f'format {found["format"]} {found["version"]} is not read by this version')
    wrong = [k for k, kind in HEAD.items() if type(found.get(k)) is not kind]
    if wrong or found['first'] < 0:
        raise ValueError(f'its head is damaged: {", ".join(wrong) or "first"}')


def require_same_run(path, then, now, first):
    """BadInput unless a record is one of the run that starts."""
    differ = [f'{k} = {then["config"].get(k)} in the record, {v} now' for k, v in now['config'].items()
              if then['config'].get(k) != v]
    if then['ranks'] != now['ranks']:
        raise BadInput(f'{path}: is the record of {then["ranks"]} ranks, and there are {now["ranks"]}; start '
                       f'{then["ranks"]}, or as many virtual learners')
    if then.get('nodes') != now.get('nodes'):
        raise BadInput(f'{path}: is the record of nodes of {then.get("nodes")} ranks, and now they are of '
                       f'{now.get("nodes")}; give the --node-size of that run')
    if differ:
        raise BadInput(f'{path}: is the record of another run: {"; ".join(differ[:3])}')
    if any(then[k] != now[k] for k in ('store', 'dev', 'total')):
        raise BadInput(f'{path}: is the record of a run on other data; give the store, and --dev, of that run')
    if then['first'] > first:
        raise BadInput(f'{path}: begins at meeting point {then["first"]}; replay it with --resume from a checkpoint')


def stretches(path, facts, first, rank):
    """(head, [(claims, tickets)]) of learner `rank` between the meeting points from `first` on.  Raises BadInput."""
    found, blocks, left = read(path)
    require_same_run(path, found, facts, first)
    if left:
        raise BadInput(f'{path}: ends inside of block {len(blocks) + 1}; go on with its run (--resume auto --record), '
                       'which mends it, or give another record')
    if first > found['first'] + len(blocks):
        raise BadInput(f'{path}: ends at meeting point {found["first"] + len(blocks)}, and the checkpoint was made at '
                       f'{first}; give an earlier checkpoint, or the record of the run that made it')
    own = []
    for k, block in enumerate(blocks[first - found['first']:], first):
        where = f'{path}: between meeting points {k} and {k + 1}'
        stretch = learners(where, block, found['ranks'])
        require_every_sample(where, [claims for claims, _ in stretch], found['total'])
        for learner, (claims, tickets) in enumerate(stretch):
            require_own(where, learner, claims, tickets)
        require_every_ticket(where, [tickets for _, tickets in stretch])
        own.append(stretch[rank])
    return found, own


def learners(where, block, ranks):
    """[(claims, tickets)] of every learner in a block.  Raises BadInput."""
    bodies, left = cut(block)
    if left or len(bodies) != ranks:
        raise BadInput(f'{where} it tells of {len(bodies)} ranks, not of {ranks}; {GIVE}')
    found = []
    for rank, body in enumerate(bodies):
        try:
            found.append(unpack(body))
        except ValueError as e:
            raise BadInput(f'{where} what it says of rank {rank} is damaged ({e}); {GIVE}') from None
    return found


def require_every_sample(where, claims, total):
    """BadInput unless the claims of a stretch follow one another without a gap, inside of an epoch of `total`."""
    rows = np.concatenate(claims)
    rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
    lo, hi = rows[:, 0], rows[:, 1]
    if len(rows) and ((lo > hi).any() or lo[0] < 0 or hi[-1] > total or (lo[1:] != hi[:-1]).any()):
        at = next((int(a) for a, b in zip(hi, lo[1:], strict=False) if a != b), 0)
        raise BadInput(f'{where} a sample is missing, or there twice, from {at} of the epoch on; {GIVE}')


def require_own(where, rank, claims, tickets):
    """BadInput where tickets were drawn in a step of which no claim tells."""
    unknown = ~np.isin(tickets[:, 3], np.append(claims[:, 3], -1))
    if unknown.any():
        raise BadInput(f'{where} rank {rank} changes something in a step from sample {tickets[unknown][0, 3]} on, '
                       f'which it has not claimed; {GIVE}')


def require_every_ticket(where, tickets):
    """BadInput where a ticket is missing or there twice: a learner would wait for it for ever."""
    rows = np.concatenate(tickets)
    rows = rows[np.lexsort(rows.T[2::-1])]
    same = np.diff(rows[:, :2], axis=0, prepend=-1).any(1) == 0
    due = np.where(same, np.roll(rows[:, 2], 1) + 1, 0)
    if (rows[:, 2] != due).any():
        _, part, ticket, _ = rows[rows[:, 2] != due][0].tolist()
        raise BadInput(f'{where} the order of what was done to rank {part} misses the entry before its number '
                       f'{ticket}, or has that twice; {GIVE}')
