"""VGGish, waveform to embeddings, on one CPU core: TensorFlow from the hub, plain JAX, and mer-ray, side by side.

    python benchmarks/vggish.py --music FOLDER [--minutes 60] [--json FILE]

Without --music: seeded noise and chords, 10 minutes of them. Needs tensorflow and tensorflow-hub. All three have the
same random weights, scaled to an embedding SD of 5, about that of the real ones:

- TensorFlow: ``hub.load`` of a SavedModel with the signature of ``google/vggish/1``, front end included, made here;
- JAX: `vggish_network.Network`, that is ``lax.conv`` under ``jit``;
- mer-ray: what `mer_ray.features.load` gives on a machine without a GPU.

Each runs in a process of its own, on one core, and takes 64 patches (61 s of audio) in turn with the others. Times are
CPU seconds; "x real time" is over all blocks, the ratio the median over blocks. Expect mer-ray at 1.2 times
TensorFlow's speed or more, and largest differences of some 1e-5. An hour of music takes about five minutes.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import numpy as np

PATCHES = 64
HOP, OVERLAP, RATE = 15_360, 240, 16_000
BLOCK = PATCHES * HOP
NAMES = {"tensorflow": "TensorFlow (hub)", "jax": "JAX (lax.conv)", "mer_ray": "mer-ray"}
Run = Callable[[np.ndarray], np.ndarray]


def music(folder: Path, minutes: float) -> np.ndarray:
    """(n,) float32 at 16 kHz: soundtracks one after the other, mixed down."""
    import soundfile
    import soxr

    parts, wanted = [], int(60 * minutes * RATE)
    for path, _ in common.soundtracks(folder):
        samples, rate = soundfile.read(str(path), dtype="float32", always_2d=True)
        parts.append(soxr.resample(samples @ np.full(samples.shape[1], 1 / samples.shape[1], np.float32), rate, RATE))
        wanted -= parts[-1].size
        if wanted <= 0:
            break
    return np.concatenate(parts)[: int(60 * minutes * RATE)]


def synthetic(minutes: float) -> np.ndarray:
    """(n,) float32 at 16 kHz: a chord and noise of changing loudness."""
    t = np.arange(int(60 * minutes * RATE), dtype=np.float32) / RATE
    chord = sum(np.sin(2 * np.pi * hertz * t) for hertz in (220, 277.2, 329.6, 1760))
    noise = np.random.default_rng(0).standard_normal(t.size).astype(np.float32)
    return np.asarray(0.1 * chord * np.sin(0.7 * t) + 0.1 * noise * np.sin(0.3 * t) ** 2, np.float32)


def random_weights(samples: np.ndarray) -> dict[str, np.ndarray]:
    """Seeded, with biases, and an embedding SD of 5 on these samples."""
    from mer_ray.features import vggish_frontend
    from mer_ray.features.vggish_cpu import Network
    from mer_ray.features.vggish_network import random_weights

    weights = random_weights(0)
    for i, (name, array) in enumerate(weights.items()):
        if array.ndim == 1:
            weights[name] = np.random.default_rng(i).uniform(-0.2, 0.2, array.shape).astype(np.float32)
    factor = np.float32(5 / Network(weights)(vggish_frontend.patches(windows(samples))).std())
    for name in ("vggish/fc2/weights", "vggish/fc2/biases"):
        weights[name] = weights[name] * factor
    return weights


def windows(samples: np.ndarray) -> np.ndarray:
    """(n,) → (patches, 15600), a view."""
    return np.lib.stride_tricks.sliding_window_view(samples, HOP + OVERLAP)[::HOP]


def tensorflow(path: Path) -> tuple[Run, dict[str, Any]]:
    """The SavedModel, loaded as its users do."""
    import tensorflow as tf
    import tensorflow_hub as hub

    from mer_ray.features.vggish_import import as_stored, in_tensorflow
    from mer_ray.features.vggish_weights import read

    folder = path.parent / "module"

    class Module(tf.Module):
        def __init__(self) -> None:
            super().__init__()
            self.arrays = {name.replace("/", "."): tf.Variable(as_stored(array)) for name, array in read(path).items()}

        @tf.function(input_signature=[tf.TensorSpec([None], tf.float32)], autograph=False)
        def __call__(self, waveform: Any) -> Any:
            return in_tensorflow({name.replace(".", "/"): array for name, array in self.arrays.items()}, waveform)

    tf.saved_model.save(Module(), str(folder))
    model = hub.load(str(folder))
    return lambda samples: model(tf.constant(samples)).numpy(), {}


def jax(path: Path) -> tuple[Run, dict[str, Any]]:
    """The definition."""
    from mer_ray.features.vggish_network import Network
    from mer_ray.features.vggish_weights import read

    network = Network(read(path), PATCHES)
    return lambda samples: network(np.ascontiguousarray(windows(samples))), {}


def mer_ray(path: Path) -> tuple[Run, dict[str, Any]]:
    """The extractor, and its parts."""
    from mer_ray import features
    from mer_ray.features import vggish_frontend
    from mer_ray.features.vggish import Params
    from mer_ray.features.vggish_cpu import Network
    from mer_ray.features.vggish_weights import read

    extractor = features.load(features.resolve("vggish", Params(weights=str(path), batch_patches=PATCHES)))
    network = Network(read(path))
    patches = np.zeros((PATCHES, 96, 64), np.float32)
    activations = network.convolve(patches)
    parts = {
        "front end": lambda samples: vggish_frontend.patches(windows(samples)),
        "convolutions": lambda samples: network.convolve(patches),
        "dense layers": lambda samples: network.embed(activations),
    }
    return lambda samples: extractor([samples])[0], parts


def serve(name: str, path: Path) -> None:
    """A worker: reads numbers of blocks, prints CPU seconds; -1 asks for the parts' times, and ends it."""
    audio = np.load(path.parent / "audio.npy", mmap_mode="r")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    started = time.perf_counter()
    run, parts = {"tensorflow": tensorflow, "jax": jax, "mer_ray": mer_ray}[name](path)

    def timed(what: Run, block: int) -> tuple[float, np.ndarray]:
        samples = np.array(audio[block * BLOCK : (block + 1) * BLOCK + OVERLAP])
        began = time.process_time()
        result = what(samples)
        return time.process_time() - began, result

    timed(run, 0)
    print("ready", time.perf_counter() - started, flush=True)
    embeddings = []
    for line in sys.stdin:
        if (block := int(line)) < 0:
            break
        seconds, result = timed(run, block)
        embeddings.append(result)
        print(seconds, flush=True)
    np.save(path.parent / f"{name}.npy", np.concatenate(embeddings))
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    for part, what in parts.items():
        print(part, min(timed(what, 0)[0] for _ in range(5)), sep="\t")


