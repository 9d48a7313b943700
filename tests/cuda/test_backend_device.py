"""What a GPU is asked, and what is said where there is none: with a CUDA and a cuBLAS that only take notes."""

import ctypes
from types import SimpleNamespace

import numpy as np
import pytest

from hpcasr.backend import cuda_blas, cuda_device, get_backend
from hpcasr.backend.cuda_blas import Blas, Matrix
from hpcasr.backend.cuda_simulated import Array, Simulated
from hpcasr.errors import BadInput


class Refused(Exception):
    """What CuPy raises."""


def cupy(driver=13000, runtime=13000, count=2, mode=0, busy=False):
    """(the module, as far as it is asked before there is a Gpu; the devices that were used)."""
    used = []

    def free(pointer):
        if busy:
            raise Refused('cudaErrorDevicesUnavailable: all CUDA-capable devices are busy or unavailable')

    def devices():
        if count is None:
            raise Refused('cudaErrorNoDevice: no CUDA-capable device is detected')
        return count
    calls = SimpleNamespace(runtimeGetVersion=lambda: runtime, getDeviceCount=devices, free=free,
                            CUDARuntimeError=Refused)
    device = lambda k: SimpleNamespace(attributes={'ComputeMode': mode}, use=lambda: used.append(k))
    return SimpleNamespace(cuda=SimpleNamespace(runtime=calls, Device=device)), used


@pytest.mark.parametrize('driver, options, said', [
    (0, {}, 'no NVIDIA driver is loaded here'),
    (12080, {}, r'knows CUDA up to 12.8, CuPy needs 13.0; pip install "hpcasr\[cuda12\]"'),
    (13000, {'count': 0}, 'this process sees no GPU; use --backend cpu'),
    (13000, {'count': None}, r'sees no GPU \(cudaErrorNoDevice'),
    (13000, {'mode': 2}, 'GPU 1 is closed to compute'),
    (13000, {'mode': 3, 'busy': True}, 'GPU 1 cannot be used: it is in exclusive mode, and another process has it'),
    (13000, {'busy': True}, 'GPU 1 cannot be used: cudaErrorDevicesUnavailable')])
def test_one_line_says_why_there_is_no_gpu(monkeypatch, driver, options, said):
    module, _ = cupy(**options)
    monkeypatch.delenv('CUDA_VISIBLE_DEVICES', raising=False)
    monkeypatch.setattr(cuda_device, 'driver_version', lambda: driver)
    monkeypatch.setattr(cuda_device, 'load', lambda: module)
    with pytest.raises(BadInput, match=said) as error:
        cuda_device.open_gpu(3, 'fp32')
    assert '\n' not in str(error.value)


@pytest.mark.parametrize('place, count, expected', [(0, 1, 0), (3, 1, 0), (1, 4, 1), (5, 4, 1)])
def test_ranks_of_a_machine_take_its_gpus_in_turn(monkeypatch, place, count, expected):
    module, used = cupy(count=count)
    monkeypatch.setattr(cuda_device, 'driver_version', lambda: 13000)
    monkeypatch.setattr(cuda_device, 'load', lambda: module)
    monkeypatch.setattr(cuda_device, 'Gpu', lambda cupy, number, precision: number)
    assert cuda_device.open_gpu(place, 'fp32') == expected and used == [expected]


@pytest.mark.parametrize('arguments, said', [
    (('cuda', 'fp32', 'float64'), 'train.backend = cuda: needs train.dtype = float32'),
    (('cpu', 'tf32'), 'train.precision = tf32: only GPUs know it'), (('cuda', 'tf32', 'float64'), 'needs train.dtype')])
def test_what_a_backend_cannot_do(arguments, said):
    with pytest.raises(BadInput, match=said):
        get_backend(*arguments)


# cuBLAS

