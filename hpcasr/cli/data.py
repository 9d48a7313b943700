"""`hpcasr data`: from speech or a Kaldi directory to a store."""

import json
import os

import click

from hpcasr.cli.progress import progress
from hpcasr.cli.provenance import provenance
from hpcasr.cli.sigterm import ends_at_once, ends_between_items
from hpcasr.errors import CheckFailed

FORCE = click.option('--force', is_flag=True, help='Replace what exists.')
JSON = click.option('--json', 'as_json', is_flag=True, help='Print JSON.')
ALLOW_PIPES = click.option('--allow-pipes', is_flag=True, help='Run scp entries that are shell commands (`... |`).')

CONTEXT = 100  # frames of a splice, to each side


def named(context, parameter, path):
    """A path that is not ''."""
    if not path:
        raise click.BadParameter('is empty; name what to write')
    return path


@click.group()
def data():
    """Bring speech or a Kaldi directory into a store, look at it, check it."""


def parse_splice(context, parameter, text):
    """'L,R' or 'N', which is N,N."""
    words = text.split(',')
    sides = [int(word) for word in words if word.isascii() and word.isdecimal() and len(word) < 9]
    if len(sides) != len(words) or len(sides) > 2 or max(sides) > CONTEXT:
        raise click.BadParameter(f'{text}: give L,R or N, frames to the left and right, at most {CONTEXT}')
    return sides[0], sides[-1]


@data.command()
@click.argument('directory')
@click.option('--out', required=True, callback=named, help='Data directory to make, another one.')
@click.option('--type', 'kind', type=click.Choice(['fbank', 'mfcc']), default='fbank', show_default=True)
@click.option('--num-mel-bins', type=click.IntRange(3, 1000), default=40, show_default=True)
@click.option('--num-ceps', type=click.IntRange(1, 1000), default=13, show_default=True, help='Of mfcc.')
@click.option('--sample-rate', type=click.IntRange(1000, 1_000_000), default=16000, show_default=True,
              help='Hz; audio of a higher rate is resampled.')
@click.option('--nj', type=click.IntRange(0), default=0, help='Processes.  [default: the cores this process may use]')
@click.option('--compress', is_flag=True, help='Write compressed matrices: a quarter of the size, lossy.')
@ALLOW_PIPES
@FORCE
@ends_at_once()
def features(directory, out, kind, num_mel_bins, num_ceps, sample_rate, nj, compress, allow_pipes, force):
    """Compute features of a Kaldi data directory (wav.scp, perhaps segments): OUT gets feats.scp and the other tables.

    Audio: wav, flac, ogg, opus, mono.  Frames as Kaldi's compute-fbank-feats and compute-mfcc-feats, 25 ms every 10 ms,
    without dither: the same audio gives the same features.

    \b
    Examples:
      hpcasr data features data/train --out exp/fbank/train
      hpcasr data features data/train --out mfcc/train --type mfcc --num-mel-bins 23 --nj 8 --compress
    """
    from hpcasr.data.features import Features, make_features
    options = Features(kind, num_mel_bins, num_ceps, sample_rate)
    nj = nj or len(os.sched_getaffinity(0))
    short = make_features(directory, out, options, nj, compress, allow_pipes, force, progress)
    if short:
        click.echo(f'{directory}: left out {len(short)} utterances shorter than a window, first {short[0]}', err=True)
    click.echo(f'{out}/feats.scp')


def parse_range(context, parameter, text):
    """'LOW,HIGH' or 'N', which is N,N: two finite numbers in order."""
    try:
        low, high = float(text.split(',')[0]), float(text.split(',', 1)[-1])
    except ValueError:
        low, high = 1, 0
    if not -1000 <= low <= high <= 1000:
        raise click.BadParameter(f'{text}: give LOW,HIGH or N, decibels')
    return low, high


@data.command()
@click.argument('directory', callback=named)
@click.option('--hours', type=float, default=0.5, show_default=True, help='Of speech, in all.')
@click.option('--speakers', type=int, help='At least 3.  [default: 24, for H hours 24*sqrt(2H)]')
@click.option('--seed', type=click.IntRange(0, 2**63 - 1), default=0, show_default=True)
@click.option('--snr', callback=parse_range, default='5,25', show_default=True, metavar='LOW,HIGH',
              help='Signal-to-noise ratio in dB, drawn for every utterance.')
