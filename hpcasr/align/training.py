"""What flat start and triphones share: the request, where it is written, the passes, the targets in the end."""

import hashlib
import json
from dataclasses import dataclass

from hpcasr.align.equal import refuse_repeated
from hpcasr.align.folder import Folder
from hpcasr.align.gmm import GmmModel
from hpcasr.align.label import label, open_stores
from hpcasr.align.passes import Passes
from hpcasr.align.shares import Share
from hpcasr.data.pack import mark


@dataclass
class Request:
    """paths       of the stores, that to train on first
    out         directory to make
    passes      over the training data
    num_gauss   Gaussians in the end, None: by the frames
    targets     whether the stores get theirs
    force       replace what is in `out`, and targets
    provenance  of the targets
    note        takes lines for whoever watches
    """

    paths: list
    out: str
    passes: int
    num_gauss: int | None
    targets: bool
    force: bool
    provenance: dict
    note: object


class Training:
    """A request on its way, with the Lexicon to use; `asked` are facts that must not change when it is started again.

    store      that to train on           folder   Folder
    Raises BadInput, on all ranks, before anything is written: stores that have targets, ranks that were asked for
    different things.
    """

    def __init__(self, comm, request, lexicon, asked):
        self.comm, self.request, self.lexicon = comm, request, lexicon
        self.stores, self.folder = comm.together(self.open, asked)
        self.store = self.stores[0]
        comm.compare(self.folder.args)

    def open(self, asked):
        refuse_repeated(self.request.paths)
        stores = open_stores(self.request.paths, force=True)
        folder = Folder(self.request.out, self.args(stores, asked))
        if self.request.targets:
            open_stores(self.request.paths, self.request.force, folder.run)
        return stores, folder

    def args(self, stores, asked):
        """What a stopped command must be started with again."""
        digests = [speech_digest(store) for store in stores]
        return {**asked, 'lexicon': mark(self.lexicon), 'passes': self.request.passes,
                'num_gauss': self.request.num_gauss, 'data': digests[0], 'other data': digests[1:],
                'frontend': stores[0].frontend}

    def survey(self, graphs):
        """The Share of this rank of the training data, after a look at all words of all stores."""
        shares = [Share(store, graphs, self.comm) for store in self.stores]
        found = self.comm.together(lambda: [share.phones() for share in shares])
        seen = set().union(*self.comm.allgather(found[0]))
        unseen = [p for p in graphs.lexicon.phones if p not in seen]
        if unseen:
            self.note(f'warning: {self.store.path}: has no word with {" ".join(unseen)}; all frames are their model')
        return shares[0]

    def note(self, line):
        if self.comm.rank == 0:
            self.request.note(line)

    def run(self, state, share, begin, goal):
        """All passes; then all stores are aligned.  Returns the facts in OUT/DONE."""
        passes = Passes(self.comm, share, self.folder, self.request.passes, goal, self.note)
        state = passes.run(state, begin)
        self.comm.first(self.folder.finish, state)
        model = self.comm.together(GmmModel, self.folder.path)
        facts = {**state.log[-1], 'pdfs': model.num_pdfs, 'gaussians': model.mixtures.num_gauss}
        if self.request.targets:
            told = self.request.provenance | {'run': self.folder.run}
            tallies = label(self.comm, self.stores, model, told, self.note)
            facts['failed'] = {s.path: int(t.failed) for s, t in zip(self.stores, tallies, strict=True)}
        self.comm.first(self.folder.done, facts)
        return facts


def speech_digest(store):
    """sha256 over frames and transcripts, whatever targets there are."""
    told = json.dumps([store.names, store.texts, store.frontend], sort_keys=True)
    return sha256(told, store.offsets, store.frames_crc)


def sha256(text, *arrays):
    digest = hashlib.sha256(text.encode())
    for x in arrays:
        digest.update(x)
    return digest.hexdigest()
