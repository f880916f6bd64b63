"""Plots as PNG: predictions against labels, calibration, learning curves. Text is never parsed as mathematics."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from mer_ray.evaluation.calibration import Calibration
from mer_ray.io.identity import one_line

if TYPE_CHECKING:
    import pyarrow as pa

BLUE, ORANGE, GREY = "#3b6fb6", "#c8663a", "0.6"
DPI = 120
MANY = 2_000
"""From so many tracks on, a picture shows how many lie in each cell of a grid instead of a point for each."""


def predicted_against_labelled(
    heading: str, labelled: np.ndarray, predicted: Sequence[tuple[str, np.ndarray, float]], caption: str
) -> bytes:
    """A PNG with a panel per model. labelled: (N,) in 0..1; predicted: (title, values (N,), R²) of each model.

    Of `MANY` tracks, the shade of a cell is the logarithm of their number.
    """
    from matplotlib.colors import LogNorm

    def draw(ax: Any, panel: tuple[str, np.ndarray, float]) -> None:
        title, values, r2 = panel
        _unit_square(ax)
        ax.axhline(labelled.mean(), color=GREY, linewidth=1, linestyle=":", zorder=1)
        if len(labelled) < MANY:
            ax.scatter(labelled, values, s=12, alpha=0.5, color=BLUE, edgecolors="none", zorder=2)
        else:
            shades = {"norm": LogNorm(vmin=0.3), "mincnt": 1, "cmap": "Blues", "linewidths": 0.2, "zorder": 0.5}
            ax.hexbin(labelled, values, gridsize=45, extent=(0, 1, 0, 1), **shades)
        _title(ax, f"{title} · R² {_two(r2)}")

    return _panels(
        f"{heading}: predictions of unseen tracks",
        predicted,
        draw,
        ("labelled", "predicted"),
        caption if len(labelled) < MANY else f"{caption} The darker, the more tracks, on a logarithmic scale.",
    )


def calibration_picture(heading: str, models: Sequence[tuple[str, Calibration]], caption: str) -> bytes:
    """A PNG with a panel per model: the mean label of each bin of predictions, and the least-squares line."""

    def draw(ax: Any, panel: tuple[str, Calibration]) -> None:
        title, c = panel
        _unit_square(ax)
        known = np.isfinite(c.upper)
        bars = np.where(known, [c.labelled - c.lower, c.upper - c.labelled], 0)
        ax.errorbar(c.predicted, c.labelled, bars, fmt="o", markersize=4, linewidth=1, color=BLUE, zorder=2)
        if np.isfinite(c.slope):
            x = np.array([c.predicted.min(), c.predicted.max()])
            ax.plot(x, c.intercept + c.slope * x, color=ORANGE, linewidth=1.5, zorder=3)
        _title(ax, f"{title}\nslope {_two(c.slope)}, intercept {_two(c.intercept)}")

    return _panels(f"{heading}: calibration", models, draw, ("predicted", "mean label"), caption)


def learning_curves(runs: Sequence[tuple[str, pa.Table]], caption: str) -> bytes:
    """A PNG with a panel per run: tables as ``curves.parquet``, with repeat, fold, member, epoch and the two losses."""

    def draw(ax: Any, panel: tuple[str, pa.Table]) -> None:
        title, table = panel
        epoch = table["epoch"].to_numpy()
        for own in _folds(table):
            ax.plot(*own, color=ORANGE, linewidth=0.6, alpha=0.5)
        for column, color, label in (("train_loss", BLUE, "training"), ("valid_loss", ORANGE, "validation")):
            at, low, median, high = bands(epoch, table[column].to_numpy())
            ax.plot(at, median, color=color, linewidth=1.5, label=label, marker="o" if len(at) == 1 else None)
            ax.fill_between(at, low, high, color=color, alpha=0.2, linewidth=0)
        ax.set_ylim(bottom=0)
        ax.legend(fontsize=7, frameon=False)
        _title(ax, title)

    return _panels("Learning curves", runs, draw, ("epoch", "loss"), caption, share=False)


def over_time(
    heading: str, tracks: Sequence[tuple[str, np.ndarray, np.ndarray, Sequence[tuple[str, np.ndarray]]]], caption: str
) -> bytes:
    """A PNG with a panel per track: its title, times (n,) in s, labels (n,), and (model, predictions (n,)) of each."""

    def draw(ax: Any, track: tuple[str, np.ndarray, np.ndarray, Sequence[tuple[str, np.ndarray]]]) -> None:
        title, time_s, labelled, predicted = track
        ax.plot(time_s, labelled, color="black", linewidth=2, label="labelled")
        for name, values in predicted:
            ax.plot(time_s, values, linewidth=1, label=name)
        ax.set(ylim=(0, 1), yticks=(0, 0.5, 1))
        for text in ax.legend(fontsize=6, frameon=False).get_texts():
            text.set_parse_math(False)
        _title(ax, title)

    return _panels(heading, tracks, draw, ("time (s)", "label"), caption, share=False)


def _folds(table: pa.Table) -> list[tuple[np.ndarray, np.ndarray]]:
    """Of each fold of each repeat: its epochs (e,), and the mean validation loss of its members still training (e,)."""
    repeat, fold, epoch, loss = (table[name].to_numpy() for name in ("repeat", "fold", "epoch", "valid_loss"))
    found = []
    for whose in sorted(set(zip(repeat.tolist(), fold.tolist(), strict=True))):
        own = (repeat == whose[0]) & (fold == whose[1]) & np.isfinite(loss)
        at = np.unique(epoch[own])
        found.append((at, np.array([loss[own & (epoch == e)].mean() for e in at])))
    return found


def bands(epoch: np.ndarray, loss: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Per epoch, the 10th, 50th and 90th percentile of the losses of the members still training: four arrays (e,).

    Losses that are not finite are ignored.
    """
    finite = np.isfinite(loss)
    epoch, loss = epoch[finite], loss[finite]
    at = np.unique(epoch)
    levels = np.array([np.quantile(loss[epoch == e], [0.1, 0.5, 0.9]) for e in at]).reshape(-1, 3).T
    return at, levels[0], levels[1], levels[2]


