"""Rows as the OSU micro-benchmarks print them: the size and the first figure stand where theirs do."""

FIRST, SIZE, OTHER = 20, 10, 16  # characters of a column


def head(test):
    """The title of one test and those of its columns."""
    turns = ', '.join(f'{key} {value}' for key, value in test.turns.items())
    yield f'# {test.title}{f" ({turns})" if turns else ""}'
    titles = ''.join(title.rjust(FIRST if k == 0 else OTHER) for k, (title, *_) in enumerate(test.columns))
    yield f'# {"" if is_sizeless(test) else "Size".ljust(SIZE - 2)}{titles}'.rstrip()


def line(test, row):
    cells = [format(row[key], form).rjust(FIRST if k == 0 else OTHER)
             for k, (_, key, form) in enumerate(test.columns)]
    return ('' if is_sizeless(test) else str(row['size']).ljust(SIZE)) + ''.join(cells)


def is_sizeless(test):
    return test.fixed == (0,)
