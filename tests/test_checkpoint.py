"""Checkpoints: what was saved is loaded, bit for bit; what is not whole does not exist."""

import json
import os

import numpy as np
import pytest

from hpcasr.checkpoint import Checkpoints, part, prefixed
from hpcasr.comm.base import Comm
from hpcasr.comm.mpi import MPIComm
from hpcasr.errors import BadInput

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
