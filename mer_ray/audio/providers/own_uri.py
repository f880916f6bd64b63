"""Provider ``uri``: the track's own path, web address, object or demo cue."""

from __future__ import annotations

from pathlib import Path

from mer_ray.audio.providers import Limits, Provider, ProviderResult, Settings
from mer_ray.errors import TrackError
from mer_ray.io import address
from mer_ray.io.track import Track


class OwnUri(Provider):
    """Uses local files and objects in place; downloads and rendered cues are copied into the workspace."""

    name = "uri"
    searches = False

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self.allow_private = settings.allow_private

    def source(self, track: Track) -> str:
        """``http``, ``demo``, ``file``, or the scheme of an object store."""
        uri = track.uri
        if not uri:
            return self.name
        if address.is_url(uri):
            return "http"
        return "demo" if uri.startswith("demo:") else address.scheme(uri) or "file"

    def get(self, track: Track, folder: Path, limits: Limits) -> ProviderResult | None:
        """See `Provider.get`."""
        uri, path, shown = track.uri, folder / "audio", address.shown(track.uri or "")
        if not uri:
            return None
        if uri.startswith("demo:"):
            from mer_ray.audio.providers import demo

            demo.fetch(uri, path)
            return ProviderResult(path, shown=shown)
        if address.is_url(uri):
            from mer_ray.io import http

            http.fetch(uri, path, limits.timeout_s, limits.max_mb, limits.slot, self.allow_private)
            return ProviderResult(path, shown=shown)
        if address.is_local(uri):
            local = address.to_path(uri)
            if not local.is_file():
                raise TrackError("missing", f"{uri} is not a file")
            return ProviderResult(local, uri)
        from mer_ray.io import objects

        with limits.slot(address.host(uri)):
            objects.copy(uri, path, limits.timeout_s, limits.max_mb)
        return ProviderResult(path, uri, shown)
