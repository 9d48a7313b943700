"""A file for HDF5 whose errors wait until they are asked for.

HDF5 2.0 ends in a segmentation fault when it closes a file on a full disk; so it never hears of it.
"""

import os

from hpcasr.errors import BadInput


class Disk:
    """An open file; these are the methods that HDF5 calls.  Raises OSError if it cannot be opened.

    name   what messages call it, where that is not `path`
    """

    def __init__(self, path, mode, name=None):
        self.name, self.f, self.error = name or path, open(path, mode, buffering=0), None

    def attempt(self, verb, *args):
        try:
            return verb(*args)
        except OSError as e:
            self.error = self.error or e

    def seek(self, *args):
        return self.f.seek(*args)

    def tell(self):
        return self.f.tell()

    def read(self, *args):
        return self.f.read(*args)

    def readinto(self, buffer):
        return self.f.readinto(buffer)

    def write(self, data):
        data = memoryview(data)
        while len(data) and not self.error:  # a disk that becomes full takes a part first
            data = data[self.attempt(self.f.write, data):]

    def truncate(self, size):
        return self.attempt(self.f.truncate, size)

    def flush(self):
        return self.attempt(self.f.flush)

    def reserve(self, n):
        """Have room for n bytes more, or BadInput with the file as it was.  HDF5 cuts off what it does not need."""
        size = os.fstat(self.f.fileno()).st_size
        self.attempt(os.posix_fallocate, self.f.fileno(), size, n)
        if self.error:
            os.ftruncate(self.f.fileno(), size)
        self.check()

    def check(self):
        """Raise BadInput for the first error so far."""
        if self.error:
            raise BadInput(f'{self.name}: {self.error.strerror}; make room and run the command again')

    def finish(self):
        """Everything on the disk, or BadInput."""
        self.flush()
        self.attempt(os.fsync, self.f.fileno())
        self.close()
        self.check()

    def close(self):
        self.attempt(self.f.close)
