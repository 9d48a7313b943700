"""A trained network as the acoustic model of a hybrid recognizer: p(x|s) ∝ p(s|x)/p(s).

Bourlard and Morgan, Connectionist Speech Recognition, 1994.
"""

import pathlib

import numpy as np

from hpcasr.acoustic.card import read_card
from hpcasr.acoustic.windows import cut, join
from hpcasr.align.gmm import refuse_other
from hpcasr.backend import get_backend
from hpcasr.checkpoint import Checkpoints, part, read_h5, verify
from hpcasr.comm.base import Comm
from hpcasr.config import resolve
from hpcasr.data.corpus import splice
from hpcasr.errors import BadInput
from hpcasr.model.network import build

AT_ONCE = 64  # windows of a batch


class Hybrid:
    """The network of the experiment `path`, with the parameters of `checkpoint`: 'best', 'last' or a path.

    window, context   frames: the utterance is computed in windows with context on both sides; window 0: as a whole;
                      None: as the experiment says
    Raises BadInput where something is missing or damaged.
    """

    def __init__(self, path, checkpoint='best', window=None, context=None):
        self.path, self.card = pathlib.Path(path), read_card(path)
        self.window = self.card['window'] if window is None else window
        self.context = self.card['context'] if context is None else context
        self.tree, self.lexicon, self.frontend = (self.card[k] for k in ('tree', 'lexicon', 'frontend'))
        counts = np.array(self.card['counts'], float) + 1  # of a target never seen p(s|x)/p(s) is finite
        self.num_pdfs, self.log_priors = len(counts), np.log(counts/counts.sum()).astype(np.float32)
        self.columns, self.splice = self.card['columns'], tuple(self.card['splice'])
        self.dim = self.columns*(1 + sum(self.splice))
        self.checkpoint = find(self.path, checkpoint)
        self.network = self.load()

    def load(self):
        config = resolve(self.path/'config.toml')
        network = build(config.model, self.dim, self.num_pdfs, config.train.dtype, get_backend(config.train.backend))
        manifest = verify(self.checkpoint)
        if manifest['shape'] != network.shape():
            raise BadInput(f'{self.checkpoint}: its parameters do not fit {self.path}/config.toml and model.json; '
                           'were files of two experiments mixed?')
        network.params.load(part(read_h5(self.checkpoint/'shared.h5'), 'params'))
        return network

    def refuse_other(self, store):
        """BadInput unless the frames of `store` are made as those of the training data were."""
        refuse_other(store, self.path, self.columns, self.frontend)
        if tuple(store.splice) != self.splice:
            raise BadInput(f'{store.path}: spliced {tuple(store.splice)}, but {self.path} was trained on '
                           f'{self.splice}; import it as the training data was')

    def loglikes(self, frames):
        """ln p(s|x) - ln p(s), [T, num_pdfs] float32, of frames [T, columns]."""
        y = self.log_posteriors(frames)
        y -= self.log_priors
        return y

    def log_posteriors(self, frames):
        """ln p(s|x), [T, num_pdfs] float32, of frames [T, columns]."""
        x, y = self.spliced(frames), np.empty((len(frames), self.num_pdfs), np.float32)
        window, context = self.window, min(self.context, len(x))
        if not 0 < window < len(x):
            window, context = max(len(x), 1), 0
        for first in range(0, len(x), AT_ONCE*window):
            last = min(first + AT_ONCE*window, len(x))
            found = self.network.log_posteriors(*cut(x, window, context, first, last))
            y[first:last] = join(found, window, context, last - first)
        return y

    def spliced(self, frames):
        x = np.empty((len(frames), self.dim), np.float32)
        splice(np.asarray(frames), 0, len(frames), self.splice, x)
        return x


def find(path, checkpoint):
    """The directory of a checkpoint of the experiment `path`."""
    checkpoints = Checkpoints(path, Comm())
    if checkpoint == 'best':
        found = checkpoints.best() or next(iter(checkpoints.paths()), None)
    elif checkpoint == 'last':
        found = next(iter(checkpoints.paths()), None)
    else:
        found = pathlib.Path(checkpoint)
    if found is None:
        raise BadInput(f'{path}: has no checkpoint yet; train longer, or give another experiment')
    return found
