"""A manifest: one row a track, as CSV, JSON lines or Parquet.

Columns: ``path`` or ``uri`` (relative paths start at the manifest's folder; http, https, file, and the stores of
`mer_ray.audio.objects`), ``artist``, ``title``, ``album``, ``composer``, ``mbid``, ``spotify_id``, ``duration_s``,
``tags`` (``name:weight; name:weight`` or ``name; name``, or in JSON and Parquet a list of names or of name and weight),
and ``valence``, ``arousal``, ``dominance`` on a declared scale. A row needs artist and title, or a path. Other columns
are ignored.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pyarrow as pa
import pyarrow.parquet as pq

from mer_ray.audio import objects
from mer_ray.audio.location import is_url, to_path, to_uri
from mer_ray.errors import InputError, TrackError
from mer_ray.identity import digest, file_digest, one_line
from mer_ray.schemas import DIMENSIONS
from mer_ray.sources import Found, Track

SUFFIXES = (".csv", ".jsonl", ".ndjson", ".parquet")


def tracks(manifest: str | Path, scale: tuple[float, float] = (0.0, 1.0)) -> Iterator[Found]:
    """A `Track` per row, or the row's place with a TrackError saying what is wrong with it.

    scale: the lowest and highest value that the manifest's labels can have; they are mapped to 0..1.
    Raises InputError where the manifest as a whole cannot be used.
    """
    file = Path(manifest).expanduser()
    for number, row in _rows(file):
        place = f"{file.name}, row {number}"
        try:
            if isinstance(row, TrackError):
                raise row
            yield _track(row, file.parent, scale)
        except TrackError as error:
            nameless = Track("", place, key=digest(f"{file.resolve()}#{number}".encode())[:16])
            yield nameless, TrackError(error.reason, f"{place}: {error.message}")


def check(manifest: str | Path) -> None:
    """Raises InputError unless there is a manifest with usable columns and at least one row."""
    if next(_rows(Path(manifest).expanduser()), None) is None:
        raise InputError(f"manifest {manifest} has no rows", "give a row per track")


def _rows(file: Path) -> Iterator[tuple[int, Mapping[str, Any] | TrackError]]:
    """(row number from 1, row or what is wrong with it)."""
    if not file.is_file():
        raise InputError(f"manifest {file} does not exist", "give the path of a CSV, JSON lines or Parquet file")
    readers = {".csv": _csv, ".jsonl": _json_lines, ".ndjson": _json_lines, ".parquet": _parquet}
    if file.suffix.lower() not in readers:
        raise InputError(f"manifest {file} is of an unknown kind", f"its name must end in {', '.join(SUFFIXES)}")
    try:
        yield from enumerate(readers[file.suffix.lower()](file), start=1)
    except (UnicodeDecodeError, csv.Error, pa.ArrowException, OSError) as error:
        raise InputError(f"manifest {file} cannot be read ({one_line(str(error), 200)})") from error


def _csv(file: Path) -> Iterator[Mapping[str, Any]]:
    with file.open(encoding="utf-8-sig", newline="") as handle:
        reader = csv.DictReader(handle)
        _check_columns(file, reader.fieldnames or [])
        for row in reader:
            yield {str(k).strip().casefold(): v for k, v in row.items() if k is not None}


def _json_lines(file: Path) -> Iterator[Mapping[str, Any] | TrackError]:
    usable = False
    with file.open(encoding="utf-8-sig") as handle:
        for line in handle:
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                yield TrackError("bad_row", f"is not JSON ({one_line(str(error), 120)})")
                continue
            if not isinstance(row, dict):
                yield TrackError("bad_row", 'must be an object, as in {"path": ...}')
                continue
            if not usable:  # a later row may leave out what it lacks
                _check_columns(file, list(row))
                usable = True
            yield {str(k).strip().casefold(): v for k, v in row.items()}


def _parquet(file: Path) -> Iterator[Mapping[str, Any]]:
    parquet = pq.ParquetFile(file)
    _check_columns(file, parquet.schema_arrow.names)
    for batch in parquet.iter_batches(batch_size=4096):
        for row in batch.to_pylist():
            yield {str(k).strip().casefold(): v for k, v in row.items()}


def _check_columns(file: Path, names: list[str] | Any) -> None:
    known = {str(n).strip().casefold() for n in names}
    if not ({"path", "uri"} & known or {"artist", "title"} <= known):
        raise InputError(
            f"manifest {file} has neither a path or uri column, nor artist and title",
            f"its columns are {one_line(', '.join(map(str, names)), 200) or 'none'}",
        )


def _track(row: Mapping[str, Any], folder: Path, scale: tuple[float, float]) -> Track:
    artist, title, place = _text(row, "artist"), _text(row, "title"), _place(row)
    uri = _uri(place, folder) if place else None
    if not (artist and title) and uri is None:
        raise TrackError("incomplete", "needs artist and title, or a path")
    return Track(
        artist=artist,
        title=title or one_line(Path(_bare(place)).stem),
        album=_text(row, "album") or None,
        composer=_text(row, "composer") or None,
        mbid=_text(row, "mbid") or None,
        spotify_id=_text(row, "spotify_id") or None,
        duration_s=_duration_s(row),
        uri=uri,
        tags=parse_tags(row.get("tags")),
        given=_given(row, scale),
        key=None if artist and title else _content_key(uri or ""),
    )


def _uri(place: str, folder: Path) -> str:
    try:
        if is_url(place) or place.startswith("file://"):
            urlsplit(place)
            place.encode()
            return place
        if objects.is_object(place):
            urlsplit(place)
            place.encode()
            return place
        if "://" in place:
            known = ", ".join(("paths", "file", "http", "https", *objects.SCHEMES))
            raise TrackError("bad_uri", f"{objects.shown(place)}: only these can be fetched: {known}")
        path = Path(place).expanduser()
        return to_uri(path if path.is_absolute() else (folder / path).absolute())
    except (ValueError, RuntimeError) as error:
        raise TrackError("bad_uri", f"{objects.shown(place)} is no address ({one_line(str(error), 120)})") from error


def _bare(place: str) -> str:
    """A place without what no title should show: the query of an address, in which there may be a signature."""
    return re.split(r"[?#]", place, maxsplit=1)[0] if "://" in place else place


def _content_key(uri: str) -> str:
    if not is_url(uri) and not objects.is_object(uri):
        path = to_path(uri)
        if path.is_file():
            try:
                return file_digest(path)[:16]
            except OSError as error:
                raise TrackError(
                    "unreadable", f"{one_line(str(path), 200)} cannot be read ({error.strerror})"
                ) from error
    return digest(uri.encode())[:16]


def _text(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    return "" if _missing(value) else one_line(str(value), 2_000)


def _place(row: Mapping[str, Any]) -> str:
    # To the letter: a file's name may hold two blanks, or a newline.
    cells = [str(row[key]) for key in ("path", "uri") if not _missing(row.get(key))]
    return next((cell for cell in cells if cell.strip()), "")


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def parse_tags(value: Any) -> tuple[tuple[str, float], ...]:
    """``name:weight; name`` as text, or a list of names, of (name, weight) or of {name, weight}; default weight 1.

    A colon belongs to the name unless a number follows it. Tags of weight 0, which Last.fm gives to the rarest, are
    left out. Raises TrackError for a weight that is negative or no number.
    """
    if value is None:
        return ()
    if isinstance(value, str):
        tags = [_tag_text(part.strip()) for part in value.split(";") if part.strip()]
    elif isinstance(value, list | tuple):
        tags = [_tag_item(item) for item in value]
    else:
        raise TrackError("bad_tags", f"tags must be text or a list, got {one_line(repr(value), 80)}")
    return tuple((name, weight) for name, weight in tags if weight > 0)


def _tag_text(text: str) -> tuple[str, float]:
    name, colon, weight = text.rpartition(":")
    if colon and name.strip():
        try:
            return name.strip(), _weight(float(weight), text)
        except ValueError:
            return text, 1.0
    return text, 1.0


def _tag_item(item: Any) -> tuple[str, float]:
    if isinstance(item, str):
        return item.strip(), 1.0
    name, weight = None, None
    if isinstance(item, Mapping):
        name, weight = item.get("name"), item.get("weight")
        weight = 1.0 if weight is None else weight  # Parquet has a null where JSON has nothing
    elif isinstance(item, list | tuple) and len(item) == 2:
        name, weight = item
    try:
        if isinstance(name, str) and weight is not None:
            return name.strip(), _weight(float(weight), str(item))
    except (TypeError, ValueError, OverflowError) as error:
        raise TrackError("bad_tags", f"weight of {one_line(repr(item), 80)} is not a number") from error
    raise TrackError("bad_tags", f"a tag must be a name, or a name and a weight, got {one_line(repr(item), 80)}")


def _weight(value: float, shown: str) -> float:
    if not (math.isfinite(value) and value >= 0):
        raise TrackError("bad_tags", f"weight of {one_line(shown, 80)!r} must be 0 or more")
    return value


def _duration_s(row: Mapping[str, Any]) -> float | None:
    cell = row.get("duration_s")
    if _missing(cell) or cell == "":
        return None
    try:
        value = float(cell)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        value = math.nan
    if not (math.isfinite(value) and value > 0):
        raise TrackError("bad_duration", f"duration_s must be seconds over 0, got {one_line(repr(cell), 40)}")
    return value


def _given(row: Mapping[str, Any], scale: tuple[float, float]) -> tuple[float, float, float] | None:
    cells = [row.get(d) for d in DIMENSIONS]
    if any(_missing(c) or c == "" for c in cells):
        return None
    low, high = scale
    values = []
    for dimension, cell in zip(DIMENSIONS, cells, strict=True):
        try:
            value = float(cell)  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError) as error:
            raise TrackError("bad_label", f"{dimension} is not a number: {one_line(repr(cell), 40)}") from error
        if not low <= value <= high:
            raise TrackError(
                "bad_label",
                f"{dimension} {value:g} is outside the scale {low:g}..{high:g}; declare the scale as collect.scale",
            )
        values.append((value - low) / (high - low))
    return values[0], values[1], values[2]
