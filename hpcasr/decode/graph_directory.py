"""A decoding graph on disk: HCLG.fst, words.txt, phones.txt, lm.arpa and, written last, graph.json."""

import hashlib
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from hpcasr.data.beside import beside, refuse_files
from hpcasr.data.kaldi import shown
from hpcasr.decode.arpa import read_arpa, write_arpa
from hpcasr.decode.describe import another_lexicon, describe
from hpcasr.decode.fst import from_kaldifst
from hpcasr.decode.graph import Options, build
from hpcasr.decode.kneser_ney import estimate
from hpcasr.decode.lang import Language
from hpcasr.decode.search import tree_digest
from hpcasr.decode.sentences import Text
from hpcasr.errors import BadInput

FORMAT = 'hpcasr-graph', 1
OWN = 'HCLG.fst', 'words.txt', 'phones.txt', 'lm.arpa', 'graph.json'


@dataclass(frozen=True)
class Request:
    """What graph of which model; either `text` or `arpa` is given.

    model      alignment directory, experiment or store;  out  directory to write
    text       file of sentences, from which a model of `order` is estimated; `kaldi_text`: with utterance ids
    arpa       file of an n-gram model
    test_text  file of sentences to compute the perplexity of, with or without ids as `text`; None: none
    lexicon    text file in place of the model's lexicon; None: that
    """

    model: str
    out: str
    text: str | None = None
    arpa: str | None = None
    order: int = 2
    kaldi_text: bool = False
    test_text: str | None = None
    lexicon: str | None = None
    force: bool = False


def make_graph(request, options: Options, provenance, note):
    """Write the graph directory; return what graph.json says.  `note` is called with lines for the user.

    Raises BadInput, leaving nothing behind.
    """
    out = Path(request.out)
    refuse_files(out, OWN, 'the graph', request.force)
    tree, lexicon, language = understand(request)
    model, facts = language_model(request, language, lexicon.oov, note)
    with beside(out) as folder:
        HCLG = named(request.arpa or request.text, build, tree, language, model, options)
        facts = {'format': FORMAT[0], 'version': FORMAT[1], 'num_pdfs': tree.num_pdfs, 'tree': tree_digest(tree),
                 **asdict(options), **sizes(HCLG), 'words': len(language.words), **facts, 'provenance': provenance}
        write(folder, HCLG, language, model, facts)
        move(folder, out)
    return facts


def understand(request):
    """Tree, Lexicon, Language."""
    tree, lexicon = describe(request.model)
    if request.lexicon:
        lexicon = another_lexicon(request.lexicon, tree)
    if lexicon is None:
        raise BadInput(f'{request.model}: knows no lexicon; name one with --lexicon')
    return tree, lexicon, Language(lexicon.variants, tree.phones, request.lexicon or f'lexicon of {request.model}')


def language_model(request, language, oov, note):
    """The NGram over the words of the language, and facts about it."""
    known = set(language.words)
    if request.arpa:
        model, facts = from_arpa(request.arpa, language, note), {}
    else:
        text = Text(request.text, request.kaldi_text)
        if missing := text.unknown(known):
            note(missing)
        model = named(text.path, estimate, text.known_as(known, oov), language.words, request.order)
        facts = {'perplexity': asdict(model.perplexity(text.known_as(known, oov)))}
    if request.test_text:
        test = Text(request.test_text, request.kaldi_text)
        facts['test_perplexity'] = asdict(model.perplexity(test.sentences))
    return model, {'order': model.order, **facts}


def named(path, function, *arguments):
    """What the function returns; its BadInput begins with the path."""
    try:
        return function(*arguments)
    except BadInput as e:
        raise BadInput(f'{path}: {e}') from None


def from_arpa(path, language, note):
    model, dropped = read_arpa(path, language.words)
    if dropped:
        note(f'{path}: {len(dropped)} of its words are not in the lexicon and left out, first {shown(dropped[0], 50)}')
    return model


def sizes(fst):
    return from_kaldifst(fst).sizes


def write(folder, HCLG, language, model, facts):
    if not HCLG.write(str(folder/'HCLG.fst')):
        raise BadInput(f'{folder}/HCLG.fst: cannot be written; make room')
    write_table(folder/'words.txt', language.words_table())
    write_table(folder/'phones.txt', language.phones_table())
    write_arpa(model, folder/'lm.arpa')
    with open(folder/'HCLG.fst', 'rb') as f:
        facts['sha256'] = hashlib.file_digest(f, 'sha256').hexdigest()
    (folder/'graph.json').write_text(json.dumps(facts, indent=1) + '\n')


def write_table(path, names):
    """Kaldi's symbol table: `name label`."""
    path.write_text(''.join(f'{name} {label}\n' for label, name in enumerate(names)), 'utf-8')


def move(folder, out):
    """At once if `out` is new; else graph.json goes first and comes last, so that no mixture looks whole."""
    if not out.exists():
        return os.rename(folder, out)
    (out/'graph.json').unlink(missing_ok=True)
    for name in OWN:
        os.replace(folder/name, out/name)
