"""A GPU: its memory, its streams and the products of matrices on it.  Where there is none, one line says why."""

import ctypes
import os
import weakref

import numpy as np

from hpcasr.errors import BadInput

EXCLUSIVE, PROHIBITED = 1, 2  # cudaDeviceProp.computeMode
ADVICE = 'use --backend cpu, or ask for a GPU (srun --gpus-per-node, docker --gpus all); hpcasr doctor says more'


class Gpu:
    """One GPU, with a stream for compute and one for copies; what is asked of it here does not wait.

    number      of the device, among those that this process sees
    precision   of products: fp32, tf32 or bf16
    """

    simulated = False

    def __init__(self, cupy, number, precision):
        from hpcasr.backend.cuda_blas import WORKSPACE, Blas
        self.cupy, self.number = cupy, number
        cupy.cuda.Device(number).use()
        self.stream, self.side = (cupy.cuda.Stream(non_blocking=True) for _ in range(2))
        self.stream.use()  # for what CuPy does in this thread
        self.workspace = cupy.empty(WORKSPACE, np.uint8)
        major = cupy.cuda.runtime.runtimeGetVersion()//1000
        self.blas = Blas(major, self.stream.ptr, (self.workspace.data.ptr, WORKSPACE), precision)

    def describe(self):
        """`NVIDIA H200, CUDA 13.0`."""
        runtime = self.cupy.cuda.runtime
        version = runtime.runtimeGetVersion()
        name = runtime.getDeviceProperties(self.number)['name'].decode()
        return f'{name}, CUDA {version//1000}.{version % 1000//10}'

    @property
    def capability(self):
        """Compute capability: (9, 0)."""
        return divmod(int(self.cupy.cuda.Device(self.number).compute_capability), 10)

    @property
    def bus(self):
        """Where it is plugged in: the same for all processes of the machine, whatever they count from."""
        return self.cupy.cuda.Device(self.number).pci_bus_id

    # memory

    def empty(self, shape, dtype=np.float32):
        return self.allocate(self.cupy.empty, shape, dtype)

    def zeros(self, shape, dtype=np.float32):
        return self.allocate(self.cupy.zeros, shape, dtype)

    def allocate(self, new, shape, dtype):
        try:
            return new(shape, dtype)
        except self.cupy.cuda.memory.OutOfMemoryError as e:
            raise BadInput(f'the memory of GPU {self.number} is used up ({said(e)}); give a smaller data.batch, choose '
                           'fewer model.cells or layers, or start fewer ranks per GPU') from None

    def free(self):
        """Bytes that can still be allocated."""
        return self.cupy.cuda.Device(self.number).mem_info[0] + self.cupy.get_default_memory_pool().free_bytes()

    def address(self, x):
        return x.data.ptr

    def pinned(self, shape, dtype):
        """An array of any content in host memory that copies run from and to beside everything else."""
        import cupyx
        if not np.prod(shape):
            return np.empty(shape, dtype)
        with self.cupy.cuda.Device(self.number):  # another thread would make a context on the first GPU
            return cupyx.empty_pinned(shape, dtype)

    def pin(self, x):
        """Let copies from and to `x`, an array in host memory, run beside everything else.

        Pages that are pinned already, or of which there are too many (ulimit -l), stay as they are: copies are slower.
        """
        runtime, address = self.cupy.cuda.runtime, x.ctypes.data
        try:
            runtime.hostRegister(address, x.nbytes, 0)
        except runtime.CUDARuntimeError:
            return
        weakref.finalize(self, unpin, runtime, address, x)  # holds x: what is freed while pinned is copied wrongly

    # copies; of contiguous arrays of one type

    def upload(self, out, x, stream=None):
        """out ← x from host memory, in the order of the stream; `x` must stay until it has been."""
        self.move(out.data.ptr, x.ctypes.data, x, self.cupy.cuda.runtime.memcpyHostToDevice, stream)

    def download(self, out, x, stream=None):
        """out in host memory ← x, in the order of the stream."""
        self.move(out.ctypes.data, x.data.ptr, out, self.cupy.cuda.runtime.memcpyDeviceToHost, stream)

    def move(self, to, frm, x, kind, stream):
        if x.nbytes:
            self.cupy.cuda.runtime.memcpyAsync(to, frm, x.nbytes, kind, (stream or self.stream).ptr)

    def host(self, x):
        """A copy of `x` in host memory, once all before it is done."""
        return x.get(stream=self.stream)

    # order

    def mark(self, stream=None):
        """An event of the stream, behind what it has been given so far: done(), synchronize()."""
        event = self.cupy.cuda.Event(block=False, disable_timing=True)
        event.record(stream or self.stream)
        return Mark(event)

    def after(self, mark, stream):
        """What `stream` is given from here on waits for `mark`."""
        stream.wait_event(mark.event)

    def synchronize(self):
        self.stream.synchronize()
        self.side.synchronize()

    def begin_capture(self):
        """What the stream is given from here on is not done, but becomes a graph."""
        self.stream.begin_capture()

    def end_capture(self):
        """The graph: a function that does all of it, in the order of the stream."""
        graph = self.stream.end_capture()
        return lambda: graph.launch(self.stream)

    # work

    def do(self, kernel, *args, **options):
        """kernel(*args, **options, stream=...)."""
        kernel(*args, **options, stream=self.stream)

    def gemm(self, A, B, C, add=False):
        """C ← A B, + C if `add`; matrices, or [k, ., .] arrays of them; bf16 is uint16."""
        from hpcasr.backend.cuda_blas import Matrix
        if not C.size:
            return
        if A.shape[-1]:
            self.blas.gemm(*map(Matrix, (A, B, C)), add)
        elif not add:
            C.fill(0)

    def every(self, x, K):
        """[K, ...]: the same array K times, in one place."""
        return self.cupy.broadcast_to(x, (K, *x.shape))

    def batch(self, x, y):
        """[2, ...] of two arrays of equal shape in one memory, `y` behind `x`."""
        gap = y.data.ptr - x.data.ptr
        return self.cupy.lib.stride_tricks.as_strided(x, (2, *x.shape), (gap, *x.strides))


