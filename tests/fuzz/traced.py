"""Which lines of the readers were reached."""

import sys
from pathlib import Path


class Traced:
    """Notes the lines of `files` that are executed between `start` and `stop`."""

    def __init__(self, files):
        self.files, self.seen = frozenset(map(str, files)), set()

    def start(self):
        sys.settrace(self.enter)

    def stop(self):
        sys.settrace(None)

    def enter(self, frame, _event, _arg):
        return self.line if frame.f_code.co_filename in self.files else None

    def line(self, frame, event, _arg):
        if event == 'line':
            self.seen.add((frame.f_code.co_filename, frame.f_lineno))
        return self.line


def lines_of(file, only=None):
    """{(file, line)} of the bodies of the functions in a source; `only`: names of those that count, or of classes."""
    file = str(file)
    code = compile(Path(file).read_text(), file, 'exec')
    return {(file, line) for body in functions(code) if only is None or only(body.co_qualname)
            for *_, line in body.co_lines() if line and line != body.co_firstlineno}


def functions(code):
    for inner in code.co_consts:
        if hasattr(inner, 'co_lines'):
            if inner.co_flags & 2:  # CO_NEWLOCALS: a function, not the body of a class
                yield inner
            yield from functions(inner)
