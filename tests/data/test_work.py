"""Handing out samples: all of them, once, whatever the number of learners; resumable anywhere."""

from hypothesis import given
from hypothesis import strategies as st

from hpcasr.data.work import StaticWork


@given(st.integers(1, 500), st.integers(1, 40), st.integers(1, 7))
def test_an_epoch_is_covered_once(total, batch, size):
    learners = [list(StaticWork(total, batch, r, size).rest()) for r in range(size)]
    assert len({len(claims) for claims in learners}) == 1
    taken = []
    for step in zip(*learners, strict=True):
        assert len({c.samples for c in step}) == 1
        assert sum(c.hi - c.lo for c in step) == step[0].samples
        sizes = [c.hi - c.lo for c in step]
        assert max(sizes) - min(sizes) <= 1 and max(sizes) <= batch
        taken += [k for c in step for k in range(c.lo, c.hi)]
    assert taken == list(range(total))


@given(st.integers(1, 300), st.integers(1, 20), st.integers(1, 5), st.integers(1, 5), st.integers(0, 20))
def test_it_goes_on_where_it_stopped_with_any_number_of_learners(total, batch, before, after, steps):
    work = StaticWork(total, batch, 0, before)
    for claim, _ in zip(work.rest(), range(steps), strict=False):
        work.finish(claim)
    resumed = [StaticWork(total, batch, r, after) for r in range(after)]
    for w in resumed:
        w.load(work.state())
    rest = sorted(k for w in resumed for c in w.rest() for k in range(c.lo, c.hi))
    assert rest == list(range(work.consumed, total))


def test_samples_are_counted_over_epochs():
    work = StaticWork(10, 4, 0, 1)
    for claim in work.rest():
        work.finish(claim)
    assert work.samples == 10
    work.next_epoch()
    assert work.samples == 10 and work.consumed == 0
    assert next(work.rest()).epoch == 1


def test_the_global_batch_does_not_depend_on_the_number_of_learners():
    steps = [[c.samples for c in StaticWork(100, 12//n, 0, n).rest()] for n in (1, 2, 3, 4)]
    assert steps[0] == steps[1] == steps[2] == steps[3]
