"""Where the errors are: by utterance, by speaker, by word, laid out as Kaldi's scoring scripts do."""

from collections import Counter

from hpcasr.decode.score import EPS, NOTHING, Counts, align, operation

COLUMNS = '#SENT', '#WORD', 'Corr', 'Sub', 'Ins', 'Del', 'Err', 'S.Err'
KINDS = {'C': 'correct', 'S': 'substitution', 'I': 'insertion', 'D': 'deletion'}


def shown(word):
    return EPS if word == NOTHING else word


def per_utterance(refs, hyps):
    """Lines: reference, hypothesis and operations below each other, and the counts of c, s, i, d."""
    for name in sorted(refs):
        pairs = align(refs[name], hyps.get(name) or [])
        ops = [operation(*pair) for pair in pairs]
        columns = [[*map(shown, pair), op] for pair, op in zip(pairs, ops, strict=True)]
        widths = [max(map(len, column)) for column in columns]
        for k, what in enumerate(('ref ', 'hyp ', 'op  ')):
            cells = [column[k].center(width) for column, width in zip(columns, widths, strict=True)]
            yield f'{name} {what} {"  ".join(cells)}'.rstrip()
        yield f'{name} #csid {" ".join(str(ops.count(op)) for op in "CSID")}'


def by_speaker(counts, utt2spk):
    """{speaker: Counts}, sorted, of {utterance: Counts}."""
    speakers = {}
    for name, found in counts.items():
        who = utt2spk[name]
        speakers[who] = speakers.get(who, Counts()) + found
    return dict(sorted(speakers.items()))


def speaker_table(speakers):
    """Lines: a row of numbers (raw) and one of percentages (sys) for every speaker and for all."""
    width = max([15, *map(len, speakers)])
    yield f'{"SPEAKER":<{width}} id ' + ''.join(f' {c:>10}' for c in COLUMNS)
    for who, c in [*speakers.items(), ('SUM', sum(speakers.values(), Counts()))]:
        numbers = c.correct, c.sub, c.ins, c.dels, c.errors
        head = f' {c.utterances:10d} {c.words:10d}'
        yield f'{who:<{width}} raw{head}' + ''.join(f' {n:10d}' for n in (*numbers, c.wrong))
        if c.words:
            shares = [*(100*n/c.words for n in numbers), c.ser]
            yield f'{who:<{width}} sys{head}' + ''.join(f' {x:10.2f}' for x in shares)


def operations(refs, hyps):
    """Lines: kind, reference word, hypothesis word, how often; the most frequent errors first, then what is correct."""
    found = Counter(pair for name in refs for pair in align(refs[name], hyps.get(name) or []))
    order = sorted(found, key=lambda pair: (operation(*pair) == 'C', -found[pair], pair))
    width = min(16, max((len(shown(word)) for pair in found for word in pair), default=0))
    for ref, hyp in order:
        yield f'{KINDS[operation(ref, hyp)]:<12}  {shown(ref):>{width}}    {shown(hyp):>{width}}    {found[ref, hyp]}'
