"""musicnn, audio to penultimate layer, both networks, on one CPU core: its own graph in TensorFlow, and mer-ray.

    python benchmarks/musicnn.py --wheel FILE [--music FOLDER] [--minutes 60] [--json FILE]

Without --music: made chords and noise, 5 minutes of them. Needs tensorflow and the wheel of musicnn 0.1.0, as
``pip download --no-deps musicnn==0.1.0`` fetches it.

- TensorFlow: librosa's mel spectrum, then the graph and weights of the wheel, in the batches of one patch that the
  release uses, and in batches of 16;
- mer-ray: every patch, and one in two; with the packaged weights, and with those of the wheel in float32.

They take minutes of audio in turn, in one process on one thread. Times are CPU seconds an hour of audio. Differences
are the largest from TensorFlow, of penultimate layer and tags, over all complete patches; the penultimate layer's SD
is about 1. Expect mer-ray at about 40 CPU-s an hour, two and a half times faster or more, within 1e-4. An hour of music
takes seven minutes.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import common
import numpy as np

RATE = 16_000
MINUTE = 20 * 47_872  # samples: 20 patches, 59.84 s
PATCH = 187


def audio(folder: Path | None, minutes: float) -> np.ndarray:
    """(n,) float32 at 16 kHz: soundtracks one after the other, mixed down; or chords and noise."""
    wanted = int(60 * minutes * RATE)
    if folder is None:
        t = np.arange(wanted, dtype=np.float32) / RATE
        chord = sum(np.sin(2 * np.pi * hertz * t) for hertz in (220, 277.2, 329.6, 1760))
        noise = np.random.default_rng(0).standard_normal(wanted).astype(np.float32)
        return np.asarray(0.1 * chord * np.sin(0.7 * t) + 0.1 * noise * np.sin(0.3 * t) ** 2, np.float32)
    from mer_ray.audio.decode import stream

    parts: list[np.ndarray] = []
    for path in sorted(p for p in folder.rglob("*") if p.suffix in (".ogg", ".mp3", ".flac", ".wav")):
        parts.extend(block.samples[RATE] for block in stream(path, [RATE]))
        if sum(map(len, parts)) >= wanted:
            break
    return np.concatenate(parts)[:wanted]


def ways(wheel: Path, folder: Path) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """What is compared: name → (n,) samples → (patches, 400 penultimate, then 100 tags where they come at no cost)."""
    sys.path.insert(0, str(common.ROOT / "tests"))
    import musicnn_graph as release

    from mer_ray import features
    from mer_ray.features import musicnn_import
    from mer_ray.features.musicnn import Params

    full = folder / "full.safetensors"
    musicnn_import.run(str(wheel), str(full), packed=False, timeout_s=60)
    graphs = [release.Graph(wheel, network) for network in release.FOLDERS]

    def tensorflow(samples: np.ndarray, batch: int) -> np.ndarray:
        patches = release.patches(release.log_mel(samples))
        parts = [[graph(patches[i : i + batch]) for graph in graphs] for i in range(0, len(patches), batch)]
        outputs = [np.concatenate([np.hstack([g[k] for g in part]) for part in parts]) for k in (0, 1)]
        return np.hstack(outputs)

    def extractor(**settings: Any) -> Callable[[np.ndarray], np.ndarray]:
        loaded = features.load(features.resolve("musicnn", Params(**settings)))
        return lambda samples: loaded([samples])[0]

    return {
        "TensorFlow, patches one by one": lambda samples: tensorflow(samples, 1),
        "TensorFlow, 16 patches": lambda samples: tensorflow(samples, 16),
        "mer-ray": extractor(),
        "mer-ray, float32 weights": extractor(weights=str(full)),
        "mer-ray, every: 2": extractor(every=2),
        "mer-ray, output: tags": extractor(output="tags"),
        "mer-ray, msd alone": extractor(networks=["msd"]),
    }


def parts(samples: np.ndarray) -> dict[str, float]:
    """ms a patch of mer-ray's parts, the best of several."""
    from mer_ray.features import musicnn_cpu, musicnn_frontend, musicnn_weights

    weights = [*musicnn_weights.load(musicnn_weights.find("auto")).values()]
    patch = musicnn_frontend.log_mel(samples[: musicnn_frontend.PATCH_SAMPLES])
    timbral = musicnn_cpu.Timbral(weights)
    temporal = [musicnn_cpu.Temporal(weights, name) for name in ("temporal128", "temporal64", "temporal32")]
    networks = musicnn_cpu.Networks(weights)

    def best(what: Callable[[], object]) -> float:
        seconds = []
        for _ in range(60):
            began = time.process_time()
            what()
            seconds.append(time.process_time() - began)
        return 1_000 * min(seconds)

    found = {
        "mel spectrum": best(lambda: musicnn_frontend.log_mel(samples[: musicnn_frontend.PATCH_SAMPLES])),
        "timbral filters": best(lambda: timbral(patch)),
        "temporal filters": best(lambda: [layer(patch) for layer in temporal]),
    }
    return {**found, "convolutions and dense layers": best(lambda: networks(patch)) - sum([*found.values()][1:])}


