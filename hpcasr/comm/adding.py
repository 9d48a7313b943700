"""The sum of many vectors, block by block: every entry is fetched from memory once."""

import numpy as np

from hpcasr.comm.base import accumulate

BLOCK = 1 << 16  # entries of all parts together that are summed at a time: they stay in the second-level cache
SHORT = 1 << 12  # entries of one part: below that, a call takes longer than its sum


@np.errstate(over='ignore', invalid='ignore')  # a model that diverged is seen elsewhere
def add_everywhere(parts, nodes, outs):
    """Every one of `outs` ← Σ of `parts` [L, n], the bits of base.add_in_order; `outs` may be among `parts`."""
    block = min(max(BLOCK//len(parts), SHORT), outs[0].size)
    groups = [[part for part, node in zip(parts, nodes, strict=True) if node == k] for k in dict.fromkeys(nodes)]
    total, more = np.empty((2, block), outs[0].dtype)
    for lo in range(0, outs[0].size, block or 1):
        hi = min(lo + block, outs[0].size)
        add_block(groups, lo, hi, total[:hi - lo], more[:hi - lo])
        for out in outs:
            np.copyto(out[lo:hi], total[:hi - lo])


def add_block(groups, lo, hi, total, more):
    """total ← Σ over `groups` of Σ over the parts of a group, entries lo:hi."""
    first, *others = groups
    accumulate([part[lo:hi] for part in first], total)
    for group in others:
        total += group[0][lo:hi] if len(group) == 1 else accumulate([part[lo:hi] for part in group], more)
