"""DEAM, the MediaEval Database for Emotional Analysis in Music (Aljanaki, Yang, Soleymani, PLoS ONE 2017).

The copy holds ``annotations/annotations averaged per song/`` (``song_level/`` and ``dynamic (per second
annotations)/``), ``MEMD_audio/`` and, optionally, ``metadata/``, as the archives DEAM_Annotations.zip, DEAM_audio.zip
and metadata.zip unpack. Songs 1 to 1000 are from 2013, to 2000 from 2014 (45 s excerpts, at least ten raters), to 2058
from 2015 (whole songs, five raters).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from mer_ray.datasets.base import Contents, DataSet, Item, standard_error
from mer_ray.datasets.copied import Folder

_PER_SONG = "annotations averaged per song"
_SAMPLE = re.compile(r"sample_(\d+)ms")
_FIRST_OF_2015 = 2001
_COLUMNS = {  # of the metadata of 2013, 2014 and 2015
    "artist": ("artist",),
    "title": ("song title", "track", "title"),
    "album": ("album",),
}


class Deam(DataSet):
    """See the module."""

    name = "deam"
    title = "DEAM, the MediaEval Database for Emotional Analysis in Music"
    n_tracks = 1802
    labels = (
        "valence and arousal of a song on nine points, and twice a second; means of 10 raters (2015: 5), with their SD"
    )
    citation = (
        "Aljanaki, A., Yang, Y.-H., & Soleymani, M. (2017). Developing a benchmark for emotional analysis of "
        "music. PLoS ONE 12(3), e0173392. https://doi.org/10.1371/journal.pone.0173392"
    )
    licence = "annotations CC BY-NC; audio under the Creative Commons licences of its sources"
    where = "https://cvml.unige.ch/databases/DEAM/"
    protocol = (
        "MediaEval 2015: test on the 58 songs of 2015. Its development set was a choice of the other 1,744, which the "
        "release does not name: here, all of them train. Many papers split at random instead"
    )
    curve_scale = (-1.0, 1.0)

    def read(self, folder: Folder) -> Contents:
        """See `DataSet`."""
        known, notes = _metadata(folder)
        unknown = dict.fromkeys(_COLUMNS, "")
        audio = folder.audio_folder("MEMD_audio")
        items = []
        for part in ("1_2000", "2000_2058"):
            file = folder.need(f"{_PER_SONG}/song_level/static_annotations_averaged_songs_{part}.csv")
            columns = [f"{d}_{what}" for d in self.dimensions for what in ("mean", "std")]
            for n, row in folder.rows(file, "song_id", *columns, once="song_id"):
                song = folder.integer(file, n, "song_id", row["song_id"])
                raters = 10 if song < _FIRST_OF_2015 else 5
                about = known.get(song, unknown)
                found = {c: folder.number(file, n, c, row[c]) for c in columns}
                values = {d: v for d in self.dimensions if (v := found[f"{d}_mean"]) is not None}
                errors = {d: standard_error(v, raters) for d in values if (v := found[f"{d}_std"]) is not None}
                items.append(
                    Item(
                        f"{self.name}-{song}",
                        folder.audio(str(song), audio),
                        about["artist"],
                        about["title"],
                        about["album"],
                        values=values,
                        errors=errors,
                        split="train" if song < _FIRST_OF_2015 else "test",
                    )
                )
        dynamic = {d: folder.need(f"{_PER_SONG}/dynamic (per second annotations)/{d}.csv") for d in self.dimensions}
        return Contents(items, curves_by_row(folder, self.name, dynamic, _SAMPLE), notes=notes)


def curves_by_row(
    folder: Folder, name: str, files: Mapping[str, Path], sample: re.Pattern[str]
) -> list[tuple[str, float, Mapping[str, float]]]:
    """Labels over time, from tables with a row a song and a column a time.

    name: of the data set. sample: matches the names of such columns, with the milliseconds as its first group.
    """
    points: dict[tuple[int, float], dict[str, float]] = {}
    for dimension, file in files.items():
        for n, row in folder.rows(file, "song_id", once="song_id"):
            song = folder.integer(file, n, "song_id", row["song_id"])
            for column, cell in row.items():
                time = sample.fullmatch(column)
                value = folder.number(file, n, column, cell) if time else None
                if time and value is not None:
                    points.setdefault((song, int(time[1]) / 1000), {})[dimension] = value
    return [(f"{name}-{song}", time_s, points[song, time_s]) for song, time_s in sorted(points)]


def _metadata(folder: Folder) -> tuple[dict[int, dict[str, str]], list[str]]:
    """Artist, title and album of songs, as far as there is a ``metadata/``."""
    known: dict[int, dict[str, str]] = {}
    lacking = []
    for year in (2013, 2014, 2015):
        file = folder.find(f"metadata/metadata_{year}.csv", f"metadata_{year}.csv")
        if file is None:
            lacking.append(f"metadata_{year}.csv")
            continue
        for _, row in folder.rows(file, loose=True):
            song = row.get("song_id", row.get("id", ""))
            if song.isdecimal():
                known[int(song)] = {
                    field: next((row[c] for c in columns if row.get(c)), "") for field, columns in _COLUMNS.items()
                }
    notes = [f"no {', '.join(lacking)}: songs of one artist can stand in training and test"] if lacking else []
    return known, notes


DATASET = Deam()
