"""Is a store or a Kaldi data directory what it should be?  One line for every problem."""

import os
from itertools import pairwise
from pathlib import Path

import numpy as np

from hpcasr.align.tree import leaves
from hpcasr.data.audio import recordings, segments
from hpcasr.data.features import inverse
from hpcasr.data.kaldi import Scp, table, words
from hpcasr.data.progress import silent
from hpcasr.data.store import Store
from hpcasr.data.store_file import reading
from hpcasr.data.store_layout import layout_problems
from hpcasr.data.store_segments import other_phone, segment_problem
from hpcasr.data.store_summary import digest_problem
from hpcasr.data.store_writer import not_finite
from hpcasr.errors import BadInput

BY_UTTERANCE = 'feats.scp', 'utt2spk', 'text', 'segments', 'utt2num_frames', 'utt2dur'
TABLES = *BY_UTTERANCE, 'wav.scp', 'spk2utt', 'spk2gender'


def problems(path, allow_pipes=False, progress=silent):
    """Lines, none if all is well.  Raises BadInput for what is neither a store nor a directory."""
    if os.path.isdir(path):
        return check_directory(Path(path), allow_pipes, progress)
    return check_store(path, progress)


def check_store(path, progress=silent):
    """Every checksum, finite frames, offsets, speakers, targets, their counts, tree, segments, and the digest."""
    store = Store(path, verify=False)
    if layout := list(layout_problems(store)):
        return [f'{path}: {problem}' for problem in layout]
    counts = np.zeros(store.num_targets, np.int64)
    try:
        tree = store.tree
        lines = list(check_words(store, tree))
    except BadInput as e:
        return [str(e)]
    owners = None if lines else ownership(tree)
    for u in progress(range(store.num_utterances)):
        lines += check_utterance(store, u, counts)
        lines += check_segments(store, u, tree, owners)
    return lines + list(check_totals(store, counts))


def check_words(store, tree):
    """Problems of tree and lexicon."""
    if tree is not None and tree.num_pdfs != store.num_targets:
        yield f'{store.path}: its tree has {tree.num_pdfs} pdfs, but it has {store.num_targets} targets'
    if tree is not None and store.lexicon is not None:
        try:
            store.lexicon.refuse_other_phones(tree)
        except BadInput as e:
            yield f'{store.path}: its lexicon does not fit its tree: {e}'


