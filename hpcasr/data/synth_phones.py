"""Which phone espeak-ng speaks from when to when, in ASCII names after ARPABET.

espeak marks a stop where its burst begins; the silent closure before it belongs to the stop, as phoneticians and
aligners have it.  In the samples a closure is a run of zeros, so its beginning is known to the sample.
"""

from itertools import pairwise
from typing import NamedTuple

import numpy as np

SILENCE = 'SIL'
STRESS = "',%="
GLIDES = ';', ''  # a palatal transition, no phone of its own: part of the phone before it

# AX is the schwa, DX the flap, EL a syllabic l; AAR, AOR, AWR, AYR, EHR, IHR, UHR are the vowels of `car` to `poor`,
# which one accent speaks with an r and another without.
NAMES = {
    'AA': '0 A A: 0# A#', 'AE': 'a aa a2', 'AH': 'V V#', 'AX': '@ @2 @5 @- a# 3- @#', 'AO': 'O O: O2 o:2', 'AW': 'aU',
    'AY': 'aI aI2', 'EH': 'E E# e E2', 'ER': '3 3: VR IR ER', 'EY': 'eI e:', 'IH': 'I I2 I#', 'IY': 'i i: i2',
    'OW': 'oU o o: o#', 'OY': 'OI', 'UH': 'U U#', 'UW': 'u u: u2 u#',
    'AAR': 'A@', 'AOR': 'o@ O@', 'AWR': 'aU@', 'AYR': 'aI@ aI3', 'EHR': 'e@ e@2', 'IHR': 'i@ i@3', 'UHR': 'U@',
    'B': 'b', 'CH': 'tS', 'D': 'd d[', 'DH': 'D', 'DX': 't# *', 'EL': '@L', 'F': 'f', 'G': 'g', 'HH': 'h', 'JH': 'dZ',
    'K': 'k', 'L': 'l l/ l#', 'M': 'm m-', 'N': 'n n-', 'NG': 'N', 'P': 'p', 'R': 'r r- r/', 'S': 's', 'SH': 'S',
    'T': 't t2 t[ ?', 'TH': 'T', 'V': 'v', 'W': 'w w#', 'Y': 'j', 'Z': 'z', 'ZH': 'Z'}
PHONES = {mnemonic: name for name, mnemonics in NAMES.items() for mnemonic in mnemonics.split()}


class Phone(NamedTuple):
    """`name` from sample `start` to before `end`; `word` is its place in the text, -1 in silence."""

    start: int
    end: int
    name: str
    word: int


def name_of(mnemonic):
    """espeak's mnemonic in the names above; one that they lack gets a name of letters and digits."""
    bare = mnemonic.strip(STRESS)
    if bare.startswith('_'):
        return SILENCE
    return PHONES.get(bare) or 'X' + ''.join(c if c.isascii() and c.isalnum() else f'{ord(c):02x}' for c in bare)


def phones(samples, marks):
    """[Phone] one after the other up to the end of `samples` [n], from the first sound on."""
    found, word = [], -1
    for mark in marks:
        if not mark.phone:
            word += 1
        elif mark.phone.strip(STRESS) not in GLIDES:
            name = name_of(mark.phone)
            found.append((mark.sample, name, word if name != SILENCE else -1))
    starts = [*beginnings(samples, found), len(samples)]
    return [Phone(start, end, name, word)
            for (start, end), (_, name, word) in zip(pairwise(starts), found, strict=True) if end > start]


def beginnings(samples, found):
    """Where the phones begin, closures included; a closure after silence cannot be told from it and stays silence."""
    before, last = SILENCE, 0
    for at, name, _ in found:
        silent = SILENCE in (before, name)
        last = at if silent else closure(samples, last, at)
        yield last
        before = name


def closure(samples, low, at):
    """The first of the zeros that end before sample `at`, not before `low`."""
    sounding = np.flatnonzero(samples[low:at])
    return low + int(sounding[-1]) + 1 if len(sounding) else at


def spoken_words(phones):
    """{place in the text: (start, end, names)} of the words that `phones` speak."""
    words = {}
    for phone in phones:
        if phone.word >= 0:
            start, _, names = words.get(phone.word, (phone.start, 0, ()))
            words[phone.word] = start, phone.end, (*names, phone.name)
    return words
