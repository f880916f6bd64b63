"""Which rows derived from the tracks are invalid, where tracks have changed or are gone.

Invalid rows are deleted first and the new tracks written last, so that after a kill the next ``collect`` finds the
difference again. Rows of ``audio`` stay: `audio_changes` checks them where a track's request or file has changed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.compute as pc

from mer_ray.io.schemas import features_table
from mer_ray.io.tables import Workspace

OF_LABELS = {"tags", "ratings", "curves", "title"}
"""Fields of a track that its label follows from. Its data set, split and fold are read by the training alone."""
OF_REQUESTS = {"uri", "artist", "title", "album", "spotify_id", "duration_s"}
"""Fields that its audio may be found by."""
OF_FILES = {"size", "mtime_ns"}
"""Fields that change with the file itself."""
SHOWN_IN_SCORES = {"artist", "title", "album"}
NAMES = {
    "uri": "path",
    "ratings": "label",
    "curves": "label over time",
    "size": "file",
    "mtime_ns": "file",
    "track_id": "id",
}
"""The fields' names in messages."""
PRECOMPUTED = ("precomputed", "brought")
"""The family of precomputed features, and its former name (`features.OLDER_NAMES`)."""
BATCH = 5_000


@dataclass
class Changes:
    """How a source differs from the stored tracks.

    Attributes:
        fields: Ids of changed tracks, by the field that differs.
        renamed: Old id → new id (which is in ``fields``).
        gone: Ids that the source no longer has.
        new: How many tracks it added.
        unchanged: How many ids it still has.
    """

    fields: dict[str, set[str]] = field(default_factory=dict)
    renamed: dict[str, str] = field(default_factory=dict)
    gone: set[str] = field(default_factory=set)
    new: int = 0
    unchanged: int = 0

    @property
    def changed(self) -> set[str]:
        """The ids of the tracks that differ."""
        return set().union(*self.fields.values())

    def of(self, names: Iterable[str]) -> set[str]:
        """The ids of the tracks that differ in one of these fields."""
        return set().union(*(self.fields.get(name, set()) for name in names))

    def __str__(self) -> str:
        """One line: ``3 tracks changed (path 1, label 2), 1 gone``; empty if nothing did."""
        parts = []
        if n := len(self.changed):
            which = Counter[str]()
            for name in dict.fromkeys(NAMES.get(f, f) for f in self.fields):
                which[name] = len(self.of(f for f in self.fields if NAMES.get(f, f) == name))
            names = ", ".join(f"{name} {count:,}" for name, count in which.most_common())
            parts.append(f"{n:,} {'track' if n == 1 else 'tracks'} changed ({names})")
        if self.gone:
            parts.append(f"{len(self.gone):,} gone from the source")
        return ", ".join(parts)


def void(workspace: Workspace, changes: Changes) -> None:
    """Delete the rows derived from what has changed or is gone, and no others."""
    gone, renamed = changes.gone, changes.renamed
    labels, requests = changes.of(OF_LABELS), changes.of(OF_REQUESTS | OF_FILES)
    keys = precomputed(workspace)
    # A run that was killed in `store` has deleted tracks that now count as new and were not compared.
    there = workspace.ids("tracks")
    unknown = set[str]().union(*(workspace.settle(t, there) for t in ("labels", *map(features_table, keys))))
    workspace.drop("scores", unknown)
    moved = changes.of({"uri"}) if "path" in keys.values() else set()
    workspace.drop("scores", gone | renamed.keys() | moved | changes.of(SHOWN_IN_SCORES))
    for name in workspace.names("features"):
        table, key = features_table(name), keys.get(name)
        workspace.drop(table, gone | (renamed.keys() if key else set()) | (moved if key == "path" else set()))
        workspace.rename(table, {} if key else renamed)
    workspace.drop("audio", gone)
    workspace.rename("audio", renamed)
    workspace.drop("labels", gone | renamed.keys() | labels)
    workspace.drop("failures", gone | renamed.keys(), pc.field("stage") != "collect")
    workspace.drop("failures", labels, pc.field("stage") == "label")
    workspace.drop("failures", requests, of_audio())


def precomputed(workspace: Workspace) -> dict[str, str]:
    """The precomputed features, and the column by which their rows name tracks: track_id or path.

    They depend on that name alone, not on the bytes of the audio file.
    """
    made = ((name, workspace.read_json("settings", f"extract-{name}.json")) for name in workspace.names("features"))
    settings = {name: (recorded or {}).get("settings") or {} for name, recorded in made}
    return {name: s["params"]["key"] for name, s in settings.items() if s.get("family") in PRECOMPUTED}


def of_audio() -> pc.Expression:
    """Selects failures to get or to decode a track's audio."""
    return (pc.field("stage") == "acquire") | of_decoding()


def of_decoding() -> pc.Expression:
    """Selects failures to decode a track's audio or to score it."""
    return pc.starts_with(pc.field("stage"), "extract") | pc.starts_with(pc.field("stage"), "score")


def store(workspace: Workspace, changes: Changes, new: Callable[[], Iterator[pa.Table]]) -> None:
    """Write the new and the changed tracks into the table, and delete those that are gone."""
    workspace.drop("tracks", changes.changed | changes.renamed.keys() | changes.gone)
    there = workspace.ids("tracks")
    for batch in new():
        fresh = batch.filter(pa.array(~there.mask(batch["track_id"])))
        for start in range(0, len(fresh), BATCH):
            piece = fresh.slice(start, BATCH)
            workspace.append("tracks", piece, "\n".join([*piece["track_id"].to_pylist(), str(piece["fetched_at"][0])]))
    tidy(workspace)


def tidy(workspace: Workspace) -> None:
    """Delete rows of no track and duplicated rows, which a killed run may leave if the source then changes again."""
    workspace.settle("tracks")
    there, tables = workspace.ids("tracks"), [features_table(name) for name in workspace.names("features")]
    orphans = set[str]().union(*(workspace.settle(table, there) for table in ("labels", *tables, "audio")))
    workspace.settle("scores")
    workspace.drop("scores", orphans)
    workspace.drop("failures", orphans, pc.field("stage") != "collect")
