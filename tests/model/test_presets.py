import pytest

from hpcasr.config import Model
from hpcasr.errors import BadInput
from hpcasr.model.network import parameters
from hpcasr.model.params import count
from hpcasr.model.presets import PRESETS, resolve


def test_swb2000_has_the_parameters_of_the_paper():
    n = count(parameters(Model('swb2000'), 260, 32000))
    first, others = 2*(260 + 512 + 1)*4*512, 5*2*(1024 + 512 + 1)*4*512
    assert n == first + others + (1024 + 1)*256 + (256 + 1)*32000 == 43_130_368


@pytest.mark.parametrize(('preset', 'n'), [
    ('tiny', 2*(40 + 32 + 1)*4*32 + 65*72),
    ('small', 2*(40 + 128 + 1)*4*128 + 2*(256 + 128 + 1)*4*128 + 257*72),
    ('mid', 2*(40 + 256 + 1)*4*256 + 4*(512 + 256 + 1)*4*256 + 513*128 + 129*72),
    ('dnn', 41*2048 + 5*2049*2048 + 2049*72),
])
def test_size(preset, n):
    assert count(parameters(Model(preset), 40, 72)) == n


def test_nothing_set_is_the_preset():
    for name, preset in PRESETS.items():
        assert resolve(Model(name)) == preset


def test_what_is_set_overrides_the_preset():
    assert resolve(Model('mid', layers=2, bottleneck=0)) == Model('mid', 'blstm', 2, 256, 0, 'sigmoid', 0.0)
    assert resolve(Model('small', kind='dnn', cells=64, activation='relu', dropout=0.1)) == Model(
        'small', 'dnn', 2, 64, 0, 'relu', 0.1)


def test_unknown_preset_names_the_nearest():
    with pytest.raises(BadInput, match=r"no preset 'smal'; choose one of tiny, .*did you mean small\?"):
        resolve(Model('smal'))


@pytest.mark.parametrize(('values', 'message'), [
    (dict(layers=-1), r'model\.layers = -1; give 1 or more'),
    (dict(cells=-8), r'model\.cells = -8; give 1 or more'),
    (dict(bottleneck=-2), r'model\.bottleneck = -2; give 0 or more'),
    (dict(dropout=1.0), r'model\.dropout = 1\.0; give a probability'),
    (dict(dropout=float('nan')), r'model\.dropout = nan; give a probability'),
])
def test_impossible_shapes(values, message):
    with pytest.raises(BadInput, match=message):
        resolve(Model(**values))
