"""The configuration of a training run: every field is a key of the TOML file, with its default, unit and reason.

Precedence: defaults < `--config FILE.toml` < `--set section.key=value` < named options.
"""

import difflib
import json
import math
import tomllib
from dataclasses import asdict, dataclass, field, fields, replace

from hpcasr.errors import BadInput
from hpcasr.given import text_of


def key(default, why, choices=(), least=None, below=None):
    return field(default=default, metadata={'why': why, 'choices': tuple(choices), 'least': least, 'below': below})


@dataclass(frozen=True)
class Model:
    preset: str = key('small', 'named shape; the keys below override it', ())
    kind: str = key('', 'network between features and softmax', ('', 'dnn', 'lstm', 'blstm'))
    layers: int = key(0, 'hidden layers; 0: of the preset')
    cells: int = key(0, 'units per hidden layer, and per direction in a blstm; 0: of the preset')
    bottleneck: int = key(-1, 'units of the linear layer before the softmax, 0 for none; -1: of the preset')
    activation: str = key('', 'of a dnn', ('', 'sigmoid', 'relu', 'tanh'))
    dropout: float = key(-1.0, 'probability to drop a hidden unit; -1: of the preset')


@dataclass(frozen=True)
class Data:
    chunk: int = key(21, 'frames of a sample (T; 21 in arXiv 2002.10502)', least=1)
    batch: int = key(32, 'samples per rank and step (m); the global batch M is ranks x m', least=1)
    holdout: float = key(0.05, 'fraction of the frames, by whole speakers (one at least), held out where no --dev is '
                         'given', least=0, below=1)
    time_mask: int = key(0, 'most frames of a sample that are masked, as SpecAugment does; 0: none', least=0)
    band_mask: int = key(0, 'most neighbouring bands of the features that are masked; 0: none', least=0)
    ahead: int = key(8, 'batches read ahead by the reading thread of each rank', least=1)
    seed: int = key(0, 'of the order of the samples, the initial parameters and dropout', least=0)


@dataclass(frozen=True)
class Optim:
    optimizer: str = key('sgd', 'update rule', ('sgd', 'adam'))
    lr: float = key(1.0, 'learning rate at a global batch of `lr_batch` samples', least=0)
    lr_batch: int = key(256, 'global batch at which `lr` holds, scaled linearly to M; 0: no scaling', least=0)
    momentum: float = key(0.9, 'of sgd', least=0, below=1)
    beta1: float = key(0.9, 'of adam', least=0, below=1)
    beta2: float = key(0.999, 'of adam', least=0, below=1)
    epsilon: float = key(1e-8, 'of adam', least=0)
    clip: float = key(0.0, 'largest 2-norm of the mean gradient; 0: no clipping', least=0)
    schedule: str = key('paper', 'paper: linear warm-up, then x decay an epoch; newbob: halve when held-out '
                        'cross-entropy stalls', ('paper', 'newbob', 'constant'))
    warmup: float = key(1.0, 'epochs of linear warm-up from `lr` to the scaled rate', least=0)
    hold: float = key(3.0, 'epochs at the full rate, warm-up included, before the decay of schedule paper', least=0)
    decay: float = key(2**-0.5, 'factor of the rate at the end of each epoch after `hold`, of schedule paper; the '
                       'default is that of arXiv 2002.10502, 1/sqrt(2)', least=0)
    newbob_threshold: float = key(0.005, 'relative gain of held-out cross-entropy under which newbob starts halving')


