"""Import: a Kaldi data directory becomes a store, in two passes of one utterance at a time."""

import math
import os

import numpy as np

from hpcasr.data.directory import DataDirectory
from hpcasr.data.progress import silent
from hpcasr.data.store import StoreWriter, Utterances, not_finite, refuse_existing
from hpcasr.errors import BadInput
from hpcasr.given import json_of


class Ingest:
    """What is read in both passes.

    directory   path of a Kaldi data directory
    frontend    frontend.Frontend
    alignment   alignment.open_alignment(...) with `num_targets` pdfs, or None
    tolerance   frames by which features and alignment may differ in length; both are cut to the shorter
    """

    def __init__(self, directory, frontend, alignment=None, num_targets=0, tolerance=0, intersect=False,
                 allow_pipes=False):
        self.data, self.frontend = DataDirectory(directory, allow_pipes), frontend
        self.alignment, self.num_targets, self.tolerance = alignment, num_targets, tolerance
        self.names = self.data.utterances(alignment, intersect)
        self.columns, self.made = None, how_made(self.data.path/'frontend.json')

    def speaker(self, name):
        return self.data.utt2spk[name]

    def __iter__(self):
        """(utterance, static features [T, D], targets [T] or None), checked."""
        if self.alignment:
            self.alignment.rewind(set(self.names))
        for name in self.names:
            x = self.features(name)
            targets = self.targets(name, len(x))
            n = len(x) if targets is None else min(len(x), len(targets))
            yield name, x[:n], None if targets is None else targets[:n]

    def features(self, name):
        x = self.data.feats.matrix(name)
        where = self.data.feats.where(name)
        if not len(x):
            raise BadInput(f'{where}: has no frames; remove it with utils/fix_data_dir.sh')
        if not x.shape[1]:
            raise BadInput(f'{where}: has no columns; make its features again')
        if not np.isfinite(x).all():
            raise BadInput(f'{where}: {not_finite(x)}; make its features again or remove it')
        self.columns = self.columns or x.shape[1]
        if x.shape[1] != self.columns:
            raise BadInput(f'{where}: has {x.shape[1]} columns where those before have {self.columns}; '
                           f'import features of one kind at a time')
        return x

    def targets(self, name, frames):
        if not self.alignment:
            return None
        t = self.alignment.get(name)
        if not len(t):
            raise BadInput(f'{self.alignment.path}: utterance {name}: has no targets; remove it, or align it again')
        if abs(len(t) - frames) > self.tolerance:
            raise BadInput(f'{self.alignment.path}: utterance {name}: {len(t)} targets for {frames} frames; align '
                           f'these features, or use --length-tolerance {abs(len(t) - frames)}')
        if not 0 <= t.min() <= t.max() < self.num_targets:
            wrong = t[(t < 0) | (t >= self.num_targets)][0]
            raise BadInput(f'{self.alignment.path}: utterance {name}: target {wrong} is not in 0..'
                           f'{self.num_targets - 1}; check --num-pdfs, and that these are pdf-ids (ali-to-pdf)')
        return t

    def survey(self, progress=silent):
        """First pass: all utterances are read and checked, the front end learns its statistics; Utterances."""
        lengths = []
        for name, x, _ in progress(self):
            self.frontend.observe(x, self.speaker(name))
            lengths.append(len(x))
        speakers = sorted({self.speaker(name) for name in self.names})
        index = {s: i for i, s in enumerate(speakers)}
        return Utterances(self.names, lengths, [index[self.speaker(name)] for name in self.names], speakers,
                          [self.data.text.get(name, '') for name in self.names])

    def __len__(self):
        return len(self.names)

    def describe(self):
        """The front end for the store: how the static features were made, if that is known, and what was done since."""
        return {**self.made, 'static_dim': self.columns, **self.frontend.describe()}


def how_made(path):
    """The dict in frontend.json, {} if there is none.  Raises BadInput."""
    try:
        made = json_of(path) if os.path.lexists(path) else {}
    except (ValueError, OSError) as e:
        raise BadInput(f'{path}: not JSON ({e}); remove it, or make the features again') from None
    shift = made.get('frame_shift', 0.01) if isinstance(made, dict) else None
    if type(shift) not in (int, float) or not 0 < shift < math.inf:
        raise BadInput(f'{path}: expected a dict with a frame_shift in seconds; remove it, or make the features again')
    return made


def ingest(source, out, splice=(0, 0), dtype='float32', provenance=None, force=False, progress=silent):
    """Write the store `out` from the Ingest `source`; nothing is written before all of it has been read once."""
    refuse_existing(out, force)
    utterances = source.survey(progress)
    names = [str(k) for k in range(source.num_targets)] if source.alignment else None
    dim = source.columns*(1 + source.frontend.deltas)
    with StoreWriter(out, utterances, dim, dtype, splice, source.describe(), provenance, names, force) as store:
        for name, x, targets in progress(source):
            store.append(source.frontend.apply(x, source.speaker(name)), targets)
