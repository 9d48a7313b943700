"""hpcasr where the last entry of what the last rank receives is wrong: python spoiling.py ARGUMENTS OF HPCASR..."""

import sys

from hpcasr import cli, faults
from tests.launch.unfit import after


def spoil():
    from hpcasr.bench.wire.pairs import Latency
    exact = Latency.run

    def run(test):
        exact(test)
        if not test.first and test.nbytes == 64:
            test.into[0][-1] += 1
    Latency.run = run


if __name__ == '__main__':
    faults.supervise = after(faults.supervise, spoil)
    sys.exit(cli.main(sys.argv[1:]))
