"""What a user gets wrong: one line that says what to do, exit status 2, nothing overwritten."""

import fcntl
import subprocess

import h5py
import pytest

from tests.conftest import command, environment
from tests.small import store

pytestmark = [pytest.mark.launch, pytest.mark.timeout(120)]


def refused(done, *words):
    """The one line of error in `done`, which holds `words`."""
    lines = [line for line in done.stderr.splitlines() if 'hpcasr' in line and 'error' in line]
    assert len(lines) == 1, done.stderr
    assert 'Traceback' not in done.stderr
    for word in words:
        assert word in lines[0], lines[0]
    return lines[0]


@pytest.mark.parametrize('ranks', [0, 2])
@pytest.mark.parametrize('arguments, words', [
    (['--algo=sync-allreduse'], ['sync-allreduse', 'did you mean sync-allreduce']),
    (['--model', 'smal'], ['did you mean small']),
    (['--set', 'optim.lrr=1'], ['unknown key optim.lrr', 'did you mean optim.lr?']),
    (['--set', 'optim.lr'], ['section.key=value']),
    (['--set', 'optim.optimizer=adan'], ['did you mean adam']),
    (['--epochs', 'three'], ['train.epochs', 'int']),
    (['--batch', '0'], ['data.batch = 0', 'smallest', '1']),
    (['--set', 'train.backend=gpu'], ['train.backend']),
    (['--precision', 'fp16'], ['train.precision', 'did you mean bf16?']),
    (['--precision', 'bf16', '--set', 'train.dtype=float64'], ['train.precision = bf16', 'train.dtype = float32']),
    (['--config', 'none.toml'], ['none.toml: No such file']),
    (['--dev', 'none.h5'], ['none.h5']),
    (['--resume', 'auto'], ['--out']),
    (['--out', 'exp/x', '--resume', 'exp/none'], ['exp/none', 'not a whole checkpoint']),
    (['--out', 'small.h5/x'], ['small.h5/x', 'Not a directory', '--out']),
    (['--out', '/proc/hpcasr'], ['/proc/hpcasr', '--out']),
    (['--chnuk', '3'], ['No such option', '--chunk']),
])
def test_one_line_and_status_2(train, tmp_path, arguments, words, ranks):
    refused(train(ranks, *arguments, status=2), *words)
    assert not list(tmp_path.glob('exp/*/metrics.jsonl'))


def test_more_ranks_than_chunks(hpcasr, tmp_path):
    store(tmp_path/'two.h5', utterances=2)
    done = hpcasr('train', 'two.h5', '--chunk', '1000', ranks=2, status=2)
    refused(done, 'two.h5: 1 chunks of 1000 frames for 2 ranks', 'fewer ranks')


def test_an_experiment_is_not_overwritten(train, tmp_path):
    train(0, '--out', 'exp/x', '--epochs', '1')
    before = contents(tmp_path/'exp')
    done = train(2, '--out', 'exp/x', '--epochs', '1', status=2)
    refused(done, 'exp/x holds an experiment', '--force', '--resume auto')
    assert contents(tmp_path/'exp') == before
    train(2, '--out', 'exp/x', '--epochs', '1', '--force')


def contents(folder):
    return {str(p): p.read_bytes() for p in sorted(folder.rglob('*')) if p.is_file()}


def test_a_store_of_another_dimension_than_the_checkpoint(train, hpcasr, tmp_path):
    train(0, '--out', 'exp/x', '--epochs', '1')
    before = contents(tmp_path/'exp/x')
    store(tmp_path/'wide.h5', dim=9)
    done = hpcasr('train', 'wide.h5', '--model', 'tiny', '--set', 'model.cells=8', '--out', 'exp/x', '--resume', 'auto',
                  ranks=2, status=2)
    refused(done, 'dim 5 in the checkpoint, 9 now')
    assert contents(tmp_path/'exp/x') == before


@pytest.mark.parametrize('change, words', [
    (['--set', 'data.seed=7'], ['data.seed = 0, not 7']), (['--chunk', '9'], ['data.chunk = 21, not 9']),
    (['--set', 'model.layers=2'], ['of another model']), (['--optimizer', 'adam'], ['optim.optimizer = sgd, not adam']),
    (['--schedule', 'newbob'], ['optim.schedule']), (['--dev', 'small.h5'], ['without --dev'])])
def test_a_checkpoint_is_not_continued_with_another_order_or_model(train, change, words):
    train(0, '--out', 'exp/x', '--epochs', '1')
    refused(train(2, '--out', 'exp/x', '--resume', 'auto', *change, status=2), *words)


