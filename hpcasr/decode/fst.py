"""Weighted transducers as arrays, to and from kaldifst through OpenFst's files: no Python loop over arcs."""

import struct
import tempfile
from dataclasses import dataclass

import kaldifst
import numpy as np

from hpcasr.errors import BadInput

ARC = np.dtype([('ilabel', '<i4'), ('olabel', '<i4'), ('weight', '<f4'), ('next', '<i4')])
STATE = np.dtype([('final', '<f4'), ('first', '<u4'), ('arcs', '<u4'), ('iepsilons', '<u4'), ('oepsilons', '<u4')])
MAGIC, VERSION = 2125659606, 2
MUTABLE = 3  # the properties expanded and mutable; nothing is said about the others
EPSILON = 0
COUNTS = 32  # bytes of properties, start, states and arcs, at the end of a header
STEP = 12  # bytes of a state before its arcs: its final cost, how many there are
COSTLY = 1e6  # nats; no sum of n-grams comes near it


@dataclass
class Fst:
    """A transducer over the tropical semiring.

    start   state
    finals  float32 [S] costs, inf: not a final state
    source  int32 [A] the states that the arcs leave
    arcs    ARC [A]: labels (0 = ε), cost, the state that they enter
    """

    start: int
    finals: np.ndarray
    source: np.ndarray
    arcs: np.ndarray

    @property
    def sizes(self):
        return {'states': len(self.finals), 'arcs': len(self.arcs)}


def arcs_of(ilabel, olabel, weight, target):
    """ARC [A] of arrays [A] or numbers."""
    arcs = np.empty(np.broadcast(ilabel, olabel, weight, target).shape, ARC)
    arcs['ilabel'], arcs['olabel'], arcs['weight'], arcs['next'] = ilabel, olabel, weight, target
    return arcs


def from_rows(rows, states, start, finals):
    """An Fst of [(source, ilabel, olabel, weight, next)] and {state: cost}."""
    columns = [np.array(column) for column in zip(*rows, strict=True)] if rows else [np.zeros(0, int)]*5
    costs = np.full(states, np.inf, np.float32)
    costs[list(finals)] = list(finals.values())
    return Fst(start, costs, columns[0].astype(np.int32), arcs_of(*columns[1:]))


def to_kaldifst(fst):
    """The kaldifst.StdVectorFst; arcs leave a state in the order that they have here."""
    with tempfile.NamedTemporaryFile(prefix='hpcasr-', suffix='.fst') as f:
        write(fst, f)
        f.flush()
        return kaldifst.StdVectorFst.read(f.name)


def write(fst, f):
    """Write OpenFst's `vector` form to the binary file `f`: per state its final cost, int64 number of arcs, arcs."""
    S, A = len(fst.finals), len(fst.arcs)
    order = np.argsort(fst.source, kind='stable')
    count = np.bincount(fst.source, minlength=S)
    source = fst.source[order].astype(np.int64)
    content = np.zeros(3*S + 4*A, '<i4')  # words of 32 bits: 3 of each state, 4 of each arc behind its state's
    state = 3*np.arange(S) + 4*(np.cumsum(count) - count)
    content[state], content[state + 1] = fst.finals.astype('<f4').view('<i4'), count
    arc = 3*(source + 1) + 4*np.arange(A)
    content[arc[:, None] + np.arange(4)] = fst.arcs[order].view('<i4').reshape(A, 4)
    f.write(header('vector', fst.start, S, A))
    f.write(content.tobytes())


def header(kind, start, states, arcs):
    return (struct.pack('<i', MAGIC) + text(kind) + text('standard')
            + struct.pack('<iiQqqq', VERSION, 0, MUTABLE, start, states, arcs))


def text(word):
    return struct.pack('<i', len(word)) + word.encode()


def parse_vector(content):
    """The Fst of a file of OpenFst's `vector` form over the tropical semiring.

    OpenFst trusts such a file: sizes, and states that arcs enter.  ValueError unless all of that is possible, no label
    is negative and no cost is NaN or less than any can be.
    """
    head = len(header('vector', 0, 0, 0))
    if content[:head - COUNTS] != header('vector', 0, 0, 0)[:head - COUNTS]:
        raise ValueError('its header is not what it should be')
    start, S, A = struct.unpack_from('<qqq', content, head - 24)
    finals, first, count = states_of(content, head, S)
    arcs = arcs_at(content, first, count)
    if not 0 <= start < S or A not in (-1, 0, len(arcs)) or not sound(finals, arcs, S):
        raise ValueError('states or arcs that cannot be')
    return Fst(start, finals, np.repeat(np.arange(S, dtype=np.int32), count), arcs)


def states_of(content, at, S):
    """Final costs float32 [S], where the arcs begin, how many there are; S records from `at` on, the whole rest."""
    record, end = struct.Struct('<fq').unpack_from, len(content)
    if not 0 < S <= (end - at)//STEP:
        raise ValueError(f'{S} states in {end - at} bytes')
    finals, first, count = np.empty(S, np.float32), np.empty(S, np.int64), np.empty(S, np.int64)
    for s in range(S):
        if at + STEP > end:
            raise ValueError('truncated')
        finals[s], n = record(content, at)
        first[s], count[s], at = at + STEP, n, at + STEP + ARC.itemsize*n
        if not 0 <= n or at > end:
            raise ValueError(f'state {s} has {n} arcs')
    if at != end:
        raise ValueError('more bytes than states')
    return finals, first, count


def arcs_at(content, first, count):
    """ARC [A] of the states whose arcs begin at the bytes `first` [S], `count` [S] of each."""
    whole = np.frombuffer(content, np.uint8)
    inside = np.ones(len(content), bool)
    inside[:first[0]] = False
    inside[first[1:, None] - np.arange(1, STEP + 1)] = False
    return np.frombuffer(whole[inside].tobytes(), ARC)


def sound(finals, arcs, S):
    """Whether arcs enter states that there are, with labels and costs that there may be."""
    costs = np.concatenate([finals, arcs['weight']])
    return (((0 <= arcs['next']) & (arcs['next'] < S)).all() and (arcs['ilabel'] >= 0).all()
            and (arcs['olabel'] >= 0).all() and (costs > -COSTLY).all())


def from_kaldifst(fst):
    """The arrays of a kaldifst transducer, through OpenFst's `const` form: all states, then all arcs."""
    with tempfile.NamedTemporaryFile(prefix='hpcasr-', suffix='.fst') as f:
        if not kaldifst.StdConstFst(fst).write(f.name):
            raise BadInput(f'{f.name}: cannot be written; make room, or set TMPDIR to another folder')
        return parse_const(f.read())


def parse_const(content):
    at = len(struct.pack('<i', MAGIC) + text('const') + text('standard'))
    _, _, _, start, S, A = struct.unpack_from('<iiQqqq', content, at)
    at += struct.calcsize('<iiQqqq')
    states = np.frombuffer(content, STATE, S, at)
    arcs = np.frombuffer(content, ARC, A, at + S*STATE.itemsize)
    source = np.repeat(np.arange(S, dtype=np.int32), states['arcs'].astype(np.int64))
    return Fst(start, states['final'].copy(), source, arcs.copy())
