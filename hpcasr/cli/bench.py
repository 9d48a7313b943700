"""`hpcasr bench`: figures of this machine, along the code path of training."""

import json
import signal

import click

from hpcasr.cli.data import named
from hpcasr.cli.progress import progress
from hpcasr.cli.recipe import split
from hpcasr.cli.wire import COMMANDS, Bench, register

JSON = click.option('--json', 'as_json', is_flag=True, help='Print JSON.')
SMALL_MODELS = 'small', 'dnn4x256'
MOST = 1 << 20  # features, targets, frames, samples; whether there is memory for all is asked later
STEP_COLUMNS = {'model': ('model', ''), 'parameters': ('parameters', ','),
                'ms': ('ms', '.2f'), 'min_ms': ('min', '.2f'), 'frames_per_second': ('frames/s', ',.0f'),
                'gflop': ('GFLOP', '.2f'), 'gflops': ('GFLOP/s', '.1f'), 'gemm_gflops': ('of gemm', '.1f'),
                'share': ('share', '.0%')}


@click.group(cls=Bench, invoke_without_command=True)
@click.option('--plot', metavar='FILE', help='Draw the figures of a microbenchmark; without a COMMAND, those of wire.')
@click.pass_context
def bench(context, plot):
    """Measure this machine along the code path of training, and its MPI by microbenchmarks."""
    context.obj, name = {'plot': plot}, context.invoked_subcommand
    if plot and name not in (None, *COMMANDS):
        raise click.UsageError(f'{name} draws nothing; leave --plot out', context)
    if name is None and not plot:
        click.echo(context.get_help(), err=True)
        context.exit(2)
    if name is None:
        wire = bench.commands['wire']
        return wire.invoke(wire.make_context('wire', [], context))


register(bench)


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


def options(*of):
    """A decorator that adds these options, in this order."""
    def add(command):
        for option in reversed(of):
            command = option(command)
        return command
    return add


batches = options(
    click.option('--batch', type=click.IntRange(1, MOST), default=32, show_default=True, metavar='N',
                 help='Samples (chunks of frames) per rank and step.'),
    click.option('--chunk', type=click.IntRange(1, MOST), default=21, show_default=True, metavar='FRAMES',
                 help='Frames of a sample.'))
widths = options(
    click.option('--dim', type=click.IntRange(1, MOST), default=40, show_default=True, help='Features of a frame.'),
    click.option('--targets', type=click.IntRange(2, MOST), default=72, show_default=True,
                 help='Classes of the softmax.'))
SET = click.option('--set', 'assignments', metavar='SECTION.KEY=VALUE', multiple=True,
                   help='Set one key of the configuration, such as data.ahead=16; may be repeated.')


@bench.command()
@click.option('--model', default='tiny,small,mid', show_default=True, metavar='PRESET,...', help='Presets to time.')
@batches
@widths
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
@SET
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


@bench.command()
@click.option('--model', default='mid', show_default=True, metavar='PRESET')
@batches
@widths
@click.option('--blocks', type=click.IntRange(1), default=7, show_default=True, help='Of each algorithm, in turn.')
@click.option('--steps', type=click.IntRange(1), default=8, show_default=True,
              help='Of a block; whole periods of local-sgd and bmuf.')
@click.option('--pace', metavar='MS', help='Sleep so long in place of computing a step: shows what overlaps.')
@click.option('--algo', 'algos', multiple=True, metavar='NAME', help='May be repeated.  [default: all]')
@SET
@JSON
def algorithms(model, batch, chunk, dim, targets, blocks, steps, pace, algos, assignments, as_json):
    """Time a training step of every algorithm on all ranks, side by side.

    Blocks of steps alternate in an order that is drawn anew for every round, in the same processes, on a random batch;
    the slowest rank counts.  The consensus models are checked first; exit status 1 if one is wrong.  `ratio` is that of
    samples per second to sync-allreduce with --reduce mpi: median over the blocks, and the 95 % bootstrap interval of
    that median.  compute, exchange and waiting are shares of the time; bytes and messages those of the busiest rank.

    \b
    Examples:
      mpirun -n 2 hpcasr bench algorithms
      mpirun -n 8 hpcasr bench algorithms --pace 50 --algo sync-decentralized --algo delay-by-one --json
    """
    from hpcasr import config
    values = {'model.preset': model, 'data.batch': batch, 'data.chunk': chunk}
    resolved = config.resolve(None, assignments, values | ({'simulate.pace': pace} if pace else {}))
    return in_parallel(time_algorithms, resolved, (algos, blocks, steps, dim, targets), as_json)


