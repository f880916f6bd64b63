"""The child process of `mer_ray.audio.providers.savify`: downloads one track into the working folder.

Reads its order (of `savify.Savify.get`) as JSON from its standard input. Writes ``result.json``: a ``status``
(ok, not_found, wrong_title, wrong_duration, too_big, rate_limited, credentials, error) with ``message``, or with
``file``, ``spotify_id`` and ``expected_s``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from mer_ray.audio.providers import matching
from mer_ray.audio.providers.matching import Hit, Wanted
from mer_ray.io.variants import piece

RESULT = Path("result.json")
OUTLIVE_S = 5.0
"""Time after its deadline at which the child ends itself if its parent has died."""

SPOTIFY_HITS = 10
MEDIA_HITS = 5
MEDIA_TRIES = 3
LONGEST_WAIT_S = 20.0
"""Longest ``Retry-After`` of Spotify that is obeyed; after a longer one, the next run retries."""


class _Refused(Exception):
    """A known failure: a ``status`` of the result, and a message."""

    def __init__(self, status: str, message: str = "") -> None:
        super().__init__(message)
        self.status = status


class _Log:
    """The logger of savify and yt-dlp; stores the last error, which savify does not report otherwise."""

    def __init__(self) -> None:
        self.last_error = ""

    def debug(self, message: str) -> None:
        """Ignored."""

    info = warning = debug

    def error(self, message: str) -> None:
        """Store the message."""
        self.last_error = str(message)


def main() -> None:
    """Carry out the order on standard input."""
    order = json.load(sys.stdin)
    _end_group_after(float(order["timeout_s"]) + OUTLIVE_S)
    RESULT.write_text(json.dumps(_outcome(order, Path.cwd())), encoding="utf-8")


def _end_group_after(seconds: float) -> None:
    signal.signal(signal.SIGALRM, lambda *_: os.killpg(0, signal.SIGKILL))
    signal.setitimer(signal.ITIMER_REAL, seconds)


def _outcome(order: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    # spotipy would import redis, a sixth of the child's time, for an unused cache.
    sys.modules.setdefault("redis", _stub("redis", RedisError=OSError))
    from spotipy.exceptions import SpotifyException, SpotifyOauthError

    log = _Log()
    try:
        app, module = _savify(folder, order["max_bytes"], log)
        found = _choose(app.spotify.sp, order)
        hit = _hit(found)
        module.YoutubeDL = _downloader(folder / "temp", hit, order)
        app.spotify.link = lambda address: [module.Track(found)]  # instead of another request
        app.download(f"https://open.spotify.com/track/{hit.spotify_id}")
    except _Refused as error:
        return {"status": error.status, "message": str(error)}
    except SpotifyOauthError as error:
        refused = error.error in ("invalid_client", "unauthorized_client")
        return {"status": "credentials" if refused else "error", "message": str(error)}
    except SpotifyException as error:
        # 401 and 403 are about the app or its owner's account: the next track would fail, too.
        statuses = {401: "credentials", 403: "credentials", 400: "not_found", 404: "not_found", 429: "rate_limited"}
        status = statuses.get(error.http_status, "error")
        return {"status": status, "message": f"Spotify answers {error.http_status}: {_last_line(error.msg)}"}
    except Exception as error:  # any error goes to the parent
        return {"status": "error", "message": _last_line(str(error)) or type(error).__name__}
    made = sorted(folder.joinpath("out").glob("*.mp3"))
    if made:
        file = str(made[0].relative_to(folder))
        return {"status": "ok", "file": file, "spotify_id": hit.spotify_id, "expected_s": hit.duration_s}
    return {"status": "error", "message": _last_line(log.last_error) or "savify leaves no file"}


def _last_line(text: str) -> str:
    lines = str(text).strip().splitlines()
    return lines[-1].strip() if lines else ""


# Spotify -----------------------------------------------------------------------------------------------------------


def _choose(spotify: Any, order: Mapping[str, Any]) -> dict[str, Any]:
    """The track as Spotify describes it: by its id, or the best result of a search."""
    if order["spotify_id"]:
        track = _patiently(lambda: spotify.track(order["spotify_id"]))
        if track is None:
            raise _Refused("not_found", "Spotify knows no such track")
        return dict(track)
    wanted = Wanted(order["artist"], order["title"], order["duration_s"])
    # Without colons, which would make a filter of the word before.
    query = f"{wanted.artist} {piece(wanted.artist, wanted.title).title}".replace(":", " ").strip()[:200]
    response = _patiently(lambda: spotify.search(query, limit=SPOTIFY_HITS, type="track"))
    items = {str(item["id"]): item for item in (response or {}).get("tracks", {}).get("items", []) if item}
    found = matching.best(wanted, map(_hit, items.values()), order["tolerance"])
    if found is None:
        raise _Refused("not_found", "Spotify finds nothing")
    hit, score = found
    if score < order["min_similarity"]:
        raise _Refused("not_found", f"the best that Spotify finds is {hit}, of similarity {score:.2f}")
    return dict(items[hit.spotify_id])


def _hit(found: Mapping[str, Any]) -> Hit:
    artists = tuple(str(artist.get("name") or "") for artist in found.get("artists") or ())
    duration_ms = found.get("duration_ms")
    return Hit(str(found["id"]), artists, str(found.get("name") or ""), duration_ms / 1000 if duration_ms else None)


def _patiently(ask: Callable[[], Any]) -> Any:
    """Retry once after Spotify's ``Retry-After``, if it is short."""
    from spotipy.exceptions import SpotifyException

    try:
        return ask()
    except SpotifyException as error:
        wait = (error.headers or {}).get("Retry-After", "")
        if error.http_status != 429 or not wait.isdecimal() or float(wait) > LONGEST_WAIT_S:
            raise
        time.sleep(float(wait))
    return ask()


