"""The commands of SLURM: sbatch, squeue, sacct."""

import getpass
import subprocess

from hpcasr.errors import BadInput

ENDED = {'COMPLETED', 'FAILED', 'CANCELLED', 'TIMEOUT', 'NODE_FAIL', 'OUT_OF_MEMORY', 'PREEMPTED', 'BOOT_FAIL',
         'DEADLINE'}


def ask(*argv, cwd=None):
    """The output of one command.  Raises BadInput with what it says where it fails, or is not there."""
    try:
        done = subprocess.run(argv, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL, timeout=120)
    except FileNotFoundError:
        raise BadInput(f'{argv[0]}: not found; this is no machine of a cluster with SLURM, or its module is not loaded'
                       ) from None
    except subprocess.TimeoutExpired:
        raise BadInput(f'{argv[0]}: no answer after 120 s; is the controller of SLURM up? (scontrol ping)') from None
    if done.returncode:
        raise BadInput(f'{argv[0]}: {" ".join(done.stderr.split()) or f"ended with status {done.returncode}"}')
    return done.stdout


def attempt(*argv):
    """The same; '' where it fails."""
    try:
        return ask(*argv)
    except BadInput:
        return ''


def submit(argv, cwd):
    """Run one sbatch --parsable; return the number of the job."""
    return ask(*argv, cwd=cwd).strip().split(';')[0]


def queued():
    """{job: (state, reason or nodes)} of this user's jobs that have not ended; a job of an array is 12_3.

    {} where SLURM does not answer, or is not there.
    """
    lines = attempt('squeue', '--noheader', f'--user={getpass.getuser()}', '--array', '--format=%i|%T|%R').splitlines()
    return {job: (state, why) for job, state, why in (line.split('|', 2) for line in lines if line.count('|') >= 2)}


def ended(jobs):
    """{job: state} of those that the accounting of SLURM knows to have ended."""
    told = attempt('sacct', '--noheader', '--parsable2', '--allocations', f'--jobs={",".join(jobs)}',
                   '--format=JobID,State')
    pairs = (line.split('|', 1) for line in told.splitlines() if '|' in line)
    return {job: state for job, state in pairs if state.split(' ')[0] in ENDED}
