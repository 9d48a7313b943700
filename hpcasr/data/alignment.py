"""Alignments as Kaldi writes them: the pdf-id of every frame, by scp, by archive, or from a shell command."""

import re
import subprocess
from contextlib import closing

from hpcasr.data.kaldi import Scp, is_pipe, read_integers
from hpcasr.errors import BadInput

RSPECIFIER = re.compile(r'(?:(scp|ark)[a-z,]*:)?(.*)$', re.DOTALL)


def open_alignment(rspecifier, allow_pipes=False):
    """The alignment that `rspecifier` names: 'pdf.scp', 'scp:pdf.scp', 'pdf.ark', 'ark:pdf.ark', 'ark:... |'.

    `keys()`, then `rewind(wanted)` before each pass, and `get(key)` for [T] int32.  Raises BadInput.
    """
    kind, name = RSPECIFIER.match(rspecifier).groups()
    if kind == 'scp' or (not kind and name.endswith('.scp')):
        return ScpAlignment(Scp(name, allow_pipes))
    return ArkAlignment(Ark(name.strip()))


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
            while key := read_key(f):
                yield key, self.read(f, key)
            self.finish(f)

    def read(self, f, key):
        try:
            return read_integers(f)
        except (ValueError, OverflowError) as e:
            raise BadInput(f'{self.name}: utterance {key}: truncated or not an int32 vector ({e}); '
                           f'make the alignment again') from None

    def open(self):
        if is_pipe(self.name):
            self.process = subprocess.Popen(self.name.strip('|'), shell=True, stdout=subprocess.PIPE)
            return self.process.stdout
        try:
            return open(self.name, 'rb')
        except OSError as e:
            raise BadInput(f'{self.name}: {e.strerror}') from None

    def finish(self, f):
        if is_pipe(self.name) and self.process.wait():
            raise BadInput(f'{self.name}: command ended with status {self.process.returncode}')


def read_key(f):
    """The next word of an archive, b' ' consumed; '' at its end."""
    key = bytearray()
    while (c := f.read(1)) not in (b'', b' '):
        key += c
    return key.decode('utf-8', 'replace').strip()
