"""Who holds what when the threads of a block multiply by weights that stay in their registers (persistent.py).

A block owns UNITS cells of one direction and takes ROWS sequences at a time.  Its warps sum over parts of the depth of
a product, each for two tiles of 16 columns of the result and four of 8 sequences, with mma.sync.m16n8k16:
    forward     h Wh for four gates of its cells: warp w takes gate w mod 4, and half w/4 of the depth H
    backward    dz Whᵀ for its cells: warp w takes the w-th part of the depth 4H, one of 8
Both are H/32 tiles of 16 deep.  Weights are the left factor, columns of the result by depth; states are the right one,
depth by sequences.  Lane l of a warp has q = l div 4 and p = l mod 4.  What PTX calls depth 2p, 2p + 1, 2p + 8, 2p + 9
of tiles 2v and 2v + 1 are here the eight neighbours 32v + 8p + 0..7, for both factors alike: any order gives the same
sum, and a lane gets its states of two tiles in 16 bytes.
"""

ROWS = UNITS = 32
LANES, WARPS, GATES = 32, 8, 4
THREADS = LANES*WARPS
TILES_M, TILES_N = 2, 4  # of 16 columns and of 8 sequences, of a warp
PARTS, PARTS_BACK = 2, 8  # over which a sum is spread
# words from a sequence to the next where sums of warps are put together: 2p rows and q columns are 32 different banks
WIDE, NARROW = GATES*UNITS + 4, UNITS + 4


def weight(m, tile, register, i):
    """(column, depth) of half i of a register of the left factor, from (q, 8p) on."""
    return 16*m + 8*(register & 1), depth(tile, register >> 1, i)


def state(n, tile, register, i):
    """(depth, sequence) of half i of a register of the right factor, from (8p, q) on."""
    return depth(tile, register, i), 8*n


def depth(tile, register, i):
    return 32*(tile >> 1) + 4*(tile & 1) + 2*register + i


def result(m, n, register):
    """(column, sequence) of a register of the sum, from (q, 2p) on."""
    return 16*m + 8*(register >> 1), 8*n + (register & 1)


def tiles(H):
    return H//32


def pitch(H):
    """Words from a sequence to the next in shared states: eight lanes read from 32 different banks."""
    return H//2 + 16


def words(H):
    """Shared memory of the forward kernel: states, then sums."""
    return max(ROWS*pitch(H), PARTS*ROWS*WIDE)


def words_back():
    """Shared memory of the backward kernel: sums."""
    return PARTS_BACK*ROWS*NARROW
