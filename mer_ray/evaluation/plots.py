"""Predicted against labelled values, one picture per dimension."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Sequence

import numpy as np


def predicted_against_labelled(
    dimension: str, labelled: np.ndarray, predicted: Sequence[tuple[str, np.ndarray, float]], caption: str
) -> bytes:
    """A PNG with a panel per model. labelled: (n,) in 0..1; predicted: (title, values (n,), R²) of each model."""
    from matplotlib.figure import Figure

    columns = min(2, len(predicted))
    rows = -(-len(predicted) // columns)
    figure = Figure(figsize=(4.2 * columns, 4.0 * rows + 1.0), layout="constrained")
    axes = np.atleast_1d(figure.subplots(rows, columns, sharex=True, sharey=True)).ravel()
    for ax, (title, values, r2) in zip(axes, predicted, strict=False):
        ax.plot([0, 1], [0, 1], color="0.6", linewidth=1, zorder=1)
        ax.axhline(labelled.mean(), color="0.6", linewidth=1, linestyle=":", zorder=1)
        ax.scatter(labelled, values, s=12, alpha=0.5, color="#3b6fb6", edgecolors="none", zorder=2)
        ax.set(xlim=(0, 1), ylim=(0, 1), aspect="equal", title=f"{title}   R² {r2:.2f}")
        ax.set_xlabel("labelled")
        ax.set_ylabel("predicted")
    for ax in axes[len(predicted) :]:
        ax.set_axis_off()
    figure.suptitle(f"{dimension.capitalize()}: out-of-fold predictions")
    figure.supxlabel("\n".join(textwrap.wrap(caption, 75 * columns)), fontsize=7)
    out = io.BytesIO()
    figure.savefig(out, format="png", dpi=110)
    return out.getvalue()
