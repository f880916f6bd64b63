"""The main job, timed and measured as a user would run it: the demo twice, real labelled music, real soundtracks.

    python benchmarks/pipeline.py [--data DIR] [--soundtracks DIR] [--json FILE] [--only demo,labels,music,soundtracks]

--data: a folder with panda4q/ and lastfm_tags/ (default ../shared/data; what is absent is left out, with a word).
--soundtracks: a folder of music to score with the model that the labelled music trained, for example Debian's
wesnoth-1.16-music unpacked with ``dpkg -x``.

Prints a table; seconds are wall time of a whole command, CPU is its process and all that it started.
"""

from __future__ import annotations

import csv
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import common

DIMENSIONS = ("valence", "arousal", "dominance")


def mer_ray(*arguments: object) -> dict[str, float]:
    """Run a command to its end: wall and CPU seconds. Exits where it fails."""
    clock = common.mer_ray(*arguments)
    return {"wall_s": clock.wall_s, "driver_cpu_s": clock.cpu_s}


def figures(workspace: Path) -> dict[str, dict[str, float]]:
    """R² per row of the report: "lstm-mfcc" → dimension → R²."""
    out: dict[str, dict[str, float]] = {}
    with (workspace / "report" / "metrics.csv").open() as file:
        for row in csv.DictReader(file):
            name = row["network"] if row["feature"] == "-" else f"{row['network']}-{row['feature']}"
            out.setdefault(name, {})[row["dimension"]] = float(row["r2"])
    return out


def demo(work: Path) -> dict[str, Any]:
    """The demo from nothing, and once more."""
    options = ("run", "-c", common.ROOT / "configs" / "demo.yaml", "--workspace", work / "demo")
    return {"first": mer_ray(*options), "again": mer_ray(*options), "r2": figures(work / "demo")}


def labels(work: Path, data: Path) -> dict[str, Any]:
    """4,729 songs' tags against published labels from the same lexicon."""
    from mer_ray.labels import lexicon, vad

    words = lexicon.load(data / "lastfm_tags" / "nrc-vad-excerpt.txt")
    worst, n = 0.0, 0
    for line in (data / "lastfm_tags" / "tracks.jsonl").read_text().splitlines():
        song = json.loads(line)
        label = vad.from_tags(song["tags"], words)
        if label is None:
            sys.exit(f"no label for {song['id']}")
        worst = max(worst, abs(label.vad[0] - song["valence"]), abs(label.vad[1] - song["arousal"]))
        n += 1
    return {"songs": n, "largest_difference": worst}


def music(work: Path, data: Path) -> dict[str, Any]:
    """472 labelled clips, MFCC, both networks; with the manifest's labels, then with labels from its tags."""
    manifest = data / "panda4q" / "manifest.csv"
    options = common.sets("collect.source=manifest", f"collect.manifest={manifest}", "extract.features=mfcc")
    listed = mer_ray("run", "--workspace", work / "music", *options)
    lexicon = common.ROOT / "mer_ray" / "labels" / "data" / "demo_lexicon.txt"
    options += common.sets("label.source=tags", f"label.lexicon={lexicon}")
    tagged = mer_ray("run", "--workspace", work / "tags", *options)
    with (work / "tags" / "report" / "metrics.csv").open() as file:
        n = int(next(csv.DictReader(file))["n"])
    return {
        "from_manifest": listed | {"r2": figures(work / "music")},
        "from_tags": tagged | {"r2": figures(work / "tags"), "tracks": n},
    }


def soundtracks(work: Path, folder: Path) -> dict[str, Any]:
    """Every file of a folder scored by the LSTM that `music` trained."""
    target = work / "scores.csv"
    timing = mer_ray("score", folder, "--model", work / "music" / "runs" / "lstm-mfcc", "--out", target)
    with target.open() as file:
        rows = list(csv.DictReader(file))
    failures = target.with_name("scores.failures.csv")
    failed = list(csv.DictReader(failures.open())) if failures.exists() else []
    values = {d: [float(r[d]) for r in rows] for d in DIMENSIONS}
    return timing | {
        "rows": len(rows),
        "failures": [f"{r['reason']}: {Path(r['message'].split(' ')[0]).name}" for r in failed],
        "range": {d: [min(v), max(v)] for d, v in values.items()},
        "sd": {d: statistics.pstdev(v) for d, v in values.items()},
    }


def show(result: dict[str, Any], indent: str = "") -> None:
    """Nested figures as lines."""
    for key, value in result.items():
        if isinstance(value, dict) and any(isinstance(v, dict) for v in value.values()):
            print(f"{indent}{key}")
            show(value, indent + "  ")
        elif isinstance(value, dict):
            cells = (f"{k} {v:.3f}" if isinstance(v, float) else f"{k} {v}" for k, v in value.items())
            print(f"{indent}{key:<16} {'  '.join(cells)}")
        else:
            print(f"{indent}{key:<16} {value:.3g}" if isinstance(value, float) else f"{indent}{key:<16} {value}")


def main() -> None:
    """Parse, run what there is data for, print."""
    parser = common.arguments(__doc__ or "", music=False)
    parser.add_argument("--data", type=Path, default=common.ROOT.parent / "shared" / "data")
    parser.add_argument("--soundtracks", type=Path)
    parser.add_argument("--only", default="demo,labels,music,soundtracks")
    arguments = parser.parse_args()
    wanted = arguments.only.split(",")
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="mer-ray-bench-") as name:
        work = Path(name)
        if "demo" in wanted:
            results["demo"] = demo(work)
        if not arguments.data.is_dir():
            print(f"no labelled music at {arguments.data}: give --data", file=sys.stderr)
        else:
            if "labels" in wanted:
                results["labels"] = labels(work, arguments.data)
            if "music" in wanted:
                results["music"] = music(work, arguments.data)
            if "soundtracks" in wanted and "music" in wanted and arguments.soundtracks:
                results["soundtracks"] = soundtracks(work, arguments.soundtracks)
    show(results)
    common.save(arguments.json, results)


if __name__ == "__main__":
    main()
