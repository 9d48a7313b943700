"""What there is to check and to time, the most important first: all of it fits into eight minutes on one H200."""

from dataclasses import dataclass

from hpcasr.bench.cpu import Case
from hpcasr.errors import BadInput

PRECISIONS = 'bf16', 'tf32', 'fp32'
BOUNDS = {'fp32': 1e-5, 'tf32': 1e-3, 'bf16': 1e-2}  # relative, of losses and gradients, against float64


@dataclass(frozen=True)
class Section:
    """`what`: one line; seconds: it is ended after; cores: it computes on the processor as well, with all of them."""

    what: str
    seconds: int
    cores: bool = False


SECTIONS = {
    'machine': Section('the GPU, its software, and the best speeds of a copy and of a product', 45),
    'layers': Section('every kind of layer, one step of masked chunks, against float64', 90, cores=True),
    'vectors': Section('kernels over flat vectors, against float64, and their share of the bandwidth of a copy', 60),
    'features': Section('the input of a network, as the host makes it, in float64', 30),
    'training': Section('three training steps of the whole model, against float64', 90, cores=True),
    'steps': Section('a training step beside PyTorch: nn.LSTM of cuDNN, eager and as a CUDA graph', 150),
    'parts': Section('layers of LSTM, and the softmax layer with its loss, beside PyTorch', 90),
    'levels': Section('the recurrence in one launch, against and beside that of a launch per step', 120),
    'latency': Section('what a launch, a node of a graph and a barrier between blocks cost', 45),
    'ranks': Section('ranks that share the GPU, against as many virtual learners', 120),
    'agreement': Section('training on the GPU and on the processor, from the same seed', 120),
    'algorithms': Section('samples per second of every algorithm, on ranks that share the GPU', 120),
}


@dataclass(frozen=True)
class Sizes:
    """How large everything is.

    cases      {name: Case} that are timed; the first one is checked, too
    entries    of flat vectors; square: rows of the matrices that show the speed of products
    blocks     of `steps` steps of each thing that is timed, in turn
    jobs       options of `hpcasr train` for runs that are compared
    race       options of `hpcasr bench algorithms`
    """

    cases: dict
    entries: int
    square: int
    blocks: int
    steps: int
    ranks: tuple
    jobs: tuple
    race: tuple


SWB2000 = 21, 260, 32000, (('preset', 'swb2000'),)
FULL = Sizes(cases={'swb2000 x 128': Case(128, *SWB2000), 'swb2000 x 256': Case(256, *SWB2000),
                    'mid x 128': Case(128, 21, 40, 4000, (('preset', 'mid'),))},
             entries=43_130_001, square=8192, blocks=12, steps=8, ranks=(2, 4),
             jobs=('--backend', 'cuda', '--epochs', '2', '--batch', '32'),
             race=('--set', 'train.backend=cuda', '--model', 'mid', '--batch', '128', '--targets', '4000', '--blocks',
                   '3'))
TINY = ('preset', 'tiny'), ('layers', 2), ('cells', 3), ('bottleneck', 2)
QUICK = Sizes(cases={'tiny x 3': Case(3, 3, 5, 7, TINY)}, entries=37, square=8, blocks=1, steps=1, ranks=(2,),
              jobs=('--backend', 'cuda', '--epochs', '1', '--batch', '64', '--set', 'model.cells=3'),
              race=('--set', 'train.backend=cuda', '--model', 'tiny', '--algo', 'delay-by-one', '--blocks', '1'))
SIZES = {'full': FULL, 'quick': QUICK}


def chosen(names):
    """{name: Section} of these, () for all, in their order; `machine` is always there.  Raises BadInput."""
    if unknown := [name for name in names if name not in SECTIONS]:
        raise BadInput(f'no section {unknown[0]!r}; choose of {", ".join(SECTIONS)}')
    return {name: section for name, section in SECTIONS.items() if not names or name in (*names, 'machine')}
