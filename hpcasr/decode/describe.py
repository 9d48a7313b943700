"""The phonetic tree and the lexicon that a model goes with."""

from pathlib import Path

from hpcasr.acoustic.card import NAME, read_card
from hpcasr.align.lexicon import Lexicon, read, without_stress
from hpcasr.align.tree import Tree
from hpcasr.errors import BadInput
from hpcasr.given import text_of


def describe(path):
    """(Tree, Lexicon or None) of an alignment directory, an experiment or a store.  Raises BadInput."""
    path = Path(path)
    if path.is_file():
        return of_store(path)
    if (path/'tree.json').is_file():
        return of_alignment(path)
    if (path/NAME).is_file():
        return of_experiment(path)
    raise BadInput(f'{path}: neither a store nor a directory with tree.json (hpcasr align) or model.json '
                   '(hpcasr train)')


def of_store(path):
    from hpcasr.data.store import Store
    store = Store(path)
    return refuse_none(path, store.tree), store.lexicon


def of_alignment(path):
    tree = Tree.loads(content(path/'tree.json'), path/'tree.json')
    lexicon = path/'lexicon.json'
    return tree, Lexicon.loads(content(lexicon), lexicon) if lexicon.is_file() else None


def of_experiment(path):
    card = read_card(path)
    return refuse_none(path, card['tree']), card['lexicon']


def refuse_none(path, tree):
    if tree is None:
        raise BadInput(f'{path}: knows no phonetic tree: its targets are numbers without meaning; align with hpcasr')
    return tree


def content(path):
    try:
        return text_of(path)
    except OSError as e:
        raise BadInput(f'{path}: {e.strerror}') from None
    except UnicodeDecodeError:
        raise BadInput(f'{path}: not UTF-8 text') from None


def another_lexicon(path, tree):
    """The Lexicon of a text file with the phones of `tree`: stress is dropped if the tree knows none."""
    phones = {phone for _, _, pronunciation in read(path) for phone in pronunciation}
    silence = tree.phones[0] if tree.phones[0] in phones else 'SIL'
    stress = any(phone != without_stress(phone) for phone in tree.phones)
    return Lexicon(path, tree.states, silence, stress=stress)
