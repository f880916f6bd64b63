"""mer-ray beside what people use instead: a librosa loop, musicnn, VibeNet. Damaged files, speed, memory.

    python benchmarks/comparison.py --music FOLDER --librosa PYTHON --vibenet PYTHON --musicnn PYTHON --mer-ray PYTHON

Each PYTHON is the interpreter of an environment that has the program (for musicnn 0.1.0, whose requirements cannot be
installed on Python 3.11: TensorFlow 2.21, tf-keras, librosa 0.11, and ``pip install --no-deps musicnn``; it runs as it
is with TF_USE_LEGACY_KERAS=1). A program that is not named is left out. Two inputs:

- the folder of tests/test_journey_torture.py: sound files among damaged, empty, silent and oddly named ones;
- an hour of soundtracks (benchmarks/common.py says where to get them).

With --clips, VibeNet's valence and energy are compared with the labels of clips; mer-ray's figures on the same clips,
out of fold, are in the cards of its models.

The loops around librosa and musicnn are those of their documentation, with a try around each file, which is more than
most scripts have. CPU seconds are of the whole process tree; memory is the largest sum of its processes' resident
sets, looked at 10 times a second.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import ROOT, arguments, family, save, show, soundtracks

LIMIT_S = 1_800.0

LIBROSA = """
import json, sys, numpy as np, librosa
for path in map(str.strip, open(sys.argv[1], encoding="utf-8", errors="surrogateescape")):
    path = json.loads(path)
    try:
        y, sr = librosa.load(path)
        mfcc = librosa.feature.mfcc(y=y, sr=sr).mean(axis=1)
        chroma = librosa.feature.chroma_stft(y=y, sr=sr).mean(axis=1)
        tempo, _ = librosa.beat.beat_track(y=y, sr=sr)
        print(json.dumps([path, [float(v) for v in [*mfcc, *chroma, *np.atleast_1d(tempo)]]]), flush=True)
    except Exception as error:
        print(f"{path!r}: {error}", file=sys.stderr)
"""

MUSICNN = """
import contextlib, json, sys
from musicnn.extractor import extractor
for path in map(str.strip, open(sys.argv[1], encoding="utf-8", errors="surrogateescape")):
    path = json.loads(path)
    try:
        with contextlib.redirect_stdout(sys.stderr):
            tags, _ = extractor(path, model="MSD_musicnn", extract_features=False)
        print(json.dumps([path, [float(v) for v in tags.mean(axis=0)]]), flush=True)
    except Exception as error:
        print(f"{path!r}: {error}", file=sys.stderr)
