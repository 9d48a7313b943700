"""Which parts of a model a codec works on, and how the messages of several of them lie in one parcel."""

from dataclasses import dataclass
from itertools import pairwise

from hpcasr.comm.base import cuts

GRID = 8  # bytes: where messages of a parcel begin


@dataclass(frozen=True)
class Piece:
    """Entries lo .. hi-1 of the model, whose sum learner `owner` makes, if one does; `shape` of a whole tensor."""

    lo: int
    hi: int
    owner: int = 0
    shape: tuple = ()

    @property
    def size(self):
        return self.hi - self.lo

    @property
    def part(self):
        return slice(self.lo, self.hi)


def padded(nbytes):
    """So many bytes, and those up to where the next message may begin."""
    return -(-nbytes//GRID)*GRID


def room(codec, pieces):
    """Bytes that a parcel with messages of `pieces` has at most."""
    return sum(padded(codec.size(piece.size)) for piece in pieces)


def messages(codec, parcel, pieces):
    """The message of each of `pieces` in a parcel, in their order."""
    at = 0
    for piece in pieces:
        message = parcel[at:at + codec.size(piece.size)]
        message = message[:codec.length(message)]
        yield message
        at += padded(len(message))


def tensors(params, least):
    """[Piece] of the tensors of a model.params.Params that are compressed: matrices of at least `least` entries.

    A vector, which is the bias of a layer, is compressed for least = 0 alone.
    """
    large = ((*span, params.shapes[name]) for name, span in params.spans.items()
             if not least or (len(params.shapes[name]) > 1 and span[1] - span[0] >= least))
    return [Piece(lo, hi, 0, shape) for lo, hi, shape in sorted(large) if hi > lo]


def rest(tensors, n):
    """[slice] the entries of a model of n that are in none of `tensors`."""
    ends = [0, *(end for tensor in tensors for end in (tensor.lo, tensor.hi)), n]
    return [slice(lo, hi) for lo, hi in zip(ends[::2], ends[1::2], strict=True) if hi > lo]


def striped(tensors, owners, every):
    """`tensors` in as many slices as there are owners, cut at multiples of `every` entries.

    So neither who owns an entry nor the block it is in depends on what else is exchanged with it.
    """
    for t in tensors:
        bounds = [min(t.lo + int(cut)*every, t.hi) for cut in cuts(-(-t.size//every), owners)]
        yield from (Piece(lo, hi, k) for k, (lo, hi) in enumerate(pairwise(bounds)) if hi > lo)


def of_servers(tensors, bounds):
    """`tensors`, cut where the slices bounds[k]:bounds[k + 1] of servers are."""
    for t in tensors:
        for k, (lo, hi) in enumerate(pairwise(bounds)):
            lo, hi = max(t.lo, int(lo)), min(t.hi, int(hi))
            if hi > lo:
                yield Piece(lo, hi, k)
