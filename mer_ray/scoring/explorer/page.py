"""Scores → one self-contained HTML page, without network access; no text of a catalog becomes markup."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow as pa

from mer_ray.errors import InputError
from mer_ray.io.identity import one_line
from mer_ray.io.schemas import dimensions_of
from mer_ray.io.tables import Workspace
from mer_ray.scoring import standing
from mer_ray.scoring.explorer import plane
from mer_ray.scoring.explorer.pack import packed, script_json

ASSETS = ("explorer.html", "explorer.css", "explorer.js")
SIMILAR = 8
MANY = 30_000
"""Above so many tracks a page gets slow in a browser."""


def build(table: pa.Table, similar: np.ndarray, title: str, folder: str | Path) -> str:
    """The page of a table ``scores`` with N rows.

    similar: (N, k) similar rows, nearest first, -1 where there are fewer. folder: of the page, to which links to the
    audio files are relative.
    """
    dimensions = dimensions_of(table.schema, "scores")
    shown = plane.layout(dimensions, table["novelty"].to_numpy().astype(float))
    value, curves = packed(standing.added(table), similar, title, Path(folder))
    value |= {"palettes": plane.palettes(shown), "plane": asdict(shown)}
    assets = {name: files("mer_ray.scoring.explorer").joinpath(name).read_text("utf-8") for name in ASSETS}
    scripts = {"bokeh": _script(plane.script()), "script": _script(assets["explorer.js"])}
    parts = {
        "policy": policy(*scripts.values()),
        "title": html.escape(one_line(title)),
        "style": assets["explorer.css"],
        "data": script_json(value),
        "figure": script_json(plane.figure(table.num_rows, shown)),
        "curves": curves,
        **_words(shown, dimensions),
        **scripts,
    }
    # In one pass, so that the catalog's text is not searched for placeholders.
    return re.sub(r"\{\{(\w+)\}\}", lambda m: parts[m[1]], assets["explorer.html"])


def _words(shown: plane.Layout, dimensions: Sequence[str]) -> dict[str, str]:
    """Texts of the page that name what it shows."""
    across, up, *names = (d.replace("_", " ") for d in (shown.x.key, shown.y.key, *dimensions))
    up = "" if up == "spread" else up
    seen = f"{across} across{f', {up} up' if up else ''}"
    colour = f", {shown.colour.replace('_', ' ')} as colour" if shown.colour else ""
    dotted = "0.5" if shown.y.dotted in (0.5, None) else f"0.5, and {up} {shown.y.dotted:g}"
    mean = f", averaged over {', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else ""
    moods = (
        "Percentiles and moods compare the tracks of this page with each other: a mood is the word that stands in the "
        "direction from the medians of valence and arousal to the track (Russell 1980), neutral near them."
        if {"valence", "arousal"} <= set(dimensions)
        else "Percentiles compare the tracks of this page with each other."
    )
    return {
        "map": f"{across.capitalize()}{' and ' * bool(up)}{up} of the tracks",
        "plot": f"Scatter plot: {seen}{colour}. The list of tracks holds the same.",
        "lines": f"dotted: {dotted}; dashed: the median{'s' * (len(names) > 1)}",
        "width": f"± is half its width{mean}.",
        "relative": moods,
    }


def policy(*scripts: str) -> str:
    """The Content-Security-Policy: these scripts and no others, local audio, and no network at all.

    Styles are free: Bokeh sets its own while it runs.
    """
    hashes = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(s.encode()).digest()).decode()}'" for s in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; img-src data:; "
        "media-src 'self' file:; base-uri 'none'; form-action 'none'"
    )


def _script(text: str) -> str:
    """The script as a browser reads it from a page, which is what its hash is of."""
    text = text.replace("\r\n", "\n").replace("\r", "\n")
    return re.sub(r"<(?=/script|!--|script)", r"\\x3c", text, flags=re.IGNORECASE)


def run(scores: str, output: str, title: str) -> list[str]:
    """Write the page of a table of scores. Returns lines for the user.

    Raises InputError where the scores cannot be read, WorkspaceError where the page cannot be written.
    """
    from mer_ray.scoring.neighbours import nearest
    from mer_ray.scoring.scores_table import read

    target = Path(output).expanduser().absolute()
    if target.suffix.casefold() not in (".html", ".htm"):
        raise InputError(f"--out {one_line(str(target))} must end in .html", "that ending tells browsers what it is")
    table = read(scores)
    text = build(table, nearest(table, SIMILAR), title, target.parent)
    data = text.encode()
    Workspace(target.parent).write_bytes(data, target.name)
    lines = [
        f"{one_line(str(target))}: {table.num_rows:,} track{'s' * (table.num_rows != 1)}, {len(data) / 1e6:.1f} MB"
    ]
    if table.num_rows > MANY:
        lines.append("so many tracks make a page slow: the scores of a part of the catalog make a quick one")
    return lines
