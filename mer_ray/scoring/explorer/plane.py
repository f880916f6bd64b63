"""What the plane shows: its two dimensions, its colours, and the words at its corners. ``map_*.js`` draws it.

Drawn on a canvas by code of this package: WebGL is absent where machines are locked down or without a GPU, and a
library for one scatter plot was larger than a catalog's data. The words at the corners are of the circumplex: Russell,
A circumplex model of affect, J. Pers. Soc. Psychol. 39 (1980).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from mer_ray.scoring.scores_table import heading

CORNERS = {"top left": "tense · angry", "top right": "excited · happy"} | {
    "bottom left": "sad · gloomy",
    "bottom right": "calm · content",
}
"""Words for high and low arousal (top, bottom), and high and low valence (right, left)."""
VIRIDIS = (
    *("440154", "48186a", "472d7b", "424086", "3b528b", "33638d", "2c728e", "26828e", "21918c"),
    *("1fa088", "28ae80", "3fbc73", "5ec962", "84d44b", "addc30", "d8e219", "fde725"),
)
"""Every sixteenth of the colour map viridis (S. van der Walt and N. Smith, 2015, CC0), which colour-blind people can
read: seventeen colours, between which the page interpolates."""
SHOWN = {"light": (0.0, 0.86), "dark": (0.22, 1.0)}
"""The part of the colour map that stands out from the page's background."""


@dataclass(frozen=True)
class Axis:
    """What one axis shows.

    Attributes:
        key: A dimension; ``novelty``; or ``spread``, which has no meaning but parts the marks.
        top: The highest value; the lowest is 0.
        dotted: The value at which a line is drawn.
    """

    key: str
    top: float = 1.0
    dotted: float | None = 0.5


@dataclass(frozen=True)
class Layout:
    """What the plane shows: x across, y up, and the dimension of the colour, if any."""

    x: Axis
    y: Axis
    colour: str | None = None


def layout(dimensions: Sequence[str], novelty: np.ndarray) -> Layout:
    """Valence and arousal, else the first two dimensions, with the next one as colour; of one dimension, its novelty.

    novelty: (N,), NaN where unknown. If it is unknown of any track, one dimension is shown as a strip.
    """
    first = [d for d in ("valence", "arousal") if {"valence", "arousal"} <= set(dimensions)]
    ordered = [*first, *(d for d in dimensions if d not in first)]
    if len(ordered) > 1:
        return Layout(Axis(ordered[0]), Axis(ordered[1]), next(iter(ordered[2:]), None))
    if len(novelty) and np.isfinite(novelty).all():
        return Layout(Axis(ordered[0]), Axis("novelty", max(1.5, float(novelty.max())), 1.0))
    return Layout(Axis(ordered[0]), Axis("spread", dotted=None))


def described(shown: Layout) -> dict[str, Any]:
    """The layout for the page's script, as JSON; axes have the heading ``name``, but a spread has none."""
    axes = {
        side: asdict(axis) | {"name": "" if axis.key == "spread" else heading(axis.key)}
        for side, axis in (("x", shown.x), ("y", shown.y))
    }
    corners = CORNERS if (shown.x.key, shown.y.key) == ("valence", "arousal") else {}
    return {**axes, "colour": shown.colour, "corners": corners, "palette": VIRIDIS, "part": SHOWN}
