"""`Track`: a piece of music as a source describes it and audio providers search for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from mer_ray.errors import TrackError
from mer_ray.io.identity import digest, track_id


class Rating(NamedTuple):
    """A label of one dimension, of the source itself: value in 0..1, and its standard error on that scale."""

    dimension: str
    value: float
    se: float | None = None


class Curve(NamedTuple):
    """A label over time of one dimension: ascending times in s from the start of the audio, and values in 0..1."""

    dimension: str
    time_s: tuple[float, ...]
    value: tuple[float, ...]


@dataclass(frozen=True)
class Track:
    """A piece of music as a source describes it.

    Attributes:
        tags: (name, weight) pairs, weight > 0 and relative.
        ratings: The source's own labels, each dimension at most once.
        curves: The source's own labels over time, each dimension at most once.
        dataset: The data set that it belongs to.
        split: ``train``, ``valid`` or ``test``, as the source says.
        fold: Its fold in a cross-validation, as the source says.
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
    ratings: tuple[Rating, ...] = ()
    curves: tuple[Curve, ...] = ()
    dataset: str | None = None
    split: str | None = None
    fold: str | None = None
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
