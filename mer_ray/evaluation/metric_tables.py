"""The metric tables: one per dimension, the constants first, the best figures in bold."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from mer_ray.evaluation import protocol
from mer_ray.evaluation.escape import markdown_text
from mer_ray.evaluation.judge import FLAT, Row
from mer_ray.evaluation.metrics import INDEX, METRICS, Metrics
from mer_ray.features.joined import part_names
from mer_ray.io.cells import guard

NAMES = {"vggish": "VGGish", "yamnet": "YAMNet", "musicnn": "musicnn", "logmel": "log-mel"}
PLAIN = ("-", "constant mean", "constant median", "ridge", "kernel", "chroma", "spectral", "rhythm", "tonal")
HEADS = {name: metric.heading for name, metric in METRICS.items()}
TERMINAL_HEADS = ["Network", "Feature", *("R² [95 %]" if head == "R²" else head for head in HEADS.values()), ""]
"""Of `terminal_rows`."""
ORIGINAL = ("cnn", "lstm")
"""The networks of the original's table."""

Cells = list[list[tuple[str, bool]]]
"""Text and whether it is bold, per row and column."""


def display(name: str) -> str:
    """``mfcc`` → MFCC, ``vggish`` → VGGish, ``logmel+chroma`` → log-mel + chroma; words as they are."""
    return " + ".join(part if part in PLAIN else NAMES.get(part, part.upper()) for part in part_names(name))


def heading(dimension: str) -> str:
    """``valence`` → Valence, ``tension_energy`` → Tension energy."""
    return dimension.replace("_", " ").capitalize()


def number(figure: str, value: float) -> str:
    """Errors with four digits, others with three; – for NaN."""
    if math.isnan(value):
        return "–"
    digits = METRICS[figure].decimals
    return f"{round(value, digits) + 0.0:.{digits}f}"  # + 0.0: no -0.000


def ends(figure: str, interval: Sequence[float]) -> str:
    """``[0.0102, 0.0158]``, or "" for NaN."""
    lower, upper = interval
    return "" if math.isnan(lower) else f"[{number(figure, lower)}, {number(figure, upper)}]"


def with_ends(figure: str, value: float, interval: Sequence[float]) -> str:
    """``0.0123 [0.0102, 0.0158]``."""
    return f"{number(figure, value)} {ends(figure, interval)}".strip()


@dataclass(frozen=True)
class Table:
    """One dimension's rows, and their caption.

    kind: see `evaluation.protocol`. scale: the lowest and highest rating, where they are not 0 and 1.
    """

    dimension: str
    rows: Sequence[Row]
    caption: str
    kind: str = protocol.GROUPS
    scale: Sequence[float] | None = None

    @property
    def title(self) -> str:
        """``Valence``, or ``Valence, given test set``."""
        return heading(self.dimension) + protocol.SHORT[self.kind]

    @property
    def stem(self) -> str:
        """``valence``, or ``valence.test``: the beginning of its pictures' names, and its label."""
        return self.dimension + protocol.SUFFIX[self.kind]

    def cells(self, names: Sequence[str] = tuple(METRICS), intervals: Sequence[str] = tuple(METRICS)) -> Cells:
        """Network, feature, and the metrics ``names``. All rows with the best number, as rounded, are bold.

        intervals: the metrics with an interval.
        """
        out: Cells = [[(display(row.network), False), (display(row.feature), False)] for row in self.rows]
        for name in names:
            column = INDEX[name]
            shown = [number(name, row.metrics[name]) for row in self.rows]
            sign = 1 if METRICS[name].smaller_is_better else -1
            values = [math.nan if text == "–" else sign * float(text) for text in shown]
            best = min((v for v in values if not math.isnan(v)), default=math.nan)
            for i, row in enumerate(self.rows):
                text = f"{shown[i]} {ends(name, row.intervals[column])}" if name in intervals else shown[i]
                out[i].append((text.strip(), values[i] == best))
        return out

    def as_in_the_original(self) -> Table:
        """Only the rows of the original's table."""
        return replace(self, rows=[r for r in self.rows if r.network in ORIGINAL], caption=self.constants())

    def constants(self) -> str:
        """The constants' errors in words, for comparison."""
        parts = [
            f"a {r.network} has MSE {number('mse', r.metrics['mse'])}, MAE {number('mae', r.metrics['mae'])}"
            for r in self.rows
            if r.constant
        ]
        return f"{self.title}: {'; '.join(parts)}."

    def remarks(self) -> list[str]:
        """The verdicts as sentences, for tables without a column of them."""
        kinds: list[tuple[str, Callable[[Row], bool]]] = [
            ("≈ not distinguishable from the best", lambda r: r.near_best),
            ("Predicts the mean", lambda r: r.flat),
            ("Not better than the mean", lambda r: r.beats_mean is False and not r.flat),
        ]
        named = [(remark, [name(row) for row in self.rows if holds(row)]) for remark, holds in kinds]
        return [f"{remark}: {', '.join(names)}." for remark, names in named if names]


