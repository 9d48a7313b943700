"""The log-likelihoods of every utterance, in the archive that Kaldi's decoders read."""

import os
from contextlib import closing, suppress
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

from hpcasr.acoustic import open_model
from hpcasr.checkpoint import writing
from hpcasr.comm.base import cuts
from hpcasr.data.frontend import Frontend
from hpcasr.data.ingest import Ingest
from hpcasr.data.kaldi import ArkWriter
from hpcasr.data.progress import silent
from hpcasr.data.store import Store, not_finite, refuse_existing
from hpcasr.errors import BadInput

OUTPUTS = {'loglikes': 'loglikes', 'log-posteriors': 'log_posteriors'}  # name: method of the acoustic model
BLOCK = 1 << 24  # bytes copied at once


@dataclass
class Request:
    """What the command line asks for.

    model       directory of an experiment or of an alignment; `checkpoint`, `window` as for open_model
    data        store, or Kaldi data directory with feats.scp
    out         archive to write; `scp`: its index, too, with the other ending
    output      one of OUTPUTS
    """

    model: str
    data: str
    out: str
    output: str = 'loglikes'
    checkpoint: str = 'best'
    window: tuple | None = None
    scp: bool = False
    compress: bool = False
    allow_pipes: bool = False
    force: bool = False

    @property
    def index(self):
        """The path of the scp."""
        return os.path.splitext(self.out)[0] + '.scp'

    def refuse_existing(self):
        """BadInput unless the files can be made."""
        if self.out == '-' or self.out.endswith('.scp'):
            raise BadInput(f'--out {self.out}: give an archive, such as loglikes.ark; its index (--scp) lies beside it')
        for path in [self.out, self.index] if self.scp else [self.out]:
            refuse_existing(path, self.force)


def forward(comm, request, progress=silent):
    """Write the archive: a float matrix [T, K] per utterance, in the order of the data; (utterances, frames, K).

    All learners call it; each computes its share, learner 0 joins them, so the bytes do not depend on how many there
    are.  Raises BadInput on all of them, and leaves nothing behind then.
    """
    comm.compare(vars(request))
    comm.together(request.refuse_existing)
    model = comm.together(open_model, request.model, request.checkpoint, request.window)
    method = comm.together(method_of, model, request.output)
    source = comm.together(open_source, request.data, model, request.allow_pipes)
    part = Part(f'{request.out}.tmp-{comm.allgather(os.getpid())[0]}', comm.rank)
    try:
        frames = comm.together(part.write, source, method, comm, request, progress)
        parts = comm.allgather(part)
        comm.first(join, parts, request)
    finally:
        part.remove()
    return len(source.names), sum(comm.allgather(frames)), model.num_pdfs


def method_of(model, output):
    """The function of the model that gives `output`."""
    found = getattr(model, OUTPUTS[output], None)
    if found is None:
        raise BadInput(f'{model.path}: mixtures of Gaussians have no {output}; ask for loglikes')
    return found


class Part:
    """What one rank writes: an archive and its index beside the final ones."""

    def __init__(self, stem, rank):
        self.ark, self.scp = f'{stem}-{rank:04}.ark', f'{stem}-{rank:04}.scp'

    def write(self, source, method, comm, request, progress):
        """Compute and write the utterances of this rank; how many frames they have."""
        first, last = source.bounds(comm.size)[comm.rank:comm.rank + 2]
        frames = 0
        with writing(request.out, 'nothing was written; make room, or choose another --out'), \
                closing(ArkWriter(self.ark, self.scp, os.path.abspath(request.out), request.compress)) as ark:
            for name, x in progress(source.frames(first, last), last - first):
                y = method(x)
                if not np.isfinite(y).all():
                    raise BadInput(f'{request.model}: gives {not_finite(y)} of utterance {name}; train it again')
                ark.write(name, y)
                frames += len(y)
        return frames

    def remove(self):
        for path in self.ark, self.scp:
            with suppress(FileNotFoundError):
                os.unlink(path)


def join(parts, request):
    """Append the parts of the others to the first and give it the final name; the index with it."""
    for part in parts:
        if not os.path.exists(part.ark):
            raise BadInput(f'{part.ark}: is not seen by rank 0; choose an --out in a folder that all ranks share')
    with writing(request.out, 'nothing was written; make room, or choose another --out'):
        with open(parts[0].ark, 'ab') as ark, open(parts[0].scp, 'a', encoding='utf-8') as scp:
            for part in parts[1:]:
                scp.writelines(moved(part.scp, ark.tell()))
                append(part.ark, ark)
                part.remove()
            ark.flush()
            os.fsync(ark.fileno())
        os.replace(parts[0].ark, request.out)
        if request.scp:
            os.replace(parts[0].scp, request.index)


def append(path, ark):
    with open(path, 'rb') as f:
        while block := f.read(BLOCK):
            ark.write(block)


def moved(path, by):
    """The lines of an index whose archive begins `by` bytes later."""
    with open(path, encoding='utf-8') as f:
        for line in f:
            place, offset = line.rsplit(':', 1)
            yield f'{place}:{int(offset) + by}\n'


def open_source(path, model, allow_pipes=False):
    """The utterances of a store or of a Kaldi data directory.  BadInput unless they are such as the model knows."""
    return FromDirectory(path, model, allow_pipes) if os.path.isdir(path) else FromStore(path, model)


class FromStore:
    """Utterances as a store has them."""

    def __init__(self, path, model):
        self.store = Store(path, targets=False)
        model.refuse_other(self.store)
        self.names = self.store.names

    def bounds(self, parts):
        """[parts + 1] utterances between which the parts lie, about as many frames in each."""
        ends = np.searchsorted(self.store.offsets, cuts(self.store.num_frames, parts)).tolist()
        return [*ends[:-1], len(self.names)]

    def frames(self, first, last):
        """(name, [T, D]) of the utterances first .. last."""
        for u in range(first, last):
            yield self.names[u], self.store.utterance(u)[0]


class FromDirectory:
    """Utterances of feats.scp, with the deltas and the normalization that the training data had."""

    def __init__(self, path, model, allow_pipes=False):
        self.source = Ingest(path, recorded(model), allow_pipes=allow_pipes)
        self.names = self.source.names
        columns = self.source.features(self.names[0]).shape[1]*(1 + self.source.frontend.deltas)
        model.refuse_other(SimpleNamespace(path=path, frames=np.empty((0, columns)), frontend=self.source.describe(),
                                           splice=getattr(model, 'splice', (0, 0))))  # applied by the model

    def bounds(self, parts):
        return cuts(len(self.names), parts).tolist()

    def frames(self, first, last):
        mine = self.names[first:last]
        frontend, speaker = self.source.frontend, self.source.speaker
        self.learn({speaker(name) for name in mine})
        for name in mine:
            yield name, frontend.apply(self.source.features(name), speaker(name))

    def learn(self, speakers):
        """Statistics of all utterances of the speakers, those of other ranks among them."""
        for name in self.names if self.source.frontend.cmvn == 'speaker' else ():
            if self.source.speaker(name) in speakers:
                self.source.frontend.observe(self.source.features(name), self.source.speaker(name))


def recorded(model):
    """The Frontend of the data on which the model was trained.  BadInput if it does not say."""
    made = model.frontend
    try:
        return Frontend(made['deltas'], made['cmvn'], made['cmvn_vars'])
    except KeyError:
        raise BadInput(f'{model.path}: does not say how its features were made; import the data as those it was '
                       f'trained on, and give the store') from None
