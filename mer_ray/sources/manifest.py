"""A manifest: one row a track, as delimited text (CSV, TSV), JSON (lines, or an array) or Parquet.

Columns, under these and the many other names of `manifest_columns`: ``path`` or ``uri`` (relative paths start at the
manifest's folder; http, https, file, and the stores of `mer_ray.io.objects`), ``artist``, ``title``, ``album``,
``composer``, ``mbid``, ``spotify_id``, ``duration_s``, ``tags`` (`manifest_tags` has their forms), ``valence``,
``arousal``, ``dominance`` on a declared scale, and ``track_id``, the user's own. A row needs artist and title, or a
path, or, where the manifest has neither paths nor titles, an id. `understood` describes how columns were read.

A row with more cells than the header is refused; one with fewer cells lacks the last fields, but not a part of a label.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from mer_ray.errors import ConfigError, InputError, TrackError
from mer_ray.io.delimited import number
from mer_ray.io.identity import digest, one_line
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.io.track import SourceResult, Track
from mer_ray.sources import manifest_columns as columns
from mer_ray.sources import manifest_labels as labelling
from mer_ray.sources import manifest_location as locations
from mer_ray.sources import manifest_tags as tagging
from mer_ray.sources.manifest_columns import Columns
from mer_ray.sources.manifest_labels import Labels, Scale
from mer_ray.sources.manifest_table import SUFFIXES as SUFFIXES
from mer_ray.sources.manifest_table import Row, Table, open_table
from mer_ray.sources.source import Stored, TrackSource

MAX_ID = 200  # characters of the user's own id
_SPOTIFY = re.compile(r"(?:spotify:track:|https?://open\.spotify\.com/(?:intl-\w+/)?track/)([A-Za-z0-9]{22})(?:\?.*)?")
_NO_ID = frozenset(["na", "n/a", "nan", "none", "null", "-"])
_NAMED = {";": "; ", ",": ", ", "|": "| ", "\n": "line ends ", "/": "/ "}


def tracks(manifest: str | Path, scale: Scale = (0.0, 1.0), labels: bool = True) -> Iterator[SourceResult]:
    """A `Track` per row; for a bad row one named "FILE, row N" (from 1 below the header) with its error.

    scale: the lowest and highest possible label of the manifest, which are mapped to 0..1. labels: False ignores labels
    and tags. Raises InputError where the manifest as a whole is unusable, for instance with labels outside the scale.
    """
    file = Path(manifest).expanduser()
    table, names = _opened(file)
    if labels:
        _survey(file, scale).labels.check(f"manifest {file}")
    for n, row in table.rows():
        where = f"{file.name}, row {n}"
        try:
            yield _track(_Row(row, names), file.parent, scale, labels)
        except TrackError as error:
            nameless = Track("", where, key=digest(f"{file.resolve()}#{n}".encode())[:16])
            yield nameless, TrackError(error.reason, f"{where}: {error.message}")


def check(manifest: str | Path, scale: Scale = (0.0, 1.0)) -> None:
    """Raises InputError unless there is a manifest with usable columns, at least one row, and labels on that scale."""
    file = Path(manifest).expanduser()
    found = _survey(file, scale)
    if not found.rows:
        raise InputError(f"manifest {manifest} has no rows", "give a row per track")
    found.labels.check(f"manifest {file}")


def understood(manifest: str | Path, scale: Scale = (0.0, 1.0)) -> list[str]:
    """Remarks for the user: the meaning of columns, unused columns, and guesses."""
    file = Path(manifest).expanduser()
    table, names = _opened(file)
    found = _survey(file, scale)
    notes = [f"{file.name}: {line}" for line in (*table.notes, names.note())]
    marks = [f"{_NAMED[mark]}({n:,} rows)" for mark, n in found.separators.most_common()]
    if marks and (len(marks) > 1 or ";" not in found.separators):
        notes.append(f"{file.name}: tags are separated by {' and by '.join(marks)}")
    return notes + [f"{file.name}: {line}" for line in found.labels.notes()]


def _opened(file: Path) -> tuple[Table, Columns]:
    table = open_table(file, columns.n_known)
    if not table.names:
        raise InputError(f"manifest {file} has no rows", "give a header and a row per track")
    return table, columns.understand(file, table.names)


class _Survey:
    """Counts over the whole manifest, before its tracks are read."""

    def __init__(self, table: Table, names: Columns, scale: Scale) -> None:
        self.rows = 0
        self.labels = Labels(scale)
        self.separators: Counter[str] = Counter()
        for n, cells in table.rows():
            self.rows += 1
            try:
                row = _Row(cells, names)
                tags = row["tags"]
                if isinstance(tags, str) and (mark := tagging.separator(tags)):
                    self.separators[mark] += 1
                self.labels.add(n, labelling.values(row.label()))
            except TrackError:
                continue  # `tracks` reports it


def _survey(file: Path, scale: Scale) -> _Survey:
    if not file.is_file():
        _opened(file)  # raises
    stat = file.stat()
    return _surveyed(file, scale, (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns))


@lru_cache(maxsize=2)
def _surveyed(file: Path, scale: Scale, version: tuple[int, ...]) -> _Survey:
    return _Survey(*_opened(file), scale)


class _Row:
    """A row's cells by field; None for missing ones. Raises TrackError for a bad row."""

    def __init__(self, cells: Row, names: Columns) -> None:
        if isinstance(cells, TrackError):
            raise cells
        self._cells, self._at = cells, names.at

    def __contains__(self, field: str) -> bool:
        return field in self._at

    def __getitem__(self, field: str) -> Any:
        at = self._at.get(field)
        return None if at is None or at >= len(self._cells) else self._cells[at]

    def text(self, field: str, limit: int = 2_000) -> str:
        return one_line(_text(self[field]), limit)

    def label(self) -> Sequence[Any]:
        """Valence, arousal, dominance. A row that ends between them is bad."""
        at = [self._at[d] for d in DIMENSIONS if d in self._at]
        cut = [i for i in at if i >= len(self._cells)]
        if cut and len(cut) < len(at):
            raise TrackError("bad_row", f"ends after {len(self._cells)} cells, in the middle of its label")
        return [self[d] for d in DIMENSIONS]


