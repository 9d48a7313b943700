"""The processor: width of vectors that the kernels get, and which cores the ranks may use."""

import os
from collections import Counter

from hpcasr.doctor.finding import error, ok, warning
from hpcasr.doctor.job import plural, ranges

WIDTHS = {'zmm': (512, 'AVX-512'), 'ymm': (256, 'AVX'), 'xmm': (128, 'SSE')}  # by the registers of x86
MASKS = 'NUMBA_CPU_NAME', 'NUMBA_CPU_FEATURES', 'NUMBA_ENABLE_AVX'
ADD = '''define void @add(ptr %p) {
  %x = load <16 x float>, ptr %p
  %y = fadd <16 x float> %x, %x
  store <16 x float> %y, ptr %p
  ret void
}'''


def vector_width():
    """Of what LLVM makes of a sum of 16 float32 for this processor, as Numba would ask it to."""
    (host, _), (bits, name) = width(), width(**asked(os.environ))
    if not bits:
        return ok('vector width', f'{platform()}: not an x86 processor; kernels use what LLVM finds')
    found = f'{bits} bits ({name}{", no AVX-512" if bits < 512 else ""})'
    if bits < host:
        masks = [v for v in MASKS if v in os.environ]
        told = ' '.join(f'{v}={os.environ[v]}' for v in masks)
        return warning('vector width', f'{found}, masked by {told}; this processor has {host} bits',
                       f'unset {" ".join(masks)}, or set the same on every rank: other widths round differently')
    if bits < 256:
        return warning('vector width', found, 'choose nodes with AVX2 or AVX-512')
    return ok('vector width', found)


def platform():
    return os.uname().machine


def asked(environment):
    """{cpu, features}: what Numba's variables say, as numba.core.config reads them."""
    cpu, features = environment.get('NUMBA_CPU_NAME') or None, environment.get('NUMBA_CPU_FEATURES')
    if features is None and (cpu or '').lower() == 'generic':
        features = ''
    return {'cpu': cpu, 'features': features, 'avx': environment.get('NUMBA_ENABLE_AVX', '1') != '0'}


def width(cpu=None, features=None, avx=True):
    """(bits, name of the instructions); (0, '') where that cannot be told from the code."""
    import llvmlite.binding as llvm
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_default_triple().create_target_machine(
        cpu=llvm.get_host_cpu_name() if cpu is None else cpu,
        features=own_features(avx) if features is None else features)
    code = target.emit_assembly(llvm.parse_assembly(ADD))
    return next((found for register, found in WIDTHS.items() if f'%{register}' in code), (0, ''))


def own_features(avx):
    import llvmlite.binding as llvm
    features = llvm.get_host_cpu_features()
    for name in features:
        features[name] &= avx or not name.startswith('avx')
    return features.flatten()


# which cores

def binding(comm, job):
    """[Finding] of every machine, on rank 0."""
    everywhere = comm.allgather(sorted(os.sched_getaffinity(0)))
    cores, quotas = comm.allgather(os.cpu_count() or 1), comm.allgather(quota())
    found = []
    for machine in dict.fromkeys(comm.nodes):
        ranks = [rank for rank in range(job.size) if comm.nodes[rank] == machine]
        first = ranks[0]
        found += [f.at(*ranks) for f in judge([everywhere[rank] for rank in ranks], cores[first], quotas[first])]
    return found


def judge(bound, cores, quota=None):
    """[Finding] of one machine with so many `cores` (hardware threads); bound: [those that each rank may use]."""
    usable = sorted(set().union(*bound))
    load = Counter(core for own in bound for core in own if len(own) < len(usable))
    return [place(bound, usable), crowding(len(bound), len(usable), cores, load, quota)]


def place(bound, usable):
    """How each rank is bound."""
    if all(own == usable for own in bound):
        return ok('binding', f'not bound within cores {ranges(usable)}' if len(bound) > 1 else
                  f'may use {plural(len(usable), "core")} ({ranges(usable)})')
    return ok('binding', 'bound to cores ' + '; '.join(dict.fromkeys(map(ranges, bound))))


def crowding(ranks, usable, cores, load, quota):
    """More ranks than cores, or ranks that are bound to the same core while others idle."""
    name, found = 'oversubscription', f'{plural(ranks, "rank")} on {plural(usable, "core")} of {cores}'
    if quota and ranks > quota:
        return warning(name, f'{found}, but this container gets the time of only {quota:g} of them',
                       f'start at most {max(1, int(quota))} ranks here, or raise its CPU limit')
    if ranks > usable and usable < cores:
        return error(name, f'{found}: ranks share cores while {cores - usable} are not used',
                     'bind each rank to cores of its own: srun --cpu-bind=cores --cpus-per-task=1, mpirun --bind-to '
                     'core (Open MPI) or -bind-to core (MPICH); ask SLURM for as many cores as ranks')
    if ranks > usable:
        return warning(name, f'{found}: more ranks than cores, each waits for others', 'start as many ranks as cores')
    shared = [core for core, n in sorted(load.items()) if n > 1]
    if shared and usable > ranks and len(shared) < usable:
        return warning(name, f'{found}; several ranks are bound to {ranges(shared)}',
                       'bind each rank to cores of its own: srun --cpu-bind=cores, mpirun --bind-to core')
    return ok(name, found)


def quota():
    """Cores' worth of time that the control group of this process gets, None: no limit."""
    for path, period in ('/sys/fs/cgroup/cpu.max', None), ('/sys/fs/cgroup/cpu/cpu.cfs_quota_us',
                                                           '/sys/fs/cgroup/cpu/cpu.cfs_period_us'):
        try:
            words = open(path).read().split() + (open(period).read().split() if period else [])
        except OSError:
            continue
        if words and words[0] not in ('max', '-1'):
            return int(words[0])/int(words[1])
    return None
