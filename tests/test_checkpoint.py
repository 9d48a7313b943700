"""Checkpoints: what was saved is loaded, bit for bit; what is not whole does not exist."""

import errno
import hashlib
import json
import os
import pathlib
import shutil
import threading
from time import sleep

import numpy as np
import pytest

from hpcasr import checkpoint
from hpcasr.checkpoint import Checkpoints, part, prefixed
from hpcasr.comm.base import Comm
from hpcasr.comm.mpi import MPIComm
from hpcasr.comm.virtual import World
from hpcasr.errors import BadInput
from hpcasr.grace import Grace

FACTS = {'shape': {}, 'config': {'a': 1}, 'versions': {}, 'total': 1, 'store': '', 'dev': ''}


def state(seed=0):
    rng = np.random.default_rng(seed)
    return prefixed(params={'params': rng.normal(size=1000).astype(np.float32)},
                    work={'epoch': 3, 'consumed': 2**40 + 1}, schedule={'last': np.array(np.inf)})


def test_what_was_saved_is_loaded(tmp_path):
    c = Checkpoints(tmp_path, Comm())
    c.save(12, state(), {}, FACTS)
    path, manifest, complaints = c.newest()
    shared, own = c.load(path)
    assert manifest['config'] == {'a': 1} and manifest['samples'] == 12 and not complaints and not own
    assert part(shared, 'params')['params'].tobytes() == state()['params/params'].tobytes()
    assert part(shared, 'work')['consumed'] == 2**40 + 1


def test_only_the_newest_stay(tmp_path):
    c = Checkpoints(tmp_path, Comm(), keep=2)
    for samples in 5, 30, 100, 20_000:
        c.save(samples, state(), {}, FACTS)
    assert sorted(int(p.name) for p in c.root.iterdir()) == [100, 20_000]


def test_the_best_one_stays_too(tmp_path):
    c = Checkpoints(tmp_path, Comm(), keep=1)
    for samples, ce in (1, 3.0), (2, 1.0), (3, None), (4, 2.0):
        c.save(samples, state(), {}, FACTS | {'ce': ce})
    assert sorted(int(p.name) for p in c.root.iterdir()) == [2, 4]
    assert int(c.best().name) == 2


@pytest.mark.parametrize('damage', ['flip', 'cut', 'remove', 'manifest', 'no manifest', 'not json'])
def test_a_damaged_one_is_passed_over_with_a_complaint(tmp_path, damage):
    c = Checkpoints(tmp_path, Comm())
    c.save(1, state(1), {}, FACTS)
    broken = c.save(2, state(2), {}, FACTS)
    spoil(broken, damage)
    path, _, complaints = c.newest()
    assert path.name == '000000000001'
    assert len(complaints) == (damage != 'no manifest')
    assert c.load(path)[0]['params/params'].tobytes() == state(1)['params/params'].tobytes()
    assert [p.name for p in c.paths()] == ['000000000001']  # the damaged one is set aside, neither counted nor deleted
    assert (c.root/'000000000002.bad').exists() == (damage != 'no manifest')


def spoil(path, damage):
    file, manifest = path/'shared.h5', path/'manifest.json'
    content = bytearray(file.read_bytes())
    if damage == 'flip':
        content[-5] ^= 4
        file.write_bytes(content)
    elif damage == 'cut':
        file.write_bytes(content[:-100])
    elif damage == 'remove':
        file.unlink()
    elif damage == 'manifest':
        manifest.write_text(json.dumps({'format': 'hpcasr-checkpoint'}))
    elif damage == 'no manifest':
        manifest.unlink()
    else:
        manifest.write_text('{')


def test_none_is_there_or_none_is_good(tmp_path):
    c = Checkpoints(tmp_path, Comm())
    assert c.newest() == (None, None, [])
    spoil(c.save(1, state(), {}, FACTS), 'flip')
    with pytest.raises(BadInput, match='all 1 checkpoints are damaged'):
        c.newest()
    assert len(c.paths()) == 1


def test_new_ones_stay_beside_damaged_ones(tmp_path):
    """A run that goes on from an old one must not have its checkpoints rotated away by newer, damaged ones."""
    c = Checkpoints(tmp_path, Comm(), keep=1)
    c.keep = 4
    c.save(1, state(1), {}, FACTS)
    for samples in 7, 8, 9:
        spoil(c.save(samples, state(), {}, FACTS | {'ce': 0.1}), 'flip')
    c.keep = 1
    assert c.newest()[0].name == '000000000001'
    c.save(2, state(2), {}, FACTS)
    assert c.newest()[0].name == '000000000002'


def test_a_damaged_one_that_cannot_be_set_aside_is_bad_input(tmp_path, monkeypatch):
    c = Checkpoints(tmp_path, Comm())
    c.save(1, state(), {}, FACTS)
    spoil(c.save(2, state(), {}, FACTS), 'flip')

    def read_only(*_):
        raise OSError(30, 'Read-only file system')
    monkeypatch.setattr('os.rename', read_only)
    with pytest.raises(BadInput, match='Read-only file system; make it writable'):
        c.newest()