def _panels(
    heading: str,
    panels: Sequence[Any],
    draw: Callable[[Any, Any], None],
    axes_labels: tuple[str, str],
    caption: str,
    share: bool = True,
) -> bytes:
    """``draw(ax, panel)`` for each panel, in a grid; share: both axes are 0..1 everywhere."""
    from matplotlib.figure import Figure

    columns = min(4, len(panels)) if len(panels) > 4 else min(2, len(panels))
    rows = -(-len(panels) // columns)
    width, height = 3.4 * columns, 3.3 * rows
    wrapped = textwrap.wrap(one_line(caption, 1_500), 62 * columns)
    below, above = 0.35 + 0.13 * len(wrapped), 0.4
    figure = Figure(figsize=(width, height + below + above))
    total = height + below + above
    grid = figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share)
    # Fixed margins: the layout engines draw everything twice.
    figure.subplots_adjust(
        left=0.55 / width,
        right=1 - 0.1 / width,
        bottom=(below + 0.3) / total,
        top=1 - (above + 0.35) / total,
        hspace=0.35,
        wspace=0.2,
    )
    for ax, panel in zip(grid.ravel(), panels, strict=False):
        draw(ax, panel)
        ax.tick_params(labelsize=7)
        ax.set_xlabel(axes_labels[0], fontsize=8)
        ax.set_ylabel(axes_labels[1], fontsize=8)
    for ax in grid.ravel()[len(panels) :]:
        ax.set_axis_off()
    figure.text(0.5, 1 - 0.2 / total, heading, ha="center", va="center", fontsize=11, parse_math=False)
    figure.text(0.5, 0.08 / total, "\n".join(wrapped), ha="center", va="bottom", fontsize=6, parse_math=False)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=DPI)
    return out.getvalue()


def _unit_square(ax: Any) -> None:
    ax.plot([0, 1], [0, 1], color=GREY, linewidth=1, zorder=1)
    ax.set(xlim=(0, 1), ylim=(0, 1), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))


def _two(value: float) -> str:
    return "–" if np.isnan(value) else f"{value:.2f}"


def _title(ax: Any, text: str) -> None:
    ax.set_title("\n".join(one_line(part, 60) for part in text.split("\n")), fontsize=9, parse_math=False)
