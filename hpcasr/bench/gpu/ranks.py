"""Ranks that share the GPU go the same way, bit for bit, as virtual learners in one process."""

import pathlib
import tempfile

from hpcasr.bench.gpu.jobs import done, mpirun, together, train

ALGORITHMS = 'sync-allreduce', 'sync-decentralized', 'bmuf'  # whose steps have one order
ANY_ORDER = 'async-ps', 'async-decentralized'  # of these the loss alone is told
SECONDS = 100


def measure(sizes):
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        wanted = [(algo, ranks) for ranks in sizes.ranks for algo in
                  (ALGORITHMS if ranks == sizes.ranks[0] else ALGORITHMS[:1])]
        free = [(algo, sizes.ranks[0]) for algo in ANY_ORDER]
        commands = [command for algo, ranks in wanted for command in both(folder, algo, ranks, sizes)]
        commands += [both(folder, algo, ranks, sizes)[0] for algo, ranks in free]
        ends = together(folder, commands, SECONDS)
        yield from (compare(folder, algo, ranks, ends) for algo, ranks in wanted)
        yield from (alone(folder, algo, ranks, ends) for algo, ranks in free)


def both(folder, algo, ranks, sizes):
    """The commands of the same run by ranks and by virtual learners."""
    options = ['--algo', algo, '--model', 'tiny', *sizes.jobs, '--epochs', 1]
    return [train(folder, f'{algo}-{ranks}-ranks', *options, launcher=mpirun(ranks)),
            train(folder, f'{algo}-{ranks}-virtual', *options, '--virtual', ranks)]


def compare(folder, algo, ranks, ends):
    """A row: off is 0 where the models have the same checksum."""
    found = [done(folder, f'{algo}-{ranks}-{how}') for how in ('ranks', 'virtual')]
    sums = [one.get('checksum') for one in found]
    same = None not in sums and len(set(sums)) == 1
    return row(f'{ranks} ranks, {algo}', [one.get('ce') for one in found], same, 0,
               *(ends[f'{algo}-{ranks}-{how}'] for how in ('ranks', 'virtual')))


def alone(folder, algo, ranks, ends):
    """A row: off is 0 where the run came to its end."""
    found = done(folder, f'{algo}-{ranks}-ranks')
    return row(f'{ranks} ranks, {algo}', [found.get('ce'), None], 'ce' in found, 0, ends[f'{algo}-{ranks}-ranks'])


def row(what, losses, right, bound, *ends):
    said = '; '.join(f'status {status}: {text}' for status, text in ends if status != 0)
    return {'what': what, 'ce': losses[0], 'ce_virtual': losses[1], 'off': float(not right), 'bound': bound,
            'right': right, 'said': said}
