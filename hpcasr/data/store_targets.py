"""A store gets other targets, in place."""

import json
import zlib
from contextlib import closing

import numpy as np

from hpcasr.data.store_file import COMPLETE, INCOMPLETE, changing, reading, refuse_damage
from hpcasr.data.store_segments import Collected
from hpcasr.data.store_summary import digest_problem, write_summary, write_words
from hpcasr.errors import BadInput

ROOM = 1 << 20  # bytes to have in reserve where a store is changed: HDF5 cannot go back when a disk is full


def refuse_labelled(path, force):
    with reading(path) as f:
        if f.attrs['targets_state'] == COMPLETE and not force:
            raise BadInput(f'{path}: has targets already; use --force to replace them')


def write_targets(path, targets, num_targets, target_names, provenance, force=False, tree=None, lexicon=None,
                  segments=None):
    """Give a store its targets, in place of those it has and of their tree, lexicon and segments.

    targets       yields [T] integers per utterance, in the store's order; or pairs of those and the segments of the
                  utterance, where both come from one pass
    tree, lexicon the Tree whose pdfs the targets are, the Lexicon of the transcripts; None: none
    segments      yields [n, 4] integers per utterance, one after each of `targets`; or None
    While they are written the store is incomplete, and readers refuse it.  Raises BadInput.
    """
    assert tree is None or tree.num_pdfs == num_targets, (tree.num_pdfs, num_targets)
    refuse_labelled(path, force)
    with reading(path) as f:
        if f.attrs['targets_state'] != INCOMPLETE:  # then its summary may be half written
            refuse_damage(path, digest_problem(f))
        room = ROOM + 16*len(f['names']) + 256*num_targets
    with changing(path, room) as f:
        f.attrs['targets_state'] = INCOMPLETE
    with closing(Collected(path)) as collected:
        with changing(path, room) as f:
            crc, counts = overwrite(f, paired(targets, segments), num_targets, collected)
        with changing(path, room + collected.nbytes + sum(len(x.dumps()) for x in (tree, lexicon) if x)) as f:
            told = json.loads(f.attrs['provenance']) | {'targets': provenance}
            f.attrs['provenance'] = json.dumps(told)
            collected.copy(f)
            write_words(f, tree, lexicon)
            write_summary(f, {'frames': f['frames_crc'][:], 'targets': crc}, counts, target_names)


def paired(targets, segments):
    """(targets, segments or None) of every utterance, however they are given."""
    if segments is not None:
        return zip(targets, segments, strict=True)
    return (t if isinstance(t, tuple) else (t, None) for t in targets)


def overwrite(f, labels, num_targets, collected):
    """Write the targets, collect the segments; return the targets' checksums and counts."""
    offsets, crc, counts = f['offsets'][:], [], np.zeros(num_targets, np.int64)
    for a, b, (t, segments) in zip(offsets[:-1], offsets[1:], labels, strict=True):
        t = np.ascontiguousarray(t, np.int32)
        assert t.shape == (b - a,), (t.shape, a, b)
        f['targets'][a:b] = t
        crc.append(zlib.crc32(t))
        counts += np.bincount(t, minlength=num_targets)
        if segments is not None:
            collected.append(segments, b - a)
    assert len(collected.lengths) in (0, len(crc)), 'segments of some utterances only'
    return np.array(crc, 'u4'), counts
