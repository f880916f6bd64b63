"""Where tracks, tags and audio come from. One file per source; none of them knows of Ray or of the workspace.

A source of tracks yields a `Track` for each one that it found and, for each one that it lost, the little that it knows
of it with a TrackError (yielded, not raised); it raises a MerRayError when it cannot go on at all. A source of audio is
a function that fetches one file, or raises TrackError.
"""

from __future__ import annotations

from dataclasses import dataclass

from mer_ray.errors import TrackError
from mer_ray.identity import track_id


@dataclass(frozen=True)
class Track:
    """A piece of music as a source describes it.

    tags: (name, weight) pairs, weight > 0 and relative. given: a label (valence, arousal, dominance) that the source
    brings, each in 0..1 or None. duration_s: its length, > 0. uri: where its audio is, if the source knows. place:
    the path or address as the source writes it, before it was made absolute. given_id: the id that the user's own table
    gives the track. key: an id for a track without artist and title (a hash of its file's content, say).
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

    @property
    def id(self) -> str:
        """The user's own id, ``key``, or a hash of the normalised artist and title."""
        return self.given_id or self.key or track_id(self.artist, self.title)


Found = Track | tuple[Track, TrackError]
"""What a source yields."""
