"""A Kaldi data directory with features: which utterances it holds, and whether its files agree about them."""

import os
from pathlib import Path

from hpcasr.data.kaldi import Scp, shown, table, words
from hpcasr.errors import BadInput


def speakers(path):
    """{utterance: speaker} of utt2spk."""
    utt2spk = table(path)
    for utterance, speaker in utt2spk.items():
        if len(words(speaker)) != 1:
            raise BadInput(f'{path}: utterance {utterance}: expected one word, its speaker, got {shown(speaker)!r}')
    return utt2spk


class DataDirectory:
    """feats.scp, utt2spk and, if it is there, text of a directory.  Raises BadInput for what is missing."""

    def __init__(self, path, allow_pipes=False):
        self.path = Path(path)
        if not os.path.isdir(self.path):
            raise BadInput(f'{path}: no such directory; expected a Kaldi data directory')
        if not os.path.exists(self.path/'feats.scp'):
            raise BadInput(f'{path}: has no feats.scp; make it with `hpcasr data features {path} --out OUTDIR`')
        self.feats = Scp(self.path/'feats.scp', allow_pipes)
        self.utt2spk = speakers(self.path/'utt2spk')
        self.text = table(self.path/'text', required=False)
        self.has_text = os.path.lexists(self.path/'text')  # even an empty one must agree

    def utterances(self, alignment=None, intersect=False):
        """Utterance ids in the order of feats.scp: those that are in all files.

        Where files disagree: BadInput for the first utterance that is missing somewhere, unless `intersect`.
        """
        keys = [k for k in self.feats.keys() if all(k in other for other in self.others(alignment).values())]
        if not intersect:
            for problem in self.differences(alignment):
                raise BadInput(problem)
        if not keys:
            raise BadInput(f'{self.path}: no utterance is in all of feats.scp, {", ".join(self.others(alignment))}')
        return keys

    def others(self, alignment):
        """{name of the file: its keys} of all that must agree with feats.scp."""
        others = {'utt2spk': self.utt2spk.keys()}
        if self.has_text:
            others['text'] = self.text.keys()
        if alignment is not None:
            others[f'the alignment {alignment.path}'] = alignment.keys()
        return others

    def differences(self, alignment=None):
        """One line for every pair of files that disagree; an alignment may have more utterances than the directory."""
        feats = self.feats.keys()
        for name, keys in self.others(alignment).items():
            yield from self.missing(feats, keys, f'in feats.scp but not in {name}')
            if not name.startswith('the alignment'):
                yield from self.missing(keys, feats, f'in {name} but not in feats.scp')

    def missing(self, here, there, what):
        lost = [k for k in here if k not in there]
        if lost:
            more = f' (and {len(lost) - 1} more)' if len(lost) > 1 else ''
            yield (f'{self.path}: utterance {lost[0]}{more} is {what}; run utils/fix_data_dir.sh on it, '
                   f'or use --intersect to take what is in all')
