"""A report on labels: histograms, correlations, the V–A plane, known and unknown tags; Markdown and PNG.

Statistics are accumulated batch by batch, in constant memory.
"""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mer_ray.evaluation.escape import markdown_text
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.labels.columns import Tags
from mer_ray.labels.lexicon import fold
from mer_ray.labels.terms import Matcher

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BINS = 1_000  # of histograms, from which quantiles are read to 0.001
CELLS = 40
MOST_TERMS = 30
_MAX_TAGS = 1_000_000
_LISTED = 25
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
_CONSTANT = 1e-18
"""A smaller variance is due to rounding."""


class Statistics:
    """Sums over labels and tags, of D dimensions. All values are in 0..1.

    Attributes:
        n: Labels.
        own: Those that are the source's own.
        known: (D, D), labels that have both dimensions; on the diagonal, those that have it.
        sums: (D, D), of dimension i less 1/2, over labels that have i and j.
        squares: (D, D), of i less 1/2, squared, over these.
        products: (D, D), of both less 1/2, over these.
        values, errors: (D, BINS), histograms of labels and their standard errors.
        plane: (3, CELLS, CELLS), labels in the plane of two dimensions (`axes`), the sum of a third over them, and how
            many have that.
        curves, points: Labels over time, by dimension: how many tracks have one, and their points.
        coverage, n_terms: Histograms.
        tags: Folded name → (uses, weight).
    """

    def __init__(self, dimensions: Sequence[str] = DIMENSIONS) -> None:
        size = len(dimensions)
        self.dimensions = tuple(dimensions)
        self.n = self.own = 0
        self.known, self.sums, self.squares, self.products = (np.zeros((size, size)) for _ in range(4))
        self.values, self.errors = (np.zeros((size, BINS), np.int64) for _ in range(2))
        self.coverage = np.zeros(BINS, np.int64)
        self.n_terms = np.zeros(MOST_TERMS + 1, np.int64)
        self.plane = np.zeros((3, CELLS, CELLS))
        self.curves = Counter[str]()
        self.points = Counter[str]()
        self.tags: dict[str, tuple[int, float]] = {}

    @property
    def columns(self) -> list[str]:
        """Columns of ``labels`` that `add_labels` needs."""
        return [*self.dimensions, *(f"se_{d}" for d in self.dimensions), "coverage", "n_matched", "curves"]

    @property
    def axes(self) -> tuple[int, ...]:
        """The dimensions of the plane, and of its colour: valence, arousal and dominance, else the first ones."""
        order = [self.dimensions.index(d) for d in DIMENSIONS[:2] if d in self.dimensions]
        order = order if len(order) == 2 else []
        return tuple(dict.fromkeys([*order, *range(len(self.dimensions))]))[:3]

    def add_labels(self, labels: pa.Table) -> None:
        """Add rows of ``labels``, with `columns`."""
        own, se = (
            np.stack([labels[p + d].to_numpy().astype(float) for d in self.dimensions], axis=1) for p in ("", "se_")
        )
        coverage, n_terms = labels["coverage"].to_numpy().astype(float), labels["n_matched"].to_numpy()
        self.n += len(own)
        self.own += int((n_terms == 0).sum())  # of tags there would be one
        has = ~np.isnan(own)
        centred = np.where(has, own - 0.5, 0.0)
        self.known += has.T.astype(float) @ has
        self.sums += centred.T @ has
        self.squares += (centred**2).T @ has
        self.products += centred.T @ centred
        for i in range(len(self.dimensions)):
            self.values[i] += _histogram(own[:, i])
            self.errors[i] += _histogram(se[:, i])
        self.coverage += _histogram(coverage)
        self.n_terms += np.bincount(np.minimum(n_terms[n_terms > 0], MOST_TERMS), minlength=MOST_TERMS + 1)
        self._add_plane(own)
        over_time = pc.list_flatten(labels["curves"])
        if len(over_time):
            lengths = pc.list_value_length(pc.struct_field(over_time, "value")).to_pylist()
            for name, n in zip(pc.struct_field(over_time, "dimension").to_pylist(), lengths, strict=True):
                self.curves[name] += 1
                self.points[name] += n or 0

    def _add_plane(self, own: np.ndarray) -> None:
        if len(self.axes) < 2:
            return
        x, y, *third = self.axes
        inside = own[~np.isnan(own[:, [x, y]]).any(axis=1)]
        cell = np.minimum((inside[:, [x, y]] * CELLS).astype(np.int64), CELLS - 1)
        flat = cell[:, 0] * CELLS + cell[:, 1]
        self.plane[0] += np.bincount(flat, minlength=CELLS**2).reshape(CELLS, CELLS)
        if third:
            colour = inside[:, third[0]]
            has = ~np.isnan(colour)
            self.plane[1] += np.bincount(flat[has], colour[has], CELLS**2).reshape(CELLS, CELLS)
            self.plane[2] += np.bincount(flat[has], minlength=CELLS**2).reshape(CELLS, CELLS)

    def add_tags(self, tags: Tags) -> None:
        """Add the tags of tracks: the number and weight of each spelling, without case."""
        usable = np.isfinite(tags.weights) & (tags.weights > 0)
        codes = tags.codes[usable]
        counts = np.bincount(codes, minlength=len(tags.names)).tolist()
        weights = np.bincount(codes, tags.weights[usable], len(tags.names)).tolist()
        for name, count, weight in zip(tags.names, counts, weights, strict=True):
            form = fold(name)
            before = self.tags.get(form)
            self.tags[form] = (count, weight) if before is None else (before[0] + count, before[1] + weight)
        if len(self.tags) > _MAX_TAGS:
            frequent = sorted(self.tags.items(), key=lambda item: -item[1][1])[: _MAX_TAGS // 2]
            self.tags = dict(frequent)

    @property
    def mean(self) -> np.ndarray:
        """Of each dimension: (D,), NaN where there is no label."""
        with np.errstate(invalid="ignore", divide="ignore"):
            out: np.ndarray = np.diag(self.sums) / np.diag(self.known) + 0.5
        return out

    @property
    def deviation(self) -> np.ndarray:
        """SD of each dimension, with n - 1: (D,), NaN under two labels."""
        return np.array(np.sqrt(np.diag(self._variance())))

    @property
    def correlation(self) -> np.ndarray:
        """Over the labels that have both dimensions: (D, D), NaN where one of them is constant."""
        variance = self._variance()
        with np.errstate(invalid="ignore", divide="ignore"):
            shared = (self.products - self.sums * self.sums.T / self.known) / (self.known - 1)
            out: np.ndarray = shared / np.sqrt(variance * variance.T)
        out[~np.isfinite(out)] = np.nan
        return out

    def _variance(self) -> np.ndarray:
        """(D, D), of dimension i over the labels that have i and j; 0 for rounding errors of a constant."""
        with np.errstate(invalid="ignore", divide="ignore"):
            out: np.ndarray = (self.squares - self.sums**2 / self.known) / (self.known - 1)
        out[self.known < 2] = np.nan
        return np.where(out < _CONSTANT, 0.0, out)


def _histogram(values: np.ndarray) -> np.ndarray:
    known = values[~np.isnan(values)]
    return np.bincount(np.clip((known * BINS).astype(np.int64), 0, BINS - 1), minlength=BINS)


def quantile(histogram: np.ndarray, share: float) -> float:
    """The quantile ``share`` of a histogram of 0..1, to the width of a bin; NaN if it is empty."""
    total = histogram.sum()
    if not total:
        return float("nan")
    up_to = np.cumsum(histogram)
    at = int(np.searchsorted(up_to, share * total))
    at = min(at, len(histogram) - 1)
    inside = (share * total - (up_to[at] - histogram[at])) / max(histogram[at], 1)
    return float((at + np.clip(inside, 0, 1)) / len(histogram))


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], n_texts: int = 1) -> list[str]:
    """Lines of a table whose first n_texts columns are text, the others numbers."""
    rule = ["---"] * n_texts + ["---:"] * (len(head) - n_texts)
    return [f"| {' | '.join(line)} |" for line in (head, rule, *rows)] + [""]


