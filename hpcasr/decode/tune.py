"""Which acoustic scales and word penalties are tried, and which of them is best."""

from hpcasr.errors import BadInput


def values(text, option, positive=False):
    """[numbers], sorted, of a list such as '0.06,0.1'.  Raises BadInput."""
    try:
        found = sorted({float(f'{float(word):g}') for word in text.split(',')})
    except ValueError:
        raise BadInput(f'{option} {text}: expected numbers with commas between them, such as 0.08,0.1') from None
    if not all(abs(v) < 1e6 for v in found):  # also refuses NaN
        raise BadInput(f'{option} {text}: these numbers are not finite, or too large')
    if positive and found[0] <= 0:
        raise BadInput(f'{option} {text}: must be above 0')
    return found


def wanted(errors, scales, penalties):
    """The (scale, penalty) points to try next, given the word errors of those tried, {point: errors}; [] when done.

    All scales at the penalty nearest to 0; then all penalties at the best scale; then the scales beside the best point,
    until nothing beside it is better: coordinate descent, because every point is a search of all utterances.
    """
    if not errors:
        return [(a, min(penalties, key=abs)) for a in scales]
    a, p = best(errors)
    around = {(a, q) for q in penalties} | {(b, p) for b in beside(scales, a)}
    return sorted(around - set(errors), key=lambda point: point[::-1])  # one graph after the other


def beside(scales, a):
    k = scales.index(a)
    return scales[max(k - 1, 0):k + 2]


def best(errors):
    """The point with the fewest errors; of several, that in the middle of the grid."""
    axes = [sorted(set(axis)) for axis in zip(*errors, strict=True)]
    return min(errors, key=lambda point: (errors[point], sum(map(off_centre, axes, point)), point))


def off_centre(axis, value):
    """0 in the middle of `axis`, 1 at its ends."""
    half = (len(axis) - 1)/2
    return abs(axis.index(value) - half)/max(half, 1)


def edges(points, chosen):
    """A remark for the scale or the penalty of `chosen` that lies at the edge of all that were tried."""
    for what, axis, value in zip(('acwt', 'penalty'), zip(*points, strict=True), chosen, strict=True):
        low, high = min(axis), max(axis)
        if low < high and value == high:
            yield f'the best {what}, {value:g}, is the largest tried; try larger ones'
        elif low < high and value == low and value != 0:  # a penalty below 0 is nothing to recommend
            yield f'the best {what}, {value:g}, is the smallest tried; try smaller ones'


def label(point):
    """The name of a point in those of files: ACWT_PENALTY."""
    return '{:g}_{:g}'.format(*point)
