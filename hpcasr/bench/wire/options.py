"""What the command line says of a run of tests."""

from dataclasses import dataclass, field

from hpcasr.bench.wire.buffers import Buffers, get_buffers


@dataclass
class Options:
    """sizes (least, most) [bytes], most None: up to 256 MB, or less where memory is short; None: OSU's numbers.

    iterations, warm_up, cap     runs of a size, runs before that, seconds that all of them may take
    window, type, kind           messages of a window, of what type, in which buffers
    window_kind, sync, target    of one-sided tests
    pattern                      of neighbor
    validate                     compare what comes with what was sent
    plain                        MPI's own calls on every window, also where training has one
    """

    sizes: tuple = (1, None)
    iterations: int | None = None
    warm_up: int | None = None
    cap: float = 1.0
    window: int = 64
    type: str | None = None
    kind: str = 'numpy'
    window_kind: str = 'allocate'
    sync: str = 'lock_all'
    target: str = 'idle'
    pattern: str = 'ring'
    validate: bool = True
    plain: bool = False
    buffers: Buffers = field(init=False, repr=False, default=None)

    def load(self):
        """Raises BadInput where the library behind the buffers is missing."""
        self.buffers = get_buffers(self.kind)
        return self
