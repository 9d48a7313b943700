"""Which phone states share a pdf: a phonetic decision tree (Young, Odell and Woodland, HLT 1994), or none at all."""

import json
from functools import lru_cache

from hpcasr.errors import BadInput
from hpcasr.given import parsed

FORMAT = 'hpcasr-tree', 1
MOST = 100  # states of a phone
ASKED = 'left', 'phone', 'right'


class Tree:
    """(left phone, phone, right phone, HMM state) → pdf.

    phones   names; silence is phone 0; other phones are their indices here
    states   HMM states per phone, left to right, no skips
    width    1: monophones, contexts are ignored; 3: triphones
    roots    [P·S] nodes, that of state s of phone p at p·S + s.  A node is a pdf, or
             {'ask': 'left' | 'phone' | 'right', 'phones': [indices], 'yes': node, 'no': node}
    Beyond the edges of an utterance there is silence.  Phones may share pdfs.
    """

    def __init__(self, phones, states, width, roots, num_pdfs):
        self.phones, self.states, self.width, self.roots, self.num_pdfs = list(phones), states, width, roots, num_pdfs
        self.pdfs = lru_cache(maxsize=None)(self._pdfs)

    @classmethod
    def monophone(cls, phones, states=3):
        """Every state of every phone is a pdf of its own: p·S + s."""
        n = len(phones)*states
        return cls(phones, states, 1, list(range(n)), n)

    def pdf(self, left, phone, right, state):
        """The pdf of `state` of `phone` between its neighbours; a neighbour of -1 is the edge of the utterance."""
        asked = dict(zip(ASKED, (max(left, 0), phone, max(right, 0)), strict=True))
        node = self.roots[phone*self.states + state]
        while not isinstance(node, int):
            node = node['yes' if asked[node['ask']] in node['phones'] else 'no']
        return node

    def _pdfs(self, left, phone, right):
        """`pdf` of all states of the phone: a tuple.  Cached as `pdfs`."""
        return tuple(self.pdf(left, phone, right, s) for s in range(self.states))

    @property
    def target_names(self):
        """[K] names: the first state that owns a pdf, and for triphones a number within it: AA_0, or AA_0.7."""
        names, seen = ['']*self.num_pdfs, {}
        for k, root in enumerate(self.roots):
            state = f'{self.phones[k//self.states]}_{k % self.states}'
            for pdf in leaves(root):
                if not names[pdf]:
                    n = seen[state] = seen.get(state, -1) + 1
                    names[pdf] = state if self.width == 1 else f'{state}.{n}'
        return names

    def dumps(self):
        """JSON text."""
        return json.dumps({'format': FORMAT[0], 'version': FORMAT[1], 'phones': self.phones, 'states': self.states,
                           'width': self.width, 'num_pdfs': self.num_pdfs, 'roots': self.roots})

    @classmethod
    def loads(cls, text, where):
        """The Tree of JSON text; `where` names its file in errors.  Raises BadInput."""
        try:
            d = parsed(text)
            if (d['format'], d['version']) != FORMAT:
                raise ValueError(f'{d["format"]} {d["version"]}')
            require_types(d)
            tree = cls(d['phones'], d['states'], d['width'], d['roots'], d['num_pdfs'])
            if not (tree.phones and tree.states > 0 and all(map(is_sound, questions(tree.roots)))):
                raise ValueError('some questions are none, or it has no states')
            pdfs = {pdf for root in tree.roots for pdf in leaves(root)}
            if len(pdfs) != tree.num_pdfs or pdfs != set(range(len(pdfs))):
                raise ValueError('some pdfs have no state')
            if len(tree.roots) != len(tree.phones)*tree.states:
                raise ValueError('some states have no root')
        except (ValueError, KeyError, TypeError, RecursionError) as e:
            raise BadInput(f'{where}: not a phonetic tree ({e}); make it again with hpcasr align tree') from None
        return tree


def require_types(d):
    """KeyError or ValueError unless phones, states, width and roots are of the types that they should be."""
    phones, states, width, roots = (d[name] for name in ('phones', 'states', 'width', 'roots'))
    if not (isinstance(phones, list) and phones and all(isinstance(p, str) and p for p in phones)
            and len(set(phones)) == len(phones)):
        raise ValueError('its phones are no names')
    if not (type(states) is int and 0 < states <= MOST and width in (1, 3) and isinstance(roots, list)):
        raise ValueError('states, width or roots are not what they should be')


def nodes(node):
    """All nodes from a node down, `yes` before `no`; without recursion, trees may be deep."""
    below = [node]
    while below:
        yield (node := below.pop())
        if not isinstance(node, int):
            below += [node['no'], node['yes']]


def leaves(node):
    """The pdfs below a node, left to right."""
    return (below for below in nodes(node) if isinstance(below, int))


def questions(roots):
    return (node for root in roots for node in nodes(root) if not isinstance(node, int))


def is_sound(question):
    """Whether it asks for a phone that there may be."""
    return question['ask'] in ASKED and all(isinstance(p, int) for p in question['phones'])