def ownership(tree):
    """[P, K] bool: whether pdf k belongs to phone p of the Tree; None for None."""
    if tree is None:
        return None
    owners = np.zeros((len(tree.phones), tree.num_pdfs), bool)
    for k, root in enumerate(tree.roots):
        owners[k//tree.states, list(leaves(root))] = True
    return owners


def check_segments(store, u, tree, owners):
    """Problems of the segments of an utterance; `owners` is the `ownership` of a sound tree, or None."""
    where, segments = f'{store.path}: utterance {store.name(u)}', store.segments(u)
    if segments is None:
        return
    if damage := store.segment_damage(u, segments):
        yield f'{store.path}: {damage}'
    phones = None if tree is None else len(tree.phones)
    if problem := segment_problem(segments, store.length(u), phones, len(words(store.text(u)))):
        yield f'{where}: {problem}'
    elif owners is not None and (t := other_phone(segments, store.utterance(u)[1], owners)) is not None:
        yield f'{where}: the target of frame {t} is not a pdf of its phone in the tree'


def check_utterance(store, u, counts):
    """Problems of one utterance; `counts` [K] is added to where all its targets are in range."""
    where = f'{store.path}: utterance {store.name(u)}'
    damage = store.damage(u)
    if damage:
        yield f'{store.path}: {damage}'
    frames, targets = store.utterance(u)
    if not np.isfinite(frames).all() and not_finite(frames) not in damage:
        yield f'{where}: {not_finite(frames)}'
    if targets is None:
        return
    if 0 <= targets.min() <= targets.max() < len(counts):
        counts += np.bincount(targets, minlength=len(counts))
    else:
        yield f'{where}: targets {targets.min()} .. {targets.max()} are not in 0..{len(counts) - 1}'


def check_totals(store, counts):
    whole = store.targets is not None and counts.sum() == store.num_frames  # of a store without targets out of range
    if whole and not np.array_equal(counts, store.counts()):
        yield f'{store.path}: counts of the targets differ from the targets'
    with reading(store.path) as f:
        if problem := digest_problem(f):
            yield f'{store.path}: {problem}'


def check_directory(path, allow_pipes=False, progress=silent):
    """What utils/validate_data_dir.sh checks, and every feature matrix."""
    tables, lines = read_tables(path)
    for needed in {'utt2spk'} - tables.keys():
        lines.append(f'{path}: has no {needed}')
    if 'feats.scp' not in tables and 'wav.scp' not in tables:
        lines.append(f'{path}: has neither wav.scp nor feats.scp')
    for name, rows in tables.items():
        lines += check_order(path/name, rows)
    lines += check_utterances(path, tables)
    lines += check_speakers(path, tables)
    lines += check_audio(path, tables, allow_pipes)
    return lines + check_features(path, tables, allow_pipes, progress)


def read_tables(path):
    """{name: rows} of the tables that can be read, and problems of the others."""
    tables, lines = {}, []
    for name in TABLES:
        try:
            if (path/name).exists():
                tables[name] = table(path/name)
        except BadInput as e:
            lines.append(str(e))
    return tables, lines


def check_order(path, rows):
    """Sorted as by LC_ALL=C, which is the order of the bytes."""
    keys = [key.encode() for key in rows]
    return next(([f'{path}: not sorted: {b.decode()} after {a.decode()}; use LC_ALL=C sort']
                 for a, b in pairwise(keys) if b < a), [])


def check_utterances(path, tables):
    """Tables by utterance agree about the utterances with utt2spk."""
    spoken, segmented = tables.get('utt2spk', {}), (path/'segments').exists()
    for name in [n for n in (*BY_UTTERANCE, *['wav.scp']*(not segmented)) if n in tables]:
        lost = spoken.keys() ^ tables[name].keys()
        if lost:
            first = min(lost)
            which = (name, 'utt2spk') if first in tables[name] else ('utt2spk', name)
            yield f'{path}: utterance {first} is in {which[0]} but not in {which[1]}; they differ in {len(lost)}'


def check_speakers(path, tables):
    spoken = tables.get('utt2spk', {})
    for utterance, speaker in spoken.items():
        if len(speaker.split()) != 1:
            yield f'{path}: utt2spk: utterance {utterance}: expected one speaker, got {speaker!r}'
    if 'spk2utt' in tables and {k: v.split() for k, v in tables['spk2utt'].items()} != inverse(spoken):
        yield f'{path}: spk2utt is not the inverse of utt2spk; utils/utt2spk_to_spk2utt.pl makes it'
    order = [speaker.encode() for speaker in spoken.values()]
    if order != sorted(order):
        yield f'{path}: utt2spk is not sorted by speaker; make speaker ids prefixes of utterance ids'


def check_audio(path, tables, allow_pipes):
    """Recordings are there, and segments name them."""
    try:
        if 'wav.scp' in tables:
            segments(path, recordings(path, allow_pipes))
    except BadInput as e:
        yield str(e)


def check_features(path, tables, allow_pipes, progress):
    """Every matrix can be read, is finite, and has the columns and frames it should have."""
    if 'feats.scp' not in tables:
        return []
    try:
        feats = Scp(path/'feats.scp', allow_pipes)
    except BadInput as e:
        return [str(e)]
    lengths, columns, lines = tables.get('utt2num_frames', {}), set(), []
    for key in progress(feats.keys()):
        lines += check_matrix(feats, key, lengths.get(key), columns)
    return lines


def check_matrix(feats, key, length, columns):
    """Problems of one matrix; `columns` is the set of widths met so far."""
    try:
        x = feats.matrix(key)
    except BadInput as e:
        yield str(e)
        return
    if not len(x):
        yield f'{feats.where(key)}: has no frames'
    if not np.isfinite(x).all():
        yield f'{feats.where(key)}: {not_finite(x)}'
    if length is not None and length != str(len(x)):
        yield f'{feats.where(key)}: {len(x)} frames, but {length} in utt2num_frames'
    if columns and x.shape[1] not in columns:
        yield f'{feats.where(key)}: {x.shape[1]} columns, others have {min(columns)}'
    columns.add(x.shape[1])
