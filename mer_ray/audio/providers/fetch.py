"""One track's audio, by the first provider that has it."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mer_ray.audio.decode import Probe
from mer_ray.audio.providers import Found, Limits, Provider
from mer_ray.errors import TrackError
from mer_ray.io.identity import one_line
from mer_ray.io.track import Track


@dataclass(frozen=True)
class AudioFile:
    """Audio that was checked: where it stays, the hash of its bytes, and what its header says."""

    uri: str
    sha256: str
    probe: Probe


Keep = Callable[[Path, str | None], AudioFile]
"""Checks a file, and copies it into the workspace where there is no URI at which it stays. Raises TrackError."""


@dataclass(frozen=True)
class Attempt:
    """A provider that failed."""

    provider: str
    error: TrackError


@dataclass(frozen=True)
class Fetched:
    """provider: what got it. failed: what was tried before. spotify_id: the track that Spotify found."""

    file: AudioFile
    provider: str
    failed: tuple[Attempt, ...] = ()
    spotify_id: str | None = None


def fetch(track: Track, providers: Sequence[Provider], keep: Keep, limits: Limits) -> Fetched:
    """Get a track's audio by the first provider that can. A file that does not decode is its provider's failure.

    Raises:
        TrackError: The only one there was, or ``no_audio`` with each provider's.
    """
    failed: list[Attempt] = []
    for provider in providers:
        source = provider.source(track)
        try:
            with tempfile.TemporaryDirectory(prefix="mer-ray-", ignore_cleanup_errors=True) as folder:
                found = provider.get(track, Path(folder), limits)
                if found is not None:
                    return Fetched(_kept(found, keep), source, tuple(failed), found.spotify_id)
        except TrackError as error:
            failed.append(Attempt(source, error))
    if len(failed) == 1:
        raise failed[0].error
    reasons = "; ".join(f"{a.provider}: {a.error.reason} ({one_line(a.error.message, 150)})" for a in failed)
    reasons = reasons or f"no provider of {', '.join(provider.name for provider in providers)} has it"
    raise TrackError("no_audio", f"{track.artist} – {track.title}: {reasons}", any(a.error.transient for a in failed))


def _kept(found: Found, keep: Keep) -> AudioFile:
    """A message about a bad file names where it came from, not the temporary file."""
    try:
        return keep(found.path, found.uri)
    except TrackError as error:
        message = error.message.replace(str(found.path), found.shown) if found.shown else error.message
        raise TrackError(error.reason, message, error.transient) from error
