"""A decoding graph, a store and an acoustic model small enough for oracles: the frames are the log-likelihoods.

As a script, run by several ranks: toy.py GRAPH STORE OUT recognizes with that model.
"""

import json
import sys

import kaldifst
import numpy as np

from hpcasr.align.tree import Tree
from hpcasr.data.store import StoreWriter, Utterances
from hpcasr.decode.search import tree_digest

TREE = Tree.monophone(['SIL', 'A', 'B', 'C'], 1)
WORDS = {'a': [1], 'b': [2], 'ab': [1, 2], 'cab': [3, 1, 2]}
COSTS = {'a': 1.0, 'b': 1.2, 'ab': 2.5, 'cab': 2.0}


def arcs():
    """[(source, input, output, cost, target)]; state 0 is start and end; silence is free, a word has its cost."""
    rows, states = [(0, 1, 0, 0.1, 0)], 1
    for number, (word, pdfs) in enumerate(WORDS.items(), 1):
        source = 0
        for k, pdf in enumerate(pdfs):
            rows += [(source, pdf + 1, 0 if k else number, 0.0 if k else COSTS[word], states),
                     (states, pdf + 1, 0, 0.7, states)]
            source, states = states, states + 1
        rows.append((source, 0, 0, 0.7, 0))
    return rows


def fst():
    lines = ''.join('{} {} {} {} {}\n'.format(*(row[0], row[4], row[1], row[2], row[3])) for row in arcs())
    return kaldifst.compile(f'{lines}0\n', acceptor=False)


def endless():
    """A graph with one word, `cab`, of 1000 frames."""
    lines = ''.join(f'{k} {k + 1} 4 {0 if k else 4}\n' for k in range(1000))
    return kaldifst.compile(f'{lines}1000\n', acceptor=False)


def graph(path):
    path.mkdir()
    (path/'words.txt').write_text(''.join(f'{w} {k}\n' for k, w in enumerate(['<eps>', *WORDS])))
    (path/'graph.json').write_text(json.dumps({'num_pdfs': TREE.num_pdfs, 'tree': tree_digest(TREE)}))
    assert fst().write(str(path/'HCLG.fst'))
    return path


def speech(sentence, rng, noise=8.0):
    """[T, 4] log-likelihoods of the words, a little silence around them."""
    pdfs = np.repeat([0, *(pdf for word in sentence for pdf in WORDS[word]), 0], 3)
    x = noise*rng.normal(size=(len(pdfs), TREE.num_pdfs))
    x[np.arange(len(pdfs)), pdfs] += 3*noise
    return x.astype(np.float32)


def store(path, utterances=12, texts=True, columns=TREE.num_pdfs, seed=0):
    """Sentences of 0 to 5 words by two speakers, in no particular order of names."""
    rng = np.random.default_rng(seed)
    sentences = [rng.choice(list(WORDS), rng.integers(0, 6)).tolist() for _ in range(utterances)]
    frames = [np.tile(speech(s, rng), columns//TREE.num_pdfs) for s in sentences]
    names = [f'{"xy"[u % 2]}-{(7*u) % 100:02d}' for u in range(utterances)]
    who = Utterances(names, [len(x) for x in frames], [u % 2 for u in range(utterances)], ['x', 'y'],
                     [' '.join(s) for s in sentences] if texts else None)
    with StoreWriter(str(path), who, columns) as writer:
        for x in frames:
            writer.append(x)
    return path


class Model:
    """Takes the frames for log-likelihoods."""

    path, tree, lexicon, frontend, num_pdfs = 'toy', TREE, None, {}, TREE.num_pdfs

    def __init__(self):
        self.calls = 0

    def refuse_other(self, store):
        from hpcasr.errors import BadInput
        if store.frames.shape[1] != self.num_pdfs:
            raise BadInput(f'{store.path}: other features')

    def loglikes(self, frames):
        self.calls += 1
        return np.array(frames, np.float32)


def main(graph, store, out):
    from hpcasr.comm import world
    from hpcasr.decode.run import Request, decode
    request = Request(graph, store, out, [0.05, 0.1, 0.2], [0.0, 1.0], beam=50.0)
    world.run(lambda comm: decode(comm, request, Model))


if __name__ == '__main__':
    main(*sys.argv[1:])
