import json
import os
import pathlib
import re
import resource
import subprocess
import sys
import time

import h5py
import kaldiio
import numpy as np
import pytest
import soundfile

from hpcasr.cli import main
from hpcasr.data.store import Store

PLACES = os.environ.get('HPCASR_DATA'), pathlib.Path(__file__).parents[3]/'shared'/'data'
REAL = next((pathlib.Path(p) for p in PLACES if p and pathlib.Path(p).is_dir()), None)
real = pytest.mark.skipif(REAL is None, reason='no real speech: set HPCASR_DATA to the folder with an4-mfcc and so762')
LENGTHS = {'a-1': 40, 'a-2': 12, 'b-1': 17, 'b-2': 9, 'b-3': 30}


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A folder with the data directory `d`, its alignment, a lexicon, and nothing else."""
    monkeypatch.chdir(tmp_path)
    os.mkdir('d')
    rng = np.random.default_rng(1)
    x = {u: rng.normal(5, 3, (T, 4)).astype(np.float32) for u, T in LENGTHS.items()}
    kaldiio.save_ark('d/feats.ark', x, 'd/feats.scp')
    kaldiio.save_ark('pdf.ark', {u: rng.integers(0, 7, T).astype(np.int32) for u, T in LENGTHS.items()}, 'pdf.scp')
    write('d/utt2spk', *(f'{u} {u[0]}' for u in x))
    write('d/text', *(f'{u} TEA FOR TWO' for u in x))
    write('lexicon.txt', 'TEA T IY', 'FOR F', 'TWO T UW')


def write(path, *lines):
    pathlib.Path(path).write_text('\n'.join(lines) + '\n')


def lines(path):
    return pathlib.Path(path).read_text().splitlines()


def test_the_straight_line(capsys):
    assert main(['data', 'check', 'd']) == 0
    assert main(['data', 'import', 'd', '--out', 's.h5', '--splice', '1,2']) == 0
    assert main(['align', 'equal', 's.h5', '--lexicon', 'lexicon.txt']) == 0
    assert main(['data', 'check', 's.h5']) == 0
    capsys.readouterr()
    assert main(['data', 'info', 's.h5', '--json']) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told['utterances'], told['speakers'], told['frames'], told['dim']) == (5, 2, 108, 4*3*4)
    assert told['targets'] == 15 and told['splice'] == [1, 2]
    p = np.bincount(Store('s.h5').targets)/108
    assert told['priors']['entropy'] == pytest.approx(-sum(q*np.log(q) for q in p if q))
    assert told['priors']['guess_error'] == pytest.approx(1 - p.max())
    assert told['provenance']['options']['out'] == 's.h5'
    assert told['provenance']['targets']['options']['lexicon'] == 'lexicon.txt'
    assert main(['data', 'info', 's.h5']) == 0
    assert 'entropy' in capsys.readouterr().out


def test_pack(capsys):
    main(['data', 'import', 'd', '--out', 's.h5'])
    write('list', 'b')
    assert main(['data', 'pack', 's.h5', '--speakers', 'list', '--out', 'b.h5', '--dtype', 'float16']) == 0
    assert 'b.h5: 3 utterances, 1 speakers' in capsys.readouterr().out


def test_results_on_stdout_remarks_on_stderr(capsys):
    main(['data', 'import', 'd', '--out', 's.h5'])
    capsys.readouterr()
    assert main(['align', 'equal', 's.h5', '--lexicon', 'lexicon.txt', '--states', '5']) == 0
    out, err = capsys.readouterr()
    assert out == 's.h5: 25 targets, 5 states of 5 phones\n'
    assert '4 utterances have fewer frames than states' in err


def pipe(entry):
    write('d/feats.scp', *lines('d/feats.scp')[:4], f'b-3 touch ran; {entry} |')


def truncated():
    pathlib.Path('d/feats.ark').write_bytes(pathlib.Path('d/feats.ark').read_bytes()[:-9])


def empty():
    pathlib.Path('d/feats.ark').write_bytes(b'')


def matrix(x):
    kaldiio.save_mat('d/odd.mat', np.array(x, np.float32))
    write('d/feats.scp', *lines('d/feats.scp')[:2], 'b-1 d/odd.mat', *lines('d/feats.scp')[3:])


def without(path, n):
    rows = lines(path)
    write(path, *rows[:n], *rows[n+1:])


def more(path, *rows):
    write(path, *lines(path), *rows)


@pytest.mark.parametrize('harm, says', [
    (truncated, r'd/feats.scp: utterance b-3: d/feats.ark:1\d+ is truncated, empty or not Kaldi'),
    (empty, 'd/feats.scp: utterance a-1: d/feats.ark:4 is truncated, empty'),
    (lambda: os.unlink('d/feats.ark'), 'utterance a-1: d/feats.ark: No such file'),
    (lambda: os.unlink('d/feats.scp'), 'd: has no feats.scp; make it with `hpcasr data features'),
    (lambda: os.unlink('d/utt2spk'), 'd/utt2spk: No such file'),
    (lambda: os.rename('d', 'e'), 'd: no such directory'),
    (lambda: matrix([[0, 1, 2, 3], [0, 1, 2, np.nan]]), 'utterance b-1: nan in frame 1, column 3'),
    (lambda: matrix([[0, np.inf, 2, 3]]), 'utterance b-1: inf in frame 0, column 1'),
    (lambda: matrix(np.zeros((17, 5))), 'utterance b-1: has 5 columns where those before have 4'),
    (lambda: matrix(np.zeros((0, 4))), 'utterance b-1: has no frames'),
    (lambda: matrix(np.zeros(4)), 'utterance b-1: .*a vector, not a matrix'),
    (lambda: without('d/feats.scp', 1), 'utterance a-2 .*is in utt2spk but not in feats.scp; .*fix_data_dir.*--inter'),
    (lambda: without('d/text', 3), 'utterance b-2 is in feats.scp but not in text; run utils/fix_data_dir.sh'),
    (lambda: more('d/text', 'b-4 X', 'b-5 X'), r'utterance b-4 \(and 1 more\) is in text but not in feats.scp'),
    (lambda: without('d/utt2spk', 0), 'utterance a-1 is in feats.scp but not in utt2spk'),
    (lambda: more('d/feats.scp', lines('d/feats.scp')[0]), 'd/feats.scp: line 6: a-1 appears twice'),
    (lambda: more('d/utt2spk', 'a-1 b'), 'd/utt2spk: line 6: a-1 appears twice'),
    (lambda: pipe('cat d/feats.ark'), 'utterance b-3: is a shell command .*not run without --allow-pipes'),
    (lambda: write('d/frontend.json', '{'), 'd/frontend.json: not JSON'),
    (lambda: write('d/frontend.json', '[]'), 'd/frontend.json: expected a dict'),
    (lambda: write('d/frontend.json', '{"frame_shift": "x"}'), 'd/frontend.json: expected a dict with a frame_shift'),
    (lambda: write('d/frontend.json', '{"frame_shift": NaN}'), 'd/frontend.json: expected a dict with a frame_shift'),
    (lambda: os.mkdir('d/frontend.json'), 'd/frontend.json: .*Is a directory'),
    (lambda: matrix(np.zeros((3, 0))), 'utterance b-1: '),
    (lambda: write('d/text'), 'is in feats.scp but not in text'),
    (lambda: write('d/utt2spk', *(f'{u} a b' for u in LENGTHS)), 'utterance a-1: expected one word'),
    (lambda: write('d/text', 'a-1 \0'), 'd/text: line 1: a NUL'),
    (lambda: os.symlink('nowhere', 's.h5'), 's.h5: exists; use --force'),
    (lambda: os.mkdir('s.h5'), 's.h5: '),
    (lambda: write('s.h5', 'mine'), 's.h5: exists; use --force'),
])
def test_bad_directories(harm, says, capfd):
    harm()
    refuses(['data', 'import', 'd', '--out', 's.h5'], says, capfd)
    assert not os.path.exists('ran')


def refuses(command, says, capfd):
    """The command ends with status 2 and one line, and leaves all files as they are."""
    before, _ = contents(), capfd.readouterr()
    assert main(command) == 2
    out, err = capfd.readouterr()
    assert out == '' and err.startswith('hpcasr: error: ') and err.count('\n') == 1
    assert re.search(says, err), err
    assert contents() == before


def contents():
    return {str(p): p.read_bytes() if p.is_file() else None for p in pathlib.Path().rglob('*')}


def another_length():
    kaldiio.save_ark('pdf.ark', {u: np.zeros(T + (u == 'b-2'), np.int32) for u, T in LENGTHS.items()}, 'pdf.scp')


def cut_alignment():
    pathlib.Path('pdf.ark').write_bytes(pathlib.Path('pdf.ark').read_bytes()[:-9])


@pytest.mark.parametrize('name', ['pdf.scp', 'ark:pdf.ark', 'ark:cat pdf.ark |'])
@pytest.mark.parametrize('harm, pdfs, says', [
    (another_length, '7', 'utterance b-2: 10 targets for 9 frames'),
    (cut_alignment, '7', 'utterance b-3: .*truncated'),
    (lambda: more('d/feats.scp', 'b-9 d/feats.ark:4'), '7', 'b-9 is in feats.scp but not in utt2spk'),
    (lambda: None, '3', 'is not in 0..2; check --num-pdfs')])
def test_bad_alignments(name, harm, pdfs, says, capfd):
    harm()
    refuses(['data', 'import', 'd', '--out', 's.h5', '--ali', name, '--num-pdfs', pdfs], says, capfd)


def test_missing_alignments(capfd):
    command = ['data', 'import', 'd', '--out', 's.h5', '--num-pdfs', '7']
    refuses([*command, '--ali', 'none.scp'], 'none.scp: No such file', capfd)
    refuses([*command, '--ali', 'none.ark'], 'none.ark: No such file', capfd)
    refuses(command, '--ali and --num-pdfs go together', capfd)
    without('pdf.scp', 2)
    refuses([*command, '--ali', 'pdf.scp'], 'b-1 is in feats.scp but not in the alignment pdf.scp; .*--inter', capfd)
    assert main([*command, '--ali', 'pdf.scp', '--intersect']) == 0
    assert Store('s.h5').names == ['a-1', 'a-2', 'b-2', 'b-3']


def test_unusable_options(capfd):
    for splice in '3,x', '1_0', '9999999999', '101', '-1', '', '1,2,3', '٣':
        refuses(['data', 'import', 'd', '--out', 's.h5', '--splice', splice], f'{splice}: give L,R or N', capfd)
    refuses(['data', 'import', 'x'*300, '--out', 's.h5'], 'no such directory', capfd)
    refuses(['data', 'import', 'd', '--out', ''], 'empty', capfd)
    refuses(['data', 'features', 'd', '--out', ''], 'empty', capfd)
    refuses(['data', 'features', 'd', '--out', 'x'*300], 'File name too long|wav.scp', capfd)
    refuses(['data', 'features', 'd', '--out', 'f', '--sample-rate', '9'*30], 'not in the range', capfd)
    refuses(['data', 'import', 'd', '--out', 's.h5', '--ali', '', '--num-pdfs', '7'], 'names no file', capfd)
    refuses(['data', 'import', 'd', '--out', 's.h5', '--ali', 'pdf.scp', '--num-pdfs', '9'*30], 'in the range', capfd)
    refuses(['align', 'equal', 's.h5', '--lexicon', 'd', '--states', '9'*30], 'not in the range', capfd)
    refuses(['align', 'equal', 's.h5', '--lexicon', 'd'], 'd: Is a directory; expected a text file', capfd)
    refuses(['data', 'import', 'd', '--out', 'no/s.h5'], 'no/s.h5: its folder does not exist', capfd)
    refuses(['data', 'info', 'none.h5'], 'none.h5: no such store', capfd)
    refuses(['data', 'info', 'lexicon.txt'], 'lexicon.txt: not a store', capfd)
    refuses(['data', 'pack', 'none.h5', '--out', 's.h5'], 'none.h5: no such store', capfd)
    refuses(['data', 'check', 'none'], 'none: no such store', capfd)


def test_empty_alignments_under_any_tolerance(capfd):
    kaldiio.save_ark('pdf.ark', {u: np.zeros(T*(u != 'b-2'), np.int32) for u, T in LENGTHS.items()}, 'pdf.scp')
    refuses(['data', 'import', 'd', '--out', 's.h5', '--ali', 'pdf.scp', '--num-pdfs', '7', '--length-tolerance', '99'],
            'utterance b-2: has no targets', capfd)


def test_provenance_keeps_zeros():
    main(['data', 'import', 'd', '--out', 's.h5', '--deltas', '0'])
    assert Store('s.h5').provenance['options']['deltas'] == 0
    assert 'force' not in Store('s.h5').provenance['options']


def slow_features():
    soundfile.write('r.wav', np.zeros(16000), 16000)
    write('d/wav.scp', *(f'{u} {"exec sleep 60" if u == "b-3" else "cat r.wav"} |' for u in LENGTHS))
    return ['data', 'features', 'd', '--out', 'new/f', '--nj', '2', '--allow-pipes']


def slow_import():
    kaldiio.save_mat('m', np.ones((9, 4), np.float32))
    write('d/feats.scp', *(f'{u} sleep 0.4; cat m |' for u in LENGTHS))
    return ['data', 'import', 'd', '--out', 's.h5', '--allow-pipes']


def appears(pattern, seconds=60):
    end = time.monotonic() + seconds
    while not list(pathlib.Path().rglob(pattern)):
        assert time.monotonic() < end
        time.sleep(0.01)


@pytest.mark.parametrize('slow', [slow_features, slow_import])
def test_sigterm_leaves_neither_files_nor_processes(slow):
    command = slow()
    before = contents()
    job = subprocess.Popen([sys.executable, '-m', 'hpcasr', *command], stderr=subprocess.PIPE, start_new_session=True)
    appears('*.tmp-*')
    time.sleep(0.5)
    job.terminate()
    assert job.communicate(timeout=20)[1] == b'hpcasr: error: ended by SIGTERM before it was done\n'
    assert job.returncode == 143 and contents() == before
    assert gone(job.pid), 'processes of its session are left'


def test_workers_die_with_a_killed_command():
    job = subprocess.Popen([sys.executable, '-m', 'hpcasr', *slow_features()], start_new_session=True)
    appears('*.tmp-*')
    time.sleep(0.5)
    job.kill()
    job.wait()
    assert gone(job.pid)


def gone(group, seconds=10):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def test_pipe_in_wav_scp_is_not_run(capfd):
    write('d/wav.scp', 'r touch ran; cat r.wav |')
    refuses(['data', 'features', 'd', '--out', 'f'], 'd/wav.scp: recording r: is a shell command', capfd)
    assert not os.path.exists('ran')


def test_words_that_the_lexicon_lacks(capfd):
    main(['data', 'import', 'd', '--out', 's.h5'])
    write('lexicon.txt', 'TEA T IY', 'TWO T UW')
    refuses(['align', 'equal', 's.h5', '--lexicon', 'lexicon.txt'], 's.h5: utterance a-1: FOR is not in', capfd)
    assert main(['align', 'equal', 's.h5', '--lexicon', 'lexicon.txt', '--oov', 'TWO']) == 0
    refuses(['align', 'equal', 's.h5', '--lexicon', 'lexicon.txt'], 'has targets already; use --force', capfd)


def test_a_flipped_byte_fails_the_check(capfd):
    main(['data', 'import', 'd', '--out', 's.h5'])
    with h5py.File('s.h5') as f:
        at = f['frames'].id.get_offset() + 41*12*4
    raw = bytearray(pathlib.Path('s.h5').read_bytes())
    raw[at] ^= 1
    pathlib.Path('s.h5').write_bytes(raw)
    capfd.readouterr()
    assert main(['data', 'check', 's.h5', '--json']) == 1
    out, err = capfd.readouterr()
    assert json.loads(out)['problems'] == ['s.h5: utterance a-2: checksum of the frames differs']
    assert err == 'hpcasr: error: s.h5: 1 problem\n'
    refuses(['data', 'pack', 's.h5', '--out', 't.h5'], 's.h5: utterance a-2: checksum .*import it again', capfd)


def limited(size, *command):
    """The command in a process that may not write files beyond `size` bytes, as if the disk were full."""
    return subprocess.run([sys.executable, '-m', 'hpcasr', *command], capture_output=True, text=True,
                          preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))


@pytest.mark.parametrize('size', [0, 100, 3000, 5000, 8000])
@pytest.mark.parametrize('force', [[], ['--force']])
def test_full_disk(size, force):
    if force:
        write('s.h5', 'mine')
    before = contents()
    done = limited(size, 'data', 'import', 'd', '--out', 's.h5', *force)
    assert done.returncode == 2 and done.stdout == ''
    assert done.stderr.startswith('hpcasr: error: s.h5') and done.stderr.count('\n') == 1
    assert 'File too large' in done.stderr
    assert contents() == before


@pytest.mark.parametrize('room', [-8000, 0, 500, 100_000])
def test_full_disk_while_targets_are_written(room):
    main(['data', 'import', 'd', '--out', 's.h5'])
    before = contents()
    done = limited(os.path.getsize('s.h5') + room, 'align', 'equal', 's.h5', '--lexicon', 'lexicon.txt')
    assert done.returncode == 2 and done.stderr.startswith('hpcasr: error: s.h5: File too large')
    assert contents() == before


def test_full_disk_while_features_are_written():
    write('d/wav.scp', 'r r.wav')
    soundfile.write('r.wav', np.zeros(16000), 16000)
    before = contents()
    done = limited(5000, 'data', 'features', 'd', '--out', 'f')
    assert done.returncode == 2 and done.stderr == 'hpcasr: error: f: File too large; nothing was written\n'
    assert contents() == before


@pytest.mark.parametrize('name', ['features', 'import', 'pack', 'info', 'check'])
def test_help_shows_two_examples_and_imports_nothing_heavy(name):
    code = ('import sys; from hpcasr.cli import main; main(sys.argv[1:]); '
            'print({"numpy", "h5py", "mpi4py", "kaldiio"} & sys.modules.keys())')
    done = subprocess.run([sys.executable, '-c', code, 'data', name, '--help'], capture_output=True, text=True)
    assert done.stdout.count(f'  hpcasr data {name}') == 2
    assert done.stdout.endswith('set()\n')


@real
def test_an4_comes_in_with_three_commands(capsys):
    an4 = REAL/'an4-mfcc'
    assert main(['data', 'import', str(an4/'train'), '--out', 'train.h5']) == 0
    assert main(['data', 'import', str(an4/'dev'), '--out', 'dev.h5']) == 0
    assert main(['align', 'equal', 'train.h5', 'dev.h5', '--lexicon', str(an4/'local/dict/lexicon.txt')]) == 0
    train, dev = Store('train.h5'), Store('dev.h5')
    assert (train.num_utterances, dev.num_utterances, train.dim) == (848, 100, 39)
    assert train.target_names == dev.target_names and (train.counts() > 0).all()
    assert main(['data', 'check', 'train.h5']) == main(['data', 'check', str(an4/'train')]) == 0
    y = np.concatenate([train.utterance(u)[0] for u in np.flatnonzero(train.speakers == 0)])
    np.testing.assert_allclose([y.mean(0), y.std(0)], [np.zeros(39), np.ones(39)], atol=1e-4)


@real
def test_opus_speech_with_segments(capsys):
    dev = REAL/'so762/dev'
    os.mkdir('so')
    who = [row for row in lines(dev/'segments') if row.split()[1] == '0044']
    write('so/segments', *who)
    write('so/wav.scp', f'0044 {REAL}/so762/audio/0044.opus')
    write('so/utt2spk', *(f'{row.split()[0]} 0044' for row in who))
    assert main(['data', 'features', 'so', '--out', 'f']) == 0
    assert main(['data', 'check', 'f']) == 0
    assert main(['data', 'import', 'f', '--out', 's.h5']) == 0
    s = Store('s.h5')
    seconds = sum(float(row.split()[3]) - float(row.split()[2]) for row in who)
    assert s.num_utterances == len(who) and abs(s.num_frames*0.01 - seconds) < 0.03*len(who)
    assert s.frontend['kind'] == 'fbank' and s.dim == 120
