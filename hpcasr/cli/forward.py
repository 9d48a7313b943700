"""`hpcasr forward`."""

import click

from hpcasr.cli.data import ALLOW_PIPES, FORCE, named
from hpcasr.cli.window import WINDOW


@click.command()
@click.argument('exp')
@click.argument('data')
@click.option('--out', required=True, callback=named, metavar='ARK', help='Archive to write.')
@click.option('--scp', is_flag=True, help='Write its index, too: the same name with the ending .scp.')
@click.option('--output', type=click.Choice(['loglikes', 'log-posteriors']), default='loglikes', show_default=True,
              help='ln p(s|x) - ln p(s), or ln p(s|x).')
@click.option('--compress', is_flag=True, help='Write compressed matrices: a quarter of the size, lossy.')
@click.option('--checkpoint', metavar='best|last|average|PATH', default='best', show_default=True)
@WINDOW
@ALLOW_PIPES
@FORCE
def forward(exp, data, out, **options):
    """Compute the log-likelihoods of every frame in DATA with the model in EXP, with all ranks that mpirun started.

    EXP is an experiment of hpcasr train, or a directory that hpcasr align made.  DATA is a store, or a Kaldi data
    directory with feats.scp, to which the deltas and the normalization of the training data are applied.  The archive
    has a matrix [frames, pdfs] per utterance; its bytes do not depend on the number of ranks.  With Kaldi's own model
    and graph, of whose alignment (hpcasr data import --ali exp/tri3_ali) the network has learnt:

    \b
      latgen-faster-mapped --acoustic-scale=0.1 --word-symbol-table=exp/tri3/graph/words.txt exp/tri3/final.mdl \\
        exp/tri3/graph/HCLG.fst ark:loglikes.ark "ark:|gzip -c > lat.1.gz"

    \b
    Examples:
      mpirun -n 2 hpcasr forward exp/mid test.h5 --out loglikes.ark
      hpcasr forward exp/mid data/test --out loglikes.ark --scp --compress
    """
    from hpcasr import faults, process
    status = faults.supervise()
    if status is not None:
        return status
    process.tune()
    from hpcasr.comm import world
    return world.run(lambda comm: on_all_ranks(comm, exp, data, out, options))


def on_all_ranks(comm, exp, data, out, options):
    import signal

    from hpcasr import faults
    from hpcasr.cli.progress import progress
    from hpcasr.data.progress import silent
    from hpcasr.forward import Request, forward
    signal.signal(signal.SIGTERM, faults.interrupt)  # unwinds, and so takes the unfinished files with it
    request = Request(exp, data, out, **options)
    utterances, frames, pdfs = forward(comm, request, silent if comm.rank else progress)
    comm.first(click.echo, f'{out}: {utterances} utterances, {frames} frames of {pdfs} {request.output}')
