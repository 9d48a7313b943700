"""Pronunciations, and the numbers of the phone states that they give."""

import re

from hpcasr.data.kaldi import lines, words
from hpcasr.errors import BadInput

SILENCES = 'sil', '<sil>', '!sil', 'silence', 'sp', 'pau', 'h#'  # in lower case: how lexicons call silence


class Lexicon:
    """Kaldi's lexicon.txt, `WORD PHONE PHONE ...`, the first pronunciation of a word counts; or lexiconp.txt and
    lexiconp_silprob.txt, with numbers before the phones, the most probable one counts.

    phones   silence first, the others sorted; state s of phone p is pdf p*states + s
    silence  a phone of the lexicon; SIL is added to a lexicon without silence
    oov      word of the lexicon that stands for words it lacks; None: those are errors
    stress   whether AH0 and AH1 are two phones; if not, the digits at the end of phones are dropped
    variants {word: [(probability, phones)]}, every pronunciation once, the most probable first
    """

    def __init__(self, path, states=3, silence='SIL', oov=None, stress=True):
        self.path, self.states, self.silence = path, states, silence
        entries = read(path)
        if not stress:
            entries = [(p, word, [without_stress(phone) for phone in phones]) for p, word, phones in entries]
        phones = {phone for _, _, pronunciation in entries for phone in pronunciation}
        self.refuse_unknown_silence(phones)
        self.variants = {}
        for probability, word, pronunciation in sorted(entries, key=lambda entry: -entry[0]):  # stable: else the first
            known = self.variants.setdefault(word, [])
            if pronunciation not in [phones for _, phones in known]:
                known.append((probability, pronunciation))
        self.pronunciations = {word: known[0][1] for word, known in self.variants.items()}
        self.phones = [silence, *sorted(phones - {silence})]
        self.index = {phone: p for p, phone in enumerate(self.phones)}
        if oov is not None and oov not in self.pronunciations:
            raise BadInput(f'{path}: --oov {oov} is not in the lexicon')
        self.oov = oov

    def refuse_unknown_silence(self, phones):
        likely = sorted(phone for phone in phones if phone.lower() in SILENCES)
        if self.silence not in phones and (likely or self.silence != 'SIL'):
            raise BadInput(f'{self.path}: no phone is {self.silence!r}; name its silence with --silence, '
                           f'likely {" or ".join(likely) or "SIL, which is added"}')

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


def without_stress(phone):
    """AH0, AH1, AH2 → AH; what is no ARPABET vowel stays as it is."""
    return re.sub(r'^([A-Z]{2})[012]$', r'\1', phone)


def read(path):
    """[(probability, word, phones)] in the order of the lexicon; the probability is 1 where there is none."""
    rows = [(n, *words(line)) for n, line in lines(path)]
    if not rows:
        raise BadInput(f'{path}: has no words')
    count = numbers([fields for _, _, *fields in rows])
    for n, word, *fields in rows:
        if len(fields) <= count:
            raise BadInput(f'{path}: line {n}: {word} has no pronunciation')
    return [(float(fields[0]) if count else 1, word, fields[count:]) for _, word, *fields in rows]


def numbers(rows):
    """How many numbers stand before the phones in every line; 0 if there is nothing else, then they are phones."""
    leading = [next((i for i, word in enumerate(row) if not is_number(word)), len(row)) for row in rows]
    return 0 if leading == [len(row) for row in rows] else min(leading)


def is_number(word):
    try:
        float(word)
    except ValueError:
        return False
    return word[0] in '0123456789.'  # not nan, which may be a phone
