"""The alignment of one utterance: what recognition and training both need."""

import numpy as np

from hpcasr.align.graph import Graphs
from hpcasr.kernels.cpu.viterbi import viterbi

ACOUSTIC_SCALE = 0.1  # of log-likelihoods, against the probabilities of pronunciations: frames are not independent


def best_path(graph, loglikes, scale=ACOUSTIC_SCALE):
    """(score, path [T] of states) through a StateGraph; loglikes [T, P] of its pdfs.  (-inf, zeros): there is none.

    The score is in units of the log-likelihoods; those of pronunciations are divided by `scale`.
    """
    return viterbi(loglikes, graph.columns, graph.starts, graph.preds, graph.weights/np.float32(scale), graph.finals,
                   graph.choices(len(loglikes)))


def align_words(loglikes, words, lexicon, tree, where='the utterance', scale=ACOUSTIC_SCALE):
    """(pdfs [T] int32, segments [n, 4] int32) of the best alignment of the words; None if the frames are too few.

    loglikes   [T, num_pdfs] float32 of all pdfs of the Tree
    segments   first frame, frames, phone, position in `words` or -1 for silence
    Raises BadInput, which begins with `where`, for a word that the Lexicon lacks.
    """
    graph = Graphs(lexicon, tree).of(words, where)
    score, path = best_path(graph, np.ascontiguousarray(loglikes[:, graph.pdfs], np.float32), scale)
    return (graph.alignment(path), graph.segments(path)) if score > -np.inf else None
