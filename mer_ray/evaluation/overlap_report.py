"""What given splits have on both sides, in words: artists, groups and near-duplicates; and R² without them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mer_ray.evaluation.comparison import Run
from mer_ray.evaluation.metric_tables import Cells, display, heading, lines, with_ends
from mer_ray.evaluation.protocol import TEST

SIDES = {TEST: ("test tracks", "training tracks"), "": ("tracks", "tracks of other folds")}


def warning(counts: Mapping[str, int], protocol: str) -> list[str]:
    """A sentence, or none where nothing is on both sides. counts: ``tested``, ``artist``, ``duplicate``, ``group``."""
    n, artist, duplicate, group = (counts[k] for k in ("tested", "artist", "duplicate", "group"))
    if not (artist or duplicate or group):
        return []
    these, those = SIDES.get(protocol, SIDES[""])
    return [
        f"the given split has the same artists or music on both sides: of {n:,} {these}, {artist:,} are by an artist "
        f"of {those}, {group:,} share an artist, album, composer or recording with one, and {duplicate:,} are a "
        "near-duplicate of one; so figures are too good for new artists"
    ]


def remarks(runs: Sequence[Run], protocol: str) -> list[str]:
    """The warnings of models of given splits, each once."""
    said = [text for r in runs if r.described for text in warning(r.described["details"]["overlap"], protocol)]
    return [f"{text[0].upper()}{text[1:]}." for text in dict.fromkeys(said)]


def markdown(runs: Sequence[Run], protocol: str) -> str:
    """A section with the warnings, and R² on the tracks that have nothing in common; "" where nothing overlaps."""
    overlaps = [(r, r.described["details"]["overlap"]) for r in runs if r.described]
    sentences = remarks(runs, protocol)
    if not sentences:
        return ""
    names = list(dict.fromkeys(d for r, found in overlaps for d in r.predictions.dimensions if d in found["metrics"]))
    rows: Cells = []
    for run, found in overlaps:
        own = [found["metrics"].get(name) for name in names]
        figures = [with_ends("r2", m["r2"], m["intervals"]["r2"]) if m else "–" for m in own]
        texts = [display(run.network), display(run.feature), f"{found['apart']:,}", *figures]
        rows.append([(text, False) for text in texts])
    about = "R² on the tracks that have nothing in common with those that the model was trained on:"
    heads = ["Network", "Feature", "Tracks", *(f"{heading(name)}, R²" for name in names)]
    return "\n".join(["## On both sides of the split", "", *sentences, "", about, "", *lines(heads, rows)])
