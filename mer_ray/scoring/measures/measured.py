"""A track's values of `mer_ray.io.schemas.MEASURES`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from mer_ray.audio.loudness import Loudness
from mer_ray.features import Extractor, FeatureSpec
from mer_ray.scoring.measures.beat import Beat, tempo
from mer_ray.scoring.measures.pitches import Pitches, key


def extractors(beside: FeatureSpec, features: Mapping[str, Extractor]) -> dict[str, Extractor]:
    """What reads a file for `values`. features: the model's, whose spectra they share where they can."""
    return {Beat.NAME: Beat(beside, features.values()), Pitches.NAME: Pitches(beside)}


def values(
    made_by: Mapping[str, Extractor], frames: Mapping[str, np.ndarray], loudness: Loudness | None
) -> dict[str, Any]:
    """The columns of one track; None where a value is unknown.

    frames: of those `extractors` that could read it. Tempo and loudness are rounded to hundredths, confidences to
    thousandths.
    """
    out: dict[str, Any] = {}
    beat = made_by[Beat.NAME]
    if Beat.NAME in frames and isinstance(beat, Beat):
        out["tempo"], out["tempo_confidence"] = tempo(frames[Beat.NAME], beat.frame_rate_hz)
    if Pitches.NAME in frames:
        out["key"], out["mode"], out["key_confidence"] = key(frames[Pitches.NAME])
    if loudness is not None:
        out |= {"loudness": loudness.integrated, "true_peak": loudness.true_peak}
    digits = {"tempo_confidence": 3, "key_confidence": 3}
    return {n: round(v, digits.get(n, 2)) if isinstance(v, float) else v for n, v in out.items()}
