"""Exchanges that were started and not finished: each goes on, stage by stage, whenever somebody looks."""

import math


class Job:
    """Steps of an exchange: a generator that, wherever it would have to wait, yields a test of whether it still must.

    stage   tests passed so far; infinite once the generator has ended
    """

    def __init__(self, steps):
        self.steps, self.stage = steps, 0
        self.ready = next(steps)

    def advance(self, limit):
        """Go on, up to stage `limit`, as far as possible without waiting."""
        while self.stage < limit and self.ready():
            self.ready = next(self.steps, None)
            self.stage = self.stage + 1 if self.ready else math.inf

    def begun(self):
        """Whether the first test has been passed: all peers have come."""
        return self.stage > 0

    def done(self):
        return self.stage == math.inf


class Underway:
    """The jobs of one communicator, oldest first.

    No job passes a stage before those that were started earlier have passed it.  So whatever stage s does, it is done
    in the order of starts on every learner, though each of them looks at other moments: collective calls of one stage
    can share a communicator, and a counter of jobs says which of them have passed.
    """

    def __init__(self):
        self.jobs = []

    def start(self, steps):
        job = Job(steps)
        self.jobs.append(job)
        return job

    def advance(self):
        limit = math.inf
        for job in self.jobs:
            job.advance(limit)
            limit = min(limit, job.stage)  # one with fewer stages may be done before those that are older
        self.jobs = [job for job in self.jobs if not job.done()]
