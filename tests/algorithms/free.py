"""Learners that step at their own pace between meetings, and what was recorded of them."""

from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np

from hpcasr.comm.virtual import World
from hpcasr.journal import Journal, Recording, Replay, pack, unpack
from tests.algorithms.problems import Player, Quadratic


class Tape(Recording):
    """A Recording that goes into no file: a list of [(claims, tickets)] of all learners, one for each stretch."""

    def __init__(self):
        super().__init__('tape')
        self.stretches = []

    def meet(self, comm):
        pieces = comm.allgather(pack(self.taken, self.tickets))
        self.taken, self.tickets = self.taken[:0], self.tickets[:0]
        self.stretches.append([unpack(piece) for piece in pieces])


class Unlocked(Journal):
    """Of a run that takes no locks."""

    @contextmanager
    def lock(self, window, ranks):
        yield dict.fromkeys(ranks, 0)


@dataclass
class Whole(Quadratic):
    """Learners start from models of whole numbers."""

    def learner(self, rank, *where):
        learner = super().learner(rank, *where)
        data = learner.params.data
        data[:] = np.random.default_rng([self.seed, rank*self.apart]).integers(-64, 65, data.size)
        return learner


@dataclass
class Free:
    """What became of one learner: its models after each step and at each meeting, the consensus, the journal."""

    models: list
    consensus: np.ndarray
    journal: Journal
    player: Player

    def bits(self):
        return b''.join(model.tobytes() for model in self.models) + self.consensus.tobytes()


def replay(rank, stretches):
    """The Replay of learner `rank` of what a Tape tells."""
    journal = Replay('tape')
    journal.take(rank, [stretch[rank] for stretch in stretches])
    return journal


def free(comm, name, problem, plan, journal=None, resume=None, **how):
    """The Free of one learner.

    plan     [meetings][L] steps of each learner up to each meeting
    resume   {meeting: its journal from there on}: there it is saved, thrown away, and made anew
    """
    player, models, t = Player(comm, name, problem, journal=journal, **how), [], 0
    for k, steps in enumerate(plan):
        if k in (resume or {}):
            player = player.again(journal=resume[k])
        for _ in range(steps[comm.rank]):
            player.step(t)
            models.append(player.params.data.copy())
            t += 1
        player.algorithm.arrive(player.params.data)
        comm.barrier()  # as in run.Run.meet: who is done waits for the others before it settles
        player.algorithm.settle(player.params.data, player.params.slots)
        player.algorithm.journal.meet(comm)
        models.append(player.params.data.copy())
    found = Free(models, player.algorithm.consensus(player.params.data).copy(), player.algorithm.journal, player)
    player.algorithm.close(player.params.data)
    comm.barrier()  # nobody closes windows that others read
    return found


def virtual(size, *args, seed=0, journal=Journal, **how):
    """[Free] of virtual learners that go on in any order, each with its own journal()."""
    world = World(size, schedule='random', seed=seed, strict=True)
    return world.run(lambda comm: free(comm, *args, journal=journal(), **how))


def taped(size, *args, **how):
    """([Free], stretches) of virtual learners that are recorded."""
    frees = virtual(size, *args, journal=Tape, **how)
    return frees, frees[0].journal.stretches


def uneven(size, meetings=2, steps=7):
    """A plan in which learners differ: from 0 to `steps` steps."""
    return [[(steps - 2*rank - k) % (steps + 1) for rank in range(size)] for k in range(meetings)]
