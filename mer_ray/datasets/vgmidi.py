"""VGMIDI (Ferreira and Whitehead, ISMIR 2019): piano arrangements of video games' music as MIDI, with V and A in -1..1.

The copy is the repository lucasnfe/vgmidi, with the raters' annotations ``labelled/annotations/vgmidi_raw_1.json`` and
``_2.json``. It has MIDI files, no audio: render each with a synthesizer to a file of its name (NAME.mid → NAME.wav),
in any folder of the copy. A label is the plain mean over raters and time of a piece, its error from the spread of the
raters' means; the authors instead take the largest cluster of raters, and signs for phrases. As they do, raters whose
curve has another length than most are left out. Labels over time are not used: how they lie on the audio could not be
verified.
"""

from __future__ import annotations

import json
import math
import statistics
from collections import Counter, defaultdict
from pathlib import PurePosixPath
from typing import Any

from mer_ray.datasets.base import Contents, DataSet, Item
from mer_ray.datasets.copied import Folder
from mer_ray.errors import InputError
from mer_ray.io.identity import one_line


class VgMidi(DataSet):
    """See the module."""

    name = "vgmidi"
    title = "VGMIDI, video games' music with valence and arousal"
    n_tracks = 200
    labels = "valence and arousal over a piece in -1..1, here its mean; 30 raters a piece, whose spread gives the error"
    citation = "Ferreira, L. N., & Whitehead, J. (2019). Learning to generate music with sentiment. ISMIR 2019"
    licence = "none is stated; arrangements of commercial games' music"
    where = "https://github.com/lucasnfe/vgmidi"
    protocol = "no split of pieces; series stand as artists, so that no series is in training and test"
    scale = (-1.0, 1.0)

    def read(self, folder: Folder) -> Contents:
        """See `DataSet`."""
        items = []
        for part in (1, 2):
            file = folder.need(f"annotations/vgmidi_raw_{part}.json")
            folder.read.append(file)
            try:
                found = json.loads(file.read_text(encoding="utf-8"))
                pieces: dict[str, Any] = found["pieces"]
                raters = _by_piece(found["annotations"])
                items += [
                    self._item(folder, part, key, pieces[key], raters[key]) for key in sorted(raters) if key in pieces
                ]
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise InputError(
                    f"{file} is not as VGMIDI's annotations are ({type(error).__name__}: {one_line(str(error), 80)})",
                    folder.advice,
                ) from error
        items.sort(key=lambda item: (len(item.track_id), item.track_id))
        return Contents(
            items, notes=["a file of audio is looked for beside or away from each MIDI file, under its name"]
        )

    def _item(self, folder: Folder, part: int, key: str, piece: dict[str, Any], raters: list[dict[str, Any]]) -> Item:
        midi = PurePosixPath(str(piece["midi"])).name
        series, _, game, *_ = [*PurePosixPath(midi).stem.split("_"), "", "", ""]
        values, errors = {}, {}
        for dimension in self.dimensions:
            values[dimension], errors[dimension] = _mean_and_error([r[dimension] for r in raters])
        return Item(
            f"{self.name}-{part}-{key}",
            folder.audio(PurePosixPath(midi).stem),
            one_line(series),
            one_line(str(piece["name"])),
            one_line(game),
            values=values,
            errors={d: e for d, e in errors.items() if math.isfinite(e)},
        )


def _by_piece(annotations: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for key, annotation in annotations.items():
        found[key.rpartition("_")[0]].append(annotation)
    return found


def _mean_and_error(curves: list[list[float]]) -> tuple[float, float]:
    """The mean over raters of their means over time, and its standard error (NaN for one rater)."""
    usual = Counter(map(len, curves)).most_common(1)[0][0]
    means = [statistics.fmean(curve) for curve in curves if len(curve) == usual]
    error = statistics.stdev(means) / math.sqrt(len(means)) if len(means) > 1 else math.nan
    return statistics.fmean(means), error


DATASET = VgMidi()
