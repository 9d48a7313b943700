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

AT_ONCE = 4096  # frames of a batch of windows, without context; at least one window
PRECISE = {'tf32': 'fp32'}  # what a processor takes for what only GPUs know: it is no less exact
AVERAGED = 3  # checkpoints: that many are kept unless the configuration says otherwise


class Hybrid:
    """The network of the experiment `path`, with the parameters of `checkpoint`: see `find`.

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
        self.checkpoints = find(self.path, checkpoint)
        try:
            self.network = self.load()
        except (MemoryError, OverflowError):
            raise BadInput(f'{self.path}: no memory for the network that model.json and config.toml describe; are they '
                           'damaged? train again, or take a larger machine') from None

    def load(self):
        config = resolve(self.path/'config.toml')
        train = config.train
        # the fastest that this machine has, whatever computed in training and on whichever processor
        network = build(config.model, self.dim, self.num_pdfs, train.dtype,
                        get_backend('auto', PRECISE.get(train.precision, train.precision), train.dtype))
        total = sum(self.parameters(network, checkpoint) for checkpoint in self.checkpoints)
        network.params.load({'params': total/len(self.checkpoints)})
        return network

    def parameters(self, network, checkpoint):
        """[n] float64."""
        if verify(checkpoint)['shape'] != network.shape():
            raise BadInput(f'{checkpoint}: its parameters do not fit {self.path}/config.toml and model.json; '
                           'were files of two experiments mixed?')
        return part(read_h5(checkpoint/'shared.h5'), 'params')['params'].astype(np.float64)

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
        step = max(AT_ONCE//window, 1)*window
        for first in range(0, len(x), step):
            last = min(first + step, len(x))
            found = self.network.log_posteriors(*cut(x, window, context, first, last))
            y[first:last] = join(found, window, context, last - first)
        return y

    def spliced(self, frames):
        x = np.empty((len(frames), self.dim), np.float32)
        splice(np.asarray(frames), 0, len(frames), self.splice, x)
        return x


def find(path, checkpoint):
    """The checkpoints of the experiment `path` whose mean is asked for: [paths].

    'best'      the one with the lowest held-out cross-entropy    'last'   the newest
    'average'   the newest AVERAGED, or as many as there are      else     the path of one
    """
    known = Checkpoints(path, Comm())
    newest = known.paths()
    named = {'best': [known.best() or newest[0]] if newest else [], 'last': newest[:1], 'average': newest[:AVERAGED]}
    found = named.get(checkpoint, [pathlib.Path(checkpoint)])
    if not found:
        raise BadInput(f'{path}: has no checkpoint yet; train longer, or give another experiment')
    return found
