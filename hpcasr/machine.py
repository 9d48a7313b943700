"""What the links of a machine cost: `machine.json`, which `hpcasr bench` writes and virtual learners live by."""

import math

from hpcasr.errors import BadInput
from hpcasr.given import json_of

SCHEMA = 'hpcasr-machine/1'


def describe(facts, fits):
    """The content of the file: `fits` [{test, buffers, type, pieces}], the first of which is that of the links.

    simulate   latency [us] of the piece for small messages, bandwidth [GB/s] of the one for large ones
    """
    small, large = fits[0]['pieces'][0], fits[0]['pieces'][-1]
    if not large['ns_per_byte'] > 0:
        raise BadInput('the times do not grow with the size, so they tell no bandwidth; give larger sizes (-m) or more '
                       'time (--cap)')
    return {'schema': SCHEMA, **facts, 'fits': fits,
            'simulate': {'latency': small['latency_us'], 'bandwidth': 1/large['ns_per_byte']}}


def links(path):
    """{'simulate.latency': us, 'simulate.bandwidth': GB/s} of the machine.json at `path`.  Raises BadInput."""
    try:
        found = json_of(path)
    except OSError as e:
        raise BadInput(f'{path}: {e.strerror}') from None
    except ValueError as e:
        raise BadInput(f'{path}: not JSON: {e}') from None
    if not isinstance(found, dict) or found.get('schema') != SCHEMA:
        raise BadInput(f'{path}: not a machine.json of this version ({SCHEMA}); make it with hpcasr bench latency '
                       '--machine FILE')
    costs = found.get('simulate')
    if not isinstance(costs, dict) or not all(isinstance(costs.get(name), float | int) and math.isfinite(costs[name])
                                              for name in ('latency', 'bandwidth')):
        raise BadInput(f'{path}: it tells no latency and bandwidth; make it anew')
    return {f'simulate.{name}': costs[name] for name in ('latency', 'bandwidth')}
