"""What a corpus holds, in numbers."""

import numpy as np


def summary(store):
    """A dict for `data info`, JSON throughout: sizes, hours, front end, priors of the targets, tree, provenance."""
    shift = store.frontend.get('frame_shift', 0.01)
    return {'path': store.path, 'utterances': store.num_utterances, 'speakers': len(np.unique(store.speakers)),
            'frames': store.num_frames, 'hours': store.num_frames*shift/3600,
            'dim': store.dim, 'columns': store.frames.shape[1], 'splice': list(store.splice),
            'dtype': str(store.frames.dtype), 'frontend': store.frontend,
            'targets': store.num_targets, 'priors': priors(store.counts()) if store.num_targets else None,
            'tree': tree(store.tree), 'words': store.lexicon and len(store.lexicon.variants),
            'segments': store.num_segments,
            'provenance': store.provenance, 'digest': store.digest}


def tree(tree):
    """Phones, states and kind of a Tree; None for None."""
    return tree and {'phones': len(tree.phones), 'states': tree.states,
                     'context': 'monophone' if tree.width == 1 else 'triphone', 'leaves': tree.num_pdfs}


def priors(counts):
    """Entropy in nats, a network's cross-entropy when it knows nothing but the priors; frame error of one guess."""
    p = counts[counts > 0]/counts.sum()
    return {'entropy': float(-(p*np.log(p)).sum()), 'guess_error': float(1 - p.max()),
            'unseen': int((counts == 0).sum())}
