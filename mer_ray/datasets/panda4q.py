"""The 4-quadrant set of Panda, Malheiro and Paiva (IEEE TAFFC 2018): 900 clips of 30 s with AllMusic's mood tags.

The copy holds ``panda_dataset_taffc_metadata.csv`` and the clips in ``Q1/`` to ``Q4/``, as the authors' archive
unpacks. Its labels are mood tags and a quadrant; valence, arousal and dominance follow from the tags and a lexicon.
"""

from __future__ import annotations

from mer_ray.datasets.base import Contents, DataSet, Item
from mer_ray.datasets.copied import Folder
from mer_ray.errors import InputError

_QUADRANTS = ("Q1", "Q2", "Q3", "Q4")


class Panda4Q(DataSet):
    """See the module."""

    name = "panda4q"
    title = "The 4-quadrant audio emotion set of Panda, Malheiro and Paiva"
    n_tracks = 900
    labels = "AllMusic's mood tags, by its editors, and Russell's quadrant that follows from them"
    citation = (
        "Panda, R., Malheiro, R., & Paiva, R. P. (2018). Novel audio features for music emotion recognition. IEEE "
        "Transactions on Affective Computing"
    )
    licence = "none is stated; clips of commercial music, for research"
    where = "http://mir.dei.uc.pt/downloads.html"
    protocol = (
        "10-fold cross-validation, repeated 20 times, of four classes; here, of the labels that follow from the tags"
    )
    dimensions = ()
    needs = "--set label.lexicon=NRC-VAD-Lexicon.txt"

    def read(self, folder: Folder) -> Contents:
        """See `DataSet`."""
        file = folder.need("panda_dataset_taffc_metadata.csv")
        items = []
        for n, row in folder.rows(file, "song", "artist", "title", "quadrant", "moodsstrsplit", once="song"):
            if row["quadrant"] not in _QUADRANTS:
                raise InputError(
                    f"{file}, row {n}: quadrant must be Q1 to Q4, got {row['quadrant'][:20]!r}", folder.advice
                )
            items.append(
                Item(
                    row["song"],
                    folder.audio(f"{row['quadrant']}/{row['song']}"),
                    row["artist"],
                    row["title"],
                    tags=[tag for part in row["moodsstrsplit"].split(";") if (tag := part.strip())],
                    more={"quadrant": row["quadrant"]},
                )
            )
        return Contents(items)


DATASET = Panda4Q()
