"""Out-of-fold predictions of excerpts: how much more a model errs when it hears less.

Frames are cut, not audio, so a frame that describes seconds (rhythm, tonal, musicnn) has heard more than its excerpt:
on cut audio the mean squared error is a little larger (log-mel + rhythm + tonal, 236 clips, 2 s: 7 to 13 %; 5 s: 4 to
6 %).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mer_ray.features.joined import Frames, span
from mer_ray.models.regressor import Regressor, ensemble

SECONDS = (1.0, 2.0, 5.0, 10.0, 15.0)
MOST_TRACKS = 1_000
"""Tracks whose excerpts are predicted at most."""


def predictions(
    tracks: Sequence[Frames],
    fold: np.ndarray,
    members: Mapping[int, Sequence[Regressor]],
    hop_s: float,
    seed: int,
) -> tuple[np.ndarray, dict[float, np.ndarray], float]:
    """Predict one excerpt of each length, at a random place, of each track.

    Args:
        tracks: (N) frames.
        fold: (N,), the fold that each track is in.
        members: Fold → the models that were trained without it.
        hop_s: Seconds between (the finest) frames.
        seed: Of the places, and of the tracks where there are more than `MOST_TRACKS`.

    Returns:
        Indices (M,) of the tracks; seconds → predictions (M, D), for lengths below 3/4 of the median track;
        and that median in seconds.
    """
    rng = np.random.default_rng(seed)
    rows = np.sort(rng.permutation(len(tracks))[:MOST_TRACKS])
    median_s = float(np.median([len(tracks[i]) for i in rows]) * hop_s)
    out, n_targets = {}, len(next(iter(members.values()))[0].targets)
    for seconds in (s for s in SECONDS if s < 0.75 * median_s):
        n, values = max(1, round(seconds / hop_s)), np.empty((len(rows), n_targets))
        first = [int(rng.integers(0, max(1, len(tracks[i]) - n + 1))) for i in rows]
        pieces = [span(tracks[i], a, a + n) for i, a in zip(rows, first, strict=True)]
        for k, own in members.items():
            inside = np.flatnonzero(fold[rows] == k)
            if inside.size:
                values[inside] = [p.value for p in ensemble(own, [pieces[i] for i in inside])]
        out[seconds] = values
    return rows, out, median_s
