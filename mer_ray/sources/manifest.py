"""A manifest: one row a track, as delimited text (CSV, TSV), JSON (lines, or an array) or Parquet.

Columns, under these and the many other names of `manifest_columns`: ``path`` or ``uri`` (relative paths start at the
manifest's folder; http, https, file, and the stores of `mer_ray.io.objects`), ``artist``, ``title``, ``album``,
``composer``, ``mbid``, ``spotify_id``, ``duration_s``, ``tags`` (`manifest_tags` has their forms), ``dataset``,
``split`` (train, valid or test), ``fold``, and ``track_id``, the user's own. A row needs artist and title, or a path,
or, where the manifest has neither paths nor titles, an id. `understood` describes how columns were read.

Labels are columns of the dimensions that ``collect.dimensions`` names (by default ``valence``, ``arousal`` and
``dominance``), on a declared scale; a row has a label where any of them is there. Their standard errors are
``se_valence`` or ``valence_se``; or follow from the SD over raters, ``sd_valence`` or ``valence_std``, with a number of
raters, ``n_raters`` or ``n_valence``, as SD / √n. Labels over time stand in tables of their own: `manifest_curves`.

A row with more cells than the header is refused; one with fewer cells lacks the last fields, but not a part of a label.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

from mer_ray.errors import ConfigError, InputError, TrackError
from mer_ray.io.delimited import is_missing, number
from mer_ray.io.identity import digest, one_line
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.io.track import Rating, SourceResult, Track
from mer_ray.sources import manifest_columns as columns
from mer_ray.sources import manifest_curves
from mer_ray.sources import manifest_labels as labelling
from mer_ray.sources import manifest_location as locations
from mer_ray.sources import manifest_tags as tagging
from mer_ray.sources.manifest_columns import Columns
from mer_ray.sources.manifest_curves import Curves
from mer_ray.sources.manifest_labels import Labels, Scale, Values
from mer_ray.sources.manifest_table import SUFFIXES as SUFFIXES
from mer_ray.sources.manifest_table import WORKBOOKS as WORKBOOKS
from mer_ray.sources.manifest_table import Row, Table, open_table
from mer_ray.sources.source import Stored, TrackSource

_SPOTIFY = re.compile(r"(?:spotify:track:|https?://open\.spotify\.com/(?:intl-\w+/)?track/)([A-Za-z0-9]{22})(?:\?.*)?")
_WHOLE = re.compile(r"\d+\.0+")
_NO_ID = frozenset(["na", "n/a", "nan", "none", "null", "-"])
_SPLITS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("valid", "validation", "val", "dev"), "valid"),
    **dict.fromkeys(("test", "testing", "eval", "evaluation"), "test"),
}
_NAMED = {";": "; ", ",": ", ", "|": "| ", "\n": "line ends ", "/": "/ "}


def tracks(
    manifest: str | Path, scale: Scale = (0.0, 1.0), to_score: bool = False, dimensions: Sequence[str] = DIMENSIONS
) -> Iterator[SourceResult]:
    """A `Track` per row; for a bad row one named "FILE, row N" (from 1 below the header) with its error.

    scale: the lowest and highest possible label of the manifest, which are mapped to 0..1. to_score: labels, tags and
    splits are ignored, and a row without a path or uri is bad. dimensions: of the labels. Raises InputError where the
    manifest as a whole is unusable, for instance with labels outside the scale.
    """
    file, own = Path(manifest).expanduser(), tuple(dimensions)
    table, names = _opened(file, own)
    if to_score:
        names.require_files(file)
    else:
        _survey(file, scale, own).labels.check(f"manifest {file}")
    for n, row in table.rows():
        where, own_id = f"{file.name}, row {n}", None
        try:
            cells = _Row(row, names, own)
            own_id = columns.identifier(cells["track_id"])
            yield _track(cells, own_id, file.parent, scale, to_score)
        except TrackError as error:
            nameless = Track("", where, key=digest(f"{file.resolve()}#{n}".encode())[:16], own_id=own_id)
            yield nameless, TrackError(error.reason, f"{where}: {error.message}")


def check(manifest: str | Path, scale: Scale = (0.0, 1.0), dimensions: Sequence[str] = DIMENSIONS) -> None:
    """Raises InputError unless there is a manifest with usable columns, at least one row, and labels on that scale."""
    file = Path(manifest).expanduser()
    found = _survey(file, scale, tuple(dimensions))
    if not found.rows:
        raise InputError(f"manifest {manifest} has no rows", "give a row per track")
    found.labels.check(f"manifest {file}")


def understood(manifest: str | Path, scale: Scale = (0.0, 1.0), dimensions: Sequence[str] = DIMENSIONS) -> list[str]:
    """Remarks for the user: the meaning of columns, unused columns, and guesses."""
    file, own = Path(manifest).expanduser(), tuple(dimensions)
    table, names = _opened(file, own)
    found = _survey(file, scale, own)
    notes = [*table.notes, names.note(), *names.notes, *names.doubts(scale, own)]
    marks = [f"{_NAMED[mark]}({n:,} rows)" for mark, n in found.separators.most_common()]
    if marks and (len(marks) > 1 or ";" not in found.separators):
        notes.append(f"tags are separated by {' and by '.join(marks)}")
    return [f"{file.name}: {line}" for line in [*notes, *found.labels.notes()]]


def _opened(file: Path, dimensions: tuple[str, ...]) -> tuple[Table, Columns]:
    table = open_table(file, partial(columns.n_known, dimensions=dimensions))
    if not table.names:
        raise InputError(f"manifest {file} has no rows", "give a header and a row per track")
    return table, columns.understand(file, table.names, dimensions)


class _Survey:
    """Counts over the whole manifest, before its tracks are read."""

    def __init__(self, table: Table, names: Columns, scale: Scale, dimensions: tuple[str, ...]) -> None:
        self.rows = 0
        self.labels = Labels(scale, dimensions)
        self.separators: Counter[str] = Counter()
        for n, cells in table.rows():
            self.rows += 1
            try:
                row = _Row(cells, names, dimensions)
                tags = row["tags"]
                if isinstance(tags, str) and (mark := tagging.separator(tags)):
                    self.separators[mark] += 1
                self.labels.add(n, label := row.label())
                self.labels.add_errors(row.errors(label, scale))
            except TrackError:
                continue  # `tracks` reports it


def _survey(file: Path, scale: Scale, dimensions: tuple[str, ...]) -> _Survey:
    if not file.is_file():
        _opened(file, dimensions)  # raises
    stat = file.stat()
    version = (stat.st_ino, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns)
    return _surveyed(file, (scale[0], scale[1]), dimensions, version)


@lru_cache(maxsize=2)
def _surveyed(file: Path, scale: Scale, dimensions: tuple[str, ...], version: tuple[int, ...]) -> _Survey:
    return _Survey(*_opened(file, dimensions), scale, dimensions)


class _Row:
    """A row's cells by field; None for missing ones. Raises TrackError for a bad row."""

    def __init__(self, cells: Row, names: Columns, dimensions: tuple[str, ...]) -> None:
        if isinstance(cells, TrackError):
            raise cells
        self._cells, self._at, self._dimensions = cells, names.at, dimensions

    def __contains__(self, field: str) -> bool:
        return field in self._at

    def __getitem__(self, field: str) -> Any:
        at = self._at.get(field)
        return None if at is None or at >= len(self._cells) else self._cells[at]

    def text(self, field: str, limit: int = 2_000) -> str:
        return one_line(columns.text(self[field]), limit)

    def label(self) -> Values | None:
        """The label on the manifest's scale. A row that ends in the middle of it is bad."""
        at = [self._at[d] for d in self._dimensions if d in self._at]
        cut = [i for i in at if i >= len(self._cells)]
        if cut and len(cut) < len(at):
            raise TrackError("bad_row", f"ends after {len(self._cells)} cells, in the middle of its label")
        return labelling.values([self[d] for d in self._dimensions], self._dimensions)

    def errors(self, label: Values | None, scale: Scale) -> Values:
        """The standard errors of a label, in 0..1; none where there is no label."""
        found: list[float | None] = []
        for d, x in zip(self._dimensions, label, strict=True) if label is not None else ():
            cells = self[f"se_{d}"], self[f"sd_{d}"], self[f"n_{d}" if f"n_{d}" in self else "n_raters"]
            found.append(None if x is None else labelling.standard_error(*cells, scale, d))
        return tuple(found)

    def ratings(self, scale: Scale) -> tuple[Rating, ...]:
        """The label and its errors, in 0..1."""
        if (label := self.label()) is None:
            return ()
        found = labelling.rescaled(label, scale, self._dimensions), self.errors(label, scale)
        return tuple(Rating(d, x, se) for d, x, se in zip(self._dimensions, *found, strict=True) if x is not None)