@click.option('--nj', type=click.IntRange(0), default=0, help='Processes.  [default: the cores this process may use]')
@FORCE
@ends_at_once()
def synth(directory, hours, speakers, seed, snr, nj, force):
    """Make a demo corpus of synthetic speech.  DIRECTORY, new or empty, gets train, dev, test (Kaldi data directories
    without common speakers; no sentence of train is in dev or test), audio, and local/dict with the lexicon.

    espeak-ng speaks it, a program of others under the GPL, version 3: `pip install "hpcasr[demo]"`.  Names spelled,
    digits, commands, short sentences; with room, channel and noise.  ctm and phones.ctm have the true times of words
    and phones.  The same seed gives the same corpus, whatever --nj.

    \b
    Examples:
      hpcasr data synth demo
      hpcasr data synth demo10 --hours 10 --seed 1 --snr 0,15 --nj 8
    """
    from hpcasr.data.synth import Plan, synthesize
    made = synthesize(directory, Plan(hours, speakers, seed, snr), nj or len(os.sched_getaffinity(0)), force, progress)
    minutes = made['seconds']/60
    size = f'{minutes:.0f} min' if minutes < 120 else f'{minutes/60:.1f} h'
    click.echo(f'speech    {size}, {made["speakers"]:,} speakers, {made["utterances"]:,} utterances '
               f'(espeak-ng, seed {seed})')


@data.command('import')
@click.argument('directory')
@click.option('--out', required=True, callback=named, help='Store to write.')
@click.option('--cmvn', type=click.Choice(['utterance', 'speaker', 'none']), default='speaker', show_default=True,
              help='Over whose frames mean and variance are normalized, deltas included.')
@click.option('--cmvn-vars/--no-cmvn-vars', default=True, show_default=True, help='Normalize the variance too.')
@click.option('--deltas', type=click.IntRange(0, 2), default=2, show_default=True, help='Highest order, as add-deltas.')
@click.option('--splice', callback=parse_splice, default='0', show_default=True, metavar='L,R',
              help='Context frames to the left and right, put side by side when frames are read.')
@click.option('--ali', metavar='RSPECIFIER', help='Directory of a Kaldi alignment (ali.*.gz, final.mdl), or pdf-ids of '
              'every frame: pdf.scp, pdf.ark or "ark:gunzip -c ... |".')
@click.option('--mdl', metavar='FILE', help='final.mdl of an alignment by transition-ids (ali.*.gz).')
@click.option('--num-pdfs', type=click.IntRange(1, 10_000_000),
              help='Targets of an alignment by pdf-ids (am-info final.mdl).')
@click.option('--length-tolerance', type=click.IntRange(0), default=0, show_default=True,
              help='Frames by which features and alignment may differ; both are cut.')
@click.option('--dtype', type=click.Choice(['float32', 'float16']), default='float32', show_default=True)
@click.option('--intersect', is_flag=True, help='Take the utterances that all files have.')
@ALLOW_PIPES
@FORCE
@ends_between_items()
def import_(directory, out, cmvn, cmvn_vars, deltas, splice, ali, mdl, num_pdfs, length_tolerance, dtype, intersect,
            allow_pipes, force):
    """Write a store from a Kaldi data directory: feats.scp, utt2spk and, if it is there, text.

    Targets come from an alignment by Kaldi: transition-ids with their final.mdl (a directory, or --ali and --mdl), or
    pdf-ids as ali-to-pdf writes them (--ali and --num-pdfs).

    \b
    Examples:
      hpcasr data import data/train --out train.h5
      hpcasr data import data/train --ali exp/tri3_ali --splice 5 --out train.h5
    """
    from hpcasr.data.alignment import open_alignment
    from hpcasr.data.frontend import Frontend
    from hpcasr.data.ingest import Ingest, ingest
    by_model = mdl is not None or os.path.isdir(ali or '')
    if (ali is None) != (num_pdfs is None and not by_model):
        raise click.UsageError('--ali and --num-pdfs go together; or --ali and --mdl; or --ali with a directory',
                               click.get_current_context())
    alignment = open_alignment(ali, allow_pipes, mdl) if ali is not None else None
    source = Ingest(directory, Frontend(deltas, cmvn, cmvn_vars), alignment, targets(alignment, num_pdfs),
                    length_tolerance, intersect, allow_pipes)
    ingest(source, out, splice, dtype, provenance(), force, progress)
    report(out)


def targets(alignment, num_pdfs):
    """How many targets `alignment` has: as its model says, else as the user does."""
    known = (alignment and alignment.num_pdfs) or num_pdfs or 0
    if num_pdfs not in (None, known):
        raise click.UsageError(f'--num-pdfs is {num_pdfs}, but the model has {known}; leave it out',
                               click.get_current_context())
    return known


