"""The built-in task, learnt on the GPU and on the processor from the same seed: the same held-out cross-entropy."""

import pathlib
import tempfile

from hpcasr.bench.gpu.data import away, judged
from hpcasr.bench.gpu.jobs import done, together, train

NEAR = 0.005  # of the held-out cross-entropy
RUNS = {'processor': ('--backend', 'auto'), 'fp32': (), 'tf32': ('--precision', 'tf32'),
        'bf16': ('--precision', 'bf16')}
SECONDS = 110


def measure(sizes):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        ends = together(folder, [train(folder, run, '--model', 'tiny', *sizes.jobs, *own)
                                 for run, own in RUNS.items()], SECONDS)
        truth = done(folder, 'processor').get('ce', float('nan'))
        for run in RUNS:
            found = done(folder, run)
            ce, (status, said) = found.get('ce', float('nan')), ends[run]
            yield judged(f'held-out cross-entropy, {run}', away(ce, truth), NEAR, ce=ce, fer=found.get('fer'),
                         said=said if status else '')
