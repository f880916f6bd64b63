"""A piece of music as a source describes it: what `sources` yield and audio providers look for."""

from __future__ import annotations

from dataclasses import dataclass

from mer_ray.errors import TrackError
from mer_ray.io.identity import digest, track_id


@dataclass(frozen=True)
class Track:
    """A piece of music as a source describes it.

    tags: (name, weight) pairs, weight > 0 and relative. given: a label (valence, arousal, dominance) that the source
    brings, each in 0..1 or None. duration_s: its length, > 0. uri: where its audio is, if the source knows. place:
    the path or address as the source writes it, before it was made absolute. given_id: the id that the user's own table
    gives the track. key: an id that the source makes itself (a hash of an untagged file's content, say). size,
    mtime_ns: bytes and time of last change (ns since 1970) of the file, where the source looked at it.
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
    place: str | None = None
    given_id: str | None = None
    size: int | None = None
    mtime_ns: int | None = None

    @property
    def id(self) -> str:
        """The user's own id, ``key``, a hash of artist, title and album, or else of the place.

        Tracks of one artist, title and album in several files are told apart by `sources.listing`.
        """
        if self.given_id or self.key:
            return self.given_id or self.key or ""
        place = self.place or self.uri
        if place and not (self.artist and self.title):
            return digest(place.encode())[:16]
        return track_id(self.artist, self.title, self.album)


Found = Track | tuple[Track, TrackError]
"""What a source yields."""
