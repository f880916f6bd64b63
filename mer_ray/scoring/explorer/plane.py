"""The plane of two dimensions as an empty Bokeh figure, which the page fills with the filtered tracks.

Bokeh draws on a plain canvas, without WebGL: 10,000 marks in some tens of milliseconds. The words at the corners are of
the circumplex: Russell, A circumplex model of affect, J. Pers. Soc. Psychol. 39 (1980).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mer_ray.scoring.scores_table import heading

QUADRANTS = (
    (0.0, 1.0, "left", "top", "tense · angry"),
    (1.0, 1.0, "right", "top", "excited · happy"),
    (0.0, 0.0, "left", "bottom", "sad · gloomy"),
    (1.0, 0.0, "right", "bottom", "calm · content"),
)
"""(valence, arousal, horizontal and vertical anchor, words). The page moves the words to its own corners."""
FONT = "system-ui, sans-serif"
ACCENT = {"light": "#2f4fb5", "dark": "#9db4ff"}
"""Of marks that show no third dimension: ``--accent`` of the page."""


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


def script() -> str:
    """BokehJS, without widgets, tables and WebGL."""
    from bokeh.resources import Resources

    return "\n".join(Resources(mode="inline", components=["bokeh"], minified=True, log_level="error").js_raw)


def palettes(shown: Layout) -> dict[str, list[str]]:
    """Viridis, which colour-blind people can read, without the end that is close to the page's background.

    Without a dimension of the colour, one colour.
    """
    from bokeh.palettes import Viridis256

    if shown.colour is None:
        return {scheme: [colour] * 2 for scheme, colour in ACCENT.items()}
    return {"light": list(Viridis256[:222]), "dark": list(Viridis256[56:])}


def figure(n: int, shown: Layout) -> dict[str, Any]:
    """The figure for n tracks, as JSON for ``Bokeh.embed.embed_item``. The page finds its parts by their names."""
    from bokeh.embed import json_item
    from bokeh.models import ColumnDataSource, Label, LinearColorMapper, Range1d, Span
    from bokeh.models.tools import BoxSelectTool, LassoSelectTool, PanTool, WheelZoomTool
    from bokeh.plotting import figure as new_figure

    mapper = LinearColorMapper(palette=palettes(shown)["light"], low=0, high=1, name="colour")
    size = 9 if n < 1_000 else 6 if n < 5_000 else 4
    colour = {"field": "d", "transform": mapper}
    axes = {"x": shown.x, "y": shown.y}
    ranges = [
        Range1d(-0.03 * a.top, 1.03 * a.top, bounds=(-0.1 * a.top, 1.1 * a.top), min_interval=0.01 * a.top, name=name)
        for name, a in (("x_range", shown.x), ("y_range", shown.y))
    ]
    plane = new_figure(
        x_range=ranges[0], y_range=ranges[1], tools=[], toolbar_location=None, sizing_mode="stretch_both", name="plane",
        background_fill_color=None, border_fill_color=None, outline_line_color=None, min_border=8,
        lod_threshold=None,  # draw every track also while the plot moves
    )  # fmt: skip
    pan, wheel = PanTool(name="move"), WheelZoomTool(name="wheel")
    plane.add_tools(pan, wheel, BoxSelectTool(name="box"), LassoSelectTool(name="lasso", continuous=False))
    plane.toolbar.active_drag, plane.toolbar.active_scroll, plane.toolbar.logo = pan, wheel, None
    for name, span in (("x", "height"), ("y", "width")):
        at = axes[name]
        if at.dotted is not None:
            plane.add_layout(
                Span(location=at.dotted, dimension=span, line_dash="dotted", level="underlay", tags=["line"])
            )
        if at.key not in ("novelty", "spread"):
            median = Span(location=0.5, dimension=span, line_dash="dashed", level="underlay", tags=["line"])
            median.name = f"{name}_median"
            plane.add_layout(median)
    for x, y, align, baseline, words in QUADRANTS if (shown.x.key, shown.y.key) == ("valence", "arousal") else ():
        plane.add_layout(Label(
            x=x, y=y, text=words, text_align=align, text_baseline=baseline, x_offset=6 if x == 0 else -6,
            y_offset=-6 if y else 6, text_font=FONT, text_font_size="13px", level="underlay", tags=["words"],
        ))  # fmt: skip
    for name, marker in (("like", "circle"), ("unlike", "x")):
        source = ColumnDataSource({"x": [], "y": [], "d": []}, name=name)
        line = {"line_color": None} if name == "like" else {"line_color": colour, "line_width": 1.6}
        plane.scatter(
            "x", "y", source=source, marker=marker, size=size + 3 * (name == "unlike"),
            fill_color=colour, fill_alpha=0.85, name=f"{name}_marks",
            nonselection_fill_alpha=0.15, nonselection_line_alpha=0.2, **line,
        )  # fmt: skip
    for axis, own in ((plane.xaxis[0], shown.x), (plane.yaxis[0], shown.y)):
        axis.visible = own.key != "spread"
        axis.axis_label = f"{heading(own.key)} →"
        axis.axis_label_text_font = axis.major_label_text_font = FONT
        axis.axis_label_text_font_style, axis.axis_label_text_font_size = "normal", "13px"
        axis.minor_tick_line_color = axis.major_tick_line_color = axis.axis_line_color = None
        axis.ticker.desired_num_ticks = 5
        axis.tags = ["axis"]
    for grid in plane.grid:
        grid.tags = ["grid"]
    return dict(json_item(plane))
