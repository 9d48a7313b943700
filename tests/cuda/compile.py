"""Compile every kernel for GPUs, without one, and look at the result: python -m tests.cuda.compile [FILE.KERNEL ...]

No instruction in double precision, no memory of a thread's own (registers that were spilled, arrays on a stack), and no
more registers than the kernel declares.  Needs numba-cuda and the compiler's wheels (make test-cuda-compile).
"""

import ast
import importlib
import pathlib
import pkgutil
import re
import sys
import types
from time import perf_counter

import numba.cuda.dispatcher
from cuda.bindings import nvjitlink
from numba import cuda, float32

from hpcasr.kernels import cuda as folder
from hpcasr.kernels.cuda.launch import KERNELS, Kernel

CAPABILITIES = (7, 5), (8, 0), (9, 0)
SAID = {'registers': r'[Uu]sed (\d+) registers', 'spilled': r'(\d+) bytes spill', 'stack': r'(\d+) (?:bytes )?stack',
        'local': r'(\d+) bytes lmem', 'shared': r'(\d+) bytes smem'}


def main(names):
    """0, or 1 if a kernel is not as it should be."""
    for module in pkgutil.iter_modules(folder.__path__):
        importlib.import_module(f'{folder.__name__}.{module.name}')
    unknown = [f'{name}: there is no such kernel' for name in names if name not in KERNELS]
    faults = [*unknown, *undeclared(), *controls()]
    for name, kernel in KERNELS.items():
        if not names or name in names:
            faults += [f'{name}: {fault}' for fault in judge(name, kernel)]
    print(*faults or ['all as they should be'], sep='\n')
    return bool(faults)


def undeclared():
    """Kernels that are not in KERNELS, or there without a signature: nothing would be asserted of them."""
    for path in map(pathlib.Path, folder.__path__):
        for file in sorted(path.glob('*.py')):
            if file.name != 'launch.py' and any(map(makes_kernel, ast.walk(ast.parse(file.read_text())))):
                yield f'{file.name}: cuda.jit; declare kernels with launch.kernel'
    yield from (f'{name}: has no signature' for name, kernel in KERNELS.items() if not kernel.signatures)


def makes_kernel(node):
    return isinstance(node, ast.Attribute) and node.attr == 'jit'


def judge(name, kernel):
    """Compile it for every signature and device; print a line of figures; -> what is wrong, in words."""
    begin, seen, faults = perf_counter(), [], set()
    for signature in kernel.signatures:
        for capability in (c for c in CAPABILITIES if c >= kernel.least):
            try:
                ptx, figures = compiled(kernel, signature, capability)
            except Exception as e:  # whatever the compiler raises
                return [f'{sm(capability)}: {e}']
            seen.append(figures)
            found = *wrong(ptx, figures, kernel.registers), *lost(name, ptx)
            faults |= {f'{sm(capability)}: {fault}' for fault in found}
    most = {key: max(figures[key] for figures in seen) for key in seen[0]}
    print(f'{name:24s} {len(kernel.signatures):2d} signatures',
          f'{most["registers"]:3d} registers of {kernel.registers:3d}',
          f'{most["shared"]:6d} B shared', f'{perf_counter() - begin:5.1f} s', sep='  ', flush=True)
    return sorted(faults)


def compiled(kernel, signature, capability):
    """(PTX, figures) as linked for a device of this compute capability."""
    # device functions ask for the capability of the current device
    numba.cuda.dispatcher.get_current_device = lambda: types.SimpleNamespace(compute_capability=capability)
    ptx, _ = cuda.compile_ptx(kernel.function, signature, cc=capability, **kernel.options)
    return ptx, report(linked(ptx.encode(), capability))


def sm(capability):
    return f'sm_{capability[0]}{capability[1]}'


def linked(ptx, capability):
    """What the assembler says of this PTX: what Numba links with on a GPU as well."""
    handle = nvjitlink.create(3, [f'-arch={sm(capability)}', '-verbose', '-O3'])
    nvjitlink.add_data(handle, nvjitlink.InputType.PTX, ptx, len(ptx), 'kernel')
    nvjitlink.complete(handle)
    log = bytearray(nvjitlink.get_info_log_size(handle))
    nvjitlink.get_info_log(handle, log)
    nvjitlink.destroy(handle)
    return log.decode(errors='replace')


def report(log):
    """{figure: the largest that the assembler says}.  ValueError where it says nothing: another version?."""
    found = {key: [int(n) for n in re.findall(pattern, log)] for key, pattern in SAID.items()}
    silent = [key for key in ('registers', 'spilled', 'stack') if not found[key]]
    if silent:
        raise ValueError(f'the assembler says nothing of {", ".join(silent)}:\n{log}')
    return {key: max(numbers, default=0) for key, numbers in found.items()}


def wrong(ptx, figures, registers):
    """What must not be in it."""
    if '.f64' in ptx:
        yield f'double precision: {next(line.strip() for line in ptx.splitlines() if ".f64" in line)}'
    if '.local' in ptx or figures['local'] or figures['stack']:
        yield f'memory of a thread\'s own, {max(figures["local"], figures["stack"])} bytes'
    if figures['spilled']:
        yield f'{figures["spilled"]} bytes of registers spilled'
    if figures['registers'] > registers:
        yield f'{figures["registers"]} registers, but {registers} are declared'


def lost(name, ptx):
    """Of a persistent kernel: all its weights are read before the first loop, and go into as many products."""
    file, _, rest = name.partition('.')
    if file != 'persistent':
        return
    products = int(rest.rpartition('_')[2])//4
    if ptx.count('mma.sync') != products:
        yield f'{ptx.count("mma.sync")} mma.sync, not {products}'
    halves = [load.start() for load in re.finditer(r'\sld\.(global\.)?[bu]16\s', ptx)]
    loops = [label.start() for label in re.finditer(r'^(\$L\w+):', ptx, re.M)
             if re.search(rf'bra\S*\s+{re.escape(label[1])};', ptx[label.end():])]
    if len(halves) != 2*products or halves[-1] > min(loops):
        yield 'weights are read in a loop'


def controls():
    """What is wrong must be seen: double precision, an array of a thread's own, more registers than were declared."""
    for function, word in (doubles, 'double'), (own_array, 'own'), (doubles, 'declared'):
        kernel = Kernel(function, ['void(f4[::1], i4)'], 1, CAPABILITIES[0], {})
        if not any(word in fault for fault in wrong(*compiled(kernel, kernel.signatures[0], CAPABILITIES[-1]), 1)):
            yield f'this check does not see {word} in {function.__name__}'


def doubles(x, n):
    x[n] = x[n]*0.1


def own_array(x, n):
    own = cuda.local.array(64, float32)
    for k in range(64):
        own[(k*n) & 63] = x[k]
    x[n] = own[n & 63]


if __name__ == '__main__':
    sys.exit(main(sys.argv[1:]))
