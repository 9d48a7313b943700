"""Who reads which files, and what of it a command would do with them."""

import importlib
import os
import re
import sys
from dataclasses import dataclass, field

import numpy as np

from hpcasr import config, given, journal, machine, patience
from hpcasr.acoustic import open_model
from hpcasr.align.folder import Folder
from hpcasr.align.gmm import GmmModel
from hpcasr.align.graph import Graphs
from hpcasr.align.lexicon import Lexicon
from hpcasr.align.tree import Tree
from hpcasr.bench.wire import session
from hpcasr.checkpoint import Checkpoints
from hpcasr.comm.base import Comm
from hpcasr.data.alignment import open_alignment
from hpcasr.data.audio import cut, recordings, segments
from hpcasr.data.check import check_directory, check_store
from hpcasr.data.directory import DataDirectory
from hpcasr.data.features import Features
from hpcasr.data.frontend import Frontend
from hpcasr.data.ingest import Ingest
from hpcasr.data.kaldi import Scp
from hpcasr.data.pack import properties
from hpcasr.data.perturb import slopes
from hpcasr.data.store import Store
from hpcasr.data.summary import summary
from hpcasr.data.transition_model import TransitionModel
from hpcasr.decode.arpa import read_arpa
from hpcasr.decode.lang import Language
from hpcasr.decode.results import best_point, score_directory
from hpcasr.decode.search import Graph, Search
from hpcasr.decode.sentences import Text
from hpcasr.errors import BadInput
from hpcasr.report import curves
from tests.fuzz import special
from tests.test_journal import head

patience.PAUSES = ()  # nothing here comes back after a while
given.PATIENCE = 0.01  # and nobody begins to write to a pipe


@dataclass
class Reader:
    """read      function of a folder that holds the files; raises BadInput
    modules   whose lines count, `module` or `module:Name,Name`: classes and functions that only write do not
    seeds     folder of the files, by default `name`
    files     pattern of the names that are spoilt
    special   {suffix: [change(rng, content)]} beyond those of mutate.py
    probes    whether it may start a Python of its own to look at a file first
    writes    whether it writes among the files
    """

    name: str
    read: object
    modules: tuple
    seeds: str = ''
    files: str = '.*'
    special: dict = field(default_factory=dict)
    probes: bool = False
    writes: bool = False

    def __post_init__(self):
        self.seeds = self.seeds or self.name

    def takes(self, name):
        return re.fullmatch(self.files, name)

    def lines(self):
        """{(file, line)} that may be reached."""
        from tests.fuzz.traced import lines_of
        found = set()
        for entry in self.modules:
            module, _, names = entry.partition(':')
            wanted = names.split(',') if names else ()
            only = lambda q, wanted=wanted: any(q == name or q.startswith(name + '.') for name in wanted)
            found |= lines_of(importlib.import_module(f'hpcasr.{module}').__file__, only if wanted else None)
        return found

    def allowed(self, event, args):
        return self.probes and event == 'subprocess.Popen' and args[0] == sys.executable

    def read_whole(self, folder):
        """Read what is not spoilt, so that everything is loaded."""
        here = os.getcwd()
        os.chdir(folder)
        try:
            self.read(folder)
        finally:
            os.chdir(here)


def each(paths, read):
    """read(path) of every path, whatever becomes of the others; then the first BadInput."""
    refused = []
    for path in list(paths):
        try:
            read(path)
        except BadInput as e:
            refused.append(e)
    if refused:
        raise refused[0]


def ark(folder):
    for path in sorted(folder.glob('*.scp')):
        scp = Scp(path)
        each(scp.keys(), scp.matrix)


def scp(folder):
    """The tables of a data directory."""
    check_directory(folder)
    DataDirectory(folder).utterances(intersect=True)
    source = Ingest(folder, Frontend())
    source.survey()
    source.describe()


def alignment(folder):
    for path in 'pdf.ark', 'text.ark', 'pdf.scp', 'ali', 'ali-text':
        found = open_alignment(str(folder/path))
        found.rewind(set(found.keys()))
        for key in list(found.keys()):
            found.get(key)


def read_store(path):
    summary(Store(path))
    check_store(path)
    store = Store(path)
    properties(store), slopes(store, 1.1)
    for u in range(store.num_utterances):
        store.utterance(u), store.segments(u), store.text(u)


def stores(folder):
    each(folder.glob('*.h5'), read_store)


def toml(folder):
    each(folder.glob('*.toml'), lambda path: config.explain(config.resolve(path)))


def lexicon(folder):
    each(folder.glob('*.txt'), read_lexicon)


def read_lexicon(path):
    found = Lexicon(path, stress=False)
    found = Lexicon.loads(found.dumps(), path)
    tree = Tree.monophone(found.phones)
    language = Language(found.variants, tree.phones, path)
    language.words_table()
    Graphs(found, tree).of(language.words[:3], path)


def arpa(folder):
    model, _ = read_arpa(folder/'graph'/'lm.arpa', ['A', 'EAT', 'TEA', '<UNK>'])
    model.perplexity([['A', 'TEA'], ['EAT']]) if hasattr(model, 'perplexity') else None


