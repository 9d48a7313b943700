import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hpcasr.algorithms import ALGORITHMS
from hpcasr.algorithms.async_decentralized import AsyncDecentralized
from hpcasr.algorithms.sync_allreduce import SyncAllreduce
from hpcasr.bench import algorithms
from hpcasr.bench.algorithms import FAR, REFERENCE, Trial, bench, choose, crowd, lines, stray
from hpcasr.bench.wrong import Wrong
from hpcasr.comm.base import Comm
from hpcasr.comm.virtual import Link, World
from hpcasr.config import resolve
from hpcasr.errors import BadInput

FIELDS = {'label', 'algo', 'options', 'ms', 'samples_per_second', 'ratio', 'low', 'high', 'compute', 'exchange',
          'waiting', 'bytes', 'messages', 'off'}
FREE = [name for name, cls in ALGORITHMS.items() if cls.asynchronous]
SMALL = '--model', 'tiny', '--batch', 2, '--chunk', 3, '--blocks', 2
TRIAL = Trial(blocks=2, steps=2, dim=5, targets=7)


def config(**values):
    values = {'model.preset': 'tiny', 'model.cells': 4, 'data.batch': 2, 'data.chunk': 3, 'exchange.period': 2,
              **{key.replace('__', '.'): value for key, value in values.items()}}
    return resolve(options=values)


def simulated(size, link, trial=TRIAL, **values):
    """The figures of learners on a simulated clock: they are exact."""
    return World(size, link).run(lambda comm: bench(comm, config(**values), trial))[0]


def by_label(found):
    return {row['label']: row for row in found['algorithms']}


@pytest.mark.launch
@pytest.mark.parametrize('ranks', [0, 2])
def test_all_figures(hpcasr, ranks):
    found = json.loads(hpcasr('bench', 'algorithms', *SMALL, '--json', ranks=ranks).stdout)
    assert {row['algo'] for row in found['algorithms']} == set(ALGORITHMS)
    assert (found['ranks'], found['blocks'], found['steps'], found['pace']) == (max(ranks, 1), 2, 8, 0)
    for row in found['algorithms']:
        assert set(row) == FIELDS
        assert row['samples_per_second'] == pytest.approx(1e3*found['ranks']*2/row['ms'])
        assert row['compute'] + row['exchange'] + row['waiting'] == pytest.approx(1)
        assert 0 < row['low'] <= row['ratio'] <= row['high']
        assert (row['bytes'] > 0) == (ranks > 1)
    first = found['algorithms'][0]
    assert first['label'] == REFERENCE.label and (first['ratio'], first['off']) == (1, 0)


@pytest.mark.launch
def test_a_table_of_some_that_sleep(hpcasr):
    done = hpcasr('bench', 'algorithms', *SMALL, '--algo', 'sync-allreduce', '--pace', 1, '--steps', 3, ranks=2)
    text = done.stdout.splitlines()
    assert 'a step sleeps 1 ms' in text[0] and '2 ranks x 2 samples of 3 frames' in text[0]
    assert text[2].split()[:2] == ['algorithm', 'ms/step']
    assert [line.split('  ')[0] for line in text[3:]] == [REFERENCE.label, 'sync-allreduce']


@pytest.mark.parametrize('args, message', [
    (['--algo', 'sync-alreduce'], 'did you mean sync-allreduce'),
    (['--model', 'tinny'], 'did you mean tiny'),
    (['--algo', 'local-sgd', '--steps', 12], 'give a multiple of 8, or --set exchange.period=12'),
    (['--batch', 1000000, '--chunk', 1000], 'give fewer --algo, a smaller model, --batch or --chunk'),
    (['--set', 'exchange.node_size=2'], 'does not divide'),
    (['--pace', 'slow'], 'simulate.pace'),
    (['--blocks', 0], 'is not in the range'),
])
def test_bad_input_is_one_line(hpcasr, args, message):
    done = hpcasr('bench', 'algorithms', *SMALL, *args, status=2)
    assert message in done.stderr and done.stderr.count('\n') == 1 and not done.stdout


