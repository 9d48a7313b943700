"""All time steps of an LSTM in K = 1 or 2 directions in one launch, in bf16 (reference/lstm.py; lstm.py step by step).

The recurrent weights stay in registers from the first step to the last, spread over the H/UNITS blocks of a direction,
for a share of the sequences (Diamos et al. 2016, persistent RNNs).  After each step these blocks wait for one another,
and read each other's states, or derivatives, from where they have to be kept anyhow: y, or dz.  No place is written
twice in a launch, so that nobody writes what another has still to read.

What is left in z, c, y and dz is what lstm.py leaves there: either may go back where the other went forward.  A launch
needs all its blocks on the GPU at once, or they would wait for ever: `plan` says whether that is so.
"""

from functools import cache
from typing import NamedTuple

import numpy as np
from numba import cuda, float32, int64, uint32, uint64

from hpcasr.kernels.cuda import barrier, fragments, mma
from hpcasr.kernels.cuda.barrier import APART
from hpcasr.kernels.cuda.fragments import GATES, NARROW, PARTS, PARTS_BACK, ROWS, THREADS, UNITS, WARPS, WIDE
from hpcasr.kernels.cuda.launch import SIMULATED, blocks, device, kernel, nothing
from hpcasr.kernels.cuda.number import narrow, sigmoid, tanh

LEAST = 8, 0  # compute capability: mma.sync of bf16
STEP, MOST_CELLS = 64, 512  # cells of a direction: a multiple, up to what registers hold
MOST_ROWS = 4*ROWS  # sequences of a share: more, and products of cuBLAS fill the GPU as well
DECLARED = 128, 256, 512  # of the presets: also compiled without a GPU; of others some bytes may leave the registers
REGISTERS = 255
# all arrays are flat, and indices uint64: an address is one product and one sum, to which constants are added
FORWARD = f'void({"i4, "*4}u2[::1], u2[::1], f4[::1], f4[::1], b1[::1], f4[::1], f4[::1], u2[::1], u4[::1])'
BACKWARD = f'void({"i4, "*4}u2[::1], u2[::1], f4[::1], f4[::1], f4[::1], f4[::1], u2[::1], u4[::1])'


class Room(NamedTuple):
    """A GPU: its compute capability, and how many blocks of the persistent kernels can be on it at once."""
    capability: tuple
    blocks: int


class Plan(NamedTuple):
    """`shares` of the sequences, `rows` in each, the last one maybe fewer."""
    shares: int
    rows: int


def plan(T, B, H, K, room):
    """How B sequences of T frames are shared out, or None where they have to go step by step."""
    fits = H % STEP == 0 and 0 < H <= MOST_CELLS and room.capability >= LEAST
    most = room.blocks//(K*H//UNITS) if fits else 0
    if not most or not T or not B:
        return None
    rows = blocks(B, min(most, blocks(B, ROWS)))
    return Plan(blocks(B, rows), rows) if rows <= MOST_ROWS else None


def room(H):
    """Of the current GPU, for H cells in a direction; compiles the kernels if it may have them."""
    gpu = cuda.get_current_device()
    capability = tuple(gpu.compute_capability)
    return Room(capability, most_blocks(gpu.id, H) if capability >= LEAST and plan(1, 1, H, 1, UNBOUNDED) else 0)


UNBOUNDED = Room(LEAST, 1 << 20)


@cache
def most_blocks(gpu, H):
    """As the driver says, of the kernel that takes more."""
    return min(k.compiled.compile(k.signatures[0]).max_cooperative_grid_blocks(THREADS) for k in kernels(H))


def counters(plan, K):
    """How many uint32, zero before the first launch, `forward` and `backward` need; they leave them zero."""
    return K*plan.shares*APART


