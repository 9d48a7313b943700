"""What is said of the algorithms: complete for each that exists, readable, and the same in README."""

import json
import math
import pathlib

import pytest

import hpcasr
from hpcasr.algorithms import ALGORITHMS
from hpcasr.algorithms import about as subject
from hpcasr.algorithms.about import About, Case, columns, detail, facts, in_bytes, overview, readme_table, shape
from hpcasr.backend.base import Ops
from hpcasr.comm.virtual import World
from hpcasr.config import KEYS, Config
from hpcasr.errors import BadInput
from hpcasr.model.network import build
from tests.algorithms.problems import Player, Quadratic

ROOT = pathlib.Path(hpcasr.__file__).parents[1]
every = pytest.mark.parametrize('cls', ALGORITHMS.values(), ids=ALGORITHMS)


class Gossip:
    """An algorithm with all that makes rendering hard: options, a topology, long texts, a bar on a letter, a pipe."""

    name = 'gossip-decentralized'
    about = About(
        family='AD-PSGD, bounded', rule='w_l ← w\u0304 − a · g_l(w_l) with |N| neighbours, ' + 'and so on '*12,
        cites='Somebody 2020, arXiv 0000.00000', exchanges='models, with one neighbour at a time',
        bytes_text='2V/K', bytes=lambda V, L, options: 2*V/options.exchange.period,
        messages_text='1/K', messages=lambda L, options: 1/options.exchange.period,
        options=('exchange.topology', 'exchange.period'), use='many ranks', avoid='few ranks')


def case(ranks=8, **values):
    config = Config().with_values({k.replace('__', '.'): v for k, v in values.items()}, 'test')
    return Case(ranks, config, *shape(config.model.preset))


@every
def test_every_algorithm_tells_all(cls):
    about = cls.about
    for text in 'family', 'rule', 'cites', 'exchanges', 'bytes_text', 'messages_text', 'use', 'avoid':
        assert getattr(about, text) and '\n' not in getattr(about, text), text
    assert set(about.options) <= set(KEYS)
    assert any(c.isdigit() for c in about.cites)
    assert (ROOT/subject.file(cls)).is_file()
    for ranks in *range(1, 10), 128:
        for number in facts(cls, case(ranks))['bytes'], facts(cls, case(ranks))['messages']:
            assert math.isfinite(number) and number >= 0
    assert json.loads(json.dumps(facts(cls, case())))['name'] == cls.name


@every
def test_only_those_whose_models_differ_tell_how_far_they_are_apart(cls):
    def work(comm):
        player = Player(comm, cls.name, Quadratic(), dtype='float32')
        for t in range(4):
            player.step(t)
        player.algorithm.settle(player.params.data, player.params.slots)
        return player.algorithm.distance
    told = World(3, schedule='random').run(work)
    assert [distance is not None for distance in told] == ['exchange.sample' in cls.about.options]*3


@every
def test_one_learner_sends_nothing(cls):
    assert (facts(cls, case(1))['bytes'], facts(cls, case(1))['messages']) == (0, 0)


def test_readme_has_exactly_this_table():
    readme = ROOT/'README.md'
    if not readme.exists():
        pytest.skip('installed without the README')
    table = readme.read_text().split('<!-- algorithms -->\n')[1].split('\n<!-- /algorithms -->')[0]
    assert table == readme_table(ALGORITHMS.values()), 'put in what `hpcasr algorithms --markdown` prints'


def test_markdown_cells_hold_no_bare_pipe():
    header, rule, row = readme_table([Gossip]).splitlines()
    assert row.replace(r'\|', '').count('|') == header.count('|') == rule.count('|') == 6
    assert r'\|N\|' in row and '; bytes: 2V/K; messages: 1/K |' in row


def test_families_in_words():
    assert Gossip.about.family_in_words() == 'AD-PSGD, bounded: asynchronous decentralized parallel SGD'
    assert About('elastic averaging', *10*['']).family_in_words() == 'elastic averaging'


