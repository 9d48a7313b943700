"""Transcripts as Kaldi keeps them: a line per utterance, its name and its words."""

import os

from hpcasr.data.kaldi import table, words
from hpcasr.errors import BadInput


def read_texts(path):
    """{utterance: [words]}.  Raises BadInput."""
    return {name: words(text) for name, text in table(path).items()}


def write_texts(path, texts):
    """Write {utterance: text} in the order of Kaldi's sort (LC_ALL=C)."""
    write_whole(path, ''.join(f'{name} {texts[name]}'.rstrip() + '\n' for name in sorted(texts)))


def write_whole(path, text):
    """Write beside, then rename.  Raises BadInput."""
    beside = f'{path}.tmp-{os.getpid()}'
    try:
        with open(beside, 'w', encoding='utf-8') as f:
            f.write(text)
        os.replace(beside, path)
    except OSError as e:
        raise BadInput(f'{path}: {e.strerror}; make room, or make its folder writable') from None
    finally:
        if os.path.lexists(beside):
            os.unlink(beside)