def _track(row: _Row, own_id: str | None, folder: Path, scale: Scale, to_score: bool) -> Track:
    artist, title = row.text("artist"), row.text("title")
    location, uri = None, None
    written = next((cell for f in ("path", "uri") if (cell := _location(row[f])).strip()), "")
    if written:
        location, uri = locations.resolve(written, folder)
    if own_id and uri is None and not title and not any(f in row for f in ("title", "path", "uri")):
        title = one_line(own_id)
    elif not (artist and title) and uri is None:
        raise TrackError("incomplete", "needs artist and title, or a path")
    if to_score and uri is None:
        raise TrackError("no_audio", f"{artist} – {title} has no path or uri")
    return Track(
        artist=artist,
        title=title or locations.title_of(uri or ""),
        album=row.text("album") or None,
        composer=row.text("composer") or None,
        mbid=_code(row.text("mbid")),
        spotify_id=_code(row.text("spotify_id")),
        duration_s=_duration_s(row),
        uri=uri,
        tags=() if to_score else tagging.parse(row["tags"]),
        ratings=() if to_score else row.ratings(scale),
        dataset=_known(row.text("dataset")),
        split=None if to_score else _split(row.text("split")),
        fold=_fold(row.text("fold")),
        location=location,
        own_id=own_id,
    )


