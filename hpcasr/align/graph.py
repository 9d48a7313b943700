"""What an utterance may be: its words' pronunciations with optional silence between, as a graph of emitting states."""

from dataclasses import dataclass, field
from math import log

import numpy as np

BEGIN = -1  # predecessor of the states in which a path may begin
SILENCE = 0  # phone
NO_WORD = -1


@dataclass
class PhoneGraph:
    """Phones in topological order.

    phones, words [N]   index of the phone, position of its word in the transcript (NO_WORD: silence)
    preds [N]           [(phone before it, or BEGIN, log-probability of going on with this one)]
    finals              the phones with which it may end
    """

    phones: list = field(default_factory=list)
    words: list = field(default_factory=list)
    preds: list = field(default_factory=list)
    finals: set = field(default_factory=set)

    def add(self, phone, word, before, weight=0.0):
        """A phone after any of those in `before`; its number."""
        self.phones.append(phone)
        self.words.append(word)
        self.preds.append([(n, weight) for n in before])
        return len(self.phones) - 1

    def add_all(self, phones, word, before, weight=0.0):
        """One phone after the other; the number of the last."""
        for phone in phones:
            before, weight = [self.add(phone, word, before, weight)], 0.0
        return before[0]


class Graphs:
    """The graphs of transcripts, with the phones numbered as in the Tree.

    Raises BadInput if the Lexicon has other phones.
    """

    def __init__(self, lexicon, tree):
        lexicon.refuse_other_phones(tree)
        self.lexicon, self.tree = lexicon, tree
        self.index = {phone: p for p, phone in enumerate(tree.phones)}

    def of(self, words, where):
        """Every variant of every word, silence at both ends and between words where it pleases: a StateGraph.

        The log-probability of a variant weighs its first phone.  BadInput for words that the lexicon lacks.
        """
        graph, exits = PhoneGraph(), [BEGIN]
        exits = exits + [graph.add(SILENCE, NO_WORD, exits)]
        for w, word in enumerate(words):
            ends = [graph.add_all([self.index[p] for p in phones], w, exits, log(probability))
                    for probability, phones in self.variants(word, where)]
            exits = ends + [graph.add(SILENCE, NO_WORD, ends)]
        graph.finals = {n for n in exits if n != BEGIN}
        return state_graph(graph, self.tree)

    def variants(self, word, where):
        """[(probability, phones)] of a word, without those of probability 0 if there are others."""
        self.lexicon.lookup(word, where)
        found = self.lexicon.variants.get(word) or self.lexicon.variants[self.lexicon.oov]
        return [v for v in found if v[0] > 0] or [(1.0, phones) for _, phones in found]

    def chain(self, words, where):
        """Silence, the first pronunciation of every word, silence: the StateGraph of a flat start."""
        graph = PhoneGraph()
        last = graph.add(SILENCE, NO_WORD, [BEGIN])
        for w, word in enumerate(words):
            last = graph.add_all([self.index[p] for p in self.lexicon.lookup(word, where)], w, [last])
        graph.finals = {graph.add(SILENCE, NO_WORD, [last])}
        return state_graph(graph, self.tree)


