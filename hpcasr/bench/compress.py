"""The time of a sum over all ranks of which codes are exchanged, beside that of the plain one, for every codec."""

from dataclasses import dataclass, replace
from time import perf_counter

import numpy as np

from hpcasr.bench.exchange import DTYPE, WARM_UP, entries
from hpcasr.bench.paired import order, ratio
from hpcasr.bench.table import table
from hpcasr.bench.wrong import Wrong
from hpcasr.compress import CODECS, get_codec
from hpcasr.compress.feedback import Feedback
from hpcasr.compress.parcel import Piece, padded
from hpcasr.compress.striped import OWNER, Striped
from hpcasr.compress.sum import CARRIERS

PERCENT = 2.5758  # standard deviations that one entry in a hundred of a normal distribution is away from the mean
COLUMNS = {'name': ('codec', ''), 'ms': ('ms', '.3f'), 'min_ms': ('min', '.3f'), 'encode_ms': ('encode', '.3f'),
           'decode_ms': ('decode', '.3f'), 'plain': ('of plain', '.2f'), 'low': ('low', '.2f'),
           'high': ('high', '.2f'), 'megabytes': ('MB sent', '.3f'), 'fewer': ('fewer', '.1f'),
           'below': ('pays below MB/s', '')}


@dataclass
class Trial:
    """nbytes of the vector, None: of the model's with so many features `dim` and `targets`; repeats of every codec."""

    nbytes: int | None = None
    dim: int = 40
    targets: int = 72
    repeats: int = 15


class Timed:
    """A codec that counts the seconds which it takes."""

    def __init__(self, codec):
        self.codec, self.seconds = codec, np.zeros(2)  # of encoding, of decoding and adding
        self.every, self.size, self.length = codec.every, codec.size, codec.length

    def encode(self, *args):
        self.count(0, self.codec.encode, args)

    def decode(self, *args):
        self.count(1, self.codec.decode, args)

    def add(self, *args):
        self.count(1, self.codec.add, args)

    def count(self, what, work, args):
        tic = perf_counter()
        work(*args)
        self.seconds[what] += perf_counter() - tic


class Way:
    """The sum of `x`, in place, with one codec."""

    def __init__(self, name, comm, options, ops, n):
        self.name, self.comm, self.x, self.steps = name, comm, np.empty(n, DTYPE), 0
        self.codec = Timed(get_codec(replace(options, method=name), ops))
        self.carrier = CARRIERS[name](comm, self.codec, [Piece(0, n)], lambda momentum=0.0: Feedback(self.codec, n))

    def run(self):
        self.carrier.start(self.x, 0, self.x.size, self.steps)()
        self.steps += 1

    def formula(self):
        """Bytes that this rank sends in a sum, from the sizes of messages alone; where these differ, the most."""
        if not isinstance(self.carrier, Striped):
            return padded(self.codec.size(self.x.size))*(self.comm.size - 1)
        return sum(padded(self.codec.size(p.size))*(self.comm.size - 1 if p.owner == self.comm.rank else 1)
                   for p in self.carrier.pieces)


def bench(comm, config, ops, trial, progress=iter):
    """The figures, a dict, the same on every rank, after the answers were checked.

    Raises BadInput, and Wrong for an answer that is not right, on all ranks alike.
    """
    comm.compare(config.flat() | vars(trial))
    comm.together(comm.arrange, config.exchange.node_size)
    n = comm.together(entries, config.model, trial, comm.size)
    options = config.compress
    ways = comm.together(lambda: [Way(name, comm, options, ops, n) for name in CODECS])
    check(comm, ways, options)
    seconds, parts, sent = measure(comm, ways, lambda turn: vector(comm.rank, n, options, turn), trial.repeats,
                                   progress)
    rows = [row(way, seconds[:, k], parts[:, k], sent[k], seconds[:, -1], sent[-1], formula(comm, way))
            for k, way in enumerate(ways)]
    return {'entries': n, 'bytes': n*DTYPE.itemsize, 'ranks': comm.size, 'nodes': len(set(comm.nodes)),
            'library': comm.library, 'backend': ops.name, 'repeats': trial.repeats,
            'plain_ms': 1e3*float(np.median(seconds[:, -1])), 'plain_bytes_sent': sent[-1], 'codecs': rows}


def vector(rank, n, options, turn=0):
    """What rank number `rank` gives: [n], normal, where one entry in a hundred reaches the threshold."""
    x = np.random.default_rng([rank, turn]).standard_normal(n, DTYPE)
    x *= np.float32(options.threshold/PERCENT or 1)
    return x


