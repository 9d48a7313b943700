"""From transcripts to alignments with nothing else: mixtures of Gaussians of monophones, from an equal split."""

from hpcasr.align.graph import Graphs
from hpcasr.align.mixtures import Mixtures
from hpcasr.align.passes import State
from hpcasr.align.sweep import Split, statistics
from hpcasr.align.training import Training
from hpcasr.align.transform import Transform, choose
from hpcasr.align.tree import Tree

FRAMES_PER_GAUSSIAN, MOST_GAUSSIANS = 250, 1000  # where none are asked for; 1000 as in Kaldi's train_mono.sh


def flat_start(comm, request, lexicon, transform='auto'):
    """Train on the first store of the training.Request, align all of them; the facts in OUT/DONE.

    transform   'auto', 'dct' or 'none': transform.choose
    Raises BadInput, on all ranks.
    """
    asked = {'command': 'flat-start', 'states': lexicon.states, 'transform': transform}
    training = Training(comm, request, lexicon, asked)
    store = training.store
    matrix = comm.together(choose, transform, store.frontend, store.frames.shape[1], store.path)
    tree = Tree.monophone(lexicon.phones, lexicon.states)
    share = training.survey(Graphs(lexicon, tree))
    if comm.first(training.folder.claim, request.force):
        state, _ = comm.together(training.folder.load)
    else:
        comm.first(training.folder.begin, tree, lexicon)
        fitted = Transform.of_statistics(matrix, *statistics(comm, share, matrix))
        state = State(0, fitted, Mixtures.one_each(tree.num_pdfs, fitted.dim), [])
    return training.run(state, share, lambda s: Split(share, s.transform, s.mixtures),
                        request.num_gauss or default_gaussians(store, tree))


def default_gaussians(store, tree):
    """One per so many frames, within bounds."""
    return max(tree.num_pdfs, min(store.num_frames//FRAMES_PER_GAUSSIAN, MOST_GAUSSIANS))
