"""`hpcasr align`: the integer target of every frame."""

import json

import click

from hpcasr.cli.data import JSON, named
from hpcasr.cli.progress import progress
from hpcasr.cli.provenance import provenance
from hpcasr.cli.sigterm import ends_between_items


@click.group()
def align():
    """Give every frame of a store its target."""


@align.command()
@click.argument('stores', nargs=-1, required=True)
@click.option('--lexicon', required=True, metavar='FILE',
              help='Kaldi lexicon.txt: WORD PHONE PHONE ..., or lexiconp.txt: WORD PROBABILITY PHONE PHONE ...')
@click.option('--states', type=click.IntRange(1, 100), default=3, show_default=True, help='Per phone.')
@click.option('--silence', default='SIL', show_default=True, help='Phone before and after the words.')
@click.option('--oov', metavar='WORD', help='Word of the lexicon that stands for those it lacks.')
@click.option('--force', is_flag=True, help='Replace targets that exist.')
@ends_between_items()
def equal(stores, lexicon, states, silence, oov, force):
    """Flat start: silence, the words' first pronunciations, silence; every state the same share of the frames.

    Target p*STATES + s is state s of phone p: silence first, then the lexicon's phones sorted, so all stores aligned
    with one lexicon agree.

    \b
    Examples:
      hpcasr align equal train.h5 dev.h5 --lexicon data/local/dict/lexicon.txt
      hpcasr align equal train.h5 --lexicon lexicon.txt --states 1 --oov '<UNK>'
    """
    from hpcasr.align.equal import align_equal
    from hpcasr.align.lexicon import Lexicon
    words = Lexicon(lexicon, states, silence, oov)
    for store, short in zip(stores, align_equal(stores, words, provenance(), force, progress), strict=True):
        if short:
            click.echo(f'{store}: {short} utterances have fewer frames than states; some states get none', err=True)
        click.echo(f'{store}: {len(words.target_names)} targets, {states} states of {len(words.phones)} phones')


def lexicon_options(command):
    for option in (click.option('--oov', metavar='WORD', help='Word of the lexicon that stands for those it lacks.'),
                   click.option('--silence', default='SIL', show_default=True, help='Phone between the words.'),
                   click.option('--states', type=click.IntRange(1, 100), default=3, show_default=True,
                                help='Per phone.'),
                   click.option('--lexicon', required=True, metavar='FILE',
                                help='Kaldi lexicon.txt: WORD PHONE PHONE ..., or lexiconp.txt.')):
        command = option(command)
    return command


def number(context, parameter, value):
    """Not nan, which is in every range."""
    if value != value:
        raise click.BadParameter('is not a number')
    return value


def training_options(passes):
    """The options that flat-start and tree share; `passes` is the default."""
    def decorate(command):
        for option in (JSON, click.option('--force', is_flag=True, help='Replace ALI, and targets that exist.'),
                       click.option('--no-targets', is_flag=True, help='Leave the stores as they are.'),
                       click.option('--passes', type=click.IntRange(1, 1000), default=passes, show_default=True,
                                    metavar='N', help='Over the training data.'),
                       click.option('--num-gauss', type=click.IntRange(1), metavar='N',
                                    help='Gaussians in the end.  [default: by the data]'),
                       click.option('--out', required=True, callback=named, metavar='ALI', help='Directory to make.')):
            command = option(command)
        return command
    return decorate


@align.command()
@click.argument('stores', nargs=-1, required=True)
@lexicon_options
@click.option('--keep-stress', is_flag=True, help='AH0 and AH1 are two phones.  [default: digits are dropped]')
@click.option('--transform', type=click.Choice(['auto', 'dct', 'none']), default='auto', show_default=True,
              help='Decorrelate by cosines; auto: filterbanks only.')
@training_options(20)
def flat_start(stores, lexicon, states, silence, oov, keep_stress, transform, **options):
    """Align stores from nothing: mixtures of Gaussians of monophones.

    They are trained on the first store, from an equal split, with all pronunciations and silence between words where
    it helps; the other stores are only aligned.  All get the monophone states as targets, and the phones' segments.
    A stopped command goes on where it was when it is started again.

    \b
    Examples:
      hpcasr align flat-start train.h5 dev.h5 --lexicon lexicon.txt --out exp/mono
      mpirun -n 8 hpcasr align flat-start train.h5 --lexicon lexicon.txt --oov '<UNK>' --num-gauss 2000 --out exp/mono
    """
    def work(comm, request):
        from hpcasr.align.flat_start import flat_start
        from hpcasr.align.lexicon import Lexicon
        words = comm.together(Lexicon, lexicon, states, silence, oov, keep_stress)
        return flat_start(comm, request, words, transform)
    return train_together(stores, options, work)


