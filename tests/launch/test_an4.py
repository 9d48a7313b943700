"""The README's commands on real speech: AN4 comes in and is learned, better than the priors alone."""

import json
import os
import pathlib
import re

import pytest

DATA = pathlib.Path(os.environ.get('HPCASR_DATA', pathlib.Path(__file__).parents[3]/'shared'/'data'))/'an4-mfcc'

pytestmark = [pytest.mark.launch, pytest.mark.timeout(240),
              pytest.mark.skipif(not DATA.is_dir(), reason='no AN4 here: set HPCASR_DATA to a folder with an4-mfcc')]


def test_an4_in_three_commands_and_two_epochs(hpcasr, tmp_path):
    hpcasr('data', 'import', DATA/'train', '--out', 'train.h5')
    hpcasr('data', 'import', DATA/'dev', '--out', 'dev.h5')
    hpcasr('align', 'equal', 'train.h5', 'dev.h5', '--lexicon', DATA/'local'/'dict'/'lexicon.txt')
    done = hpcasr('train', 'train.h5', '--dev', 'dev.h5', '--model', 'tiny', '--epochs', 2, '--out', 'exp/an4', ranks=2)
    prior = float(re.search(r'prior alone: ce \S+  fer (\S+) %', done.stderr).group(1))
    epochs = [json.loads(line) for line in (tmp_path/'exp/an4/metrics.jsonl').read_text().splitlines()]
    fer = [100*e['fer'] for e in epochs if e['kind'] == 'epoch']
    assert prior > 95 and fer[-1] < prior - 5
    assert fer[1] < fer[0]
