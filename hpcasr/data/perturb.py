"""Tempo perturbation: copies of all utterances, spoken faster and slower.

T. Ko, V. Peddinti, D. Povey and S. Khudanpur, "Audio augmentation for speech recognition", Interspeech 2015.  Here the
frames are interpolated in time, so it needs no audio, and targets and segments come along.
"""

import numpy as np

from hpcasr.data.pack import sound
from hpcasr.data.progress import silent
from hpcasr.data.store_writer import StoreWriter, Utterances, refuse_existing


def perturb(path, out, factors, provenance=None, force=False, progress=silent):
    """Write the store `out`: the utterances of the store `path`, then a copy of all of them for each tempo factor.

    factors   1.1 is faster: fewer frames
    Copies are called sp1.1-UTTERANCE, as Kaldi's perturb_data_dir_speed names them, but belong to the same speaker, so
    that they are held out with the speaker.  Raises BadInput.
    """
    refuse_existing(out, force)
    store = sound(path)
    copies = [(f, u) for f in [1, *factors] for u in range(store.num_utterances)]
    labelled = store.targets is not None
    origin = {**(provenance or {}), 'sources': {store.path: store.digest}}
    with StoreWriter(out, names(store, copies), store.frames.shape[1], store.frames.dtype, store.splice, store.frontend,
                     origin, store.target_names if labelled else None, force, store.tree, store.lexicon) as writer:
        for f, u in progress(copies):
            (frames, targets), segments = store.utterance(u), store.segments(u)
            if f != 1:
                at = times(len(frames), f)
                nearest = np.rint(at).astype(int)
                frames = faster(frames, at, slopes(store, f))
                targets, segments = labelled and targets[nearest], stretched(segments, nearest)
            writer.append(frames, targets if labelled else None, segments)


def names(store, copies):
    """The Utterances of [(factor, utterance)]."""
    return Utterances([store.name(u) if f == 1 else f'sp{f:g}-{store.name(u)}' for f, u in copies],
                      [len(times(store.length(u), f)) for f, u in copies], [store.speakers[u] for _, u in copies],
                      store.speaker_names, [store.text(u) for _, u in copies])


def times(T, factor):
    """[T'] where the frames of the copy lie among the T frames of the utterance, T' ≈ T/factor and at least 1."""
    return np.linspace(0, T - 1, max(round(T/factor), 1))


def faster(frames, at, scales):
    """Frames [T', D] float32 between those of `frames` [T, D], at the times `at`, times `scales` [D]."""
    low = at.astype(int)
    high, share = np.minimum(low + 1, len(frames) - 1), (at - low)[:, None].astype(np.float32)
    x = np.asarray(frames, np.float32)
    return ((1 - share)*x[low] + share*x[high])*scales


def slopes(store, factor):
    """[D] float32: what grows with the tempo; a first derivative by the factor, a second by its square."""
    order = store.frontend.get('deltas', 0)
    return np.repeat(np.float32(factor)**np.arange(order + 1), store.frames.shape[1]//(order + 1)).astype(np.float32)


def stretched(segments, nearest):
    """Segments [n, 4] of the copy, whose frame j is frame nearest[j] of the original; those without a frame go."""
    if segments is None:
        return None
    bounds = np.searchsorted(nearest, [*segments[:, 0], segments[-1, :2].sum()])
    frames = np.diff(bounds)
    return np.column_stack([bounds[:-1], frames, segments[:, 2:]])[frames > 0].astype(np.int32)
