"""The demo corpus: speech with known times of every phone, in as many hours as wanted, from a seed.

espeak-ng (GPL-3, see data/espeak.py) keeps state from text to text, so every speaker is a process of its own, forked
from one that never spoke: the corpus is a function of the seed and the sizes, whatever the number of processes.
"""

import errno
import json
import math
import multiprocessing
import os
import shutil
import signal
import sys
from collections import Counter
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from functools import partial
from multiprocessing.connection import wait
from pathlib import Path

from hpcasr.data.beside import beside
from hpcasr.data.espeak import Espeak
from hpcasr.data.features import worker
from hpcasr.data.progress import silent
from hpcasr.data.synth_phones import SILENCE
from hpcasr.data.synth_sound import RATE
from hpcasr.data.synth_speaker import SETS, TABLES, Speaker, part, write_reference, write_speaker
from hpcasr.errors import BadInput

DEV, TEST = 0.125, 0.175  # of the speakers, and so of the hours
SPEAKERS, HOURS = 24, 0.5  # so many speakers in so many hours, and as the root of the hours
LEAST_SECONDS = 10  # of a speaker
BY_SPEAKER = 'wav.scp', 'utt2spk', 'spk2utt', 'spk2gender'
MADE = 'synth.json'  # marks a directory as made here
SHARE = 0.05  # of a word's pronunciations in train, from which one is in the lexicon


@dataclass(frozen=True)
class Plan:
    """Hours of speech, speakers (None: as many as suit the hours), lowest and highest signal-to-noise ratio in dB."""

    hours: float = HOURS
    speakers: int | None = None
    seed: int = 0
    snr: tuple = (5.0, 25.0)

    def __post_init__(self):
        if not 0 < self.hours < 1e6:
            raise BadInput(f'{self.hours:g} hours: give more than 0 and less than a million')
        if self.count < 3:
            raise BadInput(f'{self.count} speakers: give at least 3, as train, dev and test share none')
        if self.seconds < LEAST_SECONDS:
            raise BadInput(f'{self.hours:g} hours are {self.seconds:.1f} s for each of {self.count} speakers; '
                           f'at least {LEAST_SECONDS} s are needed: give more --hours or fewer --speakers')
        if not (self.seed >= 0 and -50 <= self.snr[0] <= self.snr[1] <= 100):
            raise BadInput(f'seed {self.seed}, SNR {self.snr}: give a seed from 0 on and LOW,HIGH in -50..100 dB')

    @property
    def count(self):
        return self.speakers if self.speakers is not None else max(3, round(SPEAKERS*math.sqrt(self.hours/HOURS)))

    @property
    def seconds(self):
        """Of every speaker."""
        return self.hours*3600/self.count

    def cast(self):
        """The [Speaker]s, those of train first."""
        n, digits = self.count, max(3, len(str(self.count)))
        dev, test = max(1, round(DEV*n)), max(1, round(TEST*n))
        parts = ['train']*(n - dev - test) + ['dev']*dev + ['test']*test
        return [Speaker(i, f's{i + 1:0{digits}}', parts[i], self.seconds, self.seed, self.snr) for i in range(n)]


def synthesize(out, plan, jobs=1, force=False, progress=silent):
    """Make the directory `out` with train, dev, test, audio and local/dict; returns what is in out/synth.json.

    `out` is new or empty; `force` replaces one that was made here.  Raises BadInput, leaving nothing behind.
    """
    out = Path(out).absolute()
    refuse_existing(out, force)
    empty, espeak, speakers = is_empty(out), Espeak(), plan.cast()
    with beside(out/MADE if empty else out) as folder:  # an empty one may be mounted, or somebody's working directory
        for name in ('audio', 'parts', *SETS, 'local/dict'):
            (folder/name).mkdir(parents=True)
        tasks = [('the lexicon', partial(write_reference, espeak, folder/'parts'/'reference'))]
        tasks += [(f'speaker {s.name}', partial(write_speaker, s, espeak, folder)) for s in speakers]
        with closing(children(tasks, jobs)) as done:
            for _ in progress(done, len(tasks)):
                pass
        made = finish(folder, out, plan, espeak, speakers)
        (fill if empty else replace)(folder, out)
    return made


def refuse_existing(out, force):
    if not str(out).isprintable():
        raise BadInput(f'{str(out)!a}: has a character that wav.scp cannot hold; name another directory')
    if not os.path.lexists(out) or is_empty(out):
        return
    if not os.path.isdir(out) or os.path.islink(out) or not os.path.isfile(out/MADE):
        raise BadInput(f'{out}: exists and was not made by `hpcasr data synth`; name another directory')
    if not force:
        raise BadInput(f'{out}: exists; use --force to make it anew')
    if os.path.ismount(out):
        raise BadInput(f'{out}: is mounted and cannot be replaced; empty it, or name a directory in it')


def is_empty(folder):
    """Whether it is a directory, itself and not by a link, with nothing in it."""
    with suppress(OSError):
        return not os.path.islink(folder) and not os.listdir(folder)
    return False


def fill(folder, out):
    """What is in `folder` goes to `out`, the mark last."""
    for name in sorted(os.listdir(folder), key=MADE.__eq__):
        os.rename(folder/name, out/name)


def replace(folder, out):
    """`folder` becomes `out`; what was there goes."""
    old = folder.with_name(f'{folder.name}-old')
    if os.path.lexists(out):
        os.rename(out, old)
    os.rename(folder, out)
    shutil.rmtree(old, ignore_errors=True)


