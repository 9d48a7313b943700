"""The scores of a directory that `hpcasr decode run` made, in the files that Kaldi users look for.

DIR/wer_ACWT_PENALTY                     of every hypothesis
DIR/scoring/best_wer, best.json          the best of them; per_utt, per_spk, ops: its errors by utterance, speaker, word
"""

import json
import pathlib
import re
from dataclasses import dataclass, field

from hpcasr.data.directory import speakers
from hpcasr.decode import details
from hpcasr.decode.score import count_all, total
from hpcasr.decode.texts import read_texts, write_whole
from hpcasr.decode.tune import best, edges, label
from hpcasr.errors import BadInput
from hpcasr.given import json_of

NUMBER = r'-?\d+(?:\.\d+)?(?:e[+-]?\d+)?'


@dataclass
class Result:
    """One hypothesis against its reference.

    name, facts   what it is called; what is known of it, such as acwt and penalty
    counts        {utterance: Counts}, in the order of the reference
    utt2spk       {utterance: speaker}, or None
    notes         remarks for the user
    """

    name: str
    refs: dict
    hyps: dict
    counts: dict
    utt2spk: dict | None = None
    facts: dict = field(default_factory=dict)
    notes: list = field(default_factory=list)

    @property
    def total(self):
        return total(self.counts.values())

    def units(self, by_speaker=False):
        """[Counts] of what is drawn together when resampling."""
        return list(self.speakers().values()) if by_speaker else list(self.counts.values())

    def speakers(self):
        """{speaker: Counts}.  BadInput where it is not known who speaks."""
        if self.utt2spk is None:
            raise BadInput(f'{self.name}: who speaks is not known; give --utt2spk FILE')
        for name in self.counts:
            if name not in self.utt2spk:
                raise BadInput(f'{self.name}: utterance {name} has no speaker in utt2spk')
        return details.by_speaker(self.counts, self.utt2spk)


def score_files(ref, hyp, utt2spk=None):
    """The Result of a hypothesis file.  Raises BadInput."""
    refs, hyps = read_texts(ref), read_texts(hyp)
    result = Result(str(hyp), refs, hyps, count_all(refs, hyps, hyp), utt2spk and speakers(utt2spk))
    result.notes += missing(result)
    return result


def score_directory(path):
    """Score all hypotheses of DIR, write what is listed above; the Result of the best.  Raises BadInput."""
    path = pathlib.Path(path)
    files, refs = hypotheses(path), references(path)
    totals = {point: total(count_all(refs, read_texts(file), file).values()) for point, file in files.items()}
    point = best({point: counts.errors for point, counts in totals.items()})
    hyps = read_texts(files[point])  # once more: not all hypotheses are held at a time
    result = Result(str(path), refs, hyps, count_all(refs, hyps, path), speakers(path/'scoring'/'utt2spk'),
                    {'acwt': point[0], 'penalty': point[1]})
    result.notes += [*(f'{path}: {text} with hpcasr decode run' for text in edges(totals, point)), *missing(result)]
    write_scores(path, totals, result)
    return result


def references(path):
    """{utterance: [words]} of DIR/scoring/ref.txt."""
    if not (path/'scoring'/'ref.txt').exists():
        raise BadInput(f'{path}: has no scoring/ref.txt: what was recognized came without texts; score it with '
                       '--ref FILE --hyp FILE')
    return read_texts(path/'scoring'/'ref.txt')


def hypotheses(path):
    """{(acwt, penalty): file} of DIR/scoring, sorted."""
    folder = path/'scoring'
    names = sorted(file.name for file in folder.iterdir()) if folder.is_dir() else []
    found = [re.fullmatch(f'({NUMBER})_({NUMBER})\\.txt', name) for name in names]
    points = {(float(m[1]), float(m[2])): folder/m[0] for m in found if m}
    if not points:
        raise BadInput(f'{path}: holds no hypotheses (scoring/ACWT_PENALTY.txt); expected a directory that '
                       'hpcasr decode run made')
    return dict(sorted(points.items()))


def missing(result):
    n = result.total.missing
    return [f'{result.name}: {n} utterances of the reference have no hypothesis; their words count as deleted'][:n]


def write_scores(path, totals, result):
    folder, point = path/'scoring', (result.facts['acwt'], result.facts['penalty'])
    texts = {'best_wer': [f'{totals[point]} {path}/wer_{label(point)}'],
             'per_utt': details.per_utterance(result.refs, result.hyps),
             'per_spk': details.speaker_table(result.speakers()),
             'ops': details.operations(result.refs, result.hyps),
             'best.json': [json.dumps(result.facts | totals[point].facts(), indent=1)]}
    for each, counts in totals.items():
        write_whole(path/f'wer_{label(each)}', counts.lines())
    for name, lines in texts.items():
        write_whole(folder/name, ''.join(f'{line}\n' for line in lines))


def best_point(path):
    """(acwt, penalty) that were found best in DIR, for `--like DIR`.  Raises BadInput."""
    file = pathlib.Path(path)/'scoring'/'best.json'
    try:
        found = json_of(file)
        return float(found['acwt']), float(found['penalty'])
    except OSError as e:
        raise BadInput(f'{file}: {e.strerror}; find the best scale first: hpcasr decode score {path}') from None
    except (ValueError, KeyError, TypeError):
        raise BadInput(f'{file}: names no acwt and penalty; make it again: hpcasr decode score {path}') from None


def baseline(result, path):
    """{utterance: Counts} of another hypothesis file, in the order of `result`.  Raises BadInput."""
    return count_all(result.refs, read_texts(path), path)
