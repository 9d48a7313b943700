"""The sizes of messages: a range on the command line, doubled from its first to its last."""

UNITS = {'K': 2**10, 'M': 2**20, 'G': 2**30}
LEAST, MOST = 1, 2**28  # bytes, where nothing else is said
LIMIT = 2**30  # bytes of one message: MPI before version 4 counts to 2^31 - 1


def parse(text):
    """MIN:MAX, :MAX, MIN: or MAX in bytes, K, M and G being powers of 1024: (MIN, MAX), None where it is not said.

    Raises ValueError.
    """
    low, _, high = text.rpartition(':')
    low, high = (nbytes(word) for word in (low or str(LEAST), high))
    if not 1 <= low <= (LIMIT if high is None else high) <= LIMIT:
        raise ValueError(text)
    return low, high


def nbytes(text):
    """Bytes, or None for nothing."""
    text = text.strip().upper().removesuffix('B')
    unit = UNITS.get(text[-1:])
    return int(text[:-1])*unit if unit else int(text) if text else None


def doubled(low, high, itemsize):
    """low, 2 low, 4 low, ... up to `high`, those that hold whole items."""
    found = []
    while low <= high:
        found.append(low)
        low *= 2
    return [size for size in found if size % itemsize == 0]