def measure(samples: np.ndarray, wheel: Path) -> dict[str, Any]:
    """All figures."""
    seconds: dict[str, float] = defaultdict(float)
    largest: dict[str, list[float]] = {}
    spread = []
    with tempfile.TemporaryDirectory() as folder:
        compared = ways(wheel, Path(folder))
        minutes = [samples[i : i + MINUTE] for i in range(0, samples.size - MINUTE + 1, MINUTE)]
        for number, minute in enumerate([minutes[0], *minutes]):  # the first one only warms up
            found = {}
            order = [*compared][number % len(compared) :] + [*compared][: number % len(compared)]
            for name in order:
                began = time.process_time()
                found[name] = compared[name](minute)
                seconds[name] += (time.process_time() - began) * (number > 0)
            wanted = found["TensorFlow, patches one by one"]
            spread.append(wanted[:, :400].std())
            for name, values in found.items():
                columns = slice(400, 500) if values.shape[1] == 100 else slice(0, values.shape[1])
                reference = wanted[:: 2 if "every" in name else 1, columns]
                if "alone" in name:
                    reference = wanted[:, :200]
                difference = np.abs(values[: len(reference)] - reference)
                tags = difference if values.shape[1] == 100 else difference[:, 400:]
                rest = difference[:, :0] if values.shape[1] == 100 else difference[:, :400]
                before = largest.get(name, [0.0, 0.0])
                largest[name] = [max(b, float(d.max(initial=0))) for b, d in zip(before, (rest, tags), strict=True)]
    hours = len(minutes) * MINUTE / RATE / 3600
    return {
        "minutes": 60 * hours,
        "cpu_s_an_hour": {name: s / hours for name, s in seconds.items()},
        "largest_difference": largest,
        "penultimate_sd": float(np.mean(spread)),
        "parts_ms_a_patch": parts(samples),
    }


def main() -> None:
    parser = common.arguments(__doc__)
    parser.add_argument("--wheel", type=Path, required=True, metavar="FILE", help="musicnn-0.1.0-py3-none-any.whl")
    parser.add_argument("--minutes", type=float)
    options = parser.parse_args()
    common.one_thread()
    samples = audio(options.music, options.minutes or (60 if options.music else 5))
    figures = measure(samples, options.wheel)
    rows = [
        (name, cost, *("" if d == 0.0 else f"{d:.1e}" for d in figures["largest_difference"][name]))
        for name, cost in figures["cpu_s_an_hour"].items()
    ]
    title = f"{figures['minutes']:.0f} minutes, one thread, penultimate SD {figures['penultimate_sd']:.2f}"
    common.show(title, ("musicnn", "CPU-s an hour", "penultimate", "tags"), rows)
    common.show("mer-ray's parts", ("part", "ms a patch"), [*figures["parts_ms_a_patch"].items()])
    common.save(options.json, figures)


if __name__ == "__main__":
    main()
