"""Recognizing a store with all ranks, at the acoustic scales and word penalties that may turn out to be the best.

DIR/scoring/ref.txt, utt2spk          what was said, if the store has texts; who speaks
DIR/scoring/ACWT_PENALTY.txt          what was recognized
DIR/log.json                          models, beam, speed; written when everything else is there
"""

import json
import os
import pathlib
import shutil
from dataclasses import dataclass

from hpcasr.data.kaldi import words
from hpcasr.decode.recognizer import Recognizer
from hpcasr.decode.score import total
from hpcasr.decode.speed import figures
from hpcasr.decode.texts import write_texts, write_whole
from hpcasr.decode.tune import label, wanted
from hpcasr.errors import BadInput


@dataclass(frozen=True)
class Request:
    """scales, penalties: sorted lists to choose from; beam in nats; at most max_active states per frame."""

    graph: str
    store: str
    out: str
    scales: list
    penalties: list
    beam: float = 13.0
    max_active: int = 5000
    force: bool = False

    @property
    def tunes(self):
        return len(self.scales)*len(self.penalties) > 1


def decode(comm, request, open_model, note=lambda line: None, watch=iter):
    """Recognize with all ranks of `comm`; the figures of log.json, on every rank.

    open_model   () -> acoustic model
    note, watch  takes a line for the user; gives the same items again and shows how far this rank is
    Raises BadInput; then nothing is left in the directory but what was there.
    """
    comm.first(refuse_existing, request)
    recognizer = comm.together(Recognizer, request, open_model, comm.rank, comm.size)
    draft = pathlib.Path(comm.first(prepare, request.out))
    try:
        comm.first(write_references, draft, recognizer.store)
        points = search(comm, request, recognizer, draft, note, watch)
        facts = figures(request, recognizer, comm.allgather(recognizer.spent.facts()), points)
        comm.first(publish, draft, request, facts)
    finally:
        if comm.rank == 0:
            discard(draft)
    return facts


def search(comm, request, recognizer, draft, note, watch):
    """Decode at one point after the other: {point: facts}."""
    points, errors = {}, {}
    while todo := wanted(errors, request.scales, request.penalties):
        for point in todo:
            mine = comm.together(recognizer.decode, *point, watch)
            parts = comm.allgather(mine)
            comm.first(write_part, draft, point, [part.texts for part in parts])
            counts = total(part.counts for part in parts)
            unfinished = sorted(name for part in parts for name in part.unfinished)
            errors[point] = counts.errors
            points[point] = point_facts(point, counts, unfinished)
            note(f'acwt {point[0]:g} penalty {point[1]:g}' + (f'  {counts}' if counts.words else ''))
    return points


def point_facts(point, counts, unfinished):
    facts = dict(zip(('acwt', 'penalty'), point, strict=True))
    return facts | ({'errors': counts.errors, 'words': counts.words} if counts.words else {}) | {
        'unfinished': len(unfinished), 'first_unfinished': unfinished[:1]}


def refuse_existing(request):
    out = pathlib.Path(request.out)
    for name in 'scoring', 'log.json':
        if (out/name).exists() and not request.force:
            raise BadInput(f'{out} holds {name}, hypotheses of another run; choose another --out, or replace them with '
                           '--force')


def prepare(out):
    """A new folder in the directory `out`, as a string."""
    draft = pathlib.Path(out)/f'.scoring.tmp-{os.getpid()}'
    try:
        draft.mkdir(parents=True)
    except OSError as e:
        raise BadInput(f'{out}: {e.strerror}; choose another --out') from None
    return str(draft)


def discard(draft):
    shutil.rmtree(draft, ignore_errors=True)
    if draft.parent.is_dir() and not any(draft.parent.iterdir()):
        draft.parent.rmdir()


def write_references(draft, store):
    if any(store.texts):
        write_texts(draft/'ref.txt', {name: ' '.join(words(text))
                                      for name, text in zip(store.names, store.texts, strict=True)})
    write_texts(draft/'utt2spk', {name: store.speaker_names[s]
                                  for name, s in zip(store.names, store.speakers, strict=True)})


def write_part(draft, point, parts):
    write_texts(draft/f'{label(point)}.txt', {name: text for part in parts for name, text in part.items()})


def publish(draft, request, facts):
    """Put what is whole in its place; scores of what was there go."""
    out = pathlib.Path(request.out)
    try:
        for old in [out/'scoring', out/'log.json', *out.glob('wer_*')]:
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
        os.rename(draft, out/'scoring')
    except OSError as e:
        raise BadInput(f'{out}: {e.strerror}; choose another --out') from None
    write_whole(out/'log.json', json.dumps(facts, indent=1) + '\n')
