"""A million tracks labelled from Parquet to Parquet, the report included: CPU seconds, memory, and how the cost grows.

    python benchmarks/labels.py [--tracks 100000,1000000] [--recipes original,careful] [--json FILE]

The tracks are made up: 10 tags each out of 50,000 different ones, as often as Zipf has it, with weights 1..100; the
lexicon has 20,000 terms in the layout of NRC VAD. Making them is not counted. CPU is user and system time of the
command's process, memory its peak. The aim: 1,000,000 tracks in at most 60 CPU seconds and under 2 GiB,
and ten times the tracks in at most 10.5 times the CPU seconds.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import Any

import common
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from mer_ray.io.schemas import SCHEMAS, TAG

TAGS, TERMS, PER_TRACK, SHARD = 50_000, 20_000, 10, 10_000
SYLLABLES = [a + b for a in "bdfgklmnprstvz" for b in ("a", "e", "i", "o", "u", "an", "er", "il", "on", "us")]
CODE = """
import json, resource, sys
from mer_ray.cli import main
try:
    main(sys.argv[1:], standalone_mode=False)
finally:
    use = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"cpu_s": use.ru_utime + use.ru_stime, "peak_mib": use.ru_maxrss / 1024}))
"""


def words(n: int, rng: np.random.Generator) -> list[str]:
    """n different words; a fifth of them are phrases of two, some with capitals or hyphens."""
    found: dict[str, None] = {}
    while len(found) < n:
        one, two = ("".join(rng.choice(SYLLABLES, rng.integers(2, 5))) for _ in range(2))
        kind = rng.random()
        word = (
            one if kind < 0.7 else one.capitalize() if kind < 0.8 else f"{one} {two}" if kind < 0.95 else f"{one}-{two}"
        )
        found[word] = None
    return list(found)


def make(folder: Path, n_tracks: int, names: list[str], own: list[str], rng: np.random.Generator) -> None:
    """The table ``tracks`` of n tracks, with tags of ``names``; artists, titles and albums are made of ``own``."""
    rows = SCHEMAS["tracks"]
    popularity = 1 / np.arange(1, len(names) + 1)
    edges = np.cumsum(popularity / popularity.sum())
    vocabulary = pa.array(names)
    (folder / "tracks").mkdir(parents=True)
    for start in range(0, n_tracks, SHARD):
        n = min(SHARD, n_tracks - start)
        picked = np.minimum(np.searchsorted(edges, rng.random(n * PER_TRACK)), len(names) - 1)
        tags = pa.StructArray.from_arrays(
            [vocabulary.take(pa.array(picked)), pa.array(rng.integers(1, 101, n * PER_TRACK).astype(float))],
            fields=list(TAG),
        )
        at = range(start, start + n)
        columns: dict[str, Any] = {
            "track_id": [f"{i * 0x9E3779B97F4A7C15 % 2**64:016x}" for i in at],
            "artist": [f"{own[i % 40_000]} {own[i % 997]}" for i in at],
            "title": [f"{own[i % 49_999]} {own[i % 9_973]} {i % 100}" for i in at],
            "album": [f"{own[i % 30_011]} (Original Motion Picture Soundtrack)" for i in at],
            "tags": pa.ListArray.from_arrays(
                pa.array(np.arange(0, n * PER_TRACK + 1, PER_TRACK, dtype=np.int32)), tags
            ),
            "source": ["manifest"] * n,
            "fetched_at": pa.array([0] * n, pa.timestamp("ms", "UTC")),
        }
        arrays = [pa.nulls(n, f.type) if f.name not in columns else pa.array(columns[f.name], f.type) for f in rows]
        pq.write_table(
            pa.Table.from_arrays(arrays, schema=rows),
            folder / "tracks" / f"part-{start:09d}.parquet",
            compression="zstd",
        )


def label(workspace: Path, lexicon: Path, recipe: str) -> dict[str, float]:
    """One run of the stage in a process of its own."""
    settings = common.sets("collect.source=manifest", f"label.lexicon={lexicon}", f"label.recipe={recipe}")
    options = ["label", "--workspace", workspace, *settings]
    printed, clock = common.run("-c", CODE, *options)
    figures: dict[str, float] = json.loads(printed.splitlines()[-1])
    labels = sum(pq.read_metadata(p).num_rows for p in (workspace / "labels").glob("*.parquet"))
    return figures | {"wall_s": clock.wall_s, "labels": labels}


def main() -> None:
    """Make, label, print."""
    parser = common.arguments(__doc__ or "", music=False)
    parser.add_argument("--tracks", default="100000,1000000")
    parser.add_argument("--recipes", default="original,careful")
    arguments = parser.parse_args()
    sizes, recipes = [int(n) for n in arguments.tracks.split(",")], arguments.recipes.split(",")
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="mer-ray-bench-") as name:
        work, rng = Path(name), np.random.default_rng(0)
        names = words(TAGS, rng)
        # One name in fifty is a tag too, as an artist's name can be.
        own = [names[i] if i % 50 == 49 else f"{word}q" for i, word in enumerate(words(TAGS, rng))]
        known = rng.permutation(TAGS)[:TERMS]
        scores = rng.random((TERMS, 3)).round(3)
        lines = ["\t".join([names[i].casefold(), *map(str, s)]) for i, s in zip(known, scores, strict=True)]
        (work / "lexicon.txt").write_text("\n".join(["Word\tValence\tArousal\tDominance", *lines]) + "\n")
        for n in sizes:
            make(work / str(n), n, names, own, rng)
            for recipe in recipes:
                (work / recipe / str(n)).mkdir(parents=True)
                (work / recipe / str(n) / "tracks").symlink_to(work / str(n) / "tracks")
                found = label(work / recipe / str(n), work / "lexicon.txt", recipe)
                results.setdefault(recipe, {})[str(n)] = found
                print(
                    f"{recipe:<9} {n:>9,} tracks  " + "  ".join(f"{k} {v:,.1f}" for k, v in found.items()), flush=True
                )
    for recipe in recipes:
        if len(sizes) > 1:
            first, last = (results[recipe][str(n)]["cpu_s"] for n in (sizes[0], sizes[-1]))
            results[recipe]["cpu_ratio"] = last / first
            print(f"{recipe:<9} {sizes[-1] / sizes[0]:g} times the tracks: {last / first:.2f} times the CPU")
    common.save(arguments.json, results)


if __name__ == "__main__":
    main()
