"""What happens to a run when the disk does something to it."""

import errno
import os

import h5py
import numpy as np
import pytest

from hpcasr import checkpoint
from hpcasr.comm.base import Comm
from hpcasr.data.loader import Loader
from hpcasr.data.store import Store
from hpcasr.errors import BadInput
from tests.conftest import done_of
from tests.short_runs import metrics, short_run
from tests.small import store


@pytest.fixture
def data(tmp_path):
    return store(tmp_path/'small.h5', utterances=30)


def at(monkeypatch, position, happen):
    """Call happen() once, when the batch with this position of the first epoch is read by whoever reads it."""
    read, done = Loader.read, []

    def reading(self, claim, chunks):
        if self.seed is not None and not done and claim.epoch == 0 and claim.lo <= position < claim.hi:
            done.append(happen())
        return read(self, claim, chunks)
    monkeypatch.setattr(Loader, 'read', reading)


def checksum(out):
    return done_of(out)['checksum']


@pytest.mark.parametrize('name', ['sync-allreduce', 'local-sgd', 'async-ps'])
@pytest.mark.parametrize('background', [True, False])
def test_a_full_disk_ends_the_run_with_one_line_and_loses_nothing_before(data, tmp_path, monkeypatch, name, background):
    options = {'train.algo': name, 'checkpoint.background': background, 'train.epochs': 1}
    write_file = checkpoint.write_file

    def full(path, content):
        if path.name == 'shared.h5' and int(path.parent.name.strip('.').removesuffix('.part')) > 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write_file(path, content)
    with monkeypatch.context() as patched:
        patched.setattr(checkpoint, 'write_file', full)
        with pytest.raises(BadInput, match=r'No space left on device.*start again with --resume auto'):
            short_run(data, tmp_path/'x', **options)
    path, _, complaints = checkpoint.Checkpoints(tmp_path/'x', Comm()).newest()
    assert path and not complaints and [p.name for p in path.parent.iterdir()] == [path.name]
    assert not (tmp_path/'x/DONE').exists()
    told = short_run(data, tmp_path/'x', resume='auto', **options)
    assert sum(line['kind'] == 'epoch' for line in told) == 1
    if name != 'async-ps':
        short_run(data, tmp_path/'whole', **options)
        assert checksum(tmp_path/'x') == checksum(tmp_path/'whole')


def test_a_directory_that_is_removed_under_a_run_is_made_anew(data, tmp_path, monkeypatch, capfd):
    with monkeypatch.context() as patched:
        patched.setattr('hpcasr.patience.PAUSES', [0]*4)
        at(patched, 30, lambda: os.rename(tmp_path/'x', tmp_path/'gone'))
        told = short_run(data, tmp_path/'x', **{'data.ahead': 1})
    assert capfd.readouterr().err.count('was removed under this run') == 1
    short_run(data, tmp_path/'whole')
    assert checksum(tmp_path/'x') == checksum(tmp_path/'whole')
    assert sum(line['kind'] == 'epoch' for line in told) == 2
    assert {'config.toml', 'versions.json', 'model.json', 'DONE'} <= {p.name for p in (tmp_path/'x').iterdir()}


def test_metrics_that_cannot_be_written_end_no_run_and_no_line_is_torn(data, tmp_path, monkeypatch, capfd):
    class Nearly:
        """A file on a disk that takes 9 bytes of one line, and then has room again."""

        def __init__(self, file):
            self.file, self.lines = file, 0

        def write(self, line):
            self.lines += 1
            return self.file.write(line[:9] if self.lines == 5 else line)

        def __getattr__(self, name):
            return getattr(self.file, name)
    opened = open
    monkeypatch.setattr('builtins.open', lambda path, *mode, **how: Nearly(opened(path, *mode, **how))
                        if str(path).endswith('metrics.jsonl') and 'ab' in mode else opened(path, *mode, **how))
    short_run(data, tmp_path/'x')
    monkeypatch.undo()
    assert capfd.readouterr().err.count('metrics are lost from here on: No space left on device') == 1
    short_run(data, tmp_path/'whole')
    there, whole = (places(metrics(tmp_path/folder)) for folder in ('x', 'whole'))
    assert checksum(tmp_path/'x') == checksum(tmp_path/'whole') and len(there) == len(whole) - 1


def places(told):
    return [(line['kind'], line['samples']) for line in told if line['kind'] != 'checkpoint']


def test_a_value_that_is_not_finite_is_named_when_it_is_first_touched(data):
    """Its checksum is that of the value: whatever wrote it has kept the books."""
    import zlib
    with h5py.File(data, 'r+') as f:
        first, last = f['offsets'][3:5]
        f['frames'][first, 2] = np.nan
        f['frames_crc'][3] = zlib.crc32(np.ascontiguousarray(f['frames'][first:last]))
    corpus = Store(data)
    corpus.utterance(2)
    with pytest.raises(BadInput, match=f'small.h5: utterance {corpus.name(3)}: nan in frame 0, column 2'):
        corpus.utterance(3)
