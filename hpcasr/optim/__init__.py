"""The update of the parameters, its rate, and the clipping before it."""

from hpcasr.optim.adam import Adam
from hpcasr.optim.sgd import SGD

OPTIMIZERS = {
    SGD.name: lambda config, *vector: SGD(*vector, config.momentum),
    Adam.name: lambda config, *vector: Adam(*vector, config.beta1, config.beta2, config.epsilon),
}


def get_optimizer(config, n, dtype, ops):
    """The optimizer of a config.Optim, for flat vectors of n entries: update(x, g, lr), state(), load(state) ..."""
    return OPTIMIZERS[config.optimizer](config, n, dtype, ops)
