"""Pronunciations, and the numbers of the phone states that they give."""

from hpcasr.data.kaldi import lines
from hpcasr.errors import BadInput


class Lexicon:
    """Kaldi's lexicon.txt: `WORD PHONE PHONE ...`, the first pronunciation of a word counts.

    phones   silence first, the others sorted; state s of phone p is pdf p*states + s
    oov      word of the lexicon that stands for words it lacks; None: those are errors
    """

    def __init__(self, path, states=3, silence='SIL', oov=None):
        self.path, self.states, self.silence = path, states, silence
        self.pronunciations, phones = {}, set()
        for n, line in lines(path):
            word, *pronunciation = line.split()
            if not pronunciation:
                raise BadInput(f'{path}: line {n}: {word} has no pronunciation')
            self.pronunciations.setdefault(word, pronunciation)
            phones.update(pronunciation)
        self.phones = [silence, *sorted(phones - {silence})]
        self.index = {phone: p for p, phone in enumerate(self.phones)}
        if oov is not None and oov not in self.pronunciations:
            raise BadInput(f'{path}: --oov {oov} is not in the lexicon')
        self.oov = oov

    @property
    def target_names(self):
        """['SIL_0', 'SIL_1', ...]."""
        return [f'{phone}_{s}' for phone in self.phones for s in range(self.states)]

    def pronounce(self, words, where):
        """The phones of the words, silence before and after; `where` names the utterance in errors."""
        return [self.silence, *(p for word in words for p in self.lookup(word, where)), self.silence]

    def lookup(self, word, where):
        found = self.pronunciations.get(word, self.pronunciations.get(self.oov))
        if found is None:
            raise BadInput(f'{where}: {word} is not in {self.path}; add it, or name a word to use with --oov')
        return found

    def pdfs(self, phones):
        """The states of a sequence of phones, in order."""
        return [self.index[phone]*self.states + s for phone in phones for s in range(self.states)]
