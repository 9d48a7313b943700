"""`hpcasr transcribe`."""

import click

from hpcasr.cli.finite import finite
from hpcasr.cli.sigterm import ends_at_once


@click.command()
@click.argument('exp')
@click.argument('files', nargs=-1, required=True, metavar='AUDIO...')
@click.option('--graph', metavar='GRAPH', help="Decoding graph.  [default: EXP/graph, or the recipe's]")
@click.option('--format', 'form', type=click.Choice(['text', 'ctm', 'json']), default='text', show_default=True,
              help='Words; words with their times, a line each; both.')
@click.option('--lexicon', metavar='FILE', help="Of a graph that was made with another lexicon than the model's.")
@click.option('--acwt', type=click.FloatRange(0, min_open=True), callback=finite,
              help='Scale of the log-likelihoods.  [default: the best of EXP/decode*, else 0.1]')
@click.option('--penalty', type=float, callback=finite,
              help='Cost of every word.  [default: the best of EXP/decode*, else 0]')
@click.option('--beam', type=click.FloatRange(0, min_open=True), callback=finite, default=13, show_default=True,
              help='Nats.')
@click.option('--max-active', type=click.IntRange(21), default=2500, show_default=True, help='States per frame.')
@click.option('--checkpoint', metavar='best|last|average|PATH', default='best', show_default=True)
@ends_at_once()
def transcribe(exp, files, form, **options):
    """Write down what is said in AUDIO files (wav, flac, ogg or opus, mono) with the model in EXP.

    EXP is an experiment of hpcasr train, a directory that hpcasr align made, or one of hpcasr recipe.  Features are
    made as those of the training data were, mean and variance are those of each file.  Times, in seconds, come from a
    forced alignment of the recognized words.

    \b
    Examples:
      hpcasr transcribe exp/demo talk.wav
      hpcasr transcribe exp/mid *.flac --graph exp/graph-tg --format ctm > words.ctm
    """
    from hpcasr import process
    process.tune()
    from hpcasr.transcribe import FORMATS, Options, transcribe
    options = Options(times=form != 'text', **options)
    for line in FORMATS[form](transcribe(exp, files, options, lambda line: click.echo(line, err=True))):
        click.echo(line)
