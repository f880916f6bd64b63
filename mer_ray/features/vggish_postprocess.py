"""The AudioSet release's last two steps after VGGish: PCA whitening, and quantisation to 8 bits.

``vggish_postprocess.py`` and ``vggish_pca_params.npz`` of https://github.com/tensorflow/models, research/audioset.
"""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mer_ray.errors import ConfigError, ModelError
from mer_ray.features.vggish_network import N_DIMS
from mer_ray.io.identity import digest, one_line

LOW, HIGH = -2.0, 2.0  # the values of 0 and 255
SETTING = "extract.vggish.postprocess"


@dataclass(frozen=True)
class Postprocess:
    """eigen_vectors: (128, 128), a component in each row. means: (128,). sha256: of both."""

    eigen_vectors: np.ndarray
    means: np.ndarray
    sha256: str

    @classmethod
    def read(cls, path: str, sha256: str | None = None) -> Postprocess:
        """Read the published file. Raises ConfigError if it is invalid, ModelError if its hash is not ``sha256``."""
        file = Path(path).expanduser()
        try:
            with np.load(file, allow_pickle=False) as arrays:
                vectors = np.asarray(arrays["pca_eigen_vectors"], np.float64)
                means = np.asarray(arrays["pca_means"], np.float64).ravel()
        except (OSError, ValueError, KeyError, EOFError, TypeError, zipfile.BadZipFile) as error:
            reason = one_line(str(error), 200)
            raise ConfigError(f"{SETTING}: {file} is no vggish_pca_params.npz ({reason})", _HINT) from error
        if vectors.shape != (N_DIMS, N_DIMS) or means.shape != (N_DIMS,):
            found = f"{vectors.shape} and {means.shape}"
            raise ConfigError(f"{SETTING}: {file} must hold (128, 128) vectors and 128 means, found {found}", _HINT)
        found = digest(vectors.astype("<f8").tobytes() + means.astype("<f8").tobytes())
        if sha256 not in (None, found):
            raise ModelError(
                f"{file} is not the one that the features were made with", f"put it back, or set {SETTING}"
            )
        return cls(vectors, means, found)

    def __call__(self, embeddings: np.ndarray) -> np.ndarray:
        """(n, 128) raw embeddings → (n, 128) float32, integers 0..255."""
        # Not by BLAS, whose rounding may depend on the number of rows and so change the quantised integers.
        whitened: np.ndarray = np.einsum("ij,nj->ni", self.eigen_vectors, embeddings - self.means, optimize=False)
        levels = (np.clip(whitened, LOW, HIGH) - LOW) * (255 / (HIGH - LOW))
        result: np.ndarray = np.floor(levels).astype(np.float32)
        return result


_HINT = "set it to false, or to vggish_pca_params.npz of the AudioSet release"
