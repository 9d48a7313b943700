import json

import numpy as np
import pytest

from hpcasr.bench import convergence
from hpcasr.bench.links import Trial, bench, faster_below, lines, tried
from hpcasr.compress.takes import METHODS
from hpcasr.config import resolve
from hpcasr.errors import BadInput


def found(ranks=3, gbps=(0.05, 50.0), pace=2.0):
    config = resolve(None, ['simulate.latency=0'], {'model.preset': 'tiny', 'data.batch': 4, 'simulate.pace': pace})
    return bench(config, Trial(ranks, gbps))


@pytest.mark.parametrize('ranks', [1, 2, 5])
def test_a_step_takes_what_compute_and_links_take(ranks):
    figures = found(ranks)
    rows = {row['name']: row for row in figures['methods']}
    assert list(rows) == ['none', *METHODS] and '\n'.join(lines(figures))
    for gbps, rate in rows['none']['samples_per_second'].items():
        seconds, sending = ranks*4/rate, 8*figures['bytes']/float(gbps)/1e9
        assert max(2e-3, sending)*(1 - 1e-5) <= seconds <= (2e-3 + sending)*(1 + 1e-5)  # of rounded bytes
    for name, row in rows.items():
        slow, fast = row['samples_per_second'].values()
        if ranks == 1:
            assert row['fewer'] == 1 and slow == pytest.approx(fast)
        elif name != 'none':
            assert row['fewer'] > 1 and slow < fast and row['samples_per_second']['0.05'] > 0
    if ranks > 1:
        halves = [ranks*4/rows[name]['samples_per_second']['0.05'] - rows[name]['cost_ms']/1e3 - 2e-3
                  for name in ('none', 'fp16')]
        assert halves[1] == pytest.approx(halves[0]/2, rel=0.2)  # all but biases and small tensors


def test_where_a_method_begins_to_pay():
    speeds = [0.1, 1.0, 10.0]
    assert faster_below(speeds, np.array([-1.0, -0.5, 0.5])) == (pytest.approx(10**0.5), False)
    assert faster_below(speeds, np.array([0.1, 0.5, 0.5])) == (None, False)
    assert faster_below(speeds, np.array([-1, -1, -0.1])) == (10.0, True)
    assert tried([1.0, 16.0]) == pytest.approx([1, 2, 4, 8, 16]) and tried([3.0]) == [3.0]


def test_what_makes_no_sense_is_refused(monkeypatch):
    with pytest.raises(BadInput, match='--pace 0: virtual learners need a time'):
        found(pace=0)
    monkeypatch.setattr(convergence.launcher, 'size', lambda: (2, 'PMI_SIZE'))
    with pytest.raises(BadInput, match='PMI_SIZE=2: virtual learners live in one process'):
        found()


def test_the_command(hpcasr):
    args = 'bench', 'links', '--model', 'tiny', '--batch', 2, '--ranks', 2
    figures = json.loads(hpcasr(*args, '--gbps', '1,0.1', '--json').stdout)
    assert figures['gbps'] == [0.1, 1.0] and {row['name'] for row in figures['methods']} == {'none', *METHODS}
    for wrong in '0', 'x', '1,-1', 'inf':
        assert 'give numbers of more than 0' in hpcasr(*args, '--gbps', wrong, status=2).stderr
