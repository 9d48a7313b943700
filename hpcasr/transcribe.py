"""From audio files to words and their times, with the features that the model was trained on."""

import glob
import json
import os
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from hpcasr.acoustic import open_model
from hpcasr.align.viterbi import align_words
from hpcasr.data.audio import Recording
from hpcasr.data.features import SHIFT, Features
from hpcasr.data.frontend import Frontend
from hpcasr.data.kaldi import is_pipe
from hpcasr.data.store import not_finite
from hpcasr.decode.describe import another_lexicon
from hpcasr.decode.lang import RESERVED
from hpcasr.decode.results import best_point
from hpcasr.decode.search import Graph, Search
from hpcasr.errors import BadInput

ACWT, PENALTY = 0.1, 0.0
KINDS = 'fbank', 'mfcc'
RANGES = {'num_mel_bins': (3, 1000), 'num_ceps': (1, 1000), 'sample_rate': (1000, 1_000_000), 'deltas': (0, 2)}
LONGEST = 30.0  # seconds recognized at once: memory grows with them, and with the words in them
SHORTEST = 20.0  # of all pieces but the last
REST = 1.0  # of the last, at least: a path through the graph needs its frames
PAUSE = 0.3  # seconds that a cut should be quiet
NETWORKS = 'nnet', 'nnet-0'  # of what hpcasr recipe made, the first of several seeds


@dataclass(frozen=True)
class Options:
    """As the command line has them; None: the default, see Transcriber.

    times     whether the words get times; that needs a phonetic tree and a lexicon
    lexicon   text file with the pronunciations, of a graph that was made with another lexicon than the model's
    """

    graph: str | None = None
    times: bool = True
    lexicon: str | None = None
    acwt: float | None = None
    penalty: float | None = None
    beam: float = 13.0
    max_active: int = 2500
    checkpoint: str = 'best'


@dataclass(frozen=True)
class Word:
    """Seconds start .. end of a recording; None where no times were asked for."""

    word: str
    start: float | None = None
    end: float | None = None


@dataclass(frozen=True)
class Transcript:
    file: str
    words: list
    seconds: float


def transcribe(exp, files, options, note=lambda line: None):
    """The Transcript of every file, one after the other; `note` takes remarks.  Raises BadInput."""
    for file in files:
        refuse_no_file(file)
    transcriber = Transcriber(exp, options)
    for file in files:
        yield transcriber(file, note)


def refuse_no_file(file):
    if is_pipe(file):
        raise BadInput(f'{file}: is a shell command, which is not run; give a file')
    if not os.path.isfile(file):
        raise BadInput(f'{file}: {"is no file" if os.path.exists(file) else "no such file"}; give audio in wav, flac, '
                       f'ogg or opus')


class Transcriber:
    """The model in the directory `exp` and its graph, ready for audio.  Raises BadInput where they cannot be used.

    exp is the directory of a model, or of a recipe: then it is that of its first network.  Without a graph in the
    options it is `graph_of(exp)`; without acwt or penalty these are `best_of(exp)`.
    """

    def __init__(self, exp, options):
        exp = model_of(exp)
        self.model = open_model(exp, options.checkpoint)
        self.features, self.frontend = front_end(self.model)
        self.graph = Graph(options.graph or graph_of(exp))
        self.graph.refuse_other(self.model)
        self.timer = timer(self.model, options.lexicon, self.graph) if options.times else None
        acwt, penalty = best_of(exp) if None in (options.acwt, options.penalty) else (ACWT, PENALTY)
        self.acwt = acwt if options.acwt is None else options.acwt
        self.search = Search(self.graph.penalized(penalty if options.penalty is None else options.penalty),
                             options.beam, options.max_active)

    def __call__(self, file, note=lambda line: None):
        """The Transcript of a file."""
        samples = File(file, 'audio').samples(self.features.sample_rate)
        x, seconds = self.features(samples), len(samples)/self.features.sample_rate
        if not len(x):
            raise BadInput(f'{file}: its {seconds:.3f} s are shorter than a window of 25 ms; leave it out')
        frames, words = self.frontend.apply(x, None), []  # normalized over the file where it was over the speaker
        for first, last in pieces(energies(samples, self.features.sample_rate, len(x))):
            words += self.recognize(frames[first:last], first, file, note)
        return Transcript(file, words, seconds)

    def recognize(self, frames, first, file, note):
        """[Word] of some frames of a file, which begin with its frame `first`."""
        y = self.model.loglikes(frames)
        if not np.isfinite(y).all():
            raise BadInput(f'{file}: {self.model.path} gives {not_finite(y)}; choose another --checkpoint')
        ids, final = self.search.best(y*np.float32(self.acwt))
        if not final:
            note(f'{file}: the words after {first*SHIFT:.1f} s are of an unfinished path; a wider --beam may help')
        found = [self.graph.word(i) for i in ids]
        if not self.timer:
            return [Word(word) for word in found]
        return [Word(word, (first + a)*SHIFT, (first + b)*SHIFT)
                for word, (a, b) in zip(found, self.timer(y, found, file, self.acwt), strict=True)]


def model_of(exp):
    """The directory of the model: `exp`, or that of the network in it if `exp` is what a recipe made."""
    inside = [folder for name in NETWORKS if os.path.isdir(folder := os.path.join(exp, name))]
    return inside[0] if inside and not is_network(exp) else exp


