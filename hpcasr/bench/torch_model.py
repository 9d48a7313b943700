"""The network of a Network in PyTorch, to be timed beside it; the one door to torch."""

import os
import tempfile
from contextlib import contextmanager, suppress

import torch
from torch import distributed, nn
from torch.nn.parallel import DistributedDataParallel

from hpcasr.bench.step import LR
from hpcasr.model.activation import Activation
from hpcasr.model.affine import Affine

ACTIVATIONS = {'sigmoid': nn.Sigmoid, 'relu': nn.ReLU, 'tanh': nn.Tanh}
VERSION = torch.__version__


class Peer:
    """The same weights and the same Batch as a learner of `bench algorithms`, in PyTorch's own best way on this CPU.

    One thread; oneDNN's LSTM; denormal numbers are zero while it computes; bf16 by autocast; fp64 to be compared with.
    With a process group (`group`) under DistributedDataParallel.  `network` and `batch` are only read.
    """

    def __init__(self, network, batch, precision, together=False):
        torch.set_num_threads(1)
        self.net, self.places = stack(network)
        dtype = torch.float64 if precision == 'fp64' else torch.float32
        self.net.to(dtype)
        self.load(network.params)
        self.x, self.y = torch.tensor(batch.x, dtype=dtype), torch.tensor(batch.targets).long().flatten()
        self.bf16 = precision == 'bf16'
        self.forward = self.net
        if together:
            self.forward = DistributedDataParallel(self.net, gradient_as_bucket_view=True, static_graph=True)
        self.optimizer = torch.optim.SGD(self.net.parameters(), lr=LR)

    def run(self, steps):
        """So many steps; the mean cross-entropy of the last, in nats."""
        with flushing():
            return [self.step() for _ in range(steps)][-1]

    def step(self):
        self.optimizer.zero_grad()
        with torch.autocast('cpu', torch.bfloat16, self.bf16):
            loss = nn.functional.cross_entropy(self.forward(self.x).flatten(0, 1), self.y)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    @torch.no_grad()
    def load(self, params):
        """Take the weights of a Params.  Where there are two biases, the second is 0."""
        for name, (first, *others) in self.places.items():
            first.copy_(torch.tensor(params[name].T))
            for other in others:
                other.zero_()

    def gradients(self):
        """{name: array} as in a Params, of the last step."""
        return {name: first.grad.numpy().T for name, (first, *_) in self.places.items()}


class Recurrent(nn.Module):
    """nn.LSTM without the states that it returns beside its output."""

    def __init__(self, *args, **options):
        super().__init__()
        self.lstm = nn.LSTM(*args, **options)

    def forward(self, x):
        return self.lstm(x)[0]


def stack(network):
    """(module, {name of a parameter in the Params: the module's tensors for it})."""
    places, parts = {}, []
    if network.model.kind != 'dnn':
        parts.append(recurrent(network, places))
    for layer in network.layers:
        if isinstance(layer, Affine):
            parts.append(affine(layer.name, *layer.shapes.values(), places))
        elif isinstance(layer, Activation):
            parts.append(ACTIVATIONS[layer.function]())
    return nn.Sequential(*parts), places


def affine(name, W, b, places):
    """nn.Linear for W [dim_in, dim_out]; its place noted."""
    layer = nn.Linear(*W)
    places |= {f'{name}.W': [layer.weight], f'{name}.b': [layer.bias]}
    return layer


def recurrent(network, places):
    """The nn.LSTM of all layers; its gates are i, f, g, o, as ours, and it has two biases, whose sum is ours."""
    m = network.model
    layer = Recurrent(network.dim, m.cells, m.layers, bidirectional=m.kind == 'blstm')
    for k in range(m.layers):
        directions = {f'blstm{k + 1}.forward': '', f'blstm{k + 1}.reverse': '_reverse'}
        for name, suffix in (directions if m.kind == 'blstm' else {f'lstm{k + 1}': ''}).items():
            for part, theirs in ('Wx', ('weight_ih',)), ('Wh', ('weight_hh',)), ('b', ('bias_ih', 'bias_hh')):
                places[f'{name}.{part}'] = [getattr(layer.lstm, f'{own}_l{k}{suffix}') for own in theirs]
    return layer


@contextmanager
def flushing():
    """Denormal numbers are zero, in this thread, meanwhile."""
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


@contextmanager
def group(comm):
    """The ranks of a Comm, all on one machine, are those of a gloo process group meanwhile; one rank needs none."""
    if comm.size == 1:
        yield
        return
    os.environ.setdefault('GLOO_SOCKET_IFNAME', 'lo')  # a host whose name nothing resolves has it, too
    folder = comm.allgather(tempfile.mkdtemp() if comm.rank == 0 else None)[0]
    path = f'{folder}/ranks'
    distributed.init_process_group('gloo', init_method=f'file://{path}', rank=comm.rank, world_size=comm.size)
    try:
        yield
    finally:
        distributed.destroy_process_group()
        with suppress(OSError):  # the last to leave empties it
            os.path.exists(path) and os.remove(path)
            os.rmdir(folder)
