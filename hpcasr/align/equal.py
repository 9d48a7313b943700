"""Flat start: every state of an utterance gets the same share of its frames."""

import os

import numpy as np

from hpcasr.data.kaldi import words
from hpcasr.data.progress import silent
from hpcasr.data.store import Store, refuse_labelled, write_targets
from hpcasr.errors import BadInput


def equal(pdfs, T):
    """[T] int32: frame t belongs to state ⌊t S/T⌋ of the S states `pdfs`; if T < S some states get no frame."""
    pdfs = np.asarray(pdfs, np.int32)
    return pdfs[np.arange(T)*len(pdfs)//T]


def align_equal(paths, lexicon, provenance, force=False, progress=silent):
    """Write equal alignments into the stores; return for each how many utterances were shorter than their states.

    Every transcript of every store is looked up before the first store is changed.  Raises BadInput.
    """
    refuse_repeated(paths)
    for path in paths:
        refuse_labelled(path, force)
    stores = [Store(path, targets=False) for path in paths]
    short = [survey(store, lexicon, progress) for store in stores]
    for store in stores:
        names = lexicon.target_names
        write_targets(store.path, alignments(store, lexicon, progress), len(names), names, provenance, force)
    return short


def refuse_repeated(paths):
    places = [os.path.realpath(path) for path in paths]
    for n, path in enumerate(paths):
        if places[n] in places[:n]:
            raise BadInput(f'{path}: is named twice; name every store once')


def states(store, u, lexicon):
    """The states of utterance u, silence around its words."""
    where = f'{store.path}: utterance {store.name(u)}'
    spoken = words(store.text(u))
    if not spoken:
        raise BadInput(f'{where}: has no transcript; import it with a file text')
    return lexicon.pdfs(lexicon.pronounce(spoken, where))


def survey(store, lexicon, progress):
    """How many utterances have fewer frames than states."""
    return sum(store.length(u) < len(states(store, u, lexicon)) for u in progress(range(store.num_utterances)))


def alignments(store, lexicon, progress):
    for u in progress(range(store.num_utterances)):
        yield equal(states(store, u, lexicon), store.length(u))
