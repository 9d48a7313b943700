"""The persistent kernels without a GPU: their own source, with NumPy in the place of what is only known to a GPU.

All threads of a block run in step, as vectors of THREADS; blocks take turns in a drawn order, so that any may be far
ahead of another.  What mma.sync does is written as PTX ISA 9.7.14.5.8 has it.  AssertionError for whatever depends on
luck: memory that is read before it was written, or written twice; shared memory that one thread writes and another uses
without a barrier between; blocks that all wait.
"""

import threading
from itertools import product
from types import FunctionType, SimpleNamespace

import numpy as np

from hpcasr.kernels.cuda import fragments, persistent
from hpcasr.kernels.cuda.fragments import LANES, ROWS, THREADS, TILES_M, TILES_N, WARPS

UNWRITTEN = 0xffff  # of 16 bits: NaN
NOBODY = -1


class Lanes(np.ndarray):
    """What every thread has of its own."""


EVERY = np.arange(THREADS).view(Lanes)


def launch(make, H, grid, args, rng, **instead):
    """Run the kernel that `make` makes for H cells on a grid (x, y, z) of blocks; `instead` of names it uses."""
    turns, flat = Turns(rng), [x.reshape(-1) if isinstance(x, np.ndarray) else x for x in args]
    for z, y, x in np.ndindex(*grid[::-1]):
        block = Block((x, y, z), grid, turns, instead)
        turns.add(block.body(make, H), flat)
    turns.run()


class Turns:
    """One block runs at a time, until it pauses; which goes on is drawn."""

    def __init__(self, rng):
        self.rng, self.blocks, self.error, self.back = rng, [], None, threading.Semaphore(0)

    def add(self, body, args):
        block = SimpleNamespace(go=threading.Semaphore(0), ready=lambda: True, done=False)
        block.thread = threading.Thread(target=self.live, args=(block, body, args), daemon=True)
        self.blocks.append(block)
        block.thread.start()

    def live(self, block, body, args):
        block.go.acquire()
        self.current = block
        try:
            body(*args)
        except BaseException as e:
            self.error = self.error or e
        block.done = True
        self.back.release()

    def pause(self, ready=lambda: True):
        """Let others go on, until this block is drawn and ready()."""
        block = self.current
        block.ready = ready
        self.back.release()
        block.go.acquire()
        self.current = block

    def run(self):
        while not self.error and (left := [block for block in self.blocks if not block.done]):
            ready = [block for block in left if block.ready()]
            assert ready, 'all blocks wait'
            ready[self.rng.integers(len(ready))].go.release()
            self.back.acquire()
        if self.error:
            raise self.error