def _track(row: _Row, folder: Path, scale: Scale, labels: bool) -> Track:
    artist, title, own_id = row.text("artist"), row.text("title"), _id(row["track_id"])
    location, uri = None, None
    written = next((cell for f in ("path", "uri") if (cell := _location(row[f])).strip()), "")
    if written:
        location, uri = locations.resolve(written, folder)
    if own_id and uri is None and not title and not any(f in row for f in ("title", "path", "uri")):
        title = one_line(own_id)
    elif not (artist and title) and uri is None:
        raise TrackError("incomplete", "needs artist and title, or a path")
    label = labelling.values(row.label()) if labels else None
    return Track(
        artist=artist,
        title=title or locations.title_of(uri or ""),
        album=row.text("album") or None,
        composer=row.text("composer") or None,
        mbid=_code(row.text("mbid")),
        spotify_id=_code(row.text("spotify_id")),
        duration_s=_duration_s(row),
        uri=uri,
        tags=tagging.parse(row["tags"]) if labels else (),
        given=None if label is None else labelling.rescaled(label, scale),
        location=location,
        own_id=own_id,
    )


def _text(value: Any) -> str:
    """A cell of any kind as text; whole numbers without ".0", since pandas turns integers with gaps into floats."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, list | tuple):
        return ", ".join(_text(item) for item in value)
    if isinstance(value, dict):  # Last.fm's artists and albums are objects
        for name in ("name", "title", "#text"):
            if isinstance(value.get(name), str):
                return str(value[name])
        raise TrackError("bad_row", f"text is wanted, got {one_line(repr(value), 80)}")
    return str(value)


def _location(value: Any) -> str:
    # Unchanged: a file's name may contain two blanks, or a newline.
    if isinstance(value, dict) and isinstance(value.get("path"), str):  # as Hugging Face stores audio
        return str(value["path"])
    return _text(value)


def _id(value: Any) -> str | None:
    """The user's own id, unchanged; of one longer than `MAX_ID`, the start and a hash."""
    text = one_line(_text(value), 1_000_000)
    if len(text) > MAX_ID:
        text = f"{text[: MAX_ID - 17]}-{digest(text.encode())[:16]}"
    return text or None


def _code(text: str) -> str | None:
    """A service's id, also from an address."""
    found = _SPOTIFY.fullmatch(text)
    return None if not text or text.casefold() in _NO_ID else found[1] if found else text


def _duration_s(row: _Row) -> float | None:
    field = "duration_s" if "duration_s" in row else "duration_ms"
    cell = row[field]
    try:
        seconds = labelling.value(cell)
        if isinstance(cell, str) and seconds is not None:
            number(cell, thousands=True)
    except (TypeError, ValueError, OverflowError):
        seconds = math.nan
    if seconds is None:
        return None
    if not (math.isfinite(seconds) and seconds > 0):
        unit = "seconds" if field == "duration_s" else "milliseconds"
        raise TrackError("bad_duration", f"{field} must be {unit} over 0, got {one_line(repr(cell), 40)}")
    return seconds if field == "duration_s" else seconds / 1_000


class Source(TrackSource):
    """The manifest at ``collect.manifest``, with labels on ``collect.scale``."""

    def check(self) -> None:
        """See `TrackSource`."""
        if not self.settings.manifest:
            raise ConfigError("collect.manifest is not set", "give the path of a CSV, JSON or Parquet file")
        check(self.settings.manifest, self.settings.scale)

    def identity(self) -> dict[str, Any]:
        """See `TrackSource`."""
        return {"scale": self.settings.scale}

    def tracks(self, stored: Stored) -> Iterator[SourceResult]:
        """See `TrackSource`."""
        return tracks(self.settings.manifest, self.settings.scale)

    def notes(self) -> list[str]:
        """See `TrackSource`."""
        return understood(self.settings.manifest, self.settings.scale)
