"""Speech from a Kaldi data directory: wav.scp, and segments where there are any."""

import math
import os
import re
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path

import numpy as np
import soundfile
import soxr

from hpcasr.data.find import find
from hpcasr.data.kaldi import is_pipe, refuse_pipe, run_pipe, shown, table
from hpcasr.errors import BadInput

FULL_SCALE = 32768  # Kaldi's samples are those of 16-bit files
OVERSHOOT = 0.5  # seconds that a segment may reach beyond its recording, as in extract-segments
LOUDEST = 1e9  # times full scale: the power of a window is still a float32
CUT = re.compile(r'^data : (\d+) \(should be \d+\)', re.MULTILINE)  # what libsndfile notes of a wav file
STREAM = 0x7ff00000  # bytes that the header of a stream claims, or more, as its length was not known


@dataclass(frozen=True)
class Segment:
    """Seconds start..end of a recording; end None: all of it."""

    utterance: str
    recording: str
    start: float = 0.0
    end: float | None = None


@dataclass(frozen=True)
class Recording:
    """A line of wav.scp, `entry` resolved to a path or an allowed pipe; `where` names it in errors."""

    entry: str
    where: str

    @property
    def place(self):
        """The entry as it holds from any folder."""
        return self.entry if is_pipe(self.entry) else str(Path(self.entry).absolute())

    def samples(self, rate):
        """[n] float32 at `rate` Hz, in Kaldi's 16-bit scale.  Raises BadInput."""
        source = run_pipe(self.entry, self.where) if is_pipe(self.entry) else os.fsencode(self.entry)
        try:
            with soundfile.SoundFile(source) as f:
                x, own, notes = f.read(dtype='float32', always_2d=True), f.samplerate, f.extra_info
        except (soundfile.SoundFileError, TypeError, ValueError, OSError, MemoryError) as e:
            raise BadInput(f'{self.where}: {shown(self.entry)}: not readable as wav, flac, ogg or opus ({e})') from None
        if x.shape[1] != 1:
            raise BadInput(f'{self.where}: {shown(self.entry)}: has {x.shape[1]} channels; make it mono '
                           f'(sox IN OUT remix 1)')
        self.refuse_unusable(len(x), own, rate)
        self.refuse_damaged(x, notes)
        x = x[:, 0]*np.float32(FULL_SCALE)
        return x if own == rate else soxr.resample(x, own, rate)

    def refuse_damaged(self, x, notes):
        """BadInput for samples that no filter bank can take, and for a wav file whose end is missing."""
        if not -LOUDEST < x.min() <= x.max() < LOUDEST:
            raise BadInput(f'{self.where}: {shown(self.entry)}: has samples that are not finite, or beyond '
                           f'{LOUDEST:g} times full scale; write it again or remove it')
        if (told := CUT.search(notes)) and int(told[1]) < STREAM:
            raise BadInput(f'{self.where}: {shown(self.entry)}: is truncated, its header promises {told[1]} bytes of '
                           f'samples; copy it again, or rewrite it with `sox --ignore-length FILE out.wav`')

    def refuse_unusable(self, n, own, rate):
        if not n:
            raise BadInput(f'{self.where}: {shown(self.entry)}: has no samples, or a header that says so, as '
                           f'streams have; rewrite it with `sox --ignore-length FILE out.wav` or remove it')
        if own < rate:
            raise BadInput(f'{self.where}: {shown(self.entry)}: has {own} Hz, less than the {rate} asked for; '
                           f'use --sample-rate {own}')


def recordings(directory, allow_pipes=False):
    """{recording: Recording} of wav.scp.  Paths start here, beside wav.scp, or in the directory's parent."""
    path = Path(directory)/'wav.scp'
    return {key: recording(path, key, entry, allow_pipes) for key, entry in table(path).items()}


def recording(path, key, entry, allow_pipes):
    where = f'{path}: recording {key}'
    if is_pipe(entry):
        if not allow_pipes:
            refuse_pipe(where, entry)
        return Recording(entry, where)
    try:
        found = find(entry, path.parent, path.parent.parent)
    except BadInput as e:
        raise BadInput(f'{where}: {e}') from None
    if not (entry and found):
        raise BadInput(f'{where}: {shown(entry)}: no such file, neither as given nor relative to {path.parent} or its '
                       f'parent')
    return Recording(found, where)


def segments(directory, names):
    """[Segment] in the order of utterances; without a file `segments` every recording in `names` is an utterance."""
    path = Path(directory)/'segments'
    if not os.path.lexists(path):
        return [Segment(name, name) for name in names]
    return [segment(path, utterance, fields, names) for utterance, fields in table(path).items()]


def segment(path, utterance, fields, names):
    try:
        name, start, end = fields.split()
        start, end = float(start), float(end)
    except ValueError:
        raise BadInput(f'{path}: utterance {utterance}: expected RECORDING START END, got {shown(fields)}') from None
    if name not in names:
        raise BadInput(f'{path}: utterance {utterance}: recording {name} is not in wav.scp; run utils/fix_data_dir.sh')
    if not (0 <= start < math.inf and (end == -1 or start < end < math.inf)):
        raise BadInput(f'{path}: utterance {utterance}: {start} .. {end} s is not an interval')
    return Segment(utterance, name, start, None if end == -1 else end)


def by_recording(segments):
    """[(recording, [Segment])], the order of utterances kept; one that comes back later is read again."""
    return [(name, list(group)) for name, group in groupby(segments, lambda s: s.recording)]


def cut(x, rate, segment, where):
    """The samples of a segment of the recording `x`."""
    last = segment.start if segment.end is None else segment.end
    if last*rate > len(x) + OVERSHOOT*rate:
        raise BadInput(f'{where}: ends after {len(x)/rate:.2f} s, utterance {segment.utterance} at {last:.2f} s')
    return x[int(segment.start*rate):None if segment.end is None else int(segment.end*rate)]
