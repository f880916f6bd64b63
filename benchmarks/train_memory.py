"""The memory of a node that trains: frames of one feature, shared by four trials of `mer-ray train`.

    python benchmarks/train_memory.py [--gb 1.5] [--networks cnn] [--json FILE]

Random frames with planted labels lie in a workspace of its own; the command trains one epoch of four folds side by side
on them (half a CPU each). Every second, the memory of the command and of all processes that it has started is added up,
what several of them share counted once (PSS). Expect at most 1.5 times the frames and 1 GB for each trial.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import common
import psutil

TRIALS, FRAMES, N_MFCC = 4, 6_500, 40
MFCC = {"sample_rate_hz": 22_050, "hop_length": 512, "n_mels": 64, "n_mfcc": N_MFCC}
TRAIN = {"folds": TRIALS, "members": 1, "epochs": 1, "baselines": False, "cpus_per_trial": 0.5}


def make(folder: str, n_tracks: int) -> None:
    """A workspace with tracks, labels and frames of three minutes each."""
    import numpy as np
    import pyarrow as pa

    from mer_ray import features
    from mer_ray.features.mfcc import Params
    from mer_ray.io.schemas import DIMENSIONS, SCHEMAS, features_schema, ragged_column
    from mer_ray.io.tables import Workspace, now

    workspace, rng = Workspace(folder), np.random.default_rng(0)
    spec = features.resolve("mfcc", Params(**MFCC))
    for first in range(0, n_tracks, 100):
        numbers = range(first, min(n_tracks, first + 100))
        ids, values = [f"{i:016x}" for i in numbers], rng.uniform(0.2, 0.8, (len(numbers), 3))
        nothing = [dict.fromkeys(SCHEMAS[t].names) for t in ("tracks", "labels")]
        about = {"source": "folder", "fetched_at": now(), "tags": []}
        rows = [
            {**nothing[0], "track_id": t, "artist": f"Artist {i // 10}", "title": f"Cue {i}", **about}
            for i, t in zip(numbers, ids, strict=True)
        ]
        workspace.append_rows("tracks", rows)
        own = {**nothing[1], "evidence": [], "n_matched": 0, "lexicon": "manifest"}
        labels = [
            {**own, "track_id": t, **dict(zip(DIMENSIONS, v, strict=True))} for t, v in zip(ids, values, strict=True)
        ]
        workspace.append_rows("labels", labels)
        frames = rng.standard_normal((len(ids), FRAMES, spec.n_dims), np.float32)
        frames[:, :, :3] += 3 * values[:, None].astype(np.float32)
        columns = [
            pa.array(ids),
            ragged_column(list(frames), spec.n_dims),
            pa.array([spec.hop_s] * len(ids)),
            pa.array([spec.fingerprint] * len(ids)),
        ]
        table = pa.Table.from_arrays(columns, schema=features_schema(spec.n_dims))
        workspace.append("features/mfcc", table, str(first))


def memory(process: psutil.Process) -> int:
    """Bytes of a process and all that it has started; what they share, once."""
    total = 0
    for each in [process, *process.children(recursive=True)]:
        with suppress(psutil.Error):
            total += each.memory_full_info().pss
    return total


def main() -> None:
    parser = common.arguments(__doc__, music=False)
    parser.add_argument("--gb", type=float, default=1.5, help="of frames")
    parser.add_argument("--networks", default="cnn")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        n_tracks = round(options.gb * 1e9 / (FRAMES * N_MFCC * 4))
        # In a process of its own: this one's memory is not to count.
        code = "import sys, train_memory; train_memory.make(sys.argv[1], int(sys.argv[2]))"
        here = Path(__file__).resolve().parent
        subprocess.run([sys.executable, "-c", code, folder, str(n_tracks)], check=True, cwd=here)
        values: dict[str, Any] = {
            "collect.source": "folder",
            "extract.features": "mfcc",
            "train.networks": options.networks,
        }
        values |= {f"extract.mfcc.{k}": v for k, v in MFCC.items()} | {f"train.{k}": v for k, v in TRAIN.items()}
        sets = [part for key, value in values.items() for part in ("--set", f"{key}={value}")]
        command = [sys.executable, "-m", "mer_ray", "train", "--workspace", folder, *sets]
        peak, start = 0, time.monotonic()
        with subprocess.Popen(command) as driver:
            while driver.poll() is None:
                with suppress(psutil.Error):
                    peak = max(peak, memory(psutil.Process(driver.pid)))
                time.sleep(1)
        wall_s = time.monotonic() - start
        if driver.returncode:
            sys.exit(driver.returncode)
    bar = 1.5 * options.gb + TRIALS
    row = [options.networks, options.gb, TRIALS, peak / 1e9, bar, wall_s]
    columns = ("networks", "frames GB", "trials", "peak GB", "bar GB", "wall s")
    common.show("Memory of a node that trains", columns, [row])
    common.save(options.json, {"columns": columns, "rows": [row]})


if __name__ == "__main__":
    main()
