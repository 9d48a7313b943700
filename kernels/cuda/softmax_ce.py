"""Softmax with cross-entropy (reference/softmax_ce.py), in place, a block of threads for a row.

The largest logit and the sum of exponentials are found in one pass (Milakov and Gimelshein 2018, arXiv 1805.02867): a
row is read twice and written once, and there is no matrix of probabilities.  `threads` is a power of two, THREADS at
most.
"""

import math

from numba import cuda, float32, int32

from hpcasr.kernels.cuda.launch import THREADS, device, kernel, nothing
from hpcasr.kernels.cuda.number import exp, log, narrow, wide

LOWEST, INFINITY = float32(-3.4028235e38), float32(math.inf)  # of float32
EACH = 8  # logits that a thread reads, without a branch, before it looks at the first: they come at the same time


def softmax_ce(logits, targets, keep, losses, errors, bias=None, stream=None, threads=THREADS):
    """Overwrite logits [N, C] f or h with d Σ_n −ln softmax(logits_n + bias)[targets_n], zero in rows not to keep.

    targets [N] int32, 0..C-1; not checked
    keep [N] bool, or None: all
    losses [N] f, errors [N] f   assigned: −ln softmax in nats, and 1 where the first largest logit is not the target's
    bias [C] f, or None
    A row with an entry that becomes NaN has a loss that is not finite.  Rows that lie in the L2 cache are read from the
    memory once: call it for some 30 MB of logits at a time.
    """
    gradient(len(targets), threads, stream, logits, nothing('f4', 1) if bias is None else bias, targets,
             nothing(bool, 1) if keep is None else keep, losses, errors)


def log_softmax(logits, bias=None, stream=None, threads=THREADS):
    """Overwrite logits [N, C] f with ln softmax(logits + bias)."""
    logarithm(len(logits), threads, stream, logits, nothing('f4', 1) if bias is None else bias)


def totals(losses, errors, out, stream=None, threads=THREADS):
    """out [3] f ← Σ losses, Σ errors, and 1 if Σ losses is not finite, else 0."""
    add(1, threads, stream, losses, errors, out)


@device
def read(logits, bias, n, first, threads, row):
    """row [EACH] ← the logits of row n at first, first + threads ..., −inf behind its end."""
    C = logits.shape[1]
    for u in range(EACH):
        row[u] = wide(logits[n, min(first + u*threads, C - 1)])
    if bias.shape[0]:
        for u in range(EACH):
            row[u] += bias[min(first + u*threads, C - 1)]
    for u in range(EACH):
        if first + u*threads >= C:
            row[u] = -INFINITY


@device
def online(logits, bias, n, tid, threads, row):
    """(largest, its first place, sum of exponentials relative to it) of what thread `tid` reads of row n."""
    m, z, at = LOWEST, float32(0), int32(0x7fffffff)
    for first in range(tid, logits.shape[1], EACH*threads):
        read(logits, bias, n, first, threads, row)
        before = m
        for u in range(EACH):
            if row[u] > m:
                m, at = row[u], int32(first + u*threads)
        z *= exp(before - m)
        for u in range(EACH):
            z += exp(row[u] - m)
    return m, at, z


@device
def join(tid, threads, most, place, total):
    """[0] of the three arrays ← what all threads found together; of equal logits the first place."""
    half = threads//2
    while half > 0:
        if tid < half:
            m, other = most[tid], most[tid + half]
            if other > m:
                total[tid] = total[tid]*exp(m - other) + total[tid + half]
                most[tid], place[tid] = other, place[tid + half]
            else:
                total[tid] += total[tid + half]*exp(other - m)
                if other == m:
                    place[tid] = min(place[tid], place[tid + half])
        cuda.syncthreads()
        half //= 2


@kernel(*(f'void({z}[:,::1], f4[::1], i4[::1], b1[::1], f4[::1], f4[::1])' for z in ('f4', 'u2')), registers=72)
def gradient(logits, bias, targets, keep, losses, errors):
    most = cuda.shared.array(THREADS, float32)
    place = cuda.shared.array(THREADS, int32)
    total = cuda.shared.array(THREADS, float32)
    row = cuda.local.array(EACH, float32)
    n, tid, threads, C = cuda.blockIdx.x, cuda.threadIdx.x, cuda.blockDim.x, logits.shape[1]
    if keep.shape[0] and not keep[n]:
        for k in range(tid, C, threads):
            logits[n, k] = narrow(float32(0), logits)
        if tid == 0:
            losses[n] = errors[n] = float32(0)
        return
    most[tid], place[tid], total[tid] = online(logits, bias, n, tid, threads, row)
    cuda.syncthreads()
    join(tid, threads, most, place, total)
    m, inverse, target = most[0], float32(1)/total[0], targets[n]
    if tid == 0:
        of_target = wide(logits[n, target])
        if bias.shape[0]:
            of_target += bias[target]
        losses[n] = log(total[0]) + (m - of_target)
        errors[n] = float32(1) if place[0] != target else float32(0)
    cuda.syncthreads()  # the target's logit is read before it is written over
    for first in range(tid, C, EACH*threads):
        read(logits, bias, n, first, threads, row)
        for u in range(EACH):
            k, p = first + u*threads, exp(row[u] - m)*inverse
            if k < C:
                logits[n, k] = narrow(p - float32(1) if k == target else p, logits)


@kernel('void(f4[:,::1], f4[::1])', registers=72)
def logarithm(logits, bias):
    most = cuda.shared.array(THREADS, float32)
    place = cuda.shared.array(THREADS, int32)
    total = cuda.shared.array(THREADS, float32)
    row = cuda.local.array(EACH, float32)
    n, tid, threads, C = cuda.blockIdx.x, cuda.threadIdx.x, cuda.blockDim.x, logits.shape[1]
    most[tid], place[tid], total[tid] = online(logits, bias, n, tid, threads, row)
    cuda.syncthreads()
    join(tid, threads, most, place, total)
    m, rest = most[0], log(total[0])
    for first in range(tid, C, EACH*threads):
        read(logits, bias, n, first, threads, row)
        for u in range(EACH):
            if first + u*threads < C:
                logits[n, first + u*threads] = (row[u] - m) - rest


@kernel('void(f4[::1], f4[::1], f4[::1])')
def add(losses, errors, out):
    loss = cuda.shared.array(THREADS, float32)
    error = cuda.shared.array(THREADS, float32)
    tid, threads = cuda.threadIdx.x, cuda.blockDim.x
    a, b = float32(0), float32(0)
    for n in range(tid, losses.shape[0], threads):
        a += losses[n]
        b += errors[n]
    loss[tid], error[tid] = a, b
    cuda.syncthreads()
    half = threads//2
    while half > 0:
        if tid < half:
            loss[tid] += loss[tid + half]
            error[tid] += error[tid + half]
        cuda.syncthreads()
        half //= 2
    if tid == 0:
        out[0], out[1] = loss[0], error[0]
        out[2] = float32(0) if math.isfinite(loss[0]) else float32(1)
