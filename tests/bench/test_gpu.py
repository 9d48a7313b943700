"""What holds `bench gpu` together; what it measures is tested where kernels run (tests/cuda/test_bench_gpu.py)."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from time import monotonic, sleep

import numpy as np
import pytest

from hpcasr.backend import get_backend
from hpcasr.bench import floor
from hpcasr.bench.gpu import agreement, beside, jobs, ranks, run
from hpcasr.bench.gpu.report import lines
from hpcasr.bench.gpu.run import Trial, bench, failures, perform, title, watch
from hpcasr.bench.gpu.section import plain
from hpcasr.bench.gpu.sections import FULL, QUICK, SECTIONS, Section, chosen
from hpcasr.config import Model
from hpcasr.errors import BadInput
from hpcasr.model.network import build

NAN = float('nan')


@pytest.mark.skipif(find_spec('cupy') is not None, reason='there may be a GPU')
def test_without_a_gpu_one_line(tmp_path):
    with pytest.raises(BadInput, match=r'^--backend cuda: CuPy cannot be loaded'):
        bench(Trial(('machine',), 60, str(tmp_path)), print)


def test_ranks_are_not_started_from_outside(monkeypatch, tmp_path):
    monkeypatch.setenv('PMI_SIZE', '2')
    with pytest.raises(BadInput, match='start it without mpirun'):
        bench(Trial(folder=str(tmp_path)), print)


def test_unknown_sections():
    with pytest.raises(BadInput, match='choose of machine, layers'):
        chosen(('step',))
    assert list(chosen(('steps', 'training'))) == ['machine', 'training', 'steps']
    assert list(chosen(())) == list(SECTIONS)


def test_a_section_that_fails_leaves_what_it_found(tmp_path, monkeypatch):
    """A crash, a signal and too long a time are findings; the others are run."""
    monkeypatch.setattr(run, 'chosen', lambda only: {name: Section(name, 3) for name in BEHAVIOUR})
    monkeypatch.setattr(run, 'watch', lambda command, *rest: watch(
        [sys.executable, '-c', BEHAVIOUR[command[-3]], command[-2]], *rest))
    found, path = bench(Trial(seconds=60, folder=str(tmp_path)), lambda line: None)
    assert path.name == 'gpu-gpu-x-200.json' and json.loads(path.read_text()) == found
    sections = found['sections']
    assert [len(section['rows']) for section in sections.values()] == [1, 1, 1, 1, 1]
    assert [section.get('status') for section in sections.values()] == [None, 1, -11, 124, None]
    assert [line.partition(':')[0] for line in failures(found)] == ['crash', 'signal', 'hang', 'wrong']
    assert sections['signal']['trouble'] == 'ended by signal 11'
    assert 'RuntimeError: away' in path.with_suffix('.txt').read_text()


ROW = 'import sys, os, time; open(sys.argv[1], "a").write(\'{"gpu": "GPU X-200"}\\n\')\n'
BEHAVIOUR = {'machine': ROW, 'crash': ROW + 'raise RuntimeError("away")', 'signal': ROW + 'os.kill(os.getpid(), 11)',
             'hang': ROW + 'time.sleep(60)',
             'wrong': 'import sys; open(sys.argv[1], "a").write(\'{"what": "x", "off": "nan", "bound": 1, '
                                  '"right": false}\\n\')'}


def test_what_a_section_has_started_ends_with_it(tmp_path):
    code = ('import subprocess, sys; p = subprocess.Popen(["sleep", "60"]); '
            f'open({str(tmp_path/"pid")!r}, "w").write(str(p.pid)); p.wait()')
    begin = monotonic()
    status, said = watch([sys.executable, '-c', code], 2, dict(os.environ))
    assert (status, said) == (124, 'ended after 2 s; ') and monotonic() - begin < 30
    pid = int((tmp_path/'pid').read_text())
    for _ in range(100):
        if not alive(pid):
            break
        sleep(0.05)
    assert not alive(pid)


def alive(pid):
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rpartition(')')[2].split()[0] != 'Z'
    except OSError:
        return False


def test_a_first_section_that_breaks_does_not_end_the_others():
    assert run.named({'rows': [], 'status': -11, 'trouble': 'ended by signal 11'}) == 'unknown'


def test_no_time_left_is_said():
    assert perform('steps', SECTIONS['steps'], 'quick', 1)['trouble'] == 'left out: no time was left'


def test_all_limits_end_in_time_for_what_matters_most():
    """Even where all before them take all of their time, every check is begun."""
    names = list(SECTIONS)
    before = sum(SECTIONS[name].seconds for name in names[:names.index('steps')])
    assert before < Trial().seconds - SECTIONS['steps'].seconds


def test_rows_of_a_kind_are_a_table():
    rows = [{'what': 'a', 'off': NAN, 'right': False}, {'what': 'bb', 'off': 1e-7, 'right': True}, {'ms': None}]
    section = {'what': 'of all', 'seconds': 1.0, 'rows': rows, 'trouble': 'x\nbroke', 'status': 1}
    text = '\n'.join(lines('part', section))
    assert text == ('part, 1 s: of all\nwhat    off  right\na       nan     NO\nbb    1e-07    yes\nms\n- \n'
                    'FAILED (status 1): broke\n')


def test_rows_are_what_every_reader_of_json_knows():
    row = {'off': NAN, 'at': np.float32(0.5), 'n': np.int64(3), 'right': np.True_, 'name': None, 'most': float('inf')}
    assert plain(row) == {'off': 'nan', 'at': 0.5, 'n': 3, 'right': True, 'name': None, 'most': 'inf'}


def test_names_of_files():
    assert title('NVIDIA H200') == 'gpu-nvidia-h200' and title('Tesla T4 (MIG 1g.5gb)') == 'gpu-tesla-t4-mig-1g-5gb'


def test_the_floor_of_bf16_moves_half_but_for_the_update():
    net = build(Model(preset='tiny'), 5, 7, 'float32', get_backend('reference'))
    whole, update = floor.floor(net, 10, 1e30, 1.0), 4*3*net.params.size
    assert beside.floor(net, 10, 'fp32', 1e30, 1.0) == pytest.approx(whole)
    assert beside.floor(net, 10, 'bf16', 1e30, 1.0) == pytest.approx((whole - update)/2 + update)


def test_the_race_compares_with_the_better_one():
    seconds = {'ours': [1.0, 1.0, 1.0], 'eager': [3.0, 3.0, 3.0], 'graph': [2.0, 2.1, 1.9]}
    assert beside.best(seconds, ('eager', 'graph')) == 'graph'
    assert beside.faster(seconds, ('eager', 'graph'))['ratio'] == pytest.approx(2)
    assert beside.faster(seconds, ('halves graph',))['ratio'] is None


@pytest.mark.parametrize('checksums, right', [(('a', 'a'), True), (('a', 'b'), False), (('a', None), False),
                                              ((None, None), False)])
def test_ranks_must_have_the_checksum_of_virtual_learners(tmp_path, checksums, right):
    names = [f'bmuf-2-{how}' for how in ('ranks', 'virtual')]
    for name, checksum in zip(names, checksums, strict=True):
        (tmp_path/name).mkdir()
        if checksum:
            (tmp_path/name/'DONE').write_text(json.dumps({'checksum': checksum, 'ce': 1.0}))
    row = ranks.compare(tmp_path, 'bmuf', 2, dict.fromkeys(names, (0, '')))
    assert row['right'] is right and (row['off'] == 0) is right


def test_jobs_beside_each_other_end_and_tell(tmp_path):
    commands = {'good': 'print("fine")', 'bad': 'import sys; sys.exit("no")', 'late': 'import time; time.sleep(60)'}
    ends = jobs.together(tmp_path, [(name, [sys.executable, '-c', code]) for name, code in commands.items()], 4)
    assert ends == {'good': (0, 'fine'), 'bad': (1, 'no'), 'late': (None, '')}


@pytest.mark.parametrize('sizes', [FULL, QUICK])
def test_the_options_of_jobs_are_those_of_training(tmp_path, sizes):
    for own in agreement.RUNS.values():
        _, command = jobs.train(tmp_path, 'run', '--model', 'tiny', *sizes.jobs, *own, '--show-config')
        subprocess.run(command, check=True, capture_output=True)
