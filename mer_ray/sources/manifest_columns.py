"""The meaning of a manifest's columns by their names, as people and programs use them, in order of priority."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mer_ray.errors import InputError, TrackError
from mer_ray.io.identity import digest, one_line
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.io.vad_names import RATERS, is_spelled_out, key, meaning
from mer_ray.io.vad_names import scale as stated_scale

_NAMES = {
    "path": "path filepath fullpath audiopath trackpath songpath clippath location filelocation audiofile"
    " audiofilepath soundfile musicfile audiofilename file filename audio",
    "uri": "uri url audiouri audiourl fileuri fileurl",
    "artist": "artist artists artistname artistnames trackartist songartist performer performers band albumartist",
    "title": "title tracktitle songtitle trackname songname name song track",
    "album": "album albumtitle albumname release releasetitle",
    "composer": "composer composers composername",
    "mbid": "mbid musicbrainzid musicbrainzrecordingid musicbrainztrackid mbtrackid recordingmbid trackmbid",
    "spotify_id": "spotifyid spotifytrackid spotifyuri trackuri",
    "duration_s": "durations durationsec durationsecs durationseconds lengths lengthsec lengthseconds",
    "duration_ms": "durationms durationmilliseconds lengthms trackdurationms",
    "tags": "tags tag toptags lastfmtags moodtags moods mood",
    "track_id": "trackid songid clipid musicid fileid id audioid",
    "dataset": "dataset datasetname",
    "split": "split",
    "fold": "fold",
}
IDS = tuple(_NAMES["track_id"].split())
"""Keys of columns with a track's id."""
MAX_ID = 200  # characters of the user's own id
_WEIGHTS = ("weight", "weights", "tagweight", "tagweights", "tagcount", "tagcounts", "tagscores", "count", "score")
"""Columns of the weights of tags; the last two only together with a column ``tag``."""
_ALIASES = {field: names.split() for field, names in _NAMES.items()}
_FIELDS = frozenset(name for names in _ALIASES.values() for name in names)
_SHOWN = 12
"""Columns that a message names at most; there can be hundreds."""


@dataclass(frozen=True)
class Columns:
    """What the columns hold.

    Attributes:
        names: Of all columns.
        at: Field → index of its column. Errors of labels are ``se_valence``, ``sd_valence``, ``n_valence``, and
            ``n_raters`` for all dimensions.
        notes: Remarks on labels and errors that are not used.
    """

    names: tuple[str, ...]
    at: dict[str, int]
    notes: tuple[str, ...] = ()

    def note(self) -> str:
        """The meaning of columns, and the unused ones, in a line."""
        taken = [
            field if self.names[i].strip().casefold() == field else f"{_shown(self.names[i])} as {field}"
            for field, i in self.at.items()
        ]
        used = set(self.at.values())
        left = [_shown(name) for i, name in enumerate(self.names) if i not in used and name.strip()]
        nameless = sum(not name.strip() for name in self.names)
        if nameless:
            left.append("the one without a name" if nameless == 1 else f"{nameless} without a name")
        more = [f"and {len(left) - _SHOWN} more"] if len(left) > _SHOWN else []
        line = f"columns read: {', '.join(taken)}"
        return line + (f"; not used: {', '.join([*left[:_SHOWN], *more])}" if left else "")

    def require_files(self, file: Path) -> None:
        """Raises InputError unless there is a path or uri column."""
        if not self.at.keys() & {"path", "uri"}:
            raise InputError(
                f"manifest {file} has no column with the files",
                f"call it path; its columns are {one_line(', '.join(self.names), 200)}",
            )

    def doubts(self, scale: tuple[float, float], dimensions: Sequence[str]) -> list[str]:
        """A remark where the names of labels' columns state another scale than the one that they are read on."""
        stated = {name: stated_scale(name) for d in dimensions if d in self.at for name in [self.names[self.at[d]]]}
        other = [_shown(name) for name, found in stated.items() if found is not None and found != tuple(scale)]
        if not other:
            return []
        return [f"read on the scale {scale[0]:g}..{scale[1]:g}, and called otherwise: {', '.join(other)}"]


def n_known(names: Sequence[str], dimensions: Sequence[str] = DIMENSIONS) -> int:
    """The number of columns with a known name."""
    return sum(
        (own := key(name)) in _FIELDS or RATERS.fullmatch(own) is not None or meaning(name, dimensions) is not None
        for name in names
    )


