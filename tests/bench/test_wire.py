"""The microbenchmarks without MPI: sizes, files, verdicts, fits, pictures, and what the command line refuses."""

import csv

import numpy as np
import pytest

from hpcasr import machine
from hpcasr.bench.wire import buffers, pattern, plot, results, verdict
from hpcasr.bench.wire.fit import fit
from hpcasr.bench.wire.sizes import doubled, parse
from hpcasr.cli import main, wire
from hpcasr.errors import BadInput
from tests.conftest import launch


def row(**values):
    return {'test': 'bw', 'buffers': 'numpy', 'type': 'uint8', 'size': 1024, 'p50_us': 10.0, 'p99_us': 20.0,
            'p50_mb_s': 6553.6, 'wrong': 0, 'wrong_ranks': []} | values


FACTS = {'machine': {'processors': ['Z80'], 'cores': [2], 'ranks': 2, 'machines': 1}, 'hosts': ['a', 'a'], 'ranks': 2,
         'created': 'today', 'mpi': {'library': 'MPI of the test'}}


def write(path, rows, **values):
    results.write_json(path, FACTS | values | {'rows': rows})
    return str(path)


@pytest.mark.parametrize('text, found', [
    ('1:8', (1, 8)), ('4K:1M', (4096, 2**20)), (':64', (1, 64)), ('64', (1, 64)), ('64:', (64, None)),
    ('2kb:1G', (2048, 2**30))])
def test_a_range_of_sizes(text, found):
    assert parse(text) == found


@pytest.mark.parametrize('text', ['8:4', '0:4', 'x', '1:2G', '-1:4', '1:2:4', '1.5K:2K'])
def test_no_range_of_sizes(text):
    with pytest.raises(ValueError):
        parse(text)


def test_sizes_are_doubled_and_hold_whole_entries():
    assert doubled(1, 16, 1) == [1, 2, 4, 8, 16] and doubled(1, 16, 8) == [8, 16]
    assert doubled(3, 24, 4) == [12, 24] and doubled(3, 100, 1) == [3, 6, 12, 24, 48, 96]


@pytest.mark.parametrize('dtype', ['uint8', 'int32', 'float32', 'float64'])
def test_a_pattern_tells_one_changed_entry(dtype):
    x = np.zeros(pattern.BLOCK + 1000, dtype)
    pattern.fill(x, 3, 5)
    assert pattern.wrong(x, [3], 5) == 0
    x[[7, -1]] += 1
    assert pattern.wrong(x, [3], 5) == 2


def test_a_pattern_tells_rank_turn_and_place():
    x = np.zeros(1000, np.float32)
    pattern.fill(x, 1, 0)
    assert pattern.wrong(x, [0], 0) > 900 and pattern.wrong(x, [1], 1) > 900 and pattern.wrong(x, [1], 0, 1) > 900
    assert pattern.wrong(x[300:], [1], 0, 300) == 0
    y = x.copy()
    pattern.fill(y, 2, 0)
    assert pattern.wrong(x + y, [1, 2], 0) == 0 and pattern.wrong(3*x, [1], 0, times=3) == 0


def test_sums_of_bytes_wrap_as_mpi_wraps_them():
    total = np.zeros(101, np.uint8)
    for rank in range(7):
        x = np.empty(101, np.uint8)
        pattern.fill(x, rank, 2)
        total += x
    assert pattern.wrong(total, range(7), 2) == 0


# buffers

def test_without_cupy_it_says_so():
    for kind in 'cupy', 'staged':
        with pytest.raises(BadInput, match=r'CuPy is not installed|finds no GPU'):
            buffers.get_buffers(kind)


def test_staged_vectors_come_from_the_device_and_go_there():
    class Test:
        x, y, ran = np.ones(4), np.ones(4), 0

        def sent(self):
            return [self.x]*3

        def received(self):
            return [self.y]

        def run(self):
            self.ran += 1
            self.y[:] = self.x
    class Device:
        copies = 0

        def asarray(self, x):
            Device.copies += 1
            return x.copy()
    staged = buffers.get_buffers('staged', Device())
    test = Test()
    run = staged.around(test)
    test.x[:] = 5
    before = Device.copies
    run()
    assert test.ran == 1 and (test.x == 1).all() and (test.y == 1).all() and Device.copies == before + 1


