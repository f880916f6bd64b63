"""What planning `extract` takes of the command: peak memory and CPU for catalogs of 10⁵ and 10⁶ tracks.

    python benchmarks/planning.py [--tracks 1e5 1e6] [--shard-rows 5000] [--done 0.5] [--workers 64] [--json FILE]

Each catalog is a workspace with real shards of `tracks` and `audio` (no audio files); --done: the share of it that has
its feature already, in shards of 20 tracks, an hour of audio. A process of its own plans it from the first read to the
last block. Bars for 10⁶: 400 MB and 20 CPU-s; the memory of 10⁶ should be that of 10⁵.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path
from typing import Any

import common

common.one_thread()

SETTINGS = ["collect.source=manifest", "extract.features=mfcc"]
WRITTEN, DONE_ROWS = 50_000, 20


def make(folder: Path, n: int, shard_rows: int, done: float) -> None:
    """A workspace of n tracks that `collect` and `acquire` are through with, and a share of them `extract` too."""
    import numpy as np
    import pyarrow as pa
    from scaling import durations

    from mer_ray.io.schemas import SCHEMAS
    from mer_ray.io.tables import Workspace

    workspace, seconds = Workspace(folder), durations(n, 180.0)
    for start in range(0, n, WRITTEN):
        numbers = range(start, min(n, start + WRITTEN))
        rng = np.random.default_rng(start)
        count = len(numbers)
        ids = [f"{i * 0x9E3779B97F4A7C15 % 2**64:016x}" for i in numbers]
        uris = [f"/music/Composer {i % 5_000}/Film {i % 30_000}/{i:08d} Cue.flac" for i in numbers]
        tags = [
            [{"name": f"tag {i % 977}", "weight": 100.0}, {"name": f"tag {i % 89}", "weight": 50.0}] for i in numbers
        ]
        known: dict[str, Any] = {
            "track_id": ids, "artist": [f"Composer {i % 5_000}" for i in numbers], "title": [f"Cue {i}" for i in ids],
            "album": [f"Film {i % 30_000}" for i in numbers], "uri": uris, "tags": tags, "source": ["manifest"] * count,
            "fetched_at": [0] * count, "provider": ["file"] * count, "sha256": [rng.bytes(32).hex() for _ in numbers],
            "duration_s": seconds[start : start + count], "sample_rate": [44_100] * count, "channels": [2] * count,
            "size": rng.integers(10**6, 10**8, count), "mtime_ns": rng.integers(10**18, 2 * 10**18, count),
            "request": [rng.bytes(16).hex() for _ in numbers], "tried": [[]] * count, "decoded_share": [1.0] * count,
        }  # fmt: skip
        for table in ("tracks", "audio"):
            schema = SCHEMAS[table]
            whole = pa.table({f.name: known.get(f.name, pa.nulls(count)) for f in schema}).cast(schema)
            for at in range(0, count, shard_rows):
                workspace.append(table, whole.slice(at, shard_rows), f"{start + at}")
        _extracted(workspace, ids[: round(done * count)])


def _extracted(workspace: Any, ids: list[str]) -> None:
    """Rows of ``features/mfcc`` of one frame each."""
    import numpy as np

    from mer_ray import config
    from mer_ray.features import extraction
    from mer_ray.stages import extract

    spec = extract.check(config.load(None, [f"workspace={workspace.uri}", *SETTINGS]))["mfcc"]
    frame = np.zeros((1, spec.n_dims), np.float32)
    for at in range(0, len(ids), DONE_ROWS):
        extraction.commit(workspace, spec, dict.fromkeys(ids[at : at + DONE_ROWS], frame))


def plan(folder: Path, workers: int) -> dict[str, float]:
    """Plans in this process."""
    from mer_ray import config
    from mer_ray.console import Summary
    from mer_ray.io import plan as planning
    from mer_ray.io.tables import Workspace
    from mer_ray.stages import extract

    settings = config.load(None, [f"workspace={folder}", *SETTINGS])
    specs, workspace = list(extract.check(settings).values()), Workspace(folder)
    part = 60 * settings.extract.batch_minutes
    before, wall, cpu = memory_mb("VmRSS"), time.monotonic(), time.process_time()
    with planning.Work(extract.lacking(settings, workspace, specs, Summary("extract"))) as work:
        sizes = planning.Sizes(extract.SMALLEST_S, part, extract.LARGEST * part)
        file = planning.PlanFile(workspace, work.blocks(workers, sizes))
        file.delete()
    return {
        "tracks": work.rows,
        "blocks": len(file.rows),
        "cpu_s": time.process_time() - cpu,
        "wall_s": time.monotonic() - wall,
        "before_mb": before,
        "peak_mb": memory_mb("VmHWM"),
    }


def memory_mb(kind: str) -> float:
    """Of this process. VmRSS: now. VmHWM: the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith(f"{kind}:"))


def main() -> None:
    """Make the catalogs, plan each, print the table."""
    parser = common.arguments(__doc__ or "", music=False)
    parser.add_argument("--tracks", type=float, nargs="+", default=[1e5, 1e6])
    parser.add_argument("--shard-rows", type=int, default=5_000)
    parser.add_argument("--done", type=float, default=0.0)
    parser.add_argument("--workers", type=int, default=64)
    parser.add_argument("--plan", type=Path, metavar="WORKSPACE", help="in this process, for the benchmark itself")
    options = parser.parse_args()
    if options.plan:
        print(json.dumps(plan(options.plan, options.workers)))
        return
    found = {}
    for n in map(int, options.tracks):
        with tempfile.TemporaryDirectory(prefix="mer-ray-") as folder:
            make(Path(folder), n, options.shard_rows, options.done)
            printed, _ = common.run(__file__, "--plan", folder, "--workers", options.workers)
        found[f"{n:,}"] = json.loads(printed.splitlines()[-1])
    columns = ["tracks", "to do", "blocks", "CPU-s", "wall s", "MB before", "MB at the peak"]
    done = f", {options.done:.0%} done before" if options.done else ""
    title = f"Planning extract, shards of {options.shard_rows:,} rows{done}"
    common.show(title, columns, [[n, *(round(v, 1) for v in one.values())] for n, one in found.items()])
    common.save(options.json, found)


if __name__ == "__main__":
    main()
