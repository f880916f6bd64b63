"""The meaning of a manifest's columns by their names, as people and programs use them, in order of priority."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mer_ray.errors import InputError
from mer_ray.io.identity import one_line
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.io.vad_names import dimension, is_spelled_out, key

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
}
_WEIGHTS = ("weight", "weights", "tagweight", "tagweights", "tagcount", "tagcounts", "tagscores", "count", "score")
"""Columns of the weights of tags; the last two only together with a column ``tag``."""
_ALIASES = {field: names.split() for field, names in _NAMES.items()}
_FIELDS = frozenset(name for names in _ALIASES.values() for name in names)
_SHOWN = 12
"""Columns that a message names at most; there can be hundreds."""


@dataclass(frozen=True)
class Columns:
    """names: of all columns. at: field → index of its column."""

    names: tuple[str, ...]
    at: dict[str, int]

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


def n_known(names: Sequence[str]) -> int:
    """The number of columns with a known name."""
    return sum(key(name) in _FIELDS or dimension(name) is not None for name in names)


def understand(file: Path, names: Sequence[str]) -> Columns:
    """The meaning of columns. Raises InputError if it is ambiguous, or if no column identifies tracks."""
    keys = [key(name) for name in names]
    at: dict[str, int] = {}
    for field, aliases in _ALIASES.items():
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
    at |= _dimensions(file, names, set(at.values()))
    if "duration_s" in at:
        at.pop("duration_ms", None)
    if not (at.keys() & {"path", "uri", "track_id"} or at.keys() >= {"artist", "title"}):
        raise InputError(
            f"manifest {file} has neither a path or uri column, nor artist and title, nor a track_id",
            f"its columns are {one_line(', '.join(names), 200) or 'none'}; the first row must name them",
        )
    return Columns(tuple(names), at)


def _dimensions(file: Path, names: Sequence[str], taken: set[int]) -> dict[str, int]:
    """Columns of dimensions: the exact name comes first; otherwise only one column may match."""
    meant = {i: d for i, name in enumerate(names) if i not in taken and (d := dimension(name)) is not None}
    short = {d for i, d in meant.items() if not is_spelled_out(names[i])}
    if not {0, 1} <= short | {d for i, d in meant.items() if is_spelled_out(names[i])} or len(short) == 1:
        meant = {i: d for i, d in meant.items() if is_spelled_out(names[i])}  # a single letter is ambiguous
    found = {}
    for d, field in enumerate(DIMENSIONS):
        columns = [i for i in meant if meant[i] == d]
        exact = [i for i in columns if key(names[i]) == field]
        chosen = exact or columns
        if len(chosen) > 1:
            raise _twice(file, field, [names[i] for i in chosen])
        if chosen:
            found[field] = chosen[0]
    return found


def _twice(file: Path, field: str, names: Sequence[str]) -> InputError:
    both = " and ".join(_shown(name) for name in names)
    return InputError(f"manifest {file}: {len(names)} columns could be {field}: {both}", "rename or remove all but one")


def _shown(name: str) -> str:
    return one_line(name, 40)
