"""The command line.  Each command imports its work inside its function, so `--help` never starts MPI."""

import click

from hpcasr import __version__, faults, launcher
from hpcasr.cli.algorithms import algorithms
from hpcasr.cli.align import align
from hpcasr.cli.bench import bench
from hpcasr.cli.data import data
from hpcasr.cli.decode import decode
from hpcasr.cli.doctor import doctor
from hpcasr.cli.forward import forward
from hpcasr.cli.jobs import jobs
from hpcasr.cli.recipe import recipe
from hpcasr.cli.report import report
from hpcasr.cli.train import train
from hpcasr.cli.transcribe import transcribe
from hpcasr.cli.wire import COMMANDS as WIRE
from hpcasr.errors import Agreed, BadInput, CheckFailed

# commands that all ranks of a job run with the same arguments
PARALLEL = ('train', 'bench data', 'bench algorithms', 'bench stragglers', 'bench exchange', 'bench compress',
            'bench onesided', 'bench cpu', 'decode run', 'forward', 'align flat-start', 'align tree', 'align force',
            'doctor', 'bench: ', *(f'bench {name}' for name in WIRE if name != 'results'))


@click.group(context_settings={'help_option_names': ['-h', '--help'], 'max_content_width': 120})
@click.version_option(__version__, prog_name='hpcasr')
def cli():
    """Train acoustic models with distributed SGD, under mpirun or srun, and recognize speech with them.

    \b
    Examples:
      mpirun -n 2 hpcasr train
      srun hpcasr train train.h5 --dev dev.h5 --algo=sync-allreduce --out exp/first
      hpcasr recipe data --out exp/all
    """


for command in algorithms, align, bench, data, decode, train, report, recipe, forward, transcribe, doctor, jobs:
    cli.add_command(command)


def main(argv=None):
    """Run one command; return its exit status (0 done, 1 a check failed, 2 bad input or usage, 75 start me again)."""
    status = run(argv)
    faults.finished(status)
    return status


def run(argv):
    try:
        return cli.main(args=argv, prog_name='hpcasr', standalone_mode=False) or 0
    except click.ClickException as e:
        return say(f'{usage(e)}{e.format_message()}', 2, usage(e).startswith(PARALLEL))
    except click.Abort:
        return say('interrupted', 130)
    except BadInput as e:
        return say(str(e), 2, isinstance(e, Agreed))
    except CheckFailed as e:
        return say(str(e), 1, isinstance(e, Agreed))
    except BrokenPipeError:  # `hpcasr ... | head`
        faults.nobody_reads()
        return 0
    except OSError as e:
        if e.filename is not None:
            raise
        faults.nobody_reads()
        return say(f'the output cannot be written: {e.strerror}', 2)


def usage(e):
    context = getattr(e, 'ctx', None)
    return f'{context.command_path.removeprefix("hpcasr").strip()}: '.removeprefix(': ') if context else ''


def say(line, status, by_one=False):
    """Print `line`; only in the first process of the job if all ranks meet it (`by_one`)."""
    if not by_one or launcher.rank() in (None, 0):
        click.echo('hpcasr: error: ' + printable(' '.join(line.split())), err=True)
    return status


def printable(line, most=2000):
    """`line` as a terminal may show it: names in files may hold what moves its cursor, or be endless."""
    line = ''.join(c if c.isprintable() else ascii(c)[1:-1] for c in line[:most + 1])
    return line if len(line) <= most else f'{line[:most]}...'
