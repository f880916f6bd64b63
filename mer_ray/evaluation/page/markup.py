"""A report's Markdown as HTML: tables that scroll, headings with anchors, pictures inside. No text becomes markup.

The same Markdown is ``report.md``, so that both say the same.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from markdown_it import MarkdownIt
from markdown_it.token import Token

_INTERVAL = re.compile(r" (\[[^\[\]]*\])$")
_LEVELS = {"h1": "h2", "h2": "h3", "h3": "h3"}
"""The page's own title is the ``h1``."""


@dataclass(frozen=True)
class Heading:
    """A heading: its level (2 or 3), the anchor, and its plain text."""

    level: int
    anchor: str
    text: str


def body(text: str, pictures: Mapping[str, bytes | str]) -> tuple[str, list[Heading]]:
    """HTML of a Markdown text, and its headings.

    Args:
        text: Markdown whose untrusted parts are escaped by `escape.markdown_text`. Links and raw HTML stay text.
        pictures: Name → PNG, or SVG as text. Other pictures are replaced by their description.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.disable(["html_block", "html_inline", "link", "autolink", "reference"])
    tokens = parser.parse(text)
    headings = _prepare(tokens)
    rules = {"table_open": _table_open, "table_close": _table_close, "image": _image, "text": _text}
    for name, rule in rules.items():
        parser.add_render_rule(name, rule)
    return str(parser.renderer.render(tokens, parser.options, {"pictures": pictures})), headings


def _prepare(tokens: Sequence[Token]) -> list[Heading]:
    """Set anchors, levels, scopes and classes of the tokens. Returns the headings."""
    headings: list[Heading] = []
    tables, last, cell = 0, "Table", False
    for i, token in enumerate(tokens):
        if token.type == "heading_open":
            token.tag = _LEVELS.get(token.tag, "h4")
            last = _plain(tokens[i + 1])
            anchor = f"s{len(headings) + 1}"
            token.attrSet("id", anchor)
            headings.append(Heading(int(token.tag[1]), anchor, last))
        elif token.type == "heading_close":
            token.tag = _LEVELS.get(token.tag, "h4")
        elif token.type == "table_open":
            tables += 1
            token.meta = {"label": f"{last}, table {tables}"}
        elif token.type in ("th_open", "td_open"):
            # A style attribute would need a looser policy.
            is_number = "right" in str(token.attrs.pop("style", ""))
            token.attrs |= {"class": "n"} if is_number else {}
            token.attrs |= {"scope": "col"} if token.type == "th_open" else {}
            cell = True
        elif token.type in ("th_close", "td_close"):
            cell = False
        elif token.type == "inline":
            for child in token.children or []:
                child.meta = {"cell": cell}
    return headings


def _plain(inline: Token) -> str:
    return "".join(t.content for t in inline.children or [])


# rules of the renderer ---------------------------------------------------------------------------------------------


def _table_open(self: Any, tokens: Sequence[Token], i: int, options: Any, env: Any) -> str:
    label = html.escape(tokens[i].meta["label"])
    return f'<div class="wide" role="region" tabindex="0" aria-label="{label}"><table>\n'


def _table_close(self: Any, tokens: Sequence[Token], i: int, options: Any, env: Any) -> str:
    return "</table></div>\n"


def _text(self: Any, tokens: Sequence[Token], i: int, options: Any, env: Any) -> str:
    text = html.escape(tokens[i].content)
    if tokens[i].meta.get("cell"):  # an interval after its figure
        return _INTERVAL.sub(r" <small>\1</small>", text)
    return text


def _image(self: Any, tokens: Sequence[Token], i: int, options: Any, env: Any) -> str:
    picture = env["pictures"].get(tokens[i].attrs.get("src"))
    about = html.escape(_plain(tokens[i]))
    if picture is None:
        return f"<em>{about}</em>"
    if isinstance(picture, str):
        return picture
    return f'<img alt="{about}" src="data:image/png;base64,{base64.b64encode(picture).decode()}">'
