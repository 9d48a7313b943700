"""Kernels over flat vectors: right, and at what share of the bandwidth of a copy."""

import numpy as np

from hpcasr.backend import get_backend
from hpcasr.bench.gpu.clock import Clock
from hpcasr.bench.gpu.data import away, fresh, judged, poisoned, put
from hpcasr.bench.gpu.machine import copy_speed
from hpcasr.kernels.cuda import activation, mix, pack, update
from hpcasr.kernels.reference import activation as exact_activation
from hpcasr.kernels.reference import update as exact_update

NEAR, HALF = 2e-6, 4e-3  # of float32; of bf16, whose rounding is 2⁻⁹ at most
RATES, ADAM, FRAMES = (0.01, 0.9), (3, 0.01, 0.9, 0.999, 1e-8), 7.0
AIM = 0.85  # of the bandwidth of a copy


def measure(sizes):
    device, (seed, rng), n = get_backend('cuda').device, fresh(), sizes.entries
    x, g, v, m = (rng.standard_normal(n, np.float32) for _ in range(4))
    yield from (row | {'seed': seed} for row in right(device, x, g, v, m))
    copy = copy_speed(device, sizes)
    for name, nbytes, work in works(device, x, g, v, m):
        seconds = Clock(device).median(work)
        yield {'what': name, 'ms': 1e3*seconds, 'gb_per_s': nbytes*n/seconds/1e9,
               'share_of_copy': nbytes*n/seconds/copy, 'aim': AIM}


def right(device, x, g, v, m):
    """Rows: every kernel once, into poisoned memory where it does not work in place, against float64."""
    yield from optimizers(device, x, g, v, m)
    yield from sums(device, x, g, v)
    yield from roundings(device, x)
    yield from functions(device, x, g)
    yield from flags(device, x)


def optimizers(device, x, g, v, m):
    wide = x.astype(float), g.astype(float)/FRAMES, v.astype(float), m.astype(float)
    on, half = [put(device, a) for a in (x, g, v)], poisoned(device, x.shape, np.uint16)
    device.do(update.sgd, *on, numbers(device, *RATES), numbers(device, FRAMES), numbers(device, 0), half)
    y, moved = wide[0].copy(), wide[2].copy()
    exact_update.sgd(y, wide[1], moved, *RATES, np.empty(1 << 16))
    yield judged('sgd: parameters', away(device.host(on[0]), y), NEAR)
    yield judged('sgd: momentum', away(device.host(on[2]), moved), NEAR)
    yield judged('sgd: copy in bf16', away(number(device.host(half)), y), HALF)
    square = v*v
    on = [put(device, a) for a in (x, g, m, square)]
    device.do(update.adam, *on, numbers(device, *update.adam_rates(*ADAM)), numbers(device, FRAMES),
              numbers(device, 0), half)
    y, second = wide[0].copy(), wide[2]**2
    exact_update.adam(y, wide[1], wide[3], second, *ADAM, np.empty(1 << 16))
    for what, found, exact in ('parameters', on[0], y), ('first moment', on[2], wide[3]), ('second', on[3], second):
        yield judged(f'adam: {what}', away(device.host(found), exact), NEAR)


def sums(device, *vectors):
    on, weights, out = [put(device, a) for a in vectors], (0.25, -0.5, 1.25), poisoned(device, vectors[0].shape)
    device.do(mix.mix, out, on, weights)
    exact = sum(w*a.astype(float) for w, a in zip(weights, vectors, strict=True))
    yield judged('mix of three', away(device.host(out), exact), NEAR)
    device.do(mix.pair, *on[:2])
    mean = (vectors[0].astype(float) + vectors[1])/2
    yield judged('mean of a pair', max(away(device.host(a), mean) for a in on[:2]), NEAR)


def roundings(device, x):
    for kind, near in (np.uint16, HALF), (np.float16, 1e-3):
        half, out = poisoned(device, x.shape, kind), poisoned(device, x.shape)
        device.do(pack.pack, put(device, x), half)
        device.do(pack.unpack, half, out)
        yield judged(f'to {"bf16" if kind is np.uint16 else "fp16"} and back', away(device.host(out), x), near)


def functions(device, x, g):
    for name in activation.FUNCTIONS:
        y, dx = poisoned(device, x.shape), poisoned(device, x.shape)
        device.do(activation.forward, name, put(device, x), y)
        device.do(activation.backward, name, put(device, g), y, dx)
        value = exact_activation.forward(name, x.astype(float))
        yield judged(name, away(device.host(y), value), NEAR)
        slope = exact_activation.backward(name, g.astype(float), value)
        yield judged(f'slope of {name}', away(device.host(dx), slope), 2*NEAR)


def flags(device, x):
    """One entry that is not finite is found."""
    bad = x.copy()
    bad[len(x)//2] = np.inf
    found = []
    for values in x, bad:
        flag = numbers(device, 0)
        device.do(update.not_finite, put(device, values), flag)
        found.append(float(device.host(flag)[0]))
    yield judged('what is not finite is found', abs(found[0]) + abs(found[1] - 1), 0)


def works(device, x, g, v, m):
    """(name, bytes that it reads and writes for an entry, what to do again and again)."""
    x, g, v, m = (put(device, a) for a in (x, g, v, np.abs(m)))
    half, no = poisoned(device, x.shape, np.uint16), numbers(device, 0)
    one, rates, adam = numbers(device, 1e6), numbers(device, *RATES), numbers(device, *update.adam_rates(*ADAM))

    def work(kernel, *args):
        return lambda: device.do(kernel, *args)
    yield 'sgd', 20, work(update.sgd, x, g, v, rates, one, no)
    yield 'sgd, with a copy in bf16', 22, work(update.sgd, x, g, v, rates, one, no, half)
    yield 'adam', 28, work(update.adam, x, g, v, m, adam, one, no)
    yield 'mix of two', 12, work(mix.mix, x, [x, g], (0.5, 0.5))
    yield 'mean of a pair', 16, work(mix.pair, x, g)
    yield 'to bf16', 6, work(pack.pack, x, half)
    yield 'from bf16', 6, work(pack.unpack, half, x)


def numbers(device, *values):
    return put(device, np.array(values, np.float32))


def number(half):
    """bf16 as float32, on the host."""
    return (half.astype(np.uint32) << 16).view(np.float32)