def _number(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.3f}"


def markdown(statistics: Statistics, matcher: Matcher | None, failures: Mapping[str, int]) -> str:
    """The report. matcher: of the tags, if any. failures: reason → tracks."""
    s, about = statistics, ""
    if matcher is not None:
        low, high = matcher.lexicon.scale
        lexicon = markdown_text(matcher.lexicon.name, 120)
        about = f"Lexicon {lexicon} ({len(matcher.lexicon):,} terms, scale {low:g}..{high:g}), recipe {matcher.recipe}."
    lines = ["# Labels", "", f"{s.n:,} labels, {s.own:,} of them given by the source. {about}", ""]
    lines += ["![Histograms, the plane of two dimensions, coverage and number of terms](labels.png)", ""]
    there = [i for i in range(len(s.dimensions)) if s.known[i, i]]
    heads = [d.capitalize().replace("_", " ") for d in s.dimensions]
    named = [heads[i] for i in there]
    lines += [f"## {', '.join([*named[:1], *(h.lower() for h in named[1:])])}", ""]
    lines += _table(
        ["", "Labels", "Mean", "SD", *(f"{100 * q:.0f} %" for q in _QUANTILES), "Median standard error"],
        [
            [heads[i], f"{s.known[i, i]:,.0f}", _number(s.mean[i]), _number(s.deviation[i])]
            + [_number(quantile(s.values[i], q)) for q in _QUANTILES]
            + [_number(quantile(s.errors[i], 0.5))]
            for i in there
        ],
    )
    if absent := [d.replace("_", " ") for i, d in enumerate(s.dimensions) if i not in there]:
        lines += [f"No track has a label of {' or '.join(absent)}.", ""]
    lines += ["Correlations over the labels that have both:", ""]
    lines += _table(["", *named], [[heads[i], *map(_number, s.correlation[i, there])] for i in there])
    if s.curves:
        lines += ["## Labels over time", ""]
        rows = [[h, f"{s.curves[d]:,}", f"{s.points[d]:,}"] for h, d in zip(heads, s.dimensions, strict=True)]
        lines += _table(["", "Tracks", "Points"], [row for row in rows if row[1] != "0"])
    if matcher is not None:
        lines += _about_tags(s, matcher)
    lines += ["## Tracks without a label", ""]
    if failures:
        lines += _table(["Reason", "Tracks"], [[markdown_text(r), f"{n:,}"] for r, n in sorted(failures.items())])
    else:
        lines += ["None.", ""]
    return "\n".join(lines)