def test_what_a_killed_run_left_is_tidied(tmp_path):
    c = Checkpoints(tmp_path, Comm())
    c.save(1, state(1), {}, FACTS)
    os.rename(c.root/'000000000001', c.root/'.000000000001.old')  # killed between the two renames
    (c.root/'.000000000005.part').mkdir()
    assert c.newest()[0].name == '000000000001'
    assert [p.name for p in c.root.iterdir()] == ['000000000001']


def test_one_that_cannot_be_written_leaves_the_others(tmp_path, monkeypatch):
    c = Checkpoints(tmp_path, Comm())
    c.save(1, state(), {}, FACTS)

    def full(*_):
        raise OSError(28, 'No space left on device')
    monkeypatch.setattr('os.fsync', full)
    with pytest.raises(BadInput, match=r'No space left on device.*untouched'):
        c.save(2, state(), {}, FACTS)
    assert [p.name for p in c.root.iterdir()] == ['000000000001']


@pytest.mark.mpi
def test_every_rank_gets_its_own_state_back(mpi_tmp_path):
    comm = MPIComm()
    folder = comm.allgather(str(mpi_tmp_path))[0]
    c = Checkpoints(folder, comm)
    c.save(7, state(), {'own/x': np.full(3, comm.rank)}, FACTS)
    path, manifest, _ = c.newest()
    shared, own = c.load(path)
    assert len(manifest['files']) == comm.size + 1
    assert shared['params/params'].tobytes() == state()['params/params'].tobytes()
    assert (own['own/x'] == comm.rank).all()


@pytest.mark.mpi(min_size=2)
def test_a_full_disk_on_one_rank_is_heard_of_by_all(mpi_tmp_path, monkeypatch):
    comm = MPIComm()
    c = Checkpoints(comm.allgather(str(mpi_tmp_path))[0], comm)
    c.save(1, state(), {'x': 1}, FACTS)
    if comm.rank == 1:
        monkeypatch.setattr('os.fsync', lambda _: (_ for _ in ()).throw(OSError(28, 'No space left on device')))
    with pytest.raises(BadInput, match=r'rank 1: .*No space left on device'):
        c.save(2, state(), {'x': 1}, FACTS)
    comm.barrier()
    assert [p.name for p in c.root.iterdir()] == ['000000000001']
    comm.barrier()


# in the background

def test_what_is_saved_is_what_was_there_when_it_was_begun(tmp_path):
    """Twice, in the same second buffer, while the first one changes."""
    c, x = Checkpoints(tmp_path, Comm(), background=True), np.zeros(50_000)
    buffers = []
    for samples in 1, 2:
        x[:] = samples
        c.begin(samples, {'params/params': x, 'n': samples}, {}, FACTS)
        x[:] = -1
        buffers.append(c.copies['shared.h5']['params/params'])
    c.finish()
    for samples in 1, 2:
        shared, _ = c.load(c.final(samples))
        assert (shared['params/params'] == samples).all() and shared['n'] == samples
    assert buffers[0] is buffers[1] and [one['samples'] for one in c.news] == [1, 2]
    assert all(0 <= one['foreground_seconds'] <= one['seconds'] for one in c.news)


def test_a_kill_while_one_is_written_leaves_the_older_one(tmp_path, monkeypatch):
    c, go_on = Checkpoints(tmp_path, Comm(), background=True), threading.Event()
    c.save(1, state(1), {}, FACTS)
    monkeypatch.setattr('hpcasr.checkpoint.sync_directory', lambda _: None)
    monkeypatch.setattr('os.fsync', lambda _: go_on.wait(20))
    c.begin(2, state(2), {}, FACTS)
    shutil.copytree(tmp_path/'checkpoints', tmp_path/'killed'/'checkpoints')
    go_on.set()
    c.finish()
    killed = Checkpoints(tmp_path/'killed', Comm())
    assert [p.name for p in c.paths()] == ['000000000002', '000000000001']
    assert killed.newest()[0].name == '000000000001' and [p.name for p in killed.root.iterdir()] == ['000000000001']


@pytest.mark.parametrize('size', [1, 3, 5])
def test_it_is_committed_without_any_meeting(tmp_path, size):
    def work(comm):
        c = Checkpoints(tmp_path, comm, background=True)
        c.begin(5, state(), {'x': np.full(3, comm.rank)}, FACTS)
        while not (c.final(5)/'manifest.json').exists():
            sleep(0.001)
            comm.sleep(0.001)  # lets the others go on
        c.finish()
        return c.load(c.final(5))[1]['x'][0]
    assert World(size).run(work) == list(range(size))
    files = {'manifest.json', 'shared.h5', *(f'rank{rank:04d}.h5' for rank in range(size))}
    assert {p.name for p in tmp_path.glob('checkpoints/*/*')} == files


