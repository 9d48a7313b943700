"""One speaker of the demo corpus: who it is, and all that it says, written as files.

Everything about a speaker is a function of (seed, number of the speaker), so it does not matter who speaks when.
"""

import json
import wave
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import soxr

from hpcasr.data.synth_phones import SILENCE, Phone, phones, spoken_words
from hpcasr.data.synth_sentences import sentences, vocabulary
from hpcasr.data.synth_sound import RATE, Channel, add_noise, recorded
from hpcasr.errors import BadInput

REFERENCE = 'gmw/en-US'  # the accent of words that nobody says in train
ACCENTS = (REFERENCE, 'gmw/en', 'gmw/en-GB-scotland', 'gmw/en-GB-x-rp', 'gmw/en-GB-x-gbclan', 'gmw/en-GB-x-gbcwmd',
           'gmw/en-029', 'gmw/en-US-nyc')
# Of espeak's variants those that sound like people; none with an echo, which would fill the closures of stops.
VARIANTS = {'f': 'f1 Andrea Annie anika aunty belinda grandma linda shelby steph steph2 steph3',
            'm': 'm1 m3 m4 m5 m6 m7 m8 Alex Denis Gene Gene2 Lee Mario Michael Mike Nguyen antonio boris ed grandpa '
                 'ian john marcelo max norbert paul pedro quincy rob robert sandro travis victor'}
SPOKEN = {'A': 'ay'}  # espeak takes A for an article
RATES, PITCHES, RANGES = (125, 215), (25, 75), (25, 85)  # words a minute; espeak's 0..100
QUIET = 0.1, 0.5  # seconds of silence before and after
APART = '\u200b '  # between words that espeak would contract to one (`in the`), a zero-width space
SETS = 'train', 'dev', 'test'
TABLES = 'text', 'utt2dur', 'ctm', 'phones.ctm'


