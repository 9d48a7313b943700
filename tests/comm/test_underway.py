"""No exchange overtakes an older one in any stage, whenever its tests come true."""

from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.comm.underway import Underway


def steps(name, stages, open_gates, log):
    log.append((0, name))
    for stage in range(1, stages + 1):
        yield lambda stage=stage: (name, stage) in open_gates
        log.append((stage, name))


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_stages_are_passed_in_the_order_of_starts(data):
    stages = data.draw(st.lists(st.integers(1, 4), min_size=1, max_size=5))
    gates = [(name, stage) for name, last in enumerate(stages) for stage in range(1, last + 1)]
    underway, log, opened = Underway(), [], set()
    jobs = [underway.start(steps(name, last, opened, log)) for name, last in enumerate(stages)]
    for gate in data.draw(st.permutations(gates)):
        opened.add(gate)
        underway.advance()
    assert all(job.done() and job.begun() for job in jobs) and not underway.jobs
    for stage in range(5):
        names = [name for s, name in log if s == stage]
        assert names == sorted(names)


def test_only_the_first_waits():
    opened, log, underway = {(1, 1)}, [], Underway()
    first, second = (underway.start(steps(name, 1, opened, log)) for name in range(2))
    underway.advance()
    assert not first.begun() and not second.begun() and not second.done()
    opened.add((0, 1))
    underway.advance()
    assert first.done() and second.done() and log[-2:] == [(1, 0), (1, 1)]
