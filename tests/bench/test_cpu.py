import json

import numpy as np
import pytest

from hpcasr.backend import get_backend
from hpcasr.bench import cpu, floor
from hpcasr.bench.cpu import CASES, COLUMNS, Case, Trial, bench, choose, lines
from hpcasr.bench.step import Shape, flops
from hpcasr.bench.wrong import Wrong
from hpcasr.comm.base import Comm
from hpcasr.config import Model
from hpcasr.errors import BadInput
from hpcasr.kernels.cpu.processor import SUPPORTED
from hpcasr.model.network import build


def network(**model):
    return build(Model(**model), 5, 7, 'float32', get_backend('reference'))


def test_operations_of_a_dnn_by_hand():
    net = network(preset='dnn', layers=2, cells=4)
    done = list(floor.operations(net, 3))
    first, second, last = ((2*3*K*N, 4*(3*K + K*N + 3*N)) for K, N in ((5, 4), (4, 4), (4, 7)))
    assert sorted(done) == sorted([first]*2 + [second]*3 + [last]*3 + [(0, 4*5*3*4)]*2 + [(0, 4*2*3*7),
                                                                                          (0, 4*3*net.params.size)])


@pytest.mark.parametrize('kind, bottleneck', [('blstm', 3), ('lstm', 0), ('dnn', 0)])
def test_operations_are_those_of_bench_step(kind, bottleneck):
    net = network(preset='tiny', kind=kind, layers=3, cells=6, bottleneck=bottleneck)
    assert sum(of for of, _ in floor.operations(net, 10)) == flops(net, 10)


def test_the_floor_takes_the_slower_of_both():
    net = network(preset='tiny')
    work, moved = (sum(of) for of in zip(*floor.operations(net, 10), strict=True))
    assert floor.floor(net, 10, 1e9, np.inf) == pytest.approx(work/1e9)
    assert floor.floor(net, 10, np.inf, 1e9) == pytest.approx(moved/1e9)
    assert floor.floor(net, 10, 1e9, 1e9) > max(work, moved)/1e9


def test_the_models_are_those_of_the_presets():
    sizes = {name: build(case.config('fp32').model, case.dim, case.targets, 'float32', get_backend('reference'))
             for name, case in CASES.items() if name != 'swb2000'}
    assert {name: net.model.kind for name, net in sizes.items()} == {
        'small': 'blstm', 'mid': 'blstm', 'dnn4x256': 'dnn', 'dnn6x2048': 'dnn'}
    assert sizes['dnn4x256'].params.shapes['affine1.W'] == (440, 256)


@pytest.mark.parametrize('trial, message', [
    (Trial(('smal',)), 'choose of small, mid'),
    (Trial(('small',), ('bf16',)), None)])
def test_what_there_is_not(trial, message):
    if message is None and 'train.precision' in cpu.configuration.KEYS:
        pytest.skip('there is bf16')
    with pytest.raises(BadInput, match=message or 'no train.precision'):
        choose(Comm(), trial, CASES)


def test_without_pytorch(monkeypatch):
    monkeypatch.setitem(__import__('sys').modules, 'hpcasr.bench.torch_model', None)
    with pytest.raises(BadInput, match=r'pip install "hpcasr\[torch\]"'):
        bench(Comm(), Trial())


def test_every_precision_has_its_own_floor():
    rows = [dict.fromkeys(COLUMNS, 1.0) | {'model': 'm', 'precision': precision, 'batch': 1, 'peak_gflops': peak,
                                           'copy_gb_per_s': 10} for precision, peak in (('fp32', 100), ('bf16', 200))]
    found = {'torch': '2', 'ranks': 1, 'blocks': 1, 'steps': 1, 'models': rows}
    told = [line for line in '\n'.join(lines(found)).splitlines() if line.startswith('floor')]
    assert [line[:40] for line in told] == ['floor, fp32: every operation at 100 GFLO',
                                            'floor, bf16: every operation at 200 GFLO']


# beside PyTorch

