"""The report's section on leakage: what a split that ignores artists would have added, and tracks that are one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mer_ray.errors import WorkspaceError
from mer_ray.evaluation.escape import markdown_text
from mer_ray.evaluation.metric_tables import Cells, display, lines
from mer_ray.io.schemas import DIMENSIONS

LISTED = 20
_PER_DIMENSION = ("grouped_r2", "random_r2", "leak", "leak_lower", "leak_upper")


def check(value: Any, path: str) -> dict[str, Any]:
    """A feature's leakage report as it was read. Raises WorkspaceError naming the file and the key."""
    wanted = {*_PER_DIMENSION, "feature", "duplicates", "n_duplicates_across_artists"}
    missing = wanted - set(value) if isinstance(value, dict) else wanted
    short = [] if missing else [k for k in _PER_DIMENSION if len(value[k]) != len(_dimensions(value))]
    if missing or short:
        keys = ", ".join(sorted(missing or short))
        raise WorkspaceError(f"{path} is no leakage report ({keys})", "remove it and run `mer-ray train` again")
    return dict(value)


def _dimensions(report: Mapping[str, Any]) -> Sequence[str]:
    """Reports of earlier versions are of V, A and D, and name no dimensions."""
    return list(report.get("dimensions", DIMENSIONS))


def leakage_markdown(reports: Sequence[Mapping[str, Any]], names: Mapping[str, tuple[str, str]]) -> str:
    """A section: reports as in ``baselines/FEATURE.json``; names: track_id → (artist, title). "" without reports."""
    if not reports:
        return ""
    rows: Cells = []
    for report in reports:
        for i, dimension in enumerate(_dimensions(report)):
            grouped, random, leak, lower, upper = (report[k][i] for k in _PER_DIMENSION)
            word = "inflated" if lower > 0 else "not distinguishable: includes 0" if upper >= 0 else "lower"
            texts = [display(report["feature"]), dimension, f"{random:.3f}", f"{grouped:.3f}"]
            rows.append([(t, False) for t in (*texts, f"{leak:+.3f}", f"[{lower:+.3f}, {upper:+.3f}]", word)])
    heads = ["Feature", "Dimension", "R², random folds", "R², grouped folds", "Leak", "95 % interval", "Random folds"]
    about = "The SVR on mean and SD of each feature, in folds that ignore groups and in those of this report."
    section = ["## Leakage", "", about, "", *lines(heads, rows, last_is_text=True)]
    for report in reports:
        section += _duplicates(report, names)
    return "\n".join(section)


def _duplicates(report: Mapping[str, Any], names: Mapping[str, tuple[str, str]]) -> list[str]:
    pairs, across = report["duplicates"], report["n_duplicates_across_artists"]
    noun = "pair" if len(pairs) == 1 else "pairs"
    head = f"Near-duplicates by {markdown_text(display(report['feature']))}: {len(pairs):,} {noun}"
    if not pairs:
        return ["", f"{head}."]

    def title_of(track: str) -> str:
        artist, title = names.get(track, ("", track))
        return f"{artist} – {title}" if artist else title

    def rank(pair: Mapping[str, Any]) -> tuple[bool, float]:
        return bool(pair["same_artist"]), -pair["similarity"]

    first = f"the first {LISTED} are listed, those across artists first; " if len(pairs) > LISTED else ""
    rows = [
        [(text, False) for text in (title_of(p["a"]), title_of(p["b"]), f"{p['similarity']:.3f}", artist)]
        for p in sorted(pairs, key=rank)[:LISTED]
        for artist in ["same" if p["same_artist"] else "another"]
    ]
    table = lines(["One", "The other", "Similarity", "Artist"], rows, last_is_text=True)
    summary = f"{head}, {across:,} of them across artists; {first}each pair stays on one side of a split."
    return ["", summary, "", *table]
