"""The record of a run: what goes in comes out, whatever is damaged is said in one line, and nothing is lost."""

import json
import resource
import signal
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr import journal
from hpcasr.comm.base import Comm
from hpcasr.comm.mpi import MPIComm
from hpcasr.comm.virtual import World
from hpcasr.config import Config
from hpcasr.data.work import Claim
from hpcasr.errors import BadInput
from hpcasr.journal import Recording, Replay, create, cut, facts, get_journal, pack, piece, read, stretches, unpack

numbers = st.integers(-2**62, 2**62)
tables = st.lists(st.tuples(*[numbers]*4), max_size=20)
VERSIONS = {'ranks': 2, 'numpy': '2.0'}


def head(ranks=2, store='s', total=9, versions=(), first=0, **options):
    """What the head of a record says of a run."""
    task = SimpleNamespace(chunks=range(total), corpus=SimpleNamespace(digest=store), dev_digest='d')
    config = Config().with_values({k.replace('__', '.'): v for k, v in options.items()}, 'test')
    return facts(config, task, VERSIONS | {'ranks': ranks} | dict(versions), first)


def stretch(lo, hi):
    """The [(claims, tickets)] of two learners that take turns with samples lo .. hi, each changing both parts."""
    rows = [[(k, k + 1, 1, k) for k in range(lo + rank, hi, 2)] for rank in range(2)]
    return [(mine, [(0, part, row[0] - lo, row[3]) for row in mine for part in range(2)]) for mine in rows]


def block(everybody):
    return b''.join(piece(pack(*mine)) for mine in everybody)


def write(path, everybodies, **of):
    """A record of these stretches."""
    line = (json.dumps(head(**of)) + '\n').encode()
    path.write_bytes(line + b''.join(piece(block(e)) for e in everybodies))
    return path


@pytest.fixture
def record(tmp_path):
    """Of an epoch of 9 samples, with a meeting point after 4."""
    return write(tmp_path/'r.bin', [stretch(0, 4), stretch(4, 9)])


def refused(path, says, first=0, **of):
    with pytest.raises(BadInput, match=says) as error:
        stretches(path, head(**of), first, 0)
    assert '\n' not in str(error.value) and str(path) in str(error.value)


@given(tables, tables)
def test_what_is_packed_is_unpacked(claims, tickets):
    for rows, found in zip((claims, tickets), unpack(pack(claims, tickets)), strict=True):
        assert found.shape == (len(rows), 4) and found.tolist() == [list(row) for row in rows]


@given(st.lists(st.binary(max_size=50)), st.binary(max_size=30))
def test_pieces_are_cut_where_they_were_joined(bodies, rest):
    whole = b''.join(map(piece, bodies))
    assert cut(whole) == (bodies, 0)
    found, left = cut(whole + piece(rest)[:-1])
    assert found == bodies and left == len(piece(rest)) - 1


def test_each_learner_finds_what_it_did(record):
    for rank in range(2):
        found, own = stretches(record, head(), 0, rank)
        assert found['ranks'] == 2 and len(own) == 2
        for (claims, tickets), due in zip(own, (stretch(0, 4)[rank], stretch(4, 9)[rank]), strict=True):
            assert claims.tolist() == [list(row) for row in due[0]]
            assert tickets.tolist() == [list(row) for row in due[1]]
    assert len(stretches(record, head(), 1, 0)[1]) == 1


def test_a_file_that_ends_anywhere_else_is_refused(record, tmp_path):
    """Between two blocks it is the record of a run that was ended there."""
    content, short = record.read_bytes(), tmp_path/'short.bin'
    bodies, _ = cut(content[content.index(b'\n') + 1:])
    line = content.index(b'\n')
    whole = {line, line + 1, line + 1 + len(piece(bodies[0])), len(content)}
    for n in range(len(content) + 1):
        short.write_bytes(content[:n])
        if n in whole:
            assert len(stretches(short, head(), 0, 0)[1]) <= 2
        else:
            refused(short, 'not the record of a run' if n < line else 'ends inside of block')


@settings(max_examples=200)
@given(st.data())
def test_any_byte_that_changes_is_noticed_or_harmless(tmp_path_factory, data):
    path = write(tmp_path_factory.mktemp('x')/'r.bin', [stretch(0, 4), stretch(4, 9)])
    content = bytearray(path.read_bytes())
    at = data.draw(st.integers(content.index(b'\n') + 1, len(content) - 1))
    content[at] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        _, own = stretches(path, head(), 0, 0)
    except BadInput as e:
        assert '\n' not in str(e)
    else:
        assert own[0][0].tolist() == [list(row) for row in stretch(0, 4)[0][0]]


