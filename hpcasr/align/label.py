"""Stores get the targets, the phones and the words that an acoustic model finds in them."""

import os
from itertools import chain

import numpy as np

from hpcasr.align.graph import Graphs
from hpcasr.align.parts import read_part, scratch, write_part
from hpcasr.align.shares import Share
from hpcasr.align.stopping import until_asked
from hpcasr.align.sweep import Tally
from hpcasr.align.viterbi import ACOUSTIC_SCALE, best_path, columns
from hpcasr.data.store import Store, not_finite, refuse_labelled, write_targets
from hpcasr.errors import BadInput


def open_stores(paths, force, run=''):
    """The Stores to label, whatever targets they have.

    BadInput if one has targets, unless `force`, or unless they are those of the interrupted command `run`.
    """
    stores = [Store(path, targets=False) for path in paths]
    for store in stores:
        if not run or told(store).get('run') != run:
            refuse_labelled(store.path, force)
    return stores


def told(store):
    """How its targets were made."""
    return store.provenance.get('targets') or {}


def prepare(comm, stores, graphs, model):
    """The Shares of this rank.  BadInput, on all ranks, where a store does not fit the model, or a word is unknown."""
    def look(store):
        model.refuse_other(store)
        share = Share(store, graphs, comm, memory=0)
        share.phones()
        return share
    return comm.together(lambda: [look(store) for store in stores])


def label(comm, stores, model, provenance, note, scale=ACOUSTIC_SCALE):
    """Align all stores with `model`, an acoustic model with Tree and Lexicon; then write their targets.

    An utterance without a path gets an equal split; they are told in a line per store.  Returns [Tally] of the stores.
    Nothing is written before all are aligned.  Raises BadInput, on all ranks.
    """
    shares = prepare(comm, stores, Graphs(model.lexicon, model.tree), model)
    with scratch(comm, os.path.dirname(os.path.abspath(stores[0].path))) as folder:
        tallies = [align_store(comm, share, model, scale, part_of(folder, k)) for k, share in enumerate(shares)]
        for k, (store, tally) in enumerate(zip(stores, tallies, strict=True)):
            if tally.failed:
                note(f'{store.path}: {tally.failed:.0f} utterances have no path, first {store.name(tally.first)}: '
                     'too few frames for their words; they were split equally')
            comm.first(write, store, model, part_of(folder, k), comm.size, provenance)
    return tallies


def part_of(folder, k):
    """Name of the file of a rank for store k."""
    return lambda rank: f'{folder}/{k}.{rank}'


def align_store(comm, share, model, scale, part):
    """Write this rank's part of a store; the Tally of all ranks."""
    tally = Tally()
    comm.together(write_part, part(comm.rank), alignments(share, model, scale, tally))
    tally.sum(comm)
    tally.refuse_most(share.store)
    return tally


def alignments(share, model, scale, tally):
    """Yield (pdfs [T], segments [n, 4]) of every utterance of the Share."""
    for u in until_asked(share.utterances):
        frames, graph = share.frames(u), share.graph(u)
        score, path = best_path(graph, len(frames), loglikes(model, frames, graph.pdfs, share.where(u)), scale)
        if score == -np.inf:
            tally.fail(u)
            graph = share.chain(u)
            path = graph.equal(len(frames))
        else:
            tally.add(score, graph, path)
        yield graph.alignment(path), graph.segments(path)


def loglikes(model, frames, pdfs, where):
    """What `best_path` asks for; of a model that computes some frames and some pdfs alone no others.

    BadInput, which begins with `where`, if one is not finite: without it the utterance would just have no path.
    """
    some = getattr(model, 'some', None)
    if some is None:
        of = columns(model.loglikes(frames), pdfs)
    else:
        of = lambda a, b: some(frames[a:b], pdfs)

    def finite(a, b):
        y = of(a, b)
        if not np.isfinite(y).all():
            raise BadInput(f'{where}: {model.path} gives {not_finite(y)}; train it again')
        return y
    return finite


def write(store, model, part, ranks, provenance):
    """The targets of one store, from the parts of all ranks.  Called by one of them."""
    labels = until_asked(chain.from_iterable(read_part(part(rank)) for rank in range(ranks)))
    write_targets(store.path, labels, model.tree.num_pdfs, model.tree.target_names, provenance, force=True,
                  tree=model.tree, lexicon=model.lexicon)