class Notes:
    """cublasGemmStridedBatchedEx as its manual describes it: column by column, of what lies at the addresses."""

    def __init__(self):
        self.cublasCreate_v2 = self.cublasSetStream_v2 = self.cublasSetWorkspace_v2 = lambda *args: 0

    def __getattribute__(self, name):
        if name == 'cublasGemmStridedBatchedEx':
            return object.__getattribute__(self, 'gemm')
        return object.__getattribute__(self, name)

    def gemm(self, handle, ta, tb, m, n, k, alpha, A, type_a, lda, step_a, B, type_b, ldb, step_b, beta, C, type_c, ldc,
             step_c, count, compute, algorithm):
        assert (type_a, type_b, type_c, compute, algorithm) == (0, 0, 0, 68, -1)
        assert lda >= max(1, k if ta else m) and ldb >= max(1, n if tb else k) and ldc >= max(1, m)
        for i in range(count):
            a, b = columns(A + 4*i*step_a, lda, *(k, m) if ta else (m, k)), columns(
                B + 4*i*step_b, ldb, *(n, k) if tb else (k, n))
            c = columns(C + 4*i*step_c, ldc, m, n)
            c[...] = (a.T if ta else a) @ (b.T if tb else b) + (c if beta._obj.value else 0)
        return 0


def columns(address, ld, rows, count):
    """The matrix [rows, count] at an address, column after column, `ld` entries apart."""
    flat = np.ctypeslib.as_array(ctypes.cast(address, ctypes.POINTER(ctypes.c_float)), (ld*(count - 1) + rows,))
    return np.lib.stride_tricks.as_strided(flat, (rows, count), (4, 4*ld))


class OnDevice(np.ndarray):
    """What CuPy gives of an array's place."""

    @property
    def __cuda_array_interface__(self):
        return self.__array_interface__


@pytest.fixture
def blas(monkeypatch):
    monkeypatch.setattr(cuda_blas, 'load', lambda major: Notes())
    monkeypatch.setattr(Blas, 'declare', lambda self: None)
    return Blas(13, 0, (0, 0), 'fp32')


def matrices(rng, *shape):
    """Arrays of one shape, which lie in memory in all the ways that the layers ask for."""
    *count, rows, cols = shape
    new = lambda *s: rng.standard_normal(s).astype('f4').view(OnDevice)
    yield new(*shape)
    yield np.swapaxes(new(*count, cols, rows), -1, -2)
    yield new(*count, rows, cols + 3)[..., 1:cols + 1]
    yield np.swapaxes(new(*count, cols, rows + 2)[..., 2:], -1, -2)
    if count:
        yield np.broadcast_to(new(rows, cols), shape, subok=True)
        yield new(2*count[0], rows, cols)[::2]


def writable(C):
    """Whether a product may be written there: row by row, and to each place once."""
    return (C.strides[-1] == 4 or C.shape[-1] == 1) and 0 not in C.strides


@pytest.mark.parametrize('M, N, K, count', [(3, 4, 5, ()), (1, 4, 5, ()), (3, 1, 2, ()), (2, 3, 1, (2,)),
                                            (4, 3, 2, (2,)), (1, 1, 1, (2,))])
@pytest.mark.parametrize('add', [False, True])
def test_products_are_those_of_numpy(blas, M, N, K, count, add):
    rng = np.random.default_rng(0)
    for A in matrices(rng, *count, M, K):
        for B in matrices(rng, *count, K, N):
            for C in filter(writable, matrices(rng, *count, M, N)):
                expected = np.matmul(np.array(A), np.array(B)) + (np.array(C) if add else 0)
                blas.gemm(*map(Matrix, (A, B, C)), add)
                assert np.allclose(C, expected, atol=1e-5)


def test_a_matrix_that_cublas_cannot_read_is_refused(blas):
    x = np.zeros((8, 8), 'f4').view(OnDevice)
    with pytest.raises(ValueError, match='contiguous in no direction'):
        blas.gemm(*map(Matrix, (x[::2, ::2], x[:4, :4], x[:4, :4].copy())))
    with pytest.raises(ValueError, match='row by row'):
        blas.gemm(*map(Matrix, (x, x, x.T)))


# the simulated device

def test_arrays_of_device_and_host_do_not_mix():
    device, host = Simulated('fp32').zeros(3), np.ones(3, 'f4')
    for wrong in (lambda: device + host, lambda: np.add(host, 1, out=device),
                  lambda: device.__setitem__(slice(2), host[:2]),
                  lambda: Simulated('fp32').gemm(device[None], host[:, None], device[:1, None])):
        with pytest.raises(TypeError):
            wrong()
    device[:2] = 2*device[1:] + 1
    assert type(device) is Array and device.tolist() == [1, 1, 0] and float(device @ device) == 2