def checkpoint(folder):
    found = Checkpoints(folder/'exp', Comm())
    found.best()
    for path in found.paths():
        from hpcasr.checkpoint import verify
        verify(path)
        found.load(path)


def experiment(folder):
    """The network of an experiment, on some frames."""
    config.resolve(folder/'exp'/'config.toml')
    model = open_model(folder/'exp', 'average')
    model.loglikes(np.zeros((7, model.columns), np.float32))
    if model.lexicon and model.tree:
        use(model.lexicon, model.tree, folder)


def use(lexicon, tree, where):
    language = Language(lexicon.variants, tree.phones, where)
    Graphs(lexicon, tree).of(language.words[:2], where)
    tree.dumps(), tree.target_names, lexicon.dumps()


def mixtures(folder):
    model = GmmModel(folder/'ali')
    model.loglikes(np.zeros((3, len(model.transform.matrix)), np.float32))
    use(model.lexicon, model.tree, folder)
    ali = Folder(folder/'ali', {'frontend': {}})
    ali.goes_on(False), ali.difference()
    ali.load()


def scores(folder):
    best_point(folder/'out'/'decoded')
    score_directory(folder/'out'/'decoded')


def audio(folder):
    each(recordings(folder).values(), lambda recording: Features()(recording.samples(16000)))


def tables_of_audio(folder):
    known = recordings(folder)
    for s in segments(folder, known):
        cut(np.zeros(4000, np.float32), 16000, s, 'here')


def record(folder):
    path = folder/'r.bin'
    journal.stretches(path, head(), 0, 1)
    journal.go_on(path, head(), 1)


def mdl(folder):
    each(folder.glob('*.mdl'), TransitionModel)


def machines(folder):
    config.Config().with_values(machine.links(folder/'machine.json'), 'here')


def figures(folder):
    out = folder/'out'
    session.stored([str(folder/'now.json')], session.Outputs(baseline=str(folder/'before.json'), csv=str(out/'x.csv'),
                                                             json=str(out/'x.json'), least=1e-9, tolerance=1e6))


def graph(folder):
    found = Graph(folder/'graph')
    search = Search(found.penalized(0.5))
    ids, _ = search.best(np.zeros((2, found.num_pdfs), np.float32))
    [found.word(i) for i in ids]


def metrics(folder):
    curves.table(curves.rows([folder/'exp']))


def sentences(folder):
    for name in 'text', 'kaldi-text':
        text = Text(folder/name, kaldi=name != 'text')
        text.known_as({'A', 'TEA'}, 'A'), text.unknown({'A', 'TEA'})


READERS = (
    Reader('ark', ark, ('data.kaldi:Scp,bounds,read_matrix,table,lines',), files=r'.*\.(ark|scp)'),
    Reader('alignment', alignment, ('data.alignment', 'data.kaldi:read_integers,read_binary_integers')),
    Reader('mdl', mdl, ('data.transition_model',)),
    Reader('tables', scp, ('data.directory', 'data.ingest:Ingest,how_made', 'data.kaldi:lines,table,Scp'),
           seeds='data'),
    Reader('store', stores, ('data.store:Store', 'data.store_file:reading', 'data.store_layout',
                             'data.check:check_store,'
                             'check_words,check_segments,check_utterance,check_totals', 'data.store_map'),
           special={'.h5': special.STORE}, probes=True),
    Reader('audio', audio, ('data.audio',), files=r'.*\.(wav|flac|ogg|opus|mp3|aiff)'),
    Reader('wav.scp', tables_of_audio, ('data.audio:recordings,recording,segments,segment,cut',), seeds='audio',
           files='wav.scp|segments'),
    Reader('toml', toml, ('config',)),
    Reader('lexicon', lexicon, ('align.lexicon', 'decode.lang:Language')),
    Reader('sentences', sentences, ('decode.sentences',)),
    Reader('arpa', arpa, ('decode.arpa:read_arpa,Parser,close,backed_off,arrays,refuse_useless',)),
    Reader('checkpoint', checkpoint, ('checkpoint:verify,held_out,read_h5,Checkpoints.best,Checkpoints.paths,'
                                      'Checkpoints.load',), special={'.h5': special.HDF5}),
    Reader('experiment', experiment, ('acoustic.card:read_card', 'acoustic.hybrid', 'align.tree'),
           special={'.h5': special.HDF5}),
    Reader('mixtures', mixtures, ('align.gmm',
                                  'align.folder:Folder.goes_on,Folder.found,Folder.difference,Folder.load'),
           special={'.npz': special.NPZ}),
    Reader('graph', graph, ('decode.search:Graph,read_facts,read_words,read_fst,penalized',)),
    Reader('scores', scores, ('decode.results', 'decode.texts'), writes=True),
    Reader('metrics', metrics, ('report.curves:read,parsed,is_number,rows,row,table',)),
    Reader('record', record,
           ('journal:read,cut,unpack,learners,stretches,require_head,require_every_sample,require_own,'
                              'require_every_ticket,require_same_run,go_on',), special={'.bin': special.RECORD}),
    Reader('machine', machines, ('machine:links',)),
    Reader('figures', figures, ('bench.wire.results:read,is_rows', 'bench.wire.verdict')),
)
