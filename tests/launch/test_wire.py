"""The microbenchmarks as they are started: output, exit status, one line for what is wrong."""

import json
import pathlib

import pytest

pytestmark = [pytest.mark.launch, pytest.mark.timeout(120)]
SPOILING = pathlib.Path(__file__).parent.parent/'bench'/'spoiling.py'
QUICK = '-i', '2', '--cap', '0.1'


def lines(done):
    return [line for line in done.stdout.splitlines() if not line.startswith('#')]


def test_bandwidth_as_osu_prints_it(hpcasr):
    done = hpcasr('bench', 'bw', '-m', '1:8', '-W', '2', *QUICK, ranks=2)
    assert [line.split()[0] for line in lines(done)] == ['1', '2', '4', '8']
    title = next(line for line in done.stdout.splitlines() if line.startswith('# Size'))
    assert ' '.join(title.split()).startswith('# Size Bandwidth (MB/s)') and 'CPUs' in done.stdout
    assert all(float(line.split()[1]) >= 0 for line in lines(done))


def test_files_and_a_baseline(hpcasr, tmp_path):
    first = hpcasr('bench', 'allreduce', '-m', '8:16', *QUICK, '--json', 'a.json', ranks=2)
    assert len(lines(first)) == 2 and len(json.loads((tmp_path/'a.json').read_text())['rows']) == 2
    again = hpcasr('bench', 'allreduce', '--json', 'a.json', ranks=2, status=2)
    assert again.stderr.count('hpcasr: error') == 1 and 'never overwritten' in again.stderr
    hpcasr('bench', 'allreduce', '-m', '8:16', *QUICK, '--baseline', 'a.json', '--tolerance', '10000000%', ranks=2)
    other = hpcasr('bench', 'allreduce', '-m', '8:16', *QUICK, '--baseline', 'a.json', ranks=3, status=2)
    assert 'of another machine: ranks 2 there, 3 here' in other.stderr


def test_one_sided_in_turn(hpcasr):
    done = hpcasr('bench', 'get_bw', '-m', '8:8', '-W', '2', *QUICK, '--sync', 'lock,lock_all+flush', ranks=2)
    assert len(lines(done)) == 2 and 'sync lock_all, target idle' in done.stdout


def test_a_picture_of_the_suite(hpcasr, tmp_path):
    pytest.importorskip('matplotlib')
    hpcasr('bench', '--plot', 'a.png', 'latency', '-m', '1:8', *QUICK, ranks=2)
    assert (tmp_path/'a.png').read_bytes().startswith(b'\x89PNG')


def test_what_came_wrong_is_named_by_size_and_rank(hpcasr, tmp_path):
    done = hpcasr('bench', 'latency', '-m', '32:128', *QUICK, '--json', 'a.json', ranks=3, script=[SPOILING], status=1)
    assert 'latency: 2 entries came wrong at size 64 on rank 2' in done.stderr
    assert done.stderr.count('hpcasr: error') == 1 and 'Traceback' not in done.stderr
    assert [line.split()[-1] for line in lines(done)] == ['0', '2', '0']
    assert [row['wrong'] for row in json.loads((tmp_path/'a.json').read_text())['rows']] == [0, 2, 0]


@pytest.mark.parametrize('ranks, args, message', [
    (0, ['bw'], 'needs 2 ranks or more'), (3, ['mbw_mr'], 'even number of them, got 3'),
    (3, ['neighbor', '--pattern', 'pair'], 'even number of them, got 3'), (2, ['bww'], 'did you mean bw?'),
    (2, ['bw', '-d', 'staged'], 'CuPy'), (2, ['bw', '--plot', 'a.txt'], 'pictures end in'),
    (2, ['bw', '--baseline', 'no.json'], 'No such file'), (2, ['put_bw', '-T', 'x'], 'x'),
    (2, ['bw', '--min-bw', '1e9', '-m', '1:1', *QUICK], 'less than --min-bw')])
def test_bad_input_is_one_line(hpcasr, ranks, args, message):
    done = hpcasr('bench', *args, ranks=ranks, status=1 if '--min-bw' in args else 2)
    assert message in done.stderr and done.stderr.count('hpcasr: error') == 1 and 'Traceback' not in done.stderr
