"""Librosa's measures of spectral shape, and two of the waveform, as one vector for each frame.

With librosa 0.11's definitions and defaults; the chosen columns are in this order:

| measure | columns | unit, range | librosa.feature |
| --- | --- | --- | --- |
| centroid | 1 | hertz | spectral_centroid |
| bandwidth | 1 | hertz | spectral_bandwidth (p = 2) |
| rolloff | 1 | hertz | spectral_rolloff (85 %) |
| flatness | 1 | 0..1 | spectral_flatness |
| contrast | 7 | dB, from the band below 200 Hz up by octaves | spectral_contrast (Jiang et al. 2002) |
| zero_crossing_rate | 1 | 0..1, of the frame's samples | zero_crossing_rate |
| rms | 1 | 0..1 | rms (of the waveform) |
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self, get_args

import numpy as np
from pydantic import BeforeValidator, Field, field_validator, model_validator

from mer_ray.features import Extractor, FeatureSpec
from mer_ray.features.stft import Cutter, StftParams, hann, magnitude

Measure = Literal["centroid", "bandwidth", "rolloff", "flatness", "contrast", "zero_crossing_rate", "rms"]
MEASURES: tuple[Measure, ...] = get_args(Measure)

LOWEST_HZ, N_OCTAVES = 200.0, 6
"""Of the contrast: the end of the first band, and the number of further bands."""


def _names(value: Any) -> Any:
    """Accept ``a,b`` as a list."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


class Params(StftParams):
    """Settings under ``extract.spectral``."""

    measures: Annotated[list[Measure], BeforeValidator(_names)] = Field(list(MEASURES), min_length=1)
    """Which of them a frame has."""

    @field_validator("measures")
    @classmethod
    def _in_order(cls, value: list[Measure]) -> list[Measure]:
        return [m for m in MEASURES if m in value]

    @model_validator(mode="after")
    def _contrast_has_bins(self) -> Self:
        if "contrast" in self.measures:
            last_hz = LOWEST_HZ * 2 ** (N_OCTAVES - 1)
            if self.n_fft // 2 * self.sample_rate_hz / self.n_fft <= last_hz:
                raise ValueError(
                    f"contrast needs a sample_rate_hz over {2 * last_hz:g}, for its band from {last_hz:g} Hz on; "
                    "raise it, or leave contrast out of measures"
                )
            least = math.ceil(self.sample_rate_hz / LOWEST_HZ)
            if self.n_fft < least:
                raise ValueError(
                    f"contrast needs two bins below {LOWEST_HZ:g} Hz, an n_fft of {least} or more; "
                    "raise it, or leave contrast out of measures"
                )
        return self

    @property
    def columns(self) -> list[str]:
        """The frames' columns by name."""
        contrast = [f"contrast_{i}" for i in range(1 + N_OCTAVES)]
        return [name for m in self.measures for name in (contrast if m == "contrast" else [m])]


def resolve(params: Params, demo: bool = False) -> FeatureSpec:
    return params.spec("spectral", 1, len(params.columns))


class Spectral(Extractor):
    """See the table above."""

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec
        self._params = Params(**spec.params)

    def start(self) -> SpectralStream:
        return SpectralStream(self._params)


load = Spectral


