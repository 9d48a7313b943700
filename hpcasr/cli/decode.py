"""`hpcasr decode`: from log-likelihoods to words."""

import click

from hpcasr.cli.data import named
from hpcasr.cli.finite import finite
from hpcasr.cli.progress import progress
from hpcasr.cli.provenance import provenance
from hpcasr.cli.sigterm import ends_at_once
from hpcasr.cli.window import WINDOW

ORDERS = {1: 'unigram', 2: 'bigram', 3: 'trigram'}


@click.group()
def decode():
    """Recognize words: make a decoding graph, search it, count the errors."""


@decode.command()
@click.argument('model')
@click.option('--out', required=True, callback=named, metavar='GRAPH', help='Directory to write.')
@click.option('--text', metavar='FILE', help='Sentences, one per line, to estimate the language model from.')
@click.option('--kaldi-text', is_flag=True, help="Lines begin with an utterance id, as in Kaldi's text.")
@click.option('--order', type=click.IntRange(1, 4), default=2, show_default=True, help='Of the model from --text.')
@click.option('--arpa', metavar='FILE', help='Language model, in place of --text.')
@click.option('--test-text', metavar='FILE', help='Other sentences: report their perplexity and unknown words.')
@click.option('--lexicon', metavar='FILE', help="Lexicon to use.  [default: the model's]")
@click.option('--sil-prob', callback=finite, type=click.FloatRange(0, 1, max_open=True), default=0.5, show_default=True,
              help='Of silence before, between and after words.')
@click.option('--self-loop', callback=finite, type=click.FloatRange(0, 1, min_open=True, max_open=True), default=0.5,
              show_default=True, help='Probability of another frame in the same HMM state.')
@click.option('--transition-scale', callback=finite, type=click.FloatRange(0), default=1, show_default=True,
              help='Of the costs of HMM transitions.')
@click.option('--force', is_flag=True, help='Replace the graph in GRAPH.')
@click.option('--json', 'as_json', is_flag=True, help='Print JSON.')
@ends_at_once()
def graph(model, out, text, kaldi_text, order, arpa, test_text, lexicon, sil_prob, self_loop, transition_scale, force,
          as_json):
    """Make the decoding graph of MODEL: an alignment directory, an experiment or a store.

    The language model is estimated from --text with Kneser-Ney smoothing over the words of the lexicon, or read with
    --arpa.  GRAPH gets HCLG.fst, words.txt, phones.txt, lm.arpa and graph.json; it is for hpcasr decode: its input
    labels are pdf + 1, not the transition ids that Kaldi's latgen-faster-mapped wants.

    \b
    Examples:
      hpcasr decode graph exp/ali --out exp/graph --text data/train/text --kaldi-text
      hpcasr decode graph exp/blstm --out exp/graph-tg --arpa lm.arpa --lexicon big-lexicon.txt
    """
    if (text is None) == (arpa is None):
        raise click.UsageError('give either --text or --arpa')
    from hpcasr.decode.graph import Options
    from hpcasr.decode.graph_directory import Request, make_graph
    request = Request(model, out, text, arpa, order, kaldi_text, test_text, lexicon, force)
    facts = make_graph(request, Options(sil_prob, self_loop, transition_scale), provenance(),
                       lambda line: click.echo(line, err=True))
    click.echo(as_json_line(facts) if as_json else '\n'.join(summary(facts, test_text)))


def as_json_line(facts):
    import json
    return json.dumps(facts)


def summary(facts, test_text):
    """Lines about a graph."""
    order = ORDERS.get(facts['order'], f'{facts["order"]}-gram')
    own = f', perplexity of the text {facts["perplexity"]["value"]:.1f}' if 'perplexity' in facts else ''
    yield (f'graph     HCLG {facts["states"]:,} states, {facts["arcs"]:,} arcs; {facts["words"]:,} words, '
           f'{order}{own}')
    if test := facts.get('test_perplexity'):
        yield (f'{test_text}: perplexity {test["value"]:.1f}; {test["unknown"]:,} of {test["words"]:,} words are '
               f'unknown ({100*test["unknown"]/max(test["words"], 1):.2f} %)')


@decode.command()
@click.argument('model')
@click.argument('graph')
@click.argument('store')
@click.option('--out', required=True, metavar='DIR', help='Directory to write.')
@click.option('--acwt', metavar='LIST', help='Acoustic scales to try.  [default: 0.06,0.08,0.1,0.13,0.17,0.22]')
@click.option('--penalty', metavar='LIST', help='Word insertion penalties to try.  [default: -1,-0.5,0,0.5,1]')
@click.option('--like', metavar='DIR', help='The scale and penalty that hpcasr decode score found best there.')
@click.option('--beam', callback=finite, type=click.FloatRange(0, min_open=True), default=13, show_default=True,
              help='Of the search.')