class Speaker(NamedTuple):
    """Number `index` of the corpus, called `name`, of the set `part`, which speaks for `seconds`."""

    index: int
    name: str
    part: str
    seconds: float
    seed: int
    snr: tuple = (5.0, 25.0)  # dB, lowest and highest

    @property
    def gender(self):
        return 'fm'[(self.index + self.index//len(ACCENTS)) % 2]  # so that every accent has both

    @property
    def width(self):
        """Digits that count its utterances, of which none is shorter than half a second."""
        return max(4, len(str(int(2*self.seconds))))

    def rng(self, purpose):
        return np.random.default_rng([self.seed, self.index, purpose])


def put_on(speaker, espeak):
    """Let espeak speak as `speaker`: accents in turn, the rest drawn."""
    rng, there = speaker.rng(0), espeak.variants()
    variants = [name for name in VARIANTS[speaker.gender].split() if name in there]
    if not variants:
        raise BadInput(f'{espeak.data}: espeak-ng {espeak.version} has none of the voice variants f1, m1, ...')
    first = np.random.default_rng(speaker.seed).permutation(len(ACCENTS))
    accent = ACCENTS[first[speaker.index % len(ACCENTS)]]
    numbers = [int(rng.integers(low, high + 1)) for low, high in (RATES, PITCHES, RANGES)]
    espeak.use(f'{accent}+{variants[rng.integers(len(variants))]}', *numbers)


@dataclass
class Utterance:
    """int16 samples [n] at RATE; `phones` [Phone] in samples of them."""

    words: list
    samples: np.ndarray
    phones: list

    @property
    def seconds(self):
        return len(self.samples)/RATE


def say(espeak, words):
    """Samples int16 [n] and [Phone]; None where espeak does not tell the words apart."""
    spoken = [SPOKEN.get(word, word) for word in words]
    for between in ' ', APART:
        samples, marks = espeak.say(between.join(spoken))
        found = phones(samples, marks)
        told = sum(not mark.phone for mark in marks)
        if told == len(words) == len(spoken_words(found)):
            return samples, found
    return None


def speak(speaker, espeak):
    """Utterances until `seconds` are full."""
    put_on(speaker, espeak)
    rng, seconds, last = speaker.rng(1), 0.0, 0.0
    channel = Channel.draw(rng)
    for words in sentences(speaker.rng(2), speaker.part == 'train'):
        if (said := say(espeak, words)) is None:
            continue
        made = record(rng, words, *said, espeak.rate, channel, speaker.snr)
        yield made
        seconds, last = seconds + made.seconds, made.seconds
        if seconds + last/2 >= speaker.seconds:
            return


def record(rng, words, samples, found, rate, channel, snr):
    """An Utterance at RATE: silence around, room, channel, noise, level."""
    lead, trail = (int(seconds*RATE) for seconds in rng.uniform(*QUIET, 2))
    x = soxr.resample(samples/32768, rate, RATE)
    found = [Phone(lead + p.start*RATE/rate, lead + p.end*RATE/rate, p.name, p.word) for p in found]
    x = channel(np.concatenate([np.zeros(lead), x, np.zeros(trail)]))
    voiced = [p for p in found if p.name != SILENCE]
    noisy = add_noise(rng, x, (int(voiced[0].start), int(voiced[-1].end)), rng.uniform(*snr))
    return Utterance(words, recorded(rng, noisy), surround(found, len(x)))


def surround(found, n):
    """The phones with silence before and after, runs of silence joined: from 0 to n without a gap."""
    joined = []
    for phone in (Phone(0, found[0].start, SILENCE, -1), *found, Phone(found[-1].end, n, SILENCE, -1)):
        if joined and joined[-1].name == phone.name == SILENCE:
            phone = Phone(joined.pop().start, *phone[1:])
        joined.append(phone)
    return joined


def write_speaker(speaker, espeak, folder):
    """Write audio/SPEAKER/*.wav and parts/SPEAKER.*, rows of the tables, below `folder`."""
    audio = folder/'audio'/speaker.name
    audio.mkdir()
    count, pronounced = Counter(), Counter()
    with ExitStack() as stack:
        tables = {name: stack.enter_context(open(part(folder, speaker, name), 'w', encoding='utf-8'))
                  for name in TABLES}
        for n, utterance in enumerate(speak(speaker, espeak), 1):
            key = f'{speaker.name}-{n:0{speaker.width}}'
            write_wav(audio/f'{key}.wav', utterance.samples)
            write_rows(tables, key, utterance)
            words = spoken_words(utterance.phones)
            pronounced.update(f'{utterance.words[w]} {" ".join(names)}' for w, (_, _, names) in words.items())
            count.update(utterances=1, samples=len(utterance.samples))
    part(folder, speaker, 'json').write_text(json.dumps({**count, 'pronounced': pronounced}))


def part(folder, speaker, table):
    return folder/'parts'/f'{speaker.name}.{table}'


def write_wav(path, samples):
    with wave.open(str(path), 'wb') as f:
        f.setparams((1, 2, RATE, len(samples), 'NONE', ''))
        f.writeframes(samples.tobytes())


def write_rows(tables, key, utterance):
    """The rows of one utterance; times in seconds, exact to 0.1 ms."""
    tables['text'].write(f'{key} {" ".join(utterance.words)}\n')
    tables['utt2dur'].write(f'{key} {utterance.seconds:.4f}\n')
    for p in utterance.phones:
        tables['phones.ctm'].write(interval(key, p.start, p.end, p.name))
    for w, (start, end, _) in sorted(spoken_words(utterance.phones).items()):
        tables['ctm'].write(interval(key, start, end, utterance.words[w]))


def interval(key, start, end, what):
    """A row of a ctm file: utterance, channel, start, duration, what.  Both ends are rounded, so rows touch."""
    start, end = round(start*10000/RATE), round(end*10000/RATE)
    return f'{key} 1 {start/10000:.4f} {(end - start)/10000:.4f} {what}\n'


def write_reference(espeak, path):
    """{'WORD PHONE PHONE ...': 1} of the whole vocabulary as the reference accent says it, word by word."""
    espeak.use(REFERENCE, 170, 50, 50)
    said = {word: say(espeak, [word]) for word in vocabulary()}
    if silent := [word for word, what in said.items() if what is None]:
        raise BadInput(f'espeak-ng {espeak.version} does not say {silent[0]}')
    path.write_text(json.dumps({f'{word} {" ".join(spoken_words(found)[0][2])}': 1
                                for word, (_, found) in said.items()}))