@dataclass(frozen=True)
class Train:
    algo: str = key('sync-allreduce', 'distributed-SGD algorithm')
    epochs: int = key(8, 'passes over the training samples', least=1)
    dtype: str = key('float32', 'of parameters and arithmetic', ('float32', 'float64'))
    precision: str = key('fp32', 'of what products of matrices multiply: float32 (of train.dtype), or rounded to bf16, '
                         'or, on GPUs alone, to tf32; their sums, parameters, gradients and gates stay what they are',
                         ('fp32', 'bf16', 'tf32'))
    backend: str = key('auto', 'implementation of the layers: compiled for this processor, plain NumPy, or an NVIDIA '
                       'GPU for every rank; auto: the fastest on the processor', ('auto', 'cpu', 'reference', 'cuda'))
    max_skipped: int = key(3, 'steps in a row that are left out, because the loss or the gradient of a rank is not '
                           'finite, before training stops; 0: it stops at the first.  One spoilt batch stands alone; a '
                           'model that has diverged fails in every step, so more would only cost time', least=0)
    bucket: int = key(1 << 20, 'entries of the gradient whose reduction starts at once, while backward runs', least=1)
    hang_timeout: float = key(600.0, 'seconds in which no rank gets on (a layer, an exchange, a batch) after which the '
                              'rank that all wait for is named and the job ended; 0: never', least=0)


@dataclass(frozen=True)
class Exchange:
    topology: str = key('ring', 'who averages with whom in decentralized algorithms', ())
    period: int = key(8, 'local steps between averages (K) of local-sgd and bmuf, between exchanges with the centre of '
                      'easgd', least=1)
    block_momentum: float = key(-1.0, 'of bmuf (eta); -1: 1 - 1/ranks', least=-1, below=1)
    block_rate: float = key(1.0, 'of bmuf (zeta)', least=0)
    block_update: str = key('nesterov', 'of bmuf: where the next block starts', ('nesterov', 'classic'))
    push_delay: int = key(0, 'steps that a message of push-sum is under way (tau)', least=0)
    servers: int = key(-1, 'ranks among which parameter servers shard the parameters; 0: all; -1: 1 for sync-ps, all '
                       'for asynchronous algorithms', least=-1)
    assign: str = key('counter', 'samples of asynchronous algorithms: to whoever is free, by a shared counter, or in '
                      'fixed shares', ('counter', 'static'))
    progress: str = key('poll', 'what serves the other ranks while this one computes: calls between layers, or a '
                        'thread', ('poll', 'thread'))
    max_staleness: int = key(-1, 'updates that others may make between the pull and the push of a rank, in async-ps; '
                             '-1: any number', least=-1)
    staleness_rate: bool = key(False, 'divide the rate of an update of async-ps by its staleness')
    delay_compensation: float = key(0.0, 'lambda of async-ps: g + lambda g^2 (w - w where g was taken); 0: none',
                                    least=0)
    push_every: int = key(1, 'steps of a rank between its pushes to asynchronous servers (n_push)', least=1)
    pull_every: int = key(1, 'steps of a rank between its pulls from asynchronous servers (n_fetch)', least=1)
    elastic: float = key(-1.0, 'elasticity alpha of easgd; -1: 0.9/ranks', least=-1)
    elastic_update: str = key('async', 'of easgd: each rank exchanges with the centre when it has taken its steps, or '
                              'all together after the same step', ('async', 'sync'))
    reduce: str = key('ordered', 'sums: in rank order, the same bits under every MPI; or as the MPI library likes',
                      ('ordered', 'mpi'))
    node_size: int = key(0, 'ranks of a node; 0: those of one machine', least=0)
    meet: int = key(10, 'steps between the meetings at which algorithms that exchange models add up loss, consensus '
                    'distance and stop requests', least=1)
    sample: int = key(1024, 'parameters by which the consensus distance is estimated; 0: do not', least=0)


