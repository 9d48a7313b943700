"""`hpcasr bench latency | bw | allreduce | ...`: microbenchmarks of MPI, named and printed as OSU's."""

import difflib

import click

from hpcasr.cli.align import number

DAY = 86400  # seconds
TESTS = {
    'latency': 'Half the time of a message to the last rank and back.',
    'bw': 'Bandwidth to the last rank: -W messages under way at once.',
    'bibw': 'Bandwidth between the first rank and the last, both ways at once.',
    'mbw_mr': 'Bandwidth and message rate of all pairs (r, r + L/2) at once.',
    'allreduce': 'MPI\'s own sum over all ranks.',
    'sum_ordered': 'The sum of training: in rank order, through shared memory inside a node.',
    'reduce_scatter': 'A sum of which each rank gets a slice.',
    'allgather': 'The vectors of all ranks to all ranks.',
    'alltoall': 'A vector from each rank to each.',
    'bcast': 'A vector from rank 0 to all.',
    'barrier': 'Nobody goes on before all have come.',
    'iallreduce': 'A sum behind compute, and how much of it the compute hides.',
    'neighbor': 'Vectors between neighbours, along the path of training.',
    'put_latency': 'A write into the memory of the last rank.',
    'get_latency': 'A read from the memory of the last rank.',
    'acc_latency': 'An addition into the memory of the last rank.',
    'put_bw': 'Bandwidth of -W writes into the memory of the last rank.',
    'get_bw': 'Bandwidth of -W reads from the memory of the last rank.',
    'acc_bw': 'Bandwidth of -W additions into the memory of the last rank.',
    'fop_latency': 'Fetch-and-add of 8 bytes in the memory of the last rank.',
    'cas_latency': 'Compare-and-swap of 8 bytes in the memory of the last rank.',
    'ticket': 'The lock of training\'s windows, taken and given back.'}
TWO_SIDED = tuple(TESTS)[:13]
COLLECTIVE, COUNTERS = TWO_SIDED[4:], ('fop_latency', 'cas_latency', 'ticket')
SUITE = 'latency', 'bw', 'allreduce', 'sum_ordered', 'put_latency', 'get_latency', 'fop_latency', 'ticket'
COMMANDS = *TESTS, 'wire', 'results'
VARIANTS = {'windows': 'window_kind', 'syncs': 'sync', 'targets': 'target', 'patterns': 'pattern'}
TYPES = 'uint8', 'int32', 'int64', 'float32', 'float64'  # MPI has no halves


class Bench(click.Group):
    """A group that names the nearest command, and whose --plot is that of the command that follows."""

    def resolve_command(self, ctx, args):
        if args and self.get_command(ctx, args[0]) is None:
            near, = difflib.get_close_matches(args[0], self.commands, 1, 0)
            ctx.fail(f'there is no {args[0]}; did you mean {near}? (hpcasr bench --help lists all)')
        return super().resolve_command(ctx, args)


def size_range(context, parameter, text):
    from hpcasr.bench.wire.sizes import parse
    try:
        return parse(text) if text else (1, None)
    except ValueError:
        raise click.BadParameter(f'{text}: give MIN:MAX in bytes, from 1 to 1G, such as 1:1M; K, M and G are powers of '
                                 '1024') from None


def words(choices):
    """a,b as a list of some of `choices`."""
    def parse(context, parameter, text):
        found = [word.split('+')[0] for word in text.split(',')]  # lock_all+flush is lock_all
        for word in found:
            if word not in choices:
                near = difflib.get_close_matches(word, choices, 1, 0)[0]
                raise click.BadParameter(f'{word}: choose of {", ".join(choices)}; did you mean {near}?')
        return list(dict.fromkeys(found))
    return parse


def share(context, parameter, text):
    """10% or 0.1 as 0.1."""
    try:
        found = float(text.removesuffix('%'))/(100 if text.endswith('%') else 1)
    except ValueError:
        found = -1.0
    if not 0 <= found < 1e6:
        raise click.BadParameter(f'{text}: give a share, such as 10%')
    return found


def words_option(name, choices, default, text):
    return click.option(f'--{name}', f'{name}s', default=default, show_default=True, callback=words(choices),
                        metavar='NAME,...', help=f'{text}: {", ".join(choices)}; several are taken in turn.')


