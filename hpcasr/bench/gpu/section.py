"""One section, in a process of its own: python -m hpcasr.bench.gpu.section NAME FILE full|quick.

Rows are appended to FILE as they are found, one JSON object a line.
"""

import importlib
import json
import math
import sys

from hpcasr import process
from hpcasr.bench.gpu.sections import SIZES
from hpcasr.errors import BadInput, CheckFailed


def main(name, path, sizes):
    """The exit status: 0, or 1 or 2 with a line that says what is wrong."""
    process.tune()
    module = importlib.import_module(f'hpcasr.bench.gpu.{name}')
    try:
        with open(path, 'a') as file:
            for row in module.measure(SIZES[sizes]):
                print(json.dumps(plain(row), allow_nan=False), file=file, flush=True)
    except (BadInput, CheckFailed) as e:
        print(f'hpcasr: error: {e}', file=sys.stderr)
        return 2 if isinstance(e, BadInput) else 1
    return 0


def plain(x):
    """What JSON knows: numbers of NumPy as Python's, and what is not finite as text."""
    if isinstance(x, dict):
        return {key: plain(value) for key, value in x.items()}
    x = x.item() if hasattr(x, 'item') else x
    return str(x) if isinstance(x, float) and not math.isfinite(x) else x


if __name__ == '__main__':
    sys.exit(main(*sys.argv[1:]))
