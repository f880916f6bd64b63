"""Film soundtracks of Eerola and Vuoskoski (Psychology of Music, 2011), set 1: 360 excerpts of about 15 s.

The copy holds ``mean_ratings_set1.csv`` and ``Set1/`` with 001.mp3 to 360.mp3, from OSF (older copies have the audio
in ``Soundtrack360_mp3/``), and optionally ``set1_tracklist.csv``, whose column of albums could not be verified: one
whose name contains "album" or "soundtrack" is taken. Only means were released, no SD. Set 2 (110 excerpts) is not
read.
"""

from __future__ import annotations

from mer_ray.datasets.base import Contents, DataSet, Item
from mer_ray.datasets.copied import Folder


class Eerola(DataSet):
    """See the module."""

    name = "eerola"
    title = "Film soundtracks of Eerola and Vuoskoski, set 1"
    n_tracks = 360
    labels = "valence, energy, tension and five emotions on nine points; means of a small panel of experts, without SD"
    citation = (
        "Eerola, T., & Vuoskoski, J. K. (2011). A comparison of the discrete and dimensional models of emotion in"
        " music. Psychology of Music 39(1), 18-49. https://doi.org/10.1177/0305735610362821"
    )
    licence = "OSF says CC BY 4.0; the audio is of commercial soundtracks, shared for academic research"
    where = "https://osf.io/p6vkg/"
    protocol = "no split of its own: cross-validation"
    dimensions = ("valence", "energy", "tension", "anger", "fear", "happy", "sad", "tender")

    def read(self, folder: Folder) -> Contents:
        """See `DataSet`."""
        file = folder.need("mean_ratings_set1.csv")
        audio = folder.audio_folder("Set1", "Soundtrack360_mp3")
        albums, notes = _albums(folder)
        items = []
        for n, row in folder.rows(file, "number", *self.dimensions, once="number"):
            number = folder.integer(file, n, "number", row["number"])
            found = {d: folder.number(file, n, d, row[d]) for d in self.dimensions}
            items.append(
                Item(
                    f"{self.name}-{number:03d}",
                    folder.audio(f"{number:03d}", audio),
                    title=f"Excerpt {number:03d}",
                    album=albums.get(number, ""),
                    values={d: v for d, v in found.items() if v is not None},
                )
            )
        return Contents(items, notes=notes)


def _albums(folder: Folder) -> tuple[dict[int, str], list[str]]:
    """The soundtrack of each excerpt, as far as there is a track list."""
    file = folder.find("set1_tracklist.csv")
    albums = {}
    for _, row in folder.rows(file, loose=True) if file else ():
        number = row.get("nro", row.get("number", ""))
        album = next((row[c] for c in row if "album" in c or "soundtrack" in c), "")
        if number.isdecimal() and album:
            albums[int(number)] = album
    lacking = "no set1_tracklist.csv with albums: excerpts of one soundtrack can stand in training and test"
    return albums, [] if albums else [lacking]


DATASET = Eerola()