SIZES = (click.option('-m', 'sizes', metavar='MIN:MAX', callback=size_range,
                      help='Bytes of a message, doubled from MIN on.  [default: 1:256M, less where memory is short]'),)
RUNS = (
    click.option('-i', 'iterations', type=click.IntRange(1), metavar='N',
                 help='Runs of a size.  [default: as many as OSU\'s]'),
    click.option('-x', 'warm_up', type=click.IntRange(0), metavar='N',
                 help='Runs before, which do not count.  [default: a tenth of these]'),
    click.option('--cap', type=click.FloatRange(0.001, DAY), default=1.0, show_default=True, metavar='SECONDS',
                 callback=number,
                 help='That the runs of a size may take, together.'),
    click.option('--no-validate', is_flag=True, help='Do not compare what comes with what was sent.'))
WINDOW = (click.option('-W', 'window', type=click.IntRange(1, 65536), default=64, show_default=True, metavar='N',
                       help='Messages under way at once.'),)
TYPE = (click.option('-T', 'dtype', type=click.Choice(TYPES),
                     help='Of the entries.  [default: uint8; float32 where they are added]'),)
BUFFERS = (click.option('-d', 'kind', type=click.Choice(['numpy', 'cupy', 'staged']), default='numpy',
                        show_default=True, help='Buffers; staged: of a GPU, copied to the host and back.'),)
PATTERN = (words_option('pattern', ('ring', 'random-ring', 'pair'), 'ring', 'Who is whose neighbour'),)
ONE_SIDED = (
    words_option('window', ('create', 'allocate', 'shared'), 'allocate', 'Kind of window'),
    words_option('sync', ('lock', 'lock_all', 'fence', 'pscw'), 'lock_all', 'Synchronization'),
    words_option('target', ('idle', 'computing'), 'idle', 'What the last rank does meanwhile'))
FILES = (
    click.option('--json', metavar='FILE', help='Write the figures there; no file is ever overwritten.'),
    click.option('--csv', metavar='FILE', help='Write them there, one row per tuple of variables.'),
    click.option('--plot', metavar='FILE', help='Draw them there (.png, .svg or .pdf).'),
    click.option('--baseline', metavar='FILE', help='Exit status 1 if a median is above that of FILE, a --json.'),
    click.option('--tolerance', default='10%', show_default=True, callback=share, metavar='SHARE',
                 help='By which a median may be above.'))
LEAST = (click.option('--min-bw', 'least', type=click.FloatRange(0), callback=number, metavar='MB/S',
                      help='Exit status 1 where no size of a test that tells bandwidth reaches this.'),)
MACHINE = (click.option('--machine', metavar='FILE', help='Fit latency and inverse bandwidth: a machine.json for '
                        'hpcasr train --virtual L --machine FILE.'),)


def options_of(name):
    """What one test can be told."""
    found = () if name in ('barrier', *COUNTERS) else SIZES + TYPE
    found += RUNS + (WINDOW if name.endswith(('bw', 'mr')) else ())
    found += PATTERN if name == 'neighbor' else ()
    found += BUFFERS if name in TWO_SIDED and name not in ('barrier', 'sum_ordered', 'iallreduce', 'neighbor') else ()
    found += ONE_SIDED if name not in TWO_SIDED else ()
    found += FILES + (() if 'latency' in name or name in ('barrier', 'ticket', 'iallreduce') else LEAST)
    return found + (MACHINE if name == 'latency' else ())


def decorated(work, options):
    for option in reversed(options):
        work = option(work)
    return work


def command(name):
    """`hpcasr bench NAME`."""
    @click.pass_context
    def run(context, **values):
        return measure(context, [name], values)
    ranks = 'mpirun -n 2 hpcasr bench'
    more = {'get_bw': '--sync lock,lock_all --window create,allocate', 'latency': '-m 1:4M --machine machine.json',
            'neighbor': '--pattern ring,pair --csv ring.csv'}.get(name) or f'--json {name}.json'
    run.__doc__ = (f'{TESTS[name]}\n\n    What comes is compared with what was sent; exit status 1 where it differs.'
                   f'\n\n    \b\n    Examples:\n      {ranks} {name}\n      {ranks} {name} {more}\n    ')
    return click.command(name)(decorated(run, options_of(name)))


