"""What a codec is: it writes a vector as a shorter message, and what the message does not say as a residual."""


class Codec:
    """v = g + r;  message ← code of v;  r ← v − decode(message).

    A codec keeps nothing between two messages: residuals belong to feedback.Feedback, which is the only one to make a
    codec's errors good.  Vectors are contiguous and float32, messages contiguous and uint8, beginning at addresses that
    are multiples of 8 and otherwise of any content before `encode`.  Vectors are finite: who encodes sees to it.

    name    as --compress has it
    every   entries of a block: a vector may be cut at multiples of it, and only there, without changing what is
            decoded; None: nowhere
    exact   whether decode(message) + r' is v bit for bit
    """

    name, every, exact = None, 1, False

    def __init__(self, ops, options):
        """ops: backend (backend.base.Ops);  options: a config.Compress."""
        self.ops, self.options = ops, options

    def suits(self, shape):
        """Whether a tensor of that shape is to be encoded."""
        return True

    def size(self, n):
        """Bytes of the message of n entries; where messages differ in length, the most that one can have.  size(0) = 0.
        """
        raise NotImplementedError

    def length(self, message):
        """Bytes of `message` that have to be sent; it may be cut there.  `message` has what `size` says."""
        return len(message)

    def encode(self, g, r, message, place=(0, 0, 0)):
        """message ← code of v = g + r;  r ← v − decode(message).  g [n] is untouched; `message` has size(n) bytes.

        place   (who, step, entry): learner, or -1 for who answers to all of them, step of training, and where in the
                model g begins.  Random numbers are a function of the seed, and of `place` for each entry: the same on
                ranks and on virtual learners, and however a vector was cut at multiples of `every`
        """
        raise NotImplementedError

    def decode(self, message, out):
        """out [n] ← what the message says."""
        raise NotImplementedError

    def add(self, message, out):
        """out [n] ← out + what the message says, which is zero where it says nothing."""
        raise NotImplementedError
