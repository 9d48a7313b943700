"""The training loop.  What is particular to an algorithm, a backend or a rank lives behind its own door."""

from hpcasr.model.params import STOP

DONE, START_ME_AGAIN = 0, 75


def train(run):
    """Train until all epochs are done (returns 0), or until a rank was asked to stop: checkpoint, return 75.

    The loader ends where all learners meet: at the end of an epoch, and where a checkpoint is due.
    """
    p, algorithm, work = run.network.params, run.algorithm, run.work
    x, g = p.data, p.gradient
    if work.over:  # the run was stopped just then: the meeting has been, what follows it has not
        run.end_epoch()
    while work.epoch < run.config.train.epochs:
        for claim, batch in run.loader:
            algorithm.samples, algorithm.filled = claim.at, claim.samples/work.full
            run.drill.step(run, batch)
            algorithm.begin(x)
            run.network.loss_and_grad(batch, ready=algorithm.ready, seed=run.config.data.seed)
            run.computed(claim, batch)
            algorithm.step(x, g, run.schedule.rate(claim.at))
            work.finish(claim)
            run.record(claim)
            if p.slots[STOP] and work.halt():
                break
        if run.meet():
            return START_ME_AGAIN
    run.finish()
    return DONE