def unpin(runtime, address, x):
    """Give up what `pin` has done to `x`."""
    runtime.hostUnregister(address)


class Mark:
    """A place in the order of a stream."""

    def __init__(self, event):
        self.event = event

    @property
    def done(self):
        return self.event.done

    def synchronize(self):
        self.event.synchronize()


def open_gpu(place, precision):
    """The GPU of this process: the one numbered `place`, its place among those of its machine, modulo how many it sees.

    So every process takes its own, whether all see all GPUs or each sees one; and several may share one.
    Raises BadInput where it cannot be used.
    """
    # arrays of CuPy name their stream, and Numba would wait for it at every launch: not allowed while capturing.  Both
    # look at this when they are loaded; all that uses an array here is in the order of one stream
    os.environ.setdefault('NUMBA_CUDA_ARRAY_INTERFACE_SYNC', '0')
    os.environ.setdefault('CUPY_CUDA_ARRAY_INTERFACE_EXPORT_VERSION', '2')
    cupy = load()
    count = visible(cupy)
    number = place % count
    require_open(cupy, number)
    try:
        return Gpu(cupy, number, precision)
    except OSError as e:
        raise BadInput(f'--backend cuda: no cuBLAS ({e}); pip install "hpcasr[cuda12]" or "hpcasr[cuda13]", as '
                       'nvidia-smi says of the driver') from None
    except cupy.cuda.runtime.CUDARuntimeError as e:
        raise BadInput(f'--backend cuda: GPU {number} cannot be used ({said(e)}); another process may have it for '
                       'itself alone (nvidia-smi shows which)') from None


def load():
    """The module cupy."""
    try:
        import cupy
        return cupy
    except ImportError as e:
        reason = str(e).strip().splitlines()
        raise BadInput(f'--backend cuda: CuPy cannot be loaded ({reason[0] if reason else "no reason given"}); pip '
                       'install "hpcasr[cuda12]" or "hpcasr[cuda13]", as nvidia-smi says of the driver, or use '
                       '--backend cpu') from None


def visible(cupy):
    """How many GPUs this process sees.  Raises BadInput for none, and for a driver that is missing or too old."""
    runtime = cupy.cuda.runtime
    driver, needed = driver_version(), runtime.runtimeGetVersion()
    if not driver:
        raise BadInput(f'--backend cuda: no NVIDIA driver is loaded here; {ADVICE}')
    if driver//1000 < needed//1000:
        raise BadInput(f'--backend cuda: the driver knows CUDA up to {version(driver)}, CuPy needs {version(needed)}; '
                       f'pip install "hpcasr[cuda{driver//1000}]", or a newer driver')
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as e:
        count, why = 0, f' ({said(e)})'
    else:
        why = ''
    if not count:
        asked = os.environ.get('CUDA_VISIBLE_DEVICES')
        why += f'; CUDA_VISIBLE_DEVICES={asked}'*(asked is not None)
        raise BadInput(f'--backend cuda: this process sees no GPU{why}; {ADVICE}')
    return count


def driver_version():
    """The newest CUDA that the driver knows, such as 13000; 0: there is no driver."""
    try:
        driver = ctypes.CDLL('libcuda.so.1')
    except OSError:
        return 0
    found = ctypes.c_int(0)
    return found.value if driver.cuDriverGetVersion(ctypes.byref(found)) == 0 else 0


def version(number):
    return f'{number//1000}.{number % 1000//10}'


def require_open(cupy, number):
    """Raise BadInput where no compute process may use the GPU."""
    mode = cupy.cuda.Device(number).attributes.get('ComputeMode', 0)
    if mode == PROHIBITED:
        raise BadInput(f'--backend cuda: GPU {number} is closed to compute (nvidia-smi -c 0 opens it)')
    try:
        cupy.cuda.Device(number).use()
        cupy.cuda.runtime.free(0)  # makes the context: refused where another process has it
    except cupy.cuda.runtime.CUDARuntimeError as e:
        why = 'it is in exclusive mode, and another process has it' if mode in (EXCLUSIVE, 3) else said(e)
        raise BadInput(f'--backend cuda: GPU {number} cannot be used: {why}; start one rank per GPU, or nvidia-smi -c '
                       '0') from None


def said(error):
    """What CUDA says, in one line."""
    return str(error).splitlines()[0]
