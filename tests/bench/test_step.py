import json

import numpy as np
import pytest
from click.testing import CliRunner

from hpcasr.backend import get_backend
from hpcasr.backend.base import Ops
from hpcasr.bench import step
from hpcasr.cli.bench import bench
from hpcasr.config import Model
from hpcasr.errors import BadInput, CheckFailed
from hpcasr.model.network import build
from hpcasr.model.presets import resolve


def network(**model):
    return build(Model(**model), 5, 7, 'float32', get_backend('reference'))


def test_flops_of_a_blstm_by_hand():
    net = network(preset='tiny', kind='blstm', layers=1, cells=3)
    inputs, recurrent, softmax = 2*5*12, 2*3*12, 6*7  # two directions
    forward = inputs + recurrent + softmax
    backward = inputs + 2*recurrent + 2*softmax  # no dx of the features
    assert step.flops(net, 10) == 2*10*(forward + backward)


def test_flops_of_a_dnn_by_hand():
    net = network(preset='dnn', layers=2, cells=4)
    assert step.flops(net, 3) == 2*3*(2*5*4 + 3*4*4 + 3*4*7)


@pytest.mark.parametrize('preset', ['tiny', 'mid', 'dnn'])
def test_the_gradient_passes(preset):
    step.check(resolve(Model(preset)), get_backend('reference'))


def test_a_wrong_backend_is_not_timed(monkeypatch):
    class Wrong(Ops):
        def affine(self, x, W, b):
            y, backward = super().affine(x, W, b)

            def wrong(dy, dW, db, need_dx=True):
                dx = backward(dy, dW, db, need_dx)
                dW *= 1.001
                return dx
            return y, wrong

    monkeypatch.setattr(step, 'get_backend', lambda name: Wrong())
    monkeypatch.setattr(step, 'times', lambda *_: pytest.fail('it was timed'))
    with pytest.raises(CheckFailed, match='central difference'):
        step.bench(['tiny'], step.Shape(), 1)


def test_an_unknown_preset():
    with pytest.raises(BadInput, match='did you mean tiny'):
        step.bench(['tinny'], step.Shape(), 1)


@pytest.mark.parametrize('shape', [dict(dim=10**10), dict(targets=10**10), dict(batch=10**9), dict(chunk=10**9)])
def test_what_no_memory_holds(shape):
    with pytest.raises(BadInput, match=r'tiny: needs more than \d+ GB, this machine has .*; give a smaller model'):
        step.bench(['tiny'], step.Shape(**shape), 1)


@pytest.mark.parametrize('option', ['--dim', '--targets', '--batch', '--chunk'])
def test_what_no_option_takes(option):
    done = CliRunner().invoke(bench, ['step', option, '100000000'])
    assert done.exit_code == 2 and 'is not in the range' in done.output


def test_a_step_changes_the_parameters():
    net = network(preset='tiny')
    net.init(0)
    before = net.params.data.copy()
    step.stepper(net, step.Shape(batch=2, chunk=3, dim=5, targets=7))()
    assert not np.array_equal(before, net.params.data)


def test_json():
    out = CliRunner().invoke(bench, 'step --model tiny --batch 2 --chunk 3 --repeats 2 --json'.split()).stdout
    found = json.loads(out)
    row, = found['models']
    assert (found['batch'], found['chunk'], found['dim'], found['targets'], found['repeats']) == (2, 3, 40, 72, 2)
    assert row['model'] == 'tiny' and row['parameters'] == 23368
    assert 0 < row['min_ms'] <= row['ms']
    assert row['frames_per_second'] == pytest.approx(6/row['ms']*1e3)
    assert row['gflops'] == pytest.approx(row['gflop']/row['ms']*1e3)
    assert row['share'] == pytest.approx(row['gflops']/row['gemm_gflops'])


def test_a_table():
    lines = CliRunner().invoke(bench, 'step --model tiny --batch 2 --chunk 3 --repeats 2'.split()).stdout.splitlines()
    assert lines[0].split()[:3] == ['model', 'parameters', 'ms'] and lines[1].startswith('tiny')
