"""Gets one track's audio from the first provider that has it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mer_ray.audio.decode import Probe
from mer_ray.audio.providers import Limits, Provider, ProviderResult
from mer_ray.errors import TrackError
from mer_ray.io import scratch
from mer_ray.io.identity import one_line
from mer_ray.io.track import Track
from mer_ray.io.worker import DOUBTFUL


@dataclass(frozen=True)
class AudioFile:
    """Checked audio: its permanent location, the hash of its bytes, and its header."""

    uri: str
    sha256: str
    probe: Probe


Keep = Callable[[Path, str | None], AudioFile]
"""Checks a file, and copies it into the workspace if it has no permanent URI. Raises TrackError."""


@dataclass(frozen=True)
class Attempt:
    """A provider that failed."""

    provider: str
    error: TrackError


@dataclass(frozen=True)
class Fetched:
    """provider: its origin. failed: earlier attempts. spotify_id: the track that Spotify found."""

    file: AudioFile
    provider: str
    failed: tuple[Attempt, ...] = ()
    spotify_id: str | None = None


def fetch(track: Track, providers: Sequence[Provider], keep: Keep, limits: Limits, final: bool = True) -> Fetched:
    """Get a track's audio by the first provider that can. A file that does not decode is a failure of its provider.

    final: False raises a failure that may be this machine's fault (`DOUBTFUL`) before the next provider is asked: it
    may have another recording.

    Raises:
        TrackError: Of the only provider that failed, or ``no_audio`` with all messages; if each failed for a reason
            in `DOUBTFUL`, the first of these reasons.
    """
    failed: list[Attempt] = []
    for provider in providers:
        source = provider.source(track)
        try:
            with scratch.folder() as folder:
                found = provider.get(track, folder, limits)
                if found is not None:
                    return Fetched(_stored(found, keep), source, tuple(failed), found.spotify_id)
        except TrackError as error:
            if not final and error.reason in DOUBTFUL:
                raise
            failed.append(Attempt(source, error))
    if len(failed) == 1:
        raise failed[0].error
    reasons = "; ".join(f"{a.provider}: {a.error.reason} ({one_line(a.error.message, 150)})" for a in failed)
    reasons = reasons or f"no provider of {', '.join(provider.name for provider in providers)} has it"
    # Where each had a file that cannot be read here, it is not that nobody has one.
    lost = bool(failed) and all(a.error.reason in DOUBTFUL for a in failed)
    reason = failed[0].error.reason if lost else "no_audio"
    raise TrackError(reason, f"{track.artist} – {track.title}: {reasons}", any(a.error.transient for a in failed))


def _stored(found: ProviderResult, keep: Keep) -> AudioFile:
    """Check and store the file; messages name its origin, not the temporary file."""
    try:
        return keep(found.path, found.uri)
    except TrackError as error:
        message = error.message.replace(str(found.path), found.shown) if found.shown else error.message
        raise TrackError(error.reason, message, error.transient) from error
