"""Fresh random data on a device, and memory that shows who reads what was not written."""

import math
import secrets

import numpy as np

from hpcasr.kernels.cuda import pack


def fresh():
    """(seed, a generator): other numbers in every run; the seed is told, so that a failure can be met again."""
    seed = secrets.randbits(32)
    return seed, np.random.default_rng(seed)


def put(device, x):
    """A copy of x, a NumPy array, on the device."""
    x = np.ascontiguousarray(x)
    out = device.empty(x.shape, x.dtype)
    device.upload(out, x)
    device.synchronize()
    return out


def put_half(device, x):
    """x as bf16."""
    wide = put(device, np.asarray(x, np.float32))
    out = device.empty(wide.shape, np.uint16)
    device.do(pack.pack, wide.reshape(-1), out.reshape(-1))
    return out


def uniform(device, shape, half=False, seed=0):
    """[...] of numbers between -1 and 1, float32 or bf16; a block of them again and again where there are many."""
    n, block = int(np.prod(shape)), np.random.default_rng(seed).random(1_000_003, np.float32)*2 - 1
    x = np.resize(block, n).reshape(shape)
    return put_half(device, x) if half else put(device, x)


def poisoned(device, shape, dtype=np.float32):
    """An array of which every bit is one: NaN in float32 and in bf16."""
    out = device.empty(shape, dtype)
    spoil(out)
    return out


def spoil(x):
    x.reshape(-1).view(np.uint8)[...] = 255


def away(found, exact):
    """‖found − exact‖/‖exact‖; infinite where something is not finite, so that it is the largest of several."""
    found, exact = np.asarray(found, float), np.asarray(exact, float)
    off = float(np.linalg.norm(found - exact)/max(np.linalg.norm(exact), 1e-300))
    return off if math.isfinite(off) else math.inf


def judged(what, off, bound, **more):
    """A row; NaN is not right."""
    return {'what': what, **more, 'off': off, 'bound': bound, 'right': bool(off <= bound)}
