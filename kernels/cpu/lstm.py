"""A sequence through an LSTM (reference/lstm.py), the whole loop over time in one call.

Forward, for a panel of LANES cells, with z_t = x_t Wx + b on entry and the gates on return:
    z ← z_t + h_{t-1} Wh;  i, f, o ← σ(z);  g ← tanh(z);  c_t ← f c_{t-1} + i g;  h_t ← o tanh c_t
Backward, for a panel of PANEL cells, with the gates on entry and dz on return:
    dh ← dy_t + dz_{t+1} Whᵀ;  dc ← dc + dh o (1 − tanh² c_t)
    dz_i ← dc g i (1 − i);  dz_f ← dc c_{t-1} f (1 − f);  dz_g ← dc i (1 − g²);  dz_o ← dh tanh c_t o (1 − o);  dc ← dc f
Each is the tail of a tile: what it needs of the product never leaves the registers.  H is a multiple of PANEL.
"""

import numba
from numba.extending import intrinsic

from hpcasr.kernels.cpu.compiled import compiled
from hpcasr.kernels.cpu.gemm import pack
from hpcasr.kernels.cpu.processor import LANES
from hpcasr.kernels.cpu.tile import PANEL, ROWS, VECTOR, VECTORS, accumulate, gather, instructions, steps

GATES = 4


def cell(rows):
    """The forward step of `rows` sequences and LANES cells; addresses of their first numbers, steps in bytes.

    z, gate, z_step        gate i, from there to the next gate, to the next sequence
    last_h, h, h_step      h_{t-1} (depth numbers of it), where h_t goes
    last_c, last_c_step    c_{t-1}
    c, tanh_c, c_step      where c_t and tanh c_t go
    mask                   of these sequences, 0 or 1: all gates of 0 are closed
    """
    def emit(v, depth, z, gate, z_step, last_h, w, h, h_step, last_c, last_c_step, c, tanh_c, c_step, mask):
        gates = [steps(v, row, gate, GATES) for row in steps(v, z, z_step, rows)]
        sums = accumulate(v, depth, last_h, h_step, w, [[v.load(place) for place in row] for row in gates])
        places = zip(*(steps(v, *of, rows) for of in ((last_c, last_c_step), (c, c_step), (tanh_c, c_step),
                                                      (h, h_step))), strict=True)
        for m, (row, (before, here, tanh_here, out)) in enumerate(zip(sums, places, strict=True)):
            there = v.splat(mask, 4*m)
            i, f, o = (v.mul(v.sigmoid(row[q]), there) for q in (0, 1, 3))
            g = v.mul(v.tanh(row[2]), there)
            new = v.fma(f, v.load(before), v.mul(i, g))
            squashed = v.tanh(new)
            for x, place in zip((new, squashed, v.mul(o, squashed), i, f, g, o), (here, tanh_here, out, *gates[m]),
                                strict=True):
                v.store(x, place)

    @intrinsic
    def forward(context, depth, z, gate, z_step, last_h, w, h, h_step, last_c, last_c_step, c, tanh_c, c_step, mask):
        return instructions(14, emit)
    return forward


def cell_back(rows):
    """The backward step of `rows` sequences and PANEL cells, as `cell`; dz_{t+1} has `depth` numbers."""
    def emit(v, depth, next_dz, z, gate, z_step, w, dy, dy_step, last_c, last_c_step, tanh_c, c_step, dc):
        start = [[v.load(row, n*VECTOR) for n in range(VECTORS)] for row in steps(v, dy, dy_step, rows)]
        sums = accumulate(v, depth, next_dz, z_step, w, start)
        places = zip(*(steps(v, *of, rows) for of in ((z, z_step), (last_c, last_c_step), (tanh_c, c_step),
                                                      (dc, c_step))), strict=True)
        for row, (here, before, tanh_here, slope) in zip(sums, places, strict=True):
            gates = steps(v, here, gate, GATES)
            for n, dh in enumerate(row):
                at = n*VECTOR
                i, f, g, o = (v.load(place, at) for place in gates)
                t, c = v.load(tanh_here, at), v.load(before, at)
                d = v.fma(v.mul(dh, o), v.rest(v.mul(t, t)), v.load(slope, at))
                v.store(v.mul(d, f), slope, at)
                for dz, place in zip((v.mul(d, g, i, v.rest(i)), v.mul(d, c, f, v.rest(f)),
                                      v.mul(d, i, v.rest(v.mul(g, g))), v.mul(dh, t, o, v.rest(o))), gates, strict=True):
                    v.store(dz, place, at)

    @intrinsic
    def backward(context, depth, next_dz, z, gate, z_step, w, dy, dy_step, last_c, last_c_step, tanh_c, c_step, dc):
        return instructions(13, emit)
    return backward


cells, backs = [cell(m) for m in range(1, ROWS + 1)], [cell_back(m) for m in range(1, ROWS + 1)]
f1, f2, f3, *more = cells
f4, f5, f6 = more or (f3,)*3
b1, b2, b3, *more = backs
b4, b5, b6 = more or (b3,)*3


