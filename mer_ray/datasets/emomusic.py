"""emoMusic, the 1000 songs database of MediaEval 2013 (Soleymani et al., CrowdMM 2013), without its repeated songs.

The copy holds ``songs_info.csv``, ``static_annotations.csv``, ``valence_cont_average.csv`` and
``arousal_cont_average.csv`` in one folder, and the excerpts in ``clips_45seconds/`` (in some copies ``clips_45sec/``),
as the archives annotations.tar.gz and clips_45sec.tar.gz unpack. These songs are in DEAM, too, under the same ids.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from typing import ClassVar

from mer_ray.datasets.base import Contents, DataSet, Item, standard_error
from mer_ray.datasets.copied import Folder
from mer_ray.datasets.deam import curves_by_row

_RATERS = 10
_SAMPLE = re.compile(r"sample_(\d+)ms")
_SET = "mediaeval 2013 set"
_VALID_OF_TEN = (8, 9)


class EmoMusic(DataSet):
    """See the module."""

    name = "emomusic"
    title = "emoMusic, 1000 songs for emotional analysis of music"
    n_tracks = 744
    labels = (
        "valence and arousal of a 45 s excerpt on nine points, and twice a second from 15 s on; means of at least"
        " 10 raters, with their SD"
    )
    citation = (
        "Soleymani, M., Caro, M. N., Schmidt, E. M., Sha, C.-Y., & Yang, Y.-H. (2013). 1000 songs for emotional "
        "analysis of music. CrowdMM '13, 1-6. https://doi.org/10.1145/2506364.2506365"
    )
    licence = "annotations for research (a copy of MARBLE's authors says CC BY-NC 4.0); audio under Creative Commons"
    where = "https://cvml.unige.ch/databases/emoMusic/"
    protocol = (
        "MediaEval 2013: test on its evaluation set (125 songs). MARBLE and jukemir validate on 115 songs of the "
        "development set, chosen by artist, and train on 504: so does the column split here"
    )
    curve_scale = (-1.0, 1.0)
    archives: ClassVar[Mapping[str, str]] = {
        "annotations.tar.gz": "sha256:e0cb0b06e1b0ce7f04b1572fc410937699b7fad9dae67ddaa745f06cda4b0b33",
        "clips_45sec.tar.gz": "sha256:3994a5d5fefc27f9540d1a69cd7f1294c68e6cb311ce49765021e2e9c7a1057b",
    }
    archives_from = "jukemir (p-lambda/jukemir, assets/emomusic.json)"

    def read(self, folder: Folder) -> Contents:
        """See `DataSet`."""
        info = folder.need("songs_info.csv")
        static = folder.beside(info, "static_annotations.csv")
        audio = folder.audio_folder("clips_45seconds", "clips_45sec", "clips")
        columns = [f"{what}_{d}" for d in self.dimensions for what in ("mean", "std")]
        labels: dict[int, dict[str, float | None]] = {}
        for n, row in folder.rows(static, "song_id", *columns, once="song_id"):
            song = folder.integer(static, n, "song_id", row["song_id"])
            labels[song] = {c: folder.number(static, n, c, row[c]) for c in columns}
        items = []
        for n, row in folder.rows(info, "song_id", "artist", "song title", _SET, once="song_id"):
            song = folder.integer(info, n, "song_id", row["song_id"])
            found = labels.get(song, {})
            values = {d: v for d in self.dimensions if (v := found.get(f"mean_{d}")) is not None}
            errors = {d: standard_error(v, _RATERS) for d in values if (v := found.get(f"std_{d}")) is not None}
            items.append(
                Item(
                    f"{self.name}-{song}",
                    folder.audio(str(song), audio),
                    row["artist"],
                    row["song title"],
                    values=values,
                    errors=errors,
                    split="test" if row[_SET] == "evaluation" else _part(row["artist"]),
                )
            )
        dynamic = {d: folder.beside(info, f"{d}_cont_average.csv") for d in self.dimensions}
        return Contents(items, curves_by_row(folder, self.name, dynamic, _SAMPLE))


def _part(artist: str) -> str:
    """``train``, or for two artists of ten ``valid``, by the hash of the name (jukemir, datasets/__init__.py)."""
    letters = "".join(c for c in artist.lower() if c.isascii() and (c.isalpha() or c.isspace()))
    hashed = hashlib.sha1(" ".join(letters.split()).encode(), usedforsecurity=False).hexdigest()
    return "valid" if int(hashed, 16) % 10 in _VALID_OF_TEN else "train"


DATASET = EmoMusic()
