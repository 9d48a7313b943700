"""The examination of one rank, or of all ranks of a job: a process that watches, and others that look."""

import os
import signal
import socket
import sys
from dataclasses import asdict
from functools import partial
from itertools import chain
from time import sleep

from hpcasr import launcher, process
from hpcasr.doctor import cpu, cuda, files, kernels, limits, slurm, versions
from hpcasr.doctor.finding import broken, from_plain, refused
from hpcasr.doctor.isolate import Stopped, alone, standard_streams, tried, watched
from hpcasr.doctor.job import Job, job_of
from hpcasr.errors import Agreed

LINGER = 3.0  # seconds longer than rank 0 waits for a rank that has gone
SHARE = 3  # a check before MPI gets this part of the time, so the ranks that wait for a slow one need not wait long
SLOW = 'GPUs',  # get all of it: nvidia-smi and CuPy may take many seconds to start
# by each rank in a process of its own, before MPI is loaded
ALONE = {'versions': versions.versions, 'vector width': cpu.vector_width, 'kernel cache': kernels.cache,
         'GPUs': cuda.gpus, 'file system': files.speed, 'file locks': files.locks, 'atomic rename': files.rename,
         'free space': files.space}
# the order of the table
ORDER = ('MPI library', 'world', 'SLURM', 'MPI threads', 'one-sided exchange', 'one-sided progress', 'CUDA-aware MPI',
         'GPUs', 'ranks per GPU', 'binding', 'oversubscription', 'BLAS threads', 'vector width', 'kernel cache',
         'memory', '/dev/shm', 'open files', 'stack', 'locked memory', 'file system', 'file locks', 'atomic rename',
         'free space', 'clocks', 'versions')


class Notes:
    """What the watching process has heard so far.

    job, hosts   None and this one until MPI is up
    findings     so far; `check`, the one under way; `broke`, whether one ended this process
    """

    def __init__(self, tell):
        self.tell, self.job, self.findings, self.check, self.broke = tell, None, [], '', False
        self.hosts = [socket.gethostname()]

    def begin(self, check):
        self.check = check
        self.tell(check)

    def hear(self, message):
        match message:
            case 'check', name:
                self.begin(name)
            case 'job', job, hosts:
                self.job, self.hosts = Job(**job), hosts
            case 'everyone', findings:
                self.findings = [from_plain(values) for values in findings]
            case 'found', findings:
                self.findings += [from_plain(values) for values in findings]

    def patience(self, limit):
        """Seconds for the check under way.  At the start of MPI all wait for the rank whose checks took longest."""
        return limit*(1 + len(SLOW) + (len(ALONE) - len(SLOW))/SHARE) if self.job is None else limit

    def end(self, how):
        """The check under way ended so."""
        if how:
            self.broke = True
            self.findings.append(broken(self.check, how))

    def speaks(self):
        """Whether this process is the one that prints the table; of many worlds of one rank, one does."""
        first = launcher.rank() in (None, 0)
        return first if self.job is None or self.job.size == 1 else self.job.rank == 0


def examine(limit, tell=lambda check: None):
    """The Notes of this process.

    limit   seconds for one check;  tell(check) as each begins
    """
    notes = Notes(tell)
    process.tune()  # as training does: what it says of BLAS is to be seen
    standard_streams()
    before_us = signal.signal(signal.SIGTERM, stop)
    try:
        for name, check in ALONE.items():
            notes.begin(name)
            notes.findings += alone(name, check, limit if name in SLOW else limit/SHARE)
        before = notes.findings
        notes.begin('MPI library')
        notes.end(watched(lambda say: together(say, before), notes.hear, lambda: notes.patience(limit)))
    except Stopped as e:
        notes.end(str(e))
    finally:
        signal.signal(signal.SIGTERM, before_us)
        alone('sweep', partial(files.sweep, os.getpid()), limit/SHARE)
    return notes


def stop(number, _frame):
    raise Stopped(f'was stopped by {signal.Signals(number).name}: did another rank end the job?')


def leave(notes, limit):
    """The exit status of a process that does not print; where it failed, rank 0 gets time to find that it is gone."""
    if not notes.broke:
        return 0
    f = notes.findings[-1]
    sys.stderr.write(f'hpcasr: rank {launcher.rank() or 0} on {socket.gethostname()}: error  {f.name}  {f.found}\n')
    sys.stderr.flush()
    sleep(LINGER if 'did not end' in f.found else limit + LINGER)
    return 1


# in the process that loads MPI

def together(say, before):
    """What ranks find with MPI; `before`: findings of this one, told to rank 0."""
    from hpcasr.doctor import mpi
    comm, missing = mpi.start()
    job = job_of(comm)
    hosts = comm.allgather(socket.gethostname())
    say(['job', asdict(job), list(dict.fromkeys(hosts))])
    own = before + in_rank(say, job, missing)
    everyone = comm.allgather([f.at(comm.rank).plain() for f in own])
    if comm.rank == 0:
        say(['everyone', [*chain.from_iterable(everyone)]])
    jointly(say, comm, job)
    comm.close()
    if not missing:
        mpi.end()


def in_rank(say, job, missing):
    """[Finding] of this rank, now that it knows the job."""
    from hpcasr.doctor import blas, memory, mpi
    checks = {'MPI library': lambda job: missing} if missing else {
        'MPI library': mpi.library, 'world': mpi.world_size, 'MPI threads': mpi.threads, 'CUDA-aware MPI': cuda.aware}
    checks |= {'SLURM': slurm.variables, 'BLAS threads': blas.threads, 'memory': memory.memory, '/dev/shm': memory.shm,
               'open files': limits.open_files, 'stack': limits.stack, 'locked memory': limits.locked_memory}
    findings = []
    for name, check in checks.items():
        say(['check', name])
        found = tried(name, check, job)
        say(['found', [f.plain() for f in found]])
        findings += found
    return findings


def jointly(say, comm, job):
    """The checks that all ranks make at the same time; rank 0 tells what they found."""
    from hpcasr.doctor import clock, onesided
    checks = {'binding': cpu.binding, 'ranks per GPU': cuda.sharing, 'clocks': clock.skew,
              'one-sided exchange': onesided.rma, 'one-sided progress': onesided.progress}
    for name, check in checks.items():
        say(['check', name])
        findings = agreed(name, check, comm, job)
        if comm.rank == 0:
            say(['found', [f.plain() for f in findings]])


def agreed(name, check, comm, job):
    """[Finding]; what only one of many ranks meets ends this process, for the others would wait for it."""
    if job.size == 1:
        return tried(name, check, comm, job)
    try:
        found = check(comm, job)
    except Agreed as e:
        found = refused(name, e)
    return found if isinstance(found, list) else [found]
