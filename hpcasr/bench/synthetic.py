"""A store of random numbers, of any size: `python -m hpcasr.bench.synthetic PATH BYTES DIM TARGETS`."""

import sys

import numpy as np

from hpcasr.data.progress import silent
from hpcasr.data.store_writer import StoreWriter, Utterances
from hpcasr.errors import BadInput

SHORTEST, LONGEST = 200, 1500  # frames: 2 to 15 s
SPEAKER = 100  # utterances of one
BLOCK = 1 << 16  # rows of random numbers, drawn once: all utterances are slices of them


def write(path, nbytes, dim, num_targets, seed=0, progress=silent):
    """Write a store of about `nbytes` bytes of frames and targets.  Raises BadInput."""
    rng = np.random.default_rng(seed)
    lengths = draw_lengths(rng, nbytes//(4*dim + 4))
    frames = rng.standard_normal((BLOCK, dim), np.float32)
    targets = rng.integers(0, num_targets, BLOCK, np.int32)
    starts = rng.integers(0, BLOCK - LONGEST, len(lengths))
    with StoreWriter(path, who(lengths), dim, target_names=[str(k) for k in range(num_targets)]) as writer:
        for a, T in progress(list(zip(starts.tolist(), lengths.tolist(), strict=True))):
            writer.append(frames[a:a + T], targets[a:a + T])


def draw_lengths(rng, frames):
    """Uniform lengths that come to `frames`, the last one cut to fit."""
    lengths = rng.integers(SHORTEST, LONGEST + 1, frames//SHORTEST + 1)
    ends = np.cumsum(lengths)
    n = int(np.searchsorted(ends, frames))
    lengths[n] -= ends[n] - frames
    return lengths[:n + 1]


def who(lengths):
    U = len(lengths)
    return Utterances([f'utt{u:07}' for u in range(U)], lengths, np.arange(U)//SPEAKER,
                      [f'spk{s:05}' for s in range(-(-U//SPEAKER))])


def main(path, nbytes, dim, num_targets):
    try:
        write(path, int(nbytes), int(dim), int(num_targets))
    except BadInput as e:
        sys.exit(str(e))


if __name__ == '__main__':
    main(*sys.argv[1:])
