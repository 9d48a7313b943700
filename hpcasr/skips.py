"""Steps that were left out because a loss or a gradient was not finite: counted, and their utterances named."""

import math

from hpcasr.errors import BadInput
from hpcasr.model.params import LOSS, NONFINITE

NAMED = 4  # batches, and utterances of a batch, that a line names; the metrics name all


class Skips:
    """What one learner knows of them.

    names   names(claim) -> the ids of its utterances
    most    that a learner may leave out in a row
    total   of all learners since the start of the run
    """

    def __init__(self, comm, names, most):
        self.comm, self.names, self.most = comm, names, most
        self.total, self.longest, self.own = 0, 0, []

    def see(self, claim, slots):
        """Called before the exchange, when the slots are this learner's own: remember what it cannot learn from."""
        if slots[NONFINITE]:
            what = 'gradient' if math.isfinite(slots[LOSS]) else 'loss'
            self.own.append({'rank': self.comm.rank, 'at': claim.at, 'what': what, 'utterances': self.names(claim)})

    def step(self, in_a_row):
        """Called after each step, with how many this learner has left out in a row, this one included."""
        self.longest = max(self.longest, in_a_row)

    def tell(self, n):
        """All learners have left out `n` more; (their batches, the most that one of them left out in a row).

        They call it together.
        """
        self.total += n
        everybody = self.comm.allgather((self.own, self.longest))
        self.own, self.longest = [], 0
        return [batch for own, _ in everybody for batch in own], max(longest for _, longest in everybody)

    def describe(self, n, batches):
        """One line."""
        text = f'skipped   {n} update{"s"[:n != 1]}, {self.total} in all'
        told = [f'the {b["what"]} of rank {b["rank"]} at sample {b["at"]} is not finite: {listed(b["utterances"])}'
                for b in batches[:NAMED]]
        return '; '.join([text, *told, *[f'and {len(batches) - NAMED} more batches']*(len(batches) > NAMED)])

    def state(self):
        return {'total': self.total}

    def load(self, state):
        self.total = int(state.get('total', 0))


def listed(names):
    more = len(names) - NAMED
    return ', '.join(names[:NAMED]) + f' and {more} more'*(more > 0)


def utterances(loader, claim):
    """The ids of the utterances of a claim, each once, in the order in which they come."""
    found = dict.fromkeys(u for u, _, _ in loader.located(claim))
    try:
        return [loader.corpus.name(u) for u in found]
    except BadInput:  # the store cannot be read just now
        return [f'utterance {u}' for u in found]