class SpectralStream:
    """A `mer_ray.features.FrameStream`."""

    def __init__(self, params: Params) -> None:
        self._params = params
        self._window = hann(params.n_fft)
        self._bands = contrast_bands(params.sample_rate_hz, params.n_fft) if "contrast" in params.measures else []
        self._rows: dict[Measure, list[np.ndarray]] = {measure: [] for measure in params.measures}
        self._cutter = Cutter(params.n_fft, params.hop_length)
        # librosa pads the audio by its edge samples for zero crossings, and by zeros for all others.
        self._edged = Cutter(params.n_fft, params.hop_length, edge=True)

    def push(self, samples: np.ndarray) -> None:
        self._take(self._cutter.push(samples), self._edged.push(samples))

    def finish(self) -> None:
        self._take(self._cutter.finish(), self._edged.finish())

    def frames(self) -> np.ndarray:
        """(n_frames, F) float32."""
        if self._cutter.n_frames == 0:
            return np.zeros((0, len(self._params.columns)), np.float32)
        columns = {measure: np.concatenate(rows) for measure, rows in self._rows.items()}
        if "contrast" in columns:
            columns["contrast"] = contrast_db(columns["contrast"])
        return np.hstack(list(columns.values())).astype(np.float32)

    def _take(self, chunks: Iterator[np.ndarray], edged_chunks: Iterator[np.ndarray]) -> None:
        for frames, edged in zip(chunks, edged_chunks, strict=True):
            spectra = magnitude(frames, self._window)
            for measure, rows in self._rows.items():
                rows.append(self._measured(measure, frames, edged, spectra))

    def _measured(self, measure: Measure, frames: np.ndarray, edged: np.ndarray, spectra: np.ndarray) -> np.ndarray:
        """(T, n_fft) samples and (T, 1 + n_fft // 2) magnitudes → (T, columns of the measure)."""
        import librosa

        rate, bins_first = self._params.sample_rate_hz, spectra.T
        rows: np.ndarray
        match measure:
            case "centroid":
                rows = librosa.feature.spectral_centroid(S=bins_first, sr=rate, n_fft=self._params.n_fft).T
            case "bandwidth":
                rows = librosa.feature.spectral_bandwidth(S=bins_first, sr=rate, n_fft=self._params.n_fft).T
            case "rolloff":
                rows = librosa.feature.spectral_rolloff(S=bins_first, sr=rate, n_fft=self._params.n_fft).T
            case "flatness":
                rows = librosa.feature.spectral_flatness(S=bins_first).T
            case "contrast":
                rows = peaks_and_valleys(spectra, self._bands)
            case "zero_crossing_rate":
                rows = librosa.zero_crossings(edged, pad=False, axis=1).mean(axis=1, keepdims=True)
            case "rms":
                rows = np.sqrt(np.square(frames).mean(axis=1, keepdims=True))
        return rows


def contrast_bands(rate_hz: float, n_fft: int) -> list[tuple[slice, int]]:
    """Each band's bins, and the number of bins in its peak and its valley: 2 %, at least one.

    As in ``librosa.feature.spectral_contrast``: a band begins one bin before its lower limit, and all but the last end
    one bin before their upper limit.
    """
    limits = [0.0, *(LOWEST_HZ * 2.0**k for k in range(N_OCTAVES + 1))]
    hertz = np.fft.rfftfreq(n_fft, 1 / rate_hz)
    bands = []
    for k in range(N_OCTAVES + 1):
        within = np.flatnonzero((hertz >= limits[k]) & (hertz <= limits[k + 1]))
        first = within[0] - (k > 0)
        last = within[-1] if k < N_OCTAVES else len(hertz) - 1
        n = max(1, int(np.rint(0.02 * (last - first + 1))))
        bands.append((slice(first, last + (k == N_OCTAVES)), n))
    return bands


def peaks_and_valleys(spectra: np.ndarray, bands: list[tuple[slice, int]]) -> np.ndarray:
    """(T, 1 + n_fft // 2) magnitudes → (T, 2 × bands): the means of each band's largest, then of its smallest."""
    ordered = [(np.sort(spectra[:, bins], axis=1), n) for bins, n in bands]
    peaks = [band[:, -n:].mean(axis=1) for band, n in ordered]
    valleys = [band[:, :n].mean(axis=1) for band, n in ordered]
    return np.stack(peaks + valleys, axis=1)


def contrast_db(peaks_valleys: np.ndarray) -> np.ndarray:
    """(T, 2 × bands) of a whole clip → (T, bands) dB, peaks over valleys, each at least 80 dB below its maximum."""
    import librosa

    peaks, valleys = np.split(peaks_valleys, 2, axis=1)
    result: np.ndarray = librosa.power_to_db(peaks) - librosa.power_to_db(valleys)
    return result
