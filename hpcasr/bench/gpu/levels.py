"""The recurrence of a layer of LSTM in one launch, beside that of a product and a launch per step, which is right."""

from dataclasses import dataclass

import numpy as np

from hpcasr.backend import get_backend
from hpcasr.bench.gpu.beside import Recorded, milliseconds, of_block, race
from hpcasr.bench.gpu.clock import Clock
from hpcasr.bench.gpu.data import away, fresh, judged, poisoned, put, put_half
from hpcasr.bench.gpu.exact import config
from hpcasr.bench.paired import ratio
from hpcasr.kernels.cuda import lstm, persistent
from hpcasr.model.presets import resolve

BOUND = 1e-2  # bf16
K = 2  # directions


def measure(sizes):
    """Rows: whether states, gates and derivatives agree; milliseconds of all steps of a layer."""
    ops = get_backend('cuda', 'bf16')
    if ops.device.simulated:
        yield {'what': 'barriers between blocks are not simulated'}
        return
    for T, B, H in dict.fromkeys((case.chunk, case.batch, resolve(config(case, 'bf16').model).cells)
                                 for case in sizes.cases.values()):
        yield from compare(ops, T, B, H, sizes)


def compare(ops, T, B, H, sizes):
    room = persistent.room(H)
    plan = persistent.plan(T, B, H, K, room)
    what = {'frames': T, 'batch': B, 'cells': H}
    yield what | {'blocks at once': room.blocks, 'plan': f'{plan}'}
    if plan is None:
        return
    layer = Layer(ops.device, T, B, H, plan)
    yield from (row | what for row in agree(layer))
    for name in 'forward', 'backward':
        works = {'ours': Recorded(ops, getattr(layer, f'{name}_at_once')),
                 'steps': Recorded(ops, getattr(layer, f'{name}_by_step'))}
        laps = Clock(ops.device).laps
        seconds = race({key: of_block(laps, work, sizes.steps) for key, work in works.items()}, sizes.blocks)
        ms = milliseconds(seconds, 'ours')
        yield {'what': name, **what, 'at_once_ms': ms, 'by_step_ms': milliseconds(seconds, 'steps'),
               'us_per_step': 1e3*ms/T, **ratio(seconds['steps'], seconds['ours'])}


@dataclass
class Layer:
    """Both directions of a layer with random weights, and the memory of both ways to compute it."""

    device: object
    T: int
    B: int
    H: int
    plan: tuple

    def __post_init__(self):
        device, (T, B, H), rng = self.device, (self.T, self.B, self.H), fresh()[1]
        flat = put_half(device, rng.standard_normal((K, H, 4*H), np.float32)*H**-0.5)
        self.W = [flat[k] for k in range(K)]
        self.bias = [put(device, rng.standard_normal(4*H, np.float32)) for _ in range(K)]
        self.input = rng.standard_normal((K, T, B, 4*H), np.float32)
        self.dy = put(device, rng.standard_normal((T, B, K*H), np.float32))
        self.z, self.c = (poisoned(device, (K, T, B, n*H)) for n in (4, 1))
        self.y, self.dz = (poisoned(device, shape, np.uint16) for shape in ((T, B, K*H), (K, T, B, 4*H)))
        self.last, self.recurrent = poisoned(device, (K, B, H), np.uint16), poisoned(device, (K, B, 4*H))
        self.passed, self.dc = (poisoned(device, (K, B, H)) for _ in range(2))
        self.counters = device.zeros(persistent.counters(self.plan, K), np.uint32)

    def start(self):
        """z ← x Wx."""
        self.device.upload(self.z, self.input)
        self.device.synchronize()

    def forward_at_once(self):
        self.device.do(persistent.forward, self.plan, self.W, self.bias, None, self.z, self.c, self.y, self.counters)

    def forward_by_step(self):
        for s in range(self.T):
            if s:
                self.device.gemm(self.last, self.device.batch(*self.W), self.recurrent)
            self.device.do(lstm.forward, s, self.z, self.recurrent, self.bias, None, self.c, self.y, self.last)

    def backward_at_once(self):
        self.device.do(persistent.backward, self.plan, self.W, self.z, self.c, self.dy, self.dc, self.dz, self.counters)

    def backward_by_step(self):
        device, T = self.device, self.T
        for s in reversed(range(T)):
            if s < T - 1:
                device.gemm(device.batch(self.dz[0, s + 1], self.dz[1, T - 2 - s]),
                            device.batch(*(W.T for W in self.W)), self.passed)
            device.do(lstm.backward, s, self.z, self.c, self.dy, self.passed, self.dc, self.dz)


def agree(layer):
    """Rows: what one way leaves against what the other does; the second backward follows a forward of the other."""
    found = []
    for way in 'by_step', 'at_once':
        layer.start()
        getattr(layer, f'forward_{way}')()
        results = [layer.device.host(x) for x in (layer.y, layer.z, layer.c)]
        getattr(layer, f'backward_{way}')()
        found.append([*results, layer.device.host(layer.dz)])
    for what, exact, once in zip(('states', 'gates', 'cells', 'derivatives'), *found, strict=True):
        yield judged(what, away(number(once), number(exact)), BOUND)
    yield judged('counters left at zero', float(np.abs(layer.device.host(layer.counters)).max()), 0)


def number(x):
    """bf16 as float32; other types as they are."""
    return (x.astype(np.uint32) << 16).view(np.float32) if x.dtype == np.uint16 else x
