"""The commands of a recipe, in order: a pure function of its options."""

import os
import shlex
from dataclasses import dataclass, field
from pathlib import Path

from hpcasr.errors import BadInput

# what trains well on a few hours of speech; --more train=... comes after it, and wins
TRAINING = '--chunk 32 --batch 8 --optimizer adam --lr 0.001 --set optim.lr_batch=0 --set model.dropout=0.3'

LEXICONS = ('local/dict/lexiconp.txt', 'local/dict/lexicon.txt', 'data/local/dict/lexiconp.txt',
            'data/local/dict/lexicon.txt', 'dict/lexicon.txt', 'lexicon.txt')


@dataclass(frozen=True)
class Stage:
    """One command.

    name      what markers, options and messages call it
    argv      arguments of hpcasr
    needs     names of the stages whose results it reads
    parallel  whether all ranks run it
    labels    whether it writes the targets of the stores
    targets   name of the stage whose targets it reads from the stores, '' for none
    resume    arguments with which an interrupted one goes on
    force     arguments with which it replaces what an earlier one left
    """

    name: str
    argv: tuple
    needs: tuple = ()
    parallel: bool = False
    labels: bool = False
    targets: str = ''
    resume: tuple = ()
    force: tuple = ('--force',)


@dataclass(frozen=True)
class Recipe:
    """What the command line asks for; `more` are further arguments of a stage's command, {'train': '--lr 0.5'}."""

    directory: str
    out: str
    train: str = 'train'
    dev: str = 'dev'
    test: tuple = ('test',)
    lexicon: str | None = None
    text: str | None = None
    arpa: str | None = None
    order: int = 2
    algo: str = 'sync-allreduce'
    model: str = 'small'
    epochs: int = 8
    seeds: int = 1
    realign: str = ''
    realign_epochs: int = 4
    tempo: str = ''
    systems: bool = False
    baseline: str | None = None
    features: bool = False
    more: dict = field(default_factory=dict)

    def path(self, *names):
        return os.path.join(self.out, *names)

    @property
    def stores(self):
        """The sets that have targets: training data and held-out data."""
        return self.path(f'{self.train}.h5'), self.path(f'{self.dev}.h5')

    @property
    def networks(self):
        """The directories of the networks that are the result, one per seed."""
        return [self.path('nnet')] if self.seeds == 1 else [self.path(f'nnet-{s}') for s in range(self.seeds)]

    def extra(self, what):
        return shlex.split(self.more.get(what, ''))


def plan(recipe):
    """[Stage].  Raises BadInput where a set or the lexicon is missing."""
    return [*data(recipe), *gaussians(recipe), *realignment(recipe), *networks(recipe)]


def data(r):
    """Features of every set that has none, and their stores."""
    for name in r.train, r.dev, *r.test:
        source, needs = find_set(r, name), ()
        if r.features or not (Path(source)/'feats.scp').exists():
            target, needs = r.path('data', name), (f'features-{name}',)
            yield Stage(needs[0], ('data', 'features', source, '--out', target, *r.extra('features')))
            source = target
        yield Stage(f'import-{name}', ('data', 'import', source, '--out', r.path(f'{name}.h5'), *r.extra('import')),
                    needs)


def gaussians(r):
    """Flat start and tree; with `systems` they recognize, too."""
    mono, tri = r.path('mono'), r.path('tri')
    imported = f'import-{r.train}', f'import-{r.dev}'
    yield Stage('flat-start', ('align', 'flat-start', *r.stores, '--lexicon', find_lexicon(r), '--out', mono,
                               *r.extra('flat-start')), imported, parallel=True, labels=True)
    if r.systems:
        yield graph(r, 'graph-mono', mono, ('flat-start',))
        yield from recognize(r, mono, 'graph-mono', ('flat-start',))
    yield Stage('tree', ('align', 'tree', mono, *r.stores, '--out', tri, *r.extra('tree')), ('flat-start',),
                parallel=True, labels=True)
    yield graph(r, 'graph', tri, ('tree',))
    if r.systems:
        yield from recognize(r, tri, 'graph', ('tree',))