def forward(plan, weights, bias, mask, z, c, y, counters, reverse=False, stream=None):
    """z[:, t] ← the gates i, f, g, o;  c[:, t] ← f c_{t-1} + i g;  y[t] ← o tanh c, of all steps in every direction.

    weights, bias                [Wh], or [Wh ahead, Wh back], [H, 4H] in bf16 each; [4H] f each
    mask [T, B] bool, or None    h, c and all gates are zero where it is False
    z [K, T, B, 4H] f            x_t Wx on entry
    c [K, T, B, H] f;  y [T, B, K H] in bf16, of 16 bytes or a multiple from the start of its memory
    counters                     [counters(plan, K)] uint32, zero
    """
    mask = nothing(bool, 1) if mask is None else mask
    start(kernels(c.shape[-1])[0], plan, c.shape, reverse, stream, weights[0], weights[-1], bias[0], bias[-1], mask, z,
          c, y, counters)


def backward(plan, weights, z, c, dy, dc, dz, counters, reverse=False, stream=None):
    """dz[:, t] ← the derivatives by what went into the gates, of all steps, in bf16.

    z, c                 as `forward` left them
    dy [T, B, K H] f     derivatives by the states, side by side
    dc [K, B, H] f       carried from step to step; need not be zeroed
    dz [K, T, B, 4H]     bf16, of 16 bytes or a multiple from the start of its memory
    """
    start(kernels(c.shape[-1])[1], plan, c.shape, reverse, stream, weights[0], weights[-1], z, c, dy, dc, dz, counters)


def start(kernel, plan, shape, reverse, stream, *arrays):
    K, T, B, H = shape
    kernel(grid(plan, K, H), THREADS, stream, *map(np.int32, (reverse, plan.rows, T, B)),
           *(x.reshape(-1) for x in arrays))


def grid(plan, K, H):
    return H//UNITS, plan.shares, K


@cache
def kernels(H):
    """(forward, backward) for H cells in a direction."""
    return make_states(H), make_slopes(H)


def declared(H, signature, function):
    function.__name__ = f'{function.__name__}_{H}'
    return kernel(signature, registers=REGISTERS, least=LEAST, launch_bounds=(THREADS, 1))(function)