def time_algorithms(comm, config, trial, as_json):
    from hpcasr.bench.algorithms import Trial, bench, lines
    found = bench(comm, config, Trial(*trial), iter if comm.rank else progress)
    comm.first(click.echo, json.dumps(found) if as_json else '\n'.join(lines(found)))


def numbers(context, parameter, text):
    """1,2,4 as a tuple of positive integers."""
    try:
        found = tuple(map(int, text.split(','))) if text else ()
    except ValueError:
        found = (0,)
    if not all(1 <= number <= MOST for number in found):
        raise click.BadParameter(f'{text}: give numbers from 1 on, such as 1,2,4,8,16')
    return tuple(dict.fromkeys(found))


def speeds(context, parameter, text):
    """0.1,1,10 as numbers, each more than 0."""
    try:
        found = tuple(float(word) for word in text.split(','))
    except ValueError:
        found = (0.0,)
    if not all(0 < speed < float('inf') for speed in found):
        raise click.BadParameter(f'{text}: give numbers of more than 0, such as 0.1,1,10')
    return found


def factors(context, parameter, text):
    """1,2,4 as numbers, each 1 or more."""
    try:
        found = tuple(float(word) for word in text.split(','))
    except ValueError:
        found = ()
    if not found or not all(1 <= factor < MOST for factor in found):
        raise click.BadParameter(f'{text}: give factors of 1 or more, such as 1,2,4,10')
    return found


@bench.command()
@click.option('--model', default='tiny', show_default=True, metavar='PRESET',
              help='What the ranks do beside sleeping must fit the cores; else those are measured.')
@batches
@widths
@click.option('--pace', default='50', show_default=True, metavar='MS', help='Of a step; the ranks sleep meanwhile.')
@click.option('--slow', default='1,2,4,10', show_default=True, callback=factors, metavar='FACTOR,...',
              help='How many times as long the last rank sleeps.')
@click.option('--blocks', type=click.IntRange(1), default=7, show_default=True, help='Runs of each, in turn.')
@click.option('--steps', type=click.IntRange(1), default=20, show_default=True,
              help='Of a usual rank in a run; fewer where it waits for the slow one.')
@click.option('--algo', 'algos', multiple=True, metavar='NAME',
              help='May be repeated.  [default: all asynchronous ones, and three others]')
@SET
@JSON
def stragglers(model, batch, chunk, dim, targets, pace, slow, blocks, steps, algos, assignments, as_json):
    """Measure what one slow rank costs all: samples/s beside those of the same ranks without any exchange.

    Asynchronous algorithms and the ranks without exchange take their work from a shared counter, synchronous ones have
    fixed shares.  Runs alternate in an order that is drawn anew; the ratio is the median over the pairs with its 95 %
    bootstrap interval.  `staleness` is the mean of the updates of all ranks, and that of the slow one.

    
    Examples:
      mpirun -n 8 hpcasr bench stragglers
      mpirun -n 8 hpcasr bench stragglers --model small --pace 200 --slow 4 --algo async-ps --json
    """
    from hpcasr import config
    values = {'model.preset': model, 'data.batch': batch, 'data.chunk': chunk, 'simulate.pace': pace}
    resolved = config.resolve(None, assignments, values)
    return in_parallel(time_stragglers, resolved, (algos, slow, blocks, steps, dim, targets), as_json)


def time_stragglers(comm, config, trial, as_json):
    from hpcasr.bench.stragglers import Trial, bench, lines
    found = bench(comm, config, Trial(*trial), iter if comm.rank else progress)
    comm.first(click.echo, json.dumps(found) if as_json else '\n'.join(lines(found)))


@bench.command()
@click.option('--model', 'models', multiple=True, metavar='NAME', help='May be repeated.  [default: all]')
@click.option('--precision', 'precisions', multiple=True, type=click.Choice(['fp32', 'bf16']), default=['fp32'],
              show_default=True, help='bf16: beside autocast of PyTorch; may be repeated.')
@click.option('--steps', 'blocks', type=click.IntRange(1), default=30, show_default=True,
              help='Of each, in turn; on several ranks blocks of four steps.')
