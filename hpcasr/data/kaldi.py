"""Kaldi tables and archives: text files of `key value`, matrices and integer vectors by scp.

Every error is a BadInput that names table, utterance and archive.  No pickle is ever loaded: matrices are parsed by
kaldiio's matrix readers, never by its guess at the content.
"""

import errno
import io
import os
import re
import subprocess
from collections import OrderedDict
from functools import partial
from pathlib import Path

import numpy as np
from kaldiio.matio import read_ascii_mat, read_matrix_or_vector, save_ark

from hpcasr import faults
from hpcasr.data.find import find
from hpcasr.errors import BadInput
from hpcasr.given import opened

OPEN_ARCHIVES = 64  # file descriptors kept; a corpus has one archive per job of its feature extraction
RANGE = r'\d+:\d+|\d+|'
ENTRY = re.compile(rf'(?P<path>.*?)(:(?P<offset>\d+))?(\[(?P<rows>{RANGE})(,(?P<columns>{RANGE}))?\])?$')
TOLERANCE = 3  # frames that a range may reach beyond the end, as in Kaldi
BLANKS = ' \t\r\n\v\f'  # what separates words for Kaldi, U+00A0 does not
INT32 = np.dtype([('size', 'i1'), ('value', '<i4')])


def lines(path):
    """(number, stripped line) of a text file in UTF-8, empty lines left out."""
    try:
        with opened(path, 'r', encoding='utf-8-sig') as f:
            for n, line in enumerate(f, 1):
                if '\0' in line:
                    raise BadInput(f'{path}: line {n}: a NUL character; this is not a text file, or a damaged one')
                if line := line.strip(BLANKS):
                    yield n, line
    except OSError as e:
        raise BadInput(f'{path}: {e.strerror}; expected a text file') from None
    except UnicodeDecodeError:
        raise BadInput(f'{path}: not UTF-8 text; convert it with iconv') from None


def words(text):
    """The words of a line, as Kaldi splits it."""
    return re.findall(f'[^{BLANKS}]+', text)


def shown(text, most=200):
    """`text` as messages show it: printable and not endless."""
    text = text if text.isprintable() else ascii(text)[1:-1]
    return text if len(text) <= most else f'{text[:most]}...'


def table(path, required=True):
    """{key: rest of the line} of a Kaldi table, in its order.  A file that is missing and not required is {}."""
    if not required and not os.path.lexists(path):
        return {}
    rows = {}
    for n, line in lines(path):
        key, _, value = line.replace('\t', ' ').partition(' ')
        if key in rows:
            raise BadInput(f'{path}: line {n}: {key} appears twice; utils/fix_data_dir.sh removes the second')
        rows[key] = value.strip(BLANKS)
    return rows


def is_pipe(entry):
    return entry.endswith('|') or entry.startswith('|')


def run_pipe(entry, where):
    """What the shell command `entry` ('... |') prints, as a file.  Only for entries the user has allowed."""
    done = subprocess.run(entry.strip('|'), shell=True, stdout=subprocess.PIPE,
                          preexec_fn=partial(faults.die_with, os.getpid()))
    if done.returncode:
        raise BadInput(f'{where}: command ended with status {done.returncode}: {shown(entry)}')
    return io.BytesIO(done.stdout)


def refuse_pipe(where, entry):
    raise BadInput(f'{where}: is a shell command ({shown(entry)}), which is not run without --allow-pipes')