def check(comm, ways, options):
    """Sum once with each, and compare every bit with what is done here with the vectors of all.  Raises Wrong."""
    for way in ways:
        way.x[:] = vector(comm.rank, way.x.size, options)
        way.run()
        wrong = sum(comm.allgather(int((way.x.view(np.uint32) != wanted(way, options).view(np.uint32)).sum())))
        if wrong:
            raise Wrong(f'{way.name}: {wrong:,} entries of {way.x.size:,} are wrong; not timed')


def wanted(way, options):
    """The sum of what the codes of all ranks say, encoded once more where that is the way: [n]."""
    pieces, n, L = way.carrier.pieces, way.x.size, way.comm.size
    total, striped = np.zeros(n, DTYPE), isinstance(way.carrier, Striped)
    for rank in range(L):
        g = vector(rank, n, options)
        for p in pieces:
            spoken(way.codec, g[p.part], (rank, 0, p.lo), total[p.part], not rank)
    for p in pieces if striped else []:
        spoken(way.codec, total[p.part].copy(), (OWNER, 0, p.lo), total[p.part], True)
    return total


def spoken(codec, g, place, out, first):
    """out ← what the message of g says, or out + that if it is not the first."""
    message = np.empty(codec.size(g.size), np.uint8)
    codec.encode(g, np.zeros_like(g), message, place)
    (codec.decode if first else codec.add)(message[:codec.length(message)], out)


def measure(comm, ways, given, repeats, progress):
    """Of the slowest rank: [repeats, ways + 1] seconds, [repeats, ways, 2] of encoding and decoding; [ways + 1] bytes.

    given   given(turn): another vector every time, else what is left of them would add up as no gradients do
    Last the plain sum.  The bytes are those of the busiest rank in the last repeat.
    """
    plain = np.empty_like(ways[0].x)
    works = [*((way.x, way.run) for way in ways), (plain, lambda: comm.start_sum(plain)())]
    mine, sent = np.empty((WARM_UP + repeats, len(works))), [0]*len(works)
    parts = np.empty((WARM_UP + repeats, len(ways), 2))
    for turn in progress(range(len(mine))):
        g = given(turn)
        for k in order(len(works), turn):
            x, run = works[k]
            x[:] = g
            if k < len(ways):
                ways[k].codec.seconds[:] = 0
            comm.barrier()
            before, tic = comm.bytes_sent, perf_counter()
            run()
            mine[turn, k], sent[k] = perf_counter() - tic, comm.bytes_sent - before
            if k < len(ways):
                parts[turn, k] = ways[k].codec.seconds
    slowest = [np.max(comm.allgather(found[WARM_UP:]), axis=0) for found in (mine, parts)]
    return *slowest, np.max(comm.allgather(sent), axis=0).tolist()


def formula(comm, way):
    """Bytes that the busiest rank sends."""
    return max(comm.allgather(way.formula()))


def row(way, seconds, parts, sent, plain, plain_sent, formula):
    """The figures of one codec; seconds, plain [repeats], parts [repeats, 2]."""
    encode, decode = np.min(parts, axis=0).tolist()  # what it costs where nobody interrupts
    paired = ratio(seconds, plain)
    below = (plain_sent - sent)/(encode + decode)/1e6
    return {'name': way.name, 'ms': 1e3*float(np.median(seconds)), 'min_ms': 1e3*float(seconds.min()),
            'encode_ms': 1e3*encode, 'decode_ms': 1e3*decode, 'plain': paired['ratio'], 'low': paired['low'],
            'high': paired['high'], 'bytes_sent': sent, 'formula_bytes': formula,
            'fewer': plain_sent/sent if sent else 1.0, 'pays_below_mb_per_second': max(0.0, below)}


def lines(found):
    """The figures as text."""
    ranks = f'{found["ranks"]} rank{"s"[:found["ranks"] > 1]}, {found["nodes"]} node{"s"[:found["nodes"] > 1]}'
    yield (f'vector    {found["entries"]:,} float32, {found["bytes"]/1e6:.2f} MB; {ranks}, {found["library"]}; '
           f'backend {found["backend"]}')
    yield (f'plain     {found["plain_ms"]:.3f} ms, {found["plain_bytes_sent"]/1e6:.3f} MB sent; medians of '
           f'{found["repeats"]}')
    yield table([codec | {'megabytes': codec['bytes_sent']/1e6, 'below': f'{codec["pays_below_mb_per_second"]:,.0f}'}
                 for codec in found['codecs']], COLUMNS)
