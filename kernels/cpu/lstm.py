"""A sequence through an LSTM (reference/lstm.py), the whole loop over time in one call.

Forward, for a panel of LANES cells, with z_t = x_t Wx + b on entry and the gates on return:
    z ← z_t + h_{t-1} Wh;  i, f, o ← σ(z);  g ← tanh(z);  c_t ← f c_{t-1} + i g;  h_t ← o tanh c_t
Backward, for a panel of PANEL cells, with the gates on entry and dz on return:
    dh ← dy_t + dz_{t+1} Whᵀ;  dc ← dc + dh o (1 − tanh² c_t)
    dz_i ← dc g i (1 − i);  dz_f ← dc c_{t-1} f (1 − f);  dz_g ← dc i (1 − g²);  dz_o ← dh tanh c_t o (1 − o)
    dc ← dc f
Each is the tail of a tile: what it needs of the product never leaves the registers.  H is a multiple of PANEL.
In bf16 it also puts h_t, or dz_t, rounded, where the next step takes it up; what is kept stays float32.
"""

import numba
from numba.extending import intrinsic

from hpcasr.kernels.cpu.compiled import compiled
from hpcasr.kernels.cpu.gemm import EACH, HALF_BYTES, STRIP, pack, pack_half
from hpcasr.kernels.cpu.processor import LANES
from hpcasr.kernels.cpu.tile import PANEL, ROWS, VECTOR, VECTORS, accumulate, gather, halve_columns, kinds, steps

GATES = 4


def cell(rows, number):
    """The forward step of `rows` sequences and LANES cells; addresses of their first numbers, steps in bytes.

    z, gate, z_step        gate i, from there to the next gate, to the next sequence
    last_h, last_h_step    h_{t-1}, as products take it up, depth words of it
    h, h_step, next_h      where h_t goes, and where it goes for the next product, with last_h_step
    last_c, last_c_step    c_{t-1}
    c, tanh_c, c_step      where c_t and tanh c_t go
    mask                   of these sequences, 0 or 1: all gates of 0 are closed
    """
    def emit(v, depth, z, gate, z_step, last_h, last_h_step, w, h, h_step, next_h, last_c, last_c_step, c, tanh_c,
             c_step, mask):
        gates = [steps(v, row, gate, GATES) for row in steps(v, z, z_step, rows)]
        sums = accumulate(v, number, depth, last_h, last_h_step, w, [[v.load(place) for place in row] for row in gates])
        places = zip(*(steps(v, *of, rows) for of in ((last_c, last_c_step), (c, c_step), (tanh_c, c_step),
                                                      (h, h_step), (next_h, last_h_step))), strict=True)
        for m, (row, (before, here, tanh_here, out, ahead)) in enumerate(zip(sums, places, strict=True)):
            there = v.splat(mask, 4*m)
            i, f, o = (v.where(there, v.sigmoid(row[q])) for q in (0, 1, 3))
            g = v.where(there, v.tanh(row[2]))
            new = v.fma(f, v.load(before), v.mul(i, g))
            squashed = v.tanh(new)
            y = v.mul(o, squashed)
            for x, place in zip((new, squashed, y, i, f, g, o), (here, tanh_here, out, *gates[m]), strict=True):
                v.store(x, place)
            number.keep(v, y, ahead)
    return emit


@intrinsic
def forward_tile(context, kind, depth, z, gate, z_step, last_h, last_h_step, w, h, h_step, next_h, last_c, last_c_step,
                 c, tanh_c, c_step, mask):
    """A `cell`."""
    return kinds(16, cell)


def cell_back(rows, number):
    """The backward step of `rows` sequences and PANEL cells, as `cell`.

    next_dz, next_step       dz_{t+1}, as products take it up, depth words of it
    last_dz, last_gate       where dz_t goes for the next product, with next_step; from there to the next gate
    """
    def emit(v, depth, next_dz, next_step, last_dz, last_gate, z, gate, z_step, w, dy, dy_step, last_c, last_c_step,
             tanh_c, c_step, dc):
        start = [[v.load(row, n*VECTOR) for n in range(VECTORS)] for row in steps(v, dy, dy_step, rows)]
        sums = accumulate(v, number, depth, next_dz, next_step, w, start)
        places = zip(*(steps(v, *of, rows) for of in ((z, z_step), (last_c, last_c_step), (tanh_c, c_step),
                                                      (dc, c_step), (last_dz, next_step))), strict=True)
        for row, (here, before, tanh_here, slope, ahead) in zip(sums, places, strict=True):
            gates, ahead = steps(v, here, gate, GATES), steps(v, ahead, last_gate, GATES)
            for n, dh in enumerate(row):
                at = n*VECTOR
                i, f, g, o = (v.load(place, at) for place in gates)
                t, c = v.load(tanh_here, at), v.load(before, at)
                d = v.fma(v.mul(dh, o), v.rest(v.mul(t, t)), v.load(slope, at))
                v.store(v.mul(d, f), slope, at)
                slopes = (v.mul(d, g, i, v.rest(i)), v.mul(d, c, f, v.rest(f)),
                          v.mul(d, i, v.rest(v.mul(g, g))), v.mul(dh, t, o, v.rest(o)))
                for dz, place, product in zip(slopes, gates, ahead, strict=True):
                    v.store(dz, place, at)
                    number.keep(v, dz, product, n*LANES)
    return emit


@intrinsic
def backward_tile(context, kind, depth, next_dz, next_step, last_dz, last_gate, z, gate, z_step, w, dy, dy_step, last_c,
                  last_c_step, tanh_c, c_step, dc):
    """A `cell_back`."""
    return kinds(16, cell_back)