@dataclass(frozen=True)
class Compress:
    method: str = key('none', 'how gradients, or what ranks have gained, are written for the network; what one message '
                      'does not say is added to the next one',
                      ('none', 'fp16', 'bf16', 'onebit', 'topk', 'threshold', 'qsgd', 'powersgd'))
    after: int = key(-1, 'global samples before which nothing is compressed; -1: the epochs of optim.warmup for topk, '
                     'as in the beginning gradients change too fast for what comes late; 0 for all others', least=-1)
    ratio: float = key(0.01, 'share of the entries that topk sends', least=1e-9, below=1.0000001)
    threshold: float = key(3.0, 'magnitude from which on an entry, of a gradient summed over the frames of a batch, is '
                           'sent by threshold', least=0)
    bits: int = key(8, 'of an entry of qsgd', least=2, below=9)
    rank: int = key(4, 'of the factors of powersgd', least=1)
    feedback: bool = key(True, 'add to the next message what the last one did not say; without, onebit and topk '
                         'learn visibly worse')
    correction: bool = key(False, 'let every rank gather momentum itself, before topk or threshold choose what is '
                           'sent (Lin et al. 2018, arXiv 1712.01887): else momentum is of what comes late and in lumps')
    consensus_step: float = key(-1.0, 'of the way to the public copies of its neighbours that a model of '
                                'sync-decentralized goes (gamma of CHOCO-SGD): the less a message says, the shorter; '
                                '-1: 1 for fp16, bf16 and qsgd (0.05 of 2 bits), 0.5 for onebit, 2 ratio for topk',
                                least=-1, below=1.0000001)
    least: int = key(1024, 'entries below which a tensor goes uncompressed, as do biases: they are few bytes, and act '
                     'on all frames at once; 0: compress everything', least=0)
    seed: int = key(0, 'of the random numbers of qsgd', least=0)


@dataclass(frozen=True)
class Simulate:
    pace: float = key(0.0, 'milliseconds of a step of compute: slept in its place, or on the clock of virtual learners '
                      '(there 0 means 100); 0: compute', least=0)
    slow_rank: str = key('', 'ranks that compute slower: R=FACTOR[,JITTER], several separated by spaces; the jitter is '
                         'the standard deviation of the factor')
    latency: float = key(5.0, 'microseconds of a message between virtual learners', least=0)
    bandwidth: float = key(10.0, 'GB/s between virtual learners', least=1e-6)
    schedule: str = key('clock', 'which virtual learner goes next: the one furthest behind on the clock, or any',
                        ('clock', 'random'))
    seed: int = key(0, 'of the order of virtual learners, and of jitter', least=0)


@dataclass(frozen=True)
class Checkpoint:
    every: int = key(0, 'global samples between checkpoints; 0: at the end of every epoch', least=0)
    keep: int = key(3, 'newest checkpoints kept, beside the best one', least=1)
    background: bool = key(True, 'write them from a copy of the state while training goes on; it takes as much memory')
    grace: float = key(0.0, 'seconds between the signal that asks to stop and the end of the job; a checkpoint that '
                       'takes longer is warned of; 0: the environment variable HPCASR_GRACE, if it is set', least=0)


@dataclass(frozen=True)
class Report:
    every: int = key(10, 'steps between lines of metrics.jsonl', least=1)
    tensorboard: bool = key(True, 'write TensorBoard events')


@dataclass(frozen=True)
class Config:
    model: Model = field(default_factory=Model)
    data: Data = field(default_factory=Data)
    optim: Optim = field(default_factory=Optim)
    train: Train = field(default_factory=Train)
    exchange: Exchange = field(default_factory=Exchange)
    compress: Compress = field(default_factory=Compress)
    simulate: Simulate = field(default_factory=Simulate)
    checkpoint: Checkpoint = field(default_factory=Checkpoint)
    report: Report = field(default_factory=Report)

    def with_values(self, values, source):
        """A copy in which `values`, {'section.key': value or text}, are set.

        Raises BadInput for an unknown key (naming the nearest), a value of another type, an unknown choice.
        """
        sections = {}
        for name, value in values.items():
            section, f = locate(name, source)
            sections.setdefault(section, {})[f.name] = convert(name, f, value, source)
        return replace(self, **{s: replace(getattr(self, s), **v) for s, v in sections.items()})

    def flat(self):
        """{'section.key': value} of every key."""
        return {f'{s}.{k}': v for s, section in asdict(self).items() for k, v in section.items()}


