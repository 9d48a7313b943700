"""A matrix from its factors (reference/factors.py), row by row, with the same bits."""

from hpcasr.kernels.cpu.compiled import compiled


@compiled('void(f4[:, ::1], f4[:, ::1], f4[:, ::1])')
def product(P, columns, out):
    """As reference.product."""
    for i in range(len(P)):
        row, column, p = out[i], columns[0], P[i, 0]
        for j in range(len(row)):
            row[j] = p*column[j]
        for k in range(1, len(columns)):
            column, p = columns[k], P[i, k]
            for j in range(len(row)):
                row[j] += p*column[j]
