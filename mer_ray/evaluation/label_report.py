"""A report on labels: histograms, correlations, the V–A plane, known and unknown tags; Markdown and PNG.

Statistics are accumulated batch by batch, in constant memory.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from mer_ray.evaluation.escape import markdown_text
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.labels.columns import Tags
from mer_ray.labels.lexicon import fold
from mer_ray.labels.terms import Matcher

BINS = 1_000  # of histograms, from which quantiles are read to 0.001
CELLS = 40
MOST_TERMS = 30
_MAX_TAGS = 1_000_000
_LISTED = 25
COLUMNS = [*DIMENSIONS, *(f"se_{d}" for d in DIMENSIONS), "coverage", "n_matched"]
"""Columns of ``labels`` that `Statistics.add_labels` needs."""
_QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


@dataclass
class Statistics:
    """Sums over labels and tags. All values are in 0..1."""

    n: int = 0
    own: int = 0
    sums: np.ndarray = field(default_factory=lambda: np.zeros(3))
    products: np.ndarray = field(default_factory=lambda: np.zeros((3, 3)))
    values: np.ndarray = field(default_factory=lambda: np.zeros((3, BINS), np.int64))
    errors: np.ndarray = field(default_factory=lambda: np.zeros((3, BINS), np.int64))
    coverage: np.ndarray = field(default_factory=lambda: np.zeros(BINS, np.int64))
    n_terms: np.ndarray = field(default_factory=lambda: np.zeros(MOST_TERMS + 1, np.int64))
    plane: np.ndarray = field(default_factory=lambda: np.zeros((2, CELLS, CELLS)))
    tags: dict[str, tuple[int, float]] = field(default_factory=dict)

    def add_labels(self, labels: pa.Table) -> None:
        """Add rows of ``labels``, with `COLUMNS`."""
        vad, se = (np.stack([labels[p + d].to_numpy() for d in DIMENSIONS], axis=1) for p in ("", "se_"))
        coverage, n_terms = labels["coverage"].to_numpy(), labels["n_matched"].to_numpy()  # 0 terms: given
        self.n += len(vad)
        self.own += int((n_terms == 0).sum())
        centred = vad - 0.5
        self.sums += centred.sum(axis=0)
        self.products += centred.T @ centred
        for i in range(3):
            self.values[i] += _histogram(vad[:, i])
            self.errors[i] += _histogram(se[:, i])
        self.coverage += _histogram(coverage)
        self.n_terms += np.bincount(np.minimum(n_terms[n_terms > 0], MOST_TERMS), minlength=MOST_TERMS + 1)
        cell = np.minimum((vad[:, :2] * CELLS).astype(np.int64), CELLS - 1)
        flat = cell[:, 0] * CELLS + cell[:, 1]
        self.plane[0] += np.bincount(flat, minlength=CELLS**2).reshape(CELLS, CELLS)
        self.plane[1] += np.bincount(flat, vad[:, 2], CELLS**2).reshape(CELLS, CELLS)

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
        """Of V, A, D: (3,)."""
        out: np.ndarray = self.sums / self.n + 0.5
        return out

    @property
    def covariance(self) -> np.ndarray:
        """Of V, A, D: (3, 3), with n - 1; NaN under two labels."""
        if self.n < 2:
            return np.full((3, 3), np.nan)
        out: np.ndarray = (self.products - np.outer(self.sums, self.sums) / self.n) / (self.n - 1)
        return out


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
    deviation = np.sqrt(np.maximum(np.diag(s.covariance), 0.0))
    deviation[deviation < 1e-9] = 0.0  # rounding errors of a constant
    lines = ["# Labels", "", f"{s.n:,} labels, {s.own:,} of them given by the source. {about}", ""]
    lines += ["![Histograms, the valence–arousal plane, coverage and number of terms](labels.png)", ""]
    lines += ["## Valence, arousal, dominance", ""]
    lines += _table(
        ["", "Mean", "SD", *(f"{100 * q:.0f} %" for q in _QUANTILES), "Median standard error"],
        [
            [d.capitalize(), _number(s.mean[i]), _number(deviation[i])]
            + [_number(quantile(s.values[i], q)) for q in _QUANTILES]
            + [_number(quantile(s.errors[i], 0.5))]
            for i, d in enumerate(DIMENSIONS)
        ],
    )
    with np.errstate(invalid="ignore", divide="ignore"):
        correlation = s.covariance / np.outer(deviation, deviation)
    lines += ["Correlations over the labels:", ""]
    lines += _table(
        ["", *(d.capitalize() for d in DIMENSIONS)],
        [
            [d.capitalize(), *(_number(r) if np.isfinite(r) else "–" for r in correlation[i])]
            for i, d in enumerate(DIMENSIONS)
        ],
    )
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
    """A PNG: histograms of V, A and D, the V–A plane with dominance as colour, coverage, and number of terms."""
    from matplotlib.figure import Figure

    s = statistics
    figure = Figure(figsize=(12, 7), layout="constrained")
    axes = figure.subplots(2, 3)
    edges = np.linspace(0, 1, 41)
    for ax, name, histogram in zip(
        [*axes[0], axes[1, 1]], [*DIMENSIONS, "coverage"], [*s.values, s.coverage], strict=True
    ):
        ax.stairs(histogram.reshape(40, -1).sum(axis=1), edges, fill=True, color="#3b6fb6")
        ax.set(title=name.capitalize(), xlim=(0, 1), ylabel="labels")
    at_v, at_a = np.nonzero(s.plane[0])
    counts = s.plane[0][at_v, at_a]
    points = axes[1, 0].scatter(
        (at_v + 0.5) / CELLS,
        (at_a + 0.5) / CELLS,
        s=4 + 60 * np.sqrt(counts / max(counts.max(initial=1), 1)),
        c=s.plane[1][at_v, at_a] / counts,
        cmap="viridis",
        vmin=0,
        vmax=1,
        edgecolors="none",
    )
    axes[1, 0].set(title="Area: labels, colour: mean dominance", xlim=(0, 1), ylim=(0, 1), aspect="equal")
    axes[1, 0].set(xlabel="valence", ylabel="arousal")
    figure.colorbar(points, ax=axes[1, 0])
    axes[1, 2].bar(np.arange(1, MOST_TERMS + 1), s.n_terms[1:], color="#3b6fb6")
    axes[1, 2].set(title="Terms per label", ylabel="labels")
    figure.suptitle(f"{s.n:,} labels")
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=100)
    return out.getvalue()
