"""The words that a decoding graph finds in an utterance, by kaldi-decoder's beam search over HCLG.

A raw lattice (LatticeSimpleDecoder) would give all scales from one pass, but it has no bound on the active states: on
a bigram of 2,600 words it took 50 to 150 times as long as FasterDecoder.  So every scale is a search of its own.
"""

import hashlib
import mmap
import os
import pathlib
import struct

import kaldi_decoder
import kaldifst
import numpy as np

from hpcasr.data.kaldi import lines, shown, words
from hpcasr.decode.fst import parse_vector
from hpcasr.errors import BadInput
from hpcasr.given import json_of, opened

MOST = 10_000_000  # pdfs


class Graph:
    """A directory made by `hpcasr decode graph`, opened for searching.  Raises BadInput.

    fst       HCLG, input label pdf + 1, output label a word id
    words     {id: word}
    num_pdfs  of the acoustic models that it fits;  facts: graph.json
    """

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.facts = read_facts(self.path/'graph.json')
        self.num_pdfs, self.words = self.facts['num_pdfs'], read_words(self.path/'words.txt')
        self.fst = read_fst(self.path/'HCLG.fst', self.num_pdfs, self.facts.get('sha256'))
        if self.fst.num_states != self.facts.get('states', self.fst.num_states):  # the decoder trusts all labels
            raise BadInput(f'{self.path}/HCLG.fst: not the graph that graph.json describes; make it again: '
                           'hpcasr decode graph')

    def refuse_other(self, model):
        """BadInput unless the pdfs of the acoustic model are those of the graph."""
        if model.num_pdfs != self.num_pdfs:
            raise BadInput(f'{self.path}: made for {self.num_pdfs} pdfs, but {model.path} has {model.num_pdfs}; '
                           f'make it again: hpcasr decode graph')
        if model.tree is not None and tree_digest(model.tree) != self.facts.get('tree'):
            raise BadInput(f'{self.path}: made for another phonetic tree than that of {model.path}; '
                           f'make it again: hpcasr decode graph')

    def word(self, number):
        if number not in self.words:
            raise BadInput(f'{self.path}/words.txt: has no word {number}, which HCLG.fst has; make the graph again: '
                           'hpcasr decode graph')
        return self.words[number]

    def penalized(self, penalty):
        """The graph, ready to be searched, with `penalty` more cost (negative: less) for every word."""
        return kaldifst.StdConstFst(penalized(self.fst, max(self.words, default=0), penalty))


def tree_digest(tree):
    """sha256 of the tree's text, in graph.json: graph and acoustic model must agree."""
    return hashlib.sha256(tree.dumps().encode()).hexdigest()


def read_facts(path):
    try:
        facts = json_of(path)
        if type(facts['num_pdfs']) is not int or not 1 <= facts['num_pdfs'] <= MOST:
            raise ValueError('num_pdfs is not a number of pdfs')
    except OSError as e:
        raise BadInput(f'{path}: {e.strerror}; expected a directory that hpcasr decode graph made') from None
    except (ValueError, KeyError, TypeError) as e:
        raise BadInput(f'{path}: not the description of a graph ({e}); make it again: hpcasr decode graph') from None
    return facts


def read_words(path):
    """{id: word} of a symbol table, whose ids are 0, 1, ..."""
    table = {}
    for n, line in lines(path):
        try:
            word, number = words(line)
            table[int(number)] = word
        except ValueError:
            raise BadInput(f'{path}: line {n}: expected a word and its number, got {shown(line)!r}') from None
    if table and (min(table), max(table)) != (0, len(table) - 1):
        raise BadInput(f'{path}: its numbers are not 0 .. {len(table) - 1}; make the graph again: hpcasr decode graph')
    return table


def read_fst(path, num_pdfs, sha256=None):
    """The StdVectorFst of a file, which OpenFst and the decoder trust, so all of it is looked at before.

    sha256   what it was when it was made, None: not known
    """
    try:
        with opened(path) as f:
            content = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) if os.fstat(f.fileno()).st_size else b''
        if sha256 not in (None, hashlib.sha256(content).hexdigest()):
            raise ValueError('it is not as it was made')
        if parse_vector(content).arcs['ilabel'].max(initial=0) > num_pdfs:
            raise ValueError(f'it has more than {num_pdfs} pdfs')
    except OSError as e:
        raise BadInput(f'{path}: {e.strerror}; make the graph again: hpcasr decode graph') from None
    except (ValueError, struct.error) as e:
        raise BadInput(f'{path}: not a decoding graph, empty or damaged ({e}); make it again: hpcasr decode graph') \
            from None
    return kaldifst.StdVectorFst.read(str(path))


def penalized(fst, last_word, penalty):
    """`fst` with `penalty` added to the weight of every arc whose output label is a word, 1 .. last_word.

    It is composed with one state that has a loop of that weight for every word: no arc is touched in Python.
    """
    if not penalty or not last_word:
        return fst
    loops = ''.join(f'0 0 {w} {w} {float(penalty)!r}\n' for w in range(1, last_word + 1))
    every_word = kaldifst.compile(f'{loops}0\n', acceptor=False)
    kaldifst.arcsort(every_word, sort_type='ilabel')
    return kaldifst.compose(fst, every_word, match_side='right', connect=False)


class Search:
    """A beam search of `fst` (from Graph.penalized); beam in nats, at most max_active states per frame."""

    def __init__(self, fst, beam=13.0, max_active=2500):
        options = kaldi_decoder.FasterDecoderOptions(beam=beam, max_active=max_active)
        self.fst, self.decoder = fst, kaldi_decoder.FasterDecoder(fst, options)

    def best(self, scaled):
        """Word ids of the best path, and whether it ends in a final state; if it does not, it is the best partial path.

        scaled  [T, num_pdfs] scaled log-likelihoods, finite; their width must be the graph's, the decoder trusts it
        """
        if not len(scaled):
            return [], False
        self.decoder.decode(kaldi_decoder.DecodableCtc(np.ascontiguousarray(scaled, np.float32)))
        found, path = self.decoder.get_best_path()
        if not found:
            return [], False
        return kaldifst.get_linear_symbol_sequence(path)[2], self.decoder.reached_final()
