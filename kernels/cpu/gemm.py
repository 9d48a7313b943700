"""Products of matrices, C = S + A B, of any sizes and strides, in tiles (tile.py).

Goto and van de Geijn 2008, Anatomy of high-performance matrix multiplication: DEEP rows of B are packed, panel by panel
of one tile's width; HIGH rows of A stay in the L2 cache while they meet every panel; an A that lies the other way is
turned when it is taken up, and so is B.  What is narrower than a panel is filled up with zeros.
"""

import numba
import numpy as np

from hpcasr.kernels.cpu.compiled import compiled
from hpcasr.kernels.cpu.processor import LANES
from hpcasr.kernels.cpu.tile import PANEL, ROWS, VECTOR, five, four, gather, one, six, three, transpose, two

DEEP, HIGH, WIDE = 512, 32*ROWS, 16*PANEL  # 4 bytes x DEEP x HIGH: 384 KB of the L2 cache; x WIDE: 2 MB of the L3
ZERO, BIAS, SUM = 0, 1, 2  # what a product is added to: nothing, a row, what is there
WORK = DEEP*(HIGH + WIDE) + (ROWS + 1)*PANEL  # float32 that a call needs


@numba.njit(nogil=True, inline='always')
def tile(rows, depth, a, a_step, b, s, s_step, c, c_step):
    """The product of `rows` rows with a panel; one of ROWS kernels."""
    if rows == 6:
        six(depth, a, a_step, b, s, s_step, c, c_step)
    elif rows == 5:
        five(depth, a, a_step, b, s, s_step, c, c_step)
    elif rows == 4:
        four(depth, a, a_step, b, s, s_step, c, c_step)
    elif rows == 3:
        three(depth, a, a_step, b, s, s_step, c, c_step)
    elif rows == 2:
        two(depth, a, a_step, b, s, s_step, c, c_step)
    else:
        one(depth, a, a_step, b, s, s_step, c, c_step)


@numba.njit(nogil=True)
def turn(source, target, target_step):
    """target[k, :] ← source[:, k] of a matrix whose rows are contiguous; target_step in numbers."""
    M, K = source.shape
    src, dst = source.ctypes.data, target.ctypes.data
    M_whole, K_whole = M//LANES*LANES, K//LANES*LANES
    for m in range(0, M_whole, LANES):
        for k in range(0, K_whole, LANES):
            transpose(src + m*source.strides[0] + 4*k, source.strides[0], dst + 4*(k*target_step + m), 4*target_step)
    for m in range(M):
        for k in range(K_whole if m < M_whole else 0, K):
            target[k*target_step + m] = source[m, k]


@numba.njit(nogil=True)
def pack(B, panel):
    """panel [K, PANEL] ← B [K, n ≤ PANEL], zeros behind."""
    K, n = B.shape
    if n < PANEL:
        panel[:K*PANEL] = 0
    if B.strides[0] == 4 and B.strides[1] != 4:
        turn(B.T, panel, PANEL)
    elif n == PANEL:
        for k in range(K):
            gather(B.ctypes.data + k*B.strides[0], VECTOR, panel.ctypes.data + 4*k*PANEL)
    else:
        for k in range(K):
            row = panel[k*PANEL:k*PANEL + n]
            for j in range(n):
                row[j] = B[k, j]


@numba.njit(nogil=True)
def through(A, B, C, bias, start, edge):
    """C [M, n ≤ PANEL] ← start + A B; A and C with contiguous rows, B a packed panel; edge [(ROWS + 1)·PANEL]."""
    (M, K), n = A.shape, C.shape[1]
    a, b, c, row = A.ctypes.data, B.ctypes.data, C.ctypes.data, edge[ROWS*PANEL:]
    row[:] = 0
    if start == BIAS:
        row[:n] = bias
    tiles = (M + ROWS - 1)//ROWS
    for q in range(tiles):
        m, end = q*M//tiles, (q + 1)*M//tiles
        a_here, c_here = a + m*A.strides[0], c + m*C.strides[0]
        s, s_step = (c_here, C.strides[0]) if start == SUM else (row.ctypes.data, 0)
        if n == PANEL:
            tile(end - m, K, a_here, A.strides[0], b, s, s_step, c_here, C.strides[0])
        else:
            beside(end - m, K, a_here, A.strides[0], b, s, s_step, C[m:end], edge)


@numba.njit(nogil=True)
def beside(rows, K, a, a_step, b, s, s_step, C, edge):
    """As `tile`, but C [rows, n] is narrower than a panel: in `edge`, then copied."""
    n, e = C.shape[1], edge.ctypes.data
    if s_step:
        for m in range(rows):
            for j in range(n):
                edge[m*PANEL + j] = C[m, j]
        s, s_step = e, 4*PANEL
    tile(rows, K, a, a_step, b, s, s_step, e, 4*PANEL)
    for m in range(rows):
        for j in range(n):
            C[m, j] = edge[m*PANEL + j]


@compiled('void(f4[:,:], f4[:,:], f4[:,:], f4[:], i8, f4[::1])')
def gemm(A, B, C, bias, start, work):
    """C [M, N] ← start + A [M, K] B [K, N]; C with contiguous rows.

    start   ZERO, BIAS (bias [N] in every row) or SUM (to what C holds)
    work    [WORK], overwritten
    """
    (M, K), N = A.shape, B.shape[1]
    turned, panels, edge = work[:DEEP*HIGH], work[DEEP*HIGH:DEEP*(HIGH + WIDE)], work[DEEP*(HIGH + WIDE):WORK]
    for k in range(0, max(K, 1), DEEP):
        deep = min(DEEP, K - k)
        for wide in range(0, N, WIDE):
            width = min(WIDE, N - wide)
            for n in range(0, width, PANEL):
                pack(B[k:k + deep, wide + n:wide + min(n + PANEL, width)], panels[n*deep:])
            for m in range(0, M, HIGH):
                high = min(HIGH, M - m)
                block = A[m:m + high, k:k + deep]
                if A.strides[1] != 4:
                    turn(block.T, turned, deep)
                    block = turned[:high*deep].reshape(high, deep)
                for n in range(0, width, PANEL):
                    lo, hi = wide + n, wide + min(n + PANEL, width)
                    through(block, panels[n*deep:], C[m:m + high, lo:hi], bias[lo:hi], SUM if k else start, edge)
