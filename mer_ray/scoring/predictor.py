"""A loaded model: audio or frames in, valence, arousal and dominance (or the model's other dimensions) out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mer_ray.audio.decode import resample
from mer_ray.audio.excerpt import Excerpt
from mer_ray.errors import ModelError, TrackError
from mer_ray.features import Extractor
from mer_ray.features import load as load_feature
from mer_ray.features.joined import Frames, frames_of, parts, parts_of
from mer_ray.models.regressor import ensemble
from mer_ray.scoring import model_folder
from mer_ray.scoring.measures import measured
from mer_ray.scoring.samples import checked
from mer_ray.scoring.waveform import Waveform


@dataclass(frozen=True)
class Prediction:
    """A model's prediction for one track.

    Attributes:
        value: (D,), the model's dimensions in 0..1.
        lower: (D,), lower ends of the 90 % intervals.
        upper: (D,), upper ends.
        curve: (n, D), point i at (i + 1/2) hop_s seconds.
        novelty: Distance from the training tracks; above 1 it is out of distribution.
        sound: (S,), coordinates in which neighbours sound alike.
    """

    value: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    curve: np.ndarray
    hop_s: float
    novelty: float
    sound: np.ndarray

    @property
    def vad(self) -> np.ndarray:
        """`value`, of a model of valence, arousal and dominance."""
        return self.value

    @property
    def in_distribution(self) -> bool:
        """Whether it is like the training tracks; if not, its intervals are not valid."""
        return self.novelty <= 1


class Predictor:
    """A model folder, loaded.

    Attributes:
        dimensions: Names of the D numbers that it predicts.
    """

    def __init__(self, model: model_folder.Model) -> None:
        self.model = model
        nothing = {part.name: np.zeros((1, part.n_dims), np.float32) for part in parts(model.feature)}
        for member in model.members:
            member.check(frames_of(model.feature, nothing))
        # If the model and the novelty use the same statistics, they are computed once.
        self._shared = model.reference.statistics.equals(model.members[0].statistics)
        self.name, self.dimensions = model.id, model.dimensions
        self._loaded: dict[str, Extractor] = {}

    @property
    def features(self) -> dict[str, Extractor]:
        """The features that the model reads, by name, loaded when they are first needed.

        Raises ModelError if one is precomputed, and needs no audio.
        """
        if not self._loaded:
            own = parts(self.model.feature)
            if ready := [part.name for part in own if not part.sample_rate_hz]:
                where = "give the table that has them" if len(own) == 1 else "score the workspace that has all features"
                raise ModelError(
                    f"{self.name} reads the frames {', '.join(ready)}, which are precomputed",
                    f"{where}, or give a model that reads audio",
                )
            self._loaded = {part.name: load_feature(part) for part in own}
        return self._loaded

    def predict(self, samples: np.ndarray, rate: int) -> Prediction:
        """Score one piece of mono audio: floating-point samples (n,), full scale 1, at ``rate`` hertz.

        Raises InputError for integers, values beyond ±1.5, more than one channel or an invalid rate, and TrackError
        (too_short, not_finite).
        """
        spec = self.model.feature
        samples, rate = checked(samples, rate)
        excerpt = Excerpt.from_json(spec.excerpt)
        pieces = excerpt.pieces(len(samples), rate) if excerpt else [(0, len(samples))]
        found = {}
        for name, extractor in self.features.items():
            wanted = [resample(samples[a : a + n], rate, extractor.spec.sample_rate_hz) for a, n in pieces]
            found[name] = np.concatenate(extractor(wanted))
        return self.predict_frames([frames_of(spec, found)])[0]

    def predict_frames(self, tracks: Sequence[Frames]) -> list[Prediction]:
        """Score frames (n_i, F) of the model's feature, n_i >= 1; of several, `mer_ray.features.joined.Joined`.

        Raises TrackError (too_short, not_finite).
        """
        model = self.model
        self._check(tracks)
        if not tracks:
            return []
        out = []
        predicted = ensemble(model.members, tracks)
        seconds = np.array([len(track) for track in tracks]) * model.feature.hop_s
        lower, upper = model.intervals.ends(np.stack([p.value for p in predicted]), seconds)
        for i, (track, one) in enumerate(zip(tracks, predicted, strict=True)):
            mean = one.statistics if self._shared else None
            mean = self._mean(track) if mean is None else mean
            sound = model.reference.coordinates(mean)
            novelty = float(model.reference.novelty(mean))
            out.append(Prediction(one.value, lower[i], upper[i], one.curve, one.hop_s, novelty, sound))
        return out

    def embed_frames(self, tracks: Sequence[Frames]) -> np.ndarray:
        """Frames as for `predict_frames` → (N, P): the mean over each track's passages of their statistics.

        Standardised by the training tracks' mean and deviation. Raises TrackError (too_short, not_finite).
        """
        self._check(tracks)
        size = len(self.model.reference.statistics.shift)
        return np.stack([self._mean(t) for t in tracks]) if tracks else np.zeros((0, size), np.float32)

    def _mean(self, track: Frames) -> np.ndarray:
        return self.model.reference.statistics.mean(track, self.model.window, self.model.feature.hop_s)

    def _check(self, tracks: Sequence[Frames]) -> None:
        for own in map(parts_of, tracks):
            for t, part in zip(own, parts(self.model.feature), strict=True):
                if t.ndim != 2 or t.shape[1] != part.n_dims:
                    raise ValueError(f"frames must be of shape (n, {part.n_dims}), not {t.shape}")
                if len(t) == 0:
                    raise TrackError("too_short", f"the audio is too short for one frame of {part.name}")
                if not np.isfinite(t).all():
                    raise TrackError("not_finite", f"frames of {part.name} hold NaN or infinite values")

    def extractors(self) -> dict[str, Extractor]:
        """The extractors for a file: of the model's features, of the waveform, and of what else is measured."""
        beside = self.model.feature
        return {**self.features, Waveform.NAME: Waveform(beside), **measured.extractors(beside, self.features)}


def load(path: str | os.PathLike[str] | None = None) -> Predictor:
    """Load a model folder, or a packaged model by its name; without either, the default one. Raises ModelError."""
    return Predictor(model_folder.load(model_folder.DEFAULT if path is None else os.fspath(path)))
