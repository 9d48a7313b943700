"""The alignment of one utterance: what recognition and training both need."""

from math import isqrt

import numpy as np

from hpcasr.align.graph import BEGIN, Graphs
from hpcasr.kernels.cpu.viterbi import advance, trace

ACOUSTIC_SCALE = 0.1  # of log-likelihoods, against the probabilities of pronunciations: frames are not independent
ROOM = 128 << 20  # bytes of back pointers; an hour of speech would have 40 GB


def best_path(graph, T, loglikes, scale=ACOUSTIC_SCALE):
    """(score, path [T] of states) through a StateGraph; (-inf, zeros): there is none.

    loglikes(a, b)   [b-a, P] float32 of the pdfs of the graph in the frames a .. b-1
    The score is in units of the log-likelihoods; those of pronunciations are divided by `scale`.  Of an utterance whose
    back pointers do not fit in ROOM only the scores at the beginning of every block are kept; from them the back
    pointers of one block after the other are found again, the last block first.
    """
    search = Search(graph, T, loglikes, scale)
    score = start(len(graph.columns))
    begun = [search.advance(block, score) for block in range(search.blocks)]
    path, ends = np.zeros(T, np.int32), np.where(graph.finals, score[:BEGIN], -np.inf)
    state = int(ends.argmax())
    if ends[state] == -np.inf:
        return -np.inf, path
    for block in reversed(range(search.blocks)):
        if block < search.blocks - 1:
            search.advance(block, begun[block])
        state = search.trace(block, state, path)
    return float(ends.max()), path


def start(S):
    """[S + 1] scores before the first frame: it only can begin."""
    score = np.full(S + 1, -np.inf)
    score[BEGIN] = 0
    return score


class Search:
    """An utterance in blocks of frames; the back pointers of the newest one."""

    def __init__(self, graph, T, loglikes, scale):
        self.graph, self.loglikes = graph, loglikes
        self.weights = graph.weights/np.float32(scale)
        row = graph.choices(1).nbytes
        self.length = min(max(ROOM//row, isqrt(8*T)), T)  # 8 bytes per state and block, too
        self.blocks, self.T = -(-T//self.length), T
        self.choices = graph.choices(self.length)

    def advance(self, block, score):
        """`score` [S+1] moves on over a block, in place; a copy of what it was, where it is needed again."""
        a, b = self.bounds(block)
        begun = score.copy() if block < self.blocks - 1 else None
        advance(self.loglikes(a, b), self.graph.columns, self.graph.starts, self.graph.preds, self.weights, score,
                self.choices[:b-a])
        return begun

    def trace(self, block, state, path):
        """Fill in the path in the block that ends in `state`; the state before it."""
        a, b = self.bounds(block)
        return trace(state, self.graph.starts, self.graph.preds, self.choices[:b-a], path[a:b])

    def bounds(self, block):
        return block*self.length, min((block + 1)*self.length, self.T)


def align_words(loglikes, words, lexicon, tree, where='the utterance', scale=ACOUSTIC_SCALE):
    """(pdfs [T] int32, segments [n, 4] int32) of the best alignment of the words; None if the frames are too few.

    loglikes   [T, num_pdfs] float32 of all pdfs of the Tree
    segments   first frame, frames, phone, position in `words` or -1 for silence
    Raises BadInput, which begins with `where`, for a word that the Lexicon lacks.
    """
    graph = Graphs(lexicon, tree).of(words, where)
    score, path = best_path(graph, len(loglikes), columns(loglikes, graph.pdfs), scale)
    return (graph.alignment(path), graph.segments(path)) if score > -np.inf else None


def columns(loglikes, pdfs):
    """What `best_path` asks for, of an array [T, num_pdfs]."""
    return lambda a, b: np.ascontiguousarray(loglikes[a:b, pdfs], np.float32)
