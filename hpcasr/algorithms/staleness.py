"""How stale the gradients of a learner are: by how many changes the model is ahead of where they were taken."""

from collections import Counter


class Staleness:
    """A histogram; `add` counts one update, `split` forgets."""

    def __init__(self):
        self.counts = Counter()

    def add(self, tau):
        self.counts[int(tau)] += 1

    def split(self):
        """{staleness: updates} since the last call, as lists."""
        found, self.counts = sorted(self.counts.items()), Counter()
        return found


def facts(everybody):
    """What the metrics say of the histograms [[(staleness, updates)]] of all learners.

    staleness   {learner: {mean, max, counts: [updates of staleness 0, 1, ...]}}
    """
    return {str(rank): of_one(found) for rank, found in enumerate(everybody) if found}


def of_one(found):
    updates = sum(n for _, n in found)
    most = found[-1][0]
    counts = dict(found)
    return {'mean': sum(tau*n for tau, n in found)/updates, 'max': most,
            'counts': [counts.get(tau, 0) for tau in range(most + 1)]}


def mean(everybody):
    """(mean, largest) staleness of all updates."""
    pairs = [pair for found in everybody for pair in found]
    updates = sum(n for _, n in pairs)
    return (sum(tau*n for tau, n in pairs)/updates, max(tau for tau, _ in pairs)) if updates else (0.0, 0)
