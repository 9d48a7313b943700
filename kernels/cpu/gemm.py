"""Products of matrices, C = S + A B, of any sizes and strides, in tiles (tile.py).

Goto and van de Geijn 2008, Anatomy of high-performance matrix multiplication: of DEEP rows of B a panel, as wide as one
tile, is packed and stays in the L2 cache while all rows of A, HIGH at most, meet it.  Everything between the tiles and
the packing streams.  An A that lies the other way is turned when it is taken up, and so is B.  What is narrower than a
panel is filled up with zeros.
"""

import numba

from hpcasr.kernels.cpu.compiled import compiled
from hpcasr.kernels.cpu.number import HALF
from hpcasr.kernels.cpu.processor import LANES
from hpcasr.kernels.cpu.tile import PANEL, ROWS, VECTOR, gather, halve, halve_columns, tile, transpose

DEEP, HIGH = 512, 2048  # 4 bytes x DEEP x PANEL: 128 KB of the L2 cache; x HIGH: 4 MB of the L3
ZERO, BIAS, SUM = 0, 1, 2  # what a product is added to: nothing, a row, what is there
STRIP = 64  # rows of B or columns of A that are made bf16 at a time
EACH, HALF_BYTES = HALF.each, HALF.size
PANEL_AT = DEEP*HIGH  # places in `work`
BESIDE = PANEL_AT + DEEP*PANEL
EDGE = BESIDE + STRIP*max(HIGH, 2*PANEL)
WORK = EDGE + (ROWS + 1)*PANEL  # float32 that a call needs


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
def pack_half(B, panel, beside):
    """As `pack`, in bf16, a strip of rows at a time, that the cache keeps.

    beside [(STRIP + 1)·PANEL] is overwritten
    """
    size = 4*PANEL  # bytes of a row
    for k in range(0, len(B), STRIP):
        strip = B[k:k + STRIP]
        rows = len(strip)
        pack(strip, beside)
        for j in range(rows*PANEL, (rows + 1)*PANEL):  # what follows an odd last row
            beside[j] = 0
        for r in range(0, rows, EACH):
            row = beside.ctypes.data + r*size
            halve_columns(row, row + size, panel.ctypes.data + (k + r)//EACH*size)


@numba.njit(nogil=True)
def take_half(A, out, beside):
    """out [M, words] ← A [M, K] in bf16, a strip of columns at a time, zeros behind; -> the view of it.

    beside [M·STRIP] is overwritten
    """
    (M, K), strip = A.shape, beside[:len(A)*STRIP].reshape(len(A), STRIP)
    words = vectors(K)*LANES//EACH
    for k in range(0, K, STRIP):
        part, beyond = A[:, k:k + STRIP], out.ctypes.data + HALF_BYTES*k
        width = part.shape[1]
        whole = vectors(width)*LANES
        if A.strides[1] != 4 or width < whole:
            straighten(part, strip)
            part = strip
        for m in range(M):
            for j in range(0, whole, LANES):
                halve(part.ctypes.data + m*part.strides[0] + 4*j, beyond + 4*m*words + HALF_BYTES*j)
    return out[:M*words].reshape(M, words)[:, :(K + EACH - 1)//EACH]


@numba.njit(nogil=True)
def vectors(n):
    """In which n numbers find place."""
    return (n + LANES - 1)//LANES


@numba.njit(nogil=True)
def straighten(A, strip):
    """strip [M, STRIP] ← A [M, K ≤ STRIP] with contiguous rows, zeros behind."""
    if A.strides[1] == 4:
        copy(A, strip)
    else:
        turn(A.T, strip.reshape(-1), STRIP)
    for m in range(len(A)):
        for k in range(A.shape[1], STRIP):
            strip[m, k] = 0


@numba.njit(nogil=True)
def through(A, B, C, bias, start, half, edge):
    """C [M, n ≤ PANEL] ← start + A B; A [M, words] and C with contiguous rows, B a packed panel.

    edge   [(ROWS + 1)·PANEL]; where a narrower C is computed
    """
    (M, depth), n, row = A.shape, C.shape[1], edge[ROWS*PANEL:]
    for j in range(PANEL):
        row[j] = 0
    if start == BIAS:
        for j in range(n):
            row[j] = bias[j]
    tiles, local = (M + ROWS - 1)//ROWS, edge[:ROWS*PANEL].reshape(ROWS, PANEL)
    for q in range(tiles):
        m, end = q*M//tiles, (q + 1)*M//tiles
        c, c_step = C.ctypes.data + m*C.strides[0], C.strides[0]
        if n < PANEL:
            c, c_step = edge.ctypes.data, 4*PANEL
            if start == SUM:
                copy(C[m:end], local)
        s, s_step = (c, c_step) if start == SUM else (row.ctypes.data, 0)
        tile(end - m - 1 + ROWS*half, depth, A.ctypes.data + m*A.strides[0], A.strides[0], B.ctypes.data, s, s_step,
             c, c_step)
        if n < PANEL:
            copy(local[:, :n], C[m:end])


@numba.njit(nogil=True)
def copy(source, target):
    """The rows and columns of the smaller of both."""
    for m in range(min(len(source), len(target))):
        for j in range(min(source.shape[1], target.shape[1])):
            target[m, j] = source[m, j]


@compiled('void(f4[:,:], f4[:,:], f4[:,:], f4[:], i8, b1, f4[::1])')
def gemm(A, B, C, bias, start, half, work):
    """C [M, N] ← start + A [M, K] B [K, N]; C with contiguous rows.

    start   ZERO, BIAS (bias [N] in every row) or SUM (to what C holds)
    half    round A and B to bf16
    work    [WORK], overwritten
    """
    (M, K), N = A.shape, B.shape[1]
    turned, panel, beside, edge = work[:PANEL_AT], work[PANEL_AT:BESIDE], work[BESIDE:EDGE], work[EDGE:WORK]
    each = EACH if half else 1
    for k in range(0, max(K, 1), DEEP*each):
        deep = min(DEEP*each, K - k)
        for m in range(0, M, HIGH):
            high = min(HIGH, M - m)
            block = A[m:m + high, k:k + deep]
            if half:
                block = take_half(block, turned, beside)
            elif A.strides[1] != 4:
                turn(block.T, turned, deep)
                block = turned[:high*deep].reshape(high, deep)
            for n in range(0, N, PANEL):
                end = min(n + PANEL, N)
                if half:
                    pack_half(B[k:k + deep, n:end], panel, beside)
                else:
                    pack(B[k:k + deep, n:end], panel)
                through(block, panel, C[m:m + high, n:end], bias[n:end], SUM if k else start, half, edge)
