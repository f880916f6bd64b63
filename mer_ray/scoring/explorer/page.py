"""Scores → one self-contained HTML page, without network access; no text of a catalog becomes markup."""

from __future__ import annotations

import base64
import hashlib
import html
import re
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

import numpy as np
import pyarrow as pa

from mer_ray.errors import InputError
from mer_ray.io.identity import one_line
from mer_ray.io.replace import replacing
from mer_ray.io.schemas import dimensions_of
from mer_ray.scoring import standing
from mer_ray.scoring.explorer import plane
from mer_ray.scoring.explorer.pack import packed, script_json
from mer_ray.scoring.measures import display

SCRIPTS = (
    "base",
    "data",
    "filters",
    "list",
    "save",
    "map_draw",
    "map_move",
    "player",
    "arc",
    "arc_panel",
    "keys",
    "start",
)
"""The script's parts, ``NAME.js``, in the order in which they are joined; all share one scope."""
SIMILAR = 8
MANY = 150_000
"""Above so many tracks a page takes more than some seconds to open."""


def build(table: pa.Table, similar: np.ndarray, title: str, folder: str | Path) -> str:
    """The page of a table ``scores`` with N rows.

    similar: (N, k) similar rows, nearest first, -1 where there are fewer. folder: of the page, to which links to the
    audio files are relative.
    """
    dimensions = dimensions_of(table.schema, "scores")
    shown = plane.layout(dimensions, table["novelty"].to_numpy().astype(float))
    value, curves = packed(standing.added(table), similar, title, Path(folder))
    value["plane"] = plane.described(shown)
    style, code = _asset("explorer.css"), script()
    parts = {
        "policy": policy(code, style),
        "title": html.escape(one_line(title)),
        "style": style,
        "data": script_json(value),
        "curves": curves,
        "script": code,
        **_words(shown, dimensions),
    }
    # In one pass, so that the catalog's text is not searched for placeholders.
    return re.sub(r"\{\{(\w+)\}\}", lambda m: parts[m[1]], _asset("explorer.html"))


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


def script() -> str:
    """The page's script as a browser reads it, which is what its hash is of."""
    code = "\n".join(['"use strict";', "(() => {", *(_asset(f"{name}.js") for name in SCRIPTS), "})();"])
    return re.sub(r"<(?=/script|!--|script)", r"\\x3c", code, flags=re.IGNORECASE)


def _asset(name: str) -> str:
    text = files("mer_ray.scoring.explorer").joinpath(name).read_text("utf-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def policy(script: str, style: str) -> str:
    """The Content-Security-Policy: this script and style and no others, local audio, and no network at all."""
    own = {"script-src": script, "style-src": style}
    hashes = [
        f"{key} 'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
        for key, text in own.items()
    ]
    return (
        f"default-src 'none'; {'; '.join(hashes)}; img-src data:; media-src 'self' file:; base-uri 'none'; "
        "form-action 'none'"
    )


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
    with replacing(target) as file:
        file.write(data)
    lines = [f"{one_line(output)}: {table.num_rows:,} track{'s' * (table.num_rows != 1)}, {len(data) / 1e6:.1f} MB"]
    if table.num_rows > MANY:
        lines.append("so many tracks make a page slow: the scores of a part of the catalog make a quick one")
    return [*lines, *filter(None, [display.without([table])])]
