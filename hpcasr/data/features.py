"""Filter banks and MFCC as Kaldi computes them, from a data directory with wav.scp to one with feats.scp."""

import json
import multiprocessing
import os
import signal
from collections import deque
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import kaldi_native_fbank as knf
import numpy as np

from hpcasr import faults
from hpcasr.data.audio import by_recording, cut, recordings, segments
from hpcasr.data.beside import beside
from hpcasr.data.directory import speakers
from hpcasr.data.kaldi import ArkWriter, table
from hpcasr.data.progress import silent
from hpcasr.errors import BadInput

SHIFT = 0.01  # seconds
COPIED = 'text', 'utt2spk', 'spk2gender', 'spk2age', 'utt2dur', 'segments', 'reco2dur'
OWN = (*COPIED, 'spk2utt', 'wav.scp', 'feats.scp', 'feats.ark', 'utt2num_frames', 'frontend.json', 'frame_shift',
       'cmvn.scp')


@dataclass(frozen=True)
class Features:
    """Kaldi's defaults but for: 40 mel bins (Kaldi: 23); no energy in MFCC; dither 0, so that the same audio
    gives the same features.

    Frames of 25 ms every 10 ms, povey window, edges snipped: T = 1 + (samples - window)/shift.
    """

    kind: str = 'fbank'
    num_mel_bins: int = 40
    num_ceps: int = 13
    sample_rate: int = 16000

    def __call__(self, samples):
        """[T, D] float32 of 16-bit-scale samples [n]; T is 0 if there is less than a window."""
        computer = self.computer()
        computer.accept_waveform(self.sample_rate, samples)
        computer.input_finished()
        T = computer.num_frames_ready
        return np.array([computer.get_frame(t) for t in range(T)], np.float32).reshape(T, computer.dim)

    def computer(self):
        try:
            return knf.OnlineFbank(self.fbank()) if self.kind == 'fbank' else knf.OnlineMfcc(self.mfcc())
        except ValueError as e:
            raise BadInput(f'features of {self.num_mel_bins} mel bins at {self.sample_rate} Hz: {e}') from None

    def fbank(self):
        return self.frames_and_mels(knf.FbankOptions())

    def mfcc(self):
        options = self.frames_and_mels(knf.MfccOptions())
        options.num_ceps, options.use_energy = self.num_ceps, False
        return options

    def frames_and_mels(self, options):
        options.frame_opts.samp_freq = self.sample_rate
        options.frame_opts.dither = 0
        options.frame_opts.snip_edges = True
        options.mel_opts.num_bins = self.num_mel_bins
        return options

    def describe(self):
        made = asdict(self) if self.kind == 'mfcc' else {k: v for k, v in asdict(self).items() if k != 'num_ceps'}
        return {**made, 'dither': 0, 'snip_edges': True, 'frame_shift': SHIFT}


def make_features(directory, out, features, jobs=1, compress=False, allow_pipes=False, force=False,
                  progress=silent):
    """Write the data directory `out`: feats.ark, feats.scp and copies of the other tables.

    Returns the ids of utterances shorter than a window, which are left out.  Raises BadInput, leaving nothing behind.
    """
    source, out = Path(directory), Path(out)
    refuse_existing(source, out, force)
    speakers(source/'utt2spk')
    audio, work = plan(source, allow_pipes)
    with beside(out) as temporary, closing(pool(work, features, jobs)) as results:
        short = write_features(temporary, out, results, compress, len(work), progress)
        (temporary/'frontend.json').write_text(json.dumps(features.describe()) + '\n')
        (temporary/'frame_shift').write_text(f'{SHIFT}\n')
        write_tables(source, temporary, audio, set(short))
        move(temporary, out)
    return short


def refuse_existing(source, out, force):
    """Nothing of the source is written over, and nothing of `out` without `force`."""
    if os.path.exists(out) and os.path.exists(source) and os.path.samefile(source, out):
        raise BadInput(f'{out}: is the source itself; name another directory with --out')
    if os.path.lexists(out) and not os.path.isdir(out):
        raise BadInput(f'{out}: is not a directory; name another with --out')
    there = [name for name in OWN if os.path.lexists(out/name)]
    if there and not force:
        raise BadInput(f'{out}: has {there[0]} already; use --force to replace its tables and features')


