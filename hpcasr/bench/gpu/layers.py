"""Every kind of layer, at the width of the models that are timed: a step of masked chunks, against float64."""

from dataclasses import replace

from hpcasr.bench.cpu import Case
from hpcasr.bench.gpu.data import away, fresh, judged
from hpcasr.bench.gpu.exact import Exact, batches, drawn, learner, step, worst
from hpcasr.bench.gpu.sections import BOUNDS

KINDS = [('kind', 'blstm'), ('kind', 'lstm'), ('activation', 'sigmoid'), ('activation', 'relu'), ('activation', 'tanh')]
STEPS = 3  # done directly, recorded as a graph, launched again
RELU = 3  # times as far: rounding turns its units on and off


def measure(sizes):
    for kind in KINDS:
        yield from compare(kind[1], narrowed(next(iter(sizes.cases.values())), kind))


def narrowed(case, kind):
    """One hidden layer of this kind, as wide as that of the case, with fewer sequences: float64 takes its time."""
    model = dict(case.model) | {'layers': 1} | dict([kind] if kind[0] == 'kind' else [('kind', 'dnn'), kind])
    return replace(case, batch=min(case.batch, 37), model=tuple(model.items()))


def compare(what, case: Case):
    """Rows: losses and gradients of some steps, and log posteriors, of every precision."""
    seed, rng = fresh()
    data, start, truth = list(batches(case, rng, STEPS, ragged=True)), None, None
    for precision, bound in BOUNDS.items():
        ours = learner(case, precision)
        if truth is None:
            start = drawn(ours, case, rng)
            exact = Exact(case, start)
            scores = exact.network.log_posteriors(data[0].x.astype(float), data[0].mask)
            truth = [exact.step(batch) for batch in data]
        ours.network.params.load({'params': start})
        bound *= RELU if what == 'relu' else 1
        yield row(f'{what}, {precision}', posteriors(ours, data[0], scores), bound, seed)
        for k, (batch, (loss, g, _)) in enumerate(zip(data, truth, strict=True), 1):
            found = step(ours, batch)
            off, name = worst(ours, found[1], g)
            yield row(f'{what}, {precision}, step {k}', max(away(found[0], loss), away(found[1], g)), bound, seed,
                      off, name)


def posteriors(ours, batch, exact):
    """How far off they are where there are frames."""
    found = ours.network.log_posteriors(batch.x, batch.mask)
    return away(found[batch.mask], exact[batch.mask])


def row(what, off, bound, seed, most=None, name=None):
    return judged(what, off, bound, seed=seed, worst=most, of=name)
