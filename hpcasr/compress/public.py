"""What neighbours know of each other's models: public copies, to which coded differences are added."""

import numpy as np

from hpcasr.compress import get_codec
from hpcasr.compress.feedback import Feedback
from hpcasr.compress.parcel import messages, padded, rest, room, tensors
from hpcasr.compress.striped import encoded
from hpcasr.optim.clip import norm2

STEPS = {'fp16': 1.0, 'bf16': 1.0, 'qsgd': 1.0, 'onebit': 0.5}  # γ; of topk it depends on what is sent
COARSE = 4  # bits of qsgd below which its errors are as large as what it says


def consensus_step(options):
    """γ of a config.Compress: 1 where codes are almost exact, less the less a message says.

    That of the theorem is so small that nobody uses it.  These bring models on rings, tori and complete graphs about as
    close together as can be where every step adds noise to them; twice as much drives them apart with topk.
    """
    if options.consensus_step >= 0:
        return options.consensus_step
    if options.method == 'topk':
        return min(1.0, 2*options.ratio)
    return 0.05 if options.method == 'qsgd' and options.bits < COARSE else STEPS[options.method]


class PublicCopies:
    """q_l = code of w_l − ŵ_l;  ŵ_l ← ŵ_l + decode(q_l), with learner l and all its neighbours alike.

    Then  w_l ← w_l + γ Σ_j T_lj (ŵ_j − ŵ_l):  CHOCO-Gossip of Koloskova, Stich and Jaggi 2019, arXiv 1902.00340.  T is
    symmetric and a copy has the same bits wherever it is, so the mean of the models stays, whatever codes leave out.
    There is no residual: what a message does not say is still in w_l − ŵ_l.  Copies need neighbours that stay.

    Biases and small tensors are sent as they are, behind the codes, and averaged as without compression.  Models are
    sent whole in the first exchange, after which they are known; so they are in the first one with other neighbours.

    copies    {learner: ŵ}, of this one and its neighbours in learner order, zero where nothing is encoded.  {}: nothing
              is known yet; without those of the neighbours: they will be asked for
    """

    idea = 'public: codes of what neighbours do not know yet'

    def __init__(self, comm, options, params, ops, start, weights):
        """options    a config.Compress
        start      start(x) of Comm.neighbourhood
        weights    {peer: T_lj} of this learner and its neighbours, in learner order
        """
        self.comm, self.options, self.ops, self.start_exchange, self.weights = comm, options, ops, start, weights
        self.peers = [peer for peer in weights if peer != comm.rank]
        self.large, self.n = tensors(params, options.least), params.size
        self.rest, self.codec = rest(self.large, params.size), get_codec(options, ops)
        self.unsaid = Feedback(self.codec, params.size, on=False)  # its r is w − ŵ after a message, for the metrics
        self.gamma, self.room = consensus_step(options), room(self.codec, self.large)
        self.whole = self.n - sum(piece.size for piece in self.large)
        self.copies, self.sent = {}, 0
        self.scratch = np.empty((2, ops.block), np.float32)

    def describe(self):
        """A line for the log."""
        coded, tensors = self.n - self.whole, len(self.large)
        return (f'compress  {self.options.method}, {self.idea}; {coded:,} parameters in {tensors} tensors, '
                f'{self.whole:,} others uncompressed, consensus step {self.gamma:.3g}'
                + f', from sample {self.options.after:,} on'*(self.options.after > 0))

    def start(self, x, step):
        """Begin telling the neighbours of x; return finish() -> (vectors, weights), whose sum is the mixed model.

        x must stay until finish() has been called, which mixes what was not encoded in it.
        """
        before = self.comm.bytes_sent
        finish = self.start_differences(x, step) if self.copies else self.start_whole(x)
        self.sent += self.comm.bytes_sent - before
        return finish

    def start_whole(self, x):
        """Send the model as it is; from then on it is known."""
        finish = self.start_exchange(x)

        def models():
            found = self.by_learner(finish(), x)
            self.copies = {peer: self.public(model) for peer, model in found.items()}
            return list(found.values()), list(self.weights.values())
        return models

    def start_differences(self, x, step):
        if len(self.copies) < len(self.weights):
            self.ask()
        message = self.message(x, step)
        finish = self.start_exchange(message)

        def mixture():
            came = self.by_learner(finish(), message)
            for peer, copy in self.copies.items():
                self.learn(copy, came[peer])
            self.average_rest(x, came)
            return [x, *self.copies.values()], [1.0, *map(self.pull, self.weights)]
        return mixture

    def by_learner(self, came, own):
        """{learner: what came from it, or is its own}, in learner order."""
        found = dict(zip(self.peers, came, strict=True)) | {self.comm.rank: own}
        return {peer: found[peer] for peer in self.weights}

    def public(self, model):
        """A copy of `model` to be public."""
        copy = model.copy()
        for part in self.rest:
            copy[part] = 0
        return copy

    def ask(self):
        """Get the copies of the neighbours from themselves, after a checkpoint that has the own one alone."""
        own = self.copies[self.comm.rank]
        self.copies = {peer: copy.copy() if peer != self.comm.rank else copy
                       for peer, copy in self.by_learner(self.start_exchange(own)(), own).items()}

    def message(self, x, step):
        """[bytes] codes of what x has and its copy has not, `room` bytes of them, then the rest of x as it is."""
        difference = x - self.copies[self.comm.rank]
        codes = encoded(self.unsaid, difference, self.large, self.comm.rank, step)
        message = np.zeros(self.room + padded(4*self.whole), np.uint8)
        message[:self.room] = codes
        np.concatenate([x[:0], *(x[part] for part in self.rest)], out=self.exact(message))
        self.unsaid.release()
        return message

    def exact(self, message):
        """What the message says of the rest."""
        return message[self.room:self.room + 4*self.whole].view(np.float32)

    def learn(self, copy, message):
        """copy ← copy + what the message says."""
        for piece, code in zip(self.large, messages(self.codec, message[:self.room], self.large), strict=True):
            self.codec.add(code, copy[piece.part])

    def average_rest(self, x, came):
        """x ← Σ_j T_lj w_j, where it was sent as it is."""
        vectors, at = [self.exact(message) for message in came.values()], 0
        mean = np.empty_like(vectors[0])
        self.ops.mix(mean, vectors, list(self.weights.values()), self.scratch)
        for part in self.rest:
            x[part], at = mean[at:at + part.stop - part.start], at + part.stop - part.start

    def pull(self, peer):
        """The weight of the copy of `peer` in the new model: γ (T − 1)_lj."""
        return self.gamma*(self.weights[peer] - (peer == self.comm.rank))

    def told(self):
        """{name: value} for the metrics of an epoch: of all learners the 2-norm of w − ŵ, and bytes sent here.

        Called by all learners together.
        """
        square, sent = np.sum(self.comm.allgather([norm2(self.unsaid.r)**2, self.sent]), axis=0).tolist()
        self.sent = 0
        return {'residual_norm': square**0.5, 'compressed_bytes': int(sent)}

    def apart(self):
        """All of the state is this learner's alone."""
        return {}

    def state(self):
        """{name: array}, not copies; those of the neighbours they have themselves."""
        return {'public': self.copies[self.comm.rank]} if self.copies else {}

    def load(self, state):
        self.copies = {self.comm.rank: self.public(state['public'])} if 'public' in state else {}

    def regroup(self):
        """Go on with other neighbours; return it in words."""
        self.copies = {}
        return 'public copies are made anew, of models that are sent whole once'
