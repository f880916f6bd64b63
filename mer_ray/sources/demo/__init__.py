"""The demo catalog: soundtracks that the project composes itself, with tags, so that every stage runs offline.

A seed and an index give a cue its hidden valence, arousal and dominance (`affect`). From these follow the listeners'
tags (`tags`) and, by the mappings that music psychology has found (`style`, with its sources), the music: a score
(`score`) that is rendered to samples (`synth`). Composers and titles are invented (`names`).

The tags' words are in ``labels/data/demo_lexicon.txt``: own ratings, not for research.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from mer_ray.errors import TrackError
from mer_ray.io.identity import track_id
from mer_ray.io.track import Found, Track
from mer_ray.sources.demo import composition, names, style, synth
from mer_ray.sources.demo import tags as listeners
from mer_ray.sources.demo.affect import CUES_PER_COMPOSER, affect, stream
from mer_ray.sources.source import Stored, TrackSource

__all__ = ["affect", "fetch", "render", "tracks"]

_URI = re.compile(r"demo:(-?\d{1,40})/(\d{1,18})/(\d+(?:\.\d+)?)")
_SECONDS = (0.1, 3600.0)


def tracks(cues: int, seconds: float, seed: int) -> Iterator[Track]:
    """The first ``cues`` tracks of a catalog, each ``seconds`` long, four by each composer.

    The audio is at ``uri``, for `fetch`; a track does not depend on how many others are asked for.
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


def render(uri: str) -> tuple[np.ndarray, int]:
    """Samples of a cue (mono float32, shape (n,), |x| < 1) and their rate in Hz; the same uri, the same samples.

    Raises TrackError where the uri is not ``demo:SEED/INDEX/SECONDS``.
    """
    seed, index, seconds = _parse(uri)
    lead = synth.LEADS[stream(seed, index // CUES_PER_COMPOSER, "lead").integers(len(synth.LEADS))]
    manner = style.choose(affect(seed, index), lead, stream(seed, index, "style"))
    notes = composition.compose(manner, seconds, stream(seed, index, "score"))
    return synth.perform(notes, manner, seconds, stream(seed, index, "synth")), synth.RATE


def fetch(uri: str, path: Path) -> None:
    """Write a cue to ``path`` as 16-bit FLAC. Raises TrackError where the uri is malformed."""
    samples, rate = render(uri)
    import soundfile

    soundfile.write(path, samples, rate, format="FLAC", subtype="PCM_16")


def _parse(uri: str) -> tuple[int, int, float]:
    match = _URI.fullmatch(uri)
    if match is None:
        raise TrackError("no_audio", f"{uri!r} is no demo cue; one is demo:SEED/INDEX/SECONDS, as in demo:7/0/20")
    seconds = float(match[3])
    if not _SECONDS[0] <= seconds <= _SECONDS[1]:
        shortest, longest = _SECONDS
        raise TrackError("no_audio", f"{uri!r} is to last {seconds:g} s; {shortest:g} to {longest:g} s are possible")
    return int(match[1]), int(match[2]), seconds


class Source(TrackSource):
    """The demo catalog of ``collect.demo``."""

    def identity(self) -> dict[str, Any]:
        """See `TrackSource`."""
        return dict(self.settings.demo.model_dump())

    def tracks(self, stored: Stored) -> Iterator[Found]:
        """See `TrackSource`."""
        return tracks(self.settings.demo.cues, self.settings.demo.seconds, self.settings.demo.seed)
