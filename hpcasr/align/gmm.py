"""An alignment directory as acoustic model: mixtures of Gaussians of transformed features."""

import json
import math
import pathlib
import struct
import zipfile

import numpy as np

from hpcasr import given
from hpcasr.align.lexicon import Lexicon
from hpcasr.align.mixtures import Mixtures
from hpcasr.align.transform import Transform
from hpcasr.align.tree import Tree
from hpcasr.errors import BadInput
from hpcasr.given import parsed

FORMAT = 'hpcasr-gmm', 1
HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
DAMAGE = (ValueError, LookupError, TypeError, AttributeError, RuntimeError, MemoryError, EOFError, struct.error,
          zipfile.BadZipFile)  # with which NumPy and zipfile meet it
ARRAYS = {'weights': 1, 'means': 2, 'variances': 2, 'starts': 1, 'matrix': 2, 'mean': 1, 'scale': 1}  # dimensions


class GmmModel:
    """The model in the directory `path` that `hpcasr align` made: gmm.npz, tree.json, lexicon.json.

    transform, mixtures   Transform, Mixtures          frontend   of the store it was trained on
    Raises BadInput where something is missing or damaged.
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.transform, self.mixtures, facts = load(self.path/'gmm.npz')
        self.tree = Tree.loads(text_of(self.path/'tree.json'), self.path/'tree.json')
        self.lexicon = Lexicon.loads(text_of(self.path/'lexicon.json'), self.path/'lexicon.json')
        self.frontend, self.num_pdfs = facts.get('frontend', {}), self.mixtures.num_pdfs
        if self.num_pdfs != self.tree.num_pdfs:
            raise BadInput(f'{self.path}: gmm.npz has {self.num_pdfs} pdfs, tree.json {self.tree.num_pdfs}; '
                           'were files of two directories mixed?')

    def loglikes(self, frames):
        """ln p(x|s) of the transformed frames, [T, num_pdfs] float32, of frames [T, D] as a store has them."""
        return self.some(frames, np.arange(self.num_pdfs))

    def some(self, frames, pdfs):
        """The same of the `pdfs` [P] alone: [T, P]."""
        return self.mixtures.loglikes(self.transform(frames), pdfs)

    def refuse_other(self, store):
        """BadInput unless the frames of `store` are made as those of the training data were."""
        refuse_other(store, self.path, len(self.transform.matrix), self.frontend)


def refuse_other(store, path, columns, frontend):
    """BadInput unless a store has so many columns, of this front end; `path` was trained on such."""
    if store.frames.shape[1] != columns:
        raise BadInput(f'{store.path}: {store.frames.shape[1]} columns, but {path} was trained on {columns}; '
                       'import it as the training data was')
    for key in sorted({*frontend, *store.frontend}):
        if frontend.get(key) != store.frontend.get(key):
            raise BadInput(f'{store.path}: front end: {key} is {store.frontend.get(key)}, but {path} was trained with '
                           f'{frontend.get(key)}; make its features as those of the training data')


def dump(file, transform, mixtures, facts):
    """Write the model to an open file; `facts` is a dict for JSON."""
    told = json.dumps({'format': FORMAT[0], 'version': FORMAT[1], **facts})
    np.savez(file, facts=np.frombuffer(told.encode(), np.uint8), **transform.arrays(), **mixtures.arrays())


def load(path):
    """(Transform, Mixtures, facts) of a file that `dump` wrote.  Raises BadInput."""
    try:
        with given.opened(path) as file, np.load(file, allow_pickle=False) as npz:
            require_whole(npz.zip)
            facts = parsed(npz['facts'].tobytes().decode())
            if (facts.pop('format'), facts.pop('version')) != FORMAT:
                raise ValueError('of another version')
            if not isinstance(facts.get('frontend', {}), dict):
                raise ValueError('its front end is not what it should be')
            arrays = {name: npz[name] for name in ARRAYS}
        require_sound(arrays)
    except FileNotFoundError:
        raise BadInput(f'{path}: no such model; make it with hpcasr align flat-start') from None
    except OSError as e:
        raise BadInput(f'{path}: {e.strerror or e}; make it again with hpcasr align flat-start') from None
    except DAMAGE as e:
        raise BadInput(f'{path}: damaged ({e}); make it again with hpcasr align flat-start, or restore it') from None
    return (Transform(*(arrays[k] for k in ('matrix', 'mean', 'scale'))),
            Mixtures(*(arrays[k] for k in ('weights', 'means', 'variances', 'starts'))), facts)


def require_whole(archive):
    """ValueError unless every member of the ZipFile is as `np.savez` makes it: not compressed, as long as its header
    says.  Otherwise some bytes on the disk could ask for any amount of memory.
    """
    for member in archive.infolist():
        with archive.open(member) as f:
            read_header = HEADERS.get(np.lib.format.read_magic(f))
            if member.compress_type != zipfile.ZIP_STORED or not read_header:
                raise ValueError(f'{member.filename} is in another form')
            shape, _, dtype = read_header(f)
            size = f.tell() + math.prod(shape)*dtype.itemsize
            if dtype.hasobject or min(shape, default=0) < 0 or size != member.file_size:
                raise ValueError(f'{member.filename} has another size than its header says')


def require_sound(a):
    """ValueError unless the arrays make a model."""
    for name, dimensions in ARRAYS.items():
        if a[name].ndim != dimensions or a[name].dtype.kind not in 'fi' or not np.isfinite(a[name]).all():
            raise ValueError(f'{name} is not what it should be')
    G, D = a['means'].shape
    shapes = {'weights': (G,), 'variances': (G, D), 'mean': (D,), 'scale': (D,)}
    wrong = [name for name, shape in shapes.items() if a[name].shape != shape]
    positive = all((a[name] > 0).all() for name in ('weights', 'variances', 'scale'))
    starts = a['starts']
    sound = starts.dtype.kind == 'i' and starts[0] == 0 and starts[-1] == G and (np.diff(starts) > 0).all()
    if wrong or not positive or not sound or a['matrix'].shape[1] != D:
        raise ValueError('its arrays do not fit each other')


def text_of(path):
    try:
        return given.text_of(path)
    except (OSError, ValueError) as e:
        raise BadInput(f'{path}: {getattr(e, "strerror", None) or "not UTF-8"}; make it again with hpcasr align '
                       'flat-start, or restore it') from None
