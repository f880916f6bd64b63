"""Log-mel spectra, with librosa's definition.

``power_to_db(melspectrogram(y))`` of librosa 0.11: `mer_ray.features.mel`, floored at ``top_db`` below the clip's
maximum. `mer_ray.features.mfcc` adds a DCT.
"""

from __future__ import annotations

import tempfile
import weakref

import numpy as np
from pydantic import Field

from mer_ray.features import FeatureSpec
from mer_ray.features.mel import MelExtractor, MelParams, MelSpectra

IN_MEMORY = 16 << 20
"""Bytes of one clip's log-mel spectra that are buffered in memory (12 minutes by default); more are in a file."""


class Params(MelParams):
    """Settings under ``extract.logmel``."""

    top_db: float | None = Field(80.0, ge=0)
    """Floor, in dB below the loudest frame; `null`: a floor of -100 dB."""


def resolve(params: Params, demo: bool = False) -> FeatureSpec:
    return params.mel_spec("logmel", 1, params.n_mels)


class LogMel(MelExtractor):
    """``librosa.power_to_db(librosa.feature.melspectrogram(y))``, time first."""

    def __init__(self, spec: FeatureSpec) -> None:
        self.spec = spec
        self._params = Params(**spec.params)
        self.spectra = MelSpectra(self._params)

    def listen(self) -> Floored:
        return Floored(self._params.n_mels, self._params.top_db)


load = LogMel


class Floored:
    """A `mel.MelListener` that makes log-mel spectra, or their product with a matrix.

    The clip's maximum, to which the floor ``top_db`` is relative, is known only at its end. Until then the spectra are
    buffered, beyond `IN_MEMORY` in a temporary file.

    top_db: None for no limit. product: (n_mels, F) float64, or None.
    """

    def __init__(self, n_mels: int, top_db: float | None, product: np.ndarray | None = None) -> None:
        self._n_mels, self._top_db, self._product = n_mels, top_db, product
        self._buffer = tempfile.SpooledTemporaryFile(max_size=IN_MEMORY)  # noqa: SIM115 - closed by finish
        weakref.finalize(self, self._buffer.close)  # where an error comes first
        self._highest = -np.inf
        self._frames = np.zeros((0, n_mels if product is None else product.shape[1]), np.float32)

    def take(self, decibels: np.ndarray) -> None:
        """See `mel.MelListener`."""
        self._highest = max(self._highest, float(decibels.max()))
        self._buffer.write(decibels.data)

    def finish(self, n_frames: int, n_samples: int) -> None:
        """See `mel.MelListener`."""
        lowest = np.float32(-np.inf if self._top_db is None else self._highest - self._top_db)
        result = np.empty((n_frames, self._frames.shape[1]), np.float32)
        row_bytes = 4 * self._n_mels
        self._buffer.seek(0)
        for first in range(0, len(result), 1_024):
            rows = result[first : first + 1_024]
            spectra = np.frombuffer(self._buffer.read(len(rows) * row_bytes), np.float32).reshape(len(rows), -1)
            if self._product is None:
                np.maximum(spectra, lowest, out=rows)
            else:
                # In double precision: sums of 128 numbers near -60 would round more than all steps before.
                rows[:] = np.maximum(spectra, lowest, dtype=np.float64) @ self._product
        self._buffer.close()
        self._frames = result

    def frames(self) -> np.ndarray:
        """(n_frames, F) float32."""
        return self._frames
