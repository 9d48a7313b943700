"""The table at the end of a recipe: word error rates of every system on every set."""

from pathlib import Path

import numpy as np

from hpcasr.decode.bootstrap import interval
from hpcasr.decode.score import count_all
from hpcasr.decode.texts import read_texts, write_whole
from hpcasr.errors import BadInput
from hpcasr.given import json_of


def results(recipe, seconds):
    """The table as text, written to OUT/RESULTS too; `seconds` is {stage: seconds} of all that was done."""
    lines = [f'{"system":24} {"set":8} {"%WER":>6}  {"95 % interval":15} {"errors / words":>16}  acwt, penalty']
    lines += [row(recipe, name, paths, test) for name, paths in systems(recipe)
              for test in (recipe.dev, *recipe.test)]
    lines.append(f'{recipe.out}: {len(seconds)} stages, {sum(seconds.values())/60:.1f} minutes')
    text = '\n'.join(lines)
    write_whole(recipe.path('RESULTS'), text + '\n')
    return text


def systems(recipe):
    """[(what to call it, directories of its seeds)]."""
    if recipe.systems:
        yield 'monophone mixtures', [recipe.path('mono')]
        yield 'triphone mixtures', [recipe.path('tri')]
        if recipe.realign:
            yield f'{recipe.realign}, tree', [recipe.path('first')]
    aligned = 'realigned' if recipe.realign else 'tree'
    yield f'{recipe.model}, {aligned}', recipe.networks


def row(recipe, name, paths, test):
    """One line: the mean over the seeds, and the interval of that mean over utterances."""
    scored = [Path(path)/f'decode_{test}'/'scoring' for path in paths]
    counts = [errors(folder) for folder in scored]
    mean = np.mean([[c.errors for c in of.values()] for of in counts], axis=0)
    words = np.array([c.words for c in counts[0].values()])
    low, high = interval(mean, words)
    of = f' (mean of {len(paths)})' if len(paths) > 1 else ''
    return (f'{name + of:24} {test:8} {100*mean.sum()/words.sum():6.2f}  {f"[{low:.1f}, {high:.1f}]":15} '
            f'{f"{mean.sum():.5g} / {words.sum()}":>16}  ' + '; '.join(map(scales, scored)))


def best(folder):
    """What `hpcasr decode score` found best there."""
    try:
        return json_of(folder/'best.json')
    except (OSError, ValueError) as e:
        raise BadInput(f'{folder/"best.json"}: {e}; score again with hpcasr decode score {folder.parent}') from None


def errors(folder):
    """{utterance: Counts} of the best hypotheses."""
    found = best(folder)
    hyp = folder/f'{found["acwt"]:g}_{found["penalty"]:g}.txt'
    return count_all(read_texts(folder/'ref.txt'), read_texts(hyp), hyp)


def scales(folder):
    found = best(folder)
    return f'{found["acwt"]:g}, {found["penalty"]:g}'
