"""Stores are aligned with a model that exists: that of an alignment directory, or a trained network."""

from hpcasr.acoustic import open_model
from hpcasr.align.equal import refuse_repeated
from hpcasr.align.label import label, open_stores
from hpcasr.align.training import speech_digest
from hpcasr.errors import BadInput


def force_align(comm, path, paths, scale, provenance, force, note):
    """Targets of the model at `path` for the stores at `paths`; [Tally] of the stores.

    scale   of its log-likelihoods, against the probabilities of pronunciations
    Raises BadInput, on all ranks.
    """
    model = comm.together(open_with_words, path)
    stores = comm.together(open_all, paths, force)
    comm.compare({'model': str(path), 'acwt': scale, 'data': [speech_digest(store) for store in stores]})
    return label(comm, stores, model, provenance, note if comm.rank == 0 else quiet, scale)


def open_with_words(path):
    """The acoustic model at `path`, which must know its Tree and its Lexicon."""
    model = open_model(path)
    if model.tree is None or model.lexicon is None:
        raise BadInput(f'{path}: was trained on targets without tree and lexicon; train on targets that hpcasr align '
                       'flat-start or align tree made')
    return model


def open_all(paths, force):
    refuse_repeated(paths)
    return open_stores(paths, force)


def quiet(line):
    """What the other ranks say."""
