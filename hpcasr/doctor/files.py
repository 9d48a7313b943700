"""The file system of the current directory: does it write fast, lock, rename at once, and is there room?"""

import fcntl
import glob
import os
import shutil
import socket
import tempfile
from contextlib import contextmanager
from time import perf_counter

from hpcasr.doctor.finding import error, ok, warning
from hpcasr.doctor.job import first_here

SIZE, PIECE = 32 << 20, 1 << 20  # bytes written, at a time
SLOW = 20.0  # MB/s; a checkpoint of swb2000 (0.5 GB) would take half a minute
LITTLE, LEAST = 5*10**9, 5*10**8  # bytes: ten checkpoints of swb2000, and one
ELSEWHERE = 'start from, or give --out, a folder on another file system ($SCRATCH)'


def on_first(check):
    """Once per machine."""
    def checked():
        return check() if first_here() else []
    return checked


@contextmanager
def folder(name):
    """A folder for trials, here; yields (its path, None), or (None, the Finding why there is none)."""
    try:
        path = tempfile.mkdtemp(prefix=prefix(os.getppid()), dir='.')
    except OSError as e:
        yield None, error(name, f'{os.getcwd()}: nothing can be written here ({e.strerror})', ELSEWHERE)
        return
    try:
        yield path, None
    finally:
        shutil.rmtree(path, ignore_errors=True)


def prefix(doctor):
    """Of the folders that checks of the process `doctor` make."""
    return f'.hpcasr-doctor-{socket.gethostname()}-{doctor}-'


def sweep(doctor):
    """Remove what checks that were ended have left."""
    for path in glob.glob(prefix(doctor) + '*'):
        shutil.rmtree(path, ignore_errors=True)
    return []


@on_first
def speed():
    """Of writing what must be on the disk before a checkpoint counts."""
    name = 'file system'
    with folder(name) as (path, refusal):
        return refusal or judge_speed(name, SIZE/1e6/written(f'{path}/block'))


def written(path):
    """Seconds of writing SIZE bytes to the disk."""
    block = os.urandom(PIECE)
    tic = perf_counter()
    with open(path, 'wb') as file:
        for _ in range(SIZE//PIECE):
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return perf_counter() - tic


def judge_speed(name, mb_per_second):
    found = f'{os.getcwd()} ({kind(os.getcwd())}): {mb_per_second:,.{1*(mb_per_second < 10)}f} MB/s written'
    return warning(name, f'{found}, slow', ELSEWHERE) if mb_per_second < SLOW else ok(name, found)


def kind(path):
    """Type of the file system, as mount calls it."""
    path, best = os.path.realpath(path), ('', 'unknown')
    with open('/proc/self/mounts') as file:
        for line in file:
            _, where, kind, *_ = line.split()
            if f'{path}/'.startswith(where.rstrip('/') + '/') and len(where) >= len(best[0]):
                best = where, kind
    return best[1]


@on_first
def space():
    there = shutil.disk_usage('.').free
    found = f'{there/1e9:,.1f} GB free'
    if there < LITTLE:
        return (error if there < LEAST else warning)('free space', f'{found}; a checkpoint of swb2000 has 0.5 GB',
                                                     f'make room; or {ELSEWHERE}')
    return ok('free space', found)


@on_first
def locks():
    """Does a lock of this process keep another one out?"""
    name = 'file locks'
    with folder(name) as (path, refusal):
        if refusal:
            return refusal
        with open(f'{path}/lock', 'w') as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as e:
                return warning(name, f'there are none here ({e.strerror})', 'take care that no two jobs have the same '
                               f'--out; or {ELSEWHERE}')
            shut_out = other_process_is_shut_out(f'{path}/lock')
    if not shut_out:
        return warning(name, 'a lock does not keep other processes out', 'take care that no two jobs have the same '
                       f'--out; or {ELSEWHERE}')
    return ok(name, 'a locked file is locked for other processes')


def other_process_is_shut_out(path):
    child = os.fork()
    if not child:
        os._exit(not held(path))
    return os.waitpid(child, 0)[1] == 0


def held(path):
    """Whether somebody else has locked the file at `path`."""
    with open(path, 'w') as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        except OSError:
            return False
    return False


@on_first
def rename():
    """Checkpoints are written beside their place and renamed: files over files, folders into a free name."""
    name = 'atomic rename'
    with folder(name) as (path, refusal):
        if refusal:
            return refusal
        write(f'{path}/old', 'old')
        write(f'{path}/new', 'new')
        os.mkdir(f'{path}/draft')
        try:
            os.replace(f'{path}/new', f'{path}/old')
            os.rename(f'{path}/draft', f'{path}/final')
        except OSError as e:
            return error(name, f'a file cannot be renamed over another one here ({e.strerror})', ELSEWHERE)
        right = open(f'{path}/old').read() == 'new' and sorted(os.listdir(path)) == ['final', 'old']
    if not right:
        return error(name, 'a renamed file is not where it should be', ELSEWHERE)
    return ok(name, 'files and folders')


def write(path, text):
    with open(path, 'w') as file:
        file.write(text)
