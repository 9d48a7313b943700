"""TensorBoard's event files, written at once by the thread that calls: a full disk is an error, never a wait."""

from time import time

from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary


class Events:
    """Scalars below the directory `path`, which is made.  Raises OSError."""

    def __init__(self, path):
        path.mkdir(parents=True, exist_ok=True)
        self.writer = EventsWriter(str(path/'events'))

    def scalars(self, values, step):
        """Write {tag: number} at `step` (global samples)."""
        tagged = [Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self.write(Event(step=step, summary=Summary(value=tagged)))

    def rewind(self, step):
        """Let TensorBoard forget what an earlier run wrote after `step`."""
        self.write(Event(step=step + 1, session_log=SessionLog(status=SessionLog.START)))

    def write(self, event):
        event.wall_time = time()
        self.writer.write_event(event)
        self.writer.flush()

    def close(self):
        self.writer.close()