@click.option('--quick', is_flag=True, help='The small models and few steps: whether all is there, not how fast.')
@JSON
def cpu(models, precisions, blocks, quick, as_json):
    """Time a training step beside PyTorch's, on one core or on as many ranks beside DistributedDataParallel.

    Same weights and data; forward, backward and plain SGD; in turn in the same processes.  Loss and gradients are
    compared first; exit status 1 if they differ.  ours/floor is the time over the least there can be: the sum over all
    operations of arithmetic at the speed of the best product or memory at that of a copy, both measured in between.
    Needs PyTorch: pip install "hpcasr[torch]".

    \b
    Examples:
      hpcasr bench cpu
      mpirun -n 2 hpcasr bench cpu --model small --model mid --json
    """
    trial = (models or SMALL_MODELS, precisions, min(blocks, 5)) if quick else (models, precisions, blocks)
    return in_parallel(time_cpu, trial, as_json)


def time_cpu(comm, trial, as_json):
    from hpcasr.bench.cpu import Trial, bench, lines
    found = bench(comm, Trial(*trial), iter if comm.rank else progress)
    comm.first(click.echo, json.dumps(found) if as_json else '\n'.join(lines(found)))


@bench.command()
@click.option('--only', multiple=True, metavar='SECTION', help='May be repeated.  [default: all]')
@click.option('--seconds', type=click.FloatRange(30), default=480, show_default=True,
              help='For everything; sections for which no time is left are left out.')
@click.option('--out', 'folder', default='exp/gpu', show_default=True, metavar='DIR',
              help='There gpu-NAME.json, which grows section by section, and gpu-NAME.txt are written.')
@click.option('--quick', is_flag=True, help='Tiny sizes, which show that all of it runs, and nothing else.')
@JSON
def gpu(only, seconds, folder, quick, as_json):
    """Check every kernel and training on this GPU against float64, then time them beside PyTorch.

    Sections, each a process of its own: machine, layers, vectors, features, training, steps, parts, levels, latency,
    ranks, agreement, algorithms.  Checks draw fresh data and poison what is written with NaN; times are medians between
    events of the device.  Exit status 1 if something is wrong or a section fails, after all others were run.

    \b
    Examples:
      hpcasr bench gpu
      hpcasr bench gpu --only training --only steps --out tests/results
    """
    from hpcasr.bench.gpu.run import Trial, bench, failures
    from hpcasr.errors import CheckFailed
    trial = Trial(only, seconds, folder, 'quick' if quick else 'full')
    found, path = bench(trial, lambda line: click.echo(line, err=as_json))
    click.echo(json.dumps(found) if as_json else f'written to {path}')
    if failed := list(failures(found)):
        raise CheckFailed('; '.join(failed))


def maybe_size(context, parameter, text):
    return text and size(context, parameter, text)


@bench.command()
@click.option('--model', default='mid', show_default=True, metavar='PRESET', help='A vector as long as this model.')
@widths
@click.option('--size', 'nbytes', callback=maybe_size, metavar='BYTES', help='A vector of so many bytes instead.')
@click.option('--repeats', type=click.IntRange(1), default=31, show_default=True, help='Of each way, in turn.')
@SET
@JSON
def exchange(model, dim, targets, nbytes, repeats, assignments, as_json):
    """Time the exchange of one whole float32 vector between all ranks, in every way that algorithms use.

    `copies` is the time in copies of the vector: of numpy.copyto by all ranks at once, taken in turn with the
    exchanges; median of the pairs with its 95 % bootstrap interval.  Algorithm and bus bandwidth are defined as by
    nccl-tests.  The answers are checked before and after; exit status 1 if one is wrong.

    \b
    Examples:
      mpirun -n 2 hpcasr bench exchange
      mpirun -n 4 hpcasr bench exchange --size 165M --set exchange.node_size=2 --json
    """
    from hpcasr import config
    resolved = config.resolve(None, assignments, {'model.preset': model})
    return in_parallel(time_exchange, resolved, (nbytes, dim, targets, repeats), as_json)


def time_exchange(comm, config, trial, as_json):
    from hpcasr.bench.exchange import Trial, bench, lines
    found = bench(comm, config, Trial(*trial), iter if comm.rank else progress)
    comm.first(click.echo, json.dumps(found) if as_json else '\n'.join(lines(found)))


