"""`hpcasr recipe`."""

import click

from hpcasr.cli.data import named

MORE = 'features', 'import', 'flat-start', 'tree', 'graph', 'first', 'realign', 'train', 'search', 'decode', 'score'


def parse_more(context, parameter, texts):
    """{'train': '--lr 0.5'} of ('train=--lr 0.5',); arguments of a stage given twice come one after the other."""
    more = {}
    for text in texts:
        stage, equals, arguments = text.partition('=')
        if stage not in MORE or not equals:
            raise click.BadParameter(f'{text}: write STAGE=ARGUMENTS, where STAGE is one of {", ".join(MORE)}')
        split(context, parameter, arguments)
        more[stage] = f'{more.get(stage, "")} {arguments}'
    return more


def split(context, parameter, text):
    """The words of a command line, [] where there is none."""
    import shlex
    try:
        return shlex.split(text or '')
    except ValueError as e:
        raise click.BadParameter(f'{text}: {e}') from None


@click.command()
@click.argument('directory', metavar='KALDI_DIR')
@click.option('--out', required=True, callback=named, metavar='DIR', help='Everything that is made lies below it.')
@click.option('--train', default='train', show_default=True, help='Data directory of the training set, in KALDI_DIR.')
@click.option('--dev', default='dev', show_default=True, help='Of the set on which scales are chosen.')
@click.option('--test', multiple=True, default=['test'], show_default=True, help='Of a test set; may be repeated.')
@click.option('--lexicon', metavar='FILE', help='[default: local/dict/lexicon.txt and its like in KALDI_DIR]')
@click.option('--text', metavar='FILE', help='Text of the language model.  [default: transcripts of the training set]')
@click.option('--order', type=click.IntRange(1, 4), default=2, show_default=True, help='Of the language model.')
@click.option('--arpa', metavar='FILE', help='A language model that exists.')
@click.option('--algo', default='sync-allreduce', show_default=True, metavar='NAME', help='Distributed-SGD algorithm.')
@click.option('--model', default='small', show_default=True, metavar='PRESET')
@click.option('--epochs', type=click.IntRange(1), default=8, show_default=True)
@click.option('--seeds', type=click.IntRange(1), default=1, show_default=True, help='Networks trained, seed 0, 1, ...')
@click.option('--realign', default='', metavar='PRESET', help='Train this network first, and align anew with it.')
@click.option('--realign-epochs', type=click.IntRange(1), default=4, show_default=True)
@click.option('--tempo', default='', metavar='LIST',
              help='Train on copies of these tempos too, such as 0.9,1.1: hpcasr data perturb.')
@click.option('--systems', is_flag=True, help='Recognize with the Gaussian mixtures and the first network, too.')
@click.option('--baseline', metavar='HYP', help='Hypotheses (Kaldi text) that test results are compared with.')
@click.option('--features', is_flag=True, help='Compute features even where there is a feats.scp.')
@click.option('--more', multiple=True, callback=parse_more, metavar='STAGE=ARGUMENTS',
              help=f'Further arguments of a stage, may be repeated: {", ".join(MORE)}.')
@click.option('--ranks', type=click.IntRange(1), help='[default: the cores this process may use, or SLURM_NTASKS]')
@click.option('--launcher', callback=split, metavar='COMMAND',
              help='What starts them.  [default: srun in a SLURM job, else mpirun]')
@click.option('--dry-run', is_flag=True, help='Print the commands and stop.')
def recipe(directory, out, ranks, launcher, dry_run, **options):
    """From a Kaldi data directory to a word error rate; started again, it goes on where it stopped.

    Features, stores, flat start, phonetic tree, training, decoding graph; acoustic scale and insertion penalty are
    chosen on the dev set and used on the test sets.  A stage runs again only if its arguments or what it reads changed.

    \b
    Examples:
      hpcasr recipe an4 --out exp/an4 --epochs 12 --seeds 3
      hpcasr recipe data --out exp/mid --model mid --realign small --systems --more 'train=--batch 16'
    """
    import os
    import shlex

    from hpcasr.recipe.plan import Recipe, plan
    from hpcasr.recipe.results import results
    from hpcasr.recipe.run import Runner, default_launcher
    wanted = Recipe(directory, out, **options)
    stages = plan(wanted)
    ranks = ranks or int(os.environ.get('SLURM_NTASKS') or len(os.sched_getaffinity(0)))
    words = launcher or default_launcher(ranks)
    if dry_run:
        return click.echo('\n'.join(shlex.join([*(words if s.parallel else []), 'hpcasr', *s.argv]) for s in stages))
    runner = Runner(out, stages, words, lambda line: click.echo(line, err=True))
    if status := runner.run():
        return status
    click.echo(results(wanted, runner.seconds()))
