"""From the frames of a store to features whose columns are nearly independent, as diagonal covariances want them."""

import numpy as np

from hpcasr.errors import BadInput

KEPT = 13  # coefficients of a cosine transform, as of MFCC
TRANSFORMS = 'auto', 'dct', 'none'


class Transform:
    """y = (x M - mean)/scale, [T, D] -> [T, d] float32; M [D, d], mean and scale [d] of the training data."""

    def __init__(self, matrix, mean, scale):
        self.matrix = np.asarray(matrix, np.float64)
        self.mean, self.scale = np.asarray(mean, np.float64), np.asarray(scale, np.float64)
        self.M = np.ascontiguousarray(self.matrix/self.scale, np.float32)
        self.offset = (self.mean/self.scale).astype(np.float32)

    @property
    def dim(self):
        return self.matrix.shape[1]

    def __call__(self, x):
        y = np.asarray(x, np.float32) @ self.M
        y -= self.offset
        return y

    def arrays(self):
        return {'matrix': self.matrix, 'mean': self.mean, 'scale': self.scale}

    @classmethod
    def of_statistics(cls, matrix, n, total, squares):
        """From Σ y and Σ y² of n frames y = x M; a constant column is only centred."""
        mean = total/n
        variance = squares/n - mean**2
        constant = variance <= 1e-12*(squares/n)
        return cls(matrix, mean, np.sqrt(np.where(constant, 1, variance)))


def choose(name, frontend, columns, where):
    """The matrix [columns, d] of --transform `name`; 'auto' is 'dct' for filterbanks and 'none' for all else.

    dct: the first 13 cosines (DCT-II, orthonormal) of the static features, and of each of their deltas.
    """
    if name == 'none' or (name == 'auto' and frontend.get('kind') != 'fbank'):
        return np.eye(columns)
    blocks = frontend.get('deltas', 0) + 1
    if columns % blocks:
        raise BadInput(f'{where}: {columns} columns are not {blocks} blocks of equal size; use --transform none')
    return np.kron(np.eye(blocks), cosines(columns//blocks, min(KEPT, columns//blocks)))


def cosines(n, kept):
    """[n, kept] orthonormal columns: cos(π k (i + ½)/n)."""
    i, k = np.arange(n)[:, None] + 0.5, np.arange(kept)
    C = np.cos(np.pi*k*i/n)*np.sqrt(2/n)
    C[:, 0] /= np.sqrt(2)
    return C
