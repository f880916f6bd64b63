"""Features, labels and embeddings for other libraries."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from conftest import write_tunes
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import mer_ray
from mer_ray.errors import InputError, TrackError, WorkspaceError
from mer_ray.io.schemas import SCHEMAS, features_schema, labels_schema, ragged_column
from mer_ray.io.tables import Workspace, now

IDS = [f"{i:02d}" for i in range(12)]
DIMENSIONS = ("tension", "energy")


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """12 tracks of 6 artists: frames of all but the last two, tension of all but 05, energy of all but 05 and 06."""
    made = Workspace(tmp_path / "w")
    made.claim("collect", "tracks", {"source": "manifest"})
    named = [{"artist": f"A{int(i) // 2}", "title": i, "split": "test" if i > "08" else "train"} for i in IDS]
    rows = [
        {"track_id": i, **n, "source": "manifest", "tags": [], "fetched_at": now()}
        for i, n in zip(IDS, named, strict=True)
    ]
    made.append_rows("tracks", rows)
    audio = {"uri": "/m/3.mp3", "provider": "file", "sha256": "", "duration_s": 1.0, "sample_rate": 1, "channels": 1}
    made.append_rows("audio", [{"track_id": "03", **audio, "tried": []}])
    values = [
        {
            "track_id": i,
            "evidence": [],
            "n_matched": 0,
            "tension": int(i) / 12,
            "energy": None if i == "06" else 1 - int(i) / 12,
            "se_tension": 0.1,
            "lexicon": "manifest",
            "curves": [{"dimension": "tension", "time_s": [0.0, 1.0], "value": [0.5, 0.25]}] if i == "00" else None,
        }
        for i in reversed(IDS)
        if i != "05"
    ]
    for part in values[:4], values[4:]:
        made.append("labels", pa.Table.from_pylist(part, schema=labels_schema(DIMENSIONS)), part[0]["track_id"])
    for ids in (IDS[6:10], IDS[:6]):
        made.append("features/mfcc", framed(ids), ids[0])
    return made


def frames_of(i: str) -> np.ndarray:
    """Frames that tell the track's number."""
    rng = np.random.default_rng(int(i))
    return (rng.standard_normal((5 + int(i), 3)) * 0.1 + [int(i), -int(i), 0]).astype(np.float32)


def framed(ids: list[str], fingerprint: str = "f") -> pa.Table:
    columns = [ids, ragged_column([frames_of(i) for i in ids], 3), [0.5] * len(ids), [fingerprint] * len(ids)]
    return pa.table(columns, schema=features_schema(3))


def test_features_are_matrices_in_the_order_of_their_ids(workspace):
    ids, frames = mer_ray.read_features(workspace.uri, "mfcc")
    assert ids == IDS[:10]
    for i, own in zip(ids, frames, strict=True):
        assert own.dtype == np.float32
        np.testing.assert_array_equal(own, frames_of(i))
    some = np.array(["07", "02"])
    assert mer_ray.read_features(Path(workspace.uri), "mfcc", some)[0] == ["07", "02"]
    np.testing.assert_array_equal(mer_ray.read_features(workspace.uri, "mfcc", some)[1][1], frames_of("02"))


