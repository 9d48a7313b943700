"""Against an independent writer of Kaldi's layout, and numbers worked out by hand and by kaldi-hmm-gmm."""

import io
import os
import re
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpcasr.data.transition_model import TransitionModel
from hpcasr.errors import BadInput

# a topology: [(phones, [(forward class, self-loop class, [target states])])], the last state is final
BAKIS = [(0, 0, [0, 1]), (1, 1, [1, 2]), (2, 2, [2, 3]), (None, None, [])]
SILENCE = [(0, 0, [0, 1, 2, 3]), (1, 1, [1, 2, 3, 4]), (2, 2, [1, 2, 3, 4]), (3, 3, [1, 2, 3, 4]), (4, 4, [4, 5]),
           (None, None, [])]
CHAIN = [(0, 1, [0, 1]), (None, None, [])]
SKIP = [(0, 0, [1]), (None, None, [2]), (1, 1, [3, 2]), (None, None, [])]  # a state without pdf, a loop that is second


class Model:
    """A transition model to write: entries as above, tuples (phone, state, pdf, self-loop pdf)."""

    def __init__(self, entries, tuples):
        self.entries, self.tuples = entries, sorted(tuples)
        self.chain = any(f != s for _, states in entries for f, s, _ in states)
        self.states = {phone: states for phones, states in entries for phone in phones}

    def ids(self):
        """[(phone, pdf)] of the transition-ids 1, 2, ..."""
        for phone, state, pdf, loop in self.tuples:
            for target in self.states[phone][state][2]:
                yield phone, loop if target == state else pdf

    def rows(self):
        return [t if self.chain else t[:3] for t in self.tuples]

    def text(self):
        out = io.StringIO()
        out.write('<TransitionModel> \n<Topology> \n')
        for phones, states in self.entries:
            out.write(f'<TopologyEntry> \n<ForPhones> \n{" ".join(map(str, phones))} \n</ForPhones> \n')
            for n, (f, s, targets) in enumerate(states):
                pdf = '' if f is None else f'<ForwardPdfClass> {f} <SelfLoopPdfClass> {s} ' if self.chain else \
                    f'<PdfClass> {f} '
                arcs = ''.join(f'<Transition> {t} {1/len(targets):.7g} ' for t in targets)
                out.write(f'<State> {n} {pdf}{arcs}</State> \n')
            out.write('</TopologyEntry> \n')
        mark = 'Tuples' if self.chain else 'Triples'
        out.write(f'</Topology> \n<{mark}> {len(self.tuples)} \n')
        out.writelines(' '.join(map(str, row)) + ' \n' for row in self.rows())
        out.write(f'</{mark}> \n<LogProbs> \n [ 0 ' + '-0.6931472 '*len(list(self.ids())) + ']\n</LogProbs> \n'
                  '</TransitionModel> \n<DIMENSION> 39 <NUMPDFS> 7 ')
        return out.getvalue().encode()

    def binary(self):
        out = io.BytesIO()
        number = lambda n: out.write(b'\4' + struct.pack('<i', n))
        probability = lambda p: out.write(b'\4' + struct.pack('<f', p))
        vector = lambda v: out.write(b'\4' + struct.pack(f'<i{len(v)}i', len(v), *v))
        out.write(b'\0B<TransitionModel> <Topology> ')
        vector(sorted(self.states))
        entry_of = {phone: k for k, (phones, _) in enumerate(self.entries) for phone in phones}
        vector([entry_of.get(p, -1) for p in range(max(entry_of) + 1)])
        if self.chain:
            number(-1)
        number(len(self.entries))
        for _, states in self.entries:
            number(len(states))
            for f, s, targets in states:
                for c in [f, s] if self.chain else [f]:
                    number(-1 if c is None else c)
                number(len(targets))
                for t in targets:
                    number(t)
                    probability(1/len(targets))
        mark = b'Tuples' if self.chain else b'Triples'
        out.write(b'</Topology> <' + mark + b'> ')
        number(len(self.tuples))
        for row in self.rows():
            for n in row:
                number(n)
        ids = len(list(self.ids()))
        out.write(b'</' + mark + b'> <LogProbs> FV ')
        number(ids + 1)
        out.write(struct.pack(f'<{ids + 1}f', *[0]*(ids + 1)) + b'</LogProbs> </TransitionModel> <DIMENSION> \4abcd')
        return out.getvalue()