@data.command()
@click.argument('stores', nargs=-1, required=True)
@click.option('--out', required=True, callback=named, help='Store to write.')
@click.option('--utterances', metavar='LIST', help='File; only utterances whose ids begin its lines.')
@click.option('--speakers', metavar='LIST', help='File; only speakers whose ids begin its lines.')
@click.option('--dtype', type=click.Choice(['float32', 'float16']), help='[default: that of the first store]')
@FORCE
@ends_between_items()
def pack(stores, out, utterances, speakers, dtype, force):
    """Merge stores, or take part of them; columns, front end and targets must agree.

    \b
    Examples:
      hpcasr data pack part1.h5 part2.h5 --out train.h5
      hpcasr data pack train.h5 --speakers ten_speakers.txt --out small.h5
    """
    from hpcasr.data.pack import pack
    pack(stores, out, utterances, speakers, dtype, provenance(), force, progress)
    report(out)


def parse_tempo(context, parameter, text):
    """[factors] of '0.9,1.1'."""
    try:
        factors = [float(word) for word in text.split(',')]
    except ValueError:
        raise click.BadParameter(f'{text}: give factors with commas between them, such as 0.9,1.1') from None
    if not all(0.5 <= f <= 2 and f != 1 for f in factors) or len(set(factors)) < len(factors):
        raise click.BadParameter(f'{text}: give different factors from 0.5 to 2, without 1: that copy is there anyway')
    return factors


@data.command()
@click.argument('store')
@click.option('--out', required=True, callback=named, help='Store to write.')
@click.option('--tempo', required=True, callback=parse_tempo, metavar='LIST', help='Factors, such as 0.9,1.1.')
@FORCE
@ends_between_items()
def perturb(store, out, tempo, force):
    """Add copies of all utterances that are spoken faster and slower; targets and segments come along.

    \b
    Examples:
      hpcasr data perturb train.h5 --tempo 0.9,1.1 --out train-sp.h5
      hpcasr data perturb train.h5 --tempo 0.88,0.94,1.06,1.13 --out train-sp.h5 --force
    """
    from hpcasr.data.perturb import perturb
    perturb(store, out, tempo, provenance(), force, progress)
    report(out)


@data.command()
@click.argument('store')
@JSON
def info(store, as_json):
    """What a store holds.

    \b
    Examples:
      hpcasr data info train.h5
      hpcasr data info train.h5 --json | jq .priors.entropy
    """
    from hpcasr.data.store import Store
    from hpcasr.data.summary import summary
    found = summary(Store(store))
    click.echo(json.dumps(found) if as_json else '\n'.join(describe(found)))


@data.command()
@click.argument('path')
@ALLOW_PIPES
@JSON
def check(path, allow_pipes, as_json):
    """Check a store (every checksum, value and target) or a Kaldi data directory.  Exit status 1 if anything is wrong.

    \b
    Examples:
      hpcasr data check train.h5
      hpcasr data check data/train --json
    """
    from hpcasr.data.check import problems
    found = problems(path, allow_pipes, progress)
    click.echo(json.dumps({'path': path, 'problems': found}) if as_json else '\n'.join(found or [f'{path}: ok']))
    if found:
        raise CheckFailed(f'{path}: {len(found)} problem{"s"*(len(found) > 1)}')


def report(out):
    """One line about the store that was made."""
    from hpcasr.data.store import Store
    from hpcasr.data.summary import summary
    click.echo(line(summary(Store(out))))


def line(s):
    targets = f'{s["targets"]} targets' if s['targets'] else 'no targets'
    return (f'{s["path"]}: {s["utterances"]} utterances, {s["speakers"]} speakers, {s["hours"]:.2f} h, '
            f'{s["frames"]} frames of {s["dim"]}, {targets}')


def describe(s):
    """The lines of `data info`."""
    yield line(s)
    yield f'frames     {s["columns"]} columns of {s["dtype"]}, spliced {s["splice"][0]},{s["splice"][1]}'
    yield 'front end  ' + ', '.join(f'{k} {v}' for k, v in s['frontend'].items())
    if s['priors']:
        yield (f'priors     entropy {s["priors"]["entropy"]:.3f} nats, always the most frequent: '
               f'{s["priors"]["guess_error"]:.1%} wrong, {s["priors"]["unseen"]} never seen')
    if s['tree']:
        yield 'tree       {phones} phones of {states} states, {context}, {leaves} leaves'.format(**s['tree'])
    if s['words']:
        yield f'lexicon    {s["words"]} words'
    if s['segments']:
        yield f'segments   {s["segments"]} phones in time'
    yield f'made       {json.dumps(s["provenance"])}'
    yield f'digest     {s["digest"]}'
