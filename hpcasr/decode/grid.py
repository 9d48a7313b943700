"""The acoustic scales and word penalties that a command line asks for."""

from hpcasr.decode.tune import values
from hpcasr.errors import BadInput

SCALES, PENALTIES = '0.06,0.08,0.1,0.13,0.17,0.22', '-1,-0.5,0,0.5,1'


def grid(acwt=None, penalty=None, like=None):
    """(scales, penalties), sorted lists, of the options' texts; None where not given.  Raises BadInput."""
    if like is None:
        return (values(SCALES if acwt is None else acwt, '--acwt', positive=True),
                values(PENALTIES if penalty is None else penalty, '--penalty'))
    if acwt is not None or penalty is not None:
        raise BadInput('--like DIR takes both the scale and the penalty from there; leave --acwt and --penalty out')
    from hpcasr.decode.results import best_point
    scale, penalty = best_point(like)
    return [scale], [penalty]
