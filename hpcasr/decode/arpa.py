"""N-gram models in ARPA files: log10 probabilities and back-off weights."""

import math
import re

import numpy as np

from hpcasr.data.kaldi import lines, shown, words
from hpcasr.decode.ngram import END, START, NGram
from hpcasr.errors import BadInput

LN10 = math.log(10)
NEVER = -99  # log10 of a probability that is zero


def write_arpa(model, path):
    with open(path, 'w', encoding='utf-8') as f:
        f.write('\\data\\\n')
        f.writelines(f'ngram {n}={len(table)}\n' for n, table in enumerate(model.grams, 1))
        for n in range(1, model.order + 1):
            f.write(f'\n\\{n}-grams:\n')
            f.writelines(rows_of(model, n))
        f.write('\n\\end\\\n')


def rows_of(model, n):
    """`log10 word ... word [backoff]`; no weight where it is 1, as SRILM does."""
    logp = np.maximum(model.logp[n - 1]/LN10, NEVER).tolist()
    backoff = (np.maximum(model.backoff[n - 1]/LN10, NEVER)).tolist() if n < model.order else [0]*len(logp)
    for p, b, gram in zip(logp, backoff, model.grams[n - 1].tolist(), strict=True):
        text = ' '.join([model.words[i] for i in gram])
        yield f'{p:.7g}\t{text}\t{b:.7g}\n' if b else f'{p:.7g}\t{text}\n'


def read_arpa(path, vocabulary):
    """The NGram of a file over the words `vocabulary`, and the words of the file that were dropped: a list.

    N-grams with other words are left out; words of the vocabulary that the file lacks get no probability.
    Raises BadInput for anything that is not a whole ARPA file with <s>, </s> and a word of the vocabulary.
    """
    names = [*vocabulary, START, END]
    parser = Parser(path, {word: i for i, word in enumerate(names)})
    for number, line in lines(path):
        parser.read(number, line)
    parser.finish()
    V, tables = len(names), parser.tables
    refuse_useless(path, tables[0], V)
    tables[0] = {(i,): tables[0].get((i,), (-math.inf, 0.)) for i in range(V)}
    tables[0][V - 2,] = -math.inf, tables[0][V - 2,][1]
    while not tables[-1]:
        tables.pop()
    close(tables)
    return NGram(names, *zip(*map(arrays, tables), strict=True)), list(parser.dropped)


def refuse_useless(path, unigrams, V):
    for i, name in (V - 2, START), (V - 1, END):
        if (i,) not in unigrams:
            raise BadInput(f'{path}: has no {name}; estimate it from sentences with <s> and </s>')
    if not any(i < V - 2 and p > -math.inf for (i,), (p, _) in unigrams.items()):
        raise BadInput(f'{path}: has no word of the lexicon; are both in the same case?')


class Parser:
    """Reads an ARPA file line by line into `tables`, per order {ids: (ln p, ln backoff)}; `dropped` has as keys the
    words that are not in `index`.

    order    of the section that is read: -1 before \\data\\, 0 within \\data\\, None after \\end\\
    """

    def __init__(self, path, index):
        self.path, self.index = path, index
        self.sizes, self.tables, self.dropped, self.order, self.seen = [], [], {}, -1, 0

    def read(self, number, line):
        if line.startswith('\\'):
            self.title(number, line)
        elif self.order == 0:
            self.size(number, line)
        elif self.order and self.order > 0:
            self.gram(number, line)

    def title(self, number, line):
        if self.order is None or self.order < 0:
            self.order = 0 if line == '\\data\\' else self.order
            return
        self.complete(f'line {number}')
        self.order, self.seen = self.order + 1, 0
        last = self.order > len(self.sizes)
        wanted = '\\end\\' if last else f'\\{self.order}-grams:'
        if line != wanted:
            raise BadInput(f'{self.path}: line {number}: {shown(line)} where {wanted} is expected')
        if last:
            self.order = None
        else:
            self.tables.append({})

    def complete(self, where):
        """The section that ends here has as many n-grams as were announced."""
        if self.order and self.seen != self.sizes[self.order - 1]:
            raise BadInput(f'{self.path}: {where}: {self.seen} of {self.sizes[self.order - 1]} {self.order}-grams; '
                           'the file is truncated or damaged')
        if not self.sizes:
            raise BadInput(f'{self.path}: {where}: \\data\\ announces no n-grams')

    def finish(self):
        if self.order is None:
            return
        if self.order < 0:
            raise BadInput(f'{self.path}: not an ARPA file: no line is \\data\\')
        self.complete('at its end')
        raise BadInput(f'{self.path}: ends without \\end\\; the file is truncated')

    def size(self, number, line):
        match = re.fullmatch(r'ngram\s+(\d{1,2})\s*=\s*(\d{1,12})', line)
        if not match or int(match[1]) != len(self.sizes) + 1:
            raise BadInput(f'{self.path}: line {number}: expected `ngram {len(self.sizes) + 1}=NUMBER`, '
                           f'got {shown(line)}')
        self.sizes.append(int(match[2]))

    def gram(self, number, line):
        fields, n = line.split() if line.isascii() else words(line), self.order  # half the time
        self.seen += 1
        try:
            p, b = float(fields[0]), float(fields[n + 1]) if len(fields) == n + 2 else 0.
            if len(fields) not in (n + 1, n + 2) or not p <= 0.01 or math.isnan(b) or b == math.inf:
                raise ValueError
        except (ValueError, IndexError):
            raise BadInput(f'{self.path}: line {number}: expected log10 probability, {n} words and perhaps a '
                           f'back-off weight, got {shown(line)}') from None
        self.keep(fields[1:n + 1], -math.inf if p <= NEVER else min(p, 0)*LN10, max(b, NEVER)*LN10)

    def keep(self, gram, p, b):
        ids = tuple([self.index.get(word, -1) for word in gram])
        if -1 in ids:
            self.dropped.update((word, None) for word, i in zip(gram, ids, strict=True) if i < 0)
        elif START not in gram[1:] and END not in gram[:-1]:  # no sentence goes on after its end
            self.tables[-1][ids] = p, b


def close(tables):
    """Add the prefixes and suffixes that a pruned model lacks, with the probability it gives them anyway."""
    for n in range(len(tables), 2, -1):
        for gram in tables[n - 1]:
            tables[n - 2].setdefault(gram[:-1])
            tables[n - 2].setdefault(gram[1:])
    for n in range(2, len(tables)):
        for gram in [gram for gram, row in tables[n - 1].items() if row is None]:
            tables[n - 1][gram] = backed_off(tables, gram), 0.


def backed_off(tables, gram):
    """ln p of an n-gram without an entry of its own."""
    history = tables[len(gram) - 2].get(gram[:-1])
    weight = history[1] if history else 0.
    return weight + tables[len(gram) - 2][gram[1:]][0]


def arrays(table):
    """{ids: (ln p, ln backoff)} → sorted ids [N, n], ln p [N], ln backoff [N]."""
    grams = sorted(table)
    values = np.array([table[gram] for gram in grams]).reshape(-1, 2)
    n = len(grams[0]) if grams else 1
    return np.array(grams, np.int32).reshape(-1, n), values[:, 0], values[:, 1]
