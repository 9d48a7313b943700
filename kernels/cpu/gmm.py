"""Mixtures of Gaussians (reference/gmm.py); frames side by side, so that one instruction serves several."""

from math import exp, log

import numba
import numpy as np

from hpcasr.kernels.cpu.compiled import compiled

LOG2_E = np.float32(1.4426950408889634)
LEAST = np.float32(-125)  # exponent: below 2^-125 beside a term of 1 nothing is left
# 2^f on -½..½: Taylor's coefficients (ln 2)^k/k!, whose error, 1.4e-7, is that of float32
C1, C2, C3, C4, C5, C6 = (np.float32(c) for c in (0.6931471805599453, 0.2402265069591007, 0.05550410866482158,
                                                  0.009618129107628477, 0.0013333558146428443, 0.00015403530393381608))
ONE, BIAS, MANTISSA = np.float32(1), np.int32(127), np.int32(23)


@numba.njit(nogil=True, inline='always')
def exp_below_zero(x):
    """exp x for x ≤ 0 in float32."""
    y = max(x*LOG2_E, LEAST)
    n = np.float32(np.rint(y))
    f = y - n
    p = ONE + f*(C1 + f*(C2 + f*(C3 + f*(C4 + f*(C5 + f*C6)))))
    return p*np.int32((np.int32(n) + BIAS) << MANTISSA).view(np.float32)


@compiled('void(f4[:,::1], i8[::1], f4[:,::1])')
def mixtures(scores, starts, out):
    T = scores.shape[1]
    most, total = np.empty(T, np.float32), np.empty(T, np.float32)
    for k in range(out.shape[1]):
        for t in range(T):
            most[t] = scores[starts[k], t]
        for g in range(starts[k] + 1, starts[k+1]):
            for t in range(T):
                most[t] = max(most[t], scores[g, t])
        total[:] = 0
        for g in range(starts[k], starts[k+1]):
            for t in range(T):
                total[t] += exp_below_zero(scores[g, t] - most[t])
        for t in range(T):
            out[t, k] = most[t] + log(total[t])


@compiled('void(f4[:,::1], i4[::1], i8[::1], f4[:,::1], f4[::1], f8[::1], f8[:,::1], f8[:,::1])',
          fastmath={'reassoc'})  # sums over d may be taken side by side
def accumulate(x, pdfs, starts, rows, constants, occupancy, first, second):
    D, scores = x.shape[1], np.empty(starts[-1])
    for t in range(len(pdfs)):
        y, low, high = x[t], starts[pdfs[t]], starts[pdfs[t] + 1]
        most = -np.inf
        for g in range(low, high):
            a, b, score = rows[g, :D], rows[g, D:], np.float32(0)
            for d in range(D):
                score += y[d]*(a[d] + y[d]*b[d])
            scores[g - low] = score + constants[g]
            most = max(most, scores[g - low])
        total = 0.0
        for g in range(low, high):
            scores[g - low] = exp(scores[g - low] - most)
            total += scores[g - low]
        for g in range(low, high):
            gamma = scores[g - low]/total
            if gamma > 1e-13:
                occupancy[g] += gamma
                one, two = first[g], second[g]
                for d in range(D):
                    one[d] += gamma*y[d]
                    two[d] += gamma*y[d]*y[d]
