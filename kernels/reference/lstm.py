"""A sequence through an LSTM, forward and backward through time (equations in hpcasr/model/lstm.py).

The products with x and all weight gradients are single products over all steps; a step does only what depends on the
step before it.  All gates go through one tanh, because σ(z) = ½ + ½ tanh(½ z).  Products are those of taken(factor).
"""

import numpy as np

from hpcasr.kernels.reference.bf16 import same


def forward(x, Wx, Wh, b, mask, taken=same):
    """x [T, B, D], mask [T, B] bool or None -> h [T, B, H] and the tape for `backward`."""
    T, B, D = x.shape
    x2 = taken(x.reshape(-1, D))
    a = x2 @ taken(Wx)  # becomes the gates, in place
    a += b
    a = a.reshape(T, B, len(b))
    h, c, tanh_c = run(a, taken(Wh), mask, taken)
    return h[1:], (x2, h, c, tanh_c, a)


def run(a, Wh, mask, taken):
    """Turn x_t Wx + b, [T, B, 4H], into gates in place; -> h, c [T + 1, B, H], zero first, and tanh c [T, B, H]."""
    T, B, H = *a.shape[:2], len(Wh)
    h, c, tanh_c = np.zeros((T + 1, B, H), a.dtype), np.zeros((T + 1, B, H), a.dtype), np.empty((T, B, H), a.dtype)
    recurrent, new = np.empty((B, 4*H), a.dtype), np.empty((B, H), a.dtype)
    half = np.repeat(np.array([0.5, 0.5, 1, 0.5], a.dtype), H)  # tanh stays tanh in gate g
    rest = 1 - half
    for t, z in enumerate(a):
        z += np.matmul(taken(h[t]), Wh, out=recurrent)
        z *= half
        np.tanh(z, out=z)
        z *= half
        z += rest
        if mask is not None:
            z[~mask[t]] = 0  # all gates closed: c, h and every derivative are zero
        i, f, g, o = gates(z)
        np.multiply(f, c[t], out=c[t + 1])
        c[t + 1] += np.multiply(i, g, out=new)
        np.tanh(c[t + 1], out=tanh_c[t])
        np.multiply(o, tanh_c[t], out=h[t + 1])
    return h, c, tanh_c


def backward(dh, tape, Wx, Wh, dWx, dWh, db, need_dx, taken=same):
    """dh [T, B, H] of the outputs.  Assign dWx, dWh, db; -> dx [T, B, D], or None."""
    x2, h, c, tanh_c, a = tape
    dz = back(dh, slopes(a, c, tanh_c), a, tanh_c, taken(Wh), taken).reshape(len(x2), len(db))
    factor = taken(dz)
    np.matmul(x2.T, factor, out=dWx)
    np.matmul(taken(h[:-1].reshape(len(x2), len(Wh))).T, factor, out=dWh)
    np.sum(dz, axis=0, out=db)
    return (factor @ taken(Wx).T).reshape(*dh.shape[:2], len(Wx)) if need_dx else None


def slopes(a, c, tanh_c):
    """∂c_t/∂z_i, ∂c_t/∂z_f, ∂c_t/∂z_g, ∂h_t/∂z_o at c_t and c_{t-1} held fixed: [T, B, 4H], all steps at once."""
    i, _, g, _ = gates(a)
    d = 1 - a
    d *= a
    di, df, dg, do = gates(d)
    di *= g
    df *= c[:-1]
    np.multiply(g, g, out=dg)
    np.subtract(1, dg, out=dg)
    dg *= i
    do *= tanh_c
    return d


def back(dy, dz, a, tanh_c, Wh, taken):
    """Turn `slopes` into dz in place: what is left of the loop is linear."""
    _, f, _, o = gates(a)
    dh_dc = 1 - tanh_c*tanh_c
    dh_dc *= o
    T, B, H = tanh_c.shape
    by_gate, WhT = dz.reshape(T, B, 4, H), np.ascontiguousarray(Wh.T)
    dh, dc, part = (np.zeros((B, H), dz.dtype) for _ in range(3))
    for t in reversed(range(T)):
        dh += dy[t]
        dc += np.multiply(dh, dh_dc[t], out=part)
        by_gate[t, :, :3] *= dc[:, None]
        by_gate[t, :, 3] *= dh
        dc *= f[t]
        np.matmul(taken(dz[t]), WhT, out=dh)
    return dz


def gates(a):
    """Views i, f, g, o, [..., H] each, of a [..., 4H]."""
    H = a.shape[-1]//4
    return [a[..., k*H:(k + 1)*H] for k in range(4)]
