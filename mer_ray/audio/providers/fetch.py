"""One track's audio, by the first provider that has it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import urlsplit

from mer_ray.audio.decode import Probe
from mer_ray.errors import TrackError
from mer_ray.io import address
from mer_ray.io.address import is_url, to_path
from mer_ray.io.http import unlimited
from mer_ray.io.identity import normalise, one_line
from mer_ray.io.objects import local_copy
from mer_ray.io.rate_limit import Slot
from mer_ray.io.track import Track
from mer_ray.io.variants import piece


@dataclass(frozen=True)
class Held:
    """Audio that was checked: where it stays, the hash of its bytes, and what its header says."""

    uri: str
    sha256: str
    probe: Probe


Keep = Callable[[Path, str | None], Held]
"""Checks a file, and where there is no URI at which it stays takes it into the workspace. Raises TrackError."""


@dataclass(frozen=True)
class Tried:
    """A provider that failed."""

    provider: str
    error: TrackError


@dataclass(frozen=True)
class Fetched:
    """provider: what got it. tried: what failed before. spotify_id: the track that Spotify was asked for."""

    held: Held
    provider: str
    tried: tuple[Tried, ...] = ()
    spotify_id: str | None = None


@dataclass(frozen=True)
class Limits:
    """Of one download: seconds for everything but waiting for a slot, megabytes (10^6 bytes), simultaneous exchanges
    by host; and for what a search finds, the share by which durations may differ and the least similarity (0..1)."""

    timeout_s: float
    max_mb: float
    slot: Slot = unlimited
    duration_tolerance: float = 0.1
    min_similarity: float = 0.6


def fetch(track: Track, providers: Sequence[str], folder: Index, keep: Keep, limits: Limits) -> Fetched:
    """Get a track's audio by the first provider that can.

    providers: of ``uri`` (the track's own path, URL, object or demo cue), ``folder`` and ``savify``, in the order to
    try. folder: what `index` made, for the provider ``folder``. A file that does not decode is its provider's failure.
    Raises TrackError: the only one there was, or ``no_audio`` with what each provider said.
    """
    tried: list[Tried] = []
    for provider in providers:
        name = _kind(track.uri) if provider == "uri" and track.uri else provider
        try:
            if provider == "uri" and track.uri:
                return Fetched(_own(track.uri, keep, limits), name, tuple(tried))
            if provider == "folder" and (uri := _in_folder(track, folder)):
                return Fetched(keep(to_path(uri), uri), name, tuple(tried))
            if provider == "savify":
                held, spotify_id = _savify(track, keep, limits)
                return Fetched(held, name, tuple(tried), spotify_id)
        except TrackError as error:
            tried.append(Tried(name, error))
    if len(tried) == 1:
        raise tried[0].error
    said = "; ".join(f"{t.provider}: {t.error.reason} ({one_line(t.error.message, 150)})" for t in tried)
    said = said or f"no provider of {', '.join(providers)} has it"
    raise TrackError("no_audio", f"{track.artist} – {track.title}: {said}", any(t.error.transient for t in tried))


@dataclass(frozen=True)
class InFolder:
    """A file of a folder: the album in its tags, normalised; the film that its title credits; where it is."""

    title: str
    album: str
    film: str
    uri: str


Index = Mapping[str, Sequence[InFolder]]
"""What `index` makes: a piece's artist and title → the files that bear them; an id → its file."""


def index(tracks: Iterable[Track]) -> dict[str, list[InFolder]]:
    """A folder's tracks by the pieces' names without remasters and guests, by id, or by the file's name.

    A file without tags that is called "Artist - Title" has the name of that piece.
    """
    found: dict[str, list[InFolder]] = {}
    for track in tracks:
        if track.uri is None:
            continue
        named, film = track, ""
        artist, dash, title = track.title.partition(" - ")
        if dash and not track.artist:
            named = replace(track, artist=artist, title=title)
        keys = [track.id, _file(Path(track.uri).stem)]
        if named.artist and named.title:
            name, film = _piece(named)
            keys.append(name)
        for key in dict.fromkeys(keys):
            found.setdefault(key, []).append(InFolder(*_spelled(named), film, track.uri))
    return found


def _file(stem: str) -> str:
    return f"file\x1f{normalise(stem)}"


def _in_folder(track: Track, folder: Index) -> str | None:
    """By the piece's name, else by id, else the file that is called like the id (of a data set's clips, say).

    Raises TrackError where files of several albums bear the name, none of them this one. A film's theme may be a file
    that credits no film, but not another film's.
    """
    name, film = _piece(track) if track.artist and track.title else (track.id, "")
    files = folder.get(name) or folder.get(track.id) or folder.get(_file(track.id), ())
    credited = {f.film for f in files}
    if film:
        files = [f for f in files if f.film == film] or [f for f in files if not f.film]
    elif "" in credited or len(credited) > 1:
        files = [f for f in files if not f.film]
    if not files:
        return None
    title, album = _spelled(track)
    albums = {f.album for f in files}
    if album and len(albums) > 1:
        files = [f for f in files if f.album == album] or [f for f in files if not f.album]
        if not files:
            raise TrackError("no_audio", f"files of {len(albums)} albums are called so, none is of {track.album}")
    return next((f for f in files if f.title == title), files[0]).uri


def _spelled(track: Track) -> tuple[str, str]:
    return normalise(track.title), normalise(track.album or "")


def _piece(track: Track) -> tuple[str, str]:
    found = piece(track.artist, track.title)
    return f"{found.artist}\x1f{found.title}", found.film


def _kind(uri: str) -> str:
    if is_url(uri):
        return "http"
    return "demo" if uri.startswith("demo:") else address.scheme(uri) or "file"


def _host(uri: str) -> str:
    try:
        return urlsplit(uri).netloc.rpartition("@")[2]
    except ValueError:
        return ""  # what is wrong with the address, its reader says


def _own(uri: str, keep: Keep, limits: Limits) -> Held:
    kind = _kind(uri)
    if kind == "file":
        if not to_path(uri).is_file():
            raise TrackError("missing", f"{uri} is not a file")
        return keep(to_path(uri), uri)
    if kind in ("demo", "http"):
        with _temporary() as path:
            if kind == "demo":
                from mer_ray.sources import demo

                demo.fetch(uri, path)
            else:
                from mer_ray.io import http

                http.fetch(uri, path, limits.timeout_s, limits.max_mb, limits.slot)
            return _named(uri, keep, path, None)
    with limits.slot(_host(uri)), local_copy(uri, limits.timeout_s, limits.max_mb) as path:
        return _named(uri, keep, path, uri)


def _savify(track: Track, keep: Keep, limits: Limits) -> tuple[Held, str | None]:
    from mer_ray.audio.providers import savify

    bounds = savify.Bounds(limits.timeout_s, limits.max_mb, limits.duration_tolerance, limits.min_similarity)
    with limits.slot("savify"), _temporary(".mp3") as path:
        spotify_id = savify.fetch(track, path, bounds)
        return keep(path, None), spotify_id


def _named(uri: str, keep: Keep, path: Path, stays: str | None) -> Held:
    """What is wrong with a file says where it came from, not what it was called while it was looked at."""
    try:
        return keep(path, stays)
    except TrackError as error:
        message = error.message.replace(str(path), address.shown(uri))
        raise TrackError(error.reason, message, error.transient) from error


@contextmanager
def _temporary(suffix: str = "") -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="mer-ray-") as folder:
        yield Path(folder) / f"audio{suffix}"
