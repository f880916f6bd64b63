"""`Track`: a piece of music as a source describes it and audio providers search for it."""

from __future__ import annotations

from dataclasses import dataclass

from mer_ray.errors import TrackError
from mer_ray.io.identity import digest, track_id


@dataclass(frozen=True)
class Track:
    """A piece of music as a source describes it.

    Attributes:
        tags: (name, weight) pairs, weight > 0 and relative.
        given: The source's own label: valence, arousal and dominance, each in 0..1 or None.
        duration_s: > 0.
        uri: The path or address of its audio, if the source knows it.
        key: An id that the source makes, such as a hash of an untagged file's content.
        location: The path or address as the source writes it, before it was made absolute.
        own_id: The id in the user's own table.
        size: Bytes of the file, if the source has read it.
        mtime_ns: Its modification time, in ns since 1970.
    """

    artist: str
    title: str
    album: str | None = None
    composer: str | None = None
    mbid: str | None = None
    spotify_id: str | None = None
    duration_s: float | None = None
    uri: str | None = None
    tags: tuple[tuple[str, float], ...] = ()
    given: tuple[float | None, float | None, float | None] | None = None
    key: str | None = None
    location: str | None = None
    own_id: str | None = None
    size: int | None = None
    mtime_ns: int | None = None

    @property
    def id(self) -> str:
        """The user's own id, ``key``, a hash of artist, title and album, or else of the location.

        `sources.listing` adds the file for tracks of the same artist, title and album in several files.
        """
        if self.own_id or self.key:
            return self.own_id or self.key or ""
        location = self.location or self.uri
        if location and not (self.artist and self.title):
            return digest(location.encode())[:16]
        return track_id(self.artist, self.title, self.album)


SourceResult = Track | tuple[Track, TrackError]
"""A source yields tracks, and unusable ones with their error."""
