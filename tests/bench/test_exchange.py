import json

import numpy as np
import pytest

from hpcasr.bench import exchange
from hpcasr.bench.exchange import Trial, bench, lines, vector, ways
from hpcasr.bench.wrong import Wrong
from hpcasr.comm.base import Comm
from hpcasr.comm.virtual import World
from hpcasr.config import resolve

FIELDS = {'entries', 'bytes', 'ranks', 'nodes', 'library', 'repeats', 'copy_ms', 'copy_gb_per_second', 'ways'}
WAY_FIELDS = {'name', 'ms', 'min_ms', 'copies', 'low', 'high', 'algbw', 'busbw', 'bytes_sent'}
TRIAL = Trial(nbytes=4*1001, repeats=3)


def on_virtual(size, work):
    return World(size, strict=True).run(work)


@pytest.mark.launch
@pytest.mark.parametrize('ranks', [0, 2])
def test_all_figures(hpcasr, ranks):
    done = hpcasr('bench', 'exchange', '--size', '1M', '--repeats', 3, '--json', ranks=ranks)
    found = json.loads(done.stdout)
    L = max(ranks, 1)
    assert set(found) == FIELDS and all(set(way) == WAY_FIELDS for way in found['ways'])
    assert (found['entries'], found['bytes'], found['ranks'], found['repeats']) == (250_000, 1_000_000, L, 3)
    assert found['copy_gb_per_second'] == pytest.approx(1/found['copy_ms'])
    for way in found['ways']:
        assert 0 < way['min_ms'] <= way['ms'] and 0 < way['low'] <= way['copies'] <= way['high']
        assert way['algbw'] == pytest.approx(1/way['ms'])
        assert way['busbw'] == pytest.approx(way['algbw']*(ranks > 1))  # 2(L − 1)/L and one neighbour: both are 1
        assert way['bytes_sent'] == 1e6*(ranks > 1)


@pytest.mark.launch
def test_a_vector_as_long_as_a_model(hpcasr):
    text = hpcasr('bench', 'exchange', '--model', 'tiny', '--repeats', 1, ranks=2).stdout.splitlines()
    assert text[0].startswith('vector    23,368 float32, 0.09 MB; 2 ranks, 1 node')
    assert text[1].startswith('copy ') and text[2].split()[:3] == ['way', 'ms', 'min'] and len(text) == 10


@pytest.mark.parametrize('args, message', [
    (['--size', '10'], '1M or more'), (['--size', 'big'], 'give bytes, such as'),
    (['--size', '90000G'], 'give a smaller --model or --size'), (['--model', 'tinny'], 'did you mean tiny'),
    (['--repeats', 0], 'is not in the range'),
    (['--size', '1M', '--set', 'exchange.node_size=2'], 'does not divide'),
])
def test_bad_input_is_one_line(hpcasr, args, message):
    done = hpcasr('bench', 'exchange', *args, status=2)
    assert message in done.stderr and done.stderr.count('\n') == 1 and not done.stdout


@pytest.mark.parametrize('size', [1, 2, 3, 4, 5])
def test_every_way_is_checked_and_counted(size):
    found = on_virtual(size, lambda comm: bench(comm, resolve(), TRIAL))
    assert all(other == found[0] for other in found)
    bytes_sent = {way['name']: way['bytes_sent'] for way in found[0]['ways']}
    near = min(size - 1, 2)
    assert bytes_sent['ring: messages'] == bytes_sent['ring: neighbourhood'] == 4004*near
    assert bytes_sent['sum: messages'] == round(2*4004*(size - 1)/size)
    assert '\n'.join(lines(found[0]))


@pytest.mark.parametrize('size', [2, 5])
def test_bus_bandwidth_is_that_of_nccl_tests(size):
    factors = on_virtual(size, lambda comm: [way.factor for way in ways(comm, 8)])[0]
    assert factors == [2*(size - 1)/size]*5 + [min(size - 1, 2)]*2


@pytest.mark.parametrize('name', ['sum: messages', 'ring: messages'])
def test_a_wrong_answer_is_not_timed(monkeypatch, name):
    def broken(comm, n):
        found = ways(comm, n)
        for way in found:
            if way.name == name and comm.rank == 1:
                way.run = spoiled(way)
        return found
    monkeypatch.setattr(exchange, 'ways', broken)
    monkeypatch.setattr(exchange, 'measure', lambda *_: pytest.fail('it was timed'))
    with pytest.raises(Wrong, match=f'{name}: 1 entries of 1,001 are wrong'):
        on_virtual(3, lambda comm: bench(comm, resolve(), TRIAL))


def spoiled(way):
    real = way.run

    def run():
        received = real()
        (received or [way.x])[0][7] += 1
        return received
    return run


def test_the_sum_of_integers_is_exact_for_many_ranks():
    assert np.abs(vector(3, 10**5)).max() == exchange.HIGHEST and 16_000*exchange.HIGHEST < 2**24


def test_what_is_exchanged_stays_finite():
    found = ways(Comm(), 10)
    exchange.check(Comm(), found)
    assert not any(way.x.any() for way in found)


@pytest.mark.mpi
@pytest.mark.parametrize('node_size', [0, 1])
def test_on_real_ranks(node_size):
    from hpcasr.comm.mpi import MPIComm
    comm = MPIComm()
    found = bench(comm, resolve(options={'exchange.node_size': node_size}), TRIAL)
    assert found['ranks'] == comm.size and all(found == other for other in comm.allgather(found))
