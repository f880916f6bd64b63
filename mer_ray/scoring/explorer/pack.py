"""Encodes a table of scores for the page: JSON with packed numbers, and curves that are decoded when they are shown."""

from __future__ import annotations

import base64
import itertools
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pyarrow as pa

from mer_ray.io.address import is_local, to_path
from mer_ray.io.identity import normalise, one_line
from mer_ray.io.schemas import DIMENSIONS, dimensions_of
from mer_ray.scoring.measures.pitches import KEYS, MODES
from mer_ray.scoring.scores_table import ENDS, heading, short_headings
from mer_ray.scoring.standing import ANGLES, FEWEST, WORDS

CURVE_POINTS, WAVEFORM_POINTS = 120, 200
"""Points of a track at most: as many as a screen shows."""
CURVE_BYTES = 24_000_000
"""Of all curves and waveforms: those of a large catalog are coarser, so that its page still opens in seconds."""
NUMBERS = {"tempo": "<f4", "loudness": "<f4", "true_peak": "<f4", "tempo_confidence": "u1", "key_confidence": "u1"}
"""Measured columns of `io.schemas.MEASURES` and how the page stores them; those of u1 are 0..1."""
HUES = 8
"""Colours of dimensions that the page's style has; the first three are those of valence, arousal and dominance."""
UNKNOWN = {np.dtype("u1"): 255, np.dtype("<u2"): 65_535}
"""The code for null; the codes below it are 0..1 in equal steps."""


def script_json(value: Any) -> str:
    """JSON that is safe in a ``<script>`` element: nothing in it can end the element or begin a comment."""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def quantise(values: np.ndarray, kind: str) -> np.ndarray:
    """0..1 (clipped; NaN: unknown) as integers of ``kind``; the error is at most 0.002 (u1) or 0.000008 (<u2)."""
    unknown = UNKNOWN[np.dtype(kind)]
    scaled = np.rint(np.clip(values, 0, 1) * (unknown - 1))
    codes: np.ndarray = np.where(np.isnan(scaled), unknown, scaled).astype(kind)
    return codes


def averaged(curve: np.ndarray, points: int) -> np.ndarray:
    """(n, d) as at most ``points`` means over equal stretches, which keep the curve's mean."""
    n = len(curve)
    if n <= points:
        return curve
    sums = np.concatenate([np.zeros((1, curve.shape[1])), np.cumsum(curve, axis=0, dtype=np.float64)])
    at = np.linspace(0, n, points + 1)
    whole = np.minimum(at.astype(int), n - 1)
    sums_at = sums[whole] + (at - whole)[:, None] * curve[whole]
    means: np.ndarray = np.diff(sums_at, axis=0) * (points / n)
    return means