def _about_tags(s: Statistics, matcher: Matcher) -> list[str]:
    read = [(tag, count, weight, matcher.read(tag)) for tag, (count, weight) in s.tags.items()]
    total = sum(weight for _, _, weight, _ in read) or 1.0
    found = [r for r in read if r[3].matches]
    unknown = [r for r in read if not r[3].matches and r[3].counts]
    left_out = [r for r in read if not r[3].counts]
    shares = [sum(r[2] for r in part) / total for part in (found, unknown, left_out)]
    lines = ["## Coverage", ""]
    lines += [
        f"{len(read):,} different tags. Of all tag weight, {shares[0]:.1%} stands for terms of the lexicon, "
        f"{shares[1]:.1%} is unknown or negated, {shares[2]:.1%} is left out as not about the music.",
        "",
    ]
    lines += _table(
        ["Per label", *(f"{100 * q:.0f} %" for q in _QUANTILES)],
        [["Coverage", *(_number(quantile(s.coverage, q)) for q in _QUANTILES)]],
    )
    n_terms = [[f"{i}{' or more' if i == MOST_TERMS else ''}", f"{n:,}"] for i, n in enumerate(s.n_terms) if n]
    lines += _table(["Terms", "Labels"], n_terms)
    lines += ["## Most used tags", ""]
    lines += _table(
        ["Tag", "Term", "Uses", "Weight", "V", "A", "D"],
        [
            [
                markdown_text(tag, 60),
                markdown_text(", ".join(m.term for m in reading.matches), 60),
                f"{count:,}",
                f"{weight:,.0f}",
            ]
            + [_number(sum(m.share * m.vad[i] for m in reading.matches)) for i in range(3)]
            for tag, count, weight, reading in sorted(found, key=lambda r: (-r[1], -r[2], r[0]))[:_LISTED]
        ],
        n_texts=2,
    )
    for title, part in (("Tags not found, by weight", unknown), ("Tags left out, by weight", left_out)):
        if part:
            lines += [f"## {title}", ""]
            lines += _table(
                ["Tag", "Why", "Uses", "Weight", "Share of all weight"],
                [
                    [
                        markdown_text(tag, 60),
                        reading.why.removeprefix("left out: "),
                        f"{count:,}",
                        f"{weight:,.0f}",
                        f"{weight / total:.2%}",
                    ]
                    for tag, count, weight, reading in sorted(part, key=lambda r: (-r[2], r[0]))[:_LISTED]
                ],
                n_texts=2,
            )
    return lines


