"""All learners together make two factors of a sum of matrices, by sums of factors alone."""

from math import sqrt

import numpy as np

from hpcasr.compress.carrier import Carrier
from hpcasr.compress.parcel import messages
from hpcasr.compress.powersgd import matrix
from hpcasr.compress.striped import encoded, nothing

NOISE = 1e-6  # of the length of a column: what is left of it beside the columns before it may be rounding alone


class Factored(Carrier):
    """P ← orth(Σ_l V_l Q);  N_l = V_lᵀ P;  Q ← Σ_l N_l;  x ← P Qᵀ;  R_l ← V_l − P N_lᵀ;  where V_l = G_l + R_l.

    PowerSGD: one step of the power iteration, which goes on from the Q of the step before (Vogels et al. 2019, arXiv
    1905.13727, algorithms 1 and 2).  Both sums are Comm.start_sum, so P and Q are the same bits on all learners.  The
    first sum goes on while backward does; the second, of all matrices in one vector for each bucket, begins when all
    is computed.

    pieces   [Piece] matrices
    warm     the Q of all of them, one behind the other; with columns scaled, which changes P only by rounding: else V Q
             would be of the square of large gradients
    begun    [Batch] of which the second sum has not begun
    """

    takes = 'powersgd',
    idea = 'factored: sums of two factors of each matrix'

    def __init__(self, comm, codec, tensors, feedback):
        self.comm, self.codec, self.pieces, self.begun = comm, codec, tensors, []
        self.first = feedback()
        self.ranks = [codec.rank(piece.shape) for piece in tensors]
        shapes = [(matrix(piece.shape)[1], r) for piece, r in zip(tensors, self.ranks, strict=True)]
        self.warm = drawn(codec.options.seed, tensors, shapes)
        self.factors = dict(zip(tensors, split(self.warm, shapes), strict=True))

    def start(self, x, lo, hi, step):
        """As Carrier.start."""
        pieces = [piece for piece in self.pieces if lo < piece.hi <= hi]
        if not pieces:
            return nothing
        factors, shapes = [self.factors[piece] for piece in pieces], [matrix(piece.shape) for piece in pieces]
        batch = Batch(self.comm, self.codec.ops, factors, shapes)
        parcel = encoded(self.first, x, pieces, self.comm.rank, step)
        batch.start([m.view(np.float32) for m in messages(self.codec, parcel, pieces)])
        self.begun.append((batch, pieces))

        def finish():
            self.turn()
            batch.deliver([x[piece.part] for piece in pieces])
        return finish

    def turn(self):
        """Begin the second sum of all that was begun: in the same order on all learners, as they were begun."""
        begun, self.begun = self.begun, []
        for batch, pieces in begun:
            self.first.unsound |= not batch.turn([self.first.r[piece.part] for piece in pieces])


class Batch:
    """Matrices whose factors are summed together.

    Q    [[columns, rank]] with which this step begins; in the end, with which the next one does
    P    [[rows, rank]],  N [[columns, rank]]: views of one vector each
    """

    def __init__(self, comm, ops, factors, shapes):
        self.comm, self.ops, self.Q, self.shapes = comm, ops, factors, shapes
        self.left, self.P = room([(rows, Q.shape[1]) for (rows, _), Q in zip(shapes, factors, strict=True)])
        self.right, self.N = room([Q.shape for Q in factors])

    @np.errstate(over='ignore', invalid='ignore')
    def start(self, vectors):
        """Begin P ← Σ_l V_l Q."""
        self.V = [v.reshape(shape) for v, shape in zip(vectors, self.shapes, strict=True)]
        for V, Q, P in zip(self.V, self.Q, self.P, strict=True):
            np.matmul(V, Q, out=P)
        self.end = self.comm.start_sum(self.left)

    @np.errstate(over='ignore', invalid='ignore')
    def turn(self, residuals):
        """Orthonormalize P; begin N ← Σ_l N_l; residuals ← what is not said.  False: it is too large to be said."""
        self.end()
        sound = bool(np.isfinite(self.left).all())
        for V, P, N, r in zip(self.V, self.P, self.N, residuals, strict=True):
            P[:] = orthonormal(P)
            np.matmul(V.T, P, out=N)
            if not np.isfinite(N).all():
                sound, N[:] = False, 0
            V -= P@N.T
            r += V.reshape(-1)
        self.end = self.comm.start_sum(self.right)
        return sound

    @np.errstate(over='ignore', invalid='ignore')  # a model that diverged is seen elsewhere
    def deliver(self, outs):
        """out ← P Qᵀ with Q = Σ_l N_l."""
        self.end()
        for P, N, Q, shape, out in zip(self.P, self.N, self.Q, self.shapes, outs, strict=True):
            self.ops.product(P, np.ascontiguousarray(N.T), out.reshape(shape))
            go_on(N, Q)


def go_on(N, Q):
    """Q ← N, each column divided by its largest entry; one that says nothing stays what it was, and so may say more."""
    largest = abs(N).max(0)
    for k in np.flatnonzero((largest > 0) & np.isfinite(largest)):
        np.divide(N[:, k], largest[k], out=Q[:, k])


def orthonormal(P):
    """The columns of P [rows, rank], orthonormal: modified Gram-Schmidt in float64.

    Zeros in place of a column that is none of its own, and of all where one is not finite.
    """
    columns = np.ascontiguousarray(P.T, np.float64)
    if not np.isfinite(columns).all():
        return np.zeros_like(P)
    before = np.sqrt(total(columns*columns))
    for k, column in enumerate(columns):
        length = sqrt(total(column*column))
        column *= 1/length if length > NOISE*before[k] else 0
        others = columns[k + 1:]
        others -= total(others*column)[:, None]*column
    return columns.T.astype(P.dtype)


def total(x):
    """Σ over the last axis, halves added again and again: the same bits on every machine.  x is used up."""
    n = x.shape[-1]
    half = 1 << (n - 1).bit_length() >> 1
    if n > 1:
        x[..., :n - half] += x[..., half:]
    while half > 1:
        half //= 2
        x = x[..., :half] + x[..., half:2*half]
    return x[..., 0]


def room(shapes):
    """(one vector, its [views] of these shapes)."""
    vector = np.empty(sum(rows*columns for rows, columns in shapes), np.float32)
    return vector, split(vector, shapes)


def split(vector, shapes):
    """[views] of these shapes, one behind the other."""
    ends = np.cumsum([rows*columns for rows, columns in shapes])[:-1]
    return [part.reshape(shape) for part, shape in zip(np.split(vector, ends), shapes, strict=True)]


def drawn(seed, pieces, shapes):
    """What the first Q of `pieces` are, one behind the other: a function of the seed and of where each piece begins."""
    parts = [np.random.default_rng([seed, piece.lo]).standard_normal(rows*columns, np.float32)
             for piece, (rows, columns) in zip(pieces, shapes, strict=True)]
    return np.concatenate([np.empty(0, np.float32), *parts])