def register(group):
    for name in TESTS:
        group.add_command(command(name))
    group.add_command(wire)
    group.add_command(results)


def several(context, parameter, names):
    for name in names:
        if name not in TESTS:
            near = difflib.get_close_matches(name, TESTS, 1, 0)[0]
            raise click.BadParameter(f'there is no test {name}; did you mean {near}?')
    return list(dict.fromkeys(names)) or list(SUITE)


@click.pass_context
def wire(context, tests, check_c, blocks, **values):
    """Some microbenchmarks of MPI, one after the other.

    Without TEST: latency, bw, allreduce, sum_ordered, put_latency, get_latency, fop_latency and ticket.  --check-c
    compares the times with those of the same loops in C (compiled here, with the mpi.h of the MPI in use) and of
    mpi4py.bench, in alternating blocks; exit status 1 where they differ by more than 5 % from 64 KiB on, or by 2 us
    a call below.

    \b
    Examples:
      mpirun -n 2 hpcasr bench wire -m 1:4M --json wire.json --plot wire.png
      mpirun -n 2 hpcasr bench wire latency bw allreduce --check-c -m 8:4M
    """
    if check_c:
        return compared(context, tests, values, blocks)
    return measure(context, tests, values)


CHECK = (
    click.option('--check-c', is_flag=True, help='Compare with the same loops in C and with mpi4py.bench.'),
    click.option('--blocks', type=click.IntRange(3), default=15, show_default=True, help='Of --check-c.'))
wire = click.command('wire')(decorated(wire, (
    click.argument('tests', nargs=-1, metavar='[TEST]...', callback=several), *SIZES, *TYPE, *RUNS, *WINDOW, *BUFFERS,
    *PATTERN, *ONE_SIDED, *FILES, *LEAST, *MACHINE, *CHECK)))


@click.command()
@click.argument('files', nargs=-1, required=True, metavar='FILE...')
def results(files, **outputs):
    """Draw, fit or compare figures that are in files of --json, without measuring.

    \b
    Examples:
      hpcasr bench results a.json b.json --plot both.svg --csv both.csv
      hpcasr bench results now.json --baseline before.json --tolerance 10%
    """
    from hpcasr.bench.wire.session import Outputs, stored
    rows = stored(files, Outputs(**outputs))
    click.echo(f'{len(rows)} rows; nothing is above what it is held against')


for option in reversed(FILES + LEAST + MACHINE):
    results = option(results)


def measure(context, names, values):
    outputs, options, variants = sorted_out(context, values)
    from hpcasr.cli.bench import in_parallel
    return in_parallel(work, names, options, variants, outputs)


def compared(context, names, values, blocks):
    outputs, options, variants = sorted_out(context, values)
    if any(path for path in (outputs['json'], outputs['csv'], outputs['plot'], outputs['machine'])):
        raise click.UsageError('--check-c prints a table and writes no file', context)
    from hpcasr.cli.bench import in_parallel
    return in_parallel(work_c, names, options, variants, blocks)


def sorted_out(context, values):
    """(outputs, options, variants) of a command line, as dicts."""
    outputs = {k: values.pop(k, None) for k in ('json', 'csv', 'plot', 'baseline', 'least', 'machine')}
    outputs['plot'] = outputs['plot'] or (context.obj or {}).get('plot')
    outputs['tolerance'] = values.pop('tolerance')
    variants = {VARIANTS[k]: values.pop(k) for k in VARIANTS if k in values}
    options = {'type' if k == 'dtype' else k: v for k, v in values.items() if k != 'no_validate'}
    return outputs, options | {'validate': not values['no_validate']}, variants


def work(comm, names, options, variants, outputs):
    from hpcasr.bench.wire.options import Options
    from hpcasr.bench.wire.session import Outputs, run
    run(comm, names, Options(**options), variants, Outputs(**outputs), click.echo)


def work_c(comm, names, options, variants, blocks):
    from hpcasr.bench.wire.check_c import check
    from hpcasr.bench.wire.options import Options
    first = {k: v[0] for k, v in variants.items()}
    opts = comm.together(Options(**options | first, plain=True).load)
    check(comm, names, opts, blocks, opts.iterations or 200, click.echo)
