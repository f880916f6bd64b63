"""A loaded model at work: audio or frames in, valence, arousal and dominance out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from mer_ray.audio.decode import resample
from mer_ray.audio.excerpt import Excerpt
from mer_ray.errors import TrackError
from mer_ray.features import Extractor
from mer_ray.features import load as load_feature
from mer_ray.identity import one_line
from mer_ray.scoring import store
from mer_ray.tables import DIMENSIONS
from mer_ray.training.forward import ensemble, forward, track_means


@dataclass(frozen=True)
class Prediction:
    """vad, lower, upper: (3,) arrays of V, A, D in 0..1, the bounds those of a 90 % interval.

    curve: (n, 3), one point a window, the first at the start of the track, ``hop_s`` seconds apart.
    """

    vad: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    curve: np.ndarray
    hop_s: float


class Predictor:
    """A model folder, loaded. Its members' answers are averaged; a track's value is the mean over its windows."""

    def __init__(self, model: store.Model) -> None:
        self.model = model
        spec = model.feature
        self.forward = forward(model.network, spec.n_dims, spec.hop_s, model.window, model.outputs)
        self.name = model.id
        self._extractor: Extractor | None = None

    @property
    def extractor(self) -> Extractor:
        """The feature that the model reads, loaded when it is first needed."""
        if self._extractor is None:
            self._extractor = load_feature(self.model.feature)
        return self._extractor

    def predict(self, samples: np.ndarray, rate: int) -> Prediction:
        """Score one piece of mono audio: samples (n,) in [-1, 1] at ``rate`` hertz. Raises TrackError (too_short)."""
        spec = self.model.feature
        excerpt = Excerpt.from_json(spec.excerpt)
        pieces = excerpt.pieces(len(samples), rate) if excerpt else [(0, len(samples))]
        wanted = [resample(np.asarray(samples[a : a + n], np.float32), rate, spec.sample_rate_hz) for a, n in pieces]
        return self.predict_frames([np.concatenate(self.extractor(wanted))])[0]

    def predict_frames(self, tracks: Sequence[np.ndarray]) -> list[Prediction]:
        """Score frames (n_i, F) of the model's feature, n_i >= 1."""
        if any(len(t) == 0 for t in tracks):
            raise TrackError("too_short", f"the audio is too short for one frame of {self.model.feature.name}")
        if not tracks:
            return []
        values, owner = ensemble(self.forward, self.model.members, tracks)
        means = track_means(values, owner, len(tracks))
        radius = np.asarray(self.model.radius)
        hop_s = max(1, self.model.window // 2) * self.model.feature.hop_s
        return [
            Prediction(m, np.clip(m - radius, 0, 1), np.clip(m + radius, 0, 1), values[owner == i], hop_s)
            for i, m in enumerate(means)
        ]


def load(path: str) -> Predictor:
    """Load a model folder. Raises ModelError."""
    return Predictor(store.load(path))


def score_row(track_id: str, artist: str, title: str, uri: str, prediction: Prediction, model: str) -> dict[str, Any]:
    """A row of ``scores``."""
    values = {
        f"{prefix}{d}": float(vector[i])
        for prefix, vector in (("", prediction.vad), ("lower_", prediction.lower), ("upper_", prediction.upper))
        for i, d in enumerate(DIMENSIONS)
    }
    return {
        "track_id": track_id,
        "artist": one_line(artist),
        "title": one_line(title),
        "uri": uri,
        **values,
        "curve": prediction.curve.astype("float32").tolist(),
        "curve_hop_s": prediction.hop_s,
        "model": model,
    }
