"""`python -m tests.fuzz`: spoil the files of every reader, and tell what came of it."""

import argparse
import os
import resource
import signal
import sys
import tempfile
from pathlib import Path

from tests.fuzz import readers, seeds
from tests.fuzz.campaign import Campaign, kinds

HEAD = f'{"reader":12} {"cases":>7} {"read":>7} {"refused":>8} {"escapes":>8} {"lines":>6} {"seconds":>8}'


def main(argv=None):
    """0: no case has escaped."""
    asked = arguments(argv)
    os.environ['OPENBLAS_NUM_THREADS'] = '1'
    print(f'seed {asked.seed}; escapes are kept in {asked.keep}\n{HEAD}', flush=True)
    escapes = 0
    with tempfile.TemporaryDirectory(prefix='hpcasr-fuzz-') as folder:
        made = seeds.make(Path(folder)/'seeds', data=os.environ.get('HPCASR_DATA'))
        for reader in [r for r in readers.READERS if not asked.readers or r.name in asked.readers]:
            escapes += one(reader, made, Path(folder)/'work', asked)
    print('no escape' if not escapes else f'{escapes} ESCAPES')
    return int(escapes > 0)


def arguments(argv):
    known = [r.name for r in readers.READERS]
    parser = argparse.ArgumentParser(prog='python -m tests.fuzz', description=__doc__)
    parser.add_argument('readers', nargs='*', metavar='READER', help=f'of {", ".join(known)}; none: all')
    parser.add_argument('--cases', type=int, default=5000, help='of every reader')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--only', type=int, nargs='+', metavar='CASE', help='these cases')
    parser.add_argument('--keep', type=Path, default=Path('exp/fuzz'), metavar='DIR')
    asked = parser.parse_args(argv)
    if unknown := set(asked.readers) - set(known):
        parser.error(f'no reader is called {unknown.pop()}; choose of {", ".join(known)}')
    return asked


def one(reader, made, work, asked):
    """Print the line of a reader; how many cases have escaped."""
    work.mkdir(exist_ok=True)
    campaign = Campaign(reader, made/reader.seeds, work, asked.seed)
    campaign.begin()
    reader.read_whole(campaign.folder)
    found = campaign.run(asked.only or range(asked.cases))
    print(f'{reader.name:12} {found.cases:7} {found.told["done"]:7} {found.told["refused"]:8} {found.escapes:8} '
          f'{100*found.coverage:5.0f}% {found.seconds:8.1f}', flush=True)
    for how, case in kinds(found.first):
        print(f'    case {case}: {how}', flush=True)
    campaign.keep(found, asked.keep)
    return found.escapes


if __name__ == '__main__':
    signal.signal(signal.SIGINT, signal.default_int_handler)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.exit(main())
