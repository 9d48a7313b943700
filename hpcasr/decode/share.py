"""Which rank recognizes which utterances."""

import heapq

import numpy as np


def share(lengths, rank, size):
    """The utterances of `rank`, sorted, such that all ranks have about as many frames.

    The longest goes to whoever has least (Graham 1969): no rank has more than 4/3 of the best split.
    """
    loads, mine = [(0, r) for r in range(size)], []
    for u in np.argsort(-np.asarray(lengths), kind='stable').tolist():
        load, r = loads[0]
        heapq.heapreplace(loads, (load + int(lengths[u]), r))
        if r == rank:
            mine.append(u)
    return sorted(mine)
