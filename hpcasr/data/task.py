"""What a run learns, and on what it is scored: two corpora, or one and its held-out speakers."""

from dataclasses import dataclass

from hpcasr.data import builtin
from hpcasr.data.corpus import Corpus
from hpcasr.data.sampler import Chunks, hold_out
from hpcasr.data.store import Store
from hpcasr.errors import BadInput
from hpcasr.evaluate import Scores, prior


@dataclass
class Task:
    """corpus, chunks   what is trained on
    dev, dev_chunks     what is scored; dev is corpus where speakers of it are held out
    prior               the Scores of the priors alone on it
    """

    corpus: Corpus
    chunks: Chunks
    dev: Corpus
    dev_chunks: Chunks
    prior: Scores

    @property
    def dev_digest(self):
        """Of the held-out store; '' where speakers of the training data are held out."""
        return '' if self.dev is self.corpus else self.dev.digest


def open_task(store, dev, data, ranks):
    """The Task of stores at `store` (None: the built-in task) and `dev` (None: hold out), cut as config.Data says.

    Raises BadInput where they cannot be read, do not fit each other, or are too small for so many ranks.
    """
    corpus = builtin.corpus() if store is None else labelled(store)
    if dev is None:
        other, parts = corpus, hold_out(corpus, data.holdout, data.seed)
    else:
        other, parts = labelled(dev), (None, None)
        require_same(corpus, other)
    chunks, dev_chunks = Chunks(corpus, data.chunk, parts[0]), Chunks(other, data.chunk, parts[1])
    require_enough(corpus, chunks, data, ranks)
    if not len(dev_chunks):
        raise BadInput(f'{other.path}: no frames to score; give held-out data with --dev STORE')
    held_out = dev_chunks.counts(other)
    trained = corpus.counts() - (held_out if other is corpus else 0)
    return Task(corpus, chunks, other, dev_chunks, prior(trained, held_out))


def labelled(path):
    """The Store at `path`, which must have targets."""
    store = Store(path)
    if store.targets is None:
        raise BadInput(f'{path}: has no targets; give it some: hpcasr align equal {path} --lexicon LEXICON')
    return store


def require_same(corpus, dev):
    for what in 'dim', 'num_targets':
        ours, theirs = getattr(corpus, what), getattr(dev, what)
        if ours != theirs:
            raise BadInput(f'{dev.path}: {what} is {theirs}, but that of {corpus.path} is {ours}; '
                           'import and align both alike')


def require_enough(corpus, chunks, data, ranks):
    if len(chunks) < ranks:
        raise BadInput(f'{corpus.path}: {len(chunks)} chunks of {data.chunk} frames for {ranks} ranks; '
                       'start fewer ranks, or cut shorter chunks (--chunk N)')
