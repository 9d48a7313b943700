"""An alignment for those who work with Kaldi: pdf-ids of every frame, their counts, and words and phones in time."""

import os
from contextlib import ExitStack, closing
from decimal import Decimal
from pathlib import Path

import numpy as np

from hpcasr.data.beside import beside, refuse_files
from hpcasr.data.kaldi import ArkWriter, words
from hpcasr.data.progress import silent
from hpcasr.data.store import Store
from hpcasr.errors import BadInput

TREE = 'tree.json', 'phones.txt'
OWN = ('pdf.ark', 'pdf.scp', 'ali_train_pdf.counts', 'num_pdfs', *TREE, 'ctm', 'phones.ctm')


def export(path, out, force=False, progress=silent):
    """Write the alignment of the store `path` into the directory `out`; return {name of a file: why it is not there}.

    pdf.ark, pdf.scp       int32 vectors, one pdf-id per frame
    ali_train_pdf.counts   frames of every pdf, as analyze-counts --binary=false writes them
    num_pdfs               their number
    tree.json, phones.txt  the tree; its phones, numbered from 1 as in Kaldi's symbol tables
    ctm, phones.ctm        UTTERANCE 1 START DURATION WORD, in seconds by the frame shift of the store; and of phones
    Raises BadInput, leaving nothing behind.
    """
    store, out = Store(path), Path(out)
    if store.targets is None:
        raise BadInput(f'{path}: has no targets to export; align it first, see hpcasr align --help')
    refuse_files(out, OWN, 'the alignment in it', force)
    missing = lacking(store)
    with beside(out) as folder:
        write_totals(store, folder)
        write_utterances(store, folder, out, OWN - missing.keys(), progress)
        move(folder, out)
    return missing


def lacking(store):
    """{file: why it cannot be written}."""
    why = dict.fromkeys(TREE, 'the store has no tree') if store.tree is None else {}
    if store.segment_offsets is None:
        return why | dict.fromkeys(['ctm', 'phones.ctm'], 'the store has no segments')
    if store.tree is None:
        why |= {'phones.ctm': 'the store has no tree, which names phones'}
    if not any(store.texts):
        why |= {'ctm': 'the store has no transcripts'}
    return why


def write_totals(store, folder):
    """What is of the whole store."""
    counts = ' '.join(map(str, store.counts()))
    (folder/'ali_train_pdf.counts').write_text(f'[ {counts} ]\n')
    (folder/'num_pdfs').write_text(f'{store.num_targets}\n')
    if store.tree is not None:
        (folder/'tree.json').write_text(store.tree.dumps() + '\n')
        symbols = ['<eps>', *store.tree.phones]
        (folder/'phones.txt').write_text(''.join(f'{phone} {n}\n' for n, phone in enumerate(symbols)), 'utf-8')


def write_utterances(store, folder, out, names, progress):
    """pdf.ark and pdf.scp, and of ctm and phones.ctm those among `names`."""
    seconds = Seconds(store.frontend.get('frame_shift', 0.01))
    with ExitStack() as stack:
        ark = stack.enter_context(closing(ArkWriter(folder/'pdf.ark', folder/'pdf.scp', out.absolute()/'pdf.ark')))
        ctm = {name: (stack.enter_context(open(folder/name, 'w', encoding='utf-8')), rows)
               for name, rows in {'ctm': word_rows, 'phones.ctm': phone_rows}.items() if name in names}
        for u in progress(range(store.num_utterances)):
            ark.write(store.name(u), np.ascontiguousarray(store.utterance(u)[1], np.int32))
            for file, rows in ctm.values():
                file.writelines(f'{store.name(u)} 1 {seconds(first)} {seconds(length)} {label}\n'
                                for first, length, label in rows(store, u))


class Seconds:
    """Frames → seconds as text, with as many decimals as the frame shift has, at least two."""

    def __init__(self, shift):
        self.shift = Decimal(str(shift))
        self.decimals = max(2, -self.shift.as_tuple().exponent)

    def __call__(self, frames):
        return f'{int(frames)*self.shift:.{self.decimals}f}'


def word_rows(store, u):
    """(first frame, frames, word) of every word of utterance u that has a segment."""
    spoken, segments = words(store.text(u)), store.segments(u)
    for word in np.unique(segments[segments[:, 3] >= 0, 3]):
        own = segments[segments[:, 3] == word]
        yield own[0, 0], own[-1, 0] + own[-1, 1] - own[0, 0], named(spoken, word, f'{store.path}: {store.name(u)}')


def phone_rows(store, u):
    for first, length, phone, _ in store.segments(u):
        yield first, length, named(store.tree.phones, phone, f'{store.path}: {store.name(u)}')


def named(names, n, where):
    if not 0 <= n < len(names):
        raise BadInput(f'{where}: its segments do not fit its transcript and tree; align the store again')
    return names[n]


def move(folder, out):
    """What is in `folder` replaces all that was exported to `out` before."""
    out.mkdir(exist_ok=True)
    for name in OWN:
        if os.path.exists(folder/name):
            os.replace(folder/name, out/name)
        else:
            (out/name).unlink(missing_ok=True)