# savify ------------------------------------------------------------------------------------------------------------


def _savify(folder: Path, max_bytes: int, log: _Log) -> tuple[Any, Any]:
    """A Savify that works in ``folder``, with fixes for its outdated parts, and its module."""
    # It imports youtube-dl of 2021, which no longer downloads; `_downloader` replaces it.
    sys.modules["youtube_dl"] = _stub("youtube_dl", YoutubeDL=None)
    import savify.savify as module
    from savify.types import Format
    from savify.utils import PathHolder

    module.safe_path_string = lambda _: "track.mp3"  # titles may be too long for a file name
    # tldextract would download a list of domains, only to recognise Spotify's address.
    module.tldextract = SimpleNamespace(extract=lambda address: SimpleNamespace(domain="spotify"))
    app = module.Savify(
        download_format=Format.MP3,
        path_holder=PathHolder(str(folder), str(folder / "out")),
        ydl_options=_options(max_bytes),
        skip_cover_art=True,
        logger=log,
    )
    app.spotify.sp = _spotify()
    return app, module


def _stub(name: str, **names: Any) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(names)
    return module


def _spotify() -> Any:
    """spotipy's client, without its file for tokens, and without its unlimited waits for ``Retry-After``."""
    import requests
    import spotipy
    from requests.adapters import HTTPAdapter
    from spotipy.oauth2 import SpotifyClientCredentials
    from urllib3.util import Retry

    session = requests.Session()
    again = Retry(
        total=3,
        read=False,
        backoff_factor=0.3,
        status_forcelist=(500, 502, 503, 504),
        respect_retry_after_header=False,
        raise_on_status=False,  # spotipy would report a rate limit
    )
    session.mount("https://", HTTPAdapter(max_retries=again))
    session.mount("http://", HTTPAdapter(max_retries=again))
    credentials = SpotifyClientCredentials(cache_handler=spotipy.MemoryCacheHandler(), requests_timeout=10)
    return spotipy.Spotify(auth_manager=credentials, requests_session=session, requests_timeout=10)


def _options(max_bytes: int) -> dict[str, Any]:
    def progress(state: dict[str, Any]) -> None:
        if max(state.get("downloaded_bytes") or 0, state.get("total_bytes") or 0) > max_bytes:
            raise _Refused("too_big")

    return {
        "ignoreerrors": False,  # else savify retries a failed download for ever
        "noplaylist": True,
        "quiet": True,
        "noprogress": True,
        "cachedir": False,
        "socket_timeout": 20,
        "retries": 3,
        "progress_hooks": [progress],
        "js_runtimes": _runtimes(),
    }


