"""One track's audio, by the first provider that has it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from mer_ray.audio.location import is_url, to_path
from mer_ray.errors import TrackError
from mer_ray.sources import Track

Keep = Callable[[Path], str]
"""Takes a finished temporary file into the workspace and answers its URI there."""


@dataclass(frozen=True)
class Fetched:
    """uri: where the audio now is. provider: what got it."""

    uri: str
    provider: str


def fetch(
    track: Track, providers: Sequence[str], folder: Mapping[str, str], keep: Keep, timeout_s: float, max_mb: float
) -> Fetched:
    """Get a track's audio by the first provider that can.

    providers: of ``uri`` (the track's own path, URL or demo cue), ``folder`` and ``savify``, in the order to try.
    folder: track id → path, for the provider ``folder``. Raises TrackError: the only one there was, or ``no_audio``
    with what each provider said.
    """
    errors: list[tuple[str, TrackError]] = []
    for provider in providers:
        try:
            if provider == "uri" and track.uri:
                return _own(track, track.uri, keep, timeout_s, max_mb)
            if provider == "folder" and track.id in folder:
                return Fetched(folder[track.id], "folder")
            if provider == "savify":
                return Fetched(
                    _through_file(lambda path: _savify(track, path, timeout_s, max_mb), ".mp3", keep), "savify"
                )
        except TrackError as error:
            errors.append((provider, error))
    if len(errors) == 1:
        raise errors[0][1]
    said = "; ".join(f"{p}: {e.message}" for p, e in errors) or f"no provider of {', '.join(providers)} has it"
    raise TrackError("no_audio", f"{track.artist} – {track.title}: {said}", any(e.transient for _, e in errors))


def _own(track: Track, uri: str, keep: Keep, timeout_s: float, max_mb: float) -> Fetched:
    if uri.startswith("demo:"):
        from mer_ray.sources import demo

        return Fetched(_through_file(lambda path: demo.fetch(uri, path), ".flac", keep), "demo")
    if is_url(uri):
        from mer_ray.sources import http

        try:
            suffix = Path(urlsplit(uri).path).suffix.lower()
        except ValueError:
            suffix = ""  # what is wrong with the address, http says
        suffix = suffix if suffix[1:].isalnum() and len(suffix) <= 6 else ".audio"
        return Fetched(_through_file(lambda path: http.fetch(uri, path, timeout_s, max_mb), suffix, keep), "http")
    if not to_path(uri).is_file():
        raise TrackError("missing", f"{uri} is not a file")
    return Fetched(uri, "file")


def _savify(track: Track, path: Path, timeout_s: float, max_mb: float) -> None:
    from mer_ray.sources import savify

    savify.fetch(track, path, timeout_s, max_mb)


def _through_file(get: Callable[[Path], None], suffix: str, keep: Keep) -> str:
    with tempfile.TemporaryDirectory(prefix="mer-ray-") as folder:
        path = Path(folder) / f"audio{suffix}"
        get(path)
        return keep(path)