def test_labels_stand_beside_the_features(workspace):
    labels = mer_ray.read_labels(workspace.uri)
    assert labels["track_id"].to_pylist() == [i for i in IDS if i != "05"]
    assert labels.column_names == [
        *("track_id", "artist", "title", "album", "group", "tension", "energy", "se_tension", "se_energy"),
        *("curves", "dataset", "split", "fold", "uri"),
    ]
    ids, _ = mer_ray.read_features(workspace.uri, "mfcc")
    labels = mer_ray.read_labels(workspace.uri, ids)
    assert labels["track_id"].to_pylist() == ids
    known = np.array([int(i) / 12 if i != "05" else np.nan for i in ids])
    np.testing.assert_array_equal(labels["tension"].to_numpy(), known)
    assert np.isnan(labels["energy"].to_numpy()).tolist() == [i in ("05", "06") for i in ids]
    assert labels["se_tension"].null_count == 1
    assert labels["curves"][0].as_py() == [{"dimension": "tension", "time_s": [0.0, 1.0], "value": [0.5, 0.25]}]
    assert labels["split"].to_pylist() == ["train"] * 9 + ["test"]
    assert labels["uri"].to_pylist() == [*[None] * 3, "/m/3.mp3", *[None] * 6]
    groups = labels["group"].to_pylist()
    assert len(set(groups)) == 5
    assert all((a == b) == (i // 2 == k // 2) for i, a in enumerate(groups) for k, b in enumerate(groups))
    again = mer_ray.read_labels(workspace.uri, labels["track_id"].take([3, 1]))
    assert again.equals(labels.take([3, 1]))


def test_groups_do_not_depend_on_the_ids_that_are_read_with_them(tmp_path):
    """A track without an artist, read twice; and two that only a third one joins."""
    workspace = Workspace(tmp_path / "w")
    about = {"source": "folder", "fetched_at": now(), "tags": []}
    named = {"a": ("", None, None), "b": ("", "The Piano", None), "c": ("X", None, "Y"), "d": ("X", "The Piano", None)}
    named |= {f"e{i}": (f"E{i}", None, None) for i in range(9)}
    tracks = [
        {"track_id": i, "artist": artist, "title": i, "album": album, "composer": composer, **about}
        for i, (artist, album, composer) in named.items()
    ]
    workspace.append("tracks", pa.Table.from_pylist(tracks, SCHEMAS["tracks"]), "all")
    rows = [{"track_id": i, "valence": 0.5, "evidence": [], "n_matched": 0, "lexicon": "manifest"} for i in named]
    workspace.append("labels", pa.Table.from_pylist(rows, labels_schema(("valence",))), "all")
    workspace.write_json({}, "settings", "x.json")
    whole = mer_ray.read_labels(workspace.uri)
    of = dict(zip(whole["track_id"].to_pylist(), whole["group"].to_pylist(), strict=True))
    for ids in (["a", "a", "e1"], ["b", "c"], ["c"], ["d", "b", "d"]):
        assert mer_ray.read_labels(workspace.uri, ids)["group"].to_pylist() == [of[i] for i in ids]


def test_groups_are_those_of_training_once_there_are_any(workspace):
    of = {i: "one group" if i < "04" else i for i in IDS}
    workspace.write_table(pa.table({"track_id": list(of), "group": list(of.values())}), "splits", "groups.parquet")
    workspace.write_json({"key": "k", "duplicates": [], "about": []}, "splits", "splits.json")
    assert mer_ray.read_labels(workspace.uri)["group"].to_pylist() == [of[i] for i in IDS if i != "05"]


def test_five_lines_are_a_table_of_scikit_learn(workspace):
    ids, frames = mer_ray.read_features(workspace.uri, "mfcc")
    labels = mer_ray.read_labels(workspace.uri, ids)
    X = np.array([np.concatenate([f.mean(axis=0), f.std(axis=0)]) for f in frames])
    y = labels["tension"].to_numpy()
    known = np.isfinite(y)
    model = make_pipeline(StandardScaler(), Ridge(0.1))
    predicted = cross_val_predict(model, X[known], y[known], groups=labels["group"].to_numpy()[known], cv=GroupKFold(4))
    assert np.corrcoef(predicted, y[known])[0, 1] > 0.9


@pytest.mark.parametrize(
    ("read", "error", "message"),
    [
        (
            lambda w: mer_ray.read_features(w + "x", "mfcc"),
            WorkspaceError,
            "there is no workspace at .*wx: give",
        ),
        (lambda w: mer_ray.read_labels(w + "x"), WorkspaceError, "there is no workspace at .*wx: give"),
        (
            lambda w: mer_ray.read_features(w, "chroma"),
            WorkspaceError,
            "no features/chroma: its features are: mfcc",
        ),
        (lambda w: mer_ray.read_features(w, "mfcc", ["03", "11", "12"]), InputError, "2 of 3 ids .*the first is 11"),
        (lambda w: mer_ray.read_labels(w, ["03", "zz"]), InputError, "1 of 2 ids are no tracks .*the first is zz"),
        (lambda w: mer_ray.read_labels(w, "03"), InputError, "ids is the text '03': give a list"),
    ],
)
def test_what_is_not_there_is_named(workspace, read, error, message):
    with pytest.raises(error, match=message):
        read(workspace.uri)


def test_a_workspace_without_features_or_labels_says_what_to_run(tmp_path):
    empty = Workspace(tmp_path / "w")
    empty.claim("collect", "tracks", {})
    with pytest.raises(WorkspaceError, match="has no labels: run `mer-ray label` on it first"):
        mer_ray.read_labels(empty.uri)
    with pytest.raises(WorkspaceError, match="has no features/mfcc: run `mer-ray extract` on it first"):
        mer_ray.read_features(empty.uri, "mfcc")
    empty.append("features/mfcc", framed(["00"]), "a")
    empty.append("features/mfcc", framed(["01"], "another"), "b")
    with pytest.raises(WorkspaceError, match="holds frames of several settings"):
        mer_ray.read_features(empty.uri, "mfcc")


def test_embeddings_are_what_the_model_compares_sounds_by(tmp_path):
    model = mer_ray.load_model("light")
    files = write_tunes(tmp_path / "music", 3, seconds=3.0)
    made = mer_ray.embed(files[::-1], model)
    assert made.dtype == np.float32
    assert made.shape == (3, len(model.model.reference.statistics.shift))
    np.testing.assert_array_equal(made[::-1], mer_ray.embed(tmp_path / "music", model))
    sound = mer_ray.score(files[::-1], model)["sound"].to_pylist()
    np.testing.assert_allclose(model.model.reference.coordinates(made), sound, atol=1e-4)
    assert mer_ray.embed([], model).shape == (0, made.shape[1])


def test_a_file_that_cannot_be_embedded_is_named(tmp_path):
    (tmp_path / "broken.mp3").write_text("no music")
    files = [*write_tunes(tmp_path, 1), tmp_path / "broken.mp3"]
    with pytest.raises(TrackError, match=r"broken\.mp3"):
        mer_ray.embed(files, "light")
    with pytest.raises(TrackError, match=r"gone\.mp3"):
        mer_ray.embed(tmp_path / "gone.mp3", "light")
    with pytest.raises(TrackError, match=r"tune000\.flac"):
        mer_ray.embed(files[:1], "light", min_duration_s=10.0)
