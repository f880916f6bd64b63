"""How well `mer-ray duplicates` finds versions of real music, and what else it takes for one.

    python benchmarks/duplicates.py FOLDER_OF_CLIPS [--clips 100] [--model light]

ffmpeg makes nine versions of some clips. All clips and versions are scored; then every pair that is near in ``sound``
is compared. Clips are in one of two halves, by their names: limits are chosen on the first, figures are of the second.
"""

from __future__ import annotations

import argparse
import random
import subprocess
import tempfile
from pathlib import Path

import numpy as np

import mer_ray
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--model", default="light")
    options = parser.parse_args()
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