MODELS = {
    'bakis': Model([([2, 3], BAKIS)], [(p, s, 3*(p - 2) + s, 3*(p - 2) + s) for p in (2, 3) for s in range(3)]),
    'silence': Model([([1], SILENCE), ([2, 5], BAKIS)],
                     [(1, s, s, s) for s in range(5)] + [(p, s, k, k) for p in (2, 5) for s in range(3)
                                                         for k in (5 + s, 8 + s, 20 - s)]),
    'chain': Model([([1, 2, 4], CHAIN)], [(1, 0, 0, 1), (2, 0, 2, 3), (2, 0, 2, 4), (4, 0, 5, 3)]),
    'skips': Model([([7], SKIP), ([3], BAKIS)], [(7, 0, 0, 0), (7, 2, 1, 1), (3, 0, 4, 4), (3, 1, 4, 4), (3, 2, 9, 9)]),
}


def load(tmp_path, raw):
    (tmp_path/'final.mdl').write_bytes(raw)
    return TransitionModel(tmp_path/'final.mdl')


@pytest.mark.parametrize('form', [Model.text, Model.binary])
@pytest.mark.parametrize('name', MODELS)
def test_transition_ids(tmp_path, name, form):
    model = MODELS[name]
    found = load(tmp_path, form(model))
    pairs = list(zip(found.phone_of[1:].tolist(), found.pdf_of[1:].tolist(), strict=True))
    assert pairs == list(model.ids())
    assert found.num_pdfs == 1 + max(max(t[2:]) for t in model.tuples)


def test_numbers_worked_out_by_hand(tmp_path):
    """The example of the notes, and a chain whose self-loops have pdfs of their own."""
    assert load(tmp_path, MODELS['bakis'].binary()).pdf_of.tolist() == [-1, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5]
    assert load(tmp_path, MODELS['chain'].binary()).pdf_of.tolist() == [-1, 1, 0, 3, 2, 4, 2, 3, 5]


def test_pdfs_of_an_alignment(tmp_path):
    model = load(tmp_path, MODELS['chain'].binary())
    assert model.pdfs(np.array([2, 2, 1, 8], np.int32), 'u').tolist() == [0, 0, 1, 5]
    assert model.pdfs(np.array([], np.int32), 'u').tolist() == []
    for wrong in 0, 9, -1, 2**31 - 1:
        with pytest.raises(BadInput, match=rf'ali.3.gz: utterance u: {wrong} is no transition-id of .*has 1\.\.8'):
            model.pdfs(np.array([1, wrong], np.int32), 'ali.3.gz: utterance u')


@pytest.mark.parametrize('name', ['bakis', 'silence', 'chain'])
def test_kaldi_hmm_gmm_numbers_alike(tmp_path, name):
    khg = pytest.importorskip('kaldi_hmm_gmm', reason='kaldi-hmm-gmm is not installed')
    raw = MODELS[name].text().decode()
    topology = khg.HmmTopology()
    topology.read(raw[raw.index('<Topology>'):raw.index('</Topology>') + 11])
    phones = sorted(MODELS[name].states)
    tree = khg.monophone_context_dependency(phones, topology.get_phone_to_num_pdf_classes())
    theirs = khg.TransitionModel(tree, topology)
    ours = Model(MODELS[name].entries, [[int(n) for n in re.findall(r'\d+', str(t))] for t in theirs.tuples])
    found = load(tmp_path, ours.binary())
    assert found.num_pdfs == theirs.num_pdfs
    ids = range(1, theirs.num_transition_ids + 1)
    assert found.pdf_of[1:].tolist() == [theirs.transition_id_to_pdf(i) for i in ids]
    assert found.phone_of[1:].tolist() == [theirs.transition_id_to_phone(i) for i in ids]


