"""How well two sets of labels from tags can be predicted at all: `mer_ray.evaluation.ceiling`.

    python benchmarks/ceiling.py [--lastfm ../shared/data/lastfm_tags] [--panda ../shared/data/panda4q]

The songs of lastfm_tags have Last.fm's counts, and a lexicon of 27 words comes with them. The clips of panda4q have
AllMusic's moods and the mean of their NRC VAD scores, but not the scores: these are solved for by least squares, from
472 means of 3 to 30 words each. `UNKNOWN` are words whose removal makes the system exact (found greedily, until no
removal lowered the sum of residuals): the lexicon cannot know them, or their clips' labels would not fit.
"""

from __future__ import annotations

import argparse
import csv
import json
from pathlib import Path

import numpy as np

from mer_ray.evaluation.ceiling import Evidence, ceiling
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.labels import lexicon

UNKNOWN = (
    "acerbic amiable angst-ridden autumnal brassy campy confrontational druggy effervescent exuberant flowing "
    "freewheeling hedonistic knotty literate marching mellow nihilistic pastoral pulsing rambunctious self-conscious "
    "springlike street-smart striding sugary summery swaggering thuggish trippy unsettling visceral"
)
R2 = np.array([0.468, 0.605, 0.436])
"""V, A, D on panda4q, out of fold: musicnn, log-mel, rhythm and tonal, an exact kernel."""


def evidence(tags: list[list[tuple[str, float]]], scores: dict[str, np.ndarray]) -> Evidence:
    """Of each track's tags that have a score."""
    known = [[(t, w) for t, w in own if t in scores and w > 0] for own in tags]
    code = {t: i for i, t in enumerate(scores)}
    flat = [pair for own in known for pair in own]
    return Evidence(
        np.array([code[t] for t, _ in flat]),
        np.array([scores[t] for t, _ in flat]),
        np.array([w for _, w in flat], float),
        np.array([len(own) for own in known]),
    )


def solved(tags: list[list[tuple[str, float]]], labels: np.ndarray) -> dict[str, np.ndarray]:
    """Each tag's V, A, D from the labels (N, 3), which are means over the tags."""
    names = sorted({t for own in tags for t, _ in own} - set(UNKNOWN.split()))
    counts = np.array([[any(t == name for t, _ in own) for name in names] for own in tags], float)
    means = counts / counts.sum(axis=1, keepdims=True)
    scores, *_ = np.linalg.lstsq(means, labels, rcond=None)
    residual = means @ scores - labels
    print(
        f"{len(names)} words, rank {np.linalg.matrix_rank(means)}; residuals: RMS {np.sqrt(np.mean(residual**2)):.6f}"
    )
    return dict(zip(names, scores, strict=True))


def show(name: str, found: Evidence, artists: list[str]) -> np.ndarray:
    """Print one row of the table. Returns the ceiling."""
    made = ceiling(found, artists)
    if made is None:
        raise SystemExit(f"{name}: too few tags")
    figures = [
        f"{r:.3f} → {c:.3f} [{low:.3f}, {high:.3f}]"
        for r, c, (low, high) in zip(made.halves, made.reliability, made.interval, strict=True)
    ]
    counts = f"{made.n_labels:,} | {made.n:,} | {made.factor:.2f} | {made.chance:.2f}"
    print(f"| {name} | {counts} | {' | '.join(figures)} |")
    return made.reliability


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--lastfm", type=Path, default=Path("../shared/data/lastfm_tags"))
    parser.add_argument("--panda", type=Path, default=Path("../shared/data/panda4q"))
    chosen = parser.parse_args()
    songs = [json.loads(line) for line in (chosen.lastfm / "tracks.jsonl").read_text().splitlines()]
    words = lexicon.load(chosen.lastfm / "nrc-vad-excerpt.txt").terms
    weighted = [[(str(t), float(w)) for t, w in song["tags"]] for song in songs]
    scores = {t: np.array(words[t]) for own in weighted for t, _ in own if t in words}
    with (chosen.panda / "manifest.csv").open() as file:
        clips = list(csv.DictReader(file))
    moods = [[(t.strip(), 1.0) for t in clip["tags"].split(";")] for clip in clips]
    labels = np.array([[float(clip[d]) for d in DIMENSIONS] for clip in clips])
    solution = solved(moods, labels)
    print("| labels | from tags | two or more | k | chance | V: r between halves → ceiling of R² | A | D |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
    show("lastfm_tags, weighted", evidence(weighted, scores), [song["artist"] for song in songs])
    equal = [[(t, 1.0) for t, _ in own] for own in weighted]
    show("lastfm_tags, weights of 1", evidence(equal, scores), [song["artist"] for song in songs])
    top = show("panda4q", evidence(moods, solution), [clip["artist"] for clip in clips])
    print(f"R² {R2} on panda4q is {np.round(100 * R2 / top)} % of its ceiling")


if __name__ == "__main__":
    main()
