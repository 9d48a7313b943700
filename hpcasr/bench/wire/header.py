"""Where the figures come from: library, hosts, binding."""

import os
import platform
import time
from itertools import groupby

from mpi4py import MPI

from hpcasr import __version__

THREADS = {MPI.THREAD_SINGLE: 'SINGLE', MPI.THREAD_FUNNELED: 'FUNNELED', MPI.THREAD_SERIALIZED: 'SERIALIZED',
           MPI.THREAD_MULTIPLE: 'MULTIPLE'}


def facts(comm):
    """A dict, the same on all ranks; by all of them together."""
    mine = platform.node(), cpus(), processor(), os.cpu_count()
    everywhere = comm.allgather(mine)
    hosts, bindings, processors, cores = map(list, zip(*everywhere, strict=True))
    return {'hpcasr': __version__, 'created': comm.allgather(time.strftime('%Y-%m-%dT%H:%M:%S%z'))[0],
            'mpi': {'library': comm.library, 'standard': '{}.{}'.format(*MPI.Get_version()),
                    'threads': THREADS[MPI.Query_thread()]},
            'ranks': comm.size, 'hosts': hosts, 'binding': bindings,
            'machine': {'processors': sorted(set(processors)), 'cores': sorted(set(cores)), 'ranks': comm.size,
                        'machines': len(set(comm.machines))}}


def cpus():
    """The CPUs on which this process may run, such as 0-3,8."""
    try:
        allowed = sorted(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return 'unknown'
    runs = [[cpu for _, cpu in run] for _, run in groupby(enumerate(allowed), lambda pair: pair[1] - pair[0])]
    return ','.join(f'{run[0]}-{run[-1]}' if len(run) > 1 else str(run[0]) for run in runs)


def processor():
    try:
        with open('/proc/cpuinfo') as f:
            return next((line.split(':')[1].strip() for line in f if line.startswith('model name')), platform.machine())
    except OSError:
        return platform.machine()


def lines(facts, options):
    """The header of a text: every line begins with #."""
    mpi, machine = facts['mpi'], facts['machine']
    yield f'# hpcasr {facts["hpcasr"]}; {mpi["library"]}, MPI {mpi["standard"]}, threads {mpi["threads"]}'
    yield (f'# {facts["ranks"]} ranks on {machine["machines"]} machine{"s"[:machine["machines"] > 1]}: '
           f'{", ".join(counted(facts["hosts"]))}; {", ".join(machine["processors"])}')
    yield f'# CPUs: {"; ".join(f"rank{more} {cpus}" for more, cpus in bound(facts["binding"]))}'
    yield (f'# buffers {options.kind}; at most {options.cap:g} s a size; '
           f'validation {"on" if options.validate else "off"}')


def counted(hosts):
    return [f'{host} x {len(list(run))}' for host, run in groupby(hosts)]


def bound(bindings):
    """('s 0-3', CPUs) of ranks in a row that may run on the same ones."""
    first = 0
    for cpus, run in groupby(bindings):
        n = len(list(run))
        yield (f's {first}-{first + n - 1}' if n > 1 else f' {first}'), cpus
        first += n