# files

def test_json_comes_back_and_is_never_overwritten(tmp_path):
    path = write(tmp_path/'a.json', [row()])
    assert results.read(path)['rows'] == [row()] and results.read(path)['schema'] == results.SCHEMA
    with pytest.raises(BadInput, match='never overwritten'):
        results.require_new([path])
    with pytest.raises(BadInput, match='exists'):
        results.write_csv(path, [])
    with pytest.raises(BadInput, match='no directory'):
        results.require_new([str(tmp_path/'no'/'a.json')])
    with pytest.raises(BadInput, match='two files of one name'):
        results.require_new([str(tmp_path/'b')]*2)


@pytest.mark.parametrize('content, message', [
    ('{', 'not JSON'), ('[1]', 'its schema is none'), ('{"schema": "hpcasr-wire/0"}', 'its schema is hpcasr-wire/0'),
    ('{"schema": "hpcasr-wire/1"}', 'incomplete')])
def test_other_files_are_refused(tmp_path, content, message):
    (tmp_path/'a.json').write_text(content)
    with pytest.raises(BadInput, match=message):
        results.read(str(tmp_path/'a.json'))


def test_csv_has_one_row_per_tuple_of_variables(tmp_path):
    rows = [row(size=size, window=window) for size in (1, 2) for window in ('create', 'allocate')]
    results.write_csv(tmp_path/'a.csv', rows)
    with open(tmp_path/'a.csv') as f:
        found = list(csv.DictReader(f))
    keys = [tuple(line[name] for name in results.VARIABLES) for line in found]
    assert len(set(keys)) == len(rows) and found[0]['p50_us'] == '10.0' and 'wrong_ranks' not in found[0]


def test_names_of_files_that_cannot_be_made(tmp_path):
    (tmp_path/'link').symlink_to(tmp_path/'nowhere')
    with pytest.raises(BadInput, match='never overwritten'):
        results.require_new([str(tmp_path/'link')])
    with pytest.raises(BadInput, match='two files of one name'):
        results.require_new([f'{tmp_path}/a', f'{tmp_path}/./a'])


def test_a_full_disk_leaves_no_part_of_a_file(tmp_path):
    with pytest.raises(BadInput, match='No space left'), results.created(str(tmp_path/'a'), 'xb') as file:
        file.write(b'1')
        raise OSError(28, 'No space left on device')
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize('rows', [{}, [1], [{'test': 'bw'}]])
def test_damaged_figures(tmp_path, rows):
    with pytest.raises(BadInput, match='incomplete'):
        results.read(write(tmp_path/'a.json', rows))


@pytest.mark.parametrize('options', [['bw', '--cap', 'nan'], ['bw', '--cap', 'inf'], ['bw', '--min-bw', 'nan']])
def test_numbers_that_are_none(options, capsys):
    assert main(['bench', *options]) == 2 and 'Invalid value' in capsys.readouterr().err
    assert main(['doctor', '--limit', options[-1]]) == 2


# verdicts

@pytest.mark.parametrize('now, message', [
    ({'p50_us': 11.01}, r'bw at size 1024: median 11.01 us, 10% over the baseline\'s 10.00'),
    ({'wrong': 3, 'wrong_ranks': [1]}, 'bw: 3 entries came wrong at size 1024 on rank 1$'),
    ({'wrong': 3, 'wrong_ranks': [0, 2]}, 'on ranks 0, 2$'),
    ({'p50_mb_s': 99.0}, 'bw: at most 99.0 MB/s, less than --min-bw 100')])
def test_what_fails_is_named(now, message):
    verdict.judge([row()], [row()], 0.1, 100)
    verdict.judge([row(p50_us=10.99)], [row()], 0.1, 100)
    verdict.judge([row(), row(p50_mb_s=1.0, size=1)], [row()], 0.1, 100)  # the best size counts
    with pytest.raises(verdict.Failed, match=message):
        verdict.judge([row(**now)], [row()], 0.1, 100)


