"""From which sample on a run compresses what it sends."""

from dataclasses import replace

SPARSE = 'topk',  # an entry waits for its turn, for about 1/ratio steps: too long while the rate is rising


def settled(config, epoch_samples):
    """`config` with the sample in place of compress.after = -1; an epoch has `epoch_samples`.

    Deep gradient compression sends more in the beginning, too (Lin et al. 2018, arXiv 1712.01887, section 3.3).
    """
    if config.compress.after >= 0:
        return config
    after = int(config.optim.warmup*epoch_samples) if config.compress.method in SPARSE else 0
    return replace(config, compress=replace(config.compress, after=after))
