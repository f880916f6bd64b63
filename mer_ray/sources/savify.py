"""Audio through savify: Spotify names the track, yt-dlp finds and loads it, ffmpeg makes an MP3 of it.

savify runs in a child process with a folder of its own: it may hang, it wipes folders and it writes where it stands.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import mer_ray
from mer_ray.errors import ConfigError, TrackError
from mer_ray.identity import one_line
from mer_ray.sources import Track
from mer_ray.sources.http import replacing

CREDENTIALS = ("SPOTIPY_CLIENT_ID", "SPOTIPY_CLIENT_SECRET")
CHILD = (sys.executable, "-m", "mer_ray.sources.savify_child")
_SPOTIFY_ID = re.compile(
    r"(?:spotify:track:|https://open\.spotify\.com/(?:intl-\w+/)?track/)?([0-9A-Za-z]{22})(?:\?.*)?"
)


def check() -> None:
    """Raises ConfigError where Spotify's credentials are not in the environment."""
    missing = [name for name in CREDENTIALS if not os.environ.get(name)]
    if missing:
        raise ConfigError(
            f"no Spotify credentials for savify: {' and '.join(missing)} not set",
            "make an app at https://developer.spotify.com/dashboard and set both environment variables",
        )


def fetch(track: Track, path: Path, timeout_s: float, max_mb: float, child: Sequence[str] = CHILD) -> None:
    """Get a track's audio as an MP3 file at ``path``, which appears whole or not at all.

    The track is found by its Spotify id, or else as Spotify's first hit for artist and title. timeout_s: for
    everything together. max_mb: limit in megabytes (10^6 bytes), for what is loaded and for the MP3. child: the command
    that runs `savify_child.main`.
    Raises TrackError with the reason ``not_found``, ``too_big``, ``bad_spotify_id``, ``timeout`` or ``savify_error``
    (the last two transient); ConfigError for absent or refused credentials and where there is no ffmpeg.
    """
    check()
    order = {"query": _query(track), "max_bytes": int(max_mb * 1e6), "timeout_s": timeout_s}
    with tempfile.TemporaryDirectory(prefix="mer-ray-savify-", ignore_cleanup_errors=True) as folder:
        outcome = _run(child, order, Path(folder))
        name, message = _name(track), _clean(str(outcome.get("message", "")))
        match outcome["status"]:
            case "ok":
                _deliver(Path(folder, outcome["file"]), path, max_mb, name)
            case "credentials":
                raise ConfigError(f"Spotify refuses savify ({message})", f"check {' and '.join(CREDENTIALS)}")
            case "not_found":
                raise TrackError("not_found", f"{name}: {message}")
            case "too_big":
                raise TrackError("too_big", f"{name}: over acquire.max_mb = {max_mb:g}")
            case "timeout":
                raise TrackError("timeout", f"{name}: no audio within {timeout_s:g} s", transient=True)
            case _:
                raise TrackError("savify_error", f"{name}: {message}", transient=True)


def _name(track: Track) -> str:
    return one_line(" – ".join(part for part in (track.artist, track.title) if part) or track.id, 200)


def _query(track: Track) -> str:
    if track.spotify_id:
        found = _SPOTIFY_ID.fullmatch(track.spotify_id.strip())
        if found is None:
            raise TrackError(
                "bad_spotify_id", f"{_name(track)}: {one_line(track.spotify_id, 80)!r} is no Spotify track id"
            )
        return f"https://open.spotify.com/track/{found[1]}"
    # A title that reads as an address must be searched for, not opened.
    query = one_line(f"{track.artist} {track.title}", 200).replace("://", " ")
    if not query:
        raise TrackError("not_found", f"{track.id}: neither Spotify id, artist nor title to search for")
    return query


def _run(child: Sequence[str], order: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The child's own account of how it went, or what can be said in its place."""
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
    """End the child with all that it started, ffmpeg for one."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _environment(folder: Path) -> dict[str, str]:
    """Ours, with an ffmpeg in its PATH, and with this mer_ray first wherever it was imported from."""
    source = str(Path(mer_ray.__file__).parent.parent)
    pythonpath = os.pathsep.join(filter(None, (source, os.environ.get("PYTHONPATH"))))
    search = os.environ.get("PATH", os.defpath)
    if shutil.which("ffmpeg") is None:
        search = f"{_bundled_ffmpeg(folder)}{os.pathsep}{search}"
    return {**os.environ, "PATH": search, "PYTHONPATH": pythonpath}


def _bundled_ffmpeg(folder: Path) -> Path:
    """A folder in which imageio-ffmpeg's binary has the name that savify and yt-dlp look for."""
    import imageio_ffmpeg

    try:
        binary = imageio_ffmpeg.get_ffmpeg_exe()
    except RuntimeError:
        raise ConfigError("savify needs ffmpeg, and there is none", "install ffmpeg") from None
    place = folder / "bin"
    place.mkdir()
    (place / "ffmpeg").symlink_to(binary)
    return place


def _deliver(made: Path, path: Path, max_mb: float, name: str) -> None:
    size = made.stat().st_size
    if size > max_mb * 1e6:
        raise TrackError("too_big", f"{name}: over acquire.max_mb = {max_mb:g}")
    if not size:
        raise TrackError("savify_error", f"{name}: the MP3 is empty", transient=True)
    with made.open("rb") as source, replacing(path) as target:  # the temporary folder may be on another disk
        shutil.copyfileobj(source, target)


def _clean(text: str) -> str:
    for name in CREDENTIALS:
        text = text.replace(os.environ.get(name) or "\0", "***")
    return one_line(text, 300)
