"""Samples per second of every algorithm, on ranks that share the GPU: `hpcasr bench algorithms` with this backend."""

import json
import pathlib
import tempfile

from hpcasr.bench.gpu.jobs import HPCASR, mpirun, together
from hpcasr.errors import CheckFailed

SECONDS = 110
RANKS = 2  # they take turns on the GPU: that exchanges work is shown, not how they scale


def measure(sizes):
    with tempfile.TemporaryDirectory() as name:
        folder, out = pathlib.Path(name), pathlib.Path(name)/'found.json'
        command = [*mpirun(RANKS), *HPCASR, 'bench', 'algorithms', *sizes.race, '--json']
        status, said = together(folder, [('algorithms', ['sh', '-c', '"$@" >"$0"', str(out), *command])],
                                SECONDS)['algorithms']
        if status:
            raise CheckFailed(f'bench algorithms: status {status}: {said}')
        found = json.loads(out.read_text())
    keys = 'label', 'ms', 'samples_per_second', 'compute', 'exchange', 'waiting', 'off'
    yield from ({key: row[key] for key in keys} for row in found['algorithms'])