@align.command()
@click.argument('ali')
@click.argument('stores', nargs=-1, required=True)
@click.option('--leaves', type=click.IntRange(1), metavar='N', help='Tied states at most.  [default: by the data]')
@click.option('--min-count', type=click.IntRange(1), default=100, show_default=True, metavar='N',
              help='Frames of a tied state at least.')
@training_options(15)
def tree(ali, stores, leaves, min_count, **options):
    """Tie the states of triphones by a phonetic decision tree, and align stores with them.

    The first store is aligned with ALI, which gives the statistics that the tree is grown from; mixtures of Gaussians
    of its leaves are trained on the same store, and all stores are aligned with them.

    \b
    Examples:
      hpcasr align tree exp/mono train.h5 dev.h5 --out exp/tri --force
      mpirun -n 8 hpcasr align tree exp/mono train.h5 --leaves 2000 --out exp/tri --force
    """
    def work(comm, request):
        from hpcasr.align.tied import train_tied
        return train_tied(comm, request, ali, leaves, min_count)
    return train_together(stores, options, work)


@align.command()
@click.argument('model')
@click.argument('stores', nargs=-1, required=True)
@click.option('--acwt', type=click.FloatRange(1e-6, 1e6), callback=number, default=0.1, show_default=True,
              metavar='SCALE', help='Of log-likelihoods, against the probabilities of pronunciations.')
@click.option('--force', is_flag=True, help='Replace targets that exist.')
@JSON
def force(model, stores, acwt, force, as_json):
    """Align stores with MODEL: a directory that hpcasr align made, or an experiment of hpcasr train.

    \b
    Examples:
      hpcasr align force exp/tri more.h5
      mpirun -n 8 hpcasr align force exp/blstm train.h5 dev.h5 --force
    """
    made = provenance()

    def work(comm):
        from hpcasr.align.force import force_align
        tallies = force_align(comm, model, stores, acwt, made, force, note)
        comm.first(report, stores, tallies, as_json)
    return on_all_ranks(work)


@align.command()
@click.argument('store')
@click.option('--out', required=True, callback=named, metavar='DIR', help='Directory to make.')
@click.option('--force', is_flag=True, help='Replace an alignment in DIR.')
@ends_between_items()
def export(store, out, force):
    """Write the targets of STORE for Kaldi: pdf.scp, ali_train_pdf.counts, num_pdfs, tree.json, phones.txt, ctm.

    ctm and phones.ctm tell when every word and phone begins and how long it is, in seconds.

    \b
    Examples:
      hpcasr align export train.h5 --out exp/tri/train
      hpcasr align export train.h5 --out exp/tri/train --force
    """
    from hpcasr.align.export import export
    from hpcasr.data.store import Store
    missing = export(store, out, force, progress)
    for why in dict.fromkeys(missing.values()):
        click.echo(f'{out}: without {", ".join(name for name in missing if missing[name] == why)}: {why}', err=True)
    told = Store(store, verify=False)
    click.echo(f'{out}/pdf.scp: {told.num_utterances} utterances, {told.num_frames} frames, {told.num_targets} pdfs')


def train_together(stores, options, work):
    """work(comm, training.Request) on all ranks, then a line about the model."""
    made = provenance()

    def on_rank(comm):
        from hpcasr.align.training import Request
        request = Request(stores, options['out'], options['passes'], options['num_gauss'], not options['no_targets'],
                          options['force'], made, note)
        facts = work(comm, request)
        comm.first(click.echo, json.dumps({'path': options['out'], **facts}) if options['as_json'] else
                   f'{options["out"]}: {facts["pdfs"]} pdfs, {facts["gaussians"]} Gaussians, '
                   f'log-likelihood {facts["loglike_per_frame"]:.3f} per frame')
    return on_all_ranks(on_rank)


def on_all_ranks(work):
    from hpcasr import faults, process
    status = faults.supervise()
    if status is not None:
        return status
    process.tune()
    from hpcasr.align.stopping import listen
    from hpcasr.comm import world
    listen()
    return world.run(work)


def note(line):
    click.echo(line, err=True)


def report(stores, tallies, as_json):
    rows = [{'path': store, **tally.facts()} for store, tally in zip(stores, tallies, strict=True)]
    if as_json:
        return click.echo(json.dumps(rows))
    for row in rows:
        click.echo(f'{row["path"]}: {row["aligned"]} utterances, log-likelihood {row["loglike_per_frame"]:.3f} per '
                   f'frame, silence {100*row["silence"]:.1f} %')