@pytest.mark.parametrize('preset', ['tiny', 'dnn', 'swb2000'])
def test_the_model_is_as_large_as_it_will_be(preset):
    of = case(model__preset=preset, model__layers=1, model__cells=6)
    assert of.V == 4*build(of.config.model, *shape(preset), 'float32', Ops()).params.size
    assert case(model__preset=preset, train__dtype='float64').V == 2*case(model__preset=preset).V


def test_the_papers_model():
    assert f'{case(model__preset="swb2000").parameters()/1e6:.1f}' == '43.1'  # ALGORITHMS.md
    assert 'V = 172.5 MB: preset swb2000, 43,130,368 parameters (260 features, 32000 targets, float32); L = 8' in (
        detail(Gossip, case(model__preset='swb2000')))


def test_numbers_follow_the_options():
    of = case(exchange__period=4)
    assert facts(Gossip, of)['bytes'] == of.V/2 and facts(Gossip, of)['messages'] == 1/4
    why = KEYS['exchange.period'][1].metadata['why']
    assert facts(Gossip, of)['options']['exchange.period'] == {'value': 4, 'why': why}
    assert 'bytes' not in facts(Gossip) and facts(Gossip)['options']['exchange.period']['value'] == 8


def test_what_is_set_for_other_algorithms_is_named():
    config = case(exchange__topology='torus', exchange__period=4, exchange__reduce='mpi', optim__lr=2.0).config
    found = {name: subject.unused(cls, config) for name, cls in ALGORITHMS.items()}
    assert found['push-sum'] == ['exchange.topology = torus', 'exchange.period = 4']
    assert found['local-sgd'] == ['exchange.topology = torus']
    assert found['sync-decentralized'] == ['exchange.period = 4']
    assert not any(subject.unused(cls, Config()) for cls in ALGORITHMS.values())


def test_topologies_are_shown_where_one_is_to_be_chosen():
    text = detail(Gossip, case(8), 200)
    assert 'topology   ring of 8, fixed: 2 neighbours, ' in text
    assert 'spectral gap 0.195, spread 1/1000 after 32 steps\n' in text and 'after 1 step\n' in text
    assert 'topology' not in detail(ALGORITHMS['sync-allreduce'], case(8))


@pytest.mark.parametrize('width', [80, 100, 160])
@pytest.mark.parametrize('of', [None, case(8), case(1000, model__preset='swb2000')], ids=['formulas', '8', '1000'])
def test_nothing_is_wider_than_the_terminal_and_no_word_is_lost(of, width):
    classes = [*ALGORITHMS.values(), Gossip]
    table = overview(classes, of, width)
    assert max(map(columns, table.splitlines())) <= width
    for cls in classes:
        text = detail(cls, of, width)
        assert max(map(columns, text.splitlines())) <= width
        for part in cls.about.rule, cls.about.use, cls.about.bytes_text:
            assert set(part.split()) <= set(table.split())
            assert ' '.join(part.split()) in ' '.join(text.split())


def test_a_bar_on_a_letter_takes_no_column():
    assert columns('w\u0304 ← w') == 5


def test_columns_stand_one_below_the_other():
    lines = overview([*ALGORITHMS.values(), Gossip], None, 100).splitlines()
    where = lines[0].index('sent per step')
    first = next(line for line in lines if line.startswith(Gossip.name))
    assert columns(first[:first.index('bytes: ')]) == where


@pytest.mark.parametrize('n, text', [(0, '0 B'), (999, '999 B'), (1000, '1 KB'), (1.5e6, '1.5 MB'), (2.5e12, '2500 GB'),
                                     (0.5, '0.5 B')])
def test_bytes_for_people(n, text):
    assert in_bytes(n) == text


def test_a_formula_is_not_torn():
    assert subject.wrap('bytes: 2V(L − 1)/L = 4.1 MB', 24) == ['bytes: 2V(L − 1)/L', '= 4.1 MB']
    assert subject.wrap('aaaa − bbbb − cccc − dddd', 10) == ['aaaa −', 'bbbb −', 'cccc −', 'dddd']  # too long for any


def test_an_unknown_preset():
    with pytest.raises(BadInput, match='no preset'):
        facts(Gossip, Case(2, Config().with_values({'model.preset': 'x'}, 'test'), 4, 4))
