"""MuSe, the Musical Sentiment Dataset (Akiki and Burghardt, JOHD 2021): labels from Last.fm tags, without audio.

The copy holds ``muse_v3.csv`` (or muse_v2.csv, muse_v1.csv), from Kaggle. Valence, arousal and dominance are means of
the ratings of Warriner et al. (1 to 9) over a song's emotion tags, which are not in the release; ``seeds``, the
AllMusic moods under which it was found, become its tags here. The names of its columns follow public code that reads
it.
"""

from __future__ import annotations

import re

from mer_ray.datasets.base import Contents, DataSet, Item
from mer_ray.datasets.copied import Folder

_WORD = re.compile(r"""(['"])(.*?)\1""")


class MuSe(DataSet):
    """See the module."""

    name = "muse"
    title = "MuSe, the Musical Sentiment Dataset"
    n_tracks = 90_001
    labels = (
        "valence, arousal and dominance on 1..9, the means of Warriner's ratings of a song's Last.fm tags; no raters"
    )
    citation = (
        "Akiki, C., & Burghardt, M. (2021). MuSe: The Musical Sentiment Dataset. Journal of Open Humanities Data "
        "7, 10. https://doi.org/10.5334/johd.33"
    )
    licence = "see its page on Kaggle; it has no audio"
    where = "https://www.kaggle.com/datasets/cakiki/muse-the-musical-sentiment-dataset"
    protocol = "no split of its own"
    dimensions = ("valence", "arousal", "dominance")
    needs = "--set acquire.folder=YOUR-MUSIC"

    def read(self, folder: Folder) -> Contents:
        """See `DataSet`."""
        file = folder.need("muse_v3.csv", "muse_v2.csv", "muse_v1.csv")
        columns = {d: f"{d}_tags" for d in self.dimensions}
        items = []
        for n, row in folder.rows(file, "track", "artist", "seeds", *columns.values()):
            found = {d: folder.number(file, n, c, row[c]) for d, c in columns.items()}
            items.append(
                Item(
                    f"muse-{n}",
                    None,
                    row["artist"],
                    row["track"],
                    values={d: v for d, v in found.items() if v is not None},
                    tags=[word for _, word in _WORD.findall(row["seeds"])],
                    more={c: row.get(c, "") for c in ("mbid", "spotify_id")},
                )
            )
        return Contents(
            items, notes=["no audio belongs to it: acquire.folder names your music, found by artist and title"]
        )


DATASET = MuSe()
