"""``report.tex``: the tables as a document that compiles, to copy into a paper. It needs only booktabs."""

from __future__ import annotations

import re
from collections.abc import Sequence

from mer_ray.evaluation.escape import latex_text
from mer_ray.evaluation.metric_tables import HEADS, LEGEND, Cells, Table

_MINUS = re.compile(r"(?<![\w.])-(?=\d)")
_HEAD = r"""\documentclass[a4paper,landscape]{article}
\usepackage[margin=15mm]{geometry}
\usepackage{booktabs}
\begin{document}
"""


def latex(tables: Sequence[Table]) -> str:
    """One table with all figures per dimension, then the form of the original."""
    parts = [_HEAD]
    for table in tables:
        rows = [[*cells, (row.verdict, False)] for cells, row in zip(table.cells(), table.rows, strict=True)]
        heads = ["Network", "Feature", *HEADS.values(), "Verdict"]
        caption = f"{table.title}. {table.caption} {LEGEND}"
        parts.append(_table(heads, rows, "ll" + "r" * len(HEADS) + "l", caption, f"tab:{table.stem}"))
    for table in (t.as_in_the_original() for t in tables):
        if table.rows:
            cells = table.cells(["mse", "mae"], intervals=[])
            label = f"tab:{table.stem}-original"
            parts.append(_table(["Network", "Feature", "MSE", "MAE"], cells, "llrr", table.caption, label))
    return "\n".join([*parts, r"\end{document}", ""])


def _table(heads: Sequence[str], rows: Cells, columns: str, caption: str, label: str) -> str:
    body = [_line([(head, False) for head in heads]), r"\midrule", *map(_line, rows)]
    # The font's size is set for the tabular alone, so that the caption stays readable.
    lines = [
        r"\begin{table}[htbp]",
        r"\centering",
        rf"\caption{{{latex_text(caption, 4_000)}}}",
        rf"\label{{{label}}}",
        r"{\scriptsize\setlength{\tabcolsep}{3pt}",
        rf"\begin{{tabular}}{{{columns}}}",
        r"\toprule",
        *body,
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]
    return "\n".join(lines) + "\n"


def _line(cells: Sequence[tuple[str, bool]]) -> str:
    # A bracket at the start of a row would be read as an argument of the \\ before it.
    shown = [(latex_text(_MINUS.sub("−", text)), bold) for text, bold in cells]
    texts = [rf"\textbf{{{text}}}" if bold else f"{{{text}}}" for text, bold in shown]
    return " & ".join(texts) + r" \\"
