"""Three steps of training the whole model, as training takes them, against float64."""

import numpy as np

from hpcasr.bench.gpu.data import away, fresh, judged
from hpcasr.bench.gpu.exact import Exact, batches, drawn, learner, step, worst
from hpcasr.bench.gpu.sections import BOUNDS

STEPS = 3  # done directly, recorded as a graph, launched again
ULP = 2**-24  # of a parameter: by so much it is rounded in each step


def measure(sizes):
    seed, rng = fresh()
    name, case = next(iter(sizes.cases.items()))
    data, truth = list(batches(case, rng, STEPS)), None
    for precision, bound in BOUNDS.items():
        ours = learner(case, precision)
        if truth is None:
            start = drawn(ours, case, rng)
            exact = Exact(case, start)
            truth = [exact.step(batch) for batch in data]
        ours.network.params.load({'params': start})
        for k, (batch, (loss, g, _)) in enumerate(zip(data, truth, strict=True), 1):
            found = step(ours, batch)
            off, of = worst(ours, found[1], g)
            for what, far in ('loss', away(found[0], loss)), ('gradient', away(found[1], g)):
                yield judged(f'{name}, {precision}, {what} of step {k}', far, bound, seed=seed, worst=off, of=of)
        way = ours.network.ops.host(ours.network.params.data) - start
        aim = truth[-1][2] - start
        rounding = STEPS*ULP*np.linalg.norm(start)/np.linalg.norm(aim)
        yield judged(f'{name}, {precision}, way of {STEPS} steps', away(way, aim), bound + rounding, seed=seed,
                     worst=None, of=None)
