"""Kaldi's final.mdl, of which the transition model is read: which pdf and which phone a transition-id belongs to.

Layout, text and binary: https://kaldi-asr.org/doc/hmm.html, HmmTopology and TransitionModel in Kaldi's src/hmm.
Transition-ids count from 1: for every tuple (phone, HMM state, pdf, pdf of the self-loop), in their order, the
transitions that leave this HMM state in the topology of the phone.
"""

import mmap
import os
import re
import stat
import struct

import numpy as np

from hpcasr.data.kaldi import INT32, shown
from hpcasr.errors import BadInput

BINARY = b'\0B'
END = b'</TransitionModel>'
TUPLES = {b'<Triples>': 3, b'<Tuples>': 4}  # the latter where a self-loop has a pdf of its own
CLASSES = b'<PdfClass>', b'<ForwardPdfClass>', b'<SelfLoopPdfClass>'
MOST = 10_000_000  # pdfs, phones


class TransitionModel:
    """The transition model at the beginning of the file `path`.  Raises BadInput.

    pdf_of, phone_of   [I + 1] int32, by transition-id; entry 0, which no transition has, is -1
    num_pdfs           the largest pdf-id + 1
    """

    def __init__(self, path):
        self.path = path
        try:
            self.number(*read(contents(path)))
        except (ValueError, OverflowError, IndexError, struct.error) as e:
            why = shown(' '.join(str(e).split()), 100)
            raise BadInput(f'{path}: not a Kaldi model, or a damaged one ({why}); give the final.mdl with which the '
                           f'alignment was made') from None

    def number(self, topology, tuples, num_ids):
        """Number the transitions of `tuples` [N, 4]; `topology` is {phone: [[target states] of every HMM state]}."""
        leaving = [arcs(topology, phone, state) for phone, state in tuples[:, :2].tolist()]
        sizes = np.array([len(targets) for targets in leaving])
        if sizes.sum() != num_ids:  # before anything of that size is made
            raise ValueError(f'{sizes.sum()} transitions with {num_ids} probabilities')
        loops = np.repeat(tuples[:, 1], sizes) == np.concatenate(leaving)
        forward, loop = (np.repeat(tuples[:, k], sizes) for k in (2, 3))
        self.pdf_of = np.concatenate([[-1], np.where(loops, loop, forward)]).astype(np.int32)
        self.phone_of = np.concatenate([[-1], np.repeat(tuples[:, 0], sizes)]).astype(np.int32)
        self.num_pdfs = int(tuples[:, 2:].max()) + 1

    def pdfs(self, ids, where):
        """The pdf-ids [T] of transition-ids [T]; `where` names the utterance in errors."""
        known = len(self.pdf_of) - 1
        if len(ids) and not 1 <= ids.min() <= ids.max() <= known:
            wrong = ids[(ids < 1) | (ids > known)][0]
            raise BadInput(f'{where}: {wrong} is no transition-id of {self.path}, which has 1..{known}; give the '
                           f'final.mdl of this alignment (pdf-ids need none: --num-pdfs)')
        return self.pdf_of[ids]


def contents(path):
    """The bytes of a file, mapped."""
    try:
        with open(path, 'rb', opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK)) as f:
            if not stat.S_ISREG(os.fstat(f.fileno()).st_mode):  # a pipe may never end
                raise BadInput(f'{path}: is no file; give the final.mdl of the alignment')
            return mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) if os.fstat(f.fileno()).st_size else b''
    except OSError as e:
        raise BadInput(f'{path}: {e.strerror}; give the final.mdl of the alignment') from None


def read(raw):
    """(topology, tuples [N, 4], number of transition-ids) of the bytes of a model.  ValueError if they are none."""
    if raw[:2] == BINARY:
        source, topology = Binary(raw, 2), binary_topology
    else:
        end = raw.find(END)
        source, topology = Text(raw[:end + len(END)] if end >= 0 else b''), text_topology
    source.expect(b'<TransitionModel>')
    source.expect(b'<Topology>')
    phones = topology(source)
    width = TUPLES.get(mark := source.token())
    if not width:
        raise ValueError(f'expected <Triples> or <Tuples>, found {mark.decode("ascii", "replace")}')
    tuples = source.integers(width*source.integer()).reshape(-1, width)
    source.expect(b'</' + mark[1:])
    source.expect(b'<LogProbs>')
    size = source.vector()
    source.expect(b'</LogProbs>')
    source.expect(END)
    refuse_disorder(tuples)
    return phones, np.c_[tuples, tuples[:, 2]][:, :4], size - 1


def refuse_disorder(tuples):
    """ValueError unless the tuples are some, distinct, sorted as Kaldi sorts them, and of possible size."""
    if not len(tuples) or tuples.min() < 0 or tuples[:, [0, *range(2, tuples.shape[1])]].max() > MOST:
        raise ValueError('impossible tuples')
    steps = np.diff(tuples, axis=0)
    first = steps[np.arange(len(steps)), (steps != 0).argmax(1)]  # the first column in which two neighbours differ
    if not (first > 0).all():
        raise ValueError('tuples out of order')