def peaks(waveform: np.ndarray, points: int) -> np.ndarray:
    """(n,) as at most ``points`` maxima over stretches whose lengths differ by at most one."""
    n = len(waveform)
    if n <= points:
        return waveform
    highest: np.ndarray = np.maximum.reduceat(waveform, np.arange(points) * n // points)
    return highest


def detail(n: int, n_dimensions: int) -> tuple[int, int]:
    """Points of a curve and of a waveform at most, in a page of n tracks: both in equal proportion (`CURVE_BYTES`)."""
    share = min(1.0, CURVE_BYTES / max(1, n * (CURVE_POINTS * n_dimensions + WAVEFORM_POINTS)))
    return max(8, int(CURVE_POINTS * share)), max(16, int(WAVEFORM_POINTS * share))


def packed_curves(table: pa.Table) -> tuple[str, dict[str, np.ndarray]]:
    """The curves and waveforms as one base64 text, and the position of each track's piece in it.

    A piece holds curve points (the dimensions in turn) and then waveform points, one byte each. It fills whole groups
    of three bytes, four characters of the text, so that each track can be decoded alone.
    Arrays, of shape (N,): ``start`` of the piece in groups (N + 1 of them), ``n_curve``, ``n_waveform`` points,
    ``curve_hop_s`` between the points.
    """
    pieces: list[bytes] = []
    start, n_curve, n_waveform, hop = [0], [], [], []
    hops, n_dimensions = table["curve_hop_s"].to_pylist(), len(dimensions_of(table.schema, "scores"))
    most, most_wave = detail(table.num_rows, n_dimensions)
    for row, (curve, waveform) in enumerate(zip(table["curve"], table["waveform"], strict=True)):
        points = _matrix(curve, n_dimensions)
        short = averaged(points, most)
        wave = waveform.values.to_numpy(zero_copy_only=False) if waveform.is_valid else np.zeros(0, "u1")
        wave = peaks(wave, most_wave)
        piece = quantise(short, "u1").tobytes() + np.asarray(wave, "u1").tobytes()
        piece += bytes(-len(piece) % 3)
        pieces.append(piece)
        start.append(start[-1] + len(piece) // 3)
        n_curve.append(len(short))
        n_waveform.append(len(wave))
        hop.append((hops[row] or 1.0) * len(points) / max(1, len(short)))
    return base64.b64encode(b"".join(pieces)).decode(), {
        "start": np.array(start, "<u4"),
        "n_curve": np.array(n_curve, "u1"),
        "n_waveform": np.array(n_waveform, "u1"),
        "curve_hop_s": np.array(hop, "<f4"),
    }


def _matrix(curve: pa.Scalar, n_dimensions: int) -> np.ndarray:
    if not curve.is_valid or not len(curve.values):
        return np.zeros((0, n_dimensions))
    flat: np.ndarray = curve.values.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(-1, n_dimensions)


def _described(dimensions: Sequence[str]) -> list[dict[str, Any]]:
    """Of each dimension: its key in the arrays, name, heading in the list, and number of its colour."""
    own = {d: hue for hue, d in enumerate(DIMENSIONS) if d in dimensions}
    others = itertools.cycle(hue for hue in (*range(len(DIMENSIONS), HUES), 0, 1, 2) if hue not in own.values())
    hues = [own[d] if d in own else next(others) for d in dimensions]
    texts = zip(dimensions, map(heading, dimensions), short_headings(dimensions), hues, strict=True)
    return [{"key": d, "name": name, "short": short, "hue": hue} for d, name, short, hue in texts]


def links(uris: Sequence[str], folder: Path) -> list[str]:
    """Each local file as a link from a page in that folder, percent-encoded; "" for what is not a local file.

    The links are relative, so that page and music can be moved together; to another drive, the link is a URI.
    """
    out = []
    for uri in uris:
        path = to_path(uri).expanduser() if uri and is_local(uri) else None
        try:
            # Not resolved: a browser applies ".." to the page's address without following symbolic links.
            out.append("" if path is None else quote(os.fsencode(Path(os.path.relpath(path, folder)).as_posix())))
        except ValueError:
            out.append(Path(path or "").absolute().as_uri())
    return out


def packed(table: pa.Table, similar: np.ndarray, name: str, folder: Path) -> tuple[dict[str, Any], str]:
    """N scores, with `standing`, for the page: (JSON value, base64 text of the curves).

    similar: (N, k) similar rows, -1 where there are fewer. folder: of the page.
    """
    text = {c: [one_line(t or "", 300) for t in table[c].to_pylist()] for c in ("artist", "title", "album")}
    uris = [uri or "" for uri in table["uri"].to_pylist()]
    for row, title in enumerate(text["title"]):
        text["title"][row] = title or one_line(to_path(uris[row]).name, 300)
    files = links(uris, folder)
    curves, arrays = packed_curves(table)
    dimensions = dimensions_of(table.schema, "scores")
    # What is filtered and compared is kept to 8 digits, so that the page chooses what conditions on the table do.
    half = np.zeros(table.num_rows)
    for d in dimensions:
        ends = {end: _numbers(table, f"{end}{d}") for end in ENDS}
        arrays[d] = ends[""].astype("<f4")
        arrays[f"{d}_percentile"] = (_numbers(table, f"{d}_percentile") / 100).astype("<f4")
        for end in ("lower_", "upper_"):
            arrays[f"{end}{d}"] = quantise(ends[end], "<u2")
        half += (ends["upper_"] - ends["lower_"]) / (2 * len(dimensions))
    arrays["width"] = half.astype("<f4")
    moods = table["mood"].to_pylist() if "mood" in table.column_names else []
    codes = {word: code for code, word in enumerate(WORDS)} if moods else {}
    arrays["mood"] = np.array([codes.get(word, len(codes)) for word in moods or [None] * table.num_rows], "u1")
    known = table["in_distribution"].to_pylist()
    arrays["in_distribution"] = np.array([2 if k is None else int(k) for k in known], "u1")
    arrays["novelty"] = _numbers(table, "novelty").astype("<f4")
    arrays["duration_s"] = np.nan_to_num(_numbers(table, "duration_s")).astype("<f4")
    arrays |= _measured(table)
    arrays["artist_key"] = artists(text["artist"])
    arrays["similar"] = np.asarray(similar, "<i4").reshape(-1)
    arrays["by_title"] = _ranks(list(zip(text["title"], text["artist"], strict=True)))
    arrays["by_artist"] = _ranks(list(zip(text["artist"], text["title"], strict=True)))
    models = sorted({one_line(m) for m in table["model"].to_pylist() if m})
    value = {
        "name": one_line(name),
        "models": models,
        "dimensions": _described(dimensions),
        "moods": list(codes),
        "angles": ANGLES,
        "fewest": FEWEST,
        "keys": KEYS,
        "modes": MODES,
        "n": table.num_rows,
        "n_similar": similar.shape[1] if similar.ndim == 2 else 0,
        **text,
        "files": files,
        "remote": {row: one_line(uri, 2_000) for row, uri in enumerate(uris) if uri and not files[row]},
        "arrays": {key: [a.dtype.str, base64.b64encode(a.tobytes()).decode()] for key, a in arrays.items()},
    }
    return value, curves


def _measured(table: pa.Table) -> dict[str, np.ndarray]:
    """Arrays of the measured columns that hold a value. A key is its place in `KEYS`, and so a mode; unknown is 255."""
    found = {}
    for name, kind in NUMBERS.items():
        values = _numbers(table, name) if name in table.column_names else np.zeros(0)
        values = np.where(np.isfinite(values), values, np.nan)
        if not np.isnan(values).all():
            found[name] = quantise(values, kind) if kind == "u1" else values.astype(kind)
    for name, words in (("key", KEYS), ("mode", MODES)):
        codes = {word: code for code, word in enumerate(words)}
        texts = table[name].to_pylist() if name in table.column_names else []
        values = np.array([codes.get(text, 255) for text in texts], "u1")
        if (values != 255).any():
            found[name] = values
    return found


def artists(names: Sequence[str]) -> np.ndarray:
    """A number for each artist, however it is spelled; (N,). A track without one is by nobody else."""
    numbers: dict[str | int, int] = {}
    keys = (normalise(name) or row for row, name in enumerate(names))
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], "<u4")


def _numbers(table: pa.Table, name: str) -> np.ndarray:
    """A column as (N,) float64, null as NaN."""
    return np.asarray(table[name].to_numpy(), dtype=np.float64)


def _ranks(keys: Sequence[tuple[str, str]]) -> np.ndarray:
    """Each key's rank in alphabetical order, not by code points; (N,). Empty keys come last."""
    folded = [[(not part, normalise(part)) for part in key] for key in keys]
    ranks = np.empty(len(keys), "<u4")
    ranks[sorted(range(len(keys)), key=folded.__getitem__)] = np.arange(len(keys))
    return ranks
