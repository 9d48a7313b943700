"""Sentences to estimate and to test language models with."""

from hpcasr.data.kaldi import lines, shown, words
from hpcasr.decode.ngram import END, START
from hpcasr.errors import BadInput


class Text:
    """Sentences of a file, one per line, without <s> and </s>; empty ones are left out.  Without any: BadInput.

    kaldi      whether lines begin with an utterance id, as Kaldi's `text`
    sentences  [[word]]
    """

    def __init__(self, path, kaldi=False):
        self.path, self.kaldi = path, kaldi
        rows = ([word for word in words(line)[kaldi:] if word not in (START, END)] for _, line in lines(path))
        self.sentences = [row for row in rows if row]
        if not self.sentences:
            raise BadInput(f'{path}: has no sentences')

    def known_as(self, vocabulary, oov=None):
        """The sentences, with `oov` in place of words that are not in the set `vocabulary`; None: they stay."""
        if oov not in vocabulary:
            return self.sentences
        return [[word if word in vocabulary else oov for word in sentence] for sentence in self.sentences]

    def unknown(self, vocabulary):
        """What there is to say about words that are not in the vocabulary; '' if there are none."""
        missing = [word for sentence in self.sentences for word in sentence if word not in vocabulary]
        if not missing:
            return ''
        total = sum(map(len, self.sentences))
        return (f'{self.path}: {len(missing)} of {total} words are not in the lexicon, first {shown(missing[0], 50)}'
                + self.advice(vocabulary))

    def advice(self, vocabulary):
        ids = not self.kaldi and not any(sentence[0] in vocabulary for sentence in self.sentences)
        return '; if every line begins with an utterance id, add --kaldi-text' if ids else ''
