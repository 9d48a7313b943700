"""What a user wants to know of an algorithm before choosing it; each class carries one as `about`."""

import math
import re
import textwrap
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np

from hpcasr.algorithms.topology import TOPOLOGIES, get_topology
from hpcasr.config import KEYS, Config
from hpcasr.data import builtin
from hpcasr.model.network import parameters

FAMILIES = {'SC-PSGD': 'synchronous centralized parallel SGD', 'SD-PSGD': 'synchronous decentralized parallel SGD',
            'AC-PSGD': 'asynchronous centralized parallel SGD', 'AD-PSGD': 'asynchronous decentralized parallel SGD',
            'H-ADPSGD': 'hierarchical asynchronous decentralized parallel SGD', 'SGP': 'stochastic gradient push',
            'BMUF': 'blockwise model-update filtering'}
LETTERS = 'V: bytes of the model; L: learners (ranks). What the busiest learner sends, per step.'
GLUED = re.compile('(?<=[−+·×/=]) | (?=[−+·×/] )|(?<=[0-9]) (?=[KMG]?B$)')  # spaces inside a formula and its value
HELD = '\N{NO-BREAK SPACE}'
# for held-out scores and the consensus, at least; progress serves whatever is under way
EVERYWHERE = 'exchange.reduce', 'exchange.node_size', 'exchange.progress'
SHAPES = {'swb2000': (260, 32000)}  # features and targets that a preset was made for; else those of the built-in task


@dataclass(frozen=True)
class About:
    """The facts of one algorithm.  Bytes and messages are those that the busiest learner sends, per step.

    family         a key of FAMILIES, and what distinguishes it: 'AD-PSGD, bounded'; in words where it has no such name
    rule           the update rule in one line: 'w ← w − a · Σ_l g_l(w) / Σ_l n_l'
    cites          where it was published: 'Cui et al. 2020, arXiv 2002.10502'
    exchanges      what learners send each other: 'gradients, summed over all ranks'
    bytes_text     formula in V (bytes of the model), L (learners) and config keys: '2V(L − 1)/L'
    bytes          bytes(V, L, options) -> number; `options` is a config.Config
    messages_text  formula: '2(L − 1)'
    messages       messages(L, options) -> number
    options        keys of the configuration that matter to it: ('exchange.period',)
    use, avoid     when to use it, and when not, each a phrase: 'equal ranks, a fast network'
    """

    family: str
    rule: str
    cites: str
    exchanges: str
    bytes_text: str
    bytes: Callable
    messages_text: str
    messages: Callable
    options: tuple[str, ...]
    use: str
    avoid: str

    def family_in_words(self):
        """`SC-PSGD: synchronous centralized parallel SGD`."""
        known = FAMILIES.get(self.family.split(',')[0])
        return f'{self.family}: {known}' if known else self.family


@dataclass(frozen=True)
class Case:
    """For what the formulas are evaluated: so many learners, a config.Config, features and targets of its model."""

    ranks: int
    config: Config
    dim: int
    targets: int

    @property
    def V(self):
        """Bytes of the model."""
        return self.parameters()*np.dtype(self.config.train.dtype).itemsize

    def parameters(self):
        return sum(math.prod(shape) for shape in parameters(self.config.model, self.dim, self.targets).values())

    def describe(self):
        """`V = 3.4 MB: preset small, 850,504 parameters (40 features, 72 targets, float32); L = 8`"""
        c = self.config
        return (f'V = {in_bytes(self.V)}: preset {c.model.preset}, {self.parameters():,} parameters ({self.dim} '
                f'features, {self.targets} targets, {c.train.dtype}); L = {self.ranks}')


def shape(preset):
    """(features, targets) assumed for a preset where they are not given."""
    return SHAPES.get(preset, (builtin.DIM, builtin.PHONES*builtin.STATES))


def facts(cls, case=None):
    """All that is known of the algorithm `cls`: {name: text, number, list or dict}, ready for JSON.

    With a Case also the numbers `bytes` and `messages`, and where it has a topology to choose, lines on `topologies`.
    """
    about = cls.about
    found = {'name': cls.name, 'family': about.family_in_words()}
    found |= {key: getattr(about, key) for key in ('rule', 'cites', 'exchanges', 'bytes_text', 'messages_text')}
    if case:
        found |= {'bytes': about.bytes(case.V, case.ranks, case.config),
                  'messages': about.messages(case.ranks, case.config)}
    found |= {'use': about.use, 'avoid': about.avoid, 'file': file(cls), 'options': options(about, case)}
    if case and 'exchange.topology' in about.options:
        found['topologies'] = topologies(case.ranks)
    return found


def file(cls):
    return cls.__module__.replace('.', '/') + '.py'


