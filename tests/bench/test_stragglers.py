import json

import numpy as np
import pytest

from hpcasr.algorithms import ALGORITHMS
from hpcasr.algorithms.async_decentralized import AsyncDecentralized
from hpcasr.bench import stragglers
from hpcasr.bench.stragglers import Trial, bench, choose, lines, speeds
from hpcasr.bench.variants import split
from hpcasr.bench.wrong import Wrong
from hpcasr.comm.base import Comm
from hpcasr.comm.virtual import Link, World
from hpcasr.config import resolve
from hpcasr.data.work import CounterWork
from hpcasr.errors import BadInput

FIELDS = {'label', 'algo', 'options', 'slow', 'waits', 'samples_per_second', 'ratio', 'low', 'high', 'exchange',
          'waiting', 'staleness', 'staleness_slow'}
SMALL = '--model', 'tiny', '--batch', 2, '--chunk', 3, '--pace', 2, '--steps', 4, '--blocks', 2
NAMES = [name for name in stragglers.USUAL if name in ALGORITHMS]


def config(**values):
    values = {'model.preset': 'tiny', 'model.cells': 4, 'data.batch': 2, 'data.chunk': 3, 'simulate.pace': 50.0,
              **{key.replace('__', '.'): value for key, value in values.items()}}
    return resolve(options=values)


def simulated(size, trial, **values):
    """The figures of learners on a simulated clock and a perfect network: they are exact."""
    return World(size, Link(0, 1e15)).run(lambda comm: bench(comm, config(**values), trial))[0]


def rows(found):
    return {(row['label'], row['slow']): row for row in found['algorithms']}


@pytest.mark.launch
@pytest.mark.parametrize('ranks', [0, 2, 4])
def test_all_figures(hpcasr, ranks):
    found = json.loads(hpcasr('bench', 'stragglers', *SMALL, '--slow', '1,2', '--json', ranks=ranks).stdout)
    assert {row['algo'] for row in found['algorithms']} == set(NAMES) and found['ranks'] == max(ranks, 1)
    assert [off['slow'] for off in found['off']] == [1, 2] and not found['left_out']
    for row in found['algorithms']:
        assert set(row) == FIELDS and row['waits'] != (ranks == 0 or ALGORITHMS[row['algo']].asynchronous)
        assert 0 < row['low'] <= row['ratio'] <= row['high'] and 0 <= row['exchange'] + row['waiting'] < 1


@pytest.mark.launch
def test_a_table(hpcasr):
    algos = '--algo', 'sync-allreduce', '--algo', 'async-decentralized'
    text = hpcasr('bench', 'stragglers', *SMALL, *algos, '--slow', 4, '--set', 'exchange.progress=thread',
                  ranks=3).stdout.splitlines()
    assert '3 ranks x 2 samples' in text[0] and 'a step sleeps 2 ms' in text[0]
    assert text[0].endswith('--progress thread')
    assert text[2].split()[:2] == ['algorithm', 'slow'] and text[3].split()[:2] == ['sync-allreduce', '4x']
    assert text[6].startswith('slow 4x: ') and '33.3% of it if all go at the pace of the slow rank' in text[6]
    assert text[7].startswith('  keep 90%: ') and text[8].startswith('  wait for each other: sync-allreduce')


@pytest.mark.parametrize('args, message', [
    (['--pace', 0], '--pace 0: the ranks sleep'), (['--pace', 'slow'], 'simulate.pace'),
    (['--slow', '0.5'], 'give factors of 1 or more'), (['--slow', '2,x'], 'give factors of 1 or more'),
    (['--slow', 'nan'], 'give factors of 1 or more'), (['--set', 'simulate.slow_rank=0=2'], 'give --slow'),
    (['--algo', 'async-pss'], 'did you mean'), (['--model', 'tinny'], 'did you mean tiny'),
    (['--set', 'exchange.node_size=2'], 'does not divide'), (['--blocks', 0], 'is not in the range')])
def test_bad_input_is_one_line(hpcasr, args, message):
    done = hpcasr('bench', 'stragglers', *SMALL, *args, status=2)
    assert message in done.stderr and done.stderr.count('\n') == 1 and not done.stdout


