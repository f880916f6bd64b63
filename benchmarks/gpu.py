"""What a GPU brings: VGGish by precision, whether decoders feed it, trainings side by side, models that move to a CPU.

    python benchmarks/gpu.py [--audio FOLDER] [--json FILE]     # some five minutes on one GPU
    python benchmarks/gpu.py --cpu [--parts vggish kernel]      # tiny sizes without a GPU, to try the script

Needs JAX, Flax, Optax, NumPy, SciPy, numba, pyarrow, pydantic, soundfile and this repository's files; no Ray, no
network. Each part has processes of its own: one that fails, for want of a package or of memory, is left out, and the
line says why. Weights are random and sounds synthetic; with --audio the decoders read files.

VGGish: windows of 0.96 s a second, best of several runs, from samples to embeddings: "inside" with the samples on the
device already, "from the host" with the way there and back. "compile s": the first call less one of the others. Errors
are those to the embeddings that a CPU computes (`vggish_cpu`), in SDs of these. "of the roof": of a large bfloat16
matrix product in the same run, by the multiplications of the network's definition (1.728 GFLOP a window).

Decoders: processes that each do what a worker of `extract` does beside the network: files through `audio.isolated` into
windows of samples, which is all that a GPU needs, and into log-mel patches, which is what the CPU's network needs.

Trainings: processes on one GPU, XLA_PYTHON_CLIENT_PREALLOCATE=false as in a trial. "bits" are the first digits of the
hash of all weights: equal for equal seeds if a training can be repeated. On a GPU the last row has XLA's deterministic
operations. Memory is the peak of XLA's allocator ("device MB"; without a GPU that of the process).

Kernel: fitted on the machine's VGGish frames, then applied in a process that has the CPU alone, to the same frames and
to those that the CPU computes: the largest difference of a value in 0..1. `kernel` itself is NumPy: it uses no GPU.

With --cpu, VGGish has few channels (the whole one compiles for many seconds) and is compared with itself.
"""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import common
import numpy as np

