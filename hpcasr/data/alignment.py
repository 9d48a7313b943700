"""Alignments as Kaldi writes them: the pdf-id or the transition-id of every frame, by scp, by archive, from a shell
command, or in the directory of an alignment.
"""

import gzip
import io
import os
import re
import shlex
import subprocess
import zlib
from contextlib import closing
from itertools import count
from pathlib import Path

from hpcasr.data.kaldi import BLANKS, Scp, is_pipe, lines, read_integers, shown
from hpcasr.data.transition_model import TransitionModel
from hpcasr.errors import BadInput
from hpcasr.given import opened

GZIP = b'\x1f\x8b'
DAMAGE = EOFError, OSError, zlib.error  # what gzip says of a file that is not whole
BLANK = BLANKS.encode()
RSPECIFIER = re.compile(r'(?:(scp|ark)[a-z,]*:)?(.*)$', re.DOTALL)
LONGEST = 10_000  # bytes of a key
JOB = re.compile(r'ali\.([1-9]\d{0,8})\.gz')


def open_alignment(rspecifier, allow_pipes=False, mdl=None):
    """The alignment that `rspecifier` names: 'pdf.scp', 'scp:pdf.scp', 'pdf.ark', 'ark:pdf.ark', 'ark:... |', or the
    directory 'exp/tri3_ali' with ali.1.gz, ali.2.gz ... and final.mdl.

    mdl   the final.mdl of an alignment by transition-ids, which then are read as pdf-ids; a directory has its own
    `keys()`, then `rewind(wanted)` before each pass, and `get(key)` for [T] int32.  `num_pdfs` is None without a model.
    Raises BadInput.
    """
    kind, name = RSPECIFIER.match(rspecifier.strip()).groups()
    name = name.strip()
    if not kind and os.path.isdir(name):
        return ArkAlignment(name, jobs(Path(name)), TransitionModel(mdl or Path(name)/'final.mdl'))
    model = TransitionModel(mdl) if mdl else None
    if kind == 'scp' or (not kind and name.endswith('.scp')):
        return ScpAlignment(Scp(name, allow_pipes), model)
    refuse_stream(name, rspecifier)
    return ArkAlignment(name, [Ark(name)], model)


def jobs(folder):
    """The archives ali.N.gz of an alignment directory in the order of N.  Raises BadInput if one is missing."""
    found = {int(match[1]): GzArk(str(folder/name)) for name in os.listdir(folder) if (match := JOB.fullmatch(name))}
    if not found:
        raise BadInput(f'{folder}: has no ali.1.gz; expected the directory of an alignment, as steps/align_si.sh makes')
    number = num_jobs(folder/'num_jobs', max(found))
    lost = next(n for n in count(1) if n not in found)
    if lost <= number:
        raise BadInput(f'{folder}: ali.{lost}.gz is missing of {number} jobs; make the alignment again')
    if max(found) > number:
        raise BadInput(f'{folder}: has ali.{max(found)}.gz, but num_jobs says {number}; remove what is left of another '
                       f'alignment')
    return [found[n] for n in sorted(found)]


def num_jobs(path, default):
    if not os.path.lexists(path):
        return default
    words = [line for _, line in lines(path)]
    if len(words) != 1 or not re.fullmatch(r'[1-9][0-9]{0,8}', words[0]):
        raise BadInput(f'{path}: expected the number of jobs; make the alignment again')
    return int(words[0])


def refuse_stream(name, rspecifier):
    """Nothing that can be read only once, and not nothing."""
    if not name:
        raise BadInput(f'--ali {rspecifier!r} names no file; expected pdf.scp, pdf.ark or "ark:gunzip -c ... |"')
    if name == '-' or (os.path.exists(name) and not os.path.isfile(name) and not os.path.isdir(name)):
        raise BadInput(f'--ali {shown(rspecifier)}: an archive is read more than once, a stream cannot be; '
                       f'write it to a file')


class ScpAlignment:
    """Vectors by key, in any order; transition-ids if there is a `model`."""

    def __init__(self, scp, model=None):
        self.scp, self.path, self.model = scp, scp.path, model
        self.num_pdfs = model and model.num_pdfs

    def keys(self):
        return self.scp.keys()

    def get(self, key):
        vector = self.scp.vector(key)
        return self.model.pdfs(vector, self.scp.where(key)) if self.model else vector

    def rewind(self, wanted):
        """Before a pass over the keys `wanted`."""


