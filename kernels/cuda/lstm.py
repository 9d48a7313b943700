"""One time step of an LSTM in K = 1 or 2 directions (reference/lstm.py), what lies between its products.

Step s of T: direction k is at frame t = s, or T − 1 − s if it is the reverse one; the reverse ones are k = 1, and of
one direction alone k = 0 if `reverse`.  With a stride over k between frames s and T − 1 − s, always positive, both
directions are one strided-batched product: z[0, t₀] and z[1, t₁] are (T + t₁ − t₀) B 4H entries apart.
"""

from itertools import product

import numpy as np
from numba import cuda, float32

from hpcasr.kernels.cuda.launch import THREADS, blocks, kernel, nothing
from hpcasr.kernels.cuda.number import narrow, sigmoid, tanh, wide

KINDS = 'f4', 'u2'
FORWARD = [f'void(i4, i4, {z}[:,:,:,::1], f4[:,:,::1], f4[::1], f4[::1], b1[:,::1], f4[:,:,:,::1], {y}[:,:,::1],'
           f' {y}[:,:,::1])' for z, y in (('f4', 'f4'), ('f4', 'u2'), ('u2', 'u2'))]
BACKWARD = [f'void(i4, i4, {z}[:,:,:,::1], f4[:,:,:,::1], {dy}[:,:,::1], f4[:,:,::1], f4[:,:,::1], {dz}[:,:,:,::1])'
            for z, dy, dz in product(KINDS, KINDS, KINDS) if (z, dz) != ('u2', 'f4')]


def forward(s, z, recurrent, bias, mask, c, y, last, reverse=False, stream=None, threads=THREADS):
    """z[:, t] ← the gates i, f, g, o;  c[:, t] ← f c_{t-1} + i g;  y[t], last ← o tanh c, of step s in every direction.

    z [K, T, B, 4H] f or h       x_t Wx on entry
    recurrent [K, B, 4H] f       h_{t-1} Wh; not looked at in step 0, before which h and c are zero
    bias                         [b], or [b ahead, b back], [4H] f each
    mask [T, B] bool, or None    h, c and all gates are zero where it is False
    c [K, T, B, H] f
    y [T, B, K H] f or h         the states, side by side
    last [K, B, H], as y         the same: what the product of the next step takes
    """
    K, _, B, H = c.shape
    mask = nothing(bool, 2) if mask is None else mask
    cells((B, blocks(H, threads), K), threads, stream, np.int32(s), np.int32(reverse), z, recurrent, bias[0], bias[-1],
          mask, c, y, last)


def backward(s, z, c, dy, recurrent, dc, dz, reverse=False, stream=None, threads=THREADS):
    """dz[:, t] ← the derivatives by what went into the gates, of step s; s = T − 1 comes first.

    z [K, T, B, 4H], c           as `forward` left them
    dy [T, B, K H] f or h        derivatives by the states, side by side
    recurrent [K, B, H] f        dz_{t+1} Whᵀ; not looked at in step T − 1
    dc [K, B, H] f               carried from step to step; need not be zeroed
    dz [K, T, B, 4H] f or h      may be z
    """
    K, _, B, H = c.shape
    slopes((B, blocks(H, threads), K), threads, stream, np.int32(s), np.int32(reverse), z, c, dy, recurrent, dc, dz)


@kernel(*FORWARD, registers=64)
def cells(s, reverse, z, recurrent, ahead, back, mask, c, y, last):
    b, k = cuda.blockIdx.x, cuda.blockIdx.z
    j = cuda.blockIdx.y*cuda.blockDim.x + cuda.threadIdx.x
    T, H = c.shape[1], c.shape[3]
    if j >= H:
        return
    turned = (k + reverse) & 1
    t = T - 1 - s if turned else s
    bias = back if k else ahead
    zi, zf = wide(z[k, t, b, j]) + bias[j], wide(z[k, t, b, H + j]) + bias[H + j]
    zg, zo = wide(z[k, t, b, 2*H + j]) + bias[2*H + j], wide(z[k, t, b, 3*H + j]) + bias[3*H + j]
    before = float32(0)
    if s > 0:
        zi += recurrent[k, b, j]
        zf += recurrent[k, b, H + j]
        zg += recurrent[k, b, 2*H + j]
        zo += recurrent[k, b, 3*H + j]
        before = c[k, t + 1 if turned else t - 1, b, j]
    i, f, g, o = sigmoid(zi), sigmoid(zf), tanh(zg), sigmoid(zo)
    if mask.shape[0] and not mask[t, b]:
        i = f = g = o = float32(0)
    new = f*before + i*g
    h = o*tanh(new)
    z[k, t, b, j] = narrow(i, z)
    z[k, t, b, H + j] = narrow(f, z)
    z[k, t, b, 2*H + j] = narrow(g, z)
    z[k, t, b, 3*H + j] = narrow(o, z)
    c[k, t, b, j] = new
    y[t, b, k*H + j] = narrow(h, y)
    last[k, b, j] = narrow(h, last)


@kernel(*BACKWARD, registers=64)
def slopes(s, reverse, z, c, dy, recurrent, dc, dz):
    b, k = cuda.blockIdx.x, cuda.blockIdx.z
    j = cuda.blockIdx.y*cuda.blockDim.x + cuda.threadIdx.x
    T, H = c.shape[1], c.shape[3]
    if j >= H:
        return
    turned, one = (k + reverse) & 1, float32(1)
    t = T - 1 - s if turned else s
    i, f = wide(z[k, t, b, j]), wide(z[k, t, b, H + j])
    g, o = wide(z[k, t, b, 2*H + j]), wide(z[k, t, b, 3*H + j])
    squashed, dh, d, before = tanh(c[k, t, b, j]), wide(dy[t, b, k*H + j]), float32(0), float32(0)
    if s < T - 1:
        dh += recurrent[k, b, j]
        d = dc[k, b, j]
    if s > 0:
        before = c[k, t + 1 if turned else t - 1, b, j]
    d += dh*o*(one - squashed*squashed)
    dz[k, t, b, j] = narrow(d*g*i*(one - i), dz)
    dz[k, t, b, H + j] = narrow(d*before*f*(one - f), dz)
    dz[k, t, b, 2*H + j] = narrow(d*i*(one - g*g), dz)
    dz[k, t, b, 3*H + j] = narrow(dh*squashed*o*(one - o), dz)
    dc[k, b, j] = d*f
