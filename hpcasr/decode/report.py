"""What `hpcasr decode score` says about a Result: error rate, its interval, a comparison, its speakers."""

import numpy as np

from hpcasr.decode import bootstrap, details
from hpcasr.decode.results import Result, baseline


def facts(result, replicates=10_000, seed=0, by_speaker=False, against=None):
    """A dict for JSON and for `lines`.

    by_speaker  resample speakers, not utterances
    against     path of a baseline's hypotheses, for a paired comparison
    Raises BadInput.
    """
    errors, words = columns(result.units(by_speaker))
    found = {'name': result.name, **result.facts, **result.total.facts(), 'resampled': unit(by_speaker),
             'replicates': replicates, 'interval': bootstrap.interval(errors, words, replicates, seed)}
    if against:
        other = Result(str(against), result.refs, {}, baseline(result, against), result.utt2spk)
        theirs, _ = columns(other.units(by_speaker))
        found['baseline'] = {'name': str(against), **other.total.facts(),
                             **bootstrap.compare(errors, theirs, words, replicates, seed)}
    return found


def with_speakers(results, found):
    """`found`, a dict per Result, with the counts of every speaker."""
    return [facts | {'speakers': {who: c.facts() for who, c in r.speakers().items()}}
            for r, facts in zip(results, found, strict=True)]


def remarks(result, found):
    """Notes for the user, on stderr."""
    yield from result.notes
    for facts in found, found.get('baseline'):
        if facts and not facts['errors']:
            yield f'{facts["name"]}: word for word its reference; is it really what was recognized?'


def unit(by_speaker):
    return 'speakers' if by_speaker else 'utterances'


def columns(units):
    """Errors [U], words [U]."""
    return np.array([(c.errors, c.words) for c in units]).T


def lines(result, found, per_speaker=False):
    """Text for a terminal."""
    point = ''.join(f' {k} {v:g}' for k, v in result.facts.items())
    yield f'{result.total}  {bracket(found["interval"])}  {result.name}{point}'
    if 'baseline' in found:
        yield versus(found['baseline'])
    if per_speaker:
        yield from details.speaker_table(result.speakers())


def versus(other):
    return (f'{other["difference"]:+.2f} {bracket(other["interval"])} against %WER {other["wer"]:.2f} of '
            f'{other["name"]}; better in {100*other["improves"]:.1f} % of the replicates')


def bracket(interval):
    return '[{:.1f}, {:.1f}]'.format(*interval)