@numba.njit(nogil=True, inline='always')
def forward_tile(rows, depth, z, gate, z_step, last_h, w, h, h_step, last_c, last_c_step, c, tanh_c, c_step, mask):
    if rows == 6:
        f6(depth, z, gate, z_step, last_h, w, h, h_step, last_c, last_c_step, c, tanh_c, c_step, mask)
    elif rows == 5:
        f5(depth, z, gate, z_step, last_h, w, h, h_step, last_c, last_c_step, c, tanh_c, c_step, mask)
    elif rows == 4:
        f4(depth, z, gate, z_step, last_h, w, h, h_step, last_c, last_c_step, c, tanh_c, c_step, mask)
    elif rows == 3:
        f3(depth, z, gate, z_step, last_h, w, h, h_step, last_c, last_c_step, c, tanh_c, c_step, mask)
    elif rows == 2:
        f2(depth, z, gate, z_step, last_h, w, h, h_step, last_c, last_c_step, c, tanh_c, c_step, mask)
    else:
        f1(depth, z, gate, z_step, last_h, w, h, h_step, last_c, last_c_step, c, tanh_c, c_step, mask)


@numba.njit(nogil=True, inline='always')
def backward_tile(rows, depth, next_dz, z, gate, z_step, w, dy, dy_step, last_c, last_c_step, tanh_c, c_step, dc):
    if rows == 6:
        b6(depth, next_dz, z, gate, z_step, w, dy, dy_step, last_c, last_c_step, tanh_c, c_step, dc)
    elif rows == 5:
        b5(depth, next_dz, z, gate, z_step, w, dy, dy_step, last_c, last_c_step, tanh_c, c_step, dc)
    elif rows == 4:
        b4(depth, next_dz, z, gate, z_step, w, dy, dy_step, last_c, last_c_step, tanh_c, c_step, dc)
    elif rows == 3:
        b3(depth, next_dz, z, gate, z_step, w, dy, dy_step, last_c, last_c_step, tanh_c, c_step, dc)
    elif rows == 2:
        b2(depth, next_dz, z, gate, z_step, w, dy, dy_step, last_c, last_c_step, tanh_c, c_step, dc)
    else:
        b1(depth, next_dz, z, gate, z_step, w, dy, dy_step, last_c, last_c_step, tanh_c, c_step, dc)


@compiled('void(f4[:,:,:], f4[:,:], f4[:,:], f4[:,:,:], f4[:,:,:], f4[:,:,:], b1, f4[::1])')
def forward(z, Wh, mask, h, c, tanh_c, reverse, work):
    """z [T, B, 4H] becomes the gates; h, c, tanh_c [T, B, H] are assigned; mask [T, B] is 0 or 1.

    The last axes are contiguous.  reverse: from the last frame to the first.  work [4H·H + PANEL] is overwritten.
    """
    (T, B, _), H = z.shape, h.shape[2]
    panel, zeros = GATES*LANES*H, work[GATES*H*H:]
    zeros[:] = 0
    for u in range(0, H, LANES):  # gate by gate, so that a panel holds all gates of its cells
        for k in range(H):
            gather(Wh.ctypes.data + k*Wh.strides[0] + 4*u, 4*H, work.ctypes.data + 4*(u//LANES*panel + k*GATES*LANES))
    tiles = (B + ROWS - 1)//ROWS
    for s in range(T):
        t, last = (T - 1 - s, T - s) if reverse else (s, s - 1)
        for u in range(0, H, LANES):
            for q in range(tiles):
                m, end = q*B//tiles, (q + 1)*B//tiles
                before = zeros.ctypes.data if s == 0 else c[last, m, u:].ctypes.data
                forward_tile(end - m, H if s else 0, z[t, m, u:].ctypes.data, 4*H, z.strides[1],
                             h[last if s else t, m].ctypes.data, work.ctypes.data + u//LANES*panel*4,
                             h[t, m, u:].ctypes.data, h.strides[1], before, c.strides[1] if s else 0,
                             c[t, m, u:].ctypes.data, tanh_c[t, m, u:].ctypes.data, c.strides[1],
                             mask[t, m:].ctypes.data)


@compiled('void(f4[:,:,:], f4[:,:], f4[:,:,:], f4[:,:,:], f4[:,:,:], b1, f4[::1])')
def backward(z, Wh, dy, c, tanh_c, reverse, work):
    """The gates z [T, B, 4H] become dz; dy [T, B, H]; the others as `forward` left them.

    work [4H·H + B·H + PANEL] is overwritten.
    """
    (T, B, _), H = z.shape, dy.shape[2]
    panels, dc, zeros = work[:GATES*H*H], work[GATES*H*H:][:B*H], work[GATES*H*H + B*H:]
    dc[:] = 0
    zeros[:] = 0
    for u in range(0, H, PANEL):
        pack(Wh.T[:, u:u + PANEL], panels[u*GATES*H:])
    tiles = (B + ROWS - 1)//ROWS
    for s in range(T):
        t, after, last = (s, s - 1, s + 1) if reverse else (T - 1 - s, T - s, T - 2 - s)
        for u in range(0, H, PANEL):
            for q in range(tiles):
                m, end = q*B//tiles, (q + 1)*B//tiles
                before = zeros.ctypes.data if s == T - 1 else c[last, m, u:].ctypes.data
                backward_tile(end - m, GATES*H if s else 0, z[after if s else t, m].ctypes.data,
                              z[t, m, u:].ctypes.data, 4*H, z.strides[1], panels.ctypes.data + 4*u*GATES*H,
                              dy[t, m, u:].ctypes.data, dy.strides[1], before, 0 if s == T - 1 else c.strides[1],
                              tanh_c[t, m, u:].ctypes.data, c.strides[1], dc.ctypes.data + 4*(m*H + u))