needs_vectors = pytest.mark.skipif(not SUPPORTED, reason='this processor has no kernels of ours')
MODELS = [(('preset', 'tiny'), ('layers', 2), ('cells', 9), ('bottleneck', 4)),
          (('preset', 'tiny'), ('kind', 'lstm'), ('layers', 2), ('cells', 5)),
          (('preset', 'dnn'), ('layers', 2), ('cells', 7), ('activation', 'tanh'))]
TINY = {'tiny': Case(3, 4, 5, 6, (('preset', 'tiny'),))}
FIELDS = {'model', 'precision', 'batch', 'chunk', 'loss_off', 'gradient_off', 'torch_loss_off',
          'torch_gradient_off', 'torch_ms', 'torch_min_ms', 'ms',
          'min_ms', 'ratio', 'low', 'high', 'min_ratio', 'cpu_ratio', 'cpu_ms', 'gflop', 'gflops', 'peak_gflops',
          'copy_gb_per_s', 'floor_ms', 'over_floor', 'min_over_floor'}


@pytest.fixture
def torch_model():
    pytest.importorskip('torch', reason='needs PyTorch, extra `torch`')
    from hpcasr.bench import torch_model
    return torch_model


@pytest.fixture
def quick(monkeypatch):
    """A look at the machine that costs no second."""
    monkeypatch.setattr(floor, 'COPY', 1 << 10)


@pytest.mark.parametrize('model', MODELS, ids=['blstm', 'lstm', 'dnn'])
def test_the_same_loss_and_gradient(torch_model, model):
    case = Case(3, 4, 5, 6, model)
    net = build(case.config('fp32').model, case.dim, case.targets, 'float32', get_backend('reference'))
    net.init(1)
    batch = Shape(3, 4, 5, 6).random()
    peer = torch_model.Peer(net, batch, 'fp32')
    loss = net.loss_and_grad(batch)/batch.frames
    assert peer.run(1) == pytest.approx(loss, rel=1e-5)
    gradients = peer.gradients()
    assert set(gradients) == set(net.params.shapes)
    for name, gradient in gradients.items():
        assert cpu.furthest(net.params.g[name]/batch.frames, gradient) < 1e-5, name


@needs_vectors
def test_all_figures(torch_model, quick):
    found = bench(Comm(), Trial(blocks=2), cases=TINY)
    row, = found['models']
    assert set(row) == FIELDS and (found['ranks'], found['blocks'], found['steps']) == (1, 2, 1)
    assert 0 < row['min_ms'] <= row['ms'] and 0 < row['low'] <= row['ratio'] <= row['high']
    assert row['loss_off'] < 1e-5 and row['gradient_off'] < 1e-5
    assert row['over_floor'] == pytest.approx(row['ms']/row['floor_ms'])
    assert len('\n'.join(lines(json.loads(json.dumps(found)))).splitlines()) == 5


@needs_vectors
def test_bf16_is_as_near_to_float64_as_autocast(torch_model, quick):
    if 'train.precision' not in cpu.configuration.KEYS:
        pytest.skip('there is no bf16')
    row, = bench(Comm(), Trial(precisions=('bf16',), blocks=1), cases=TINY)['models']
    assert 1e-4 < row['gradient_off'] <= cpu.NEAR + cpu.AS_FAR*row['torch_gradient_off'] < 0.1


@needs_vectors
def test_a_wrong_gradient_is_not_timed(torch_model, quick, monkeypatch):
    right = torch_model.Peer.gradients
    monkeypatch.setattr(torch_model.Peer, 'gradients', lambda self: {k: 1.001*g for k, g in right(self).items()})
    monkeypatch.setattr(cpu, 'race', lambda *_: pytest.fail('it was timed'))
    with pytest.raises(Wrong, match='gradient and that of PyTorch in float64 differ by'):
        bench(Comm(), Trial(), cases=TINY)


@needs_vectors
@pytest.mark.launch
def test_two_ranks_beside_ddp(torch_model, hpcasr):
    found = json.loads(hpcasr('bench', 'cpu', '--model', 'dnn4x256', '--steps', 1, '--json', ranks=2).stdout)
    assert found['ranks'] == 2 and found['steps'] == cpu.BLOCK
    assert found['models'][0]['gradient_off'] < cpu.NEAR
