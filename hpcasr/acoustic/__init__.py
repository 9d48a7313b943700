"""Acoustic models as recognition sees them: from the frames of an utterance to the scaled likelihood of every pdf."""

import pathlib

from hpcasr.errors import BadInput


def open_model(path, checkpoint='best', window=None):
    """The acoustic model of an experiment (`hpcasr train`) or of an alignment directory (`hpcasr align`).

    checkpoint   of an experiment: 'best' (lowest held-out cross-entropy), 'last', 'average' (of the newest) or a path
    window       of an experiment: (frames, context), (0, 0) for whole utterances, None: as it says
    Its attributes: path; tree, lexicon (None where the targets came without); frontend, num_pdfs; and
        loglikes(frames)    [T, D] as a store has them -> [T, num_pdfs] float32: ln p(x|s) up to a constant per frame
        refuse_other(store) BadInput unless the features of a store are those that it was trained on
    Raises BadInput if there is none.
    """
    path = pathlib.Path(path)
    if (path/'model.json').exists():
        from hpcasr.acoustic.hybrid import Hybrid
        return Hybrid(path, checkpoint, *(window or (None, None)))
    if (path/'gmm.npz').exists():
        from hpcasr.align.gmm import GmmModel
        return GmmModel(path)
    raise BadInput(f'{path}: no acoustic model; expected an experiment of hpcasr train (model.json) or a directory '
                   'that hpcasr align made (gmm.npz)')