def children(tasks, jobs):
    """Run every (name, function) in a forked process of its own, at most `jobs` at once; yields when one has ended."""
    fork, running = multiprocessing.get_context('fork'), {}
    try:
        for name, function in tasks:
            process = fork.Process(target=child, args=(os.getpid(), function))
            with later(signal.SIGINT, signal.SIGTERM):
                process.start()
                running[process] = name  # or nobody would kill it, and Python's exit would wait for its end
            if len(running) >= jobs:
                yield from ended(running)
        while running:
            yield from ended(running)
    finally:
        for process in running:
            process.kill()  # it has nothing to tidy
            process.join()


@contextmanager
def later(*numbers):
    """These signals come when the block is over.  (A mask would not do: another thread may take them.)"""
    noted = []
    before = {number: signal.signal(number, lambda number, _frame: noted.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for number in noted:
            signal.raise_signal(number)


def child(parent, function):
    """What a process does; an error of the disk is its exit status."""
    worker(parent)
    try:
        function()
    except BadInput as e:
        sys.exit(f'hpcasr: error: {e}')
    except OSError as e:
        sys.exit(e.errno or errno.EIO)


def ended(running):
    """Wait for one or more of `running` {process: name}; they are taken out of it, their names yielded."""
    ready = wait([process.sentinel for process in running])
    for process in [p for p in running if p.sentinel in ready]:
        process.join()  # its pipe closes a little before it has ended
        name = running.pop(process)
        refuse_failure(name, process.exitcode)
        yield name


def refuse_failure(name, status):
    if status < 0:
        raise BadInput(f'espeak-ng was ended by {signal.Signals(-status).name} while it spoke for {name}; nothing was '
                       f'written; is there memory enough? else use another --seed')
    if status == 1:
        raise BadInput(f'espeak-ng failed while it spoke for {name}, as said above; nothing was written')
    if status:
        raise OSError(status, os.strerror(status))


def finish(folder, out, plan, espeak, speakers):
    """Put the rows of the speakers together, write the lexicon and synth.json; what is in that is returned."""
    train, everybody, total = Counter(), Counter(), Counter()
    for speaker in speakers:
        told = json.loads(part(folder, speaker, 'json').read_text())
        everybody.update(told['pronounced'])
        train.update(told['pronounced'] if speaker.part == 'train' else {})
        total.update({'utterances': told['utterances'], 'samples': told['samples']})
    for name in SETS:
        write_set(folder, out, name, [s for s in speakers if s.part == name])
    reference = json.loads((folder/'parts'/'reference').read_text())
    write_dictionary(folder/'local'/'dict', lexicon(train, everybody, reference))
    shutil.rmtree(folder/'parts')
    made = {**asdict(plan), 'speakers': plan.count, 'seconds': total['samples']/RATE,
            'utterances': total['utterances'], 'espeak-ng': espeak.version}
    (folder/MADE).write_text(json.dumps(made) + '\n')
    return made


def write_set(folder, out, name, speakers):
    """The tables of one data directory, speaker by speaker."""
    with ExitStack() as stack:
        files = {table: stack.enter_context(open(folder/name/table, 'wb')) for table in (*TABLES, *BY_SPEAKER)}
        for speaker in speakers:
            for table in TABLES:
                with open(part(folder, speaker, table), 'rb') as rows:
                    shutil.copyfileobj(rows, files[table])
            for table, rows in zip(BY_SPEAKER, rows_of(folder, out, speaker), strict=True):
                files[table].write(rows.encode())


def rows_of(folder, out, speaker):
    """The speaker's rows of the tables BY_SPEAKER."""
    keys = [row.split()[0] for row in part(folder, speaker, 'text').read_text('utf-8').splitlines()]
    audio = out/'audio'/speaker.name
    return (''.join(f'{key} {audio}/{key}.wav\n' for key in keys),
            ''.join(f'{key} {speaker.name}\n' for key in keys),
            f'{speaker.name} {" ".join(keys)}\n', f'{speaker.name} {speaker.gender}\n')


def lexicon(train, everybody, reference):
    """['WORD PHONE PHONE ...'], by words, the most frequent pronunciation of a word first.

    Of Counters of such entries: what a SHARE of the times that a word is said in train; of words not said there what
    the reference accent says; and where that leaves out a phone that somebody speaks, an entry that has it.
    """
    said = Counter()
    for entry, n in train.items():
        said[word(entry)] += n
    chosen = {entry for entry, n in train.items() if n >= SHARE*said[word(entry)]}
    chosen |= {entry for entry in reference if word(entry) not in said}
    covered = {phone for entry in chosen for phone in entry.split()[1:]}
    for entry in sorted(everybody, key=lambda entry: (-everybody[entry], entry)):
        if not covered.issuperset(entry.split()[1:]):
            covered.update(entry.split()[1:])
            chosen.add(entry)
    return sorted(chosen, key=lambda entry: (word(entry), -train[entry], entry))


def word(entry):
    return entry.split()[0]


def write_dictionary(folder, entries):
    """What Kaldi's prepare_lang.sh asks for."""
    phones = sorted({phone for entry in entries for phone in entry.split()[1:]})
    for name, rows in (('lexicon.txt', entries), ('nonsilence_phones.txt', phones), ('silence_phones.txt', [SILENCE]),
                       ('optional_silence.txt', [SILENCE]), ('extra_questions.txt', [])):
        (folder/name).write_text(''.join(f'{row}\n' for row in rows), 'utf-8')