def graph_of(exp):
    """EXP/graph, or that of the recipe whose network is in `exp`."""
    own, shared = os.path.join(exp, 'graph'), os.path.join(exp, os.pardir, 'tri', 'graph')
    return shared if is_network(exp) and os.path.isdir(shared) and not os.path.exists(own) else own


def is_network(exp):
    return os.path.exists(os.path.join(exp, 'model.json'))


def timer(model, lexicon, graph):
    """times(loglikes, words, file, acwt) -> [(first frame, that after the last)] of the words, by forced alignment."""
    if model.tree is None:
        raise BadInput(f'{model.path}: has no phonetic tree, so there are no times of words; use --format text')
    lexicon = another_lexicon(lexicon, model.tree) if lexicon else model.lexicon
    known = lexicon.variants if lexicon else {}
    lost = [word for word in graph.words.values() if word not in known and word not in RESERVED]
    if lost:
        raise BadInput(f'{graph.path}: {len(lost)} of its words, first {lost[0]}, are not in the lexicon of '
                       f'{model.path}; name that of the graph with --lexicon, or use --format text')

    def times(y, words, file, acwt):
        aligned = align_words(y, words, lexicon, model.tree, file, acwt) if words else None
        if aligned is None:  # an unfinished path may have more words than there is room for
            return list(pairwise(np.linspace(0, len(y), len(words) + 1).round().astype(int).tolist()))
        return [span(aligned[1], w) for w in range(len(words))]
    return times


def span(segments, w):
    """(first frame, that after the last) of word w in the segments of an alignment."""
    own = segments[segments[:, 3] == w]
    return int(own[0, 0]), int(own[-1, 0] + own[-1, 1])


class File(Recording):
    """An audio file, not of a Kaldi directory."""

    def refuse_unusable(self, n, own, rate):
        if own < rate:
            raise BadInput(f'{self.entry}: has {own} Hz, but the model was trained on audio of {rate} Hz; record it '
                           f'again at that rate or above')
        super().refuse_unusable(n, own, rate)


def front_end(model):
    """(Features, Frontend) with which audio becomes what the model was trained on.  BadInput if it does not say."""
    made = model.frontend
    names = [name for name in ('kind', 'num_mel_bins', 'num_ceps', 'sample_rate') if name in made]
    features = Features(**{name: made[name] for name in names})
    wrong = [name for name, (low, high) in RANGES.items()
             if name in made and not (type(made[name]) is int and low <= made[name] <= high)]
    if wrong or made.get('kind') not in KINDS or any(made.get(key) != value for key, value in
                                                     features.describe().items()):
        raise BadInput(f'{model.path}: was trained on features that hpcasr data features did not make, so audio cannot '
                       f'be transcribed with it; make such features, then use hpcasr forward or hpcasr decode')
    try:
        cmvn = 'none' if made['cmvn'] == 'none' else 'utterance'
        return features, Frontend(made['deltas'], cmvn, made['cmvn_vars'])
    except KeyError as e:
        raise BadInput(f'{model.path}: does not say {e} of its features; train it again on an imported store') from None


def best_of(exp):
    """(acwt, penalty): the newest choice in EXP/decode*/scoring/best.json, else 0.1 and 0."""
    paths = glob.glob(os.path.join(glob.escape(str(exp)), 'decode*', 'scoring', 'best.json'))
    return best_point(os.path.dirname(os.path.dirname(max(paths, key=os.path.getmtime)))) if paths else (ACWT, PENALTY)


def energies(samples, rate, T):
    """[T] energy of the samples around every frame, over PAUSE seconds."""
    own = np.add.reduceat(np.square(samples), (np.arange(T)*rate*SHIFT).astype(int))
    width = round(PAUSE/SHIFT)
    return np.convolve(np.pad(own, (width//2, width - 1 - width//2), 'edge'), np.ones(width), 'valid')


def pieces(energy):
    """[(first frame, that after the last)] of parts of SHORTEST .. LONGEST seconds, cut where it is quietest."""
    shortest, longest, rest = (round(seconds/SHIFT) for seconds in (SHORTEST, LONGEST, REST))
    bounds = [0]
    while len(energy) - bounds[-1] > longest:
        low, high = bounds[-1] + shortest, min(bounds[-1] + longest, len(energy) - rest)
        bounds.append(low + int(energy[low:high + 1].argmin()))
    return list(pairwise([*bounds, len(energy)]))


def as_text(transcripts):
    """FILE WORD WORD ...; a line per file."""
    for t in transcripts:
        yield ' '.join([label(t.file), *(w.word for w in t.words)])


def as_ctm(transcripts):
    """FILE CHANNEL START DURATION WORD, seconds; a line per word."""
    for t in transcripts:
        for w in t.words:
            yield f'{label(t.file)} 1 {w.start:.2f} {w.end - w.start:.2f} {w.word}'


def as_json(transcripts):
    """One line: a list of the files."""
    yield json.dumps([{'file': t.file, 'words': [{'word': w.word, 'start': round(w.start, 2), 'end': round(w.end, 2)}
                                                 for w in t.words], 'seconds': round(t.seconds, 3)}
                      for t in transcripts])


def label(file):
    """A path as one word, of characters that can be printed."""
    return '_'.join(os.fsencode(file).decode('utf-8', 'replace').split())


FORMATS = {'text': as_text, 'ctm': as_ctm, 'json': as_json}
