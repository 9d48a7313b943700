"""`hpcasr bench`: figures of this machine, along the code path of training."""

import json
import signal

import click

from hpcasr.cli.progress import progress

JSON = click.option('--json', 'as_json', is_flag=True, help='Print JSON.')
MOST = 1 << 20  # features, targets, frames, samples; whether there is memory for all is asked later
STEP_COLUMNS = {'model': ('model', ''), 'parameters': ('parameters', ','),
                'ms': ('ms', '.2f'), 'min_ms': ('min', '.2f'), 'frames_per_second': ('frames/s', ',.0f'),
                'gflop': ('GFLOP', '.2f'), 'gflops': ('GFLOP/s', '.1f'), 'gemm_gflops': ('of gemm', '.1f'),
                'share': ('share', '.0%')}


@click.group()
def bench():
    """Measure this machine along the code path of training."""


def size(context, parameter, text):
    """Bytes, 1M or more; K, M and G are powers of 1000."""
    from hpcasr.config import parse_int
    try:
        nbytes = parse_int(text)
    except ValueError:
        nbytes = 0
    if nbytes < 10**6:
        raise click.BadParameter(f'{text}: give bytes, such as 500M or 10G, 1M or more')
    return nbytes


def batches(command):
    """The options that say what a step consumes."""
    for option in (click.option('--chunk', type=click.IntRange(1, MOST), default=21, show_default=True,
                                metavar='FRAMES', help='Frames of a sample.'),
                   click.option('--batch', type=click.IntRange(1, MOST), default=32, show_default=True, metavar='N',
                                help='Samples (chunks of frames) per rank and step.')):
        command = option(command)
    return command


@bench.command()
@click.option('--model', default='tiny,small,mid', show_default=True, metavar='PRESET,...', help='Presets to time.')
@batches
@click.option('--dim', type=click.IntRange(1, MOST), default=40, show_default=True, help='Features of a frame.')
@click.option('--targets', type=click.IntRange(2, MOST), default=72, show_default=True, help='Classes of the softmax.')
@click.option('--dtype', type=click.Choice(['float32', 'float64']), default='float32', show_default=True)
@click.option('--repeats', type=click.IntRange(1), default=15, show_default=True, help='Steps timed, after warm-up.')
@JSON
def step(model, batch, chunk, dim, targets, dtype, repeats, as_json):
    """Time one training step (loss, gradient, update) of presets, in this process.

    The gradient is compared with a central difference first; exit status 1 if it is wrong.  `share` is that of the
    speed of one large matrix product in this process (gemm).  Times are medians.

    \b
    Examples:
      hpcasr bench step
      hpcasr bench step --model swb2000 --dim 260 --targets 32000 --repeats 3 --json
    """
    from hpcasr import process
    process.tune()
    from hpcasr.bench.step import Shape
    from hpcasr.bench.step import bench as run
    from hpcasr.bench.table import table
    shape = Shape(batch, chunk, dim, targets, dtype)
    rows = run(model.split(','), shape, repeats, progress=progress)
    found = {**vars(shape), 'repeats': repeats, 'models': rows}
    click.echo(json.dumps(found) if as_json else table(rows, STEP_COLUMNS))


@bench.command()
@click.option('--size', 'nbytes', default='10G', show_default=True, callback=size, metavar='BYTES',
              help='Of the store.')
@click.option('--dir', 'folder', default='', metavar='DIR', help='Where to make it; all ranks must see DIR.  '
              '[default: the temporary directory]')
@click.option('--keep', is_flag=True, help='Leave the store there.')
@click.option('--model', default='small', show_default=True, metavar='PRESET')
@batches
@click.option('--steps', type=click.IntRange(2), default=200, show_default=True, help='Steps of training.')
@click.option('--set', 'assignments', metavar='SECTION.KEY=VALUE', multiple=True,
              help='Set one key of the configuration, such as data.ahead=16; may be repeated.')
@JSON
def data(nbytes, folder, keep, model, batch, chunk, steps, assignments, as_json):
    """Measure how long training waits for data from a store that is not in memory.

    Makes a store of random utterances, drops it from the page cache and trains on it with all ranks.  Shares and
    memory are those of the worst rank.

    \b
    Examples:
      hpcasr bench data --size 1G
      mpirun -n 2 hpcasr bench data --size 10G --dir /scratch --model tiny --json
    """
    from hpcasr import config, faults, process
    resolved = config.resolve(None, assignments, {'model.preset': model, 'data.batch': batch, 'data.chunk': chunk})
    status = faults.supervise()
    if status is not None:
        return status
    process.tune()
    from hpcasr.bench.data import Trial
    from hpcasr.comm import world
    signal.signal(signal.SIGTERM, end)
    return world.run(lambda comm: on_all_ranks(comm, resolved, Trial(nbytes, folder, keep, steps), as_json))


def end(number, _frame):
    """Unwind, so that the store is removed."""
    from hpcasr.errors import BadInput
    raise BadInput('ended by SIGTERM before there were figures')


def on_all_ranks(comm, config, trial, as_json):
    from hpcasr.bench.data import bench, lines
    found = bench(comm, config, trial, lambda line: click.echo(line, err=True))
    comm.first(click.echo, json.dumps(found) if as_json else '\n'.join(lines(found)))
