"""Which algorithm can have what it sends compressed, and why not."""

import textwrap
from dataclasses import dataclass

from hpcasr.config import KEYS
from hpcasr.errors import BadInput

METHODS = tuple(m for m in KEYS['compress.method'][1].metadata['choices'] if m != 'none')
SPARSE = 'topk', 'threshold'
SUMS = tuple(m for m in METHODS if m != 'powersgd')


@dataclass(frozen=True)
class Takes:
    """What an algorithm does with --compress; each class carries one as `compression`.

    methods    that it takes
    what       is compressed: 'gradients and their sums'
    why        it takes no others, behind its name: 'averages models, not differences'
    instead    what would work: 'take local-sgd'
    momentum   whether it has gradients, for which momentum can be corrected
    """

    methods: tuple = ()
    what: str = ''
    why: str = ''
    instead: str = ''
    momentum: bool = False

    def require(self, name, config):
        """Raise BadInput where the algorithm called `name` cannot compress as a Config says."""
        options = config.compress
        if options.method == 'none':
            return
        if options.method not in self.methods:
            raise BadInput(f'--compress {options.method}: {name} {self.why}; {self.instead}')
        if config.train.dtype != 'float32':
            raise BadInput(f'--compress {options.method}: codes are made of float32, not of train.dtype = '
                           f'{config.train.dtype}; leave one of them out')
        if options.correction:
            self.require_correction(name, config)

    def require_correction(self, name, config):
        method, optim = config.compress.method, config.optim
        wrong = (f'{name} sends no gradients' if not self.momentum else
                 f'{method} sends every entry in time; it is for {" and ".join(SPARSE)}' if method not in SPARSE else
                 f'it is for the momentum of optim.optimizer = sgd, not {optim.optimizer}' if optim.optimizer != 'sgd'
                 else 'there is no optim.momentum' if not optim.momentum else '')
        if wrong:
            raise BadInput(f'compress.correction = true: {wrong}; leave it out')

    def cell(self, method):
        """`yes`, or `no`."""
        return 'yes' if method in self.methods else 'no'


def markdown(classes):
    """The table algorithm x compressor of README."""
    lines = ['| `--algo` | ' + ' | '.join(f'`{m}`' for m in METHODS) + ' | what is compressed, or why not |',
             '|---'*(len(METHODS) + 2) + '|']
    return '\n'.join(lines + [' | '.join([f'| `{cls.name}`', *map(cls.compression.cell, METHODS),
                                          remark(cls.compression)]) + ' |' for cls in classes])


def lines(classes, width):
    """The same as text, in `width` columns."""
    names = max(len(cls.name) for cls in classes)
    yield '  '.join([' '*names, *METHODS])
    for cls in classes:
        yield '  '.join([cls.name.ljust(names), *(cls.compression.cell(m).ljust(len(m)) for m in METHODS)]).rstrip()
        yield from textwrap.wrap(remark(cls.compression), width, initial_indent='    ', subsequent_indent='    ',
                                 break_on_hyphens=False)


def remark(takes):
    """What is compressed, and why no more is."""
    missing = [m for m in METHODS if m not in takes.methods]
    why = f'it {takes.why}; {takes.instead}'
    return f'{takes.what}. No {", ".join(missing)}: {why}' if takes.methods and missing else takes.what or why