def _runtimes() -> dict[str, dict[str, str]]:
    """JavaScript runtimes for YouTube: those that yt-dlp finds, and the installed deno package."""
    found: dict[str, dict[str, str]] = {name: {} for name in ("deno", "node", "bun", "quickjs")}
    with suppress(ImportError, FileNotFoundError):
        import deno

        found["deno"] = {"path": deno.find_deno_bin()}
    return found


def _downloader(temporary: Path, wanted: Hit, order: Mapping[str, Any]) -> type[Any]:
    """yt-dlp that takes the best of several matching hits, and fails where savify would retry for ever."""
    import yt_dlp

    expected_s = wanted.duration_s or order["duration_s"]
    tolerance, least = order["tolerance"], order["min_similarity"]

    def lasts(info: Mapping[str, Any]) -> bool:
        live = info.get("is_live") or info.get("live_status") in ("is_live", "is_upcoming")
        return not live and matching.fits(info.get("duration"), expected_s, tolerance)

    def refuse(info: Mapping[str, Any], *_: Any, **__: Any) -> None:
        """yt-dlp's match filter, called when all fields of a medium are known."""
        if not lasts(info):
            raise _Refused("wrong_duration", _figures(info, expected_s))

    class Downloader(yt_dlp.YoutubeDL):  # type: ignore[misc]
        def __init__(self, options: dict[str, Any]) -> None:
            super().__init__({**options, "match_filter": refuse})

        def download(self, url_list: list[str]) -> int:
            """Search, choose, download."""
            found = self.extract_info(_more(url_list[0]), download=False, process=False) or {}
            error: Exception | None = None
            for info in self._fitting(list(found.get("entries") or ()))[:MEDIA_TRIES]:
                try:
                    code: int = super().download([info["url"]])
                except (yt_dlp.utils.DownloadError, _Refused) as failed:
                    if isinstance(failed, _Refused) and failed.status != "wrong_duration":
                        raise
                    error = error or failed
                    continue
                if any(temporary.glob("*.mp3")):
                    return code
            raise error or _Refused("not_found", "yt-dlp finds nothing to download")

        def _fitting(self, entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
            """The entries with the right title and duration, the best first."""
            rated = [(_likeness(wanted, info), info) for info in entries]
            alike = [(likeness, info) for likeness, info in rated if likeness >= least]
            if rated and not alike:
                likeness, info = max(rated, key=lambda pair: pair[0])
                raise _Refused(
                    "wrong_title", f"the nearest of {len(rated)} is {_quoted(info)}, similarity {likeness:.2f}"
                )
            fitting = [pair for pair in alike if lasts(pair[1])]
            if alike and not fitting:
                raise _Refused("wrong_duration", "; ".join(_figures(info, expected_s) for _, info in alike[:3]))
            # Rounded to a tenth, so that the service's order decides between similar scores.
            return [info for _, info in sorted(fitting, key=lambda pair: -round(pair[0], 1))]

    return Downloader


def _more(search: str) -> str:
    """Request more hits, since savify takes the first one unchecked."""
    return search.replace("ytsearch:", f"ytsearch{MEDIA_HITS}:", 1)


def _likeness(wanted: Hit, info: Mapping[str, Any]) -> float:
    texts = [str(info.get(key) or "") for key in ("title", "uploader", "channel")]
    return matching.in_media(wanted.artists[0] if wanted.artists else "", wanted.title, texts)


def _quoted(info: Mapping[str, Any]) -> str:
    return json.dumps(str(info.get("title") or "")[:80], ensure_ascii=False)


def _figures(info: Mapping[str, Any], expected_s: float | None) -> str:
    lasts = f"lasts {info['duration']:.0f} s" if info.get("duration") else "is a live stream"
    return f"{_quoted(info)} {lasts}" + (f", not {expected_s:.0f} s" if expected_s else "")


if __name__ == "__main__":
    main()