def realignment(r):
    """A first network, only to align the data again."""
    if r.realign:
        first = r.path('first')
        yield training(r, 'first', first, r.realign, r.realign_epochs, 0, 'tree', r.stores[0], ('tree',))
        if r.systems:
            yield from recognize(r, first, 'graph', ('first',))
        yield Stage('realign', ('align', 'force', first, *r.stores, *r.extra('realign')), ('first',), parallel=True,
                    labels=True)


def networks(r):
    """The result: one network per seed, recognized and scored."""
    aligned = 'realign' if r.realign else 'tree'
    store, needs = r.stores[0], (aligned,)
    if r.tempo:
        source, store, needs = store, r.path(f'{r.train}-sp.h5'), ('perturb',)
        yield Stage('perturb', ('data', 'perturb', source, '--tempo', r.tempo, '--out', store), (aligned,),
                    targets=aligned)
    for seed, path in enumerate(r.networks):
        name = f'train-{Path(path).name}'
        yield training(r, name, path, r.model, r.epochs, seed, aligned, store, needs)
        yield from recognize(r, path, 'graph', (name,))


def training(r, name, out, model, epochs, seed, aligned, store, needs):
    """A network trained on `store`; `aligned` is the stage that wrote the targets of the held-out data."""
    more = r.extra('first') if name == 'first' else r.extra('train')
    recipe = *TRAINING.split(), '--set', f'optim.hold={epochs/2:g}', *more
    return Stage(name, ('train', store, '--dev', r.stores[1], '--algo', r.algo, '--model', model, '--epochs',
                        str(epochs), '--seed', str(seed), '--out', out, *recipe), needs, parallel=True,
                 targets=aligned, resume=('--resume', 'auto'))


def graph(r, name, model, needs):
    """The decoding graph of the tree in `model`, with the language model asked for."""
    language = ('--arpa', r.arpa) if r.arpa else ('--order', str(r.order), *text(r))
    return Stage(name, ('decode', 'graph', model, '--out', os.path.join(model, 'graph'), *language,
                        *r.extra('graph')), needs)


def text(r):
    """Where the language model comes from: the training transcripts, unless a text is named."""
    return ('--text', r.text) if r.text else ('--kaldi-text', '--text', os.path.join(find_set(r, r.train), 'text'))


def recognize(r, model, graph, needs):
    """Decode dev over a grid of scales, choose the best, decode the test sets with it; score all of them."""
    system, where = Path(model).name, r.path('mono' if graph == 'graph-mono' else 'tri', 'graph')
    chosen, last = os.path.join(model, f'decode_{r.dev}'), ()
    for name in r.dev, *r.test:
        out = os.path.join(model, f'decode_{name}')
        how = [*(r.extra('decode') if name == r.dev else ('--like', chosen)), *r.extra('search')]
        decode, score = f'decode-{system}-{name}', f'score-{system}-{name}'
        yield Stage(decode, ('decode', 'run', model, where, r.path(f'{name}.h5'), '--out', out, *how),
                    (*needs, graph, f'import-{name}', *last), parallel=True)
        against = ('--baseline', r.baseline) if r.baseline and name != r.dev else ()
        yield Stage(score, ('decode', 'score', out, *against, *r.extra('score')), (decode,), force=())
        last = last or (score,)


def find_set(r, name):
    """The data directory of a set."""
    for place in Path(r.directory)/name, Path(r.directory)/'data'/name:
        if place.is_dir():
            return str(place)
    raise BadInput(f'{r.directory}: has no directory {name}; name the sets with --train, --dev and --test')


def find_lexicon(r):
    if r.lexicon:
        return r.lexicon
    found = next((place for name in LEXICONS if (place := Path(r.directory)/name).is_file()), None)
    if not found:
        raise BadInput(f'{r.directory}: has no {LEXICONS[1]}; name the lexicon with --lexicon FILE')
    return str(found)
