"""`hpcasr align`: the integer target of every frame."""

import click

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
