"""The assignment problem: a column for each row, none twice, at the least sum of costs."""

from __future__ import annotations

import numpy as np


def assigned(costs: np.ndarray) -> np.ndarray:
    """The column of each row (n,) of costs (n, m), of a choice whose sum none undercuts; -1 for n - m rows, if n > m.

    Shortest augmenting paths (Jonker & Volgenant 1987; Crouse 2016, IEEE Transactions on Aerospace and Electronic
    Systems 52(4)): n² steps at most, each over all columns.
    """
    n, m = costs.shape
    if n > m:
        columns = np.full(n, -1)
        columns[assigned(costs.T)] = np.arange(m)
        return columns
    of_row, of_column = np.full(n, -1), np.full(m, -1)
    u, v = np.zeros(n), np.zeros(m)
    for start in range(n):
        shortest, before = np.full(m, np.inf), np.full(m, -1)
        done_rows, done_columns = np.zeros(n, bool), np.zeros(m, bool)
        row, least = start, 0.0
        while True:
            done_rows[row] = True
            reached = least + costs[row] - u[row] - v
            nearer = ~done_columns & (reached < shortest)
            shortest[nearer], before[nearer] = reached[nearer], row
            open_ = np.where(done_columns, np.inf, shortest)
            least = float(open_.min())
            ties = np.flatnonzero(open_ == least)
            free = ties[of_column[ties] < 0]
            column = int(free[0] if len(free) else ties[0])
            done_columns[column] = True
            if of_column[column] < 0:
                break
            row = int(of_column[column])
        u[start] += least
        others = np.flatnonzero(done_rows & (np.arange(n) != start))
        u[others] += least - shortest[of_row[others]]
        v[done_columns] -= least - shortest[done_columns]
        while True:  # back along the path
            row = int(before[column])
            of_column[column] = row
            of_row[row], column = column, int(of_row[row])
            if row == start:
                break
    return of_row
