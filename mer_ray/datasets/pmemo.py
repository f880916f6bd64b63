"""PMEmo, popular music with emotional annotations (Zhang et al., ICMR 2018), in the layout of 2019.

The copy holds ``metadata.csv``, ``chorus/`` and ``annotations/`` with static_annotations.csv,
static_annotations_std.csv and dynamic_annotations.csv, as PMEmo2019.zip unpacks. Of its 794 choruses, 767 have
annotations. A chorus lasts 11 to 88 s; labels over time begin at 15.5 s.
"""

from __future__ import annotations

from mer_ray.datasets.base import Contents, DataSet, Item, standard_error
from mer_ray.datasets.copied import Folder
from mer_ray.errors import InputError

_RATERS = 10


class PMEmo(DataSet):
    """See the module."""

    name = "pmemo"
    title = "PMEmo, popular music with emotional annotations"
    n_tracks = 767
    labels = (
        "valence and arousal of a chorus, and twice a second from 15.5 s on, in 0..1; means of 10 or 11 raters, "
        "with their SD"
    )
    citation = (
        "Zhang, K., Zhang, H., Li, S., Yang, C., & Sun, L. (2018). The PMEmo dataset for music emotion "
        "recognition. ICMR '18, 135-142. https://doi.org/10.1145/3206025.3206037"
    )
    licence = (
        "none is stated for the data (the repository's code is MIT); the choruses are commercial music, for research"
    )
    where = "https://github.com/HuiZhangDB/PMEmo"
    protocol = "no split of its own: cross-validation, or a random split"
    scale = (0.0, 1.0)
    curve_scale = (0.0, 1.0)

    def read(self, folder: Folder) -> Contents:
        """See `DataSet`."""
        dynamic = folder.need("annotations/dynamic_annotations.csv")
        static = folder.beside(dynamic, "static_annotations.csv")
        deviations = folder.beside(dynamic, "static_annotations_std.csv")
        metadata = folder.beside(dynamic.parent, "metadata.csv")
        audio = dynamic.parent.parent / "chorus"
        means = {d: f"{d}(mean)" for d in self.dimensions}
        spreads = {d: f"{d}(std)" for d in self.dimensions}
        errors: dict[int, dict[str, float]] = {}
        for n, row in folder.rows(deviations, "musicid", *spreads.values(), once="musicid"):
            song = folder.integer(deviations, n, "musicId", row["musicid"])
            errors[song] = {
                d: standard_error(sd, _RATERS)
                for d, c in spreads.items()
                if (sd := folder.number(deviations, n, c, row[c])) is not None
            }
        known = {}
        for n, row in folder.rows(metadata, "musicid", "filename", "title", "artist", once="musicid"):
            known[folder.integer(metadata, n, "musicId", row["musicid"])] = row
        items = []
        for n, row in folder.rows(static, "musicid", *means.values(), once="musicid"):
            song = folder.integer(static, n, "musicId", row["musicid"])
            if song not in known:
                raise InputError(f"{metadata} has no song {song}, which {static.name} has", folder.advice)
            about = known[song]
            found = {d: folder.number(static, n, c, row[c]) for d, c in means.items()}
            items.append(
                Item(
                    f"{self.name}-{song}",
                    folder.audio(about["filename"].removesuffix(".mp3"), audio),
                    about["artist"],
                    about["title"],
                    about.get("album", ""),
                    values={d: v for d, v in found.items() if v is not None},
                    errors=errors.get(song, {}),
                )
            )
        curves = []
        for n, row in folder.rows(dynamic, "musicid", "frametime", *means.values()):
            song = folder.integer(dynamic, n, "musicId", row["musicid"])
            time_s = folder.number(dynamic, n, "frameTime", row["frametime"])
            point = {d: v for d, c in means.items() if (v := folder.number(dynamic, n, c, row[c])) is not None}
            if time_s is None:
                raise InputError(f"{dynamic}, row {n}: frameTime is missing", folder.advice)
            curves.append((song, time_s, point))
        curves.sort(key=lambda point: point[:2])
        rest = len(known) - len(items)
        notes = [f"{rest} songs of metadata.csv have no annotations, and are left out"] if rest else []
        return Contents(items, [(f"{self.name}-{song}", t, point) for song, t, point in curves], notes=notes)


DATASET = PMEmo()
