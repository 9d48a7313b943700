"""Changes after which a file is whole in form: checksums, sizes and headers are right, the content is not."""

import io
import json
import zipfile
import zlib

import h5py
import numpy as np

from hpcasr.data.store_seal import find, holes, seal
from hpcasr.journal import cut
from hpcasr.journal import piece as framed
from tests.fuzz.mutate import VALUES, pick, spoilt

ODD = (np.zeros(0), np.zeros(3, 'i4'), np.full(4, np.nan), np.zeros((2, 2)), np.int64(-1), np.int64(2**62),
       np.float64(np.nan),
       np.bytes_(b'{'), np.zeros((1, 0)), np.full(5, -1, 'i8'), np.zeros(2, 'c16'), np.zeros(3, 'S5'), np.zeros(2, '?'))


def unseal(f):
    """Cut the seal off the open file f, if there is one."""
    if found := find(f):
        f.truncate(found[0])


def entry(rng, content):
    """One thing in an HDF5 file is changed, removed, or becomes another."""
    file = io.BytesIO(content)
    try:
        with h5py.File(file, 'r+', libver='v110') as f:
            pick(rng, (attribute, dataset, numbers, numbers))(rng, f)
    except Exception:  # it is spoilt already
        return content
    return file.getvalue()


def attribute(rng, f):
    name = pick(rng, sorted(f.attrs) or ['x'])
    old = f.attrs.get(name, 0)
    if isinstance(old, str):
        f.attrs[name] = spoilt(rng, old.encode()).replace(b'\0', b'').decode('utf-8', 'replace')[:10_000]
    elif rng.random() < 0.2:
        del f.attrs[name]
    else:
        f.attrs[name] = pick(rng, (*ODD, 'text', old + 1, -old - 1))


def datasets(f):
    found = []
    f.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return sorted(found)


def dataset(rng, f):
    """It goes, or is replaced by something else, cut, chunked, compressed, a hole of impossible size."""
    name = pick(rng, datasets(f))
    old = f[name][()]
    attrs = dict(f[name].attrs)
    del f[name]
    way = int(rng.integers(6))
    if way == 1:
        f[name] = pick(rng, ODD)
    elif way == 2 and np.ndim(old):
        f[name] = old[:-1]
    elif way == 3 and np.ndim(old):
        f.create_dataset(name, data=old, chunks=True, compression='gzip')
    elif way == 4:
        f.create_dataset(name, shape=pick(rng, ((1 << 40,), (1 << 31, 1 << 31), (0,))), dtype='i4')
    elif way == 5:
        f.create_group(name)
    if way in (2, 3):
        f[name].attrs.update(attrs)


def numbers(rng, f):
    """Some entries of a dataset of numbers become others, of texts others."""
    d = f[pick(rng, datasets(f))]
    if d.shape and d.dtype.kind in 'iuf':
        x = d[()]
        k = rng.integers(0, x.size, min(3, x.size))
        new = pick(rng, (0, -1, 1, 2**31 - 1, 1e30, np.nan))
        with np.errstate(all='ignore'):
            x.reshape(-1)[k] = np.array(new if x.dtype.kind == 'f' or np.isfinite(new) else 7).astype(x.dtype)
        d[...] = x
    elif d.shape:
        d[int(rng.integers(len(d)))] = pick(rng, ('', 'x\ny', 'TEA '*1000, '\u202e', 'a|'))


HDF5 = [entry]


def sealed(rng, content):
    """The same, with checksums of a store that fit."""
    file = io.BytesIO(content)
    try:
        unseal(file)
        file = io.BytesIO(entry(rng, file.getvalue()))
        with h5py.File(file, 'r') as f:
            left_out = holes(f)
        seal(file, left_out)
    except Exception:  # it is spoilt already
        return content
    return file.getvalue()


STORE = [sealed]


def array(rng, content):
    """An array of a .npz becomes another, or its facts say something else."""
    try:
        with np.load(io.BytesIO(content)) as npz:
            arrays = dict(npz)
    except Exception:
        return content
    name = pick(rng, sorted(arrays))
    x, way = arrays[name], int(rng.integers(7))
    if name == 'facts':
        told = spoilt(rng, x.tobytes())
        arrays[name] = np.frombuffer(told, np.uint8)
    elif way == 0:
        del arrays[name]
    elif way == 1:
        arrays[name] = pick(rng, ODD)
    elif way == 2 and x.ndim:
        arrays[name] = x[:-1]
    elif way == 3:
        arrays[name] = np.array([{'a': 1}], object)  # a pickle
    elif x.size and x.dtype.kind in 'if':
        x = x.copy()
        with np.errstate(all='ignore'):
            new = np.float64(pick(rng, (0, -1, 1, 1e300, 1e-300, 3, 10**6)))
            x.reshape(-1)[int(rng.integers(x.size))] = new.astype(x.dtype)
        arrays[name] = x
    out = io.BytesIO()
    np.savez(out, **arrays)
    return out.getvalue()


def bomb(rng, content):
    """An archive whose members unpack to a hundred times its size, or whose header announces what nobody has."""
    out = io.BytesIO()
    shape, name = pick(rng, ((1 << 40,), (1 << 26,), (1 << 30, 1 << 30), (-1,))), pick(rng, ('weights.npy',
                                                                                             'facts.npy'))
    head = {'descr': '<f8', 'fortran_order': False, 'shape': shape}
    with zipfile.ZipFile(out, 'w', zipfile.ZIP_DEFLATED) as z, z.open(name, 'w') as f:
        np.lib.format.write_array_header_1_0(f, head)
        for _ in range(20):
            f.write(bytes(1 << 20))
    return out.getvalue()


NPZ = [array]*12 + [bomb]


def piece(rng, content):
    """Numbers of one learner in a record become others, all lengths right."""
    line, newline, rest = content.partition(b'\n')
    try:
        blocks, _ = cut(rest)
        k = int(rng.integers(len(blocks)))
        bodies, _ = cut(blocks[k])
        at = int(rng.integers(len(bodies)))
        x = np.frombuffer(zlib.decompressobj().decompress(bodies[at], 1 << 20), '<i8').copy()
        x[int(rng.integers(len(x)))] += pick(rng, (1, -1, 2**62, -2**63, 7))
        bodies[at] = zlib.compress(x.tobytes()) if rng.random() < 0.95 else zeros(pick(rng, (8, 16, 300 << 20)))
        blocks[k] = b''.join(map(framed, bodies))
    except (ValueError, zlib.error):
        return content
    return line + newline + b''.join(map(framed, blocks))


def zeros(n):
    """So many, compressed."""
    packing = zlib.compressobj(1)
    return b''.join([packing.compress(bytes(min(1 << 20, n - at))) for at in range(0, n, 1 << 20)]) + packing.flush()


def facts(rng, content):
    """What the head of a record says."""
    line, newline, rest = content.partition(b'\n')
    try:
        found = json.loads(line)
        name = pick(rng, sorted(found))
        found[name] = pick(rng, VALUES)
    except (ValueError, TypeError, IndexError):
        return content
    return json.dumps(found).encode() + newline + rest


RECORD = [piece, piece, facts]
