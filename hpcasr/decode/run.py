"""Recognizing a store with all ranks, at the acoustic scales and word penalties that may turn out to be the best.

DIR/scoring/ref.txt, utt2spk          what was said, if the store has texts; who speaks
DIR/scoring/ACWT_PENALTY.txt          what was recognized
DIR/log.json                          models, beam, speed; written when everything else is there
"""

from dataclasses import dataclass

from hpcasr.data.kaldi import words
from hpcasr.decode.draft import Draft
from hpcasr.decode.recognizer import Recognizer
from hpcasr.decode.score import total
from hpcasr.decode.speed import figures
from hpcasr.decode.texts import write_texts
from hpcasr.decode.tune import label, wanted


@dataclass(frozen=True)
class Request:
    """scales, penalties: sorted lists to choose from; beam in nats; at most max_active states per frame."""

    graph: str
    store: str
    out: str
    scales: list
    penalties: list
    beam: float = 13.0
    max_active: int = 2500
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
    draft = Draft(request.out, request.force)
    try:
        comm.first(draft.claim)
        recognizer = comm.together(Recognizer, request, open_model, comm.rank, comm.size)
        comm.first(write_references, draft.path, recognizer.store)
        points = search(comm, request, recognizer, draft.path, note, watch)
        facts = figures(request, recognizer, comm.allgather(recognizer.spent.facts()), points)
        comm.first(draft.publish, facts)
    finally:
        draft.discard()
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


def write_references(draft, store):
    if any(store.texts):
        write_texts(draft/'ref.txt', {name: ' '.join(words(text))
                                      for name, text in zip(store.names, store.texts, strict=True)})
    write_texts(draft/'utt2spk', {name: store.speaker_names[s]
                                  for name, s in zip(store.names, store.speakers, strict=True)})


def write_part(draft, point, parts):
    write_texts(draft/f'{label(point)}.txt', {name: text for part in parts for name, text in part.items()})