@bench.command()
@click.option('--model', default='mid', show_default=True, metavar='PRESET', help='A vector as long as this model.')
@widths
@click.option('--size', 'nbytes', callback=maybe_size, metavar='BYTES', help='A vector of so many bytes instead.')
@click.option('--repeats', type=click.IntRange(1), default=15, show_default=True, help='Of each codec, in turn.')
@SET
@JSON
def compress(model, dim, targets, nbytes, repeats, assignments, as_json):
    """Time the sum of one whole vector over all ranks with every codec of --compress, beside the plain sum.

    encode and decode are what a rank computes in one such sum, the least of the repeats; `of plain` is the time over
    that of the plain sum, taken in turn; median of the pairs with its 95 % bootstrap interval.  A codec pays below the
    bandwidth at which the bytes saved by a rank take as long as it computes.  Of the vector one entry in a hundred
    reaches compress.threshold.  The answers are checked first, bit for bit; exit status 1 if one is wrong.

    \b
    Examples:
      mpirun -n 2 hpcasr bench compress
      mpirun -n 4 hpcasr bench compress --size 165M --set compress.ratio=0.001 --json
    """
    from hpcasr import config
    resolved = config.resolve(None, assignments, {'model.preset': model})
    return in_parallel(time_codecs, resolved, (nbytes, dim, targets, repeats), as_json)


def time_codecs(comm, config, trial, as_json):
    from hpcasr.backend import get_backend
    from hpcasr.bench.compress import Trial, bench, lines
    ops = comm.together(get_backend, config.train.backend)
    found = bench(comm, config, ops, Trial(*trial), iter if comm.rank else progress)
    comm.first(click.echo, json.dumps(found) if as_json else '\n'.join(lines(found)))


@bench.command()
@click.option('--model', default='mid', show_default=True, metavar='PRESET')
@batches
@widths
@click.option('--ranks', type=click.IntRange(1, MOST), default=4, show_default=True, help='Virtual learners.')
@click.option('--gbps', default='0.1,1,10,100', show_default=True, callback=speeds, metavar='SPEED,...',
              help='Of the link of each, in Gb/s.')
@click.option('--pace', type=click.FloatRange(0), default=100.0, show_default=True, metavar='MS',
              help='Milliseconds that a step computes.')
@SET
@JSON
def links(model, batch, chunk, dim, targets, ranks, gbps, pace, assignments, as_json):
    """Tell the samples per second of sync-allreduce with every method of --compress, by the speed of the links.

    The learners are virtual: their clocks are simulated, with the exchange behind the compute that hides it.  Only what
    a method computes is measured, here and now, and added to every step.

    \b
    Examples:
      hpcasr bench links --gbps 1,10
      hpcasr bench links --model swb2000 --dim 260 --targets 32000 --ranks 8 --pace 400 --set simulate.latency=30
    """
    from hpcasr import config, process
    process.tune()
    from hpcasr.bench.links import Trial, bench, lines
    resolved = config.resolve(None, assignments, {'model.preset': model, 'data.batch': batch, 'data.chunk': chunk,
                                                  'simulate.pace': pace})
    found = bench(resolved, Trial(ranks, gbps, dim, targets), progress)
    click.echo(json.dumps(found) if as_json else '\n'.join(lines(found)))


@bench.command()
@click.option('--model', default='mid', show_default=True, metavar='PRESET', help='A vector as long as this model.')
@widths
@click.option('--size', 'nbytes', callback=maybe_size, metavar='BYTES', help='A vector of so many bytes instead.')
@click.option('--repeats', type=click.IntRange(1), default=7, show_default=True, help='Turns of everything.')
@SET
@JSON
def onesided(model, dim, targets, nbytes, repeats, assignments, as_json):
    """Time one-sided operations: small ones while the target computes, a lock that all want, pulls of a whole vector.

    The pull is taken in turn with numpy.copyto of as many bytes.  The answers are checked; exit status 1 if one is
    wrong.

    \b
    Examples:
      mpirun -n 2 hpcasr bench onesided
      mpirun -n 2 hpcasr bench onesided --size 165M --set exchange.progress=thread --json
    """
    from hpcasr import config
    resolved = config.resolve(None, assignments, {'model.preset': model})
    return in_parallel(time_onesided, resolved, (nbytes, dim, targets, repeats), as_json)


