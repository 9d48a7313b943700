"""Word error rate: (insertions + deletions + substitutions) / words of the reference, by kaldialign."""

from collections import Counter
from dataclasses import dataclass, fields

import kaldialign

from hpcasr.errors import BadInput

NOTHING = ' '  # stands for no word in an alignment; no word holds a blank
EPS = '<eps>'  # how Kaldi prints it


@dataclass(frozen=True)
class Counts:
    """Sums over utterances.  missing: those without a hypothesis, all of whose words are deletions."""

    ins: int = 0
    dels: int = 0
    sub: int = 0
    words: int = 0
    utterances: int = 0
    wrong: int = 0
    missing: int = 0

    def __add__(self, other):
        return Counts(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))

    @property
    def errors(self):
        return self.ins + self.dels + self.sub

    @property
    def correct(self):
        return self.words - self.dels - self.sub

    @property
    def wer(self):
        """Percent."""
        return 100*self.errors/self.words if self.words else float('nan')

    @property
    def ser(self):
        """Percent of the utterances that have an error."""
        return 100*self.wrong/self.utterances if self.utterances else float('nan')

    def __str__(self):
        return f'%WER {self.wer:.2f} [ {self.errors} / {self.words}, {self.ins} ins, {self.dels} del, {self.sub} sub ]'

    def lines(self):
        """Kaldi's wer_* file."""
        return (f'{self}\n%SER {self.ser:.2f} [ {self.wrong} / {self.utterances} ]\n'
                f'Scored {self.utterances} sentences, {self.missing} not present in hyp.\n')

    def facts(self):
        """As JSON has them."""
        return {'wer': self.wer, 'errors': self.errors, 'words': self.words, 'ins': self.ins, 'del': self.dels,
                'sub': self.sub, 'ser': self.ser, 'sentences': self.utterances, 'wrong': self.wrong,
                'missing': self.missing}


def align(ref, hyp):
    """[(reference word, hypothesis word)], NOTHING where the other has no counterpart, with the fewest errors."""
    return kaldialign.align(ref, hyp, NOTHING)


def operation(ref, hyp):
    """C correct, S substitution, I insertion, D deletion."""
    return 'C' if ref == hyp else 'I' if ref == NOTHING else 'D' if hyp == NOTHING else 'S'


def count(ref, hyp):
    """The Counts of one utterance; lists of words, hyp None where there is no hypothesis."""
    ops = Counter(operation(*pair) for pair in align(ref, hyp or []))
    wrong = ops['C'] != ops.total()
    return Counts(ops['I'], ops['D'], ops['S'], len(ref), 1, int(wrong), int(hyp is None))


def count_all(refs, hyps, where):
    """{utterance: Counts} of all in `refs`, {utterance: [words]}.  BadInput if `hyps` (`where`) has another one."""
    for name in hyps:
        if name not in refs:
            raise BadInput(f'{where}: utterance {name} is not in the reference; is this another data set?')
    if not any(refs.values()):
        raise BadInput(f'{where}: its reference has no words to compare with')
    return {name: count(ref, hyps.get(name)) for name, ref in refs.items()}


def total(counts):
    return sum(counts, Counts())