def test_least_bandwidth_is_not_asked_of_latencies():
    latency = row(test='latency')
    del latency['p50_mb_s']
    verdict.judge([latency, row()], least=99)


def test_only_the_first_failures_are_told():
    with pytest.raises(verdict.Failed, match='; and 7 more'):
        verdict.judge([row(size=k, wrong=1, wrong_ranks=[0]) for k in range(10)])


def test_results_against_a_baseline(tmp_path, capsys):
    old, same = write(tmp_path/'old.json', [row()]), write(tmp_path/'same.json', [row(p50_us=10.5)])
    slow = write(tmp_path/'slow.json', [row(p50_us=12.0)])
    assert main(['bench', 'results', same, '--baseline', old]) == 0
    assert main(['bench', 'results', slow, '--baseline', old, '--tolerance', '20%']) == 0
    assert main(['bench', 'results', slow, '--baseline', old]) == 1
    assert '20% over the baseline' in capsys.readouterr().err
    assert main(['bench', 'results', slow, '--min-bw', '7000']) == 1


def test_a_baseline_of_another_machine_or_of_other_tests(tmp_path, capsys):
    now = write(tmp_path/'now.json', [row()])
    there = FACTS['machine'] | {'processors': ['6502'], 'ranks': 4}
    other, sizes = write(tmp_path/'other.json', [row()], machine=there), write(tmp_path/'x.json', [row(size=2)])
    assert main(['bench', 'results', now, '--baseline', other]) == 2
    assert 'of another machine: processors 6502 there, Z80 here, ranks 4 there, 2 here' in capsys.readouterr().err
    assert main(['bench', 'results', now, '--baseline', sizes]) == 2
    assert main(['bench', 'results', now, other]) == 2
    assert main(['bench', 'results', now, now]) == 2
    assert main(['bench', 'results', now, '--machine', 'm.json']) == 2


# fits

def affine(n, latency, inverse):
    return [1e-6*latency + 1e-9*inverse*size for size in n]


def test_one_piece_is_found_again():
    found, = fit(n := [2**k for k in range(20)], affine(n, 2.0, 0.1))
    assert (found['from'], found['to']) == (1, 2**19)
    assert found['latency_us'] == pytest.approx(2.0) and found['ns_per_byte'] == pytest.approx(0.1)
    assert found['latency_us_95'] == pytest.approx([2.0, 2.0]) and found['ns_per_byte_95'] == pytest.approx([0.1, 0.1])


def test_two_pieces_are_found_with_their_change():
    n = [2**k for k in range(22)]
    times = affine(n[:14], 1.0, 0.5) + affine(n[14:], 5.0, 0.1)
    times = np.array(times)*np.exp(0.03*np.random.default_rng(1).standard_normal(len(n)))
    small, large = fit(n, times)
    assert small['to'] == 2**13 and large['from'] == 2**14
    for piece, latency, inverse in (small, 1.0, 0.5), (large, 5.0, 0.1):
        assert piece['latency_us'] == pytest.approx(latency, rel=0.2)
        assert piece['ns_per_byte'] == pytest.approx(inverse, rel=0.2)
        assert piece['latency_us_95'][0] <= piece['latency_us'] <= piece['latency_us_95'][1]
        assert piece['ns_per_byte_95'][0] <= piece['ns_per_byte'] <= piece['ns_per_byte_95'][1]


def test_the_interval_covers_the_truth_about_as_often_as_it_says():
    n, rng, inside = [2**k for k in range(0, 20, 2)], np.random.default_rng(0), 0
    for _ in range(40):
        found = fit(n, np.array(affine(n, 2.0, 0.1))*np.exp(0.05*rng.standard_normal(len(n))))
        low, high = found[0]['latency_us_95']
        inside += low <= 2.0 <= high
    assert inside >= 28


def test_neither_is_negative_and_few_sizes_are_refused():
    found, = fit([1, 2, 4], [3e-6, 2e-6, 1e-6])
    assert found['ns_per_byte'] == 0 and found['latency_us'] > 0
    with pytest.raises(BadInput, match='3 sizes'):
        fit([1, 2], [1e-6, 2e-6])