@pytest.mark.launch
def test_bad_input_is_said_once(hpcasr):
    done = hpcasr('bench', 'algorithms', '--algo', 'nothing', ranks=2, status=2)
    assert done.stderr.count('there is no such algorithm') == 1


@pytest.mark.parametrize('size', [1, 2, 3, 5])
def test_what_the_counters_say_on_a_simulated_clock(size):
    found = simulated(size, Link(1e-5, 1e9), train__bucket=10**6)
    V = 4*(2*4*4*(5 + 4 + 1) + 8*7 + 7 + 8)  # with the slots of the gradient
    row = by_label(found)['sync-allreduce']
    assert row['bytes'] == round(2*V*(size - 1)/size) and row['messages'] == 2*(size - 1)
    seconds = 2*(size - 1)*1e-5 + row['bytes']/1e9
    assert row['ms'] == pytest.approx(100 + 1e3*seconds, rel=1e-6)
    assert row['exchange'] == pytest.approx(seconds/(0.1 + seconds), rel=1e-4)
    assert row['ratio'] == pytest.approx(1)
    assert (found['nodes'] == 1 and 'ranks' in next(iter(lines(found)))) or size == 1


@pytest.mark.parametrize('size', [2, 3, 4])
def test_all_consensus_models_are_near_each_other(size):
    found = simulated(size, Link())
    assert {row['algo'] for row in found['algorithms']} == set(ALGORITHMS)
    assert all(row['off'] < (algorithms.SINE if row['algo'] in FREE else algorithms.NEAR)
               for row in found['algorithms'])
    assert all(row['off'] < 1e-5 for row in found['algorithms'] if row['algo'] in ('sync-allreduce', 'sync-ps'))


@pytest.mark.skipif('delay-by-one' not in ALGORITHMS, reason='it is not there yet')
def test_who_overlaps_is_faster_on_a_slow_network():
    found = by_label(simulated(4, Link(1e-4, 1e4), simulate__pace=50.0, train__bucket=10**6))
    assert found['delay-by-one']['ratio'] > 1.2 > found['sync-allreduce']['ratio']


def test_a_slow_learner_is_waited_for():
    found = by_label(simulated(2, Link(0, 1e12), simulate__slow_rank='1=3'))
    row = found['sync-allreduce']
    assert row['ms'] == pytest.approx(300, rel=1e-3)
    assert row['waiting'] == pytest.approx(1/3, rel=1e-3)  # of two learners, the fast one waits 2/3 of its time


def test_a_block_that_ends_between_a_pull_and_its_pushes():
    """Whoever is done with it keeps nobody waiting."""
    bounded = {'exchange__max_staleness': 3, 'exchange__pull_every': 4}
    found = simulated(3, Link(), Trial(('async-ps',), 2, 6, 5, 7), **bounded)
    assert len(found['algorithms']) == 3


class Still(SyncAllreduce):
    name = 'still'

    def step(self, x, g, lr):
        super().step(x, g, 0.0)


class Alone(SyncAllreduce):
    name = 'alone'

    def reduce(self, g, hi):
        """Nobody else's gradient."""


class Back(AsyncDecentralized):
    name = 'back'

    def step(self, x, g, lr):
        super().step(x, g, -lr)


class Far(AsyncDecentralized):
    name = 'far'

    def step(self, x, g, lr):
        super().step(x, g, 20*lr)


class Rigid(AsyncDecentralized):
    name = 'rigid'

    def step(self, x, g, lr):
        super().step(x, g, 0.0)


class Selfish(AsyncDecentralized):
    """There is no consensus."""

    name = 'selfish'

    def consensus(self, x):
        return x


class Undefined(SyncAllreduce):
    name = 'undefined'

    def step(self, x, g, lr):
        super().step(x, g, lr)
        x[0] = np.nan


