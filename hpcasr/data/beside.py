"""Directories that appear whole: their files are written beside them, and moved when all are there."""

import os
import shutil
from contextlib import contextmanager, suppress

from hpcasr.errors import BadInput


def refuse_files(out, names, what, force):
    """BadInput if the Path `out` is no directory, or holds one of the files `names` and `force` is not given."""
    if os.path.lexists(out) and not os.path.isdir(out):
        raise BadInput(f'{out}: is not a directory; name another with --out')
    there = [name for name in names if os.path.lexists(out/name)]
    if there and not force:
        raise BadInput(f'{out}: has {there[0]} already; use --force to replace {what}')


@contextmanager
def beside(out):
    """A temporary directory beside `out`; it goes at the end, and so do the empty folders that were made for it."""
    made = [folder for folder in out.parents if not os.path.exists(folder)]
    temporary = out.parent/f'{out.name}.tmp-{os.getpid()}'
    try:
        temporary.mkdir(parents=True)
        yield temporary
    except OSError as e:
        raise BadInput(f'{out}: {e.strerror or e}; nothing was written') from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        with suppress(OSError):
            for folder in made:
                folder.rmdir()