@pytest.mark.parametrize('bad', [0, 2])
def test_one_that_cannot_write_in_the_background_is_heard_of_by_all(tmp_path, bad):
    class Full:
        def write(self):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def work(comm):
        c = Checkpoints(tmp_path, comm, background=True)
        c.save(1, state(), {'x': 1}, FACTS)
        c.drill = Full() if comm.rank == bad else c.drill
        c.begin(2, state(), {'x': 1}, FACTS)
        while comm.rank == bad and not c.fault:
            sleep(0.01)
        with pytest.raises(BadInput, match=f'rank {bad}: .*No space left on device.*untouched'):
            c.finish()
        c.finish()
        assert c.newest()[0].name == '000000000001'
        return comm.rank == bad or not c.fault
    assert all(World(3).run(work))
    assert [p.name for p in (tmp_path/'checkpoints').iterdir()] == ['000000000001']


# a file system that vanishes for a while

@pytest.mark.parametrize('where', ['os.fsync', 'os.rename', 'pathlib.Path.mkdir'])
def test_a_file_system_that_comes_back_is_waited_for(tmp_path, monkeypatch, capfd, where):
    c, work, fails = Checkpoints(tmp_path, Comm()), vanish(monkeypatch, where), [errno.ESTALE, errno.EIO]
    work(fails)
    c.save(1, state(), {}, FACTS)
    assert not fails and c.newest()[0].name == '000000000001'
    told = capfd.readouterr().err
    assert told.count('trying again in') == 2 and 'Stale file handle' in told and str(tmp_path) in told


def vanish(monkeypatch, where):
    """work(fails): each call of `where` raises the next errno of that list, until there are none."""
    monkeypatch.setattr('hpcasr.patience.PAUSES', [0]*4)
    module, _, name = where.rpartition('.')
    owner = {'os': os, 'pathlib.Path': pathlib.Path}[module]
    original, left = getattr(owner, name), []

    def failing(*args, **options):
        if left:
            number = left.pop(0)
            raise OSError(number, os.strerror(number))
        return original(*args, **options)

    def work(fails):
        nonlocal left
        left = fails
    monkeypatch.setattr(owner, name, failing)
    return work


def test_one_that_stays_away_is_bad_input(tmp_path, monkeypatch):
    c = Checkpoints(tmp_path, Comm())
    c.save(1, state(), {}, FACTS)
    vanish(monkeypatch, 'os.fsync')([errno.EIO]*5)
    with pytest.raises(BadInput, match='Input/output error; older checkpoints are untouched'):
        c.save(2, state(), {}, FACTS)
    assert [p.name for p in c.root.iterdir()] == ['000000000001']


def test_a_checkpoint_is_not_called_damaged_while_its_file_system_is_away(tmp_path, monkeypatch):
    c = Checkpoints(tmp_path, Comm())
    c.save(1, state(), {}, FACTS)
    monkeypatch.setattr('hpcasr.patience.PAUSES', [0]*4)
    digest, fails = hashlib.file_digest, [errno.ESTALE, errno.EIO]

    def vanished(*args):
        if fails:
            raise OSError(fails.pop(0), 'away')
        return digest(*args)
    monkeypatch.setattr('hashlib.file_digest', vanished)
    path, _, complaints = c.newest()
    assert path.name == '000000000001' and not complaints and not fails


def test_a_directory_that_is_removed_while_it_is_written_to_is_made_again(tmp_path, monkeypatch):
    c, done = Checkpoints(tmp_path/'exp', Comm()), []
    image = checkpoint.h5_image

    def remove_once(values):
        if not done:
            done.append(shutil.rmtree(tmp_path/'exp'))
        return image(values)
    monkeypatch.setattr('hpcasr.checkpoint.h5_image', remove_once)
    monkeypatch.setattr('hpcasr.patience.PAUSES', [0]*4)
    c.save(1, state(), {}, FACTS)
    assert c.load(c.newest()[0])[0]['params/params'].tobytes() == state()['params/params'].tobytes()


@pytest.mark.parametrize(('seconds', 'took', 'warned'), [(10, 9, False), (10, 11, True), (0, 99, False)])
def test_a_checkpoint_that_does_not_fit_into_the_grace_is_warned_of_once(monkeypatch, seconds, took, warned):
    monkeypatch.setenv('HPCASR_GRACE', str(seconds or ''))
    grace = Grace(0)
    assert ('--signal=USR1@22' in grace.warning(took)) == warned and not grace.warning(took)
    monkeypatch.setenv('HPCASR_GRACE', 'soon')
    with pytest.raises(BadInput, match='HPCASR_GRACE=soon'):
        Grace(0)
    assert Grace(5.0).seconds == 5
