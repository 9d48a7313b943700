"""Going on from a checkpoint: whether it fits, and whether what follows is the same bit for bit."""

import numpy as np

from hpcasr.backend.base import Ops
from hpcasr.checkpoint import has_array, own_files, read_array
from hpcasr.comm.base import cuts
from hpcasr.errors import BadInput

# what gives the place in an epoch, and the saved state, their meaning
ORDER = 'data.chunk', 'data.seed', 'data.holdout', 'optim.optimizer', 'optim.schedule', 'train.algo'

# keys that change neither the parameters nor their order
CHANGES_NO_BIT = {'train.epochs', 'train.bucket', 'train.hang_timeout', 'train.max_skipped', 'checkpoint.every',
                  'checkpoint.keep', 'checkpoint.background', 'checkpoint.grace', 'report.every', 'report.tensorboard',
                  'data.ahead', 'exchange.progress', 'exchange.meet', 'exchange.sample'}


def require_same_shape(path, manifest, network):
    """BadInput unless the checkpoint is one of this model, on data of this dimension."""
    then, now = manifest['shape'], network.shape()
    different = [f'{k} {then.get(k)} in the checkpoint, {now.get(k)} now' for k in {**then, **now}
                 if then.get(k) != now.get(k)]
    if different:
        raise BadInput(f'{path}: is of another model or data: {"; ".join(different[:3])}; '
                       'give the store and --model it was trained with, or another --out')


def require_same_order(path, manifest, config, task):
    """BadInput unless the samples come in the same order, and the saved state is that of the same update."""
    then, now = manifest['config'], config.flat()
    for name in ORDER:
        if then.get(name) != now[name]:
            raise BadInput(f'{path}: was made with {name} = {then.get(name)}, not {now[name]}; keep it, or start anew '
                           'with another --out')
    if manifest['store'] != task.corpus.digest:
        raise BadInput(f'{path}: was trained on other data than {task.corpus.path} (the digests differ); give the same '
                       'store, or start anew with another --out')
    if manifest['total'] != len(task.chunks):
        raise BadInput(f'{path}: was trained {"with" if manifest["dev"] else "without"} --dev, on {manifest["total"]} '
                       f'samples, not {len(task.chunks)}; do the same now, or start anew with another --out')


def moved(manifest, versions, algorithm):
    """Whether learners have states of their own, and others than now wrote the checkpoint."""
    then = manifest['versions']
    own = algorithm.own_state or (algorithm.compressed and any(name.startswith('rank') for name in manifest['files']))
    return bool(own) and any(then.get(k) != versions[k] for k in algorithm.placed_by)


HOST = Ops()  # of states that are updated there


class Former:
    """The learners who wrote a checkpoint, for those who go on from it in another number, or on other nodes.

    files   of their states, in learner order
    part    of each file, which holds the state in question
    All methods are called by the latter together.  Each reads its slice of every vector of every file: no more than a
    part of one model is in memory, and everything is read once.
    """

    def __init__(self, path, manifest, comm, part, ops=HOST):
        self.files, self.comm, self.part, self.ops = own_files(path, manifest), comm, part, ops
        if not self.files:
            raise BadInput(f'{path}: holds no file of any rank (rank0000.h5 ...); go on from another checkpoint, or '
                           'start anew with another --out')

    @property
    def count(self):
        return len(self.files)

    def has(self, name):
        """Whether their states hold the array `name`."""
        return self.comm.first(has_array, self.files[0], f'{self.part}/{name}')

    def average(self, state):
        """Every array of `state` {name: array} ← the mean of theirs, in place; a whole number is rounded."""
        for name, out in state.items():
            if out.ndim:
                self.join(out, self.mean, name)
            else:
                out[...] = round(self.comm.first(self.mean, name).item())

    def common(self, state):
        """Every vector of `state` ← what is the same for all of them."""
        for name, out in state.items():
            self.join(out, self.read, self.files[0], name)

    def join(self, out, find, *args):
        """out ← find(*args, slice), each learner its slice."""
        bounds = cuts(out.size, self.comm.size)
        mine = slice(*bounds[self.comm.rank:self.comm.rank + 2].tolist())
        whole = self.ops.host(out)
        whole[mine] = self.comm.together(find, *args, mine)
        self.comm.share_slices(whole, bounds)
        self.ops.assign(out, whole)

    def mean(self, name, entries=()):
        """The mean of their arrays `name`, added up in learner order in float64."""
        total = self.read(self.files[0], name, entries).astype(np.float64)
        for file in self.files[1:]:
            total = total + self.read(file, name, entries)
        return total/self.count

    def read(self, file, name, entries):
        return read_array(file, f'{self.part}/{name}', entries)


def not_bit_for_bit(manifest, versions, config, task):
    """What differs from the run that made the checkpoint, in words; '' if the next steps are the same bits."""
    then, asked = manifest['versions'], manifest['config']
    changed = [f'{k} {then.get(k)} then, {versions[k]} now' for k in versions if then.get(k) != versions[k]]
    changed += [f'{k} = {asked.get(k)} then, {v} now' for k, v in config.flat().items()
                if asked.get(k) != v and k not in CHANGES_NO_BIT]
    changed += ['other held-out data']*(manifest['dev'] != task.dev_digest)
    return f'; not bit-identical from here: {"; ".join(changed)}' if changed else ''
