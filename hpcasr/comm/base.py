"""The verbs with which learners talk.  This class is one learner alone; mpi.py is many of them over MPI."""

import numpy as np

from hpcasr.errors import AgreedBadInput, BadInput


class Comm:
    """A group of learners, seen from one of them.

    rank, size     this learner, of how many
    library        what carries the messages, with its version
    bytes_sent     payload handed to the network so far
    seconds        time spent inside exchanges so far, waiting for slower learners included
    """

    rank, size = 0, 1
    library = 'none'

    def __init__(self):
        self.bytes_sent, self.seconds = 0, 0.0

    def start_sum(self, x):
        """Begin x ← Σ_l x_l; return finish(), after which every learner holds the same bits in `x`.

        The sum of every entry is taken in learner order, ((x_0 + x_1) + x_2) + ..., so the result depends neither on
        the MPI library nor on how a vector was cut.  `x` must stay untouched until finish() returns.
        """
        return lambda: None

    def sum_ordered(self, x):
        """x ← Σ_l x_l in learner order, in place, the same bits on every learner."""
        self.start_sum(x)()

    def allgather(self, value):
        """The `value` of every learner, a list in learner order; for small Python values, not for arrays."""
        return [value]

    def broadcast(self, x, root=0):
        """x ← x_root on every learner, in place."""

    def barrier(self):
        """Return when every learner has come here."""

    def progress(self):
        """Let the library move what is under way; called between layers, so it must be cheap."""

    def abort(self, status):
        """End the job of every learner now."""
        raise SystemExit(status)

    def together(self, work, *args):
        """work(*args) on every learner.  If one of them meets bad input, all raise the same BadInput."""
        result, error = None, None
        try:
            result = work(*args)
        except BadInput as e:
            error = str(e)
        errors = self.allgather(error)
        if any(errors):
            raise AgreedBadInput(told(errors))
        return result

    def first(self, work, *args):
        """work(*args) on learner 0 alone; every learner gets what it returns, a small value, or raises its BadInput."""
        result = self.together(work if self.rank == 0 else nothing, *args)
        return self.allgather(result)[0]

    def compare(self, facts):
        """Check that `facts`, {field: value}, are the same on every learner.

        Raises BadInput on every learner, naming each field that differs, its values and their ranks.
        """
        everywhere = self.allgather(facts)
        fields = dict.fromkeys(f for facts in everywhere for f in facts)
        lines = [differing(f, [facts.get(f) for facts in everywhere]) for f in fields]
        if any(lines):
            raise AgreedBadInput('the ranks do not agree: ' + '; '.join(filter(None, lines))
                                 + '; start all of them with the same code, configuration and data')


def nothing(*_):
    """What the other learners do."""


def told(errors):
    """One line for the errors of all ranks (None where there was none)."""
    rank, first = next((rank, e) for rank, e in enumerate(errors) if e)
    return first if len(set(errors)) == 1 else f'rank {rank}: {first}'


def differing(field, values):
    """`field: a (ranks 0, 2), b (rank 1)`, or '' where all values are equal."""
    ranks = {}
    for rank, value in enumerate(values):
        ranks.setdefault(repr(value), []).append(rank)
    return f'{field}: ' + ', '.join(f'{v} (rank{"s"[:len(r) > 1]} {", ".join(map(str, r))})'
                                    for v, r in ranks.items()) if len(ranks) > 1 else ''


def cuts(n, parts):
    """The bounds of `parts` slices of n entries, as even as they can be: [parts + 1]."""
    return np.arange(parts + 1)*n//parts
