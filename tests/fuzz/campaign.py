"""All cases of a reader, one after the other: what came of them, and the files of those that escaped."""

import os
import re
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from time import monotonic

import numpy as np

from tests.fuzz.cell import Cell
from tests.fuzz.mutate import pick, spoilt
from tests.fuzz.places import put, some
from tests.fuzz.traced import Traced

AT_ONCE = 100  # cases of a process
TRACED = 10  # of so many processes one is traced
ELSE = 0.04  # share of the cases in which something else lies where a file should be
MORE = 0.15  # share of those in which a second file is spoilt, too


@dataclass
class Found:
    """told    {'done', 'refused' or how it escaped: number}
    first      {how it escaped: number of the first case}
    """

    reader: object
    told: Counter = field(default_factory=Counter)
    first: dict = field(default_factory=dict)
    lines: set = field(default_factory=set)
    seconds: float = 0.0

    @property
    def cases(self):
        return self.told.total()

    @property
    def escapes(self):
        return self.cases - self.told['done'] - self.told['refused']

    def add(self, case, told):
        self.told[told] += 1
        if told not in ('done', 'refused'):
            self.first.setdefault(told, case)

    @property
    def coverage(self):
        """Share of the lines of the reader."""
        every = self.reader.lines()
        return len(self.lines & every)/max(len(every), 1)


class Campaign:
    """Cases of a reader, whose real files lie in the folder `seeds`; `work` is a folder to work in."""

    def __init__(self, reader, seeds, work, seed):
        self.reader, self.seeds, self.work, self.seed = reader, Path(seeds), Path(work), seed
        files = [p for p in sorted(self.seeds.rglob('*')) if p.is_file() and reader.takes(p.name)]
        self.names = [p.relative_to(seeds) for p in files]
        assert self.names, f'no file of {seeds} is one of {reader.name}'
        self.content = {name: (self.seeds/name).read_bytes() for name in self.names}
        self.dirty = []

    def changes(self, case):
        """{name: bytes, or a name in PLACES} of the case."""
        rng = np.random.default_rng([self.seed, *self.reader.name.encode(), case])
        return {name: self.change(rng, name) for name in self.chosen(rng)}

    def chosen(self, rng):
        return list(dict.fromkeys(pick(rng, self.names) for _ in range(1 + (rng.random() < MORE))))

    def change(self, rng, name):
        if rng.random() < ELSE:
            return some(rng)
        content = self.content[name]
        if rng.random() < 0.03:  # what belongs to another file
            content = self.content[pick(rng, self.names)]
        return spoilt(rng, content, self.reader.special.get(name.suffix, ()))

    def prepare(self, case):
        """Have the files of the case, in the folder in which it runs."""
        for name in self.dirty:
            put(self.folder/name, self.content[name])
        if self.reader.writes:
            self.begin()
            os.chdir(self.folder)  # another of that name
        changes = self.changes(case)
        for name, what in changes.items():
            put(self.folder/name, what)
        self.dirty = list(changes)
        if not self.reader.writes:
            shutil.rmtree(self.folder/'out', ignore_errors=True)
            (self.folder/'out').mkdir()

    @property
    def folder(self):
        return self.work/'case'

    def begin(self):
        shutil.rmtree(self.folder, ignore_errors=True)
        shutil.copytree(self.seeds, self.folder)
        (self.folder/'out').mkdir(exist_ok=True)
        self.dirty = []

    def run(self, cases, note=lambda found: None):
        """The Found of all `cases`, numbers."""
        found, tic, left, turn = Found(self.reader), monotonic(), list(cases), 0
        while left:
            self.begin()
            traced = Traced({file for file, _ in self.reader.lines()}) if turn % TRACED == 0 else None
            cell = Cell(self.reader.read, self.folder, self.reader.allowed, traced)
            told = list(cell.run(left[:AT_ONCE], self.prepare))
            for case, how in told:
                found.add(case, how)
            found.lines |= cell.lines
            left, turn = left[len(told):], turn + 1
            note(found)
        found.seconds = monotonic() - tic
        return found

    def keep(self, found, folder):
        """The files of the first case of every escape, and what happened."""
        for how, case in found.first.items():
            place = Path(folder)/self.reader.name/str(case)
            shutil.rmtree(place, ignore_errors=True)
            shutil.copytree(self.seeds, place)
            for name, what in self.changes(case).items():
                put(place/name, what)
            (place/'ESCAPE').write_text(f'{self.reader.name}, seed {self.seed}, case {case}: {how}\n')


def kinds(first):
    """[(escape, first case)] of those that differ in more than particulars."""
    found = {}
    for how, case in first.items():
        kind = re.sub(r'\d{3,}|: .*', '', how) if ' at ' in how else how
        found.setdefault(kind, (how, case))
    return list(found.values())
