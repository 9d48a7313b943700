"""A training step of ours beside PyTorch's, on the same weights and data, in turn in the same processes."""

from dataclasses import dataclass
from time import perf_counter, process_time

import numpy as np

from hpcasr import config as configuration
from hpcasr.bench.algorithms import Runner, crowd
from hpcasr.bench.floor import Machine, floor
from hpcasr.bench.paired import order, ratio
from hpcasr.bench.step import Shape, flops, refuse_too_large
from hpcasr.bench.table import table
from hpcasr.bench.variants import Variant
from hpcasr.bench.wrong import Wrong
from hpcasr.config import resolve
from hpcasr.errors import BadInput
from hpcasr.model.params import FRAMES, LOSS

OURS = Variant('sync-allreduce')
NEAR = 2e-5  # relative to the largest entry of a parameter's gradient; to the loss
AS_FAR = 2  # times as far from float64 as PyTorch in bf16: rounding turns units of a ReLU on and off, in both alike
VECTORS = 9  # as long as the model: parameters, gradient and momentum of ours, two of PyTorch, two of its float64
BLOCK = 4  # steps in turn where there are several ranks: they meet before each block
WARMUP = 2  # blocks
COLUMNS = {'model': ('model', ''), 'precision': ('precision', ''), 'batch': ('batch', ''),
           'torch_ms': ('torch ms', '.2f'), 'torch_min_ms': ('min', '.2f'), 'ms': ('ours ms', '.2f'),
           'min_ms': ('min', '.2f'), 'ratio': ('torch/ours', '.3f'), 'low': ('low', '.3f'), 'high': ('high', '.3f'),
           'min_ratio': ('of min', '.3f'), 'cpu_ratio': ('of CPU time', '.3f'), 'gflops': ('GFLOP/s', '.1f'),
           'floor_ms': ('floor ms', '.2f'), 'over_floor': ('ours/floor', '.3f'), 'min_over_floor': ('of min', '.3f')}


@dataclass(frozen=True)
class Case:
    """`batch` samples of `chunk` frames of `dim` features, `targets` classes; `model`: keys of the configuration."""

    batch: int
    chunk: int
    dim: int
    targets: int
    model: tuple

    def config(self, precision):
        """The configuration of training with the kernels of this processor, by plain SGD.  Raises BadInput."""
        values = {f'model.{key}': value for key, value in self.model}
        return resolve(options=values | PRECISIONS[precision] | {
            'data.batch': self.batch, 'data.chunk': self.chunk, 'train.backend': 'cpu', 'optim.momentum': 0.0})

    @property
    def shape(self):
        return Shape(self.batch, self.chunk, self.dim, self.targets)


PRECISIONS = {'fp32': {}, 'bf16': {'train.precision': 'bf16'}}
RELU = ('preset', 'dnn'), ('activation', 'relu')
CASES = {
    'small': Case(32, 21, 40, 400, (('preset', 'small'),)),
    'mid': Case(64, 21, 40, 4000, (('preset', 'mid'),)),
    'dnn4x256': Case(256, 1, 440, 400, (*RELU, ('layers', 4), ('cells', 256))),  # 440: 11 frames of 40 features
    'dnn6x2048': Case(256, 1, 440, 2000, RELU),
    'swb2000': Case(8, 21, 260, 32000, (('preset', 'swb2000'),)),
}


@dataclass
class Trial:
    """models: names of CASES, () for all; precisions: of PRECISIONS; blocks of each of ours and PyTorch's."""

    models: tuple = ()
    precisions: tuple = ('fp32',)
    blocks: int = 30


def bench(comm, trial, progress=iter, cases=CASES):
    """The figures, a dict, the same on every rank, after loss and gradients were compared.

    Raises BadInput, and Wrong for an answer that is not right, on all ranks alike.
    """
    comm.compare(vars(trial))
    theirs = comm.together(load)
    comm.arrange(0)
    chosen = comm.together(choose, comm, trial, cases)
    with theirs.group(comm):
        found = [duel(comm, theirs, *of, trial.blocks) for of in progress(chosen)]
    return {'torch': theirs.VERSION, 'library': comm.library, 'ranks': comm.size, 'blocks': trial.blocks,
            'steps': block(comm), 'models': found}


def load():
    """The module that knows PyTorch.  Raises BadInput where there is none."""
    try:
        from hpcasr.bench import torch_model
    except ImportError as e:
        raise BadInput(f'PyTorch cannot be loaded ({str(e).splitlines()[0]}); install it beside hpcasr: '
                       'pip install "hpcasr[torch]"') from None
    return torch_model


def choose(comm, trial, cases):
    """[(name, precision, Case, Config)].  Raises BadInput."""
    if len(set(comm.nodes)) > 1:
        raise BadInput('bench cpu compares ranks of one machine; start it on one')
    if unknown := [name for name in trial.models if name not in cases]:
        raise BadInput(f'no model {unknown[0]!r}; choose of {", ".join(cases)}')
    chosen = [(name, precision, cases[name], configured(cases[name], precision))
              for name in dict.fromkeys(trial.models or cases) for precision in dict.fromkeys(trial.precisions)]
    for *_, case, config in chosen:
        refuse_too_large(config.model, case.shape, VECTORS, crowd(comm.nodes))
    return chosen


def configured(case, precision):
    """The Config of a Case.  Raises BadInput where training knows no such precision."""
    if missing := [key for key in PRECISIONS[precision] if key not in configuration.KEYS]:
        raise BadInput(f'--precision {precision}: this version has no {missing[0]}')
    return case.config(precision)


