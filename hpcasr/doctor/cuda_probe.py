"""A program that sends a device buffer to another one of its own over MPI, which may crash: status 0 if it came."""

import ctypes
import sys

SIZE = 1 << 20  # bytes


def check(status):
    if status:
        raise SystemExit(f'CUDA driver: error {status}')


def device_buffers(cuda, n):
    """Addresses of `n` buffers of SIZE bytes on the first GPU."""
    device, context = ctypes.c_int(), ctypes.c_void_p()
    check(cuda.cuInit(0))
    check(cuda.cuDeviceGet(ctypes.byref(device), 0))
    check(cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), device))
    check(cuda.cuCtxSetCurrent(context))
    buffers = [ctypes.c_uint64() for _ in range(n)]
    for buffer in buffers:
        check(cuda.cuMemAlloc_v2(ctypes.byref(buffer), ctypes.c_size_t(SIZE)))
    return buffers


def main():
    cuda = ctypes.CDLL('libcuda.so.1')
    source, target = device_buffers(cuda, 2)
    sent, came = bytes(range(256))*(SIZE//256), ctypes.create_string_buffer(SIZE)
    check(cuda.cuMemcpyHtoD_v2(source, sent, ctypes.c_size_t(SIZE)))
    check(cuda.cuMemsetD8_v2(target, ctypes.c_ubyte(0), ctypes.c_size_t(SIZE)))
    from mpi4py import MPI
    x, y = (MPI.buffer.fromaddress(buffer.value, SIZE) for buffer in (source, target))
    MPI.COMM_SELF.Sendrecv([x, MPI.BYTE], 0, 0, [y, MPI.BYTE], 0, 0)
    check(cuda.cuMemcpyDtoH_v2(came, target, ctypes.c_size_t(SIZE)))
    return '' if came.raw == sent else 'what came is not what was sent'


if __name__ == '__main__':
    sys.exit(main())