KEYS = {f'{section.name}.{f.name}': (section.name, f)
        for section in fields(Config) for f in fields(section.default_factory)}


def locate(name, source):
    if name in KEYS:
        return KEYS[name]
    near = difflib.get_close_matches(name, KEYS, 1, 0) or [k for k in KEYS if k.endswith('.' + name)]
    raise BadInput(f'{source}: unknown key {name}; did you mean {near[0]}?')


def convert(name, f, value, source):
    try:
        value = PARSE[f.type](value)
    except (TypeError, ValueError, OverflowError):
        raise BadInput(f'{source}: {name} = {value!r} is not a finite {f.type.__name__}' if f.type is float else
                       f'{source}: {name} = {value!r} is not of type {f.type.__name__}') from None
    choices, least, below = (f.metadata[k] for k in ('choices', 'least', 'below'))
    if least is not None and not value >= least:
        raise BadInput(f'{source}: {name} = {value}; the smallest that makes sense is {least}')
    if below is not None and not value < below:
        raise BadInput(f'{source}: {name} = {value}; it must be less than {below}')
    if choices and value not in choices:
        near = difflib.get_close_matches(str(value), choices, 1, 0)
        raise BadInput(f'{source}: {name} = {value!r}; choose one of {", ".join(filter(None, choices))}'
                       + (f' (did you mean {near[0]}?)' if near and near[0] else ''))
    return value


def parse_int(value):
    """An integer; text may end in K, M or G."""
    if isinstance(value, bool) or (isinstance(value, float) and value != int(value)):
        raise ValueError(value)
    if isinstance(value, str) and value[-1:].upper() in SIZES:
        return int(float(value[:-1])*SIZES[value[-1].upper()])
    return int(value)


def parse_float(value):
    if isinstance(value, bool) or not math.isfinite(float(value)):
        raise ValueError(value)
    return float(value)


def parse_bool(value):
    return {'true': True, 'false': False}[str(value).lower()] if str(value).lower() in ('true', 'false') else int('x')


def parse_str(value):
    if not isinstance(value, str):
        raise ValueError(value)
    return value


SIZES = {'K': 10**3, 'M': 10**6, 'G': 10**9}
PARSE = {int: parse_int, float: parse_float, bool: parse_bool, str: parse_str}


def resolve(toml=None, assignments=(), options=None):
    """The Config of a command line: file `toml`, texts 'section.key=value', `options` {'section.key': value}."""
    config = Config()
    if toml:
        config = config.with_values(read_toml(toml), toml)
    for text in assignments:
        name, equals, value = text.partition('=')
        if not equals:
            raise BadInput(f'--set {text}: write --set section.key=value')
        config = config.with_values({name.strip(): value.strip()}, '--set')
    return config.with_values(options or {}, 'command line')


def read_toml(path):
    try:
        content = tomllib.loads(text_of(path).replace('\r\n', '\n'))
    except OSError as e:
        raise BadInput(f'{path}: {e.strerror}') from None
    except (ValueError, RecursionError) as e:  # not TOML, or not even text
        raise BadInput(f'{path}: not TOML: {e}') from None
    return {f'{s}.{k}' if isinstance(v, dict) else s: x
            for s, v in content.items() for k, x in (v.items() if isinstance(v, dict) else [(s, v)])}


def explain(config):
    """Every key as TOML, with its meaning and choices as comments."""
    values, lines, section = config.flat(), [], None
    for name, (head, f) in KEYS.items():
        if head != section:
            lines += ['', f'[{head}]']
            section = head
        choices = ' | '.join(filter(None, f.metadata['choices']))
        why = f.metadata['why'] + (f' ({choices})' if choices else '')
        lines.append(f'{f.name} = {json.dumps(values[name])}  # {why}')
    return '\n'.join(lines[1:])