def room(B, H):
    """float32 that `forward` and `backward` need as `work`."""
    return GATES*H*H + B*H + PANEL + max(2*GATES*B*H, (STRIP + 1)*PANEL)


@numba.njit(nogil=True)
def clear(x):
    for k in range(len(x)):
        x[k] = 0


@numba.njit(nogil=True)
def pack_gates(Wh, u, panel, half, beside):
    """panel [words, PANEL] ← the columns u to u + LANES of every gate of Wh [H, 4H], gate by gate.

    So a panel holds all gates of its cells.  beside [2·PANEL] is overwritten.
    """
    H, columns, size = len(Wh), Wh.ctypes.data + 4*u, 4*PANEL
    for k in range(0, H, EACH if half else 1):
        row = columns + k*Wh.strides[0]
        if half:
            for r in range(EACH):
                gather(row + r*Wh.strides[0], 4*H, beside.ctypes.data + r*size)
            halve_columns(beside.ctypes.data, beside.ctypes.data + size, panel.ctypes.data + k//EACH*size)
        else:
            gather(row, 4*H, panel.ctypes.data + k*size)


@compiled('void(f4[:,:,:], f4[:,:], f4[:,:], f4[:,:,:], f4[:,:,:], f4[:,:,:], b1, b1, f4[::1])')
def forward(z, Wh, mask, h, c, tanh_c, reverse, half, work):
    """z [T, B, 4H] becomes the gates; h, c, tanh_c [T, B, H] are assigned; mask [T, B] is 0 or 1.

    The last axes are contiguous.  reverse: from the last frame to the first.  half: products in bf16.
    work [room(B, H)] is overwritten.
    """
    (T, B, _), H = z.shape, h.shape[2]
    words, size = (H//EACH, HALF_BYTES*H) if half else (H, 4*H)  # of h_{t-1}
    zeros, beside, kept = work[GATES*H*H:][:PANEL], work[GATES*H*H + PANEL:], work[GATES*H*H + 3*PANEL:]
    clear(zeros)
    for u in range(0, H, LANES):
        pack_gates(Wh, u, work[u*GATES*words:], half, beside)
    tiles = (B + ROWS - 1)//ROWS
    for s in range(T):
        t, last = (T - 1 - s, T - s) if reverse else (s, s - 1)
        here, there = kept.ctypes.data + s%2*B*size, kept.ctypes.data + (s + 1)%2*B*size
        for u in range(0, H, LANES):
            for q in range(tiles):
                m, end = q*B//tiles, (q + 1)*B//tiles
                before = zeros.ctypes.data if s == 0 else c[last, m, u:].ctypes.data
                last_h, last_h_step = h[last if s else t, m].ctypes.data, h.strides[1]
                if half:
                    last_h, last_h_step = there + m*size, size
                forward_tile(end - m - 1 + ROWS*half, words if s else 0, z[t, m, u:].ctypes.data, 4*H, z.strides[1],
                             last_h, last_h_step, work.ctypes.data + 4*u*GATES*words, h[t, m, u:].ctypes.data,
                             h.strides[1], here + m*size + HALF_BYTES*u, before, c.strides[1] if s else 0,
                             c[t, m, u:].ctypes.data, tanh_c[t, m, u:].ctypes.data, c.strides[1],
                             mask[t, m:].ctypes.data)


@compiled('void(f4[:,:,:], f4[:,:], f4[:,:,:], f4[:,:,:], f4[:,:,:], b1, b1, f4[::1])')
def backward(z, Wh, dy, c, tanh_c, reverse, half, work):
    """The gates z [T, B, 4H] become dz; dy [T, B, H]; the others as `forward` left them, and was given."""
    (T, B, _), H = z.shape, dy.shape[2]
    words, size = (GATES*H//EACH, HALF_BYTES*GATES*H) if half else (GATES*H, 4*GATES*H)  # of dz_{t+1}
    panels, dc, rest = work[:GATES*H*H], work[GATES*H*H:][:B*H], work[GATES*H*H + B*H:]
    zeros, beside, kept = rest[:PANEL], rest[PANEL:], rest[PANEL:]
    clear(dc)
    clear(zeros)
    for u in range(0, H, PANEL):
        if half:
            pack_half(Wh.T[:, u:u + PANEL], panels[u*words:], beside)
        else:
            pack(Wh.T[:, u:u + PANEL], panels[u*words:])
    tiles = (B + ROWS - 1)//ROWS
    for s in range(T):
        t, after, last = (s, s - 1, s + 1) if reverse else (T - 1 - s, T - s, T - 2 - s)
        here, there = kept.ctypes.data + s%2*B*size, kept.ctypes.data + (s + 1)%2*B*size
        for u in range(0, H, PANEL):
            for q in range(tiles):
                m, end = q*B//tiles, (q + 1)*B//tiles
                before = zeros.ctypes.data if s == T - 1 else c[last, m, u:].ctypes.data
                next_dz, next_step = z[after if s else t, m].ctypes.data, z.strides[1]
                if half:
                    next_dz, next_step = there + m*size, size
                backward_tile(end - m - 1 + ROWS*half, words if s else 0, next_dz, next_step,
                              here + m*size + HALF_BYTES*u, HALF_BYTES*H, z[t, m, u:].ctypes.data, 4*H, z.strides[1],
                              panels.ctypes.data + 4*u*words, dy[t, m, u:].ctypes.data, dy.strides[1], before,
                              0 if s == T - 1 else c.strides[1], tanh_c[t, m, u:].ctypes.data, c.strides[1],
                              dc.ctypes.data + 4*(m*H + u))