def test_machine_json_from_results_to_virtual_learners(tmp_path):
    n = [2**k for k in range(20)]
    rows = [row(test='latency', size=size, p50_us=1e6*t) for size, t in zip(n, affine(n, 2.0, 0.1), strict=True)]
    path = str(tmp_path/'machine.json')
    assert main(['bench', 'results', write(tmp_path/'a.json', rows), '--machine', path]) == 0
    costs = machine.links(path)
    assert costs['simulate.latency'] == pytest.approx(2.0) and costs['simulate.bandwidth'] == pytest.approx(10.0)
    shown = launch(tmp_path, 'train', '--virtual', 2, '--machine', path, '--show-config').stdout
    assert f'bandwidth = {costs["simulate.bandwidth"]}' in shown and f'latency = {costs["simulate.latency"]}' in shown


@pytest.mark.parametrize('content', ['{', '[]', '{"schema": "x"}', '{"schema": "hpcasr-machine/1"}',
                                     '{"schema": "hpcasr-machine/1", "simulate": {"latency": "x", "bandwidth": 1}}',
                                     '{"schema": "hpcasr-machine/1", "simulate": [1]}'])
def test_a_bad_machine_json(tmp_path, content):
    (tmp_path/'m.json').write_text(content)
    with pytest.raises(BadInput, match=r'm\.json: '):
        machine.links(tmp_path/'m.json')


def test_a_machine_is_for_virtual_learners(capsys):
    assert main(['train', '--machine', 'm.json', '--show-config']) == 2
    assert 'add --virtual L' in capsys.readouterr().err


# pictures

@pytest.mark.parametrize('ending, start', [('png', b'\x89PNG'), ('svg', b'<?xml')])
def test_a_picture(tmp_path, ending, start):
    pytest.importorskip('matplotlib')
    rows = [row(size=size, type=kind) for size in (1, 2, 4) for kind in ('uint8', 'int32')]
    path = tmp_path/f'a.{ending}'
    assert main(['bench', 'results', write(tmp_path/'a.json', rows), '--plot', str(path)]) == 0
    assert path.read_bytes().startswith(start)
    assert main(['bench', 'results', str(tmp_path/'a.json'), '--plot', str(path)]) == 2
    assert {len(series) for series in plot.grouped(rows).values()} == {3}


def test_a_picture_of_another_kind():
    with pytest.raises(BadInput, match='pictures end in'):
        plot.require('a.txt')


# the command line

@pytest.mark.parametrize('args, message', [
    (['bww'], 'there is no bww; did you mean bw?'), (['allreduc'], 'did you mean allreduce?'),
    (['wire', 'latensy'], 'did you mean latency?'), (['bw', '-m', '8:4'], 'give MIN:MAX'),
    (['get_bw', '--sync', 'lockall'], 'did you mean lock_all?'),
    (['put_bw', '--window', 'crate'], 'did you mean create?'),
    (['neighbor', '--pattern', 'rings'], 'did you mean ring?'), (['bw', '--tolerance', 'x'], 'give a share'),
    (['bw', '-W', '0'], 'is not in the range'), (['--plot', 'a.png', 'step'], 'step draws nothing'),
    (['results', 'no.json'], 'No such file')])
def test_bad_input_is_one_line(args, message, capsys):
    assert main(['bench', *args]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count('\n') == 1


@pytest.mark.parametrize('args, names', [
    (['--plot', 'a.png'], list(wire.SUITE)), (['--plot', 'a.png', 'bw'], ['bw']), (['bw', '--plot', 'a.png'], ['bw'])])
def test_a_plot_is_that_of_the_command_that_follows_or_of_the_suite(args, names, monkeypatch):
    seen = []
    monkeypatch.setattr(wire, 'measure', lambda context, tests, values: seen.append(
        (tests, wire.sorted_out(context, values)[0]['plot'])))
    main(['bench', *args])
    assert seen == [(names, 'a.png')]


def test_the_command_line_has_all_tests():
    from hpcasr.bench.wire.catalog import TESTS
    assert set(TESTS) == set(wire.TESTS) and set(wire.SUITE) <= set(TESTS)
    assert all(TESTS[name].title and TESTS[name].columns for name in TESTS)
