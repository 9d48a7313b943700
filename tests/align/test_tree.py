"""A tree as text: what is no tree is told before it is asked."""

import json

import pytest

from hpcasr.align.tree import Tree, leaves
from hpcasr.errors import BadInput

ASK = {'ask': 'left', 'phones': [1], 'yes': 2, 'no': {'ask': 'right', 'phones': [0, 1], 'yes': 3, 'no': 4}}
TREE = Tree(['SIL', 'A'], 2, 3, [0, 1, ASK, 5], 6)


def test_it_comes_back():
    tree = Tree.loads(TREE.dumps(), 'x')
    assert tree.dumps() == TREE.dumps() and list(leaves(ASK)) == [2, 3, 4]
    contexts = (1, 1, 0), (0, 1, 1), (-1, 1, -1), (-1, 0, 1)
    assert [tree.pdfs(*context) for context in contexts] == [(2, 5), (3, 5), (3, 5), (0, 1)]
    assert tree.target_names == ['SIL_0.0', 'SIL_1.0', 'A_0.0', 'A_0.1', 'A_0.2', 'A_1.0']


@pytest.mark.parametrize('change', [
    {'roots': [0, 1, ASK | {'ask': 'up'}, 5]}, {'roots': [0, 1, ASK | {'phones': 1}, 5]},
    {'roots': [0, 1, ASK | {'phones': ['A']}, 5]}, {'roots': [0, 1, {'ask': 'left'}, 5]}, {'roots': [0, 1, ASK]},
    {'roots': [0, 1, ASK, 7]}, {'roots': 5}, {'roots': [0, 1, ASK, '5']}, {'num_pdfs': 7}, {'phones': 3},
    {'states': '2'}, {'phones': [], 'roots': [], 'num_pdfs': 0},
    {'states': 0, 'roots': [], 'num_pdfs': 0}, {'version': 2}])
def test_what_is_no_tree(change):
    with pytest.raises(BadInput, match=r'^x: not a phonetic tree \(.*\); make it again'):
        Tree.loads(json.dumps(json.loads(TREE.dumps()) | change), 'x')


@pytest.mark.parametrize('text', ['', '{', '[]', '7'])
def test_what_is_no_json(text):
    with pytest.raises(BadInput, match='x: not a phonetic tree'):
        Tree.loads(text, 'x')
