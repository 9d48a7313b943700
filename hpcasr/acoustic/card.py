"""EXP/model.json: what the network of an experiment takes and gives, so that recognition needs nothing but EXP."""

import pathlib

from hpcasr.align.lexicon import Lexicon
from hpcasr.align.tree import Tree
from hpcasr.errors import BadInput
from hpcasr.given import json_of

NAME = 'model.json'
FORMAT = 'hpcasr-model', 1
MOST = 10**15  # of any number
WINDOW = 512  # frames; against whole utterances of speechocean762, windows of 64 took 2.8 times as long


def card(corpus, chunk, recurrent):
    """The dict to write, for a network trained on the Corpus in chunks of `chunk` frames.

    Frames in the midst of an utterance are recognized better than those at the edge of a chunk, and what is computed
    twice costs time: most utterances are one window, and longer audio is cut into windows of WINDOW frames, with
    `chunk` frames more on either side for a network with memory.

    columns, splice, frontend   of the features: before splicing, the frames put side by side, how they were made
    counts                      [K] frames of every target in the training data: the priors
    tree, lexicon               JSON texts, None where the targets came without
    """
    tree, lexicon = (getattr(corpus, what, None) for what in ('tree', 'lexicon'))
    return {'format': FORMAT[0], 'version': FORMAT[1], 'columns': int(corpus.frames.shape[1]),
            'splice': list(corpus.splice), 'frontend': corpus.frontend, 'window': max(WINDOW, 2*chunk),
            'context': chunk*recurrent, 'counts': corpus.counts().tolist(), 'target_names': list(corpus.target_names),
            'tree': tree and tree.dumps(), 'lexicon': lexicon and lexicon.dumps()}


def read_card(folder):
    """The dict of FOLDER/model.json, `tree` and `lexicon` as objects or None.  Raises BadInput."""
    path = pathlib.Path(folder)/NAME
    try:
        found = json_of(path)
        if (found['format'], found['version']) != FORMAT:
            raise ValueError(f'{found["format"]} {found["version"]}')
        require_sound(found)
    except OSError as e:
        raise BadInput(f'{path}: {e.strerror}; give the directory of an experiment that hpcasr train made') from None
    except (ValueError, KeyError, TypeError) as e:
        raise BadInput(f'{path}: not the description of a model ({e}); train again') from None
    found['tree'] = found['tree'] and Tree.loads(found['tree'], path)
    found['lexicon'] = found['lexicon'] and Lexicon.loads(found['lexicon'], path)
    return found


def require_sound(found):
    """KeyError or ValueError unless it is what `card` makes."""
    missing = {'columns', 'splice', 'frontend', 'window', 'context', 'counts', 'tree', 'lexicon'} - set(found)
    if missing:
        raise ValueError(f'says nothing of {", ".join(sorted(missing))}')
    splice, counts = found['splice'], found['counts']
    sound = {'columns': is_number(found['columns']) and found['columns'] > 0,
             'splice': isinstance(splice, list) and len(splice) == 2 and all(map(is_number, splice)),
             'frontend': isinstance(found['frontend'], dict), 'window': is_number(found['window']),
             'context': is_number(found['context']),
             'counts': isinstance(counts, list) and counts and all(map(is_number, counts)),
             'tree': isinstance(found['tree'], str | None), 'lexicon': isinstance(found['lexicon'], str | None)}
    if wrong := [name for name, is_sound in sound.items() if not is_sound]:
        raise ValueError(f'its {wrong[0]} is not what it should be')


def is_number(value):
    return type(value) is int and 0 <= value <= MOST
