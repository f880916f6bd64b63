"""What the benchmarks share: real soundtracks, CPU clocks, a table, a JSON file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

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


def soundtracks(folder: Path | None, suffix: str = ".ogg", at_least_s: float = 30.0) -> list[tuple[Path, float]]:
    """The files of one format under a folder that last so long, with their seconds, sorted by name."""
    import soundfile

    if folder is None or not folder.is_dir():
        sys.exit("give --music FOLDER (or MER_RAY_SOUNDTRACKS): see benchmarks/common.py for where to get some")
    found = [(p, soundfile.info(str(p)).duration) for p in sorted(folder.rglob(f"*{suffix}")) if p.is_file()]
    return [(p, s) for p, s in found if s >= at_least_s] or sys.exit(f"{folder} holds no {suffix} of 30 s or more")


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