def arcs(topology, phone, state):
    if phone not in topology or state >= len(topology[phone]):
        raise ValueError(f'phone {phone} has no state {state}')
    return topology[phone][state]


def binary_topology(source):
    """{phone: states} of a topology; a state is the list of those that its transitions lead to."""
    phones, entry_of = source.plain_vector(), source.plain_vector()
    count = source.integer()
    classes = 2 if count == -1 else 1  # -1: forward and self-loop classes differ
    if count == -1:
        count = source.integer()
    entries = [[binary_state(source, classes) for _ in source.times()] for _ in source.times(count)]
    source.expect(b'</Topology>')
    if not ((0 <= phones) & (phones < len(entry_of))).all() or (entry_of[phones] < 0).any():
        raise ValueError('a phone without topology')
    return {phone: entries[k] for phone, k in zip(phones.tolist(), entry_of[phones].tolist(), strict=True)}


def binary_state(source, classes):
    source.integers(classes)
    return [source.arc() for _ in source.times()]


def text_topology(source):
    """The same of text."""
    found = {}
    while (token := source.token()) == b'<TopologyEntry>':
        source.expect(b'<ForPhones>')
        phones = [integer(word) for word in source.until(b'</ForPhones>')]
        states = []
        while (token := source.token()) == b'<State>':
            states.append(text_state(source))
        require(token, b'</TopologyEntry>')
        found |= dict.fromkeys(phones, states)
    require(token, b'</Topology>')
    return found


def text_state(source):
    source.integer()
    while (token := source.token()) in CLASSES:
        source.integer()
    targets = []
    while token == b'<Transition>':
        targets.append(source.arc())
        token = source.token()
    require(token, b'</State>')
    return targets


def require(token, expected):
    if token != expected:
        raise ValueError(f'expected {expected.decode()}, found {token.decode("ascii", "replace") or "the end"}')


def integer(word):
    if not re.fullmatch(rb'-?\d{1,10}', word):
        raise ValueError(f'expected a number, found {word.decode("ascii", "replace")}')
    return int(word)


class Source:
    """What both forms share."""

    def expect(self, token):
        require(self.token(), token)

    def integer(self):
        return int(self.integers(1)[0])

    def times(self, count=None):
        """range(count); by default of the count that comes next.  As many items need as many bytes."""
        count = self.integer() if count is None else count
        if not 0 <= count <= self.left():
            raise ValueError(f'{count} items in {self.left()} bytes')
        return range(count)


class Text(Source):
    """Words."""

    def __init__(self, raw):
        self.words, self.at = raw.split(), 0

    def left(self):
        return len(self.words) - self.at

    def token(self):
        self.at += 1
        return self.words[self.at - 1] if self.at <= len(self.words) else b''

    def integers(self, n):
        if not 0 <= n <= self.left():
            raise ValueError(f'{n} numbers in {self.left()} words')
        self.at += n
        return np.array([integer(word) for word in self.words[self.at - n:self.at]], np.int64)

    def until(self, token):
        """The words before `token`, which is passed over."""
        start, self.at = self.at, self.words.index(token, self.at) + 1
        return self.words[start:self.at - 1]

    def arc(self):
        """The state to which a transition leads; its probability is passed over."""
        target = self.integer()
        float(self.token())
        return target

    def vector(self):
        """How many numbers a vector `[ ... ]` has."""
        self.expect(b'[')
        return len([float(word) for word in self.until(b']')])


class Binary(Source):
    """Tokens that end in a blank; numbers after the byte that says their size."""

    def __init__(self, raw, at):
        self.raw, self.at = raw, at

    def left(self):
        return len(self.raw) - self.at

    def take(self, n):
        if not 0 <= n <= self.left():
            raise ValueError(f'{n} bytes where {self.left()} are left')
        self.at += n
        return self.raw[self.at - n:self.at]

    def token(self):
        end = self.raw.find(b' ', self.at, self.at + 40)
        return self.take((end - self.at if end >= 0 else self.left()) + (end >= 0)).rstrip(b' ')[:40]

    def integers(self, n):
        found = np.frombuffer(self.take(5*n), INT32)
        if (found['size'] != 4).any():
            raise ValueError('expected an int32')
        return found['value'].astype(np.int64)

    def plain_vector(self):
        """Integers that share one size byte: size, count, values."""
        if self.take(1) != b'\4':
            raise ValueError('expected a vector of int32')
        return np.frombuffer(self.take(4*struct.unpack('<i', self.take(4))[0]), '<i4').astype(np.int64)

    def arc(self):
        target, width = self.integer(), self.take(1)[0]
        if width not in (4, 8):
            raise ValueError('expected a probability')
        self.take(width)
        return target

    def vector(self):
        """How many numbers a vector of floats or doubles has."""
        width = {b'FV': 4, b'DV': 8}.get(self.token())
        if not width:
            raise ValueError('expected a vector of probabilities')
        n = self.integer()
        self.take(width*n)
        return n
