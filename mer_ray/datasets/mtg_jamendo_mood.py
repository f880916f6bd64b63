"""The mood/theme subset of MTG-Jamendo (Bogdanov et al., 2019), split 0, as MediaEval's tasks of 2019 to 2021 used it.

The copy is the repository MTG/mtg-jamendo-dataset, with ``data/splits/split-0/autotagging_moodtheme-PART.tsv`` and,
for names of artists and tracks, ``data/raw.meta.tsv``, and the audio below it, as its download script unpacks it
(48/948.mp3; or 48/948.low.mp3). The layout that mirdata's loader makes (``audios/``) is read as well; mirdata itself
is not needed, as its index of checksums is of the audio alone, and is downloaded.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from mer_ray.datasets.base import Contents, DataSet, Item
from mer_ray.datasets.copied import Folder
from mer_ray.errors import InputError
from mer_ray.io import delimited
from mer_ray.io.identity import one_line

_PARTS = {"train": "train", "validation": "valid", "test": "test"}
_PREFIX = "mood/theme---"
_HEADER = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]


class MtgJamendoMood(DataSet):
    """See the module."""

    name = "mtg-jamendo-mood"
    title = "MTG-Jamendo, mood and theme"
    n_tracks = 18_486
    labels = "56 tags of moods and themes, by those who uploaded the music"
    citation = (
        "Bogdanov, D., Won, M., Tovstogan, P., Porter, A., & Serra, X. (2019). The MTG-Jamendo dataset for "
        "automatic music tagging. Machine Learning for Music Discovery Workshop, ICML 2019. "
        "http://hdl.handle.net/10230/42015"
    )
    licence = "metadata CC BY-NC-SA 4.0; audio under the Creative Commons licence of each track"
    where = "https://github.com/MTG/mtg-jamendo-dataset"
    protocol = "split 0: training, validation and test have no artist in common"
    dimensions = ()
    archives: ClassVar[Mapping[str, str]] = {"data.zip": "md5:039ce10f267f6e4e9f72837c76d72b2f"}
    archives_from = "mirdata 1.0.0 (mtg_jamendo_autotagging_moodtheme)"
    needs = "--set label.lexicon=NRC-VAD-Lexicon.txt"

    def read(self, folder: Folder) -> Contents:
        """See `DataSet`."""
        names = _names(folder)
        items = []
        for part, split in _PARTS.items():
            file = folder.need(f"splits/split-0/autotagging_moodtheme-{part}.tsv")
            folder.read.append(file)
            for n, line in enumerate(delimited.lines(file, delimited.encoding(file))):
                cells = line.rstrip("\r\n").split("\t")  # a tag a cell: rows are longer than the header
                if n == 0 and cells != _HEADER:
                    raise InputError(f"{file}: its first row must be {' '.join(_HEADER)}", folder.advice)
                if n == 0 or not line.strip():
                    continue
                if len(cells) < len(_HEADER) or not all(tag.startswith(_PREFIX) for tag in cells[5:] if tag):
                    raise InputError(
                        f"{file}, row {n}: is no row of {' '.join(_HEADER)}, with tags {_PREFIX}...", folder.advice
                    )
                track, artist, album, path, duration, *tags = map(one_line, cells)
                title, artist_name, album_name = names.get(track, ("", artist, album))
                items.append(
                    Item(
                        track,
                        folder.audio(path.removesuffix(".mp3")),
                        artist_name or artist,
                        title,
                        album_name,
                        tags=[tag.removeprefix(_PREFIX) for tag in tags if tag],
                        split=split,
                        more={"duration_s": duration},
                    )
                )
        items.sort(key=lambda item: item.track_id)
        return Contents(items)


def _names(folder: Folder) -> dict[str, tuple[str, str, str]]:
    """Title, artist and album by track, as far as there is a table of them. Its quotation marks are characters."""
    file = folder.find("raw.meta.tsv")
    found = {}
    for line in delimited.lines(file, delimited.encoding(file)) if file else ():
        cells = [one_line(cell) for cell in line.rstrip("\r\n").split("\t")]
        if len(cells) == 9 and not cells[4]:  # two rows of the release have an empty cell before the artist
            del cells[4]
        if len(cells) == 8 and cells[0] != _HEADER[0]:
            found[cells[0]] = (cells[3], cells[4], cells[5])
    return found


DATASET = MtgJamendoMood()
