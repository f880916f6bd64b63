"""The memory that a catalog's end takes: what `mer-ray score CATALOG` does with its scores once all tracks are scored.

    python benchmarks/score_memory.py [--rows 300000] [--json FILE]

Random scores (curves of 60 points) lie in a folder, a .parquet and a .csv. A process of its own each writes what goes
with them, with nothing new or with 1,000 rows more; it prints by how much its memory grew at most.
"""

from __future__ import annotations

import json
import tempfile
import time
from pathlib import Path

import common

STEP, NEW, POINTS, MODEL = 5_000, 1_000, 60, "model:1"
CASES = (("folder", 0), ("scores.parquet", 0), ("scores.parquet", NEW), ("scores.csv", NEW))


def make(folder: Path, n: int) -> None:
    """A folder of shards and the same rows in one file of each kind."""
    import pyarrow as pa
    import pyarrow.csv as pacsv
    import pyarrow.parquet as pq

    from mer_ray.io.schemas import SCHEMAS
    from mer_ray.io.tables import Workspace
    from mer_ray.scoring.scores_table import NESTED

    flat = pa.schema([f for f in SCHEMAS["scores"] if f.name not in NESTED])
    workspace = Workspace(folder / "folder")
    with (
        pq.ParquetWriter(folder / "scores.parquet", SCHEMAS["scores"], compression="zstd") as whole,
        pacsv.CSVWriter(str(folder / "scores.csv"), flat) as text,
    ):
        for start in range(0, n, STEP):
            table = common.scores(start, min(n, start + STEP), POINTS, MODEL)
            whole.write_table(table)
            text.write_table(table.select(flat.names))
            workspace.append("scores", table, f"{start}")


def memory_mb(kind: str) -> float:
    """Of this process. VmRSS: now. VmHWM: the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{kind}:"))


def end(target: str, new: int, n: int) -> dict[str, float]:
    """What the command does last, in this process."""
    from mer_ray.io.tables import Workspace
    from mer_ray.scoring import output, preview

    if new:
        Workspace(f"{target}.parts").append("scores", common.scores(n, n + new, POINTS, MODEL), "new")
    before = memory_mb("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted from here
    started, cpu = time.monotonic(), time.process_time()
    target_output = output.Output(target)
    target_output.open(MODEL)
    done = len(target_output.done())
    target_output.finish([], done)
    list(preview.tables(target_output.uri, 120))
    assert done == n + new, f"{done:,} rows of {n + new:,}"
    return {
        "grown_mb": memory_mb("VmHWM") - before,
        "wall_s": time.monotonic() - started,
        "cpu_s": time.process_time() - cpu,
    }


def main() -> None:
    parser = common.arguments(__doc__ or "", music=False)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--case", nargs=2, metavar=("TARGET", "NEW"), help="in this process, for the benchmark itself")
    options = parser.parse_args()
    if options.case:
        print(json.dumps(end(options.case[0], int(options.case[1]), options.rows)))
        return
    found = {}
    with tempfile.TemporaryDirectory(prefix="mer-ray-") as folder:
        for name, new in CASES:
            make(Path(folder), options.rows)
            command = [__file__, "--rows", options.rows, "--case", Path(folder, name), new]
            printed, _ = common.run(*command)
            found[f"{name} + {new:,}"] = json.loads(printed)
            print(f"{name}, {options.rows:,} rows and {new:,} new:", printed.strip(), flush=True)
    common.save(options.json, found)


if __name__ == "__main__":
    main()
