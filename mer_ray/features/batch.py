"""Files → frames of several features, which share the decoding and, where they are equal, the spectra."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mer_ray.audio import decode
from mer_ray.audio.excerpt import Excerpt
from mer_ray.audio.loudness import Loudness
from mer_ray.errors import TrackError
from mer_ray.features import Extractor, FrameStream, mel
from mer_ray.io.objects import local_copy

Stream = Callable[..., Iterator[decode.Block]]
"""How a file becomes blocks of samples: `audio.decode.stream`, or the same in a process of its own."""


@dataclass
class Extracted:
    """frames: feature → track id → (n_frames, F). errors: (feature or "" for all of them, track id) → error.

    seconds: of decoded audio. shares: track id → share of the file that could be decoded, as in `decode.Block`.
    loudness: track id → that of its channels, if asked for.
    """

    frames: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    errors: dict[tuple[str, str], TrackError] = field(default_factory=dict)
    seconds: float = 0.0
    shares: dict[str, float | None] = field(default_factory=dict)
    loudness: dict[str, Loudness | None] = field(default_factory=dict)


def extract(
    files: Sequence[tuple[str, str, Sequence[str]]],
    extractors: Mapping[str, Extractor],
    min_duration_s: float,
    stream: Stream | None = None,
    loudness: bool = False,
) -> Extracted:
    """Extract features. files: (track id, URI, features to extract). An unusable file becomes an error.

    loudness: Measure it too, of what the first of the features reads.
    """
    result = Extracted(frames={name: {} for name in extractors})
    opened: list[tuple[str, str, list[FrameStream]]] = []
    for track_id, uri, wanted in files:
        chosen = {name: extractors[name] for name in wanted}
        try:
            with local_copy(uri) as path:
                streams, ends, seconds = _read(path, chosen, min_duration_s, stream or decode.stream, loudness)
        except TrackError as error:
            result.errors["", track_id] = error
            continue
        result.seconds += seconds
        result.shares[track_id] = ends[-1].decoded_share
        result.loudness[track_id] = ends[0].loudness
        opened.extend((name, track_id, pieces) for name, pieces in streams.items())
    # After all files are read, so that batches are full.
    for name, track_id, pieces in opened:
        try:
            result.frames[name][track_id] = _frames(name, pieces)
        except TrackError as error:
            result.errors[name, track_id] = error
    return result


def _read(
    path: Path, extractors: Mapping[str, Extractor], min_duration_s: float, stream: Stream, loudness: bool
) -> tuple[dict[str, list[FrameStream]], list[decode.Block], float]:
    """A file's samples, pushed into a stream per feature and piece. Features with one excerpt share the decoding.

    Also returns the last block of each decoding, and the seconds of all.
    """
    streams: dict[str, list[FrameStream]] = {name: [] for name in extractors}
    seconds, ends = 0.0, list[decode.Block]()
    excerpts = {name: Excerpt.from_json(e.spec.excerpt) for name, e in extractors.items()}
    for excerpt in dict.fromkeys(excerpts.values()):
        sharing = {name: e for name, e in extractors.items() if excerpts[name] == excerpt}
        rates = sorted({e.spec.sample_rate_hz for e in sharing.values()})
        asked = {"loudness": True} if loudness and not ends else {}
        for block in stream(path, rates, excerpt, min_duration_s, **asked):
            seconds += block.seconds
            if len(streams[next(iter(sharing))]) <= block.piece:
                for name, piece in mel.start(sharing).items():
                    for ended in streams[name][-1:]:
                        ended.finish()
                    streams[name].append(piece)
            for name, extractor in sharing.items():
                streams[name][-1].push(block.samples[extractor.spec.sample_rate_hz])
        ends.append(block)
    for pieces in streams.values():
        for piece in pieces[-1:]:
            piece.finish()
    return streams, ends, seconds


def _frames(name: str, pieces: Sequence[FrameStream]) -> np.ndarray:
    """The frames of all pieces, one after the other. Raises TrackError."""
    frames = [piece.frames() for piece in pieces]
    whole = frames[0] if len(frames) == 1 else np.concatenate(frames)
    if len(whole) == 0:
        raise TrackError("too_short", f"too short for one frame of {name}")
    if not np.isfinite(whole).all():
        raise TrackError("not_finite", f"{name} gave NaN or infinite frames")
    return whole