def understand(file: Path, names: Sequence[str], dimensions: Sequence[str] = DIMENSIONS) -> Columns:
    """The meaning of columns. Raises InputError if it is ambiguous, or if no column identifies tracks."""
    keys = [key(name) for name in names]
    at: dict[str, int] = {}
    for field, aliases in _ALIASES.items():
        if field in dimensions:
            continue
        for alias in aliases:
            found = [i for i, k in enumerate(keys) if k == alias]
            if len(found) > 1:
                raise _twice(file, field, [names[i] for i in found])
            if found:
                at[field] = found[0]
                break
    weights = [name for name, k in zip(names, keys, strict=True) if k in _WEIGHTS[: None if "tag" in keys else -2]]
    if "tags" in at and weights:
        both = f"{_shown(weights[0])} seems to hold the weights of {_shown(names[at['tags']])}"
        raise InputError(
            f"manifest {file}: {both}",
            "write them into the tags, as in sad:80; slow:20, a row per track; or rename the column",
        )
    own, notes = _labels(file, names, set(at.values()), dimensions)
    at |= own
    if "duration_s" in at:
        at.pop("duration_ms", None)
    if not (at.keys() & {"path", "uri", "track_id"} or at.keys() >= {"artist", "title"}):
        raise InputError(
            f"manifest {file} has neither a path or uri column, nor artist and title, nor a track_id",
            f"its columns are {one_line(', '.join(names), 200) or 'none'}; the first row must name them",
        )
    return Columns(tuple(names), at, notes)


def _labels(
    file: Path, names: Sequence[str], taken: set[int], dimensions: Sequence[str]
) -> tuple[dict[str, int], tuple[str, ...]]:
    """(columns of labels and their errors, remarks). The exact name comes first; otherwise only one may match."""
    meant = {i: m for i, name in enumerate(names) if i not in taken and (m := meaning(name, dimensions)) is not None}
    every = [*dict.fromkeys([*dimensions, *DIMENSIONS])]  # V says more beside A, whether A is wanted or not
    other = {i: meaning(name, every) for i, name in enumerate(names) if i not in taken}
    values = {i: m[0] for i, m in other.items() if m is not None and m[1] == "value"}
    short = {d for i, d in values.items() if not is_spelled_out(names[i], every)}
    if not {"valence", "arousal"} <= set(values.values()) or len(short) == 1:  # a single letter is ambiguous
        meant = {i: m for i, m in meant.items() if is_spelled_out(names[i], dimensions)}
    found = {}
    for d in dimensions:
        for kind in ("value", "se", "sd", "n"):
            columns = [i for i in meant if meant[i] == (d, kind)]
            exact = [i for i in columns if kind == "value" and key(names[i]) == key(d)]
            field = d if kind == "value" else f"{kind}_{d}"
            if len(chosen := exact or columns) > 1:
                raise _twice(file, field, [names[i] for i in chosen])
            if chosen and (kind == "value" or d in found):
                found[field] = chosen[0]
    raters = [i for i, name in enumerate(names) if i not in {*taken, *found.values()} and RATERS.fullmatch(key(name))]
    return _errors(file, names, found, raters, dimensions)


def _errors(
    file: Path, names: Sequence[str], found: dict[str, int], raters: Sequence[int], dimensions: Sequence[str]
) -> tuple[dict[str, int], tuple[str, ...]]:
    """Leave only those columns of errors that standard errors follow from, and remark what is left out."""
    lone = []
    for d in dimensions:
        if f"se_{d}" in found or f"sd_{d}" not in found:
            found = {field: i for field, i in found.items() if field not in (f"sd_{d}", f"n_{d}")}
        elif f"n_{d}" not in found and len(raters) != 1:
            lone.append(_shown(names[found.pop(f"sd_{d}")]))
        elif f"n_{d}" not in found:
            found["n_raters"] = raters[0]
    notes = []
    if lone and len(raters) > 1:
        raise _twice(file, "n_raters", [names[i] for i in raters])
    if lone:
        notes.append(f"not used as errors of the labels: {', '.join(lone)} (give the number of raters as n_raters)")
    others = [d for d in DIMENSIONS if d not in dimensions]
    known = {*found.values()}
    unused = [
        name
        for i, name in enumerate(names)
        if i not in known and (m := meaning(name, others)) and m[1] == "value" and is_spelled_out(name, others)
    ]
    if unused:
        notes.append(
            f"labels that are not used: {', '.join(map(_shown, unused))} (collect.dimensions is {','.join(dimensions)})"
        )
    return found, tuple(notes)


def _twice(file: Path, field: str, names: Sequence[str]) -> InputError:
    both = " and ".join(_shown(name) for name in names)
    return InputError(f"manifest {file}: {len(names)} columns could be {field}: {both}", "rename or remove all but one")


def _shown(name: str) -> str:
    return one_line(name, 40)


def text(value: Any) -> str:
    """A cell of any kind as text; whole numbers without ".0", since pandas turns integers with gaps into floats."""
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, list | tuple):
        return ", ".join(text(item) for item in value)
    if isinstance(value, dict):  # Last.fm's artists and albums are objects
        for name in ("name", "title", "#text"):
            if isinstance(value.get(name), str):
                return str(value[name])
        raise TrackError("bad_row", f"text is wanted, got {one_line(repr(value), 80)}")
    return str(value)


def identifier(value: Any) -> str | None:
    """The user's own id, unchanged; of one longer than `MAX_ID`, the start and a hash."""
    own = one_line(text(value), 1_000_000)
    if len(own) > MAX_ID:
        own = f"{own[: MAX_ID - 17]}-{digest(own.encode())[:16]}"
    return own or None
