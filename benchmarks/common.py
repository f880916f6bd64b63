"""What the benchmarks share: real soundtracks, commands, CPU clocks, random scores, a table, a JSON file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import psutil
    import pyarrow as pa

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # so that mer_ray need not be installed
MUSIC = os.environ.get("MER_RAY_SOUNDTRACKS", "")
"""A folder of soundtracks: Debian's wesnoth-1.16-music, ufoai-music, ... fetched with ``apt-get download PACKAGE``
and unpacked with ``dpkg -x PACKAGE.deb FOLDER``."""


def arguments(doc: str, music: bool = True) -> argparse.ArgumentParser:
    """--json FILE, and --music FOLDER where real soundtracks are needed."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    if music:
        parser.add_argument("--music", type=Path, default=Path(MUSIC) if MUSIC else None, metavar="FOLDER")
    return parser


def one_thread() -> None:
    """One thread in every numeric library; to be called before they are imported."""
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS", "NPROC"):
        os.environ[name] = "1"
    os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["TF_NUM_INTEROP_THREADS"] = "1"
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")


def soundtracks(folder: Path | None, hours: float = float("inf")) -> list[tuple[Path, float]]:
    """The Ogg files under a folder that last 30 s or more, sorted by name, and their seconds; so many hours of them."""
    import soundfile

    if folder is None or not folder.is_dir():
        sys.exit("give --music FOLDER (or MER_RAY_SOUNDTRACKS): see benchmarks/common.py for where to get some")
    found, total_s = [], 0.0
    for path in sorted(p for p in folder.rglob("*.ogg") if p.is_file()):
        seconds = soundfile.info(str(path)).duration
        if seconds >= 30.0 and total_s < 3600 * hours:
            found.append((path, seconds))
            total_s += seconds
    return found or sys.exit(f"{folder} holds no .ogg of 30 s or more")


def encoded(files: Sequence[tuple[Path, float]], into: Path, suffix: str, *options: str) -> list[tuple[Path, float]]:
    """The same music in another format (ffmpeg); what is there already is not made again."""
    import imageio_ffmpeg

    into.mkdir(parents=True, exist_ok=True)
    made = []
    for path, seconds in files:
        target = into / f"{path.stem}{suffix}"
        if not target.exists():
            part = target.with_name(f"part-{target.name}")
            command = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", "-y", "-i", path, "-vn", *options]
            subprocess.run([*command, part], check=True)
            part.rename(target)
        made.append((target, seconds))
    return made


class Clock:
    """CPU and wall seconds of this process and of the children that it has waited for."""

    def __enter__(self) -> Clock:
        self._cpu, self._wall = os.times(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        now = os.times()
        self.wall_s = time.perf_counter() - self._wall
        self.cpu_s = sum(now[:4]) - sum(self._cpu[:4])


def sets(*assignments: str) -> list[str]:
    """``--set`` before each."""
    return [word for assignment in assignments for word in ("--set", assignment)]


def run(*command: object) -> tuple[str, Clock]:
    """What a Python command prints, and its clock. Exits where it fails."""
    with Clock() as clock:
        done = subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{done.stdout}{done.stderr}")
    return done.stdout, clock


def mer_ray(*arguments: object) -> Clock:
    """``mer-ray ARGUMENTS``. Exits where it fails."""
    return run("-m", "mer_ray", *arguments)[1]


def family(root: psutil.Process, cpu: dict[int, float]) -> Iterator[tuple[psutil.Process, str]]:
    """A process and all that it started, with their command lines. cpu: process id → CPU seconds so far, updated."""
    import psutil

    try:
        members = [root, *root.children(recursive=True)]
    except psutil.NoSuchProcess:
        return
    for process in members:
        try:
            times = process.cpu_times()
            cpu[process.pid] = times.user + times.system
            yield process, " ".join(process.cmdline())
        except psutil.Error:  # it has just ended
            continue


def scores(start: int, stop: int, points: int, model: str) -> pa.Table:
    """Random rows of ``scores``, of tracks number start to stop; curves have one point a second."""
    import numpy as np
    import pyarrow as pa

    from mer_ray.io.schemas import DIMENSIONS, SCHEMAS, ragged_column

    n, rng, schema = stop - start, np.random.default_rng(start), SCHEMAS["scores"]
    numbers, vad = range(start, stop), np.clip(rng.normal(0.5, 0.15, (stop - start, 3)), 0, 1)
    columns = {
        "track_id": [f"{i * 0x9E3779B97F4A7C15 % 2**64:016x}" for i in numbers],
        "artist": [f"Artist {i % 500}" for i in numbers],
        "title": [f"Cue number {i}" for i in numbers],
        "album": [f"Film {i % 3_000}" for i in numbers],
        "uri": [f"/music/{i % 3_000}/{i}.flac" for i in numbers],
        "duration_s": [float(points)] * n,
        "decoded_share": [1.0] * n,
        "in_distribution": rng.random(n) > 0.05,
        "novelty": rng.random(n),
        "curve": ragged_column(list(rng.random((n, points, 3), np.float32)), 3),
        "curve_hop_s": [1.0] * n,
        "sound": list(rng.random((n, 16), np.float32)),
        "waveform": list(rng.integers(0, 256, (n, 300), np.uint8)),
        "model": [model] * n,
    }
    for k, d in enumerate(DIMENSIONS):
        columns |= {d: vad[:, k], f"lower_{d}": vad[:, k] * 0.9, f"upper_{d}": vad[:, k] * 0.9 + 0.1}
    return pa.table({f.name: columns.get(f.name, pa.nulls(n)) for f in schema}).cast(schema)


def show(title: str, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """A Markdown table on standard output, numbers to the right."""
    texts = [[f"{c:,.3g}" if isinstance(c, float) else str(c) for c in row] for row in rows]
    right = [all(re.fullmatch(r"[-+<]?[\d.,e+-]*%?", row[i]) for row in texts) for i in range(len(columns))]
    print(f"\n{title}\n\n| {' | '.join(columns)} |\n| {' | '.join('---:' if r else '---' for r in right)} |")
    for row in texts:
        print(f"| {' | '.join(row)} |")


def save(path: Path | None, figures: dict[str, Any]) -> None:
    """The figures as JSON, with the machine that they are of."""
    if path is not None:
        machine = {"machine": platform.machine(), "cpus": os.cpu_count(), "python": platform.python_version()}
        path.write_text(json.dumps({**machine, **figures}, indent=2) + "\n")