def _location(value: Any) -> str:
    # Unchanged: a file's name may contain two blanks, or a newline.
    if isinstance(value, dict) and isinstance(value.get("path"), str):  # as Hugging Face stores audio
        return str(value["path"])
    return columns.text(value)


def _code(text: str) -> str | None:
    """A service's id, also from an address."""
    found = _SPOTIFY.fullmatch(text)
    return None if not text or text.casefold() in _NO_ID else found[1] if found else text


def _known(text: str) -> str | None:
    return None if is_missing(text) else text


def _fold(text: str) -> str | None:
    """A fold's name; numbers without ".0", since pandas writes integers with gaps so."""
    return _known(text.partition(".")[0] if _WHOLE.fullmatch(text) else text)


def _split(text: str) -> str | None:
    if is_missing(text):
        return None
    if (found := _SPLITS.get(text.casefold())) is None:
        raise TrackError("bad_split", f"split must be train, valid or test, got {one_line(text, 40)!r}")
    return found


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
    """The manifests at ``collect.manifest``, with labels on ``collect.scale``, and tables of labels over time.

    Several manifests are one catalog; a row without a ``dataset`` then belongs to the one that its file is called.
    """

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self._added = Counter[str]()
        self._songs = dict[str, str]()  # with curves → the track that it is

    @cached_property
    def _curves(self) -> Curves:
        return manifest_curves.read(
            self.settings.curves,
            self.settings.dimensions,
            self.settings.curve_scale or self.settings.scale,
            "collect.scale" if self.settings.curve_scale is None else "collect.curve_scale",
        )

    def check(self) -> None:
        """See `TrackSource`."""
        if not self.settings.manifests:
            raise ConfigError("collect.manifest is not set", "give the path of a CSV, JSON or Parquet file")
        for file in self.settings.manifests:
            check(file, self.settings.scale_of(file), self.settings.dimensions)
        _ = self._curves  # raises

    def identity(self) -> dict[str, Any]:
        """See `TrackSource`. A workspace of an earlier version records no dimensions: they were the default ones."""
        dimensions = list(self.settings.dimensions)
        return {"scale": self.settings.scale} | ({} if dimensions == [*DIMENSIONS] else {"dimensions": dimensions})

    def tracks(self, stored: Stored) -> Iterator[SourceResult]:
        """See `TrackSource`."""
        for file in self.settings.manifests:
            of_set = self.settings.dataset_of(file)
            for found in tracks(file, self.settings.scale_of(file), dimensions=self.settings.dimensions):
                if isinstance(found, Track):
                    yield self._with_curves(replace(found, dataset=found.dataset or of_set), file)
                else:
                    yield found
        if self._curves.songs and not self._songs:
            shown = ", ".join(sorted(self._curves.songs)[:3])
            raise InputError(
                f"none of the {len(self._curves.songs):,} songs in collect.curves is a track of the manifest: {shown}",
                "give the manifest a track_id with these ids, or audio files that are named like them",
            )

    def _with_curves(self, track: Track, manifest: str) -> SourceResult:
        """Add the track's curves, found by its id or by its file's name.

        Raises InputError where these find another track, too: whose curves they are is then unknown.
        """
        song = track.own_id or (locations.title_of(track.uri) if track.uri else "")
        if song in self._curves.songs:
            this = f"track_id {song} in {manifest}" if track.own_id else str(track.uri)
            if (other := self._songs.setdefault(song, this)) != this:
                raise InputError(
                    f"song {one_line(song, 60)} in collect.curves could be two tracks: {other} and {this}",
                    "give tracks and curves a track_id that no other data set has, as in deam-1",
                )
        if song in self._curves.errors:
            return track, self._curves.errors[song]
        if not (own := self._curves.of.get(song)):
            return track
        ratings = {r.dimension: r for r in track.ratings}
        for name, mean in manifest_curves.rated(own).items():
            if name not in ratings:
                self._added[name] += 1
                ratings[name] = Rating(name, mean)
        self._added[""] += 1
        ordered = tuple(ratings[d] for d in self.settings.dimensions if d in ratings)
        return replace(track, ratings=ordered, curves=own)

    def notes(self) -> list[str]:
        """See `TrackSource`."""
        files, own = self.settings.manifests, self.settings.dimensions
        lines = [line for file in files for line in understood(file, self.settings.scale_of(file), own)]
        if self.settings.curves:
            lines += [*self._curves.notes, f"{self._added['']:,} tracks have labels over time"]
            if made := [f"{name} {n:,}" for name in own if (n := self._added[name])]:
                lines.append(f"ratings that are the mean of the track's curve: {', '.join(made)}")
            if others := len(self._curves.songs - self._songs.keys()):
                shown = ", ".join(one_line(s, 60) for s in sorted(self._curves.songs - self._songs.keys())[:3])
                lines.append(f"curves of {others:,} songs belong to no track of the manifest: {shown}")
        return lines
