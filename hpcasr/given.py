"""Files that somebody else has made: opened without waiting for ever, and parsed without a trap."""

import json
import os
import select
import stat

PATIENCE = 1.0  # seconds to wait for the writer of a pipe to begin


def opened(path, mode='rb', **options):
    """As open(), for reading.  What never ends is an OSError: a device; a pipe to which nobody writes is empty."""
    return open(path, mode, opener=promptly, **options)


def promptly(path, flags):
    descriptor = os.open(path, flags | os.O_NONBLOCK)  # else it would wait for somebody to write to a pipe
    kind = os.fstat(descriptor).st_mode
    if stat.S_ISCHR(kind) and not os.isatty(descriptor):
        os.close(descriptor)
        raise OSError(None, 'is a device, not a file')
    if stat.S_ISFIFO(kind):
        waiting = select.poll()
        waiting.register(descriptor, select.POLLIN)
        waiting.poll(1000*PATIENCE)
    os.set_blocking(descriptor, True)
    return descriptor


def bytes_of(path):
    """Raises OSError."""
    with opened(path) as f:
        return f.read()


def text_of(path):
    """Raises OSError, and ValueError if it is not UTF-8."""
    return bytes_of(path).decode()


def json_of(path):
    """The value in a JSON file.  Raises OSError, and ValueError as `parsed`."""
    return parsed(text_of(path))


def parsed(text):
    """The value of a JSON text.  ValueError also where it is nested too deeply, or holds what is no character."""
    try:
        found = json.loads(text)
        if '\\ud' in text or '\\uD' in text:  # half of a pair of surrogates could not be printed or written
            json.dumps(found, ensure_ascii=False).encode()
    except RecursionError:
        raise ValueError('nested too deeply') from None
    return found
