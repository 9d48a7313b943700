import pytest

from hpcasr.backend import get_backend
from hpcasr.config import Optim
from hpcasr.optim import get_optimizer


@pytest.fixture(scope='session')
def make_optimizer():
    def make(n, dtype='float64', **optim):
        return get_optimizer(Optim(**optim), n, dtype, get_backend('reference'))
    return make