def name(row: Row) -> str:
    """``CNN on MFCC``, ``constant mean``."""
    return display(row.network) if row.constant else f"{display(row.network)} on {display(row.feature)}"


LEGEND = (
    "In brackets: 95 % intervals, bootstrap over groups. R² is against the mean of these labels. "
    "≈: the interval of the difference in MSE from the best row, that of the highest R², includes 0. "
    "Not better than the mean: the interval of the difference in MSE from the constant mean is not below 0. "
    f"Predicts the mean: the predictions vary by less than {FLAT * 100:g} % of the label SD. "
    "Each of these is one comparison, not corrected for their number."
)


@dataclass(frozen=True)
class Protocol:
    """How the figures of a table came about: one of `evaluation.protocol`, its folds, and the seeds of the repeats.

    parts: For a given test set, the number of tracks of ``train`` and ``valid``.
    """

    kind: str
    folds: int
    seeds: Sequence[int]
    parts: Mapping[str, int]

    @classmethod
    def of(cls, described: Mapping[str, Any], repeats: int) -> Protocol:
        """That of a run's ``model.json``."""
        details = described["details"]
        settings = details["settings"]
        return cls(
            protocol.of(settings), settings["folds"], protocol.seeds(settings, repeats), details.get("parts", {})
        )

    def __str__(self) -> str:
        seeds = protocol.in_words(list(self.seeds))
        seeds = f"means over {len(self.seeds)} repeats ({seeds})" if len(self.seeds) > 1 else seeds
        if self.kind == protocol.TEST:
            parts = " and ".join(f"{self.parts[k]:,} of {k}" for k in ("train", "valid") if self.parts.get(k))
            return f"given test set, other tracks: {parts}; {seeds}"
        return f"out-of-fold, {self.folds} {'given ' if self.kind == protocol.FOLDS else ''}folds, {seeds}"


def caption(n: int, n_all: int, artists: int, groups: int, label_sd: float, how: Protocol) -> str:
    """The caption of a table of n tracks, of n_all that have any label; `LEGEND` explains the rest."""
    some = f" that have this label, of {n_all:,}," if n < n_all else ""
    sides = ", none on both sides" if how.kind == protocol.GROUPS else ""
    return f"{n:,} tracks{some} by {artists:,} artists, label SD {label_sd:.3f}; {how}; {groups:,} groups{sides}."


def lines(heads: Sequence[str], rows: Cells, n_texts: int = 2, last_is_text: bool = False) -> list[str]:
    """A Markdown table; its first n_texts columns, and the last one if it is text, are escaped, numbers are not."""
    texts = [i < n_texts or (last_is_text and i == len(heads) - 1) for i in range(len(heads))]
    aligned = ["---" if text else "---:" for text in texts]
    plain = [[markdown_text(cell) if texts[i] else cell for i, (cell, _) in enumerate(row)] for row in rows]
    shown = [
        [f"**{text}**" if bold and text else text for text, (_, bold) in zip(line, row, strict=True)]
        for line, row in zip(plain, rows, strict=True)
    ]
    return [f"| {' | '.join(line)} |" for line in (heads, aligned, *shown)]


