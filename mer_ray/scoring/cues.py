"""Where in a track: its calmest and its most tense passage, as a CSV file, an edit list, or labels for Audacity.

A passage is a stretch of the curve of ``scores``, at most half of its track. Of all pairs of passages that do not
overlap, the calmest and the most tense are those whose means of valence and arousal lie farthest in the directions of
"calm" and "tense" of `standing.ANGLES`, both together. (Each by itself would often be the same: where valence and
arousal rise together, the most aroused passage is the farthest in both directions.) They compare a track with itself,
so both may be calm for the catalog: the means stand beside them.

Audacity's labels (a line each: start, end, text, with tabs between) belong to one track. So they are files of a folder:
``--cues marks.txt`` makes the folder ``marks`` with a file for each track, in the list's order.
"""

from __future__ import annotations

import io
import math
import re
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from mer_ray.errors import InputError
from mer_ray.io import cells
from mer_ray.io.address import bare, is_local, shown, to_path
from mer_ray.io.identity import one_line
from mer_ray.io.schemas import dimensions_of
from mer_ray.scoring import edl, standing
from mer_ray.scoring.scores_table import check_spares, name, pieces

WORDS = ("calm", "tense")
SECONDS = 20.0
RATE = "25"
SUFFIXES = (".csv", ".edl", ".txt")
_COLORS = {"calm": "GREEN", "tense": "RED"}  # of markers
_ABOUT = ("uri", "track_id", "artist", "title")
_UNSAFE = re.compile(r"[^\w \-]+")  # in the name of a file, on any system
_SCHEMA = pa.schema(
    [
        *((name, pa.string()) for name in (*_ABOUT, "word")),
        *((name, pa.float64()) for name in ("start_s", "end_s", "valence", "arousal")),
    ]
)


@dataclass(frozen=True)
class Cue:
    """A passage: its word, start and end in seconds, and the means in it, 0..1."""

    word: str
    start_s: float
    end_s: float
    valence: float
    arousal: float