@pytest.mark.parametrize('content', [b'', b'\n', b'{}\n', b'[]', b'null', b'7\n', b'"text"', b'\xff\xfe',
                                     b'['*100_000, b'{"format": "hpcasr-record", "version": 1}\n', b'\0'*1000,
                                     b'{"format": ["hpcasr-record"], "version": 1}\n'])
def test_what_is_no_record(tmp_path, content):
    (tmp_path/'x').write_bytes(content)
    refused(tmp_path/'x', 'not the record of a run')


def test_a_record_of_a_later_version(tmp_path):
    (tmp_path/'x').write_text(json.dumps(head() | {'version': 2}))
    refused(tmp_path/'x', 'format hpcasr-record 2 is not read by this version')


@pytest.mark.parametrize('name, value', [('ranks', '2'), ('first', -1), ('first', None), ('config', []), ('store', 1)])
def test_a_head_that_is_damaged(tmp_path, name, value):
    (tmp_path/'x').write_text(json.dumps(head() | {name: value}))
    refused(tmp_path/'x', f'its head is damaged: {name}')


def test_what_is_not_there_or_a_directory(tmp_path):
    refused(tmp_path/'x', 'No such file or directory; give the FILE')
    refused(tmp_path, 'Is a directory; give the FILE')


@pytest.mark.parametrize('says, of', [
    ('record of 2 ranks, and there are 3; start 2, or as many virtual learners', {'ranks': 3}),
    ('record of a run on other data', {'store': 't'}), ('record of a run on other data', {'total': 10}),
    (r'another run: optim.lr = 1.0 in the record, 2.0 now', {'optim__lr': 2.0}),
    ('exchange.topology = ring in the record, pairs now', {'exchange__topology': 'pairs'})])
def test_a_record_of_another_run(record, says, of):
    refused(record, says, **of)


def test_what_does_not_matter_may_differ(record):
    assert stretches(record, head(simulate__seed=3, train__epochs=9, exchange__meet=3, report__every=1), 0, 0)


def test_a_record_that_begins_or_ends_elsewhere_than_the_run(tmp_path, record):
    refused(write(tmp_path/'x', [stretch(4, 9)], first=1), 'begins at meeting point 1; replay it with --resume')
    refused(record, 'ends at meeting point 2, and the checkpoint was made at 3', first=3)


def without(everybody, rank, table, row):
    """The stretch, from which a row is missing."""
    found = [tuple(map(list, mine)) for mine in everybody]
    del found[rank][table][row]
    return found


@pytest.mark.parametrize('change, says', [
    (lambda s: without(s, 1, 1, 0), 'was done to rank 0 misses the entry before its number 2'),
    (lambda s: without(s, 0, 1, 3), 'was done to rank 1 misses the entry before its number 3'),
    (lambda s: [(s[0][0], [*s[0][1], s[0][1][-1]]), s[1]], 'number 4, or has that twice'),
    (lambda s: [(s[0][0], [*s[0][1], (0, 1, 7, 4)]), s[1]], 'rank 1 misses the entry before its number 7'),
    (lambda s: [(s[0][0], [*s[0][1], (0, 1, 5, 5)]), s[1]], 'rank 0 changes something in a step from sample 5 on'),
    (lambda s: without(s, 0, 0, 1), 'a sample is missing, or there twice, from 6 of the epoch on'),
    (lambda s: [([*s[0][0], s[0][0][-1]], s[0][1]), s[1]], 'a sample is missing, or there twice'),
    (lambda s: [([*s[0][0], (9, 10, 1, 9)], s[0][1]), s[1]], 'a sample is missing, or there twice'),
    (lambda s: s[:1], 'tells of 1 ranks, not of 2'), (lambda s: [*s, ([], [])], 'tells of 3 ranks, not of 2')])
def test_what_would_let_a_learner_wait_for_ever_is_found_before(tmp_path, change, says):
    path = write(tmp_path/'r.bin', [stretch(0, 4), change(stretch(4, 9))])
    refused(path, f'between meeting points 1 and 2 .*{says}')


