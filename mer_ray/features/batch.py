"""Files → frames of several features, with one decoding for all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from mer_ray.audio.decode import decode, resample
from mer_ray.audio.location import local_copy
from mer_ray.errors import TrackError
from mer_ray.features import Extractor


@dataclass
class Extracted:
    """frames: feature → track id → (n_frames, F). errors: (feature or "" for all of them, track id) → what went wrong.

    seconds: of audio decoded.
    """

    frames: dict[str, dict[str, np.ndarray]] = field(default_factory=dict)
    errors: dict[tuple[str, str], TrackError] = field(default_factory=dict)
    seconds: float = 0.0


def extract(
    files: Sequence[tuple[str, str, Sequence[str]]], extractors: Mapping[str, Extractor], min_duration_s: float
) -> Extracted:
    """files: (track id, URI, features wanted). A file that cannot be used becomes an error; the others go on."""
    result = Extracted(frames={name: {} for name in extractors})
    waiting: dict[str, dict[str, np.ndarray]] = {name: {} for name in extractors}
    for track_id, uri, wanted in files:
        try:
            with local_copy(uri) as path:
                samples, rate = decode(path, min_duration_s)
        except TrackError as error:
            result.errors["", track_id] = error
            continue
        result.seconds += len(samples) / rate
        for name in wanted:
            waiting[name][track_id] = resample(samples, rate, extractors[name].spec.sample_rate_hz)
    for name, batch in waiting.items():
        for track_id, frames in zip(batch, extractors[name](list(batch.values())) if batch else [], strict=True):
            if len(frames) == 0:
                result.errors[name, track_id] = TrackError("too_short", f"too short for one frame of {name}")
            elif not np.isfinite(frames).all():
                result.errors[name, track_id] = TrackError("not_finite", f"{name} gave NaN or infinite frames")
            else:
                result.frames[name][track_id] = frames
    return result
