"""From monophones to tied states of triphones: statistics, a tree, and passes with it."""

import os

import numpy as np

from hpcasr.align.cluster import Statistics, grow
from hpcasr.align.gmm import GmmModel
from hpcasr.align.graph import Graphs
from hpcasr.align.mixtures import Mixtures
from hpcasr.align.passes import State
from hpcasr.align.shares import Share
from hpcasr.align.sweep import Realign, sweep
from hpcasr.align.training import Training, sha256
from hpcasr.align.tree import Tree
from hpcasr.errors import AgreedBadInput

FRAMES_PER_GAUSSIAN, GAUSSIANS_PER_LEAF = 150, 5  # at most, where no number is asked for


def train_tied(comm, request, path, leaves=None, min_count=None):
    """Train triphones on the first store of the training.Request, aligned at first with the ALI at `path`.

    leaves      of the tree at most, None: by the frames      min_count   frames of a leaf, None: 100
    Returns the facts in OUT/DONE.  Raises BadInput, on all ranks.
    """
    if os.path.realpath(path) == os.path.realpath(request.out):
        raise AgreedBadInput(f'{path}: would be replaced by what is made from it; choose another --out')
    base = comm.together(GmmModel, path)
    asked = {'command': 'tree', 'leaves': leaves, 'min count': min_count, 'model': digest(base)}
    training = Training(comm, request, base.lexicon, asked)
    comm.together(base.refuse_other, training.store)
    old = training.survey(Graphs(base.lexicon, base.tree))
    if comm.first(training.folder.claim, request.force):
        state, tree = comm.together(training.folder.load)
    else:
        tree = grown(comm, old, base, leaves or default_leaves(training.store), min_count or 100)
        comm.first(training.folder.begin, tree, base.lexicon)
        state = State(0, base.transform, Mixtures.one_each(tree.num_pdfs, base.transform.dim), [])
    share = Share(training.store, Graphs(base.lexicon, tree), comm)
    return training.run(state, share, lambda _: Convert(old, base, tree),
                        request.num_gauss or default_gaussians(training.store, tree))


def digest(model):
    """Of the parameters of a GmmModel and what they belong to."""
    arrays = model.transform.arrays() | model.mixtures.arrays()
    return sha256(model.tree.dumps(), *map(np.ascontiguousarray, arrays.values()))


def grown(comm, share, base, leaves, min_count):
    """The Tree of the training data aligned with `base`; the same on all ranks."""
    phones, states = base.tree.phones, base.tree.states
    statistics = Statistics(base.transform.dim)
    sweep(comm, share, Realign(share, base.transform, base.mixtures),
          lambda a: statistics.add(codes(a.graph, a.path, len(phones)), a.x))
    merged = comm.together(statistics.merged, comm)
    text = comm.first(lambda: grow(merged, phones, states, leaves, min_count).dumps())
    return Tree.loads(text, 'the tree of rank 0')


def codes(graph, path, num_phones):
    """[T] int64 ((phone*S + state)*P + left)*P + right of the frames of a path."""
    left, phone, right, frames = (x.astype(np.int64) for x in graph.context(path))
    first = np.repeat((phone*(graph.states*num_phones) + left)*num_phones + right, frames)
    return first + path % graph.states*num_phones**2


class Convert:
    """Utterances of a Share aligned with the model `base`, their frames given to the pdfs of another `tree`."""

    def __init__(self, share, base, tree):
        self.align, self.tree = Realign(share, base.transform, base.mixtures), tree

    def __call__(self, u):
        a = self.align(u)
        if a.score > -np.inf:
            a.pdfs = pdfs_of(self.tree, a.graph, a.path)
        return a


def pdfs_of(tree, graph, path):
    """[T] int32 pdfs of the `tree` on a path through a StateGraph of another one with the same phones and states."""
    *context, frames = graph.context(path)
    pdfs = np.array([tree.pdfs(*lpr) for lpr in zip(*(x.tolist() for x in context), strict=True)], np.int32)
    return pdfs[np.repeat(np.arange(len(frames)), frames), path % tree.states]


def default_leaves(store):
    """Grows as the 0.4th power of the data: 500 for AN4 (0.6 h), 1,000 for 4 h, 6,000 for 300 h."""
    return max(int(3.6*store.num_frames**0.4), 1)


def default_gaussians(store, tree):
    return max(tree.num_pdfs, min(store.num_frames//FRAMES_PER_GAUSSIAN, GAUSSIANS_PER_LEAF*tree.num_pdfs))
