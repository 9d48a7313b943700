"""What the callers of the verbs must keep to, the same for ranks and for virtual learners."""

from collections import Counter

import numpy as np

from hpcasr.errors import AgreedBadInput

MOST = 2**31 - 1  # entries that MPI can count


def require_flat(x):
    """ValueError unless `x` is a contiguous vector; BadInput if it has more entries than MPI can count."""
    if x.ndim != 1 or not x.flags.c_contiguous:
        raise ValueError(f'a contiguous vector is needed, not one of shape {x.shape} with strides {x.strides}')
    if x.size > MOST:
        raise AgreedBadInput(f'{x.size:,} entries cannot be sent, MPI counts {MOST:,}; train a smaller model')


def require_bounds(x, bounds, size):
    """`bounds` as an array; ValueError unless they cut the vector `x` into `size` slices."""
    require_flat(x)
    bounds = np.asarray(bounds)
    if len(bounds) != size + 1 or bounds[0] != 0 or bounds[-1] != x.size or (np.diff(bounds) < 0).any():
        raise ValueError(f'{bounds.tolist()} are no bounds of {size} slices of {x.size} entries')
    return bounds


def require_peers(to, frm, rank, size):
    for peer in (*to, *frm):
        if peer == rank or not 0 <= peer < size:
            raise ValueError(f'learner {rank} of {size} cannot exchange with learner {peer}')


def require_match(lists):
    """ValueError unless `lists`, [L] of (to, frm), are of peers, and who sends is who is received from."""
    for rank, (to, frm) in enumerate(lists):
        require_peers(to, frm, rank, len(lists))
    sent = Counter((rank, peer) for rank, (to, _) in enumerate(lists) for peer in to)
    received = Counter((peer, rank) for rank, (_, frm) in enumerate(lists) for peer in frm)
    for source, target in (sent - received) + (received - sent):
        raise ValueError(f'learners {source} and {target} do not agree whether the one sends to the other')