class Scp:
    """Random access to the objects of an scp file, archives kept open.

    A relative path starts from the working directory or from the folder of the scp.  Pipes run only if `allow_pipes`.
    """

    def __init__(self, path, allow_pipes=False):
        self.path, self.allow_pipes = Path(path), allow_pipes
        self.entries = table(path)
        self.archives = OrderedDict()
        for key, entry in self.entries.items():
            self.check(key, entry)

    def check(self, key, entry):
        if not entry:
            raise BadInput(f'{self.where(key)}: no path; expected `{key} FILE.ark:OFFSET`')
        if is_pipe(entry) and not self.allow_pipes:
            refuse_pipe(self.where(key), entry)

    def where(self, key):
        return f'{self.path}: utterance {key}'

    def keys(self):
        return self.entries.keys()

    def __len__(self):
        return len(self.entries)

    def matrix(self, key):
        """[T, D] float32 features, plain or compressed; a range in the entry is applied."""
        f, at, match = self.open(key)
        try:
            with np.errstate(over='ignore'):  # doubles; infinities are found by whoever reads
                x = np.asarray(read_matrix(f), np.float32)
        except Exception as e:  # kaldiio: ValueError, struct.error, AssertionError, MemoryError ...
            raise self.broken(key, at, e) from None
        return self.cut(key, x, match) if match else x

    def vector(self, key):
        """[T] int32."""
        f, at, match = self.open(key)
        if match:
            raise BadInput(f'{self.where(key)}: {shown(at)} has a range, which integer vectors cannot have')
        try:
            return read_integers(f)
        except (ValueError, OSError, OverflowError, MemoryError) as e:
            raise self.broken(key, at, e) from None

    def broken(self, key, at, e):
        why = f' ({shown(" ".join(str(e).split()), 80)})' if str(e) else ''
        return BadInput(f'{self.where(key)}: {shown(at)} is truncated, empty or not Kaldi\'s{why}; '
                        f'make the archive again')

    def open(self, key):
        """The file that holds `key`, at its place; that place in words; the parsed range or None."""
        entry = self.entries[key]
        if is_pipe(entry):
            return run_pipe(entry, self.where(key)), entry, None
        match = ENTRY.match(entry)
        f = self.archive(key, match['path'])
        try:
            f.seek(int(match['offset'] or 0))
        except (ValueError, OverflowError, OSError) as e:
            raise self.broken(key, entry, e) from None
        return f, entry, match if match['rows'] is not None else None

    def archive(self, key, name):
        if name not in self.archives:
            try:
                self.archives[name] = open(self.resolve(key, name), 'rb')
            except OSError as e:
                raise BadInput(f'{self.where(key)}: {shown(name)}: {e.strerror} (tried as given and beside the scp)') \
                    from None
            if len(self.archives) > OPEN_ARCHIVES:
                self.archives.popitem(last=False)[1].close()
        self.archives.move_to_end(name)
        return self.archives[name]

    def resolve(self, key, name):
        try:
            found = find(name, self.path.parent)
        except BadInput as e:
            raise BadInput(f'{self.where(key)}: {e}') from None
        if found is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        return found

    def cut(self, key, x, match):
        """Rows and columns 'first:last', both inclusive."""
        try:
            rows, columns = bounds(match['rows']), bounds(match['columns'] or '')
        except ValueError as e:  # thousands of digits
            raise self.broken(key, match[0], e) from None
        if (rows[1] or 0) > len(x) + TOLERANCE or (columns[1] or 0) > x.shape[1]:
            raise BadInput(f'{self.where(key)}: range {shown(match[0])} lies outside of the matrix of {len(x)} x '
                           f'{x.shape[1]}')
        return x[slice(*rows), slice(*columns)]

    def close(self):
        for f in self.archives.values():
            f.close()
        self.archives.clear()


def bounds(text):
    """'3:7' -> (3, 8); '' -> (None, None)."""
    first, _, last = text.strip().partition(':')
    return (int(first), int(last or first) + 1) if first else (None, None)


def read_matrix(f):
    """The matrix at the position of `f`: binary (plain, compressed) or text."""
    head = f.read(2)
    f.seek(-len(head), io.SEEK_CUR)
    if head != b'\0B' and not head.strip().startswith(b'['):
        raise ValueError('no matrix begins here')
    x = read_matrix_or_vector(f) if head == b'\0B' else read_ascii_mat(f)
    if x.ndim != 2:
        raise ValueError('a vector, not a matrix')
    return x


def read_integers(f):
    """The int32 vector at the position of `f`, binary or the rest of a line of text."""
    head = f.read(1)
    if head == b'\0':
        return read_binary_integers(f)
    line = head if head in (b'', b'\n') else head + f.readline()
    return np.array([int(word) for word in line.split()], np.int32)


def read_binary_integers(f):
    mark, head = f.read(1), f.read(5).ljust(5, b'\0')
    size, n = np.frombuffer(head, INT32)[0].item()
    if mark != b'B' or size != 4 or n < 0:
        raise ValueError('not an int32 vector')
    raw = f.read(5*n)
    if len(raw) < 5*n:
        raise ValueError(f'{len(raw)//5} of {n} integers')
    return np.frombuffer(raw, INT32)['value'].astype(np.int32)


class ArkWriter:
    """Writes matrices to an archive and its scp, whose paths say `final`, where the archive will lie."""

    def __init__(self, ark, scp, final, compress=False):
        self.ark, self.scp, self.final = open(ark, 'wb'), open(scp, 'w', encoding='utf-8'), final
        self.method = 1 if compress else None  # kaldiio: 1 is Kaldi's choice by the number of rows

    def write(self, key, x):
        self.scp.write(f'{key} {self.final}:{self.ark.tell() + len(key.encode()) + 1}\n')
        save_ark(self.ark, {key: x}, compression_method=self.method)

    def close(self):
        self.ark.close()
        self.scp.close()