def plan(source, allow_pipes):
    """{recording: Recording}, and the [(Recording, [Segment])] to compute."""
    audio = recordings(source, allow_pipes)
    if not audio:
        raise BadInput(f'{source}/wav.scp: has no recordings')
    work = [(audio[name], group) for name, group in by_recording(segments(source, audio))]
    if not work:
        raise BadInput(f'{source}/segments: has no utterances; fill it, or remove it to take whole recordings')
    return audio, work


def pool(work, features, jobs):
    """[(utterance, features)] of every recording, in order, computed by at most `jobs` processes."""
    compute, jobs = partial(of_recording, features), min(jobs, len(work))
    if jobs <= 1:
        yield from map(compute, work)
        return
    fork = multiprocessing.get_context('fork')  # of the parent that die_with looks for
    try:
        with ProcessPoolExecutor(jobs, fork, worker, (os.getpid(),)) as workers:
            yield from ordered(partial(workers.submit, compute), work, 2*jobs)
    except BrokenProcessPool:
        raise BadInput('a process that computed features was killed, out of memory? use a smaller --nj') from None


def worker(parent):
    """Begin a worker: it dies with its parent, and alone at SIGTERM."""
    faults.die_with(parent)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def ordered(submit, work, ahead):
    """The results of the tasks `work`, in order, at most `ahead` of them computed before they are asked for."""
    waiting = deque()
    try:
        for task in work:
            waiting.append(submit(task))
            if len(waiting) == ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    except BaseException:  # nobody wants the rest
        for process in multiprocessing.active_children():
            process.kill()  # they have nothing to tidy
        raise


def of_recording(features, task):
    """[(utterance, [T, D])] of one recording."""
    audio, parts = task
    x = audio.samples(features.sample_rate)
    return [(s.utterance, features(cut(x, features.sample_rate, s, audio.where))) for s in parts]


def write_features(folder, out, results, compress, total, progress):
    """feats.ark, feats.scp, utt2num_frames; returns the ids of those without a frame."""
    short = []
    final = out.absolute()/'feats.ark'
    with closing(ArkWriter(folder/'feats.ark', folder/'feats.scp', final, compress)) as writer, \
            open(folder/'utt2num_frames', 'w', encoding='utf-8') as lengths:
        for name, x in (pair for done in progress(results, total) for pair in done):
            if len(x):
                writer.write(name, x)
                lengths.write(f'{name} {len(x)}\n')
            else:
                short.append(name)
    if not os.path.getsize(folder/'utt2num_frames'):
        raise BadInput(f'{out}: no utterance is as long as a window of 25 ms, first {short[0]}; nothing was written')
    return short


def write_tables(source, folder, audio, without):
    """The other tables, but for the utterances `without`: wav.scp with the paths where the audio was found."""
    for name in COPIED:
        rows = table(source/name, required=False)
        write_table(folder/name, {k: v for k, v in rows.items() if k not in without})
    write_table(folder/'wav.scp', {name: recording.place for name, recording in audio.items()})
    write_table(folder/'spk2utt', {k: ' '.join(v) for k, v in inverse(table(folder/'utt2spk', required=False)).items()})


def write_table(path, rows):
    if rows:
        path.write_text(''.join(f'{key} {value}\n' for key, value in rows.items()), 'utf-8')


def inverse(utt2spk):
    """{speaker: [utterance]}, as in spk2utt."""
    speakers = {}
    for utterance, speaker in utt2spk.items():
        speakers.setdefault(speaker, []).append(utterance)
    return speakers


def move(folder, out):
    """What is in `folder` replaces all that this command may have written to `out` before."""
    out.mkdir(exist_ok=True)
    fresh = [path.name for path in folder.iterdir()]
    for name in fresh:
        os.replace(folder/name, out/name)
    for name in set(OWN).difference(fresh):
        (out/name).unlink(missing_ok=True)
