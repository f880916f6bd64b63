"""Audio by savify: Spotify identifies the track, yt-dlp downloads it, ffmpeg converts it to MP3.

savify runs in a child process in its own folder, since it may hang, deletes folders and writes to the working folder.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mer_ray import child_process, extras
from mer_ray.audio.decode import probe
from mer_ray.audio.providers import Limits, Provider, ProviderResult, Settings, matching
from mer_ray.errors import ConfigError, TrackError
from mer_ray.io.identity import one_line
from mer_ray.io.track import Track

CREDENTIALS = ("SPOTIPY_CLIENT_ID", "SPOTIPY_CLIENT_SECRET")
CHILD = tuple(child_process.child("-m", "mer_ray.audio.providers.savify_child"))
_SPOTIFY_ID = re.compile(
    r"(?:spotify:track:|https://open\.spotify\.com/(?:intl-\w+/)?track/)?([0-9A-Za-z]{22})(?:\?.*)?"
)


class Savify(Provider):
    """Tracks are found by their Spotify id, or else by artist, title and duration."""

    name = "savify"
    child = CHILD
    """The command that runs `savify_child.main`."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._tolerance, self._min_similarity = settings.duration_tolerance, settings.min_similarity

    @staticmethod
    def check(settings: Settings) -> None:
        """Raises MissingExtra, or ConfigError where Spotify's credentials are missing in the environment."""
        extras.require("harvest")
        _check_credentials()

    def get(self, track: Track, folder: Path, limits: Limits) -> ProviderResult | None:
        """Get a track's audio as an MP3 file.

        Raises:
            TrackError: ``not_found``, ``wrong_title``, ``wrong_duration``, ``too_big``, ``bad_spotify_id``, and the
                transient ``timeout``, ``rate_limited`` or ``savify_error``.
            ConfigError: Credentials are missing on this node or refused, or there is no ffmpeg.
        """
        _check_credentials()
        name = _name(track)
        order = {
            **_wanted(track),
            "max_bytes": int(limits.max_mb * 1e6),
            "timeout_s": limits.timeout_s,
            "tolerance": self._tolerance,
            "min_similarity": self._min_similarity,
        }
        with limits.slot(self.name):
            outcome = _run(self.child, order, folder)
        message = _clean(str(outcome.get("message", "")))
        too_big = TrackError("too_big", f"{name}: over acquire.max_mb = {limits.max_mb:g}")
        match outcome["status"]:
            case "ok":
                path = folder / outcome["file"]
                if path.stat().st_size > limits.max_mb * 1e6:
                    raise too_big
                self._check_duration(path, outcome["expected_s"] or track.duration_s, name)
                return ProviderResult(path, shown=name, spotify_id=str(outcome["spotify_id"]))
            case "credentials":
                raise ConfigError(f"Spotify refuses savify ({message})", f"check {' and '.join(CREDENTIALS)}")
            case "not_found" | "wrong_title" | "wrong_duration" as reason:
                raise TrackError(reason, f"{name}: {message}")
            case "rate_limited":
                raise TrackError("rate_limited", f"{name}: {message}", transient=True)
            case "too_big":
                raise too_big
            case "timeout":
                raise TrackError("timeout", f"{name}: no audio within {limits.timeout_s:g} s", transient=True)
            case _:
                raise TrackError("savify_error", f"{name}: {message}", transient=True)

    def _check_duration(self, path: Path, expected_s: float | None, name: str) -> None:
        """Check the file itself, since services' durations may be wrong or missing."""
        if not path.stat().st_size:
            raise TrackError("savify_error", f"{name}: the MP3 is empty", transient=True)
        duration_s = probe(path).duration_s
        if not matching.fits(duration_s, expected_s, self._tolerance):
            raise TrackError(
                "wrong_duration", f"{name}: what was loaded lasts {duration_s:.0f} s, not {expected_s:.0f} s"
            )


def _check_credentials() -> None:
    missing = [name for name in CREDENTIALS if not os.environ.get(name)]
    if missing:
        raise ConfigError(
            f"no Spotify credentials for savify: {' and '.join(missing)} not set",
            "make an app at https://developer.spotify.com/dashboard and set both environment variables",
        )


def _name(track: Track) -> str:
    return one_line(" – ".join(part for part in (track.artist, track.title) if part) or track.id, 200)


def _wanted(track: Track) -> dict[str, Any]:
    """The child's search terms."""
    spotify_id = None
    if track.spotify_id:
        found = _SPOTIFY_ID.fullmatch(track.spotify_id.strip())
        if found is None:
            raise TrackError(
                "bad_spotify_id", f"{_name(track)}: {one_line(track.spotify_id, 80)!r} is no Spotify track id"
            )
        spotify_id = found[1]
    elif not f"{track.artist}{track.title}".strip():
        raise TrackError("not_found", f"{track.id}: neither Spotify id, artist nor title to search for")
    artist, title = one_line(track.artist, 200), one_line(track.title, 200)
    return {"spotify_id": spotify_id, "artist": artist, "title": title, "duration_s": track.duration_s}


def _run(child: Sequence[str], order: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The child's result, or one with the reason why there is none."""
    log = folder / "child.log"
    with log.open("wb") as stderr:
        process = subprocess.Popen(
            child,
            stdin=subprocess.PIPE,
            stdout=stderr,
            stderr=stderr,
            cwd=folder,
            env=_environment(folder),
            start_new_session=True,
        )
        try:
            process.communicate(json.dumps(order).encode(), timeout=order["timeout_s"])
        except subprocess.TimeoutExpired:
            return {"status": "timeout"}
        finally:
            if process.poll() is None:
                _kill_group(process)
    try:
        outcome = json.loads((folder / "result.json").read_bytes())
    except (OSError, ValueError):
        lines = log.read_text("utf-8", "replace").strip().splitlines()
        return {"status": "error", "message": lines[-1] if lines else f"the child ended with code {process.returncode}"}
    return dict(outcome)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """End the child with its own children, such as ffmpeg."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _environment(folder: Path) -> dict[str, str]:
    """This process's environment, with an ffmpeg in PATH, this mer_ray first in PYTHONPATH, and a temporary folder."""
    search = os.environ.get("PATH", os.defpath)
    if shutil.which("ffmpeg") is None:
        search = f"{_bundled_ffmpeg(folder)}{os.pathsep}{search}"
    # Unbuffered, so that its log is complete.
    changes = {
        "PATH": search,
        child_process.VARIABLE: child_process.path(),
        "TMPDIR": str(folder),
        "PYTHONUNBUFFERED": "1",
    }
    return {**os.environ, **changes}


def _bundled_ffmpeg(folder: Path) -> Path:
    """A folder in which imageio-ffmpeg's binary has the name that savify and yt-dlp expect."""
    import imageio_ffmpeg

    try:
        binary = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        raise ConfigError("savify needs ffmpeg, and there is none", "install ffmpeg") from None
    search = folder / "bin"
    search.mkdir()
    (search / "ffmpeg").symlink_to(binary)
    return search


def _clean(text: str) -> str:
    for name in CREDENTIALS:
        text = text.replace(os.environ.get(name) or "\0", "***")
    return one_line(text, 300)
