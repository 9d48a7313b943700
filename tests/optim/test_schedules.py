from math import inf, nan, sqrt

import pytest

from hpcasr.config import Optim
from hpcasr.optim.schedules import SCHEDULES, get_schedule

EPOCH = 1000  # samples


def rates(schedule, epochs):
    return [schedule.rate(int(e*EPOCH)) for e in epochs]


def test_rate_of_the_paper():
    """arXiv 2002.10502: 0.1 at batch 256 to 1.0 at batch 2560 in 10 epochs, then 1/√2 per epoch to the 16th."""
    s = get_schedule(Optim(lr=0.1, lr_batch=256, warmup=10, hold=10), 2560, EPOCH)
    assert rates(s, [0, 1, 5, 9.5]) == pytest.approx([0.1, 0.19, 0.55, 0.955])
    assert rates(s, [10, 10.999, 11, 12, 15.5]) == pytest.approx([1/sqrt(2), 1/sqrt(2), 1/2, sqrt(2)/4, 1/8])


def test_another_decay():
    s = get_schedule(Optim(lr=1.0, lr_batch=0, warmup=0, hold=1, decay=0.25), 1, EPOCH)
    assert rates(s, [0.9, 1, 2]) == pytest.approx([1, 1/4, 1/16])


def test_rate_is_held_between_warmup_and_decay():
    s = get_schedule(Optim(lr=0.1, lr_batch=256, warmup=1, hold=4), 1024, EPOCH)
    assert rates(s, [0, 0.5, 1, 2.5, 3.999, 4, 5]) == pytest.approx([0.1, 0.25, 0.4, 0.4, 0.4, 0.4/sqrt(2), 0.2])


@pytest.mark.parametrize(('batch', 'peak'), [(256, 0.1), (64, 0.025)])
def test_warmup_begins_at_a_tenth_where_there_is_nothing_to_scale_up(batch, peak):
    s = get_schedule(Optim(lr=0.1, lr_batch=256, warmup=2, hold=4), batch, EPOCH)
    assert rates(s, [0, 1, 2, 3]) == pytest.approx([peak/10, 0.55*peak, peak, peak])


def test_no_scaling_and_no_warmup():
    s = get_schedule(Optim(lr=0.3, lr_batch=0, warmup=0, hold=1), 4096, EPOCH)
    assert rates(s, [0, 0.999, 1]) == pytest.approx([0.3, 0.3, 0.3/sqrt(2)])


@pytest.mark.parametrize(('warmup', 'hold', 'first'), [(1, 2.5, 3), (3, 1, 3), (2.5, 0, 3), (0, 0, 0)])
def test_decay_begins_at_the_first_end_of_an_epoch_after_hold_and_warmup(warmup, hold, first):
    s = get_schedule(Optim(lr=1.0, lr_batch=0, warmup=warmup, hold=hold), 1, EPOCH)
    decays = [s.rate(e*EPOCH)/s.warm(e*EPOCH) for e in range(6)]
    assert decays == pytest.approx([2**(-max(0, e - first + 1)/2) for e in range(6)])


def test_constant():
    s = get_schedule(Optim(lr=0.1, lr_batch=100, schedule='constant'), 300, EPOCH)
    assert rates(s, [0, 0.1, 50]) == pytest.approx([0.3]*3)


def newbob(warmup=0):
    return get_schedule(Optim(lr=1.0, lr_batch=0, warmup=warmup, schedule='newbob', newbob_threshold=0.01), 1, EPOCH)


def test_newbob_halves_every_epoch_once_the_gain_is_small():
    s, seen = newbob(), []
    for ce in 4.0, 3.0, 2.96, 2.95, 1.0, 1.5:  # gains of 25 %, 1.3 %, 0.3 %: from here on, whatever follows
        s.observe(ce)
        seen.append(s.rate(0))
    assert seen == [1, 1, 1, 0.5, 0.25, 0.125]


@pytest.mark.parametrize('bad', [nan, inf, 5.0])
def test_newbob_halves_when_it_gets_worse(bad):
    s = newbob()
    s.observe(4.0)
    s.observe(bad)
    assert s.rate(0) == 0.5


@pytest.mark.parametrize('bad', [nan, inf, -inf])
def test_newbob_takes_nothing_that_is_not_finite_for_a_gain(bad):
    s = newbob()
    s.observe(bad)
    assert s.rate(0) == 0.5


def test_newbob_does_not_halve_before_warmup_is_over():
    s, seen = newbob(warmup=3), []
    for ce in 4.0, 5.0, 6.0, 7.0, 6.0:
        s.observe(ce)
        seen.append(s.rate(3*EPOCH))
    assert seen == [1, 1, 1, 0.5, 0.25]


def test_newbob_warms_up():
    s = get_schedule(Optim(lr=0.1, lr_batch=256, warmup=1, schedule='newbob'), 1024, EPOCH)
    assert rates(s, [0, 0.5, 1, 9]) == pytest.approx([0.1, 0.25, 0.4, 0.4])


@pytest.mark.parametrize('name', SCHEDULES)
def test_resumes(name):
    make = lambda: get_schedule(Optim(schedule=name), 512, EPOCH)
    first, second = make(), make()
    observed = [4.0, 3.0, 2.999, 2.0]
    for ce in observed[:3]:
        first.observe(ce)
    second.load(first.state())
    for s in first, second:
        s.observe(observed[3])
    assert rates(first, [0, 1.5, 7]) == rates(second, [0, 1.5, 7])


def test_the_configuration_offers_what_exists():
    assert set(Optim.__dataclass_fields__['schedule'].metadata['choices']) == set(SCHEDULES)
