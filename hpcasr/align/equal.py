"""Flat start: every state of an utterance gets the same share of its frames."""

import numpy as np

from hpcasr.data.store import Store, refuse_labelled, write_targets
from hpcasr.errors import BadInput


def equal(pdfs, T):
    """[T] int32: frame t belongs to state ⌊t S/T⌋ of the S states `pdfs`; if T < S some states get no frame."""
    pdfs = np.asarray(pdfs, np.int32)
    return pdfs[np.arange(T)*len(pdfs)//T]


def align_equal(paths, lexicon, provenance, force=False):
    """Write equal alignments into the stores; return for each how many utterances were shorter than their states.

    Every transcript of every store is looked up before the first store is changed.  Raises BadInput.
    """
    for path in paths:
        refuse_labelled(path, force)
    stores = [Store(path, targets=False) for path in paths]
    short = [survey(store, lexicon) for store in stores]
    for store in stores:
        names = lexicon.target_names
        write_targets(store.path, alignments(store, lexicon), len(names), names, provenance, force)
    return short


def states(store, u, lexicon):
    """The states of utterance u, silence around its words."""
    where = f'{store.path}: utterance {store.name(u)}'
    words = store.text(u).split()
    if not words:
        raise BadInput(f'{where}: has no transcript; import it with a file text')
    return lexicon.pdfs(lexicon.pronounce(words, where))


def survey(store, lexicon):
    """How many utterances have fewer frames than states."""
    return sum(store.length(u) < len(states(store, u, lexicon)) for u in range(store.num_utterances))


def alignments(store, lexicon):
    for u in range(store.num_utterances):
        yield equal(states(store, u, lexicon), store.length(u))