def options(about, case):
    """{key: {value, why}} of the keys that matter."""
    values = (case.config if case else Config()).flat()
    return {key: {'value': values[key], 'why': KEYS[key][1].metadata['why']} for key in about.options}


def unused(cls, config):
    """['exchange.topology = torus', ...]: what `config` has set that means nothing to the algorithm `cls`."""
    usual, known = Config().flat(), {*cls.about.options, *EVERYWHERE}
    return [f'{key} = {value}' for key, value in config.flat().items()
            if key.startswith('exchange.') and value != usual[key] and key not in known]


def topologies(ranks):
    """A line on each: what it is, and how fast models that are only averaged approach each other."""
    found = [get_topology(name, ranks) for name in TOPOLOGIES]
    return [f'{t.describe()}, spread 1/1000 after {count(t.steps(1e-3), "step")}' for t in found]


def count(n, what):
    return f'{n:,} {what}{"s"[:n != 1]}'


def sent(found):
    """{'bytes': formula, 'messages': formula} of `facts`, with their values where it has them."""
    formulas = {'bytes': found['bytes_text'], 'messages': found['messages_text']}
    if 'bytes' not in found:
        return formulas
    return {'bytes': f'{formulas["bytes"]} = {in_bytes(found["bytes"])}',
            'messages': f'{formulas["messages"]} = {round(found["messages"], 2):,g}'}


def in_bytes(n):
    """`1.13 MB`, in powers of 1000."""
    power = min(int(math.log10(max(n, 1)))//3, 3)
    return f'{n/1000**power:.4g} {("B", "KB", "MB", "GB")[power]}'


def detail(cls, case=None, width=100):
    """Everything about one algorithm as text, a fact per paragraph."""
    found = facts(cls, case)
    pairs = [('family', found['family']), ('rule', found['rule']), ('published', found['cites']),
             ('exchanged', found['exchanges']), *sent(found).items(), ('use it', found['use']),
             ('not for', found['avoid']), ('file', found['file']),
             *(('option', f'{key} = {o["value"]}: {o["why"]}') for key, o in found['options'].items()),
             *(('topology', line) for line in found.get('topologies', ()))]
    return '\n'.join([cls.name, *(paragraph(label, text, width) for label, text in pairs), '', legend(case, width)])


def paragraph(label, text, width):
    return '\n'.join(f'  {head:10} {line}' for head, line in zip_longest([label], wrap(text, width - 13), fillvalue=''))


def legend(case, width):
    return '\n'.join([*wrap(LETTERS, width), *(wrap(case.describe(), width) if case else ())])


def overview(classes, case=None, width=100):
    """A table of algorithms as text, wrapped into `width` columns."""
    rows = [[['algorithm'], ['rule'], ['sent per step'], ['use it']], *(cells(facts(cls, case)) for cls in classes)]
    names = max(columns(row[0][0]) for row in rows)
    widths = [names, *((width - names - 6)*share//100 for share in (36, 32, 32))]
    return '\n\n'.join(['\n'.join(across(row, widths)) for row in rows] + [legend(case, width)])


def cells(found):
    """The columns of one algorithm, each a list of texts that start lines of their own."""
    return [[found['name'], found['family'].split(':')[0]], [found['rule']],
            [f'{key}: {formula}' for key, formula in sent(found).items()], [found['use']]]


def across(row, widths):
    """The lines of one row of a table."""
    wrapped = [[line for text in cell for line in wrap(text, w)] for cell, w in zip(row, widths, strict=True)]
    return ['  '.join(line + ' '*(w - columns(line)) for line, w in zip(lines, widths, strict=True)).rstrip()
            for lines in zip_longest(*wrapped, fillvalue='')]


def wrap(text, width):
    """Lines of `text`; a formula is not torn where a line can hold it."""
    held = GLUED.sub(HELD, text)
    text = held if max(map(len, held.split(' '))) <= width else text
    return [line.replace(HELD, ' ') for line in textwrap.wrap(text, width, break_on_hyphens=False)]


def columns(text):
    """How wide it is on a terminal, where the bar of w̄ takes no column."""
    return sum(not unicodedata.combining(c) for c in text)


def readme_table(classes):
    """The table of README: a line of Markdown for each algorithm."""
    lines = ['| `--algo` | rule | exchanged per step | use it | file |', '|---|---|---|---|---|']
    return '\n'.join(lines + [readme_row(cls, cls.about) for cls in classes])


def readme_row(cls, about):
    path = file(cls)
    exchanged = f'{about.exchanges}; bytes: {about.bytes_text}; messages: {about.messages_text}'
    cells = [f'`{cls.name}`', about.rule, exchanged, about.use, f'[{path.split("/")[-1]}]({path})']
    return '| ' + ' | '.join(cell.replace('|', '\\|') for cell in cells) + ' |'
