"""The flight recorder of a rank: its last exchanges, and a beat that says that it gets on.

It lies in memory that the rank shares with the process that supervises it (faults.supervise), which can read it when
the rank is stopped, loops or waits inside of a library.  Some writes to memory for each exchange, 1 to 2 µs: it is
always on.  One recorder for the process; of virtual learners, which are threads of one, only the beat tells anything.

    words [WORDS]      int64: beats, exchanges, steps, samples, ranks of whose parts it holds the locks (pack)
    counts [GROUPS]    int64: collectives begun in each group of ranks
    ring [RECORDS]     the last exchanges
    text               JSON: what `tell` was told
"""

import json
import mmap
import struct
from contextlib import contextmanager
from time import monotonic

(BARRIER, SUM, SLICES, SHARE, EXCHANGE, GATHER, BROADCAST, FINISH, GET, PUT, ADD, COUNTER, TICKET, AWAIT,
 MAKE) = range(15)
KINDS = ('a barrier', 'a sum', 'a sum of slices', 'the sharing of slices', 'an exchange', 'a gathering', 'a broadcast',
         'the end of its exchanges', 'a get', 'a put', 'an add', 'a counter', 'a lock', 'a wait for the others',
         'a split or a window')
BEATS, EXCHANGES, STEPS, SAMPLES, HELD = range(5)
WORDS, GROUPS, RECORDS = 8, 56, 64
RECORD = struct.Struct('<6q2d')  # number, kind, group, peers, n, step, began, ended
ENDED = struct.Struct('<d')
RING = 8*(WORDS + GROUPS)
TEXT = RING + RECORDS*RECORD.size
SIZE = 1 << 20


def shared():
    """Memory for a recorder, of this process and of those that it forks."""
    return mmap.mmap(-1, SIZE)


class Flight:
    """What one process writes into `memory`."""

    def __init__(self, memory):
        self.memory, self.told, self.groups = memory, {}, {}
        self.words = memoryview(memory)[:RING].cast('q')
        self.record = RECORD.pack_into

    def begin(self, kind, group=0, peers=0, n=0):
        """Begin an exchange; return the mark that `end` wants.

        group   as `group` gives it;  peers   of them, whom it concerns, as `pack` gives them; 0: all
        n       its number, where the group counts them, or that of a ticket
        """
        words = self.words
        number = words[EXCHANGES] = words[EXCHANGES] + 1
        mark = RING + number % RECORDS*RECORD.size
        self.record(self.memory, mark, number, kind, group, peers, n, words[STEPS], monotonic(), 0.0)
        return mark

    def end(self, mark):
        ENDED.pack_into(self.memory, mark + 56, monotonic())

    def beat(self):
        """This rank gets on.  Not to be called by who waits for another one."""
        self.words[BEATS] += 1

    def step(self, samples):
        """A step is done; `samples` of all ranks are."""
        words = self.words
        words[STEPS], words[SAMPLES], words[BEATS] = words[STEPS] + 1, samples, words[BEATS] + 1

    def collective(self, group):
        """The number of the next collective of `group`, from 1: it begins now."""
        self.words[WORDS + group] += 1
        return self.words[WORDS + group]

    @contextmanager
    def holding(self, ranks):
        """It holds the locks of the parts of `ranks`."""
        before, self.words[HELD] = self.words[HELD], pack(ranks)
        try:
            yield
        finally:
            self.words[HELD] = before

    def group(self, members):
        """The number of a new group of ranks `members` [L]; those beyond GROUPS are told as one."""
        number = min(len(self.groups) + 1, GROUPS - 1)
        self.groups[number] = list(members)
        self.tell(groups=self.groups)
        return number

    def tell(self, **facts):
        """Add to the text."""
        self.told |= facts
        text = json.dumps(self.told).encode()
        if len(text) < SIZE - TEXT - 8:
            self.memory[TEXT + 8:TEXT + 8 + len(text)] = text
            self.memory[TEXT:TEXT + 8] = struct.pack('<q', len(text))


def pack(ranks):
    """The first three of some ranks, and whether there are more, in 64 bits; 0: none."""
    word = 0
    for k, rank in enumerate(ranks):
        if k == 3:
            return word | MORE
        word |= rank + 1 << 20*k
    return word


MORE = 1 << 60


def unpack(word):
    return [rank - 1 for k in range(3) if (rank := word >> 20*k & 0xfffff)]


def read(memory):
    """The state of the rank that writes there, as JSON values, or None while it is writing.

    doing    the exchanges that have begun and not ended, outermost first;  recent   all of the ring, oldest first
    """
    words = memoryview(memory)[:RING].cast('q')
    text = memory[TEXT + 8:TEXT + 8 + struct.unpack_from('<q', memory, TEXT)[0]]
    try:
        told = json.loads(text or b'{}')
    except ValueError:
        return None
    rows = sorted(row for row in RECORD.iter_unpack(memory[RING:TEXT]) if row[0])
    recent = [told_of(row, told.get('groups', {})) for row in rows]
    return {'beats': words[BEATS], 'step': words[STEPS] + 1, 'samples': words[SAMPLES], 'held': unpack(words[HELD]),
            'counts': {key(g, told.get('groups', {})): words[WORDS + g] for g in range(GROUPS) if words[WORDS + g]},
            'doing': [row for row in recent if not row['ended']], 'recent': recent,
            **{k: v for k, v in told.items() if k != 'groups'}}


def told_of(row, groups):
    """One record in words."""
    number, kind, group, peers, n, step, began, ended = row
    members = groups.get(str(group))
    peers = [members[p] if members else p for p in unpack(peers)]
    return {'number': number, 'kind': kind, 'group': key(group, groups), 'members': members, 'peers': peers, 'n': n,
            'step': step + 1, 'began': began, 'ended': ended}


def key(group, groups):
    """A name of a group that is the same on all of its ranks."""
    return f'{group} {groups.get(str(group), "")}'


FLIGHT = Flight(bytearray(SIZE))
begin, end, beat, step = FLIGHT.begin, FLIGHT.end, FLIGHT.beat, FLIGHT.step
collective, holding, group, tell = FLIGHT.collective, FLIGHT.holding, FLIGHT.group, FLIGHT.tell


def use(memory):
    """Write into `memory` from here on."""
    FLIGHT.__init__(memory)