@pytest.mark.parametrize('cls, size, message', [
    (Still, 1, 'the consensus is off by 1 of the way'), (Undefined, 1, 'the consensus is off by nan'),
    (Alone, 2, 'the ranks have 2 different consensus models'), (Back, 3, 'the consensus is off by 1 of the way'),
    (Far, 3, 'the consensus is off by inf of the way'), (Rigid, 3, 'the consensus is off by (nan|inf)'),
    (Selfish, 3, r'the ranks have \d different consensus models')])
def test_a_wrong_answer_is_not_timed(monkeypatch, cls, size, message):
    monkeypatch.setitem(ALGORITHMS, cls.name, cls)
    monkeypatch.setattr(algorithms, 'race', lambda *_: pytest.fail('it was timed'))
    trial = Trial((cls.name,), 2, 2, 5, 7)
    with pytest.raises(Wrong, match=message):
        World(size).run(lambda comm: bench(comm, config(), trial))


def test_parameters_that_overflow_later(monkeypatch):
    real = algorithms.race

    def spoil(comm, runners, *args):
        figures = real(comm, runners, *args)
        runners[-1].network.params.data[0] = np.inf
        return figures
    monkeypatch.setattr(algorithms, 'race', spoil)
    with pytest.raises(Wrong, match='not finite after the last step'):
        bench(Comm(), config(), Trial(('sync-allreduce',), 1, 2, 5, 7))


def test_the_reference_comes_first_and_once():
    mpi = resolve(options={'exchange.reduce': 'mpi'})
    assert [v.label for v in choose(Comm(), config(), Trial(('sync-allreduce',)))[0]] == [REFERENCE.label,
                                                                                          'sync-allreduce']
    assert choose(Comm(), mpi, Trial(('sync-allreduce',))) == ([REFERENCE], [])


class Nowhere(SyncAllreduce):
    name = 'nowhere'

    def __init__(self, comm, config):
        raise BadInput('not on this machine')


def test_who_cannot_run_here_is_left_out_unless_it_was_named(monkeypatch):
    monkeypatch.setitem(ALGORITHMS, 'nowhere', Nowhere)
    chosen, left_out = choose(Comm(), config(), TRIAL)
    assert left_out == ['nowhere'] and 'nowhere' not in [v.algo for v in chosen]
    assert Nowhere.name in [v.algo for v in choose(Comm(), config(), Trial(('nowhere',)))[0]]
    found = simulated(1, Link(), Trial(('sync-allreduce',), 1, 2, 5, 7))
    assert not any(line.startswith('not possible') for line in lines(found))
    assert 'not possible on these nodes: nowhere' in lines(found | {'left_out': left_out})


@given(st.floats(-180, 180), st.floats(0.4, 5), st.integers(0, 99))
def test_how_far_a_way_strays(degrees, length, seed):
    aim, other = np.linalg.qr(np.random.default_rng(seed).normal(size=(9, 2)))[0].T
    angle = np.radians(degrees)
    way = length*(np.cos(angle)*aim + np.sin(angle)*other)
    assert stray(way, 3*aim) == pytest.approx(abs(np.sin(angle)) if abs(degrees) < 90 else 1, abs=1e-6)


def test_ways_that_cannot_be_compared():
    x = np.ones(3)
    assert stray(1.1*FAR*x, x) == stray(x, 1.1*FAR*x) == np.inf
    assert np.isnan(stray(0*x, x)) and not stray(np.nan*x, x) <= 1


def test_periods_are_whole():
    with pytest.raises(BadInput, match='give a multiple of 8'):
        choose(Comm(), resolve(), Trial(('bmuf',), steps=4))


def test_the_fullest_node():
    assert crowd((0, 0, 1, 0)) == 3


@pytest.mark.mpi
def test_on_real_ranks():
    from hpcasr.comm.mpi import MPIComm
    comm = MPIComm()
    found = bench(comm, config(), TRIAL)
    assert {row['algo'] for row in found['algorithms']} == set(ALGORITHMS) and found['ranks'] == comm.size
    assert all(found == other for other in comm.allgather(found))
    assert '\n'.join(lines(found))
    comm.close()
