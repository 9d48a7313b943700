"""What a section has found, as text."""

from hpcasr.bench.table import table

WIDTH = 160  # of what is told of a failure


def lines(name, section):
    """A title, a table for the rows of each kind, and what went wrong."""
    yield f'{name}, {section["seconds"]:.0f} s: {section["what"]}'
    for rows in kinds(section['rows']):
        yield table([{key: cell(value) for key, value in row.items()} for row in rows],
                    {key: (key, '') for key in rows[0]})
    if section.get('trouble'):
        yield f'FAILED (status {section.get("status", "-")}): {section["trouble"].splitlines()[-1][:WIDTH]}'
    yield ''


def kinds(rows):
    """Rows one after the other that have the same keys belong together."""
    groups = []
    for row in rows:
        if groups and groups[-1][0].keys() == row.keys():
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


def cell(value):
    if isinstance(value, bool) or value is None:
        return {True: 'yes', False: 'NO', None: '-'}[value]
    if isinstance(value, float):
        return f'{value:.3g}' if abs(value) < 1000 else f'{value:.0f}'
    return f'{value}'
