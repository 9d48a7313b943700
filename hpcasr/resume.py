"""Going on from a checkpoint: whether it fits, and whether what follows is the same bit for bit."""

from hpcasr.errors import BadInput

# what gives the place in an epoch, and the saved state, their meaning
ORDER = 'data.chunk', 'data.seed', 'data.holdout', 'optim.optimizer', 'optim.schedule', 'train.algo'

# keys that change neither the parameters nor their order
CHANGES_NO_BIT = {'train.epochs', 'train.bucket', 'checkpoint.every', 'checkpoint.keep', 'report.every',
                  'report.tensorboard', 'data.ahead'}


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


def require_same_ranks(path, manifest, ranks):
    """BadInput unless every learner finds its own part in the checkpoint."""
    then = manifest['versions'].get('ranks')
    if then != ranks:
        raise BadInput(f'{path}: holds the models of {then} ranks, and there are {ranks} now; start {then} ranks, or '
                       'start anew with another --out')


def not_bit_for_bit(manifest, versions, config, task):
    """What differs from the run that made the checkpoint, in words; '' if the next steps are the same bits."""
    then, asked = manifest['versions'], manifest['config']
    changed = [f'{k} {then.get(k)} then, {versions[k]} now' for k in versions if then.get(k) != versions[k]]
    changed += [f'{k} = {asked.get(k)} then, {v} now' for k, v in config.flat().items()
                if asked.get(k) != v and k not in CHANGES_NO_BIT]
    changed += ['other held-out data']*(manifest['dev'] != task.dev_digest)
    return f'; not bit-identical from here: {"; ".join(changed)}' if changed else ''
