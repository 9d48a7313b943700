"""Block momentum: what K local steps of all learners have gained is filtered like a gradient."""

from dataclasses import replace

import numpy as np

from hpcasr.algorithms.local_sgd import LocalSGD
from hpcasr.errors import BadInput


class Bmuf(LocalSGD):
    """w_l ← w_l − a · g_l(w_l)/n_l;  after every K-th step, with the block's start `base`,

    G = mean_l w_l − base;  D ← η D + ζ G;  W ← W + D;  w_l ← base = W (classic) or W + η D (Nesterov).

    Blockwise model-update filtering: Chen and Huo 2016, ICASSP, doi 10.1109/ICASSP.2016.7472805.  Under a constant
    gradient a block moves W by 1/(1 − η) = L times what a learner gains in it.  G is measured from where the block
    began, and W is kept beside it: with the look-ahead kept in place of W a block would gain nearly twice as much.
    Local momentum is reset at the block.
    """

    name = 'bmuf'
    about = replace(
        LocalSGD.about,
        family='BMUF',
        rule='every K steps G = mean_l w_l − base; D ← η·D + ζ·G; W ← W + D; w_l ← base = W + η·D (or W)',
        cites='Chen and Huo 2016, ICASSP, doi 10.1109/ICASSP.2016.7472805',
        options=('exchange.period', 'exchange.block_momentum', 'exchange.block_rate', 'exchange.block_update',
                 'exchange.reduce', 'exchange.node_size', 'exchange.meet', 'exchange.sample'),
        use='a slow network and many ranks, where averaging alone learns too little per block',
        avoid='short runs: block momentum takes about 1/(1 − η) blocks to gather way; and the learning rate of other '
              'algorithms, which it then multiplies by as much: give a lower one')

    def __init__(self, comm, config):
        super().__init__(comm, config)
        options = config.exchange
        if -1 < options.block_momentum < 0:
            raise BadInput(f'exchange.block_momentum = {options.block_momentum}: give 0 or more, below 1; or -1 for '
                           '1 - 1/ranks')
        self.eta = 1 - 1/comm.size if options.block_momentum < 0 else options.block_momentum
        self.zeta, self.ahead = options.block_rate, {'classic': 0.0, 'nesterov': self.eta}[options.block_update]

    def bind(self, params, optimizer):
        super().bind(params, optimizer)
        self.W, self.D = params.data.copy(), np.zeros_like(params.data)

    def end_block(self, x):
        W, D, base = self.W, self.D, self.spare
        self.mix(base, [W, D], [1.0, self.ahead])
        self.agree(x, base)
        self.mix(D, [x, base, D], [self.zeta, -self.zeta, self.eta])
        self.mix(W, [W, D], [1.0, 1.0])
        self.mix(x, [W, D], [1.0, self.ahead])
        self.optimizer.forget()

    def consensus(self, x):
        """W at the end of a block; within one mean_l w_l − (base − W): what it has gained so far is not lost."""
        if self.t % self.period == 0:
            return self.W
        mean = super().consensus(x)
        self.mix(mean, [mean, self.D], [1.0, -self.ahead])
        return mean

    def state(self):
        return super().state() | {'W': self.W, 'D': self.D}

    def load(self, state):
        super().load(state)
        self.W[:], self.D[:] = state['W'], state['D']

    def regroup(self, former):
        told, x = super().regroup(former), self.params.data
        former.common({'D': self.D})
        self.W[:] = x
        self.mix(x, [self.W, self.D], [1.0, self.ahead])
        self.optimizer.forget()
        return told + ' without momentum, as at its start; block momentum stays'
