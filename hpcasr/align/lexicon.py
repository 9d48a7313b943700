"""Pronunciations, and the numbers of the phone states that they give."""

import gc
import json
import re
from contextlib import contextmanager

from hpcasr.data.kaldi import lines, shown, words
from hpcasr.errors import BadInput
from hpcasr.given import parsed

FORMAT = 'hpcasr-lexicon', 1
LONGEST = 200  # phones of a pronunciation
MOST = 1e6  # of a weight
KINDS = {'path': str, 'states': int, 'silence': str, 'oov': str | None, 'stress': bool}  # of what JSON holds
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
        self.path, self.states, self.silence, self.oov, self.stress = path, states, silence, oov, stress
        entries = read(path)
        if not stress:
            entries = [(p, word, [without_stress(phone) for phone in phones]) for p, word, phones in entries]
        phones = {phone for _, _, pronunciation in entries for phone in pronunciation}
        self.refuse_unknown_silence(phones)
        variants = {}
        for probability, word, pronunciation in sorted(entries, key=lambda entry: -entry[0]):  # stable: else the first
            known = variants.setdefault(word, [])
            if pronunciation not in [phones for _, phones in known]:
                known.append((probability, pronunciation))
        self.take(variants)
        if oov is not None and oov not in variants:
            raise BadInput(f'{path}: --oov {oov} is not in the lexicon')

    def take(self, variants):
        """Have these words, and the phones of their pronunciations."""
        self.variants = variants
        self.pronunciations = {word: known[0][1] for word, known in variants.items()}
        phones = {phone for known in variants.values() for _, pronunciation in known for phone in pronunciation}
        self.phones = [self.silence, *sorted(phones - {self.silence})]
        self.index = {phone: p for p, phone in enumerate(self.phones)}

    def dumps(self):
        """JSON text.  A pronunciation is a string: phones contain no blanks."""
        variants = {word: [[p, ' '.join(phones)] for p, phones in known] for word, known in self.variants.items()}
        return json.dumps({'format': FORMAT[0], 'version': FORMAT[1], 'path': str(self.path), 'states': self.states,
                           'silence': self.silence, 'oov': self.oov, 'stress': self.stress, 'variants': variants})

    @classmethod
    def loads(cls, text, where):
        """The Lexicon of JSON text; `where` names its file in errors.  Raises BadInput."""
        try:
            with uncollected():
                return cls.made_of(parsed(text))
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError) as e:
            raise BadInput(f'{where}: not a lexicon ({e}); make it again with hpcasr align') from None

    @classmethod
    def made_of(cls, d):
        if (d['format'], d['version']) != FORMAT:
            raise ValueError(f'{d["format"]} {d["version"]}')
        lexicon = cls.__new__(cls)
        for name, kind in KINDS.items():
            if not isinstance(d[name], kind):
                raise ValueError(f'{name} is {shown(repr(d[name]), 50)}')
            setattr(lexicon, name, d[name])
        lexicon.take({word: [variant(*pair) for pair in known] for word, known in d['variants'].items()})
        return lexicon

    def refuse_other_phones(self, tree):
        """BadInput, naming word and phone, unless the Tree has every phone of the lexicon, and the same silence."""
        if tree.phones[0] != self.silence:
            raise BadInput(f'{self.path}: its silence is {self.silence}, that of the tree is {tree.phones[0]}; '
                           f'use the lexicon that the tree was made with')
        lost = set(self.phones) - set(tree.phones)
        for word, known in self.variants.items() if lost else ():
            for _, phones in known:
                if found := [phone for phone in phones if phone in lost]:
                    raise BadInput(f'{self.path}: {word}: the tree has no phone {found[0]} (it has '
                                   f'{len(tree.phones)}); use phones of the lexicon that the tree was made with')

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


def variant(probability, phones):
    """(probability, [phone]) of JSON values.  ValueError if they are none."""
    if type(probability) not in (int, float) or not 0 <= probability <= MOST:
        raise ValueError('a probability is none')
    phones = phones.split(' ')
    if not all(phones) or len(phones) > LONGEST:
        raise ValueError('a pronunciation is empty, or endless')
    return probability, phones


@contextmanager
def uncollected():
    """No garbage collection: it would look at all of a million new lists, none of them garbage, again and again."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


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
        if len(fields) - count > LONGEST:
            raise BadInput(f'{path}: line {n}: {word} has {len(fields) - count} phones, more than {LONGEST}; does '
                           'its line go on too far?')
        if count and not 0 <= float(fields[0]) < float('inf'):
            raise BadInput(f'{path}: line {n}: {word} has the probability {fields[0]}; give one from 0 to 1')
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
