import json

import pytest

from hpcasr.backend.base import Ops
from hpcasr.bench import compress
from hpcasr.bench.compress import Trial, bench, lines
from hpcasr.bench.wrong import Wrong
from hpcasr.comm.virtual import World
from hpcasr.compress import CODECS
from hpcasr.config import resolve

FIELDS = {'name', 'ms', 'min_ms', 'encode_ms', 'decode_ms', 'plain', 'low', 'high', 'bytes_sent', 'formula_bytes',
          'fewer', 'pays_below_mb_per_second'}
TRIAL = Trial(nbytes=4*20_001, repeats=2)


def on_virtual(size, trial=TRIAL):
    return World(size, strict=True).run(lambda comm: bench(comm, resolve(), Ops(), trial))


@pytest.mark.parametrize('size', [1, 2, 3, 5])
def test_every_codec_is_checked_and_its_bytes_are_those_of_the_formula(size):
    found = on_virtual(size)
    assert all(other == found[0] for other in found) and '\n'.join(lines(found[0]))
    codecs = {codec['name']: codec for codec in found[0]['codecs']}
    assert set(codecs) == set(CODECS) and all(set(codec) == FIELDS for codec in codecs.values())
    for name, codec in codecs.items():
        assert codec['encode_ms'] > 0 and codec['decode_ms'] > 0
        assert codec['bytes_sent'] <= codec['formula_bytes']
        assert codec['bytes_sent'] == codec['formula_bytes'] or name == 'threshold'
    assert codecs['topk']['bytes_sent'] == (201*8)*(size - 1)
    assert codecs['onebit']['bytes_sent']*28 < found[0]['plain_bytes_sent'] or size == 1


def test_a_wrong_answer_is_not_timed(monkeypatch):
    def broken(way, options, real=compress.wanted):
        total = real(way, options)
        total[7] += way.name == 'qsgd' and way.comm.rank == 1
        return total
    monkeypatch.setattr(compress, 'wanted', broken)
    monkeypatch.setattr(compress, 'measure', lambda *_: pytest.fail('it was timed'))
    with pytest.raises(Wrong, match='qsgd: 1 entries of 20,001 are wrong'):
        on_virtual(3)


@pytest.mark.launch
def test_the_command(hpcasr):
    found = json.loads(hpcasr('bench', 'compress', '--size', '1M', '--repeats', 1, '--json', ranks=2).stdout)
    assert (found['entries'], found['ranks'], found['plain_bytes_sent']) == (250_000, 2, 10**6)
    assert {codec['name'] for codec in found['codecs']} == set(CODECS)