def make_states(H):
    """The forward kernel: warps share out gates and halves of the depth; then a thread has cells of its own."""
    PITCH, WORDS, DEPTH = fragments.pitch(H), fragments.words(H), H//PARTS
    gather, keep = mma.gather(1, GATES*H, fragments.tiles(H)), mma.keep(WIDE)
    fill, product = mma.fill(PITCH, H), mma.near_product(PITCH)

    def states(reverse, rows, T, B, ahead, back, bias_ahead, bias_back, mask, z, c, y, counters):
        thread, share, k = cuda.threadIdx.x, cuda.blockIdx.y, cuda.blockIdx.z
        warp, lane = thread >> 5, thread & 31
        q, p, gate, half = lane >> 2, lane & 3, warp & 3, warp >> 2
        j, across = cuda.blockIdx.x*UNITS + lane, cuda.gridDim.z*H
        begin, last, turned = share*rows, min(share*rows + rows, B) - 1, (k + reverse) & 1
        counter, members = (k*cuda.gridDim.y + share)*APART, cuda.gridDim.x
        shared = cuda.shared.array(WORDS, uint32, alignment=16)
        own = int64(half*DEPTH + 8*p)*(GATES*H) + gate*H + cuda.blockIdx.x*UNITS + q
        weights = gather(back if k else ahead, own)
        bias = bias_back if k else bias_ahead
        b = bias[j], bias[H + j], bias[2*H + j], bias[3*H + j]
        for s in range(T):
            t = T - 1 - s if turned else s
            before = t + 1 if turned else t - 1
            now, past = int64(k*T + t)*B, int64(k*T + before)*B
            for first in range(begin, last + 1, ROWS):
                row, at = first + warp, warp*WIDE + lane
                cell0 = enter(z, b, c, now, past, s, row, last, j, H)
                cell1 = enter(z, b, c, now, past, s, row + WARPS, last, j, H)
                cell2 = enter(z, b, c, now, past, s, row + 2*WARPS, last, j, H)
                cell3 = enter(z, b, c, now, past, s, row + 3*WARPS, last, j, H)
                sums = mma.zeros()
                if s > 0:
                    if first == begin:
                        barrier.wait(counters, counter, s*members)
                    fill(shared, y, int64(before)*B*across + k*H, across, first, last, thread)
                    cuda.syncthreads()
                    sums = product(weights, shared, int64(q*PITCH + half*(DEPTH//2) + 4*p))
                cuda.syncthreads()
                keep(sums, shared, int64((half*ROWS + 2*p)*WIDE + gate*UNITS + q))
                cuda.syncthreads()
                out = int64(t)*B, across, k*H
                leave(shared, at, cell0, mask, z, c, y, now, out, row, last, j, H)
                leave(shared, at + WARPS*WIDE, cell1, mask, z, c, y, now, out, row + WARPS, last, j, H)
                leave(shared, at + 2*WARPS*WIDE, cell2, mask, z, c, y, now, out, row + 2*WARPS, last, j, H)
                leave(shared, at + 3*WARPS*WIDE, cell3, mask, z, c, y, now, out, row + 3*WARPS, last, j, H)
                cuda.syncthreads()
            barrier.arrive(counters, counter, T*members - 1)
    return declared(H, FORWARD, states)


@device
def enter(z, bias, c, now, past, s, row, last, j, H):
    """What a cell brings along: x Wx + b of its gates and c_{t-1}; asked for before there is anything to wait for."""
    row = min(row, last)
    at = (now + row)*(GATES*H) + j
    cell = c[uint64((past + row)*H + j)] if s > 0 else float32(0)
    return (z[uint64(at)] + bias[0], z[uint64(at + H)] + bias[1], z[uint64(at + 2*H)] + bias[2],
            z[uint64(at + 3*H)] + bias[3], cell)


@device
def leave(shared, at, cell, mask, z, c, y, now, out, row, last, j, H):
    """The step of a cell, if there is such a sequence; `out`: of this frame in y, the first row, columns, the first."""
    if row > last:
        return
    i = sigmoid(cell[0] + both(shared, at))
    f = sigmoid(cell[1] + both(shared, at + UNITS))
    g = tanh(cell[2] + both(shared, at + 2*UNITS))
    o = sigmoid(cell[3] + both(shared, at + 3*UNITS))
    if mask.shape[0] and not mask[uint64(out[0] + row)]:
        i = f = g = o = float32(0)
    new = f*cell[4] + i*g
    y[uint64((out[0] + row)*out[1] + out[2] + j)] = narrow(o*tanh(new), y)
    place = (now + row)*(GATES*H) + j
    z[uint64(place)], z[uint64(place + H)], z[uint64(place + 2*H)], z[uint64(place + 3*H)] = i, f, g, o
    c[uint64((now + row)*H + j)] = new


@device
def both(shared, at):
    return mma.number(shared[uint64(at)]) + mma.number(shared[uint64(at + ROWS*WIDE)])


def make_slopes(H):
    """The backward kernel: warps share out the depth; then a thread has cells of its own."""
    WORDS, DEPTH = fragments.words_back(), GATES*H//PARTS_BACK
    gather, keep = mma.gather(GATES*H, 1, fragments.tiles(H)), mma.keep(NARROW)

    def slopes(reverse, rows, T, B, ahead, back, z, c, dy, dc, dz, counters):
        thread, share, k = cuda.threadIdx.x, cuda.blockIdx.y, cuda.blockIdx.z
        warp, lane = thread >> 5, thread & 31
        q, p = lane >> 2, lane & 3
        j, across = cuda.blockIdx.x*UNITS + lane, cuda.gridDim.z*H
        begin, last, turned = share*rows, min(share*rows + rows, B) - 1, (k + reverse) & 1
        counter, members = (k*cuda.gridDim.y + share)*APART, cuda.gridDim.x
        shared = cuda.shared.array(WORDS, uint32, alignment=16)
        own, depth = int64(cuda.blockIdx.x*UNITS + q)*(GATES*H), warp*DEPTH + 8*p
        weights = gather(back if k else ahead, own + depth)
        for s in range(T):  # from the last step of the forward pass to the first
            t = s if turned else T - 1 - s
            before, after = t + 1 if turned else t - 1, t - 1 if turned else t + 1
            now, past, out = int64(k*T + t)*B, int64(k*T + before)*B, (int64(t)*B, across, k*H)
            for first in range(begin, last + 1, ROWS):
                row, at = first + warp, warp*NARROW + lane
                cell0 = recall(z, c, dy, now, past, out, s, T, row, last, j, H)
                cell1 = recall(z, c, dy, now, past, out, s, T, row + WARPS, last, j, H)
                cell2 = recall(z, c, dy, now, past, out, s, T, row + 2*WARPS, last, j, H)
                cell3 = recall(z, c, dy, now, past, out, s, T, row + 3*WARPS, last, j, H)
                sums = mma.zeros()
                if s > 0:
                    if first == begin:
                        barrier.wait(counters, counter, s*members)
                    places = int64(k*T + after)*B*(GATES*H) + depth
                    sums = mma.far_product(weights, dz, places, GATES*H, first + q, last)
                keep(sums, shared, int64((warp*ROWS + 2*p)*NARROW + q))
                late0 = carry(c, dy, dc, past, out, k*B, s, T, row, last, j, H)  # now that registers are free
                late1 = carry(c, dy, dc, past, out, k*B, s, T, row + WARPS, last, j, H)
                late2 = carry(c, dy, dc, past, out, k*B, s, T, row + 2*WARPS, last, j, H)
                late3 = carry(c, dy, dc, past, out, k*B, s, T, row + 3*WARPS, last, j, H)
                cuda.syncthreads()
                learn(shared, at, cell0, late0, dc, dz, now, k*B, row, last, j, H)
                learn(shared, at + WARPS*NARROW, cell1, late1, dc, dz, now, k*B, row + WARPS, last, j, H)
                learn(shared, at + 2*WARPS*NARROW, cell2, late2, dc, dz, now, k*B, row + 2*WARPS, last, j, H)
                learn(shared, at + 3*WARPS*NARROW, cell3, late3, dc, dz, now, k*B, row + 3*WARPS, last, j, H)
                cuda.syncthreads()
            barrier.arrive(counters, counter, T*members - 1)
    return declared(H, BACKWARD, slopes)


@device
def recall(z, c, dy, now, past, out, s, T, row, last, j, H):
    """What the step back of a cell needs that is known before the derivatives by its state are."""
    row = min(row, last)
    at = (now + row)*(GATES*H) + j
    if s < T - 1:
        mma.soon(c, (past + row)*H + j)
    mma.soon(dy, (out[0] + row)*out[1] + out[2] + j)
    return (z[uint64(at)], z[uint64(at + H)], z[uint64(at + 2*H)], z[uint64(at + 3*H)],
            tanh(c[uint64((now + row)*H + j)]))


@device
def carry(c, dy, dc, past, out, own, s, T, row, last, j, H):
    """The rest, for which `recall` has sent: dy, dc and c_{t-1}; row `own` of dc is the first of its direction."""
    row = min(row, last)
    return (dy[uint64((out[0] + row)*out[1] + out[2] + j)],
            dc[uint64(int64(own + row)*H + j)] if s > 0 else float32(0),
            c[uint64((past + row)*H + j)] if s < T - 1 else float32(0))


@device
def learn(shared, at, cell, late, dc, dz, now, own, row, last, j, H):
    """The step back of a cell, if there is such a sequence."""
    if row > last:
        return
    one, place = float32(1), (now + row)*(GATES*H) + j
    i, f, g, o, squashed = cell
    dh, d, before = late
    for part in range(PARTS_BACK):
        dh += mma.number(shared[uint64(at + part*(ROWS*NARROW))])
    d += dh*o*(one - squashed*squashed)
    dz[uint64(place)] = narrow(d*g*i*(one - i), dz)
    dz[uint64(place + H)] = narrow(d*before*f*(one - f), dz)
    dz[uint64(place + 2*H)] = narrow(d*i*(one - g*g), dz)
    dz[uint64(place + 3*H)] = narrow(dh*squashed*o*(one - o), dz)
    dc[uint64(int64(own + row)*H + j)] = d*f


for cells in () if SIMULATED else DECLARED:
    kernels(cells)