"""

VIBENET = """
import json, sys
from vibenet.cli import app
app(["-r", "-f", "json", sys.argv[2]])
"""

MER_RAY = """
import sys
from mer_ray.__main__ import main
main(["score", sys.argv[2], "--out", sys.argv[3] + "/scores.parquet", "--model", sys.argv[4], "--max-lost", "1"])
"""

PROGRAMS = {
    "librosa": ("librosa loop (MFCC, chroma, tempo)", LIBROSA, []),
    "musicnn": ("musicnn 0.1.0 (50 tags)", MUSICNN, []),
    "vibenet": ("VibeNet 0.1.0 (7 attributes)", VIBENET, []),
    "light": ("mer-ray score --model light", MER_RAY, ["light"]),
    "default": ("mer-ray score", MER_RAY, ["default"]),
}


def values_of(name: str, printed: str, out: Path) -> dict[str, list[float]]:
    """The values that a program gave, by path."""
    if name in ("light", "default"):
        import pyarrow.parquet as pq

        from mer_ray.io.address import to_path

        rows = pq.read_table(out / "scores.parquet", columns=["uri", "valence", "arousal", "dominance"]).to_pylist()
        return {str(to_path(r.pop("uri"))): list(r.values()) for r in rows}
    if name == "vibenet":
        rows = json.loads(printed[printed.index("[") :]) if "[" in printed else []
        return {r.pop("path"): [v for v in r.values() if isinstance(v, float)] for r in rows}
    return dict(map(json.loads, printed.splitlines()))


def run(name: str, python: str, folder: Path, files: list[Path]) -> dict[str, Any]:
    """One program over one folder: values, what it said, seconds, memory."""
    import psutil

    _, script, more = PROGRAMS[name]
    with tempfile.TemporaryDirectory() as scratch:
        out = Path(scratch)
        (out / "files.txt").write_text("".join(json.dumps(str(f)) + "\n" for f in files))
        (out / "script.py").write_text(script)
        command = [python, "-W", "ignore", out / "script.py", out / "files.txt", folder, out, *more]
        env = {**os.environ, "TF_USE_LEGACY_KERAS": "1", "TF_CPP_MIN_LOG_LEVEL": "3", "COLUMNS": "400"}
        began, cpu, memory = time.perf_counter(), dict[int, float](), 0
        with (out / "stdout").open("w") as stdout, (out / "stderr").open("w") as stderr:
            process = subprocess.Popen(list(map(str, command)), stdout=stdout, stderr=stderr, env=env, cwd=scratch)
            root, hung = psutil.Process(process.pid), False
            while process.poll() is None:
                members = [p for p, _ in family(root, cpu)]
                memory = max(memory, sum(resident(p) for p in members))
                if hung := time.perf_counter() - began > LIMIT_S:
                    for member in members:
                        member.kill()
                    break
                time.sleep(0.1)
        printed = (out / "stdout").read_text(errors="surrogateescape")
        said = printed + (out / "stderr").read_text(errors="surrogateescape")
        if (failures := out / "scores.failures.parquet").exists():
            import pyarrow.parquet as pq

            said += "\n".join(pq.read_table(failures)["message"].to_pylist())
        return {
            "values": values_of(name, printed, out) if not hung else {},
            "said": said,
            "exit": process.wait(),
            "hung": hung,
            "wall_s": time.perf_counter() - began,
            "cpu_s": sum(cpu.values()),
            "memory_mb": memory / 1e6,
        }


def resident(process: Any) -> int:
    """Bytes of memory of a process; 0 where it has ended."""
    import psutil

    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0


def verdicts(result: dict[str, Any], expected: dict[Path, str | None]) -> dict[str, list[str]]:
    """What became of each file: file names by verdict."""
    import math

    found: dict[str, list[str]] = {v: [] for v in ("right", "refused", "unsaid", "lost", "named")}
    for path, reason in expected.items():
        values = result["values"].get(str(path))
        has_values = values is not None and all(map(math.isfinite, values))
        plain = max(re.split(r"[^ -~]", path.name), key=len)  # how the rest is written differs
        is_named = plain in result["said"]
        if has_values:
            found["right" if reason is None else "unsaid"].append(path.name)
        elif values is not None:
            found["unsaid"].append(path.name)  # NaN
        else:
            found["refused" if reason is not None and is_named else "named" if is_named else "lost"].append(path.name)
    return found


def main() -> None:
    parser = arguments(__doc__ or "")
    for name in ("librosa", "vibenet", "musicnn", "mer-ray"):
        parser.add_argument(f"--{name}", metavar="PYTHON")
    parser.add_argument("--clips", type=Path, metavar="MANIFEST", help="labelled clips, to correlate VibeNet with")
    chosen = parser.parse_args()
    pythons = {"librosa": chosen.librosa, "musicnn": chosen.musicnn, "vibenet": chosen.vibenet}
    pythons |= dict.fromkeys(("light", "default"), chosen.mer_ray)
    pythons = {name: python for name, python in pythons.items() if python}

    sys.path.insert(0, str(ROOT / "tests"))
    from test_journey_torture import EXPECTED, torture

    rows, speed, figures = [], [], dict[str, Any]()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "music"
        torture(folder)
        (folder / "forbidden.wav").unlink()  # root may read it
        expected = {folder / os.fsdecode(name): reason for name, reason in EXPECTED.items()}
        tracks = soundtracks(chosen.music, hours=1)
        hours = sum(seconds for _, seconds in tracks) / 3600
        hour = Path(scratch) / "hour"
        hour.mkdir()
        for path, _ in tracks:
            (hour / path.name).write_bytes(path.read_bytes())
        files = sorted(hour.iterdir())
        for name, python in pythons.items():
            damaged = run(name, python, folder, sorted(expected))
            verdict = verdicts(damaged, expected)
            long = run(name, python, hour, files)
            title = PROGRAMS[name][0]
            end = "hung" if damaged["hung"] else f"exit code {damaged['exit']}"
            rows.append([title, *map(len, verdict.values()), end])
            missing = len(files) - len(long["values"])
            speed.append([title, long["cpu_s"] / hours, long["wall_s"] / hours, long["memory_mb"], missing])
            figures[name] = {
                "verdicts": verdict,
                "end": end,
                "hour": {k: long[k] for k in ("cpu_s", "wall_s", "memory_mb", "exit", "hung")},
                "missing": missing,
            }
            print(f"{title}: {verdict}", file=sys.stderr)
    good = sum(reason is None for reason in expected.values())
    show(
        f"{len(expected)} files, {good} of them sound",
        ["program", "values of sound files", "refused by name", "a value of a damaged file, or NaN",
         "lost without a word", "sound files refused by name", "end"],
        rows,
    )  # fmt: skip
    show(
        f"{hours:.2f} hours of soundtracks (Ogg Vorbis), {len(files)} files",
        ["program", "CPU-s an hour", "s an hour", "memory, MB", "files without values"],
        speed,
    )
    if chosen.clips and chosen.vibenet:
        figures["clips"] = labelled(chosen.clips, chosen.vibenet)
    save(chosen.json, figures)


def labelled(manifest: Path, python: str) -> dict[str, float]:
    """Pearson's r of VibeNet's attributes with the labels of a manifest of clips (columns path, valence, arousal)."""
    import csv

    import numpy as np

    with manifest.open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    paths = [manifest.parent / row["path"] for row in rows]
    values = run("vibenet", python, paths[0].parent, paths)["values"]
    energy, valence = 2, 6  # of VibeNet's attributes, in the order of the alphabet
    found = {}
    for dimension, attribute in (("valence", valence), ("arousal", energy)):
        pairs = [(float(row[dimension]), values[str(path)][attribute]) for row, path in zip(rows, paths, strict=True)]
        found[dimension] = float(np.corrcoef(np.array(pairs).T)[0, 1])
    show(f"{len(rows)} labelled clips: Pearson's r", ["program", *found], [["VibeNet 0.1.0", *found.values()]])
    return found


if __name__ == "__main__":
    main()
