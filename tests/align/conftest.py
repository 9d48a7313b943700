import numpy as np
import pytest

from hpcasr.align.lexicon import Lexicon
from hpcasr.data.store import StoreWriter, Utterances

LEXICON = 'TEA T IY0\nTEA T EY1\nEAT IY1 T\nA EY1\n<UNK> SPN\n'


@pytest.fixture
def lexicon_file(tmp_path):
    path = tmp_path/'lexicon.txt'
    path.write_text(LEXICON)
    return path


@pytest.fixture
def lexicon(lexicon_file):
    """Phones SIL EY IY SPN T, two states each; TEA has two pronunciations."""
    return Lexicon(lexicon_file, states=2, stress=False)


@pytest.fixture
def speech(tmp_path, lexicon):
    """speech(name, texts) -> path of a store without targets: phones sound different, with silence around words.

    Also returns for every utterance the phones [T] that were spoken.
    """
    def write(name, texts, seed=0, dim=4, length=4, **options):
        rng = np.random.default_rng(seed)
        spoken = [np.repeat(order(rng, text.split(), lexicon), length) for text in texts]
        who = Utterances([f'u{i:03d}' for i in range(len(texts))], [len(s) for s in spoken], [0]*len(texts), ['s'],
                         texts)
        means = 4*np.random.default_rng(99).standard_normal((2*len(lexicon.phones), dim))
        with StoreWriter(tmp_path/name, who, dim, **options) as w:
            for phones in spoken:
                halves = 2*phones + (np.arange(len(phones)) % length >= length//2)
                w.append(means[halves] + rng.standard_normal((len(phones), dim)))
        return str(tmp_path/name), spoken
    return write


def order(rng, words, lexicon):
    """Phones of the words as they might be said: any pronunciation, silence around and sometimes between."""
    said = [0]
    for word in words:
        variants = lexicon.variants[word]
        said += [lexicon.index[p] for p in variants[rng.integers(len(variants))][1]]
        said += [0]*(rng.random() < 0.5)
    return np.array(said + [0]*(said[-1] != 0))


@pytest.fixture
def texts():
    rng = np.random.default_rng(5)
    return [' '.join(rng.choice(['TEA', 'EAT', 'A'], rng.integers(1, 5))) for _ in range(40)]
