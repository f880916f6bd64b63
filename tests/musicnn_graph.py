"""musicnn as its release runs it: librosa's mel spectrum and the graph of the wheel in TensorFlow.

    python tests/musicnn_graph.py WHEEL     # writes tests/musicnn_expected.json anew

Nothing here is ours but the signal. Needs the wheel of musicnn 0.1.0: ``pip download --no-deps musicnn==0.1.0``; tests
and the benchmark find it by the variable MER_RAY_MUSICNN_WHEEL.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from vggish_sounds import music

WHEEL = os.environ.get("MER_RAY_MUSICNN_WHEEL", "")
EXPECTED = Path(__file__).with_name("musicnn_expected.json")
FOLDERS = {"msd": "MSD_musicnn", "mtt": "MTT_musicnn"}
OUTPUTS = ("model/batch_normalization_10/batchnorm/add_1:0", "model/Sigmoid:0")
PATCH = 187


def signal() -> np.ndarray:
    """(112000,) float32 at 16 kHz, 7 s: two patches, and a rest."""
    return music(7.0, 3)


def log_mel(samples: np.ndarray) -> np.ndarray:
    """`extractor.batch_data` of the release: (n,) → (T, 96) float32."""
    import librosa

    # Reflection was librosa's default when the release was made.
    mel = librosa.feature.melspectrogram(
        y=samples, sr=16_000, hop_length=256, n_fft=512, n_mels=96, pad_mode="reflect"
    ).T
    # The release's NumPy multiplied in float32; that of today would stay in float16, and overflow.
    return np.log10(np.float32(10_000) * mel.astype(np.float16).astype(np.float32) + np.float32(1))


def patches(frames: np.ndarray) -> np.ndarray:
    """(T, 96) → (n, 187, 96): the complete ones."""
    n = len(frames) // PATCH
    return frames[: n * PATCH].reshape(n, PATCH, -1)


class Graph:
    """One network of the wheel, in TensorFlow, on one thread."""

    def __init__(self, wheel: str | Path, network: str) -> None:
        import tensorflow as tf

        v1 = tf.compat.v1
        with tempfile.TemporaryDirectory() as folder, zipfile.ZipFile(wheel) as archive:
            for suffix in ("index", "data-00000-of-00001"):
                Path(folder, f"model.{suffix}").write_bytes(archive.read(f"musicnn/{FOLDERS[network]}/.{suffix}"))
            reader = tf.train.load_checkpoint(f"{folder}/model")
            variables = {name: reader.get_tensor(name) for name in reader.get_variable_to_shape_map()}
            meta = v1.MetaGraphDef.FromString(archive.read(f"musicnn/{FOLDERS[network]}/.meta"))
        # Without what only training needs: this TensorFlow refuses the shapes that are noted there.
        part = v1.graph_util.extract_sub_graph(meta.graph_def, [name.split(":")[0] for name in OUTPUTS])
        names = {node.name for node in part.node}
        for node in part.node:
            node.attr.pop("_output_shapes", None)
        graph = tf.Graph()
        with graph.as_default():
            constants = {
                f"{name}/read:0": tf.constant(value) for name, value in variables.items() if f"{name}/read" in names
            }
            v1.import_graph_def(part, input_map=constants, name="")
        one = v1.ConfigProto(intra_op_parallelism_threads=1, inter_op_parallelism_threads=1)
        self._session: Any = v1.Session(graph=graph, config=one)

    def __call__(self, batch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(n, 187, 96) → penultimate (n, 200), tags (n, 50)."""
        penultimate, tags = self._session.run(OUTPUTS, {"model/Placeholder:0": batch, "model/Placeholder_2:0": False})
        return penultimate, tags


def both(wheel: str | Path, batch: np.ndarray) -> dict[str, np.ndarray]:
    """(n, 187, 96) → penultimate (n, 400) and tags (n, 100) of both networks, side by side."""
    found = [Graph(wheel, network)(batch) for network in FOLDERS]
    return {
        name: np.concatenate([parts[i] for parts in found], axis=1) for i, name in enumerate(("penultimate", "tags"))
    }


if __name__ == "__main__":
    values = both(sys.argv[1], patches(log_mel(signal())))
    rounded = {name: [[round(float(x), 6) for x in row] for row in rows] for name, rows in values.items()}
    EXPECTED.write_text(json.dumps(rounded, indent=None).replace("], [", "],\n[") + "\n", encoding="utf-8")