def passages(plane: np.ndarray, hop_s: float, seconds: float = SECONDS, duration_s: float | None = None) -> list[Cue]:
    """The calmest and the most tense passage; of equal ones the first. None where the curve is empty or not finite.

    They do not overlap, but in a curve of a single point, which is both.

    Args:
        plane: (n, 2) valence and arousal; point i is at (i + 1/2) hops.
        hop_s: Seconds between two points.
        seconds: Of a passage, to a hop; at least a hop, and at most half of the track.
        duration_s: Of the track, where passages end, if the curve goes on.
    """
    if not (hop_s > 0 and math.isfinite(hop_s)) or not np.isfinite(plane).all():
        return []
    end = len(plane) * hop_s
    if duration_s is not None and 0 < duration_s < end:
        end = duration_s
        plane = plane[: math.ceil(end / hop_s - 1e-6)]  # or rounding could leave a passage of no length
    n = len(plane)
    if n == 0:
        return []
    width = max(1, min(round(seconds / hop_s), n // 2))
    sums = np.concatenate([np.zeros((1, 2)), np.cumsum(plane, axis=0, dtype=np.float64)])
    means = (sums[width:] - sums[:-width]) / width
    angles = np.radians([standing.ANGLES[word] for word in WORDS])
    calm, tense = np.round(means @ [np.cos(angles), np.sin(angles)], 9).T.tolist()
    pair = (0, 0) if n == 1 else _apart(calm, tense, width)
    out = []
    for word, i in zip(WORDS, pair, strict=True):
        valence, arousal = means[i].tolist()
        out.append(Cue(word, i * hop_s, min((i + width) * hop_s, end), valence, arousal))
    return out


def _apart(calm: list[float], tense: list[float], width: int) -> tuple[int, int]:
    """(i, j), at least ``width`` apart, with the largest calm[i] + tense[j]; more than ``width`` numbers in each."""
    found, best = (0, width), -math.inf
    i = j = 0  # of the largest calm and tense so far, ``width`` before k
    for k in range(width, len(calm)):
        i = k - width if calm[k - width] > calm[i] else i
        j = k - width if tense[k - width] > tense[j] else j
        for pair in ((i, k), (k, j)):
            if (both := calm[pair[0]] + tense[pair[1]]) > best:
                found, best = pair, both
    return found


def make(
    scores: str, chosen: pa.Table, target: Path, seconds: float = SECONDS, rate: str = RATE
) -> tuple[dict[str, bytes], int]:
    """The files to write, by their paths in the folder of ``target``, and the number of tracks without a curve.

    scores: where the curves are. chosen: rows of them, in the order of the list. rate: of an .edl. Raises InputError.
    """
    check(target)
    dimensions = dimensions_of(chosen.schema, "scores")
    if not {"valence", "arousal"} <= set(dimensions):
        raise InputError(
            "calm and tense passages follow from valence and arousal",
            f"the dimensions of these scores are: {', '.join(dimensions)}",
        )
    found = dict(_found(scores, chosen, [dimensions.index(d) for d in ("valence", "arousal")], seconds))
    tracks = [(t, found[t["track_id"]]) for t in chosen.select(_ABOUT).to_pylist() if found.get(t["track_id"])]
    if not tracks:
        raise InputError(
            f"{one_line(scores)} has no curves, in which --cues finds passages",
            "score into Parquet: `mer-ray score CATALOG --out scores.parquet`",
        )
    if target.suffix.lower() == ".csv":
        rows = [{**track, **vars(cue)} for track, cues in tracks for cue in cues]
        return {target.name: _csv(pa.Table.from_pylist(rows, schema=_SCHEMA))}, len(chosen) - len(tracks)
    if target.suffix.lower() == ".edl":
        events = [_event(track, cue) for track, cues in tracks for cue in cues]
        return {target.name: edl.edit_list(target.stem, events, rate).encode()}, len(chosen) - len(tracks)
    width = len(str(len(tracks)))
    named = ((f"{i:0{width}} {_file_name(name(t['artist'], t['title']))}", c) for i, (t, c) in enumerate(tracks, 1))
    files = {f"{target.stem}/{file.strip()}.txt": labels(cues).encode() for file, cues in named}
    return files, len(chosen) - len(tracks)


def check(target: Path) -> None:
    """Raises InputError unless passages can be written there."""
    named = one_line(str(target))
    if target.suffix.lower() not in SUFFIXES:
        kinds = ".csv, in .edl for video editors, or in .txt for Audacity's labels"
        raise InputError(f"--cues {named} must end in {kinds}", "give such a name")
    if not target.parent.is_dir():
        raise InputError(f"folder {one_line(str(target.parent))} for --cues does not exist", "make it first")
    check_spares(target, "--cues")
    folder = target.with_suffix("")
    if target.suffix.lower() == ".txt" and folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(
            f"--cues {named} makes the folder {one_line(str(folder))}, which is there already",
            "remove it, or give another name",
        )


def labels(cues: list[Cue]) -> str:
    """A track's passages as a label track for Audacity."""
    return "".join(f"{c.start_s:.6f}\t{c.end_s:.6f}\t{_note(c)}\n" for c in cues)


def _note(cue: Cue) -> str:
    return f"{cue.word} (valence {cue.valence:.2f}, arousal {cue.arousal:.2f})"


def _event(track: dict[str, str], cue: Cue) -> edl.Event:
    uri = track["uri"] or ""
    file = str(to_path(uri).expanduser().absolute()) if uri and is_local(uri) else shown(uri)
    clip = bare(file).rpartition("/")[2] if uri and not is_local(uri) else Path(file).name
    note = f"{_note(cue)} {name(track['artist'], track['title'])}"
    return edl.Event(clip or track["track_id"], file, cue.start_s, cue.end_s, _COLORS[cue.word], note)


def _found(scores: str, chosen: pa.Table, columns: list[int], seconds: float) -> Iterator[tuple[str, list[Cue]]]:
    """The passages of each chosen track by its id, a piece of the scores at a time, since curves are large."""
    ids = chosen["track_id"].combine_chunks()
    for piece in pieces(scores, ["track_id", "duration_s", "curve", "curve_hop_s"]):
        piece = piece.filter(pc.is_in(piece["track_id"], ids))
        durations, hops = piece["duration_s"].to_pylist(), piece["curve_hop_s"].to_pylist()
        for row, track in enumerate(piece["track_id"].to_pylist()):
            curve = piece["curve"][row].as_py()
            if curve and hops[row] is not None and None not in curve:
                plane = np.array(curve, np.float64)[:, columns]
                yield track, passages(plane, hops[row], seconds, durations[row])


def _csv(table: pa.Table) -> bytes:
    sink = io.BytesIO()
    pacsv.write_csv(cells.guarded(table), sink)
    return cells.encoded(sink.getvalue().decode())


def _file_name(text: str) -> str:
    """A title as a part of a file's name: letters, digits, blanks, - and _ only; at most 60 characters."""
    return re.sub(r"\s+", " ", _UNSAFE.sub(" ", unicodedata.normalize("NFC", text))).strip()[:60]