def test_numbers_that_are_not_there(tmp_path):
    bad = piece(pack(*stretch(0, 4)[0])) + piece(journal.zlib.compress(np.array([5, 5, 1], '<i8').tobytes()))
    path = tmp_path/'r.bin'
    path.write_bytes((json.dumps(head()) + '\n').encode() + piece(bad))
    refused(path, 'between meeting points 0 and 1 what it says of rank 1 is damaged')


# the file of a run that is recorded

def test_a_file_is_made_and_grows(tmp_path):
    path = tmp_path/'r.bin'
    create(path, head(), 0)
    assert read(path) == (head(), [], 0)
    with pytest.raises(BadInput, match='exists; choose another name, or add --force'):
        create(path, head(), 0)
    before = path.read_bytes()
    create(path, head(optim__lr=3.0), 0, force=True)
    assert path.read_bytes() != before and read(path)[0]['config']['optim.lr'] == 3.0


@pytest.mark.parametrize('kind', ['directory', 'device'])
@pytest.mark.parametrize('how', [{}, {'force': True}, {'resumed': True}])
def test_what_is_no_file_is_left_alone(tmp_path, kind, how):
    (tmp_path/'x').mkdir() if kind == 'directory' else (tmp_path/'x').symlink_to('/dev/null')
    with pytest.raises(BadInput, match='is not a file; choose another name'):
        create(tmp_path/'x', head(), 0, **how)


def test_a_link_stays_one(tmp_path, record):
    (tmp_path/'link').symlink_to(record)
    create(tmp_path/'link', head(), 1, resumed=True)
    assert (tmp_path/'link').is_symlink() and len(read(record)[1]) == 1


@pytest.mark.parametrize('first', [1, 2])
def test_a_run_that_goes_on_keeps_what_was_before_its_checkpoint(record, first):
    before = read(record)[1]
    create(record, head(), first, resumed=True)
    assert read(record) == (head(), before[:first], 0)


def test_what_a_kill_left_of_a_block_is_dropped(record):
    content = record.read_bytes()
    create(record, head(), 1, resumed=True)
    kept = record.read_bytes()
    for n in range(len(kept), len(content)):
        record.write_bytes(content[:n])
        create(record, head(), 1, resumed=True)
        assert record.read_bytes() == kept


def test_a_run_whose_record_begins_later_keeps_its_beginning(tmp_path):
    path = tmp_path/'r.bin'
    create(path, head(), 3, resumed=True)
    assert read(path)[0]['first'] == 3
    write(path, [stretch(0, 4), stretch(4, 9)], first=3)
    create(path, head(), 4, resumed=True)
    assert read(path)[0]['first'] == 3 and len(read(path)[1]) == 1


@pytest.mark.parametrize('first, says, of', [
    (3, 'meeting points 0 to 2, and the run goes on from 3', {}),
    (1, 'is the record of another run', {'optim__lr': 2.0}),
    (1, 'record of 2 ranks, and there are 3', {'ranks': 3}), (1, 'on other data', {'store': 't'}),
    (0, 'a run up to meeting point 2, and there is no checkpoint to go on from', {})])
def test_a_record_of_another_run_is_not_gone_on_with(record, first, says, of):
    before = record.read_bytes()
    with pytest.raises(BadInput, match=says):
        create(record, head(**of), first, resumed=True)
    assert record.read_bytes() == before


def test_one_that_was_killed_before_its_first_checkpoint_begins_anew(tmp_path):
    path = write(tmp_path/'r.bin', [stretch(0, 4)])
    create(path, head(), 0, resumed=True)
    assert read(path) == (head(), [], 0)


