"""Some cases of every reader, what once escaped, and whether an escape would be seen at all."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import time
import zlib

import h5py
import kaldifst
import numpy as np
import pytest

from hpcasr import given, journal
from hpcasr.data import store_seal
from hpcasr.data.store import Store
from hpcasr.decode.search import Graph
from hpcasr.errors import BadInput
from tests.fuzz import cell, places, seeds, special
from tests.fuzz.campaign import Campaign
from tests.fuzz.cell import Cell
from tests.fuzz.readers import READERS, Reader

pytestmark = pytest.mark.timeout(600)
CASES = 25


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    return seeds.make(tmp_path_factory.mktemp('fuzz')/'seeds')


@pytest.mark.parametrize('reader', READERS, ids=lambda r: r.name)
def test_nothing_escapes(reader, made, tmp_path):
    campaign = Campaign(reader, made/reader.seeds, tmp_path, seed=1)
    campaign.begin()
    reader.read_whole(campaign.folder)
    found = campaign.run(range(CASES))
    assert not found.escapes, found.first
    assert found.cases == CASES and found.told['refused'] and reader.lines()


@pytest.mark.parametrize('reader', READERS, ids=lambda r: r.name)
def test_nothing_waits_for_what_is_no_file(reader, made, tmp_path):
    campaign = Campaign(reader, made/reader.seeds, tmp_path, seed=1)
    campaign.begin()
    cases = [{name: place} for name in campaign.names[:2] for place in places.PLACES]
    campaign.changes = cases.__getitem__
    told = dict(Cell(reader.read, campaign.folder, reader.allowed).run(range(len(cases)), campaign.prepare))
    assert len(told) == len(cases) and set(told.values()) <= {'done', 'refused'}, told


def wait(folder):
    time.sleep(100)


def compute(folder):
    while True:
        pass


def crash(folder):
    os.kill(os.getpid(), signal.SIGSEGV)


def allocate(folder):
    np.ones(cell.MEMORY//6, np.float64)


def execute(folder):
    try:
        subprocess.run(['true'])
    except Exception:
        pass


def scribble(folder):
    (folder.parent/'elsewhere').write_text('x')


def fail(folder):
    raise KeyError('x')


def write(folder):
    (folder/'out'/'file').write_text('x')


def refuse(folder):
    raise BadInput('no')


@pytest.mark.parametrize('read, told', [
    (wait, 'takes more than'), (compute, 'computes for more than'), (crash, 'must not: os.kill|SIGSEGV'),
    (allocate, r'takes \d+ MB'), (execute, 'must not: subprocess.Popen'), (scribble, 'must not: open .*elsewhere'),
    (fail, 'KeyError at test_fuzz.py'), (write, 'done'), (refuse, 'refused')])
def test_an_escape_is_seen(read, told, tmp_path, monkeypatch):
    monkeypatch.setattr(cell, 'SECONDS', 2 if read is wait else 60)
    monkeypatch.setattr(cell, 'COMPUTING', 1)
    (tmp_path/'case'/'out').mkdir(parents=True)
    (case, how), = Cell(read, tmp_path/'case').run([7], lambda case: None)
    assert case == 7
    assert re.search(told, how), how


def test_cases_are_repeated_by_their_number(made, tmp_path):
    reader = next(r for r in READERS if r.name == 'ark')
    a, b = (Campaign(reader, made/'ark', tmp_path/x, seed=3) for x in 'ab')
    assert [a.changes(k) for k in range(30)] == [b.changes(k) for k in range(30)]
    assert a.changes(1) != Campaign(reader, made/'ark', tmp_path/'c', seed=4).changes(1)


def test_the_cases_go_on_behind_an_escape(made, tmp_path):
    reader = Reader('ark', crash_at_the_third, ('data.kaldi',))
    found = Campaign(reader, made/'ark', tmp_path, 0).run(range(7))
    assert found.cases == 7 and found.escapes == 2


def crash_at_the_third(folder, seen=[]):  # noqa: B006  of the process
    seen.append(1)
    if len(seen) == 3:
        os.abort()


def without_seal(path):
    """A store as an earlier version left it: without a seal."""
    with open(path, 'r+b') as f:
        special.unseal(f)
    return path


def test_a_store_without_a_seal_is_opened_by_somebody_else_first(made, tmp_path, monkeypatch):
    path = without_seal(shutil.copy(made/'store'/'s.h5', tmp_path/'s.h5'))
    assert len(Store(path).names) == 4
    (tmp_path/'crash.py').write_text('import os; os.abort()')
    monkeypatch.setattr(store_seal, 'PROBE', tmp_path/'crash.py')
    store_seal.SOUND.clear()
    with pytest.raises(BadInput, match=r'HDF5 crashes on it .SIGABRT.; import it again'):
        Store(path)


def test_every_byte_that_hdf5_parses_is_sealed(made, tmp_path, monkeypatch):
    """Whichever is flipped, HDF5 does not see it, unless it lies in an array that has checksums of its own."""
    whole, path = (made/'store'/'s.h5').read_bytes(), tmp_path/'s.h5'
    monkeypatch.setattr(h5py, 'File', lambda *args, **options: pytest.fail('HDF5 was asked'))
    size, holes, _ = store_seal.find(io.BytesIO(whole))
    inside = np.ones(size, bool)
    for a, b in holes:
        inside[a:b] = False
    rng = np.random.default_rng(0)
    for at in rng.choice(np.flatnonzero(inside), 200):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << rng.integers(8)]) + whole[at + 1:])
        with pytest.raises(BadInput, match='truncated or damaged'):
            Store(path)


def bits(head, content):
    return zlib.compress(np.array(head, '<i8').tobytes() + content)


@pytest.mark.parametrize('body', [bits([0, 0], bytes(1 << 20)), bits([2**62, 2**62], b''), bits([1, 0], bytes(31)),
                                  bits([1, 0], bytes(32))[:-3], b'', zlib.compress(b'x'*9)])
def test_a_record_says_how_much_it_unpacks_to(body):
    with pytest.raises(ValueError):
        journal.unpack(body)


@pytest.mark.parametrize('text', ['['*100_000, '{"a":'*100_000, '"\\ud800"', '{', '1'*5000])
def test_json_that_is_a_trap(text):
    with pytest.raises(ValueError):
        given.parsed(text)


def test_a_pipe_with_a_writer_is_read(tmp_path):
    os.mkfifo(tmp_path/'pipe')
    writer = subprocess.Popen(['sh', '-c', 'sleep 0.1; echo "[1, 2]" > pipe'], cwd=tmp_path)
    given.PATIENCE, old = 10, given.PATIENCE
    try:
        assert given.json_of(tmp_path/'pipe') == [1, 2]
    finally:
        given.PATIENCE = old
        writer.wait()


@pytest.mark.parametrize('spoil, says', [
    (lambda fst: fst[:-1], 'damaged'), (lambda fst: fst + b'x', 'more bytes'), (lambda fst: fst[:60], 'damaged'),
    (lambda fst: fst[:-8] + b'\xff\xff\xff\x7f' + fst[-4:], 'damaged'), (lambda fst: b'', 'damaged')])
def test_a_graph_that_openfst_must_not_see(spoil, says, made, tmp_path, monkeypatch):
    folder = shutil.copytree(made/'graph'/'graph', tmp_path/'graph')
    facts = json.loads((folder/'graph.json').read_text())
    assert facts.pop('sha256')  # which would tell, too
    (folder/'graph.json').write_text(json.dumps(facts))
    Graph(folder)
    (folder/'HCLG.fst').write_bytes(spoil((folder/'HCLG.fst').read_bytes()))
    monkeypatch.setattr(kaldifst.StdVectorFst, 'read', lambda *args: pytest.fail('OpenFst was asked'))
    with pytest.raises(BadInput, match=says):
        Graph(folder)
