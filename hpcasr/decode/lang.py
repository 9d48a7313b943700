"""Words and phones as labels, and the lexicon as a transducer (Mohri, Pereira and Riley, CSL 2002; Kaldi's layout)."""

import math
from collections import Counter

from hpcasr.decode.fst import EPSILON, from_rows
from hpcasr.decode.ngram import END, START
from hpcasr.errors import BadInput

BACKOFF = '#0'  # on the input of the grammar's back-off arcs
RESERVED = '<eps>', BACKOFF, START, END
BEGIN, LOOP, SILENCE, AFTER = range(4)  # states of the lexicon transducer


class Language:
    """Which words there are, how they sound, and the labels of words, phones and disambiguation symbols.

    variants  {word: [(probability, [phone])]}; words of nothing but silence are left out: silence is optional anyway
    phones    names, silence first: label of phone p is p + 1
    where     names the lexicon in errors.  Raises BadInput: an unknown phone, a reserved word, no words
    entries   [(word, cost, [phone])], sorted by word;  marks: the k of the #k at the end of every entry
    disambiguations   labels of #0, #1, ... and at last of the symbol behind optional silence
    """

    def __init__(self, variants, phones, where):
        self.phones, self.phone = list(phones), {phone: p + 1 for p, phone in enumerate(phones)}
        self.entries = []
        for word in sorted(variants):
            spoken = [v for v in variants[word] if v[0] > 0 and set(v[1]) != {phones[0]}]
            if spoken:
                self.refuse(word, spoken, where)
                best = max(p for p, _ in spoken)
                self.entries += [(word, -math.log(p/best), pronunciation) for p, pronunciation in spoken]
        self.words = list(dict.fromkeys(word for word, _, _ in self.entries))
        if not self.words:
            raise BadInput(f'{where}: has no words')
        self.word = {word: i + 1 for i, word in enumerate(self.words)}
        self.marks = disambiguation([tuple(pronunciation) for _, _, pronunciation in self.entries])
        first = len(self.phones) + 1
        self.disambiguations = list(range(first, first + max(self.marks) + 2))

    def refuse(self, word, spoken, where):
        if word in RESERVED:
            raise BadInput(f'{where}: {word} has a meaning of its own in decoding graphs; take it out of the lexicon')
        for _, pronunciation in spoken:
            for phone in pronunciation:
                if phone not in self.phone:
                    raise BadInput(f'{where}: {word}: the phonetic tree has no phone {phone}; it has '
                                   f'{len(self.phones)}: {" ".join(self.phones[:5])} ...')

    @property
    def backoff_word(self):
        return len(self.words) + 1

    def words_table(self):
        """[name] by label."""
        return [RESERVED[0], *self.words, *RESERVED[1:]]

    def phones_table(self):
        return [RESERVED[0], *self.phones, *(f'#{k}' for k in range(len(self.disambiguations)))]

    def lexicon(self, silence_probability):
        """L: phones → words, as often as one likes, silence before, between and after them with the probability."""
        rows, states = self.silences(silence_probability), AFTER + 1
        go, pause = costs(silence_probability)
        for (word, cost, pronunciation), mark in zip(self.entries, self.marks, strict=True):
            labels = [self.phone[phone] for phone in pronunciation] + [self.disambiguations[mark]]*(mark > 0)
            source, output = LOOP, self.word[word]
            for label in labels[:-1]:
                rows.append((source, label, output, cost, states))
                source, output, cost, states = states, EPSILON, 0., states + 1
            rows.append((source, labels[-1], output, cost + go, LOOP))
            if silence_probability:
                rows.append((source, labels[-1], output, cost + pause, SILENCE))
        return from_rows(rows, states, BEGIN, {LOOP: 0.})

    def silences(self, probability):
        """Rows of the beginning, of silence, and of #0, which passes through to the grammar."""
        go, pause = costs(probability)
        symbols = self.disambiguations
        rows = [(BEGIN, EPSILON, EPSILON, go, LOOP), (LOOP, symbols[0], self.backoff_word, 0., LOOP),
                (SILENCE, self.phone[self.phones[0]], EPSILON, 0., AFTER), (AFTER, symbols[-1], EPSILON, 0., LOOP)]
        return rows + [(BEGIN, EPSILON, EPSILON, pause, SILENCE)]*(probability > 0)


def costs(silence_probability):
    """Of going on, of silence."""
    return -math.log1p(-silence_probability), -math.log(silence_probability) if silence_probability else math.inf


def disambiguation(pronunciations):
    """Per pronunciation the k of the #k at its end, 0: none.  Words that sound alike get different ones, and a word
    that is the beginning of another gets one, so that the lexicon can be determinized."""
    times = Counter(pronunciations)
    beginnings = {p[:k] for p in times for k in range(1, len(p))}
    used, marks = Counter(), []
    for p in pronunciations:
        ambiguous = times[p] > 1 or p in beginnings
        used[p] += ambiguous
        marks.append(used[p] if ambiguous else 0)
    return marks