def test_a_full_disk_takes_nothing_away(record):
    before = record.read_bytes()
    handler, limit = signal.signal(signal.SIGXFSZ, signal.SIG_IGN), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limit[1]))
    try:
        with pytest.raises(BadInput, match='File too large; make room'):
            create(record, head(), 1, resumed=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert record.read_bytes() == before and [p.name for p in record.parent.iterdir()] == ['r.bin']


def test_where_nothing_can_be_written(tmp_path):
    with pytest.raises(BadInput, match='No such file or directory; make room, or choose another --record'):
        create(tmp_path/'none'/'r.bin', head(), 0)


def test_one_of_both(tmp_path):
    with pytest.raises(BadInput, match='--record and --replay: give one of them'):
        get_journal(SimpleNamespace(record='a', replay='b'))


# what learners do

def request(resume='', force=False):
    return SimpleNamespace(resume=resume, force=force)


def live(comm, journal, steps, pauses):
    """[tickets of each step, and of what is done at the end]; learners take claims in turn."""
    journal.begin(comm, head(comm.size, total=comm.size*steps), 0, request())
    window = journal.watch(comm.window(3, 'f4'))
    drawn = (Claim(0, k, k + 1, 1, k) for k in range(comm.rank*steps, (comm.rank + 1)*steps))
    tickets = []
    for claim in journal.claims(drawn, lambda lo, hi, samples, at: Claim(0, lo, hi, samples, at)):
        comm.sleep(pauses[comm.rank])
        with journal.lock(window, {comm.rank, (comm.rank + claim.lo) % comm.size}) as got:
            tickets.append(got)
        journal.finish()
    with journal.lock(window, [0]) as got:
        tickets.append(got)
    journal.arrive()
    comm.barrier()
    journal.meet(comm)
    return tickets


@pytest.mark.parametrize('size', [1, 2, 3, 5])
@pytest.mark.parametrize('schedule', ['clock', 'random'])
def test_a_replay_takes_the_tickets_that_were_recorded(tmp_path, size, schedule):
    path = tmp_path/'r.bin'
    recorded = World(size, schedule=schedule, strict=True).run(lambda comm: live(comm, Recording(path), 6, [1, 2]*size))
    for seed in range(3):
        world = World(size, schedule='random', seed=seed, strict=True)
        assert world.run(lambda comm: live(comm, Replay(path), 6, [3, 1]*size)) == recorded


@pytest.mark.mpi
def test_ranks_record_and_replay(tmp_path_factory):
    comm = MPIComm()
    path = comm.first(lambda: str(tmp_path_factory.mktemp('x')/'r.bin'))
    recorded = comm.allgather(live(comm, Recording(path), 8, [1e-4]*comm.size))
    assert comm.allgather(live(comm, Replay(path), 8, [0]*comm.size)) == recorded
    assert World(comm.size).run(lambda virtual: live(virtual, Replay(path), 8, [0]*comm.size)) == recorded
    comm.close()


def test_tickets_are_noted_with_the_step_in_which_they_were_drawn(tmp_path):
    path = tmp_path/'r.bin'
    live(Comm(), Recording(path), 4, [0])
    [(claims, tickets)] = stretches(path, head(1, total=4), 0, 0)[1]
    assert claims.tolist() == [[k, k + 1, 1, k] for k in range(4)]
    assert tickets.tolist() == [[0, 0, k, k] for k in range(4)] + [[0, 0, 4, -1]]


def replaying(claims, tickets):
    replay = Replay('r.bin')
    replay.watch(Comm().window(1, 'f4'))
    replay.take(0, [(np.array(claims).reshape(-1, 4), np.array(tickets).reshape(-1, 4))])
    return replay


def test_a_change_that_no_record_knows():
    replay = replaying([(0, 1, 1, 0)], [])
    with pytest.raises(BadInput, match=r'r\.bin: says nothing of what rank 0 changes of rank 0 in its step 1'):
        replay.lock(replay.windows[0], [0])


def test_a_change_that_is_never_made():
    replay = replaying([(0, 1, 1, 0)], [(0, 0, 0, 0), (0, 0, 1, -1)])
    with pytest.raises(BadInput, match=r'r\.bin: tells of more changes by rank 0'):
        replay.arrive()
    with replay.lock(replay.windows[0], [0]):
        pass
    replay.arrive()


def test_a_record_that_ends_before_the_run():
    replay = replaying([], [])
    assert list(replay.claims(None, None)) == []
    replay.meet(Comm())
    with pytest.raises(BadInput, match=r'r\.bin: ends before this run does'):
        replay.claims(None, None)


def test_a_million_steps_need_little_memory():
    """32 bytes for a claim and for each of its tickets; far fewer in the file."""
    recording = Recording('r.bin')
    window = recording.watch(SimpleNamespace(lock=Comm().window(1, 'f4').lock))
    for _ in recording.claims((Claim(0, k, k + 1, 1, k) for k in range(10_000)), None):
        with recording.lock(window, [0]):
            pass
        recording.finish()
    assert len(recording.taken)*recording.taken.itemsize == 320_000 == len(recording.tickets)*8
    assert len(pack(recording.taken, recording.tickets)) < 10_000