@click.option('--max-active', type=click.IntRange(21), default=2500, show_default=True, help='States per frame.')
@click.option('--checkpoint', metavar='best|last|average|PATH', default='best', show_default=True,
              help='Of an experiment.')
@WINDOW
@click.option('--force', is_flag=True, help='Replace the hypotheses in DIR.')
def run(model, graph, store, out, acwt, penalty, like, beam, max_active, checkpoint, window, force):
    """Recognize STORE with MODEL (an experiment or alignment directory) and GRAPH, on all ranks.

    All scales are tried at the penalty nearest to 0, then all penalties at the best scale, then the scales beside the
    best; give one of each, or --like, to recognize once.  Hypotheses are DIR/scoring/ACWT_PENALTY.txt.  An acoustic
    scale of 1/N is Kaldi's LMWT of N.

    \b
    Examples:
      mpirun -n 4 hpcasr decode run exp/blstm exp/graph dev.h5 --out exp/blstm/dev
      srun hpcasr decode run exp/blstm exp/graph test.h5 --out exp/blstm/test --like exp/blstm/dev
    """
    from hpcasr import faults, process
    status = faults.supervise()
    if status is not None:
        return status
    process.tune()
    import signal

    from hpcasr.comm import world
    from hpcasr.decode.grid import grid
    from hpcasr.decode.run import Request
    signal.signal(signal.SIGTERM, ended)
    return world.run(lambda comm: on_all_ranks(comm, (model, checkpoint, window), Request(
        graph, store, out, *comm.together(grid, acwt, penalty, like), beam, max_active, force)))


def ended(number, _frame):
    """Unwind, so that the draft is removed."""
    from hpcasr.errors import BadInput
    raise BadInput('ended by SIGTERM before all was recognized')


def on_all_ranks(comm, model, request):
    from hpcasr.acoustic import open_model
    from hpcasr.decode import speed
    from hpcasr.decode.run import decode
    found = decode(comm, request, lambda: open_model(*model), lambda line: note(comm, line),
                   iter if comm.rank else progress)
    note(comm, speed.remark(found))
    comm.first(click.echo, speed.summary(found))


def note(comm, line):
    if line and comm.rank == 0:
        click.echo(line, err=True)


@decode.command()
@click.argument('directories', nargs=-1, metavar='[DIR]...')
@click.option('--ref', metavar='FILE', help="Reference, as Kaldi's text; with --hyp.")
@click.option('--hyp', metavar='FILE', help='Hypothesis to score, in place of directories.')
@click.option('--utt2spk', metavar='FILE', help='Speakers of --hyp.')
@click.option('--baseline', metavar='HYP', help='Another hypothesis: paired bootstrap of the difference.')
@click.option('--by', 'resample', type=click.Choice(['utterance', 'speaker']), default='utterance', show_default=True,
              help='What is drawn for the intervals.')
@click.option('--replicates', type=click.IntRange(100), default=10_000, show_default=True, help='Of the bootstrap.')
@click.option('--seed', type=click.IntRange(0), default=0, show_default=True, help='Of the bootstrap.')
@click.option('--per-speaker', is_flag=True, help='Print a table of speakers.')
@click.option('--json', 'as_json', is_flag=True, help='Print JSON.')
@ends_at_once()
def score(directories, ref, hyp, utt2spk, baseline, resample, replicates, seed, per_speaker, as_json):
    """Word error rate with a 95 % bootstrap interval, of the best hypothesis in each DIR or of --hyp.

    DIR, made by hpcasr decode run, gets wer_ACWT_PENALTY, scoring/best_wer, best.json, per_utt, per_spk and ops.  A
    scale is to be chosen on a development set and taken to the test set with hpcasr decode run --like.

    \b
    Examples:
      hpcasr decode score exp/blstm/dev exp/dnn/dev
      hpcasr decode score --ref data/test/text --hyp hyp.txt --baseline other.txt --json
    """
    if bool(directories) == bool(hyp) or bool(ref) != bool(hyp):
        raise click.UsageError('give either directories, or --ref and --hyp')
    from hpcasr.decode import report, results
    scored = [results.score_directory(d) for d in directories] or [results.score_files(ref, hyp, utt2spk)]
    found = [report.facts(r, replicates, seed, resample == 'speaker', baseline) for r in scored]
    for r, facts in zip(scored, found, strict=True):
        for line in report.remarks(r, facts):
            click.echo(f'note: {line}', err=True)
    if as_json:
        return click.echo(as_json_line(report.with_speakers(scored, found) if per_speaker else found))
    for r, facts in zip(scored, found, strict=True):
        click.echo('\n'.join(report.lines(r, facts, per_speaker)))
