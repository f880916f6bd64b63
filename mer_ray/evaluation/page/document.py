"""The page around a report: head, navigation and style. It needs no script and no network, and allows neither."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Mapping, Sequence
from importlib.resources import files

from mer_ray.evaluation.page import markup
from mer_ray.io.identity import one_line


def page(
    title: str, about: str, tiles: Sequence[tuple[str, str]], text: str, pictures: Mapping[str, bytes | str]
) -> str:
    """The whole page.

    Args:
        title: Its heading.
        about: A line below it.
        tiles: (figure, what it is), shown large at the top; the text of a heading becomes a link to it.
        text: Markdown, and its ``pictures``: see `markup.body`.
    """
    style = files("mer_ray.evaluation.page").joinpath("report.css").read_text("utf-8").replace("\r\n", "\n")
    body, headings = markup.body(text, pictures)
    links = "".join(f'<li class="l{h.level}"><a href="#{h.anchor}">{html.escape(h.text)}</a></li>' for h in headings)
    anchors = {h.text: h.anchor for h in headings}
    shown = "".join(f"<div><dt>{_linked(w, anchors)}</dt><dd>{html.escape(figure)}</dd></div>" for figure, w in tiles)
    heading = html.escape(one_line(title))
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="{policy(style)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{heading}</title>
<style>{style}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the report</a>
<nav aria-label="Sections"><p>mer-ray report</p><ul>{links}</ul></nav>
<main id="main">
<header><h1>{heading}</h1><p>{html.escape(one_line(about, 500))}</p><dl>{shown}</dl></header>
{body}</main>
</body>
</html>
"""


def _linked(text: str, anchors: Mapping[str, str]) -> str:
    return f'<a href="#{anchors[text]}">{html.escape(text)}</a>' if text in anchors else html.escape(text)


def policy(style: str) -> str:
    """The Content-Security-Policy: this style, pictures inside the page, and nothing else."""
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    return f"default-src 'none'; style-src 'sha256-{digest}'; img-src data:; base-uri 'none'; form-action 'none'"