@pytest.mark.parametrize('size', [1, 2, 3, 4, 5])
def test_on_a_perfect_network_nobody_loses_but_who_waits(size):
    found = simulated(size, Trial(slow=(1.0, 2.0, 4.0), blocks=1, steps=12, dim=5, targets=7))
    assert {row['algo'] for row in found['algorithms']} == set(NAMES)
    for off in found['off']:
        f = off['slow']
        assert off['samples_per_second'] == pytest.approx((size - 1 + 1/f)*2/0.05, rel=1e-3)
        assert off['at_slowest'] == pytest.approx(size/f/(size - 1 + 1/f))
        for row in found['algorithms']:
            if row['slow'] == f and row['waits']:
                assert row['ratio'] == pytest.approx(off['at_slowest'], rel=1e-3), row
            elif row['slow'] == f and row['algo'] != 'hierarchical':
                assert row['ratio'] == pytest.approx(1, rel=1e-3), row


def test_a_slow_rank_holds_its_own_node_only():
    trial = Trial(('hierarchical',), slow=(4.0,), blocks=1, steps=20, dim=5, targets=7)
    found = rows(simulated(4, trial))
    row = found['hierarchical topology=ring node_size=2', 4.0]
    assert row['ratio'] == pytest.approx((2 + 2/4)/(3 + 1/4), rel=1e-3) and row['staleness_slow'] > row['staleness']


def test_who_is_slow_is_stale():
    found = rows(simulated(4, Trial(('async-decentralized', 'sync-allreduce'), (1.0, 4.0), 1, 20, 5, 7)))
    equal, slow = (found['async-decentralized topology=ring', f] for f in (1.0, 4.0))
    assert slow['staleness_slow'] > 2*equal['staleness_slow'] > 0
    assert found['sync-allreduce', 4.0]['staleness'] is None


def test_all_of_an_epoch_is_done_once_and_the_slow_one_does_less():
    def work(comm):
        racer = stragglers.alone(comm, config(), stragglers.Shape(2, 3, 5, 7))
        return [racer.run(4.0, 12)[0] for _ in range(3)]
    done = np.array(World(3).run(work))
    assert (done.sum(0) == 12*3*2).all() and (done[2] < done[0]/3).all()


def test_who_waits_takes_fewer_steps_beside_a_slow_one():
    racer = object.__new__(stragglers.Racer)
    racer.comm, racer.config, racer.work = Comm(), config(), None
    assert [racer.samples(f, 20) for f in (1, 4, 10, 100)] == [40, 10, 6, 6]
    racer.work = object.__new__(CounterWork)
    assert [racer.samples(f, 20) for f in (1, 100)] == [40, 40]


def test_speed_of_all():
    figures = np.array([[[8, 2.0, 0, 0]], [[2, 1.0, 0, 0]]])
    assert speeds(figures, True) == [6] and speeds(figures, False) == [5]


class Loses(AsyncDecentralized):
    name = 'loses'

    def exchange(self, x, g, lr):
        super().exchange(x, g, lr)
        self.published.own[:] *= 1.1


def test_a_model_that_moves_while_nobody_learns(monkeypatch):
    monkeypatch.setitem(ALGORITHMS, 'loses', Loses)
    with pytest.raises(Wrong, match='loses topology=ring: the consensus has moved by'):
        simulated(2, Trial(('loses',), (1.0,), 1, 2, 5, 7))


def test_work_that_gets_lost(monkeypatch):
    monkeypatch.setattr(CounterWork, 'draw', lambda self: iter([self.part_of(0, 2, 0, 1)]))
    with pytest.raises(Wrong, match='12 samples were handed out, not all'):
        simulated(2, Trial(('async-decentralized',), (1.0,), 1, 3, 5, 7))


def test_who_cannot_run_here_is_left_out_unless_it_was_named():
    def work(comm):
        comm.arrange(1)
        nodes = config(exchange__node_size=1)
        assert choose(comm, nodes, Trial())[1] == ['hogwild']
        return choose(comm, nodes, Trial(('hogwild',)))
    assert [v.algo for v in World(2).run(work)[0][0]] == ['hogwild']
    with pytest.raises(BadInput, match='share no memory'):
        simulated(2, Trial(('hogwild',), (1.0,), 1, 2, 5, 7), exchange__node_size=1)


@pytest.mark.parametrize('ranks, size', [(1, 1), (2, 1), (3, 1), (4, 2), (6, 2), (8, 2), (16, 4), (128, 8)])
def test_several_nodes(ranks, size):
    assert split(ranks) == size


@pytest.mark.mpi
def test_on_real_ranks():
    from hpcasr.comm.mpi import MPIComm
    comm = MPIComm()
    found = bench(comm, config(simulate__pace=2.0), Trial(slow=(1.0, 3.0), blocks=1, steps=3, dim=5, targets=7))
    assert all(found == other for other in comm.allgather(found)) and '\n'.join(lines(found))
    comm.close()
