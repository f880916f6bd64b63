"""One label, explained on a terminal: its arithmetic, as tables."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import ROUND_HALF_UP, Decimal
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from mer_ray.console import out
from mer_ray.io.identity import one_line
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.labels.exclusions import title_forms
from mer_ray.labels.recipes import Reading
from mer_ray.labels.terms import Matcher
from mer_ray.labels.unlabelled import Criteria
from mer_ray.labels.vad import Label, from_tags

TABLE_WIDTH = 240
"""Characters: a narrow terminal wraps the lines instead of cutting figures off."""
OWN_TITLE = Reading(why="left out: the track's own title", counts=False)


def show_given(track: dict[str, Any], source: str) -> bool:
    """Print the names of a row of ``tracks``, and its label if that is the source's own. Returns whether it is.

    source: the setting ``label.source``.
    """
    out.print(escape(one_line(f"{track['artist']} – {track['title']}")), f"[dim]({escape(track['track_id'])})[/dim]")
    values = [
        f"{r['dimension']} {figure(r['value'])}" + ("" if r["se"] is None else f" (standard error {figure(r['se'])})")
        for r in track["ratings"] or ()
    ]
    if not values or source == "tags":
        return False
    out.print(f"The label is the source's own, not made from tags: {', '.join(values)}.")
    for curve in track["curves"] or ():
        times, points = curve["time_s"], curve["value"]
        out.print(
            f"Over time: {curve['dimension']} at {len(points):,} points from {times[0]:g} to {times[-1]:g} s, "
            f"{figure(min(points))} to {figure(max(points))}, mean {figure(sum(points) / len(points))}."
        )
    return True


def show(track: dict[str, Any], matcher: Matcher, criteria: Criteria) -> None:
    """Print how the label of a row of ``tracks`` follows from its tags."""
    tags = [(t["name"] or "", float("nan") if t["weight"] is None else t["weight"]) for t in track["tags"] or ()]
    readings = read(tags, track["title"], matcher)
    wide = Console(highlight=False, emoji=False, width=TABLE_WIDTH)
    for table in tables(readings, matcher):
        wide.print(table)
    out.print(escape(f"Lexicon {one_line(matcher.lexicon.name)}, recipe {matcher.recipe}."))
    found = label(readings, matcher)
    if found is None:
        out.print("No label: no tag of the track stands for a term of the lexicon.")
    elif len(found.evidence) < criteria.min_terms or found.coverage < criteria.min_coverage:
        out.print(
            f"No label: {len(found.evidence)} terms and coverage {found.coverage:.3f}, where label.min_terms is "
            f"{criteria.min_terms} and label.min_coverage {criteria.min_coverage:g}."
        )


def read(tags: Sequence[tuple[str, float]], title: str, matcher: Matcher) -> list[tuple[str, float, Reading]]:
    """The readings of a track's tags; a recipe that uses names ignores a tag that is the track's own title."""
    forms = title_forms(title) if matcher.reader.uses_names else set()
    out = []
    for name, weight in tags:
        reading = matcher.read(name)
        if reading.as_title in forms:
            reading = OWN_TITLE
        if not (np.isfinite(weight) and weight > 0):
            reading = Reading(why="weight is not a positive number", counts=False)
        out.append((name, weight, reading))
    return out


def label(readings: Sequence[tuple[str, float, Reading]], matcher: Matcher) -> Label | None:
    """The label from the readings."""
    return from_tags([(name, weight) for name, weight, reading in readings if reading.counts], matcher)


def tables(readings: Sequence[tuple[str, float, Reading]], matcher: Matcher) -> Iterator[Table]:
    """Two tables: the tags that count, with terms, products, sums and result; and the tags that do not."""
    found = label(readings, matcher)
    if found is not None:
        yield _arithmetic(readings, found)
    silent = [(name, weight, reading.why) for name, weight, reading in readings if not reading.matches]
    if silent:
        table = Table(title="Tags that do not count", title_justify="left")
        for column in ("Tag", "Weight", "Why"):
            table.add_column(column, justify="right" if column == "Weight" else "left")
        for name, weight, why in silent:
            table.add_row(_safe(name), f"{weight:g}", escape(why))
        yield table


def _arithmetic(readings: Sequence[tuple[str, float, Reading]], found: Label) -> Table:
    letters = [d[0].upper() for d in DIMENSIONS]
    table = Table(title="Tags that count", title_justify="left", show_footer=False)
    for column in ("Tag", "Term", "Match", "Weight", *letters, *(f"Weight×{x}" for x in letters)):
        table.add_column(column, justify="left" if column in ("Tag", "Term", "Match") else "right", no_wrap=True)
    total, sums = 0.0, [0.0, 0.0, 0.0]
    for name, weight, reading in readings:
        for m in reading.matches:
            own = weight * m.share
            total += own
            sums = [s + own * x for s, x in zip(sums, m.vad, strict=True)]
            products = [figure(own * x) for x in m.vad]
            table.add_row(_safe(name), _safe(m.term), m.how, f"{own:g}", *(f"{x:.3f}" for x in m.vad), *products)
    table.add_section()
    table.add_row("Sum", "", "", f"{total:g}", "", "", "", *(figure(s) for s in sums))
    blank = [""] * 6
    table.add_row("[bold]Label = sum / weight[/bold]", *blank, *(f"[bold]{figure(x)}[/bold]" for x in found.vad))
    errors = ["–"] * 3 if found.se is None else [figure(x) for x in found.se]
    table.add_row("Standard error", *blank, *errors)
    table.add_row("Coverage", "", "", figure(found.coverage), *[""] * 6)
    return table


def figure(value: float, digits: int = 4) -> str:
    """A number rounded half up (0.62645 → 0.6265), even if its binary fraction is slightly below the half."""
    if not np.isfinite(value):
        return f"{value:g}"
    exact = Decimal(repr(float(f"{value:.12g}")))
    return f"{exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP):f}" if abs(value) < 1e12 else f"{value:g}"


def _safe(text: str) -> str:
    return escape(one_line(text, 60))