@pytest.mark.parametrize('form', [Model.text, Model.binary])
@pytest.mark.parametrize('name', ['silence', 'chain'])
def test_every_truncation_is_one_line(tmp_path, name, form):
    raw = form(MODELS[name])
    end = raw.index(b'</TransitionModel>') + len(b'</TransitionModel>')
    for keep in range(0, end, 7):
        with pytest.raises(BadInput, match=r'final\.mdl: not a Kaldi model, or a damaged one') as e:
            load(tmp_path, raw[:keep])
        assert str(e.value).isprintable() and len(str(e.value)) < 500
    assert load(tmp_path, raw[:end]).num_pdfs


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([(n, f) for n in MODELS for f in ('text', 'binary')]), st.data())
def test_damage_ends_in_one_line_or_in_a_model(tmp_path_factory, which, data):
    raw = bytearray(getattr(MODELS[which[0]], which[1])())
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp('mdl')
    try:
        found = load(path, bytes(raw))
    except BadInput as e:
        assert str(e).isprintable()
    else:
        assert found.pdf_of[1:].min() >= 0 and len(found.pdf_of) < len(raw)


def changed(model, old, new):
    raw = MODELS[model].binary() if isinstance(old, bytes) else MODELS[model].text()
    old, new = (x if isinstance(x, bytes) else x.encode() for x in (old, new))
    assert old in raw
    return raw.replace(old, new, 1)


HUGE = b'\4' + struct.pack('<i', 2**31 - 1)


@pytest.mark.parametrize('raw, says', [
    (changed('bakis', b'<Triples> \4\6\0\0\0', b'<Triples> ' + HUGE), '32212254705 bytes'),
    (changed('bakis', b'<Triples> \4\6\0\0\0', b'<Triples> \4' + struct.pack('<i', -6)), 'bytes where'),
    (changed('bakis', b'FV \4' + struct.pack('<i', 13), b'FV ' + HUGE), 'bytes where'),
    (changed('bakis', b'FV ', b'FM '), 'expected a vector'),
    (changed('bakis', '<Triples> 6', '<Triples> 999999999'), '2999999997 numbers'),
    (changed('bakis', '<Triples> 6', '<Triples> ' + '9'*5000), 'expected a number'),
    (changed('bakis', '<Triples> 6', '<Triples> 5'), 'expected </Triples>'),
    (changed('bakis', '\n2 1 1 \n', '\n2 1 -1 \n'), 'impossible tuples'),
    (changed('bakis', '\n2 1 1 \n', '\n2 1 2000000000 \n'), 'impossible tuples'),
    (changed('bakis', '\n2 1 1 \n', '\n2 0 0 \n'), 'tuples out of order'),
    (changed('bakis', '\n3 2 5 \n', '\n9 2 5 \n'), 'phone 9 has no state 2'),
    (changed('bakis', '\n3 2 5 \n', '\n3 7 5 \n'), 'phone 3 has no state 7'),
    (changed('bakis', ' [ 0 ', ' [ '), '12 transitions with 11 probabilities'),
    (changed('bakis', '<Triples>', '<Pairs>'), 'expected <Triples> or <Tuples>, found <Pairs>'),
    (b'', 'found the end'), (b'\0B<Nnet3> ', 'found <Nnet3>'), (b'PK\3\4' + bytes(1000), 'found the end'),
])
def test_what_cannot_be(tmp_path, raw, says):
    with pytest.raises(BadInput, match=r'final\.mdl') as e:
        load(tmp_path, raw)
    assert says in str(e.value), e.value


def test_no_file(tmp_path):
    os.mkfifo(tmp_path/'pipe')
    for name, says in ('none', 'No such file or directory'), ('.', 'Is a directory'), ('pipe', 'is no file'):
        with pytest.raises(BadInput, match=f'{says}; give the final.mdl'):
            TransitionModel(tmp_path/name)