def time_onesided(comm, config, trial, as_json):
    from hpcasr.bench.onesided import Trial, bench, lines
    found = bench(comm, config, Trial(*trial), iter if comm.rank else progress)
    comm.first(click.echo, json.dumps(found) if as_json else '\n'.join(lines(found)))


@bench.command()
@click.argument('store')
@click.option('--dev', metavar='STORE', help='Held-out data.  [default: some speakers of STORE]')
@click.option('--out', default='exp/convergence', show_default=True, callback=named, metavar='DIR',
              help='Everything that is made lies below it.')
@click.option('--ranks', type=click.IntRange(1, MOST), default=4, show_default=True, help='Virtual learners.')
@click.option('--many', type=click.IntRange(0, MOST), default=16, show_default=True,
              help='Virtual learners on a fixed and on a random ring; 0: leave that out.')
@click.option('--batch', type=click.IntRange(1, MOST), default=4, show_default=True, metavar='N',
              help='Samples (chunks of frames) per learner and step.')
@click.option('--epochs', type=click.IntRange(1), default=4, show_default=True)
@click.option('--seed', type=click.IntRange(0), default=0, show_default=True)
@click.option('--algo', 'algos', multiple=True, metavar='NAME', help='May be repeated.  [default: all]')
@click.option('--more', metavar='ARGUMENTS', callback=split,
              help='Of hpcasr train.  [default: --model small --chunk 32 --lr 4]')
@click.option('--graph', metavar='GRAPH', help='Decoding graph, for word error rates.')
@click.option('--test', metavar='STORE', help='What to recognize with it.')
@click.option('--sweep', metavar='N,...', callback=numbers,
              help='Some algorithms with --many learners and each of these batches per learner, instead.')
@click.option('--compress', multiple=True, metavar='METHOD[,KEY=VALUE...]',
              help='sync-allreduce, or each --algo, compressed so, and without; all: every method, and onebit without '
              'feedback; may be repeated, instead.')
@click.option('--seeds', type=click.IntRange(1, 1000), default=1, show_default=True,
              help='With --compress: runs of each, from --seed on.')
@JSON
def convergence(store, more, as_json, **options):
    """Train with every algorithm on equally many samples, and compare held-out scores and consensus.

    The learners are virtual, so it takes one core; the serial run has the same global batch.  Acoustic scale and
    penalty are chosen with the serial run on the held-out data and taken to all.  Started again, it goes on where it
    stopped, and runs only what is not done.  Exit status 1 if a run fails.  A sweep compares some algorithms at growing
    global batches, with rates in proportion; there a run may fail.  With --compress there is no serial run: each is
    compared with the run of its seed that compresses nothing.

    \b
    Examples:
      hpcasr bench convergence train.h5 --dev dev.h5 --out exp/convergence
      hpcasr bench convergence train.h5 --dev dev.h5 --graph exp/tri/graph --test test.h5 --algo bmuf --json
      hpcasr bench convergence train.h5 --dev dev.h5 --sweep 1,2,4,8,16
      hpcasr bench convergence train.h5 --dev dev.h5 --compress all --compress topk,ratio=0.001 --seeds 3
    """
    import shlex

    from hpcasr.bench.convergence import TRAINING, Trial, bench, failures, lines
    from hpcasr.errors import CheckFailed
    trial = Trial(store, more=shlex.join(more) or TRAINING, **options)
    found, status = bench(trial, lambda line: click.echo(line, err=True))
    if status:
        return status
    click.echo(json.dumps(found) if as_json else '\n'.join(lines(found)))
    if failed := failures(found):
        raise CheckFailed(f'{", ".join(failed)}: failed, see above')


def in_parallel(work, *args):
    """work(comm, *args) on all ranks; the exit status."""
    from hpcasr import faults, process
    status = faults.supervise()
    if status is not None:
        return status
    process.tune()
    from hpcasr.comm import world
    return world.run(lambda comm: work(comm, *args))


def end(number, _frame):
    """Unwind, so that the store is removed."""
    from hpcasr.errors import BadInput
    raise BadInput('ended by SIGTERM before there were figures')


def on_all_ranks(comm, config, trial, as_json):
    from hpcasr.bench.data import bench, lines
    found = bench(comm, config, trial, lambda line: click.echo(line, err=True))
    comm.first(click.echo, json.dumps(found) if as_json else '\n'.join(lines(found)))
