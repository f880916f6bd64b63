"""How well `mer-ray duplicates` finds versions of real music, and what else it takes for one.

    python benchmarks/duplicates.py FOLDER_OF_CLIPS [--clips 100] [--model light]
    python benchmarks/duplicates.py --made 100000 [--seconds 30]

ffmpeg makes nine versions of some clips. All clips and versions are scored; then every pair that is near in ``sound``
is compared. Clips are in one of two halves, by their names: limits are chosen on the first, figures are of the second.

--made: CPU time and memory for so many rows, made up: random sounds, values, outlines, and lengths (or --seconds), and
one version of each hundredth, up to 12 dB quieter.
"""

from __future__ import annotations

import argparse
import random
import resource
import subprocess
import tempfile
import time
from pathlib import Path

import numpy as np
import pyarrow as pa

import mer_ray
from mer_ray.io.schemas import DIMENSIONS, ragged_column
from mer_ray.scoring.same_recording import same_recordings

VERSIONS = {
    "MP3 64k.mp3": ["-b:a", "64k"],
    "MP3 128k.mp3": ["-b:a", "128k"],
    "Opus 64k.opus": ["-c:a", "libopus", "-b:a", "64k"],
    "3 s off the beginning.mp3": ["-ss", "3", "-b:a", "192k"],
    "4 s off the end.ogg": ["-t", "26", "-c:a", "libvorbis", "-q:a", "5"],
    "6 dB quieter.flac": ["-af", "volume=-6dB"],
    "6 dB quieter, MP3 128k.mp3": ["-af", "volume=-6dB", "-b:a", "128k"],
    "12 dB quieter.flac": ["-af", "volume=-12dB"],
    "another master.mp3": [
        "-af",
        "acompressor=threshold=-20dB:ratio=3:makeup=4dB,treble=g=4,bass=g=2,alimiter=limit=0.9",
        "-b:a",
        "192k",
    ],
}


def made(n: int, seconds: float | None) -> pa.Table:
    """The columns of ``scores`` that are compared, of n rows; the last hundredth are versions of others."""
    rng, n_versions = np.random.default_rng(0), n // 100
    of = np.concatenate([np.arange(n - n_versions), rng.choice(n - n_versions, n_versions, replace=False)])
    gain = np.where(np.arange(n) < n - n_versions, 0.0, rng.uniform(0, 12, n))
    away = rng.standard_normal((n, 16))
    away *= 0.225 * gain[:, None] / np.linalg.norm(away, axis=1, keepdims=True)
    sound = rng.standard_normal((n, 16))[of] + away + rng.normal(0, 0.1, (n, 16)) * (gain > 0)[:, None]
    values = np.clip(rng.normal(0.5, [0.18, 0.14, 0.13], (n, 3)), 0, 1)[of]
    duration = np.exp(rng.normal(np.log(180), 0.5, n))[of] if seconds is None else np.full(n, seconds)
    outlines = rng.integers(20, 255, (n, 300), np.uint8)[of].reshape(-1)
    curves = ragged_column([np.tile(v, (20, 1)) for v in values], 3)
    columns = {"loudness": rng.normal(-14, 4, n)[of] - gain, "duration_s": duration, "curve_hop_s": duration / 20}
    columns |= {f"{end}{d}": values[:, k] for k, d in enumerate(DIMENSIONS) for end in ("", "lower_", "upper_")}
    lists = {
        "sound": pa.FixedSizeListArray.from_arrays(pa.array(sound.astype(np.float32).reshape(-1)), 16),
        "waveform": pa.FixedSizeListArray.from_arrays(pa.array(outlines), 300),
    }
    lists = {name: column.cast(pa.list_(column.type.value_type)) for name, column in lists.items()}
    return pa.table({**columns, **lists, "curve": curves, "model": ["made"] * n})


def measure(n: int, seconds: float | None) -> None:
    """Print what it takes to compare n made-up rows."""
    table = made(n, seconds)
    before, start = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.process_time()
    found = same_recordings(table)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(f"{n:,} rows: {len(found):,} pairs, {time.process_time() - start:.1f} CPU-s", end="")
    print(f", {after // 1024:,} MB at most, {before // 1024:,} of them before")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--made", type=int)
    parser.add_argument("--seconds", type=float)
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--model", default="light")
    options = parser.parse_args()
    if options.made:
        measure(options.made, options.seconds)
        return
    clips = sorted(options.folder.glob("*.mp3"))
    random.Random(1).shuffle(clips)
    with tempfile.TemporaryDirectory() as made:
        for clip in clips[: options.clips]:
            for version, how in VERSIONS.items():
                target = Path(made) / f"{clip.stem}.{version}"
                command = ["ffmpeg", "-v", "error", "-nostdin", "-i", str(clip), *how, "-vn", str(target)]
                subprocess.run(command, check=True)
        table = mer_ray.score([*clips, *sorted(Path(made).iterdir())], options.model)
    clip_of, _, version_of = zip(*(Path(u).name.partition(".") for u in table["uri"].to_pylist()), strict=True)
    half = np.array([sum(name.encode()) % 2 for name in clip_of])
    found = {(pair.a, pair.b) for pair in same_recordings(table)}
    for version in VERSIONS:
        hits = sum({version_of[a], version_of[b]} == {"mp3", version} and clip_of[a] == clip_of[b] for a, b in found)
        print(f"{version.rpartition('.')[0]:24} {hits} of {options.clips}")
    for h in (0, 1):
        sizes = [sum(1 for c, o in zip(clip_of, half, strict=True) if c == name and o == h) for name in set(clip_of)]
        pairs = sum(n * (n - 1) // 2 for n in sizes)
        right = sum(clip_of[a] == clip_of[b] and half[a] == h for a, b in found)
        wrong = sum(clip_of[a] != clip_of[b] and half[a] == h for a, b in found)
        print(f"half {h}: {right} of {pairs} pairs found, {wrong} wrong")


if __name__ == "__main__":
    main()
