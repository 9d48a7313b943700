"""Softmax with cross-entropy (reference/softmax_ce.py), in place, a row at a time: no matrix of probabilities."""

from math import log

import numba
import numpy as np

from hpcasr.kernels.cpu.compiled import compiled
from hpcasr.kernels.cpu.gmm import exp_below_zero
from hpcasr.kernels.cpu.processor import LANES


@numba.njit(nogil=True)
def largest(z, most):
    """The largest entry, NaN if one is not finite; most [LANES], overwritten, takes as many at a time."""
    whole = len(z)//LANES*LANES
    most[:] = z[0]
    for k in range(0, whole, LANES):
        for j in range(LANES):
            most[j] = max(most[j], z[k + j])
    for k in range(whole, len(z)):
        most[0] = max(most[0], z[k])
    for j in range(LANES):
        most[0] = max(most[0], most[j])
    return most[0] + nothing(z)


@numba.njit(nogil=True, fastmath={'reassoc'})
def nothing(z):
    """0, NaN if an entry is not finite."""
    total = np.float32(0)
    for k in range(len(z)):
        total += z[k]*np.float32(0)
    return total


@numba.njit(nogil=True, fastmath={'reassoc', 'contract'})
def exponentials(z, most):
    """z ← exp(z − most); their sum."""
    total = np.float32(0)
    for k in range(len(z)):
        z[k] = exp_below_zero(z[k] - most)
        total += z[k]
    return total


@numba.njit(nogil=True)
def first(z, value):
    """The place of the first entry that is `value`."""
    for k in range(len(z)):
        if z[k] == value:
            return k
    return -1


@compiled('Tuple((f8, i8))(f4[:,::1], i4[::1], b1[::1])')
def softmax_ce(z, targets, keep):
    """z [N, K] ← d Σ_n −ln softmax(z_n)[targets_n] over the rows to keep, 0 in the others; -> (that sum, errors)."""
    loss, errors, lanes = 0.0, 0, np.empty(LANES, np.float32)
    for n in range(len(z)):
        row, target = z[n], targets[n]
        if not keep[n]:
            row[:] = 0
            continue
        most = largest(row, lanes)
        errors += row[target] != most or first(row, most) != target
        of_target = row[target] - most
        total = exponentials(row, most)
        loss += log(total) - of_target
        scale = 1/total
        for k in range(len(row)):
            row[k] *= scale
        row[target] -= 1
    return loss, errors


@compiled('void(f4[:,::1], f4[::1])')
def log_softmax(z, scratch):
    """z [N, K] ← ln softmax of every row; scratch [K] is overwritten."""
    lanes = np.empty(LANES, np.float32)
    for n in range(len(z)):
        row, most = z[n], largest(z[n], lanes)
        for k in range(len(row)):
            scratch[k] = row[k]
        shift = most + np.float32(log(exponentials(scratch, most)))
        for k in range(len(row)):
            row[k] -= shift
