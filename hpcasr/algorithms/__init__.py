"""The distributed-SGD algorithms, looked up by the name that `--algo` takes."""

import difflib

from hpcasr.algorithms.async_decentralized import AsyncDecentralized
from hpcasr.algorithms.async_ps import AsyncPS
from hpcasr.algorithms.bmuf import Bmuf
from hpcasr.algorithms.delay_by_one import DelayByOne
from hpcasr.algorithms.easgd import Easgd
from hpcasr.algorithms.hierarchical import Hierarchical
from hpcasr.algorithms.hogwild import Hogwild
from hpcasr.algorithms.local_sgd import LocalSGD
from hpcasr.algorithms.push_sum import PushSum
from hpcasr.algorithms.sync_allreduce import SyncAllreduce
from hpcasr.algorithms.sync_decentralized import SyncDecentralized
from hpcasr.algorithms.sync_ps import SyncPS
from hpcasr.errors import BadInput

ALGORITHMS = {cls.name: cls for cls in [SyncAllreduce, SyncPS, LocalSGD, Bmuf, SyncDecentralized, DelayByOne, PushSum,
                                    AsyncPS, AsyncDecentralized, Hierarchical, Easgd, Hogwild]}
SYNCHRONOUS = [name for name, cls in ALGORITHMS.items() if not cls.asynchronous]


def get_algorithm(name):
    """The class called `name`; raises BadInput naming the nearest one."""
    if name not in ALGORITHMS:
        near = difflib.get_close_matches(name, ALGORITHMS, 1, 0)[0]
        raise BadInput(f'--algo={name}: there is no such algorithm; did you mean {near}? '
                       f'(there are: {", ".join(ALGORITHMS)})')
    return ALGORITHMS[name]