def measure(audio: np.ndarray, folder: Path) -> dict[str, Any]:
    """All figures."""
    from safetensors.numpy import save_file

    n = (audio.size - OVERLAP) // BLOCK
    np.save(folder / "audio.npy", audio[: n * BLOCK + OVERLAP])
    path = folder / "weights.safetensors"
    save_file(random_weights(audio[: BLOCK + OVERLAP]), path)
    workers = {}
    for name in NAMES:
        command = [sys.executable, __file__, "--serve", name, str(path)]
        workers[name] = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(name: str, block: int) -> str:
        workers[name].stdin.write(f"{block}\n")
        workers[name].stdin.flush()
        return workers[name].stdout.readline()

    starts = {name: float(worker.stdout.readline().split()[1]) for name, worker in workers.items()}
    times: dict[str, list[float]] = {name: [] for name in NAMES}
    for block in range(n):
        order = list(NAMES)[block % 3 :] + list(NAMES)[: block % 3]
        for name in order:
            times[name].append(float(ask(name, block)))
    memory = {name: float(ask(name, -1)) for name in NAMES}
    lines = [line.split("\t") for line in workers["mer_ray"].stdout]
    for worker in workers.values():
        worker.communicate()
    embeddings = {name: np.load(folder / f"{name}.npy") for name in NAMES}
    return {
        "minutes": n * BLOCK / RATE / 60,
        "x_real_time": {name: n * BLOCK / RATE / sum(seconds) for name, seconds in times.items()},
        "mer_ray_to": {
            name: statistics.median(theirs / ours for theirs, ours in zip(times[name], times["mer_ray"], strict=True))
            for name in NAMES
        },
        "largest_difference_to_tensorflow": {
            name: float(np.abs(e - embeddings["tensorflow"]).max()) for name, e in embeddings.items()
        },
        "embedding_sd": float(embeddings["tensorflow"].std()),
        "peak_mib": memory,
        "start_s": starts,
        "parts_ms_per_patch": {part: 1_000 * float(seconds) / PATCHES for part, seconds in lines},
    }


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--serve", nargs=2, help="for the script itself")
    options = parser.parse_args()
    common.one_thread()
    if options.serve:
        serve(options.serve[0], Path(options.serve[1]))
        return
    audio = music(options.music, options.minutes or 60) if options.music else synthetic(options.minutes or 10)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TFHUB_CACHE_DIR"] = folder
        figures = measure(audio, Path(folder))
    rows = [
        (
            title,
            figures["x_real_time"][name],
            figures["mer_ray_to"][name],
            figures["largest_difference_to_tensorflow"][name],
            figures["peak_mib"][name],
            figures["start_s"][name],
        )
        for name, title in NAMES.items()
    ]
    columns = ("VGGish", "x real time", "mer-ray is faster by", "largest difference", "peak MiB", "start, s")
    common.show(
        f"{figures['minutes']:.0f} minutes, one core, embedding SD {figures['embedding_sd']:.2f}", columns, rows
    )
    common.show("mer-ray's parts", ("part", "ms a patch"), list(figures["parts_ms_per_patch"].items()))
    common.save(options.json, figures)


if __name__ == "__main__":
    main()
