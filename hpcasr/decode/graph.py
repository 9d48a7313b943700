"""HCLG: from frames to words (Mohri, Pereira and Riley, CSL 2002; built in the order of Kaldi's mkgraph.sh).

Labels stand for (phone, HMM state, pdf) until the end, when they become pdf + 1: phones may share pdfs, and two
pronunciations that are one sequence of pdfs could not be determinized.
"""

import math
from dataclasses import dataclass

import kaldifst
import numpy as np

from hpcasr.decode.fst import EPSILON, Fst, arcs_of, from_kaldifst, from_rows, to_kaldifst
from hpcasr.decode.grammar import grammar
from hpcasr.errors import BadInput


@dataclass(frozen=True)
class Options:
    silence_probability: float = 0.5  # of silence before, between and after words
    self_loop: float = 0.5            # probability of staying in an HMM state for another frame
    transition_scale: float = 1.0     # of the costs of staying and of going on


def build(tree, language, model, options):
    """The kaldifst.StdVectorFst with input labels pdf + 1 and output labels of `language`, of an NGram over its words.

    Of every HMM state with n frames the path has the cost -(n-1) ln p - ln(1-p), p = `self_loop`.
    Raises BadInput if there is no path.
    """
    LG = words_and_phones(language, model, options.silence_probability)
    CLG, windows = kaldifst.compose_context(disambig_syms=language.disambiguations, context_width=tree.width,
                                            central_position=tree.width//2, ifst=LG)
    kaldifst.arcsort(CLG, sort_type='ilabel')
    H, pdfs = hmms(tree, windows)
    HCLG = kaldifst.compose(to_kaldifst(H), CLG)
    determinize(HCLG)
    looped = self_loops(minimized(without(from_kaldifst(HCLG), pdfs == 0)), options)
    looped.arcs['ilabel'] = pdfs[looped.arcs['ilabel']]
    return to_kaldifst(looped)


def words_and_phones(language, model, silence_probability):
    """L ∘ G, determinized and minimized."""
    L = to_kaldifst(language.lexicon(silence_probability))
    kaldifst.arcsort(L, sort_type='olabel')
    G = to_kaldifst(grammar(model, language.backoff_word))
    kaldifst.arcsort(G, sort_type='ilabel')
    LG = kaldifst.compose(L, G)
    if not LG.num_states:
        raise BadInput('the language model accepts no sentence of the words of the lexicon; does it predict </s>?')
    determinize(LG)
    kaldifst.minimize_encoded(LG)
    return LG


def determinize(fst):
    """In place; probabilities of equal paths are added."""
    kaldifst.determinize_star(fst, use_log=True)


def hmms(tree, windows):
    """H without self-loops, the outputs sorted: labels of (phone, HMM state, pdf) → indices of `windows`.  And int32
    pdf + 1 by label; 0 for the labels of disambiguation symbols, which pass through.

    windows  as compose_context gives them: [] ε, [-symbol] or [0] a disambiguation symbol, else labels of phones,
             0 beyond the edges of the utterance
    """
    rows, chains, labels, states = [], {}, {}, 1
    for k, window in enumerate(windows):
        if not is_symbol(window):
            phone = window[tree.width//2] - 1
            pdfs = tree.pdfs(window[0] - 1, phone, window[-1] - 1)
            inputs = [labels.setdefault((phone, s, pdf), len(labels) + 1) for s, pdf in enumerate(pdfs)]
            after = chains.setdefault((phone, pdfs), states)  # windows that sound alike share all but the first arc
            rows.append((0, inputs[0], k, 0., after if len(pdfs) > 1 else 0))
            if after == states:
                states += len(pdfs) - 1
                tail = [*range(after, states), 0]
                rows += [(tail[s], inputs[s + 1], EPSILON, 0., tail[s + 1]) for s in range(len(pdfs) - 1)]
    symbols = [k for k, window in enumerate(windows) if window and is_symbol(window)]
    rows += [(0, len(labels) + 1 + i, k, 0., 0) for i, k in enumerate(symbols)]
    pdfs = np.array([0, *(pdf + 1 for _, _, pdf in labels), *(0 for _ in symbols)], np.int32)
    rows.sort(key=lambda row: row[2])
    return from_rows(rows, states, 0, {0: 0.}), pdfs


def is_symbol(window):
    """ε or a disambiguation symbol."""
    return not window or (len(window) == 1 and window[0] <= 0)


def without(fst, removed):
    """`fst`, in place, with ε for the input labels that `removed` [labels] marks."""
    fst.arcs['ilabel'][removed[fst.arcs['ilabel']]] = EPSILON
    return fst


def minimized(fst):
    f = to_kaldifst(fst)
    kaldifst.minimize_encoded(f)
    return from_kaldifst(f)


def self_loops(fst, options):
    """Every emitting arc becomes an HMM state in which frames may be spent.

    The state that it enters gets the loop if all its arcs come with one label; else there is one state per label
    before it.  Going on is paid when entering, since every state that is entered is left.
    """
    stay, go = (-options.transition_scale*math.log(p) for p in (options.self_loop, 1 - options.self_loop))
    label, target = fst.arcs['ilabel'].astype(np.int64), fst.arcs['next'].astype(np.int64)
    L = label.max(initial=0) + 1
    entries = np.unique(np.append(target*L + label, fst.start*L))  # the start is entered without a label
    entered, by = entries//L, entries % L
    S = len(fst.finals)
    alone, emits = np.bincount(entered, minlength=S)[entered] == 1, by > 0
    split = emits & ~alone
    place = np.where(split, S + np.cumsum(split) - 1, entered)  # where the frames are spent
    arcs = fst.arcs.copy()
    arcs['next'] = place[np.searchsorted(entries, target*L + label)]
    arcs['weight'] += np.where(label > 0, go, 0).astype(np.float32)
    loops = arcs_of(by[emits], EPSILON, stay, place[emits])
    onward = arcs_of(EPSILON, EPSILON, np.zeros(split.sum()), entered[split])
    finals = np.append(fst.finals, np.full(split.sum(), np.inf, np.float32))
    source = np.concatenate([fst.source, place[emits], place[split]]).astype(np.int32)
    return Fst(fst.start, finals, source, np.concatenate([arcs, loops, onward]))
