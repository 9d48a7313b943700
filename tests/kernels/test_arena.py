import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.backend.arena import Arena

SHAPES = st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=3), max_size=6)


@settings(deadline=None, max_examples=60)
@given(steps=st.lists(SHAPES, max_size=5))
def test_what_is_taken_in_a_step_does_not_overlap(steps):
    """Whatever the shapes, and whether they grow or shrink from step to step."""
    arena = Arena()
    for shapes in steps:
        arena.begin()
        taken = [arena.take(*shape) for shape in shapes]
        for k, array in enumerate(taken):
            array[...] = k
        for k, (array, shape) in enumerate(zip(taken, shapes, strict=True)):
            assert array.shape == tuple(shape) and array.dtype == np.float32 and array.flags.carray
            assert (array == k).all()
        arena.end()


def test_the_next_step_takes_the_same_memory():
    arena, steps = Arena(), []
    for shapes in [(3, 4), (5,)], [(12,), (2, 2)], [(1, 2), (5, 1)]:
        arena.begin()
        steps.append([arena.take(*shape) for shape in shapes])
        arena.end()
    assert all(np.shares_memory(a, b) for step in steps[1:] for a, b in zip(steps[0], step, strict=True))


def test_what_grew_leaves_the_step_before_alone():
    arena = Arena()
    arena.begin()
    before = arena.take(3)
    before[:] = 5
    arena.begin()
    arena.take(4)[:] = 6
    assert (before == 5).all()


def test_outside_of_a_step_results_stay():
    arena = Arena()
    arena.begin()
    inside = arena.take(3)
    arena.end()
    outside = [arena.take(3) for _ in range(3)]
    arena.begin()
    again = [arena.take(3) for _ in range(4)]
    assert np.shares_memory(inside, again[0])
    assert not any(np.shares_memory(a, b) for k, a in enumerate(outside) for b in outside[k + 1:] + again)


def test_a_step_that_was_broken_off_does_not_matter():
    arena = Arena()
    arena.begin()
    arena.take(3)
    arena.begin()
    first = arena.take(3)
    arena.end()
    assert not np.shares_memory(first, arena.take(3))