def markdown(table: Table) -> str:
    """A section with the table, intervals and verdicts, and its caption."""
    rows = [[*cells, (row.verdict, False)] for cells, row in zip(table.cells(), table.rows, strict=True)]
    heads = ["Network", "Feature", *HEADS.values(), "Verdict"]
    section = [f"### {table.title}", "", *lines(heads, rows, last_is_text=True)]
    return "\n".join([*section, "", markdown_text(table.caption, 4_000)])


def original_markdown(tables: Sequence[Table]) -> str:
    """The table of the original: Network, Feature, MSE, MAE; the best in bold. "" without such rows."""
    shown = [table for table in (t.as_in_the_original() for t in tables) if table.rows]
    parts = ["## As in the original"] if shown else []
    for table in shown:
        rows = table.cells(["mse", "mae"], intervals=[])
        parts += ["", *lines(["Network", "Feature", "MSE", "MAE"], rows), "", markdown_text(table.caption)]
    return "\n".join(parts)


def differences_markdown(tables: Sequence[Table]) -> str:
    """The differences of networks and the SVR on pooled statistics of their feature. "" without an SVR."""
    rows: Cells = []
    for table in tables:
        for row in table.rows:
            if row.over_svr is not None:
                value, lower, upper = row.over_svr
                word = "better" if lower > 0 else "worse" if upper < 0 else "not distinguishable: includes 0"
                texts = [name(row), table.dimension, f"{value:+.3f}", f"[{lower:+.3f}, {upper:+.3f}]", word]
                rows.append([(text, False) for text in texts])
    if not rows:
        return ""
    heads = ["Network", "Dimension", "Difference in R²", "95 % interval", "Than the SVR"]
    about = "R² of each network less that of the SVR on mean and SD of the same feature, paired, same tracks and folds."
    return "\n".join(["## Differences from the SVR", "", about, "", *lines(heads, rows, last_is_text=True)])


def to_csv(tables: Sequence[Table]) -> str:
    """Every figure in full precision with its interval, and the verdicts: one line per row of each table."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    limits = [f"{figure}_{end}" for figure in METRICS for end in ("lower", "upper")]
    flags = ["best", "near_best", "beats_mean", "predicts_mean", "verdict"]
    columns = ["dimension", "network", "feature", *METRICS, "n", "label_sd", *limits, "spread", *flags, "split"]
    columns += ["scale", "rmse_on_scale", "mae_on_scale"]
    writer.writerow(columns)
    for table in tables:
        for row in table.rows:
            m = row.metrics
            feature = row.feature if row.feature == "-" else guard(row.feature)  # a constant has none
            flags_of = [row.best, row.near_best, row.beats_mean, row.flat]
            writer.writerow(
                [table.dimension, row.network, feature, *map(repr, m.values.tolist()), m.n, repr(m.label_sd)]
                + [*map(repr, row.intervals.ravel().tolist()), repr(row.spread)]
                + ["" if flag is None else str(flag).lower() for flag in flags_of]
                + [row.verdict, table.kind, *_on_scale(m, table.scale)]
            )
    return out.getvalue()


def scale_in_words(scale: Sequence[float]) -> str:
    """``1..9``, ``-1..1``."""
    return f"{scale[0]:g}..{scale[1]:g}"


def _on_scale(m: Metrics, scale: Sequence[float] | None) -> list[str]:
    if scale is None:
        return ["", "", ""]
    return [scale_in_words(scale), *(repr(m[name] * (scale[1] - scale[0])) for name in ("rmse", "mae"))]


def terminal_rows(table: Table) -> Cells:
    """Network, feature, figures with the interval of R² alone, and ≈: narrow enough for a terminal."""
    return [
        [*cells, ("≈" if row.near_best else "", False)]
        for cells, row in zip(table.cells(intervals=["r2"]), table.rows, strict=True)
    ]
