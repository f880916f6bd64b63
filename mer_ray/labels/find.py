"""Finds the track that matches a query."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mer_ray import extras
from mer_ray.errors import InputError
from mer_ray.io.identity import normalise, one_line
from mer_ray.io.tables import Workspace

_NEAR = 3  # similar names that an error lists


def find(workspace: Workspace, query: str) -> dict[str, Any]:
    """The row of ``tracks`` that matches (its track_id, artist, title, tags, ratings and curves).

    query: "Artist – Title" (a hyphen or dash between blanks), a track_id, or a title that only one track has, compared
    after `identity.normalise`. Raises InputError where none or several match, listing similar names.
    """
    exact: list[dict[str, Any]] = []
    titled: list[dict[str, Any]] = []
    spelled: list[tuple[str, str]] = []
    normalised = normalise(query)
    pairs = {(normalise(a), normalise(t)) for a, t in _splits(query)}
    for tracks in workspace.batches("tracks", ["track_id", "artist", "title", "tags", "ratings", "curves"]):
        ids, artists, titles = (tracks[c].to_pylist() for c in ("track_id", "artist", "title"))
        for i, (own, artist, title) in enumerate(zip(ids, artists, titles, strict=True)):
            if own == query.strip() or (normalise(artist), normalise(title)) in pairs:
                exact.append(tracks.slice(i, 1).to_pylist()[0])
            elif normalise(title) == normalised:
                titled.append(tracks.slice(i, 1).to_pylist()[0])
            spelled.append((own, f"{artist} – {title}"))
    if not spelled:
        workspace.require("tracks", "collect", ["track_id"])
    found = exact or titled
    if len(found) == 1:
        return found[0]
    if found:
        listed = "; ".join(f"{t['artist']} – {t['title']} ({t['track_id']})" for t in found[:_NEAR])
        raise InputError(
            f"{len(found)} tracks are called {one_line(query, 100)!r}", f"give the id of one: {one_line(listed)}"
        )
    near = "; ".join(_like(normalised, spelled))
    raise InputError(
        f"no track is called {one_line(query, 100)!r}",
        f'give it as "Artist – Title"; near it: {one_line(near)}' if near else 'give it as "Artist – Title"',
    )


def _splits(query: str) -> Iterator[tuple[str, str]]:
    """Every way to split "Artist – Title" at a dash between blanks."""
    text = one_line(query)
    for dash in ("–", "—", "-", "−", "‐", "‑", "‒", "―"):
        parts = text.split(f" {dash} ")
        for at in range(1, len(parts)):
            yield f" {dash} ".join(parts[:at]), f" {dash} ".join(parts[at:])


def _like(normalised: str, spelled: list[tuple[str, str]]) -> list[str]:
    extras.require("train", "rapidfuzz")
    from rapidfuzz import fuzz, process

    names = {name: one_line(name, 100) for _, name in spelled}
    found = process.extract(normalised, names.keys(), scorer=fuzz.token_sort_ratio, processor=normalise, limit=_NEAR)
    return [names[name] for name, score, _ in found if score > 50]