def test_what_others_made_is_not_touched(train, tmp_path):
    (tmp_path/'u').mkdir()
    (tmp_path/'u'/'config.toml').write_text('mine = 1')
    for option in ['--force'], ['--resume', 'auto'], []:
        refused(train(0, '--out', 'u', *option, status=2), 'u holds config.toml, which no experiment of ours made')
    assert (tmp_path/'u'/'config.toml').read_text() == 'mine = 1'


def test_force_does_not_delete_the_checkpoint_it_starts_from(train, tmp_path):
    train(0, '--out', 'exp/x', '--epochs', '1')
    before = contents(tmp_path/'exp/x')
    newest = max((tmp_path/'exp/x/checkpoints').iterdir())
    refused(train(0, '--out', 'exp/x', '--resume', newest, '--force', status=2), '--resume auto')
    assert contents(tmp_path/'exp/x') == before


def test_two_jobs_do_not_share_a_directory(train, tmp_path):
    (tmp_path/'exp'/'x').mkdir(parents=True)
    with open(tmp_path/'exp'/'x'/'.lock', 'w') as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        refused(train(2, '--out', 'exp/x', status=2), 'exp/x: another job is training there')
    train(2, '--out', 'exp/x', '--epochs', '1')


def test_nothing_to_score(hpcasr, tmp_path):
    store(tmp_path/'one.h5', utterances=1)
    refused(hpcasr('train', 'one.h5', ranks=2, status=2), 'one.h5', 'give held-out data with --dev')


def test_damaged_targets_of_held_out_speakers(train, small):
    with h5py.File(small, 'r+') as f:
        f['targets'][:] = -1
    refused(train(2, '--out', 'exp/x', status=2), 'small.h5', 'checksum')


def test_serial_commands_speak_on_every_rank(hpcasr):
    done = hpcasr('data', 'info', 'none.h5', status=2, env={'SLURM_PROCID': '3'})
    refused(done, 'none.h5')


def test_other_data_than_those_of_the_checkpoint(train, hpcasr, tmp_path):
    train(0, '--out', 'exp/x', '--epochs', '1')
    store(tmp_path/'other.h5', seed=1)
    done = hpcasr('train', 'other.h5', '--model', 'tiny', '--set', 'model.cells=8', '--out', 'exp/x', '--resume',
                  'auto', status=2)
    refused(done, 'other data', 'digests differ')


def test_held_out_data_of_another_kind(train, tmp_path):
    store(tmp_path/'dev.h5', dim=4)
    refused(train(2, '--dev', 'dev.h5', status=2), 'dev.h5: dim is 4, but that of', 'is 5')
    store(tmp_path/'dev2.h5', targets=9)
    refused(train(2, '--dev', 'dev2.h5', status=2), 'dev2.h5: num_targets is 9')


def test_frames_damaged_after_packing_are_noticed_when_they_are_read(train, small, tmp_path):
    """Met by one rank in the middle of a run: it names itself and ends the job."""
    with h5py.File(small) as f:
        offset = f['frames'].id.get_offset()
    content = bytearray(small.read_bytes())
    content[offset + 10_000] ^= 255
    small.write_bytes(content)
    line = refused(train(2, '--out', 'exp/x', status=2), 'small.h5', 'checksum')
    assert 'rank' in line or 'utt' in line
    assert not (tmp_path/'exp/x/DONE').exists()


@pytest.mark.parametrize('ranks', [0, 2])
def test_divergence_stops_with_status_1_and_saves_nothing_bad(train, tmp_path, ranks):
    done = train(ranks, '--out', 'exp/x', '--lr', '1e42', '--checkpoint-every', '1', status=1)
    refused(done, 'not finite', 'lower --lr')
    assert not (tmp_path/'exp/x/DONE').exists()
    assert not list((tmp_path/'exp/x/checkpoints').glob('0*'))


def test_ranks_with_different_command_lines_are_told_where_they_differ(small, tmp_path):
    first = command(1, None, 'train', small, '--batch', '8')
    second = command(1, None, 'train', small, '--batch', '9')[1:]
    done = subprocess.run([*first, ':', *second], cwd=tmp_path, env=environment(), timeout=60, capture_output=True,
                          text=True)
    assert done.returncode == 2
    refused(done, 'the ranks do not agree', 'data.batch: 8 (rank 0), 9 (rank 1)')


def test_a_world_split_by_the_launcher_is_refused(hpcasr, small):
    done = hpcasr('train', small, status=2, env={'SLURM_STEP_NUM_TASKS': '4'})
    refused(done, 'SLURM_STEP_NUM_TASKS=4, but MPI sees a world of 1', '--mpi=pmi2')
