"""Named shapes of a model."""

import difflib
from dataclasses import asdict, replace

from hpcasr.config import Model
from hpcasr.errors import BadInput

PRESETS = {m.preset: m for m in (
    #     preset     kind    layers cells bottleneck activation dropout
    Model('tiny',    'blstm', 1,    32,    0,       'sigmoid',  0.0),
    Model('small',   'blstm', 2,   128,    0,       'sigmoid',  0.0),
    Model('mid',     'blstm', 3,   256,  128,       'sigmoid',  0.0),
    Model('dnn',     'dnn',   6,  2048,    0,       'sigmoid',  0.0),
    # A reconstruction of the model of arXiv 2002.10502: 260 inputs (40 FMLLR, 100 i-vector, 40 log-mel with deltas and
    # double deltas) and 32,000 targets give 43.1 M parameters.
    Model('swb2000', 'blstm', 6,   512,  256,       'sigmoid',  0.0),
)}


def resolve(model):
    """`model` without sentinels: what is unset in it is as in its preset.  Raises BadInput for an impossible shape."""
    if model.preset not in PRESETS:
        near = difflib.get_close_matches(model.preset, PRESETS, 1, 0)[0]
        raise BadInput(f'no preset {model.preset!r}; choose one of {", ".join(PRESETS)} (did you mean {near}?)')
    unset = asdict(Model())
    return check(replace(PRESETS[model.preset], **{k: v for k, v in asdict(model).items() if v != unset[k]}))


def check(model):
    for key, least in ('layers', 1), ('cells', 1), ('bottleneck', 0):
        if getattr(model, key) < least:
            raise BadInput(f'model.{key} = {getattr(model, key)}; give {least} or more')
    if not 0 <= model.dropout < 1:
        raise BadInput(f'model.dropout = {model.dropout}; give a probability, 0 or more and less than 1')
    return model
