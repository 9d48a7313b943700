"""The output layer of a hybrid model: the posterior of every tied HMM state."""

from hpcasr.model.affine import Affine


class Softmax(Affine):
    """p(s | x_t) = softmax(x_t W + b)_s.  `forward` gives the logits; both methods below overwrite them."""

    def cross_entropy(self, ops, logits, targets, mask):
        """(Σ −ln p(target) in nats over the frames, frame errors, d logits of that sum)."""
        return ops.softmax_ce(logits, targets, mask)

    def log_posteriors(self, ops, logits):
        """ln p(s | x_t), [T, B, K]."""
        return ops.log_softmax(logits)