class Block:
    """What a kernel sees of the GPU, for one block; its `mma`, `barrier` and `cuda` are this object."""

    def __init__(self, index, grid, turns, instead):
        self.turns, self.memory = turns, None
        self.threadIdx = SimpleNamespace(x=EVERY)
        self.blockIdx, self.gridDim = (SimpleNamespace(**dict(zip('xyz', of, strict=True))) for of in (index, grid))
        self.shared = SimpleNamespace(array=self.array)
        self.names = vars(persistent) | {'mma': self, 'barrier': self, 'cuda': self, 'uint64': int,
                                         'declared': lambda *args: args[-1]}
        self.names['both'] = FunctionType(persistent.both.__code__, self.names)
        for name in 'enter', 'leave', 'recall', 'carry', 'learn':
            self.names[name] = self.each(FunctionType(getattr(persistent, name).__code__, self.names))
        for name, function in instead.items():
            setattr(self, name, function)

    def body(self, make, H):
        return FunctionType(make.__code__, self.names)(H)

    def each(self, function):
        """A function of one thread, done by all."""
        def by_all(*args):
            self.turns.pause()
            each = zip(*map(spread, args), strict=True)
            return columns([self.one(thread, function, own) for thread, own in enumerate(each)])
        return by_all

    def one(self, thread, function, args):
        self.memory.thread = thread
        return function(*args)

    # memory that threads share

    def array(self, words, dtype, alignment):
        self.memory = Shared(words)
        return self.memory

    def syncthreads(self):
        self.memory.settle()

    def wait(self, counters, at, arrivals):
        self.turns.pause(lambda: counters[at] >= arrivals)
        self.syncthreads()

    def arrive(self, counters, at, last):
        self.syncthreads()
        self.turns.pause()
        counters[at] = 0 if counters[at] >= last else counters[at] + 1

    # products

    def gather(self, by_column, by_depth, tiles):
        def gathered(W, at):
            own = np.empty((THREADS, TILES_M, tiles, 4, 2), np.float32)
            for m, tile, register, i in np.ndindex(own.shape[1:]):
                column, k = fragments.weight(m, tile, register, i)
                own[:, m, tile, register, i] = floats(W.reshape(-1)[at + column*by_column + k*by_depth])
            return own
        return gathered

    def fill(self, pitch, deep):
        def filled(shared, x, at, step, first, last, thread):
            self.turns.pause()
            for piece in range(0, ROWS*deep//8, THREADS):
                row, column = (thread + piece)//(deep//8), (thread + piece) % (deep//8)*8
                entry = (at + np.minimum(first + row, last)*step + column)[:, None] + np.arange(8)
                shared.write((row*pitch + column//2)[:, None] + np.arange(4), written(x, entry).view(np.uint32))
        return filled

    def near_product(self, pitch):
        def product_of(weights, shared, at):
            def states(n, tile, register, i):
                k, row = fragments.state(n, tile, register, i)
                return floats(shared.read(at + row*pitch + k//2) >> 16*(k & 1) & 0xffff)
            return sums(weights, states)
        return product_of

    def far_product(self, weights, x, at, step, first, last):
        def states(n, tile, register, i):
            k, row = fragments.state(n, tile, register, i)
            return floats(written(x, at + np.minimum(first + row, last)*step + k))
        self.turns.pause()
        return sums(weights, states)

    def keep(self, pitch):
        def kept(values, shared, at):
            for m, n, register in np.ndindex(values.shape[1:]):
                column, row = fragments.result(m, n, register)
                shared.write(at + row*pitch + column, values[:, m, n, register].view(np.uint32))
        return kept

    def zeros(self):
        return np.zeros((THREADS, TILES_M, TILES_N, 4), np.float32)

    def soon(self, x, at):
        assert 0 <= at < len(x)

    def number(self, bits):
        return bits.view(np.float32)


class Shared:
    """Shared memory that knows who has used it since the last barrier."""

    def __init__(self, words):
        self.bits, self.full = np.zeros(words, np.uint32), np.zeros(words, bool)
        self.writer, self.first, self.last = (np.empty(words, int) for _ in range(3))
        self.settle()

    def settle(self):
        """Nobody has written, and no threads from the first to the last have read."""
        self.writer[:], self.first[:], self.last[:] = NOBODY, THREADS, NOBODY

    def __getitem__(self, place):
        """Of one thread, self.thread."""
        assert self.full[place] and self.writer[place] in (NOBODY, self.thread), 'no barrier, or nothing written'
        self.first[place], self.last[place] = min(self.first[place], self.thread), max(self.last[place], self.thread)
        return self.bits[place]

    def read(self, places):
        """Of all threads."""
        assert self.full[places].all(), 'shared memory is read that nobody has written'
        assert ((self.writer[places] == NOBODY) | (self.writer[places] == EVERY)).all(), 'no barrier'
        np.minimum.at(self.first, places, EVERY)
        np.maximum.at(self.last, places, EVERY)
        return self.bits[places]

    def write(self, places, bits):
        threads = EVERY.reshape(-1, *[1]*(places.ndim - 1))
        assert len(np.unique(places)) == places.size, 'two threads write to one place'
        writer, first, last = self.writer[places], self.first[places], self.last[places]
        assert (((writer == NOBODY) | (writer == threads)) & (first >= threads) & (last <= threads)).all(), 'no barrier'
        self.bits[places], self.full[places], self.writer[places] = bits, True, threads


class Once(np.ndarray):
    """Memory of the GPU, 16 bits a number, that is written once."""

    def __setitem__(self, place, x):
        assert self[place] == UNWRITTEN, 'what others may still read is overwritten'
        super().__setitem__(place, x)


def once(*shape):
    return np.full(shape, UNWRITTEN, np.uint16).view(Once)


def written(x, entries):
    bits = np.asarray(x).reshape(-1)[entries]
    assert (bits != UNWRITTEN).all(), 'what nobody has written is read'
    return bits


def floats(bits):
    """Of bf16."""
    return (np.asarray(bits, np.uint32) << np.uint32(16)).view(np.float32)


def spread(x, vector=Lanes):
    """What each thread has of an argument; arrays in a tuple are vectors of theirs."""
    if isinstance(x, tuple):
        return zip(*(spread(v, np.ndarray) for v in x), strict=True)
    if not isinstance(x, vector):
        return [x]*THREADS
    return x.tolist() if x.dtype.kind == 'i' else list(np.asarray(x))


def columns(rows):
    if isinstance(rows[0], tuple):
        return tuple(map(columns, zip(*rows, strict=True)))
    return None if rows[0] is None else np.array(rows, np.float32).view(Lanes)


def sums(weights, states):
    """Of mma.sync over all tiles; states(n, tile, register, i) of all threads."""
    total = np.zeros((THREADS, TILES_M, TILES_N, 4), np.float32)
    for n, tile in product(range(TILES_N), range(weights.shape[2])):
        right = np.stack([[states(n, tile, register, i) for i in range(2)] for register in range(2)])
        for m in range(TILES_M):
            total[:, m, n] = mma_sync(weights[:, m, tile], right.transpose(2, 0, 1), total[:, m, n])
    return total


def mma_sync(a, b, c):
    """D = A B + C of every warp: a [threads, 4, 2], b [threads, 2, 2], c [threads, 4]."""
    A, B, lane = np.empty((WARPS, 16, 16), np.float32), np.empty((WARPS, 16, 8), np.float32), np.arange(LANES)
    a, b = a.reshape(WARPS, LANES, 8), b.reshape(WARPS, LANES, 4)
    group, member = lane//4, lane % 4
    for i in range(8):
        A[:, group + (0 if i < 2 or 4 <= i < 6 else 8), member*2 + (i & 1) + (0 if i < 4 else 8)] = a[:, :, i]
    for i in range(4):
        B[:, member*2 + (i & 1) + (0 if i < 2 else 8), group] = b[:, :, i]
    D = A @ B
    return np.stack([D[:, group + (0 if i < 2 else 8), member*2 + (i & 1)].reshape(THREADS) for i in range(4)], 1) + c