@dataclass
class StateGraph:
    """What kernels.*.viterbi takes, S = states per phone times phones in context.

    pdfs [P]      those that the utterance needs, sorted     columns [S] index in pdfs
    starts [S+1], preds, weights [A]: arcs into the states, without staying     finals [S] bool
    nodes [S // states]    phone of the PhoneGraph, in one context or all of them
    phones, words          of the PhoneGraph: int32 arrays
    """

    states: int
    pdfs: np.ndarray
    columns: np.ndarray
    starts: np.ndarray
    preds: np.ndarray
    weights: np.ndarray
    finals: np.ndarray
    nodes: np.ndarray
    phones: np.ndarray
    words: np.ndarray

    @property
    def nbytes(self):
        return sum(x.nbytes for x in vars(self).values() if isinstance(x, np.ndarray))

    def choices(self, T):
        """Room for the back pointers of T frames."""
        most = int(np.diff(self.starts).max())
        return np.empty((T, len(self.columns)), np.uint8 if most < 255 else np.uint16 if most < 65535 else np.uint32)

    def equal(self, T):
        """A path [T] that gives every state the same share: of the graph of a `chain`."""
        S = len(self.columns)
        return (np.arange(T)*S//T).astype(np.int32)

    def segments(self, path):
        """[n, 4] int32 of a path: first frame, frames, phone, position of its word or -1."""
        nodes = self.nodes[path//self.states]
        first = np.flatnonzero(np.diff(nodes, prepend=-1))
        frames = np.diff(first, append=len(path))
        return np.stack([first, frames, self.phones[nodes[first]], self.words[nodes[first]]], 1).astype(np.int32)

    def context(self, path):
        """(left phone, phone, right phone [n], frames [n]) of the phones of a path; silence beyond the edges."""
        _, frames, phones, _ = self.segments(path).T
        padded = np.concatenate([[SILENCE], phones, [SILENCE]])
        return padded[:-2], phones, padded[2:], frames

    def alignment(self, path):
        """[T] int32 pdfs of a path."""
        return self.pdfs[self.columns[path]]


def state_graph(graph, tree):
    """The StateGraph of a PhoneGraph: every phone once for each pair of phones that may stand beside it.

    A neighbour on which the pdfs do not depend is not told apart.  Arcs join only copies that are made for each other.
    """
    copies, of_node = contexts(graph, tree)
    S = tree.states
    starts, preds, weights = [0], [], []
    for c, (n, left, _, _) in enumerate(copies):
        arcs = arcs_into(n, left, graph, copies, of_node)
        preds += [p if p == BEGIN else p*S + S - 1 for p, _ in arcs]
        weights += [w for _, w in arcs]
        preds += range(c*S, c*S + S - 1)  # left to right through the phone
        weights += [0.0]*(S - 1)
        starts += range(len(preds) - S + 1, len(preds) + 1)
    pdfs, columns = np.unique(np.array([c[3] for c in copies], np.int32), return_inverse=True)
    finals = np.zeros(len(copies)*S, bool)
    finals[S - 1::S] = [n in graph.finals and right in (None, SILENCE) for n, _, right, _ in copies]
    return StateGraph(S, pdfs, columns.reshape(-1).astype(np.int32), np.array(starts, np.int32),
                      np.array(preds, np.int32), np.array(weights, np.float32), finals,
                      *(np.array(x, np.int32) for x in ([c[0] for c in copies], graph.phones, graph.words)))


def contexts(graph, tree):
    """[(phone's node, left phone, right phone, pdfs)], None for a neighbour that does not matter; and where they are
    for every node: {node: [positions]}."""
    copies, of_node = [], {}
    for n, (lefts, rights) in enumerate(neighbours(graph)):
        found = {(left, right): tree.pdfs(left, graph.phones[n], right) for left in lefts for right in rights}
        if all(len({found[left, right] for left in lefts}) == 1 for right in rights):
            found = {(None, right): found[lefts[0], right] for right in rights}
            lefts = [None]
        if all(len({found[left, right] for right in rights}) == 1 for left in lefts):
            found = {(left, None): found[left, rights[0]] for left in lefts}
        of_node[n] = range(len(copies), len(copies) + len(found))
        copies += [(n, left, right, pdfs) for (left, right), pdfs in found.items()]
    return copies, of_node


def neighbours(graph):
    """For every phone the sorted phones that may stand before it, and after it; silence beyond the edges."""
    lefts, rights = [set() for _ in graph.phones], [set() for _ in graph.phones]
    for n, phone in enumerate(graph.phones):
        for p, _ in graph.preds[n]:
            lefts[n].add(SILENCE if p == BEGIN else graph.phones[p])
            if p != BEGIN:
                rights[p].add(phone)
    for n in graph.finals:
        rights[n].add(SILENCE)
    return [(sorted(left), sorted(right)) for left, right in zip(lefts, rights, strict=True)]


def arcs_into(n, left, graph, copies, of_node):
    """[(copy of a phone before, or BEGIN, log-probability)] of a copy of phone n made for the phone `left`."""
    arcs = []
    for p, weight in graph.preds[n]:
        if left not in (None, SILENCE if p == BEGIN else graph.phones[p]):
            continue
        before = [BEGIN] if p == BEGIN else [c for c in of_node[p] if copies[c][2] in (None, graph.phones[n])]
        arcs += [(c, weight) for c in before]
    return arcs