def picture(statistics: Statistics) -> bytes:
    """A PNG: a histogram of each dimension, the plane of two with a third as colour, coverage, and number of terms."""
    from matplotlib.figure import Figure

    s = statistics
    has_tags = s.n > s.own
    shown = [(d.replace("_", " "), h) for d, h in zip(s.dimensions, s.values, strict=True) if h.any()]
    shown += [("coverage", s.coverage)] if has_tags else []
    has_plane = bool(s.plane[0].any())
    n_panels = len(shown) + has_plane + has_tags
    figure = Figure(figsize=(4 * min(n_panels, 3), 3.5 * -(-n_panels // 3)), layout="constrained")
    panels = iter(figure.subplots(-(-n_panels // 3), min(n_panels, 3), squeeze=False).flat)
    edges = np.linspace(0, 1, 41)
    for name, histogram in shown:
        ax = next(panels)
        ax.stairs(histogram.reshape(40, -1).sum(axis=1), edges, fill=True, color="#3b6fb6")
        ax.set(title=name.capitalize(), xlim=(0, 1), ylabel="labels")
    if has_plane:
        _draw_plane(figure, next(panels), s)
    if has_tags:
        ax = next(panels)
        ax.bar(np.arange(1, MOST_TERMS + 1), s.n_terms[1:], color="#3b6fb6")
        ax.set(title="Terms per label", ylabel="labels")
    for ax in panels:
        ax.set_axis_off()
    figure.suptitle(f"{s.n:,} labels")
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=100)
    return out.getvalue()


def _draw_plane(figure: Figure, ax: Axes, s: Statistics) -> None:
    from matplotlib import colormaps

    x, y, *third = (s.dimensions[i].replace("_", " ") for i in s.axes)
    at_x, at_y = np.nonzero(s.plane[0])
    counts = s.plane[0][at_x, at_y]
    with np.errstate(invalid="ignore"):
        colour = s.plane[1][at_x, at_y] / s.plane[2][at_x, at_y]
    coloured = bool(third) and not np.isnan(colour).all()
    points = ax.scatter(
        (at_x + 0.5) / CELLS,
        (at_y + 0.5) / CELLS,
        s=4 + 60 * np.sqrt(counts / max(counts.max(initial=1), 1)),
        c=colour if coloured else "#3b6fb6",
        cmap=colormaps["viridis"].with_extremes(bad="#999999") if coloured else None,
        vmin=0 if coloured else None,
        vmax=1 if coloured else None,
        edgecolors="none",
        plotnonfinite=True,
    )
    title = f"Area: labels, colour: mean {third[0]}" if coloured else "Area: labels"
    if coloured and np.isnan(colour).any():
        title += " (grey: none)"
    ax.set(title=title, xlim=(0, 1), ylim=(0, 1), aspect="equal", xlabel=x, ylabel=y)
    if coloured:
        figure.colorbar(points, ax=ax)
