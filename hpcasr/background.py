"""Work that goes on in a thread while training does."""

import atexit
import threading

from hpcasr.errors import BadInput

PATIENCE = 10  # seconds that an exit waits for the work: a thread that is cut off in HDF5 keeps its lock for ever


class Background:
    """work(*args), begun at once in a thread.  If the process is killed before, so is the work."""

    def __init__(self, work, *args):
        self.work, self.args, self.result, self.error = work, args, None, None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()
        atexit.register(self.thread.join, PATIENCE)

    def run(self):
        try:
            self.result = self.work(*self.args)
        except BaseException as e:  # raised again by whoever asks
            self.error = e

    @property
    def fault(self):
        """The BadInput that the work has met so far, or None.  Raises whatever else it has met."""
        if self.error is not None and not isinstance(self.error, BadInput):
            raise self.error
        return self.error

    def join(self):
        """What the work has returned, when it is done.  Raises what it has raised."""
        self.thread.join()
        atexit.unregister(self.thread.join)
        if self.error is not None:
            raise self.error
        return self.result
