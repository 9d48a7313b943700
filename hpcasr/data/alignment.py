"""Alignments as Kaldi writes them: the pdf-id of every frame, by scp, by archive, or from a shell command."""

import os
import re
import shlex
import subprocess
from contextlib import closing

from hpcasr.data.kaldi import BLANKS, Scp, is_pipe, read_integers, shown
from hpcasr.errors import BadInput

GZIP = b'\x1f\x8b'
BLANK = BLANKS.encode()
RSPECIFIER = re.compile(r'(?:(scp|ark)[a-z,]*:)?(.*)$', re.DOTALL)


def open_alignment(rspecifier, allow_pipes=False):
    """The alignment that `rspecifier` names: 'pdf.scp', 'scp:pdf.scp', 'pdf.ark', 'ark:pdf.ark', 'ark:... |'.

    `keys()`, then `rewind(wanted)` before each pass, and `get(key)` for [T] int32.  Raises BadInput.
    """
    kind, name = RSPECIFIER.match(rspecifier.strip()).groups()
    name = name.strip()
    if kind == 'scp' or (not kind and name.endswith('.scp')):
        return ScpAlignment(Scp(name, allow_pipes))
    refuse_stream(name, rspecifier)
    return ArkAlignment(Ark(name))


def refuse_stream(name, rspecifier):
    """Nothing that can be read only once, and not nothing."""
    if not name:
        raise BadInput(f'--ali {rspecifier!r} names no file; expected pdf.scp, pdf.ark or "ark:gunzip -c ... |"')
    if name == '-' or (os.path.exists(name) and not os.path.isfile(name) and not os.path.isdir(name)):
        raise BadInput(f'--ali {shown(rspecifier)}: an archive is read more than once, a stream cannot be; '
                       f'write it to a file')


class ScpAlignment:
    """Vectors by key, in any order."""

    def __init__(self, scp):
        self.scp, self.path = scp, scp.path

    def keys(self):
        return self.scp.keys()

    def get(self, key):
        return self.scp.vector(key)

    def rewind(self, wanted):
        """Before a pass over the keys `wanted`."""


class ArkAlignment:
    """Vectors by key from a stream.  Those passed over are kept: keys asked in the archive's order need no memory."""

    def __init__(self, ark):
        self.ark, self.path = ark, ark.name
        self.sizes = {}
        for key, vector in ark:
            if key in self.sizes:
                raise BadInput(f'{ark.name}: utterance {key} appears twice; remove one')
            self.sizes[key] = len(vector)

    def keys(self):
        return self.sizes.keys()

    def rewind(self, wanted):
        self.stream, self.passed, self.wanted = iter(self.ark), {}, wanted

    def get(self, key):
        if key in self.passed:
            return self.passed.pop(key)
        for found, vector in self.stream:
            if found == key:
                return vector
            if found in self.wanted:
                self.passed[found] = vector
        raise BadInput(f'{self.path}: utterance {key} is gone since the archive was first read')


class Ark:
    """Sequential access to the integer vectors of an archive or of a shell command ('... |' of the user's own)."""

    def __init__(self, name):
        self.name = name

    def __iter__(self):
        """(key, [T] int32) in the archive's order."""
        with closing(self.open()) as f:
            self.refuse_compressed(f)
            while key := read_key(f):
                yield key, self.read(f, key)
            self.finish(f)

    def refuse_compressed(self, f):
        if f.peek(2)[:2] == GZIP:
            command = self.name.rstrip('| ') + ' | gunzip -c |' if is_pipe(self.name) else \
                f'gunzip -c {shlex.quote(self.name)} |'
            raise BadInput(f'{self.name}: is compressed; use --ali "ark:{command}"')

    def read(self, f, key):
        try:
            return read_integers(f)
        except (ValueError, OverflowError, MemoryError) as e:
            raise BadInput(f'{self.name}: utterance {shown(key, 80)}: truncated or not an int32 vector '
                           f'({shown(str(e) or type(e).__name__, 80)}); make the alignment again') from None

    def open(self):
        if is_pipe(self.name):
            self.process = subprocess.Popen(self.name.strip('|'), shell=True, stdout=subprocess.PIPE)
            return self.process.stdout
        try:
            return open(self.name, 'rb')
        except OSError as e:
            raise BadInput(f'{self.name}: {e.strerror}; expected an archive or an scp of pdf-ids') from None

    def finish(self, f):
        if is_pipe(self.name) and self.process.wait():
            raise BadInput(f'{self.name}: command ended with status {self.process.returncode}')


def read_key(f):
    """The next word of an archive and the blank after it, but not the end of its line; '' at the end of the archive."""
    key = bytearray()
    while c := f.peek(1)[:1]:
        if key and c == b'\n':  # the vector is empty
            break
        f.read(1)
        if c not in BLANK:
            key += c
        elif key:
            break
    return key.decode('utf-8', 'replace')
