"""The child process of `mer_ray.sources.savify`: one track, in the working folder, then the end.

Reads ``{"query", "max_bytes", "timeout_s"}`` as JSON from its standard input. Writes ``result.json``: a ``status`` (ok,
not_found, too_big, credentials, error), and ``file`` or ``message``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

RESULT = Path("result.json")
OUTLIVE_S = 5.0
"""How long the child may outlive its deadline where its parent is no longer there to end it."""


class _NotFound(Exception):
    """Nothing to download by that name."""


class _TooBig(Exception):
    """More bytes than allowed."""


class _Log:
    """What savify and yt-dlp log with; the last error is kept, since savify reports failures nowhere else."""

    def __init__(self) -> None:
        self.last_error = ""

    def debug(self, message: str) -> None:
        """Not of interest."""

    info = warning = debug

    def error(self, message: str) -> None:
        """Keep it."""
        self.last_error = str(message)


def main() -> None:
    """Carry out the order on standard input."""
    order = json.load(sys.stdin)
    _end_group_after(float(order["timeout_s"]) + OUTLIVE_S)
    RESULT.write_text(json.dumps(_outcome(order["query"], order["max_bytes"], Path.cwd())), encoding="utf-8")


def _end_group_after(seconds: float) -> None:
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(0, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _outcome(query: str, max_bytes: int, folder: Path) -> dict[str, str]:
    from spotipy.exceptions import SpotifyException, SpotifyOauthError

    log = _Log()
    try:
        _savify(folder, max_bytes, log).download(query)
    except _NotFound as error:
        return {"status": "not_found", "message": str(error)}
    except _TooBig:
        return {"status": "too_big"}
    except SpotifyOauthError as error:
        refused = error.error in ("invalid_client", "unauthorized_client")
        return {"status": "credentials" if refused else "error", "message": str(error)}
    except SpotifyException as error:
        # 401 and 403 are about the app or its owner's account: the next track would fare no better.
        status = {401: "credentials", 403: "credentials", 400: "not_found", 404: "not_found"}.get(
            error.http_status, "error"
        )
        return {"status": status, "message": f"Spotify answers {error.http_status}: {_last_line(error.msg)}"}
    except Exception as error:  # a border: whatever it is, the parent is to know
        return {"status": "error", "message": _last_line(str(error)) or type(error).__name__}
    made = sorted(folder.joinpath("out").glob("*.mp3"))
    if made:
        return {"status": "ok", "file": str(made[0].relative_to(folder))}
    if log.last_error:
        return {"status": "error", "message": _last_line(log.last_error)}
    return {"status": "not_found", "message": "Spotify finds nothing"}


def _last_line(text: str) -> str:
    lines = str(text).strip().splitlines()
    return lines[-1].strip() if lines else ""


def _savify(folder: Path, max_bytes: int, log: _Log) -> Any:
    """A Savify that works in ``folder``, with its faults of old mended."""
    import savify.savify as module
    import tldextract
    from savify.track import Track
    from savify.types import Format
    from savify.utils import PathHolder

    temporary = folder / "temp"  # PathHolder's own choice
    module.YoutubeDL = _downloader(temporary)  # youtube-dl of 2021 no longer downloads
    module.safe_path_string = lambda _: "track.mp3"  # a title can be too long for a file name
    # tldextract would ask the network for a list of domains, to see that open.spotify.com is Spotify's.
    module.tldextract = SimpleNamespace(extract=tldextract.TLDExtract(suffix_list_urls=(), cache_dir=None))
    app = module.Savify(
        download_format=Format.MP3,
        path_holder=PathHolder(str(folder), str(folder / "out")),
        ydl_options=_options(max_bytes),
        skip_cover_art=True,
        logger=log,
    )
    # Its own takes every error of Spotify's for "nothing found".
    app.spotify.link = lambda address: [Track(app.spotify.sp.track(address))]
    return app


def _options(max_bytes: int) -> dict[str, Any]:
    def progress(state: dict[str, Any]) -> None:
        if max(state.get("downloaded_bytes") or 0, state.get("total_bytes") or 0) > max_bytes:
            raise _TooBig

    return {
        "ignoreerrors": False,  # else savify tries a failed download again for ever
        "noplaylist": True,
        "quiet": True,
        "noprogress": True,
        "cachedir": False,
        "socket_timeout": 20,
        "retries": 3,
        "progress_hooks": [progress],
    }


def _downloader(temporary: Path) -> type[Any]:
    import yt_dlp

    class Downloader(yt_dlp.YoutubeDL):  # type: ignore[misc]
        """yt-dlp that fails where savify would try again for ever: when a search without a hit leaves no file."""

        def download(self, url_list: list[str]) -> int:
            code: int = super().download(url_list)
            if not any(temporary.glob("*.mp3")):
                raise _NotFound("yt-dlp finds nothing to download")
            return code

    return Downloader


if __name__ == "__main__":
    main()
