"""File → MFCC: CPU seconds of the whole process per hour of audio, beside a plain librosa loop and essentia.

    python benchmarks/mfcc.py --music FOLDER [--minutes 130] [--repeat 2] [--json FILE]

Every contestant gets the same files in a fresh process with one thread; start-up and imports count, user and system
time. They take turns, and the best of each is shown. ``ours`` is what a worker of `extract` does with a batch of files;
``librosa`` is ``load`` and ``feature.mfcc``; ``essentia`` is MonoLoader, Windowing, Spectrum and MFCC frame by frame
with its own 40 bands and 13 coefficients, which is less work (``pip install essentia``; left out where it is missing).
The Vorbis files are encoded as MP3 as well.

Expect, on one core of a 2.5 GHz Xeon: ours 10-14 CPU-s an hour, half of librosa's for Vorbis and 0.6 of it for MP3, a
sixth of essentia's; no coefficient further than 2e-4 from librosa's for the same samples. Two hours of music take 15
minutes a round, most of it essentia's.
"""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import common

RATE = 22_050
BARS = {"ours, CPU-s/h": 15.0, "of librosa": 1 / 2, "of essentia": 1 / 3, "largest difference": 1e-3}


def ours(paths: Sequence[str]) -> int:
    """The extraction's own code."""
    from mer_ray import features
    from mer_ray.features import batch, mfcc

    extractors = {"mfcc": features.load(features.resolve("mfcc", mfcc.Params(sample_rate_hz=RATE)))}
    n_frames = 0
    for first in range(0, len(paths), 8):
        done = batch.extract([(path, path, ["mfcc"]) for path in paths[first : first + 8]], extractors, 0.0)
        if done.errors:
            raise next(iter(done.errors.values()))
        n_frames += sum(len(frames) for frames in done.frames["mfcc"].values())
    return n_frames


def librosa(paths: Sequence[str]) -> int:
    """What its tutorial says."""
    import librosa

    n_frames = 0
    for path in paths:
        samples, rate = librosa.load(path, sr=RATE)
        n_frames += librosa.feature.mfcc(y=samples, sr=rate).shape[1]
    return n_frames


def essentia(paths: Sequence[str]) -> int:
    """What its tutorial says."""
    import essentia

    essentia.log.infoActive = essentia.log.warningActive = False
    from essentia import standard

    window, spectrum = standard.Windowing(type="hann"), standard.Spectrum()
    mfcc = standard.MFCC(inputSize=1_025, sampleRate=RATE, highFrequencyBound=RATE / 2)
    n_frames = 0
    for path in paths:
        samples = standard.MonoLoader(filename=path, sampleRate=RATE)()
        frames = standard.FrameGenerator(samples, frameSize=2_048, hopSize=512)
        n_frames += len([mfcc(spectrum(window(frame)))[1] for frame in frames])
    return n_frames


def difference(paths: Sequence[str]) -> float:
    """The largest one between our frames and librosa's, for the samples that we decode."""
    import librosa
    import numpy as np

    from mer_ray import features
    from mer_ray.audio import decode
    from mer_ray.features import mfcc

    extractor = features.load(features.resolve("mfcc", mfcc.Params(sample_rate_hz=RATE)))
    largest = 0.0
    for path in paths:
        stream, blocks = extractor.start(), []
        for block in decode.stream(path, [RATE]):
            stream.push(block.samples[RATE])
            blocks.append(block.samples[RATE].copy())
        stream.finish()
        theirs = librosa.feature.mfcc(y=np.concatenate(blocks), sr=RATE).T
        largest = max(largest, float(np.abs(stream.frames() - theirs).max()))
    return largest


ROLES = {"ours": ours, "librosa": librosa, "essentia": essentia, "difference": difference}


def child(role: str, files: Sequence[tuple[Path, float]]) -> tuple[float, float]:
    """A role in a process of its own: (its CPU seconds, the number it printed)."""
    with common.Clock() as clock:
        done = subprocess.run(
            [sys.executable, __file__, "--role", role],
            input="\n".join(str(path.resolve()) for path, _ in files),
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        )
    return clock.cpu_s, float(done.stdout.split()[-1])


def main() -> None:
    """Takes turns, prints the tables."""
    parser = common.arguments(__doc__ or "")
    parser.add_argument("--minutes", type=float, default=130.0, help="of music, at the most")
    parser.add_argument("--repeat", type=int, default=2, help="rounds")
    parser.add_argument("--mp3", type=Path, metavar="FOLDER", help="keeps the MP3s (default: a temporary folder)")
    parser.add_argument("--role", choices=ROLES, help="for the script itself: the files come by standard input")
    options = parser.parse_args()
    common.one_thread()
    if options.role:
        print(ROLES[options.role](sys.stdin.read().splitlines()))
        return
    contestants = ["ours", "librosa", "essentia"]
    if importlib.util.find_spec("essentia") is None:
        print("essentia is not installed: left out")
        contestants.remove("essentia")
    vorbis = common.soundtracks(options.music, options.minutes / 60)
    with tempfile.TemporaryDirectory() as temporary:
        mp3 = common.encoded(vorbis, options.mp3 or Path(temporary), ".mp3", "-b:a", "192k")
        measured = {
            name: measure(files, contestants, options.repeat) for name, files in (("Vorbis", vorbis), ("MP3", mp3))
        }
    hours = sum(seconds for _, seconds in vorbis) / 3600
    rows = []
    for name, figures in measured.items():
        per_hour = {role: min(figures["cpu_s"][role]) / hours for role in contestants}
        figures["cpu_s_per_hour"] = per_hour
        figures["share"] = {f"of {role}": per_hour["ours"] / per_hour[role] for role in contestants[1:]}
        rows += [
            [name, role, per_hour[role], max(figures["cpu_s"][role]) / hours, per_hour["ours"] / per_hour[role]]
            for role in contestants
        ]
    title = f"File to MFCC, {len(vorbis)} soundtracks, {hours:.2f} h, whole process"
    common.show(title, ["format", "contestant", "CPU-s per hour, best", "worst", "ours over it"], rows)
    common.show(
        "Against the bars",
        ["format", "what", "measured", "bar"],
        [
            [name, what, value, BARS[what]]
            for name, f in measured.items()
            for what, value in [
                ("ours, CPU-s/h", f["cpu_s_per_hour"]["ours"]),
                *f["share"].items(),
                ("largest difference", f["difference"]),
            ]
        ],
    )
    common.save(options.json, {"hours": hours, "files": len(vorbis), "bars": BARS, **measured})


def measure(files: Sequence[tuple[Path, float]], contestants: Sequence[str], rounds: int) -> dict:
    """CPU seconds of each contestant in each round, frames, and the largest difference from librosa."""
    cpu_s: dict[str, list[float]] = {role: [] for role in contestants}
    n_frames = {}
    for i in range(rounds):
        for role in contestants if i % 2 == 0 else reversed(contestants):
            seconds, n_frames[role] = child(role, files)
            cpu_s[role].append(seconds)
            print(f"round {i + 1}: {role} {seconds:.1f} CPU-s for {files[0][0].suffix}", file=sys.stderr)
    return {"cpu_s": cpu_s, "n_frames": n_frames, "difference": child("difference", files)[1]}


if __name__ == "__main__":
    main()
