"""The demo catalog: synthetic soundtracks with tags, so that every stage runs offline.

The hidden affect of a cue (`mer_ray.audio.providers.demo.affect`) decides the listeners' tags (`tags`) and the
audio. Composers and titles are invented (`names`).

The tags' words are in ``labels/data/demo_lexicon.txt``: own ratings, not for research.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mer_ray.audio.providers.demo.affect import affect, stream
from mer_ray.io.identity import track_id
from mer_ray.io.track import SourceResult, Track
from mer_ray.sources.demo import names
from mer_ray.sources.demo import tags as listeners
from mer_ray.sources.source import Stored, TrackSource


def tracks(cues: int, seconds: float, seed: int) -> Iterator[Track]:
    """The first ``cues`` tracks of a catalog, each ``seconds`` long, four by each composer.

    Their ``uri`` is rendered by `mer_ray.audio.providers.demo`. A track does not depend on ``cues``.
    """
    for index in range(cues):
        artist, title, album = names.cue(seed, index)
        yield Track(
            artist=artist,
            title=title,
            album=album,
            key=track_id(artist, title),  # no two cues share both
            uri=f"demo:{seed}/{index}/{seconds:g}",
            tags=listeners.draw(affect(seed, index), stream(seed, index, "tags")),
        )


class Source(TrackSource):
    """The demo catalog of ``collect.demo``."""

    def identity(self) -> dict[str, Any]:
        """See `TrackSource`."""
        return dict(self.settings.demo.model_dump())

    def tracks(self, stored: Stored) -> Iterator[SourceResult]:
        """See `TrackSource`."""
        return tracks(self.settings.demo.cues, self.settings.demo.seconds, self.settings.demo.seed)
