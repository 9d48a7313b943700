"""The algorithms in the variants that are worth comparing."""

import math
from dataclasses import dataclass
from itertools import product

from hpcasr.algorithms import ALGORITHMS, get_algorithm
from hpcasr.config import Config

USUAL = Config()


@dataclass(frozen=True)
class Variant:
    """An algorithm, and the keys of the configuration that make it this one: (('exchange.topology', 'ring'), ...)."""

    algo: str
    values: tuple = ()

    @property
    def label(self):
        """`sync-decentralized topology=ring`."""
        return ' '.join([self.algo, *(f'{key.split(".")[1]}={value}' for key, value in self.values)])

    def config(self, config):
        """`config` with this algorithm."""
        return config.with_values({'train.algo': self.algo, **dict(self.values)}, self.label)


def variants(names, varied, config=USUAL):
    """[Variant] of the algorithms called `names`, () for all, each once.  Raises BadInput for an unknown one.

    varied   {key: values}: an algorithm that names the key among its options comes once with each value, unless
             `config` has another one than the default
    """
    usual, chosen = USUAL.flat(), config.flat()
    varied = {key: values for key, values in varied.items() if chosen[key] == usual[key]}
    return [Variant(name, values) for name in dict.fromkeys(names or ALGORITHMS)
            for values in settings(get_algorithm(name).about.options, varied)]


def settings(options, varied):
    """All combinations of the values of those `options` that are varied: ((key, value), ...)."""
    keys = [key for key in varied if key in options]
    return [tuple(zip(keys, values, strict=True)) for values in product(*(varied[key] for key in keys))]


def several_nodes(name, ranks):
    """{key: values} with which an asynchronous algorithm has nodes to distinguish, if it does; synchronous ones: {}."""
    return {'exchange.node_size': (split(ranks),)} if get_algorithm(name).asynchronous else {}


def split(ranks):
    """Ranks of a node, so that there are several nodes: the largest divisor that is no larger than their number."""
    return max(d for d in range(1, math.isqrt(ranks) + 1) if ranks % d == 0)