FLOP = 1.728e9  # a window
PRECISIONS = ("float32", "tf32", "bfloat16")
WINDOW, HOP_S, RATE_HZ = 15_600, 0.96, 16_000
PIECES = 8  # windows of a track of `kernel`
CHANNELS = 64
CPU_ALONE = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": ""}
IN_A_TRIAL = {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
DETERMINISTIC = {**IN_A_TRIAL, "XLA_FLAGS": "--xla_gpu_deterministic_ops=true"}


@dataclass(frozen=True)
class Sizes:
    """Of the parts.

    at_least: s a figure is measured for. roof: rows of the large matrices. tracks: of `kernel`. channels: of VGGish's
    first layer; with fewer than its own, all layers have fewer.
    """

    batches: tuple[int, ...] = (64, 256, 1024, 4096)
    compared: int = 256
    at_least: float = 1.0
    roof: int = 8_192
    decoders: int = 8
    audio_s: float = 600.0
    trainings: int = 4
    shape: tuple[int, int, int] = (2_000, 1_300, 40)
    epochs: int = 6
    tracks: int = 60
    channels: int = CHANNELS
    model: str = "cnn"


TINY = Sizes((8,), 8, 0.02, 128, 1, 5.0, 2, (24, 32, 8), 2, 12, CHANNELS // 8, "lstm")


def sounds(n: int, windows: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """n tracks of a tone and noise: (n * windows, 15600) float32, and their pitch, level and noise in 0..1, (n, 3)."""
    rng = np.random.default_rng(0)
    labels = rng.uniform(0.1, 0.9, (n, 3))
    pitch, level, noise = np.repeat(labels, windows, axis=0).T[..., None]
    tone = np.sin(2 * np.pi * 100 * 32**pitch * np.arange(WINDOW) / RATE_HZ)
    samples = 0.3 * 0.01 ** (1 - level) * (tone + noise * rng.standard_normal((n * windows, WINDOW), np.float32))
    return samples.astype(np.float32), labels


def seconds(run: Callable[[], Any], at_least: float) -> float:
    """Of one call: the best of three series that last so long together."""
    import jax

    jax.block_until_ready(run())
    best, count = np.inf, 1
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(count):
            result = run()
        jax.block_until_ready(result)
        best = min(best, (time.perf_counter() - began) / count)
        count = max(1, int(at_least / 3 / best))
    return float(best)


def timed(run: Callable[[], Any]) -> tuple[Any, float]:
    """What a call returns, once it is computed, and its seconds."""
    import jax

    began = time.perf_counter()
    return jax.block_until_ready(run()), time.perf_counter() - began


def network(sizes: Sizes) -> tuple[Any, dict[str, np.ndarray], Callable[[np.ndarray], np.ndarray]]:
    """VGGish's module, its weights, and samples → embeddings as a CPU computes them."""
    from mer_ray.features import vggish_cpu, vggish_frontend, vggish_network

    if sizes.channels < CHANNELS:
        convolutions = vggish_network.CONVOLUTIONS
        share = convolutions["conv1"][0] // sizes.channels  # 1 the second time
        convolutions.update({name: (n // share, pooled) for name, (n, pooled) in convolutions.items()})
        vggish_network.DENSE.update({"fc1/fc1_1": 64, "fc1/fc1_2": 64})
        arrays = vggish_network.random_weights(0)
        return vggish_network, arrays, vggish_network.Network(arrays, 8)
    arrays = vggish_network.random_weights(0)
    on_cpu = vggish_cpu.Network(arrays)
    return vggish_network, arrays, lambda windows: on_cpu(vggish_frontend.patches(windows))


# the parts, each in a process of its own ------------------------------------------------------------------------------


def vggish(sizes: Sizes, _: Any) -> dict[str, Any]:
    """Devices, and a row for each precision and batch."""
    import jax
    import jax.numpy as jnp

    module, arrays, on_cpu = network(sizes)
    weights = jax.device_put(arrays)
    samples, _labels = sounds(max(*sizes.batches, sizes.compared))
    exact = on_cpu(samples[: sizes.compared])
    square = jax.random.normal(jax.random.key(0), (sizes.roof, sizes.roof), jnp.bfloat16)
    product = jax.jit(lambda a: jnp.dot(a, a, preferred_element_type=jnp.float32).astype(jnp.bfloat16))
    roof = 2 * sizes.roof**3 / seconds(lambda: product(square), sizes.at_least)
    rows = []
    for precision in PRECISIONS:
        # What has no precision of its own follows this setting.
        jax.config.update("jax_default_matmul_precision", "tensorfloat32" if precision == "tf32" else None)
        run = partial(jax.jit(lambda w, x, p=precision: module.embed(w, module.log_mel(x), p)), weights)
        error = None
        for batch in sizes.batches:
            try:
                found, *times = _times(run, samples[:batch], sizes.at_least)
            except jax.errors.JaxRuntimeError as reason:  # no memory for a batch of this size
                print(f"{precision}, batch {batch}: {str(reason)[:100]}", file=sys.stderr)
                continue
            inside, whole, first_s = times
            error = error or _errors(found, exact)
            speed = [batch / inside, batch / whole, HOP_S * batch / whole, batch / inside * FLOP / roof]
            rows.append([precision, batch, *speed, first_s - inside, *error])
    devices = [f"{d.platform}: {d.device_kind}" for d in jax.devices()]
    return {"devices": devices, "jax": jax.__version__, "bfloat16_tflops": roof / 1e12, "rows": rows}


def _times(run: Callable[[Any], Any], host: np.ndarray, at_least: float) -> tuple[np.ndarray, float, float, float]:
    """What a batch gives, and seconds: on the device, with the way there and back, and of the first call."""
    import jax

    device = jax.device_put(host)
    found, first_s = timed(lambda: run(device))
    whole = seconds(lambda: np.asarray(run(jax.device_put(host))), at_least)
    return np.asarray(found), seconds(lambda: run(device), at_least), whole, first_s


def _errors(found: np.ndarray, exact: np.ndarray) -> list[float]:
    """Largest and mean difference in SDs, and the smallest cosine, of the windows that both have."""
    n = min(len(found), len(exact))
    found, exact = found[:n].astype(np.float64), exact[:n].astype(np.float64)
    difference = np.abs(found - exact) / exact.std()
    cosines = (found * exact).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(exact, axis=1)
    return [float(difference.max()), float(difference.mean()), float(cosines.min())]


def feed(sizes: Sizes, task: dict[str, Any]) -> dict[str, float]:
    """One decoder: windows a second, of samples or (task: patches) of log-mel; it begins when the others are ready."""
    from mer_ray.audio.isolated import Decoder
    from mer_ray.features import batch, vggish_frontend
    from mer_ray.features import vggish as feature

    done = 0

    def network(windows: np.ndarray) -> np.ndarray:
        """In place of the network."""
        nonlocal done
        done += len(vggish_frontend.patches(windows) if task["patches"] else windows)
        return np.zeros((len(windows), 128), np.float32)

    spec = feature.resolve(feature.Params(weights="random"), demo=True)
    extractors = {"vggish": feature.Vggish(spec, network, 64)}
    with Decoder() as decoder:
        files = [(path, path, ["vggish"]) for path in task["files"]]
        batch.extract(files[:1], extractors, 0.0, decoder.stream)
        Path(task["ready"]).touch()
        while len(list(Path(task["ready"]).parent.glob("*.ready"))) < task["of"]:
            time.sleep(0.01)
        done, began, errors = 0, time.perf_counter(), 0
        for file in files:
            errors += len(batch.extract([file], extractors, 0.0, decoder.stream).errors)
        wall_s = time.perf_counter() - began
    return {"rate": done / wall_s, "errors": errors}


def train(sizes: Sizes, seed: int) -> dict[str, Any]:
    """One training of a network on planted frames."""
    import jax

    from mer_ray.training.network import Network
    from mer_ray.training.recipe import Recipe

    n, frames, dims = sizes.shape
    rng = np.random.default_rng(0)
    labels = rng.uniform(0.2, 0.8, (n, 3)).astype(np.float32)
    tracks = rng.standard_normal((n, frames, dims), dtype=np.float32)
    tracks[:, :, :3] += 3 * (labels[:, None] - 0.5)
    ends = [time.perf_counter()]
    recipe = Recipe(sizes.model, 512 / 22_050, frames, epochs=sizes.epochs, patience=sizes.epochs)
    network = Network(recipe, lambda *_: ends.append(time.perf_counter()))
    network.fit(list(tracks), labels, [""] * n, seed=seed, validation=np.arange(n) >= n - n // 8)
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(a).tobytes() for _, a in sorted(network.arrays.items())))
    laps = np.diff(ends)
    peak = (jax.local_devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    return {
        "epoch_s": float(np.median(laps[1:])),
        "compile_s": float(laps[0] - np.median(laps[1:])),
        "mb": (peak or _peak_bytes()) / 1e6,
        "bits": digest.hexdigest()[:8],
    }


def _peak_bytes() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def fit_kernel(sizes: Sizes, folder: str) -> None:
    """`kernel` on this machine's frames of each precision, into the folder."""
    from mer_ray.models.kernel import Kernel

    for precision in PRECISIONS:
        tracks, labels = _frames(sizes, precision)
        model = Kernel(HOP_S, PIECES).fit(tracks, labels, [str(i) for i in range(sizes.tracks)])
        np.savez(f"{folder}/{precision}.npz", predicted=_values(model, tracks), frames=np.array(tracks), **model.arrays)


def apply_kernel(sizes: Sizes, folder: str) -> list[list[Any]]:
    """Rows: what it was fitted on, and the largest difference on the same frames and on the CPU's."""
    from mer_ray.models.kernel import Kernel

    rows, (own, _) = [], _frames(sizes, None)
    for precision in PRECISIONS:
        arrays = dict(np.load(f"{folder}/{precision}.npz"))
        there, frames = arrays.pop("predicted"), arrays.pop("frames")
        model = Kernel(HOP_S, PIECES)
        model.arrays = arrays
        rows.append([precision, *(float(np.abs(_values(model, list(f)) - there).max()) for f in (frames, own))])
    return rows


def _values(model: Any, tracks: list[np.ndarray]) -> np.ndarray:
    return np.array([prediction.value for prediction in model.predict(tracks)])


def _frames(sizes: Sizes, precision: str | None) -> tuple[list[np.ndarray], np.ndarray]:
    """Frames of tracks, by JAX's network in a precision or by the CPU's (None), and the tracks' labels."""
    (module, arrays, on_cpu), (samples, labels) = network(sizes), sounds(sizes.tracks, PIECES)
    found = on_cpu(samples) if precision is None else module.Network(arrays, len(samples), precision)(samples)
    return list(found.reshape(sizes.tracks, PIECES, -1)), labels


PARTS = {f.__name__: f for f in (vggish, feed, train, fit_kernel, apply_kernel)}


# what is printed ------------------------------------------------------------------------------------------------------


class Left(Exception):
    """Why a part is left out."""


def part(run: Callable[..., Any], sizes: Sizes, task: Any = None, environment: dict[str, str] | None = None) -> Any:
    """What a part returns, in a process of its own. Raises Left."""
    command = [sys.executable, __file__, "--part", run.__name__, json.dumps([asdict(sizes), task])]
    done = subprocess.run(command, env={**os.environ, **(environment or {})}, capture_output=True, text=True)
    sys.stderr.write(done.stderr if done.returncode == 0 else "")
    if done.returncode:
        raise Left((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    return json.loads(done.stdout.splitlines()[-1])


def together(run: Callable[..., Any], sizes: Sizes, tasks: Sequence[Any], environment: dict[str, str]) -> list[Any]:
    """The same of several at the same time."""
    with ThreadPoolExecutor(len(tasks)) as pool:
        return list(pool.map(lambda task: part(run, sizes, task, environment), tasks))


def show_vggish(sizes: Sizes, _: Path | None) -> Any:
    """Prints the devices and VGGish's table."""
    found = part(vggish, sizes)
    print(f"Devices: {', '.join(found['devices'])}; JAX {found['jax']}")
    columns = ["precision", "batch", "inside /s", "from the host /s", "x real time", "of the roof", "compile s"]
    title = f"VGGish, windows a second (bfloat16 matrix product {found['bfloat16_tflops']:.3g} TFLOP/s)"
    common.show(title, [*columns, "max error", "mean error", "min cosine"], [_digits(row) for row in found["rows"]])
    return found


def _digits(row: list[Any]) -> list[Any]:
    """With the cosine's distance from 1 to be seen."""
    return [*row[:-1], f"{row[-1]:.7f}"]


def show_feed(sizes: Sizes, audio: Path | None) -> Any:
    """Prints what decoders feed."""
    rows = []
    with tempfile.TemporaryDirectory(prefix="mer-ray-") as folder:
        files = sorted(str(p) for p in audio.rglob("*") if p.is_file()) if audio else _synthetic(Path(folder), sizes)
        for patches in (False, True):
            at = Path(folder, str(patches))
            at.mkdir()
            share = [files[i :: sizes.decoders] or files for i in range(sizes.decoders)]
            tasks = [
                {"files": own, "patches": patches, "ready": str(at / f"{i}.ready"), "of": sizes.decoders}
                for i, own in enumerate(share)
            ]
            found = together(feed, sizes, tasks, CPU_ALONE)
            total = sum(one["rate"] for one in found)
            rows.append(["log-mel patches" if patches else "samples", sizes.decoders, total, total / sizes.decoders])
            if unread := sum(one["errors"] for one in found):
                print(f"{unread} files could not be read", file=sys.stderr)
    what = f"files of {audio}" if audio else "synthetic Vorbis"
    common.show(f"Decoders, windows a second ({what})", ["of", "decoders", "together /s", "each /s"], rows)
    return rows


def _synthetic(folder: Path, sizes: Sizes) -> list[str]:
    """A stereo Ogg Vorbis file of 44.1 kHz for each decoder."""
    import soundfile

    rng = np.random.default_rng(0)
    second = np.stack([np.sin(2 * np.pi * f * np.arange(44_100) / 44_100) for f in (220, 331)], 1)
    paths = [str(folder / f"{i}.ogg") for i in range(sizes.decoders)]
    for path in paths:
        with soundfile.SoundFile(path, "w", 44_100, 2) as file:
            for _ in range(round(sizes.audio_s)):
                file.write(0.2 * second + 0.05 * rng.standard_normal(second.shape))
    return paths


def show_trainings(sizes: Sizes, _: Path | None) -> Any:
    """Prints the trainings' table."""
    rows = []
    n = sizes.trainings
    series = [("alone", [0], IN_A_TRIAL), (f"{n} together", [0, *range(n - 1)], IN_A_TRIAL)]
    if sizes != TINY:  # the setting is for GPUs
        series.append(("alone, deterministic", [0], DETERMINISTIC))
    for name, seeds, environment in series:
        found = together(train, sizes, seeds, environment)
        for seed, one in zip(seeds, found, strict=True):
            rows.append([name, seed, one["epoch_s"], one["compile_s"], one["mb"], one["bits"]])
    alike = len({row[-1] for row in rows if row[1] == 0 and row[0] != "alone, deterministic"}) == 1
    title = f"Trainings of {sizes.model}, {sizes.shape[0]:,} x {sizes.shape[1]:,} x {sizes.shape[2]}"
    common.show(title, ["run", "seed", "epoch s", "compile s", "device MB", "bits"], rows)
    print(f"\nSeed 0 gives {'the same bits each time' if alike else 'OTHER BITS each time'}.")
    return {"rows": rows, "same_bits": alike}


def show_kernel(sizes: Sizes, _: Path | None) -> Any:
    """Prints how far a value moves with a model from machine to machine."""
    with tempfile.TemporaryDirectory(prefix="mer-ray-") as folder:
        part(fit_kernel, sizes, folder)
        rows = part(apply_kernel, sizes, folder, CPU_ALONE)
    columns = ["fitted on VGGish in", "same frames", "the CPU's frames"]
    common.show("A kernel model applied on a CPU, largest difference of a value in 0..1", columns, rows)
    return rows


SHOWN = {"vggish": show_vggish, "decoders": show_feed, "trainings": show_trainings, "kernel": show_kernel}


def show_waiting(found: dict[str, Any]) -> None:
    """Prints whether the GPU waits for the decoders."""
    if not ("vggish" in found and "decoders" in found):
        return
    _, decoders, fed, each = found["decoders"][0]
    rows = []
    for precision in PRECISIONS:
        best = max((row[3] for row in found["vggish"]["rows"] if row[0] == precision), default=float("nan"))
        rows.append([precision, best, fed, f"{max(0.0, 1 - fed / best):.0%}", best / each])
    columns = ["precision", "network /s", f"{decoders} decoders /s", "network waits", "decoders to feed it"]
    common.show("Does the network wait?", columns, rows)


def main() -> None:
    """Each part, and what is left out."""
    parser = common.arguments(__doc__ or "", music=False)
    parser.add_argument("--audio", type=Path, metavar="FOLDER", help="files that the decoders read")
    parser.add_argument("--cpu", action="store_true", help="tiny sizes without a GPU")
    parser.add_argument("--parts", nargs="+", choices=SHOWN, default=[*SHOWN])
    parser.add_argument("--part", nargs=2, metavar=("NAME", "TASK"), help="in this process, for the benchmark itself")
    options = parser.parse_args()
    if options.part:
        sizes, task = json.loads(options.part[1])
        print(json.dumps(PARTS[options.part[0]](Sizes(**sizes), task)))
        return
    sizes = TINY if options.cpu else Sizes()
    if options.cpu:
        os.environ.update(CPU_ALONE)
    found = {}
    for name in options.parts:
        try:
            found[name] = SHOWN[name](sizes, options.audio)
        except (Left, ImportError) as reason:
            print(f"\n{name} is left out: {reason}")
    show_waiting(found)
    common.save(options.json, found)


if __name__ == "__main__":
    main()
