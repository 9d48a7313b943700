import pytest

from hpcasr.algorithms import ALGORITHMS
from hpcasr.bench.variants import Variant, settings, variants
from hpcasr.config import Config
from hpcasr.errors import BadInput

VARIED = {'exchange.topology': ('ring', 'random-ring'), 'exchange.period': (4, 8)}


def test_all_combinations_of_the_options_it_has():
    assert settings(('exchange.meet',), VARIED) == [()]
    assert settings(('exchange.topology',), VARIED) == [(('exchange.topology', 'ring'),),
                                                        (('exchange.topology', 'random-ring'),)]
    assert len(settings(tuple(VARIED), VARIED)) == 4


def test_every_algorithm_that_exists():
    assert list(dict.fromkeys(v.algo for v in variants((), VARIED))) == list(ALGORITHMS)


def test_each_once():
    assert variants(('sync-allreduce', 'sync-allreduce'), {}) == [Variant('sync-allreduce')]


def test_a_choice_is_not_varied():
    chosen = Config().with_values({'exchange.node_size': 2}, 'test')
    varied = {'exchange.node_size': (0, 1)}
    assert len(variants(('sync-allreduce',), varied)) == 2
    assert variants(('sync-allreduce',), varied, chosen) == [Variant('sync-allreduce')]


def test_an_unknown_one():
    with pytest.raises(BadInput, match='did you mean sync-allreduce'):
        variants(('sync-alreduce',), {})


def test_what_it_is_called_and_what_it_sets():
    variant = Variant('sync-allreduce', (('exchange.reduce', 'mpi'), ('exchange.meet', 3)))
    assert variant.label == 'sync-allreduce reduce=mpi meet=3'
    config = variant.config(Config())
    assert (config.train.algo, config.exchange.reduce, config.exchange.meet) == ('sync-allreduce', 'mpi', 3)