def block(comm):
    """Steps of ours, or of PyTorch's, in turn."""
    return BLOCK if comm.size > 1 else 1


def duel(comm, theirs, name, precision, case, config, blocks):
    """The row of one model."""
    ours = comm.together(Runner, comm, OURS, config, case.shape)
    exact, other = (theirs.Peer(ours.network, ours.batch, of, comm.size > 1) for of in ('fp64', precision))
    off = check(comm, ours, exact, other, f'{name}, {precision}')
    del exact
    machine = Machine(ours.network.ops)
    figures = race(comm, (lambda steps: ours.run(ours.network, steps), other.run), blocks, machine)
    return {'model': name, 'precision': precision, 'batch': case.batch, 'chunk': case.chunk, **off,
            **row(comm, ours.network, case.shape.frames, machine, figures)}


def check(comm, ours, exact, other, title):
    """{loss_off, gradient_off}: how far ours is from `exact`, PyTorch in float64, at worst on any rank.

    With torch_ before: how far `other` is, PyTorch in this precision.  After one step of all from the same weights.
    Raises Wrong.
    """
    losses = [sum(comm.allgather(peer.run(1)))/comm.size for peer in (exact, other)]
    ours.run(ours.network, 1)
    p, truth = ours.network.params, (losses[0], exact.gradients())
    offs = {**offsets('', (p.slots[LOSS]/p.slots[FRAMES], p.g), truth),
            **offsets('torch_', (losses[1], other.gradients()), truth)}
    found = {key: max(float(of[key]) for of in comm.allgather(offs)) for key in offs}
    for part in 'loss', 'gradient':
        off, near = found[f'{part}_off'], NEAR + AS_FAR*found[f'torch_{part}_off']
        if not off <= near:  # NaN is not
            raise Wrong(f'{title}: {part} and that of PyTorch in float64 differ by {off:.3g} of it, more than '
                        f'{near:.3g}; not timed')
    return found


def offsets(prefix, found, truth):
    """Of a loss and of {name: gradient}."""
    (loss, gradients), (true_loss, true_gradients) = found, truth
    return {f'{prefix}loss_off': abs(loss - true_loss)/abs(true_loss),
            f'{prefix}gradient_off': max(furthest(gradients[name], g) for name, g in true_gradients.items())}


def furthest(x, y):
    """The largest difference relative to the largest entry of y."""
    return np.abs(x - y).max()/np.abs(y).max()


def race(comm, runs, blocks, machine):
    """[2, blocks, 2] of each, in turn: seconds a step of the slowest rank, and of all its processor time.

    In between a look at what the machine can do.
    """
    steps, mine = block(comm), np.empty((len(runs), WARMUP + blocks, 2))
    for turn in range(WARMUP + blocks):
        if turn in (0, WARMUP + blocks//2):
            machine.look()
        for k in order(len(runs), turn):
            comm.barrier()
            before = read()
            runs[k](steps)
            mine[k, turn] = (read() - before)/steps
    return np.max(comm.allgather(mine[:, WARMUP:]), 0)


def read():
    """Now; and the time that the threads of this process had a core: what others do there is not in it."""
    return np.array([perf_counter(), process_time()])


def row(comm, network, frames, machine, figures):
    """Times in milliseconds; GFLOP/s of ours, on one rank; the floor of the rank that is worst off."""
    (ours, ours_cpu), (theirs, theirs_cpu) = figures.transpose(0, 2, 1)
    peak, bandwidth = (min(comm.allgather(speed)) for speed in (machine.peak, machine.bandwidth))
    work, least, typical = flops(network, frames), floor(network, frames, peak, bandwidth), float(np.median(ours))
    return {'torch_ms': 1e3*float(np.median(theirs)), 'torch_min_ms': 1e3*float(theirs.min()), 'ms': 1e3*typical,
            'min_ms': 1e3*float(ours.min()), **ratio(theirs, ours), 'min_ratio': float(theirs.min()/ours.min()),
            'cpu_ratio': float(np.median(theirs_cpu/ours_cpu)), 'cpu_ms': 1e3*float(np.median(ours_cpu)),
            'gflop': work/1e9, 'gflops': work/typical/1e9, 'peak_gflops': peak/1e9, 'copy_gb_per_s': bandwidth/1e9,
            'floor_ms': 1e3*least, 'over_floor': typical/least, 'min_over_floor': float(ours.min())/least}


def lines(found):
    """The figures as text."""
    ranks, rows = found['ranks'], found['models']
    against = f'DistributedDataParallel by gloo, {found["library"]}' if ranks > 1 else 'one thread'
    yield (f'PyTorch {found["torch"]}, {against}; {ranks} rank{"s"[:ranks > 1]}, {found["blocks"]} blocks of '
           f'{found["steps"]} step{"s"[:found["steps"] > 1]} of each in turn')
    yield ('torch/ours: median of the pairs and its 95 % interval; of the shortest; of processor time')
    for precision in dict.fromkeys(row['precision'] for row in rows):
        peak, copy = (max(row[key] for row in rows if row['precision'] == precision)
                      for key in ('peak_gflops', 'copy_gb_per_s'))
        yield (f'floor, {precision}: every operation at {peak:.0f} GFLOP/s (best product) or {copy:.0f} GB/s (copy), '
               'as measured beside each model')
    yield table(rows, COLUMNS)
