"""The network of a Network in PyTorch on a GPU, in PyTorch's own best ways, to be timed beside it."""

import warnings
from itertools import pairwise

import torch
from torch import nn

from hpcasr.bench.step import LR
from hpcasr.bench.torch_model import Peer

DEVICE = 'cuda' if torch.cuda.is_available() else 'cpu'  # the latter in tests alone
MOMENTUM = 0.9


def products(precision):
    """Of float32, or of tf32, in cuBLAS and cuDNN from here on: their defaults differ."""
    with warnings.catch_warnings(action='ignore'):  # newer names of the same come and go
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = precision != 'fp32'


def describe():
    """{package: version}."""
    return {'torch': torch.__version__, 'cudnn': torch.backends.cudnn.version()}


class GpuPeer(Peer):
    """The same weights and Batch as a learner of ours, on the GPU from the start; nobody waits for the loss.

    precision   fp32, tf32; bf16: autocast, weights in float32 as ours; 'bf16 weights': all of the module in bf16
    """

    def __init__(self, network, params, batch, precision):
        from hpcasr.bench.torch_model import stack
        products(precision)
        self.net, self.places = stack(network)
        self.load(params)
        kind = torch.bfloat16 if precision == 'bf16 weights' else torch.float32
        self.net.to(DEVICE, kind)
        self.x = torch.tensor(batch.x).to(DEVICE, kind)
        self.y = torch.tensor(batch.targets).long().flatten().to(DEVICE)
        self.cast = precision == 'bf16'
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=LR, momentum=MOMENTUM,
                                         **({'fused': True} if DEVICE == 'cuda' else {}))
        self.last = None

    def autocast(self):
        return torch.autocast(DEVICE, torch.bfloat16, self.cast)

    def step(self):
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            loss = nn.functional.cross_entropy(self.net(self.x).flatten(0, 1), self.y)
        loss.backward()
        self.optimizer.step()
        self.last = loss.detach()

    def loss(self):
        """Mean cross-entropy of the last step, in nats."""
        return float(self.last)


class Recurrence:
    """The layers of LSTM of a peer alone: forward, and forward with backward for the derivatives dy, random ones."""

    def __init__(self, peer):
        self.peer, self.layers = peer, peer.net[0]
        with torch.no_grad():
            self.dy = torch.randn_like(self.forward())

    @torch.no_grad()
    def forward(self):
        with self.peer.autocast():
            return self.layers(self.peer.x)

    def both(self):
        self.layers.zero_grad(set_to_none=True)
        with self.peer.autocast():
            y = self.layers(self.peer.x)
        y.backward(self.dy)


class Head:
    """The softmax layer of a peer with its loss, forward and backward, and the loss alone, of random input."""

    def __init__(self, peer):
        self.peer, self.layer = peer, peer.net[-1]
        kind = self.layer.weight.dtype
        self.x = torch.randn(len(peer.y), self.layer.in_features, device=DEVICE, dtype=kind, requires_grad=True)
        with torch.no_grad(), peer.autocast():
            logits = self.layer(self.x)
        self.logits = logits.requires_grad_()

    def both(self):
        self.x.grad = None
        self.layer.zero_grad(set_to_none=True)
        with self.peer.autocast():
            loss = nn.functional.cross_entropy(self.layer(self.x), self.peer.y)
        loss.backward()

    def cross_entropy(self):
        self.logits.grad = None
        with self.peer.autocast():
            loss = nn.functional.cross_entropy(self.logits, self.peer.y)
        loss.backward()


def graph(work):
    """`work` as a CUDA graph, a function that launches it; None where it cannot be captured, or on the processor."""
    if DEVICE == 'cpu':
        return None
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            work()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    found = torch.cuda.CUDAGraph()
    with torch.cuda.graph(found):
        work()
    return found.replay


def laps(work, n):
    """Seconds of each of n calls, one behind the other, between events of the device."""
    if DEVICE == 'cpu':
        from hpcasr.bench.gpu.clock import timed
        return [timed(work) for _ in range(n)]
    marks = [mark()]
    for _ in range(n):
        work()
        marks.append(mark())
    torch.cuda.synchronize()
    return [1e-3*a.elapsed_time(b) for a, b in pairwise(marks)]


def mark():
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def kernels(work, most=6):
    """[(name, calls, milliseconds)] of what takes longest on the GPU: which algorithm of cuDNN was chosen."""
    from torch.profiler import ProfilerActivity, profile
    with profile(activities=[ProfilerActivity.CUDA if DEVICE == 'cuda' else ProfilerActivity.CPU]) as seen:
        work()
        if DEVICE == 'cuda':
            torch.cuda.synchronize()
    took = sorted(((getattr(e, 'device_time_total', 0), e.key, e.count) for e in seen.key_averages()), reverse=True)
    return [(name[:90], calls, microseconds/1e3) for microseconds, name, calls in took[:most]]
