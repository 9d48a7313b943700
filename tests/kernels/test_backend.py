import numpy as np
import pytest

from hpcasr.backend import BACKENDS, get_backend
from hpcasr.config import Train
from hpcasr.errors import BadInput


def test_every_backend_is_found_by_its_name():
    assert all(type(get_backend(name)) is c for name, c in BACKENDS.items())


def test_the_configuration_offers_what_exists():
    choices = Train.__dataclass_fields__['backend'].metadata['choices']
    assert set(choices) == set(BACKENDS) and Train().backend in BACKENDS


def test_unknown_backend():
    with pytest.raises(BadInput, match="no backend 'gpu'; choose one of reference"):
        get_backend('gpu')


def test_asarray_copies_only_to_convert():
    x = np.zeros(3, 'float32')
    ops = get_backend('reference')
    assert ops.asarray(x) is x and ops.asarray(x, 'float32') is x and ops.asarray(x, 'float64').dtype == np.float64
