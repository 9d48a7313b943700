"""w_l ← mean_j w_j − a · g_l(w_l): the average of all models hides behind the compute of one step."""

import numpy as np

from hpcasr.algorithms.about import About
from hpcasr.algorithms.replicas import Replicas
from hpcasr.compress.takes import Takes
from hpcasr.model.params import SLOTS


class DelayByOne(Replicas):
    """w_l(k + 1) = mean_j w_j(k) − a · g_l(w_l(k))/n_l.

    AD-PSGD with a delay of one step: Cui et al. 2021, arXiv 2110.11199.  The sum is of a copy, as the network computes
    with the model meanwhile.  Momentum stays with its learner.
    """

    name = 'delay-by-one'
    resident = True
    about = About(
        family='AD-PSGD, bounded',
        rule='w_l(k + 1) = mean_j w_j(k) − a · g_l(w_l(k))',
        cites='Cui et al. 2021, arXiv 2110.11199',
        exchanges='models, averaged over all ranks behind the compute of a step',
        bytes_text='2V(L − 1)/L',
        bytes=lambda V, L, options: 2*V*(L - 1)/L,
        messages_text='2(L − 1)',
        messages=lambda L, options: 2*(L - 1),
        options=('exchange.reduce', 'exchange.node_size', 'exchange.meet', 'exchange.sample'),
        use='equal ranks where an exchange takes about as long as the compute of a step',
        avoid='ranks of unequal speed: none can be more than a step ahead')
    compression = Takes(
        why='averages the models of all ranks, of which a code says too little',
        instead='take sync-decentralized with --topology complete: by the same rule it adds coded differences to public'
                ' copies')

    def bind(self, params, optimizer):
        super().bind(params, optimizer)
        self.sum = self.comm.shared(params.size, params.dtype)

    def begin(self, x):
        np.copyto(self.sum, x)
        self.finish = self.start_sum(self.sum)

    def step(self, x, g, lr):
        self.finish()
        self.update(x, g, lr, before=lambda part: np.divide(self.sum[part], self.comm.size, out=x[part]))
        self.t += 1
        self.meetings.step(x, g[-SLOTS:])
