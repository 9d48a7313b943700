"""`hpcasr align flat-start`, `tree` and `force` as users start them, on two ranks."""

import json

import pytest

from hpcasr.align.gmm import GmmModel
from hpcasr.cli import main
from hpcasr.data.store import Store

pytestmark = pytest.mark.launch


@pytest.fixture
def stores(speech, texts):
    return speech('train.h5', texts*2)[0], speech('dev.h5', texts[:5], seed=1)[0]


def test_from_nothing_to_triphones(hpcasr, stores, lexicon_file, tmp_path):
    few = '--passes', 4, '--num-gauss', 20
    done = hpcasr('align', 'flat-start', *stores, '--lexicon', lexicon_file, '--states', 2, *few, '--out', 'mono',
                  ranks=2)
    assert done.stdout.startswith('mono: 10 pdfs, ') and done.stderr.count('\npass ') == 4
    assert Store(stores[1]).tree.width == 1 and Store(stores[1]).lexicon.variants['TEA'][1][1] == ['T', 'EY']
    done = hpcasr('align', 'tree', 'mono', *stores, '--leaves', 14, '--min-count', 20, *few, '--out', 'tri', '--force',
                  '--json', ranks=2)
    facts, model = json.loads(done.stdout), GmmModel(tmp_path/'tri')
    assert (facts['path'], facts['pdfs'], facts['gaussians']) == ('tri', model.num_pdfs, model.mixtures.num_gauss)
    assert facts['failed'] == dict.fromkeys(stores, 0) and Store(stores[1]).tree.width == 3
    done = hpcasr('align', 'force', 'tri', *stores, '--force')
    assert done.stdout.count('utterances, log-likelihood') == 2
    rows = json.loads(hpcasr('align', 'force', 'tri', *stores, '--force', '--json').stdout)
    assert [(row['path'], row['aligned'], row['failed']) for row in rows] == [(stores[0], 80, 0), (stores[1], 5, 0)]
    assert f'silence {100*rows[0]["silence"]:.1f} %' in done.stdout


@pytest.mark.parametrize('ranks', [0, 2])
def test_bad_input_is_one_line(hpcasr, stores, lexicon_file, ranks):
    def line(*args):
        done = hpcasr('align', *args, ranks=ranks, status=2)
        lines = [x for x in done.stderr.splitlines() if x.startswith('hpcasr: error: ')]
        assert len(lines) == 1 and 'Traceback' not in done.stderr
        return lines[0]
    out = '--out', 'ali'
    assert 'none.h5: no such store' in line('flat-start', 'none.h5', '--lexicon', lexicon_file, *out)
    lexicon_file.write_text('A EY\nEAT IY T\n')
    assert 'TEA is not in' in line('flat-start', *stores, '--lexicon', lexicon_file, *out)
    assert 'named twice' in line('flat-start', stores[0], stores[0], '--lexicon', lexicon_file, *out)
    assert 'nothing: no acoustic model' in line('force', 'nothing', stores[0])
    assert 'gmm.npz: no such model' in line('tree', 'nothing', stores[0], *out)


@pytest.mark.parametrize('args, line', [
    (['flat-start', 's.h5', '--lexicon', 'l.txt', '--out', ''], "'--out': is empty; name what to write"),
    (['tree', 'mono', 's.h5', '--out', ''], "'--out': is empty; name what to write"),
    (['force', 'mono', 's.h5', '--acwt', 'nan'], "'--acwt': is not a number"),
    (['force', 'mono', 's.h5', '--acwt', '1e-300'], "'--acwt': 1e-300 is not in the range")])
def test_usage(args, line, capsys):
    assert main(['align', *args]) == 2
    assert line in capsys.readouterr().err
