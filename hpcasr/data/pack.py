"""Stores into one store: merged, or cut down to some utterances or speakers."""

import hashlib
import json

from hpcasr.data.kaldi import lines, words
from hpcasr.data.progress import silent
from hpcasr.data.store import Store
from hpcasr.data.store_file import reading, refuse_damage
from hpcasr.data.store_summary import digest_problem
from hpcasr.data.store_writer import StoreWriter, Utterances, refuse_existing
from hpcasr.errors import BadInput


def pack(paths, out, utterances=None, speakers=None, dtype=None, provenance=None, force=False, progress=silent):
    """Write the store `out` with the utterances of the stores `paths`, in their order.

    utterances, speakers   files with an id at the beginning of each line: only those
    dtype                  None: that of the first store
    Raises BadInput, naming what differs, unless all have the same columns, front end, targets, tree and lexicon.
    """
    refuse_existing(out, force)
    stores = [sound(path) for path in paths]
    for other in stores[1:]:
        refuse_difference(stores[0], other)
    chosen = choose(stores, ids(utterances), ids(speakers))
    first, labelled = stores[0], stores[0].targets is not None
    origin = {**(provenance or {}), 'sources': {s.path: s.digest for s in stores}}
    with StoreWriter(out, gather(chosen), first.frames.shape[1], dtype or first.frames.dtype, first.splice,
                     first.frontend, origin, first.target_names if labelled else None, force,
                     first.tree, first.lexicon) as writer:
        for store, u in progress(chosen):
            writer.append(*store.utterance(u), store.segments(u))


def sound(path):
    """The Store at `path`, names and texts verified: the new store would vouch for them."""
    store = Store(path)
    with reading(path) as f:
        refuse_damage(path, digest_problem(f))
    return store


def properties(store):
    """What stores must share, in words."""
    return {'columns': store.frames.shape[1], 'splice': store.splice,
            **{f'front end: {k}': v for k, v in store.frontend.items()},
            'targets': store.num_targets or 'none', 'names of the targets': store.target_names,
            'tree': mark(store.tree), 'lexicon': mark(store.lexicon),
            'segments': 'none' if store.segment_offsets is None else 'there'}


def mark(words):
    """What tells a Tree or Lexicon from another: the beginning of a sha256 of its text, whatever its path."""
    if words is None:
        return 'none'
    text = json.loads(words.dumps()) | {'path': ''}
    return hashlib.sha256(json.dumps(text, sort_keys=True).encode()).hexdigest()[:8]


def refuse_difference(a, b):
    mine, other = properties(a), properties(b)
    for key in {**mine, **other}:
        if mine.get(key) != other.get(key):
            raise BadInput(f'{b.path}: cannot be packed with {a.path}: {key} {told(other.get(key))}, there '
                           f'{told(mine.get(key))}')


def told(value):
    return 'differ' if isinstance(value, list) else str(value)


def ids(path):
    """The first words of the lines of a file, or None."""
    return None if path is None else {words(line)[0] for _, line in lines(path)}


def choose(stores, utterances, speakers):
    """[(store, u)] of those wanted; None: all.  Raises BadInput for ids that are nowhere, and for repeated ones."""
    chosen, seen = [], {}
    for store in stores:
        for u, name in enumerate(store.names):
            if wanted(name, utterances) and wanted(store.speaker_name(store.speakers[u]), speakers):
                if name in seen:
                    raise BadInput(f'{store.path}: utterance {name} is in {seen[name]} too; use --utterances LIST')
                seen[name] = store.path
                chosen.append((store, u))
    refuse_unknown(utterances, {name for s in stores for name in s.names}, 'utterance')
    refuse_unknown(speakers, {name for s in stores for name in s.speaker_names}, 'speaker')
    if not chosen:
        raise BadInput('nothing to pack: no utterance is in both lists')
    return chosen


def wanted(name, names):
    return names is None or name in names


def refuse_unknown(asked, known, what):
    if lost := sorted((asked or set()) - known):
        raise BadInput(f'{what} {lost[0]} (and {len(lost) - 1} more) of the list is in none of the stores')


def gather(chosen):
    """The Utterances of the new store."""
    who = [store.speaker_name(store.speakers[u]) for store, u in chosen]
    speakers = sorted(set(who))
    index = {s: i for i, s in enumerate(speakers)}
    return Utterances([store.name(u) for store, u in chosen], [store.length(u) for store, u in chosen],
                      [index[s] for s in who], speakers, [store.text(u) for store, u in chosen])