class ArkAlignment:
    """Vectors by key from streams.  Those passed over are kept: keys asked in the archives' order need no memory.

    arks    archives, which are read one after the other; of transition-ids if there is a `model`
    """

    def __init__(self, path, arks, model=None):
        self.path, self.arks, self.model = path, arks, model
        self.num_pdfs = model and model.num_pdfs
        self.sizes = {}
        for ark, key, vector in self:
            if key in self.sizes:
                raise BadInput(f'{ark.name}: utterance {key} appears twice in {path}; remove one')
            self.sizes[key] = len(vector)

    def __iter__(self):
        """(archive, key, pdf-ids [T] int32) of all archives."""
        for ark in self.arks:
            with closing(iter(ark)) as vectors:
                for key, vector in vectors:
                    where = f'{ark.name}: utterance {shown(key, 80)}'
                    yield ark, key, self.model.pdfs(vector, where) if self.model else vector

    def keys(self):
        return self.sizes.keys()

    def rewind(self, wanted):
        self.stream, self.passed, self.wanted = iter(self), {}, wanted

    def get(self, key):
        if key in self.passed:
            return self.passed.pop(key)
        for _, found, vector in self.stream:
            if found == key:
                return vector
            if found in self.wanted:
                self.passed[found] = vector
        raise BadInput(f'{self.path}: utterance {key} is gone since the archive was first read')


class Ark:
    """Sequential access to the integer vectors of an archive or of a shell command ('... |' of the user's own)."""

    damage = 'cannot be read'

    def __init__(self, name):
        self.name = name

    def __iter__(self):
        """(key, [T] int32) in the archive's order."""
        self.last = None
        try:
            with closing(self.open()) as f:
                self.refuse_compressed(f)
                while key := read_key(f):
                    yield key, self.read(f, key)
                    self.last = key
                self.finish(f)
        except DAMAGE as e:
            place = f'after utterance {shown(self.last, 80)}' if self.last else 'at its beginning'
            raise BadInput(f'{self.name}: {self.damage}, {place} ({shown(str(e), 80)}); make the alignment again') \
                from None

    def refuse_compressed(self, f):
        if f.peek(2)[:2] == GZIP:
            command = self.name.rstrip('| ') + ' | gunzip -c |' if is_pipe(self.name) else \
                f'gunzip -c {shlex.quote(self.name)} |'
            raise BadInput(f'{self.name}: is compressed; use --ali "ark:{command}"')

    def read(self, f, key):
        try:
            return read_integers(f)
        except (ValueError, OverflowError, MemoryError, *DAMAGE) as e:
            raise BadInput(f'{self.name}: utterance {shown(key, 80)}: truncated or not an int32 vector '
                           f'({shown(str(e) or type(e).__name__, 80)}); make the alignment again') from None

    def open(self):
        if is_pipe(self.name):
            self.process = subprocess.Popen(self.name.strip('|'), shell=True, stdout=subprocess.PIPE)
            return self.process.stdout
        try:
            return opened(self.name)
        except OSError as e:
            raise BadInput(f'{self.name}: {e.strerror}; expected an archive or an scp of pdf-ids') from None

    def finish(self, f):
        if is_pipe(self.name) and self.process.wait():
            raise BadInput(f'{self.name}: command ended with status {self.process.returncode}')


class GzArk(Ark):
    """Sequential access to a compressed archive."""

    damage = 'truncated or not compressed by gzip'

    def open(self):
        f = super().open()
        if not os.fstat(f.fileno()).st_size:  # for gzip that is nothing, compressed
            raise BadInput(f'{self.name}: is empty; make the alignment again')
        return io.BufferedReader(gzip.GzipFile(fileobj=f))  # which gives single bytes much faster


def read_key(f):
    """The next word of an archive and the blank after it, but not the end of its line; '' at the end of the archive."""
    key = bytearray()
    while c := f.peek(1)[:1]:
        if key and c == b'\n':  # the vector is empty
            break
        if len(key) > LONGEST:
            raise EOFError(f'a key of more than {LONGEST} bytes')
        f.read(1)
        if c not in BLANK:
            key += c
        elif key:
            break
    return key.decode('utf-8', 'replace')
