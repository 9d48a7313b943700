"""Figures as text."""


def table(rows, columns):
    """One line per row, after one of titles.  columns: {key: (title, format)}, the first column to the left."""
    titles = [title for title, _ in columns.values()]
    cells = [titles] + [[format(row[key], form) for key, (_, form) in columns.items()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return '\n'.join('  '.join(align(k, cell, w) for k, (cell, w) in enumerate(zip(line, widths, strict=True)))
                     for line in cells)


def align(k, cell, width):
    return cell.rjust(width) if k else cell.ljust(width)
