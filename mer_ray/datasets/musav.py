"""MusAV (Bogdanov et al., ISMIR 2022): which of two tracks is higher in arousal, and in valence. It has no ratings.

The copy is the repository MTG/musav-dataset, with ``data/audio.chunk_000-006.songids`` and
``data/annotations/annotations.DIMENSION.all.agreement.gt``, and the previews of its Zenodo archive below it (where in
``data/audio_chunks/`` they lie could not be verified: they are found by their names, the Spotify ids). A model is
judged by the share of pairs that it orders as the raters did; pairs called equal do not count (scripts/evaluate.py
there).
"""

from __future__ import annotations

import ast
import json
import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from mer_ray.datasets.base import Contents, DataSet, Item
from mer_ray.datasets.copied import Folder
from mer_ray.errors import InputError
from mer_ray.io import delimited
from mer_ray.io.identity import one_line

_ID = re.compile(r"[0-9A-Za-z]{22}")
_FIELDS = ("pairid", "higher_value", "agreement", "triplet_consistency")


class MusAV(DataSet):
    """See the module."""

    name = "musav"
    title = "MusAV, relative arousal and valence of pairs of tracks"
    n_tracks = 2100
    labels = "which of two tracks has more valence, and more arousal, by three of 20 raters a pair; no values"
    citation = (
        "Bogdanov, D., Lizarraga-Seijas, X., Alonso-Jiménez, P., & Serra, X. (2022). MusAV: A dataset of relative "
        "arousal-valence annotations for validation of audio models. ISMIR 2022. http://hdl.handle.net/10230/54181"
    )
    licence = "annotations CC BY-NC-SA 4.0; previews on request, for research that is not commercial"
    where = "https://github.com/MTG/musav-dataset and https://zenodo.org/record/7448344"
    protocol = "the share of pairs in the raters' order, without those that they call equal; it is for testing only"
    dimensions = ()

    def read(self, folder: Folder) -> Contents:
        """See `DataSet`."""
        songs = folder.need("audio.chunk_000-006.songids")
        items = []
        for n, song in _lines(folder, songs):
            if not _ID.fullmatch(song):
                raise InputError(f"{songs}, row {n}: {one_line(repr(song), 40)} is no Spotify id", folder.advice)
            items.append(Item(song, folder.audio(song), more={"spotify_id": song}))
        pairs: list[Sequence[str]] = [("dimension", "track_a", "track_b", "higher", "agreement", "consistency")]
        known = {item.track_id for item in items}
        for dimension in ("valence", "arousal"):
            file = folder.need(f"annotations/annotations.{dimension}.all.agreement.gt")
            for n, text in _lines(folder, file):
                pair = _pair(text)
                a, _, b = str(pair.get("pairid", "")).partition("-")
                if {a, b} - known or pair.get("higher_value") not in ("a", "b", "ab"):
                    raise InputError(f"{file}, row {n}: is no pair of two tracks of {songs.name}", folder.advice)
                pairs.append((dimension, a, b, *(str(pair.get(f, "")) for f in _FIELDS[1:])))
        notes = [
            f"{len(pairs) - 1:,} judgements of pairs are in pairs.csv: docs/datasets.md shows how to compare with them"
        ]
        return Contents(items, tables={"pairs.csv": pairs}, notes=notes)

    def next_command(self, out: Path) -> str:
        """See `DataSet`."""
        return f"mer-ray score {shlex.quote(str(out / 'musav.csv'))} --out scores.csv"


def _lines(folder: Folder, file: Path) -> Iterator[tuple[int, str]]:
    folder.read.append(file)
    for n, line in enumerate(delimited.lines(file, delimited.encoding(file)), start=1):
        if line.strip():
            yield n, line.strip()


def _pair(text: str) -> dict[str, Any]:
    """A line: JSON, or as Python prints a dict; both occur in the release. Empty where it is neither."""
    for parse in (json.loads, ast.literal_eval):
        try:
            found = parse(text)
        except (ValueError, SyntaxError, RecursionError, MemoryError):
            continue
        if isinstance(found, dict):
            return found
    return {}


DATASET = MusAV()
