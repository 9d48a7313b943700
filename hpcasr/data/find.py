"""Which file a relative path in an scp means."""

import os

from hpcasr.errors import BadInput


def find(name, *folders):
    """The file `name`: absolute as given; relative from the working directory or one of `folders`.  None: no such file.

    Raises BadInput if two of these places hold different files, of which the wrong one would be read silently.
    """
    places = [os.path.join(folder, name) for folder in (os.curdir, *folders)]
    found = [place for place in places if os.path.isfile(place)]
    for other in found[1:]:
        if not os.path.samefile(found[0], other):
            raise BadInput(f'{name} is both {found[0]} and {other}; write absolute paths')
    return found[0] if found else None
