"""Precomputed frames: real Parquet files of the layout, what is wrong with others, and which path means which track."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mer_ray import features
from mer_ray.errors import ConfigError, ModelError, TrackError
from mer_ray.features import precomputed
from mer_ray.features.precomputed import Params

PANDA = Path(__file__).parents[2] / "shared" / "data" / "panda4q"
MATRICES = [np.arange(3 * n, dtype=np.float32).reshape(n, 3) / 4 for n in (2, 1, 4)]
F32, LIST = pa.float32(), pa.list_


def write(
    file: Path, frames: Any, kind: pa.DataType | None = None, /, group: int | None = None, **columns: Any
) -> Path:
    """A Parquet file; hop_s is 0.5 unless said otherwise."""
    column = frames if isinstance(frames, pa.Array | pa.ExtensionArray) else pa.array(frames, kind or LIST(LIST(F32)))
    columns = {"hop_s": [0.5] * len(column), **columns}
    file.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"frames": column, **columns}), file, row_group_size=group)
    return file


def resolve(path: Path | str, **settings: Any) -> features.FeatureSpec:
    return features.resolve("mine", Params(path=str(path), **settings), family="precomputed")


def results(spec: features.FeatureSpec, wanted: dict[str, str | None]) -> dict[str, np.ndarray | str]:
    """Frames, or the reason; each track once."""
    found = list(precomputed.rows(spec, wanted))
    assert sorted(i for i, _ in found) == sorted(wanted)
    return {i: a.reason if isinstance(a, TrackError) else a for i, a in found}


# ------------------------------------------------------------------------------------------------------------ layouts


def nested(kind: pa.DataType) -> pa.Array:
    return pa.array([m.tolist() for m in MATRICES], kind)


def halves() -> pa.Array:
    """list<fixed_size_list<halffloat>>: pyarrow makes none from Python's numbers."""
    flat = pa.array(np.concatenate(MATRICES).astype(np.float16).ravel())
    return pa.ListArray.from_arrays([0, 2, 3, 7], pa.FixedSizeListArray.from_arrays(flat, 3))


@pytest.mark.parametrize(
    "column",
    [
        nested(LIST(LIST(F32))),
        nested(LIST(LIST(F32, 3))),
        nested(pa.large_list(pa.large_list(pa.float64()))),
        halves(),
        nested(LIST(LIST(F32, 3))).slice(0),
    ],
    ids=lambda column: str(column.type)[:60],
)
def test_lists_of_any_kind(column: pa.Array, tmp_path: Path) -> None:
    spec = resolve(write(tmp_path / "f.parquet", column, track_id=["a", "b", "c"], group=2))
    assert (spec.n_dims, spec.hop_s, spec.sample_rate_hz, spec.family) == (3, 0.5, 0, "precomputed")
    found = results(spec, dict.fromkeys("cab"))
    for track_id, matrix in zip("abc", MATRICES, strict=True):
        frames = found[track_id]
        assert isinstance(frames, np.ndarray)
        assert frames.dtype == np.float32
        np.testing.assert_array_equal(frames, matrix)


@pytest.mark.parametrize(
    ("frames", "kind"),
    [
        ([1.0, 2.0], LIST(F32)),
        ([{"data": [1.0], "shape": [1, 1]}], None),
        ([[["a"]]], LIST(LIST(pa.string()))),
        ([[[[1.0]]]], LIST(LIST(LIST(F32)))),
    ],
)
def test_another_layout_is_refused_with_the_one_that_is_read(frames: Any, kind: Any, tmp_path: Path) -> None:
    column = pa.array([frames] if kind == LIST(F32) else frames, kind)
    with pytest.raises(ConfigError, match=r"column frames of type .*track_id or path .*list of vectors .*hop_s"):
        resolve(write(tmp_path / "f.parquet", column, track_id=["a"]))


def test_a_bad_row_costs_its_track_alone(tmp_path: Path) -> None:
    good = [[1.0, 2.0], [3.0, 4.0]]
    frames = [
        good,
        [],
        None,
        [[1.0, 2.0], [3.0]],
        [[1.0], [2.0]],
        [[1.0, float("nan")]],
        [[None, 1.0]],
        [None, [1.0, 2.0]],
    ]
    frames += [[[1e300, 0.0]], good, good]
    ids = [*"abcdefghijj"]
    file = write(tmp_path / "f.parquet", frames, LIST(LIST(pa.float64())), track_id=ids, group=4)
    spec = resolve(file)
    found = dict(precomputed.rows(spec, dict.fromkeys([*"abcdefghij", "unknown"])))
    reasons = {i: a.reason for i, a in found.items() if isinstance(a, TrackError)}
    assert reasons == {
        **dict.fromkeys("bc", "empty"),
        **dict.fromkeys("deh", "bad_frames"),
        **dict.fromkeys("fgi", "not_finite"),
        "j": "duplicate",
        "unknown": "no_frames",
    }
    np.testing.assert_array_equal(found["a"], good)
    for track_id, place in (("f", "row 6"), ("j", "row 10"), ("j", "row 11")):
        assert f"{file}, {place}" in found[track_id].message
    fixed = pa.array([[[1.0, 2.0]], [None, [1.0, 2.0]]], LIST(LIST(F32, 2)))
    assert results(resolve(write(file, fixed, track_id=["a", "b"])), {"b": None}) == {"b": "bad_frames"}


# -------------------------------------------------------------------------------------------------------------- paths


def test_a_path_means_the_file_whose_path_it_is_from_the_folder_of_the_table(tmp_path: Path) -> None:
    frames = [[[float(i)]] for i in range(6)]
    b, d, e = str(tmp_path / "b.mp3"), "https://example.org/d.mp3", "//x//e\u0301.mp3"
    paths = ["audio/a.mp3", b, "../c.mp3", d, e, "f.mp3"]
    spec = resolve(write(tmp_path / "set" / "f.parquet", frames, path=paths))
    wanted = {
        "a": str(tmp_path / "set" / "audio" / "a.mp3"),
        "b": (tmp_path / "b.mp3").as_uri(),
        "c": str(tmp_path / "set" / ".." / "c.mp3"),
        "d": "https://example.org/./d.mp3",
        "e": "/x/\u00e9.mp3",
        "f": "/music/f.mp3",
        "none": None,
    }
    found = results(spec, wanted)
    assert [float(found[i][0, 0]) for i in "abcde"] == [0, 1, 2, 3, 4]  # type: ignore[call-overload,index]
    assert (found["f"], found["none"]) == ("no_frames", "no_frames")


def test_two_tracks_of_one_file_have_the_same_frames(tmp_path: Path) -> None:
    spec = resolve(write(tmp_path / "f.parquet", [[[1.0]]], path=["x.mp3"]))
    found = results(spec, {"1": str(tmp_path / "x.mp3"), "2": str(tmp_path / "y" / ".." / "x.mp3")})
    assert all(isinstance(f, np.ndarray) for f in found.values())


# ----------------------------------------------------------------------------------------------------------- settings


def test_folders_are_read_whole(tmp_path: Path) -> None:
    folder = tmp_path / "brought"
    for i in range(3):
        write(folder / f"{i % 2}" / f"{i}.parquet", [[[float(i)]]], track_id=[f"t{i}"])
    for hidden in ("_temporary/x.parquet", ".x.parquet", "notes.txt"):
        (folder / hidden).parent.mkdir(exist_ok=True)
        (folder / hidden).write_text("no Parquet")
    spec = resolve(folder)
    found = results(spec, {f"t{i}": None for i in range(3)})
    assert [float(found[f"t{i}"][0, 0]) for i in range(3)] == [0, 1, 2]
    assert resolve(folder.as_uri()).fingerprint == spec.fingerprint
    moved = folder.rename(tmp_path / "moved")
    assert resolve(moved).fingerprint == spec.fingerprint
    write(moved / "0" / "0.parquet", [[[9.0]]], track_id=["t0"])
    assert resolve(moved).fingerprint != spec.fingerprint
    with pytest.raises(ConfigError, match=r"extract\.precomputed\.mine\.path: .*brought does not exist"):
        list(precomputed.rows(spec, {"t0": None}))


def test_spec_is_json(tmp_path: Path) -> None:
    spec = resolve(write(tmp_path / "f.parquet", [[[1.0]]], track_id=["a"]))
    assert features.FeatureSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert spec.weights is not None
    assert (spec.weights["kind"], spec.weights["location"]) == ("frames", str(tmp_path / "f.parquet"))
    with pytest.raises(ModelError, match="cannot be computed from audio"):
        features.load(spec)


def test_tables_and_models_of_an_older_version_are_of_the_same_feature(tmp_path: Path) -> None:
    spec = resolve(write(tmp_path / "f.parquet", [[[1.0, 2.0]]], track_id=["a"]), hop_s=0.5)
    older = {
        "name": "mine", "version": 1, "sample_rate_hz": 0, "hop_s": 0.5, "n_dims": 2, "family": "brought",
        "params": {"key": "track_id", "frames": "frames"}, "fingerprint": "fd42f45d4f428a07",
        "weights": {"kind": "frames", "location": "/x", "sha256": "0" * 64},
    }  # fmt: skip
    read = features.FeatureSpec.from_json(older)
    assert (read.family, read.fingerprint) == ("precomputed", "fd42f45d4f428a07")
    same_bytes = replace(spec, name="mine", weights={**(spec.weights or {}), "sha256": "0" * 64})
    assert (same_bytes.identity, same_bytes.fingerprint) == (read.identity, read.fingerprint)


def test_the_hop(tmp_path: Path) -> None:
    two = [[[1.0]], [[2.0]]]
    float32 = write(tmp_path / "f.parquet", two, track_id=["a", "b"], hop_s=pa.array([0.96, None], F32))
    assert resolve(float32).hop_s == 0.96
    assert resolve(float32, hop_s=0.1).hop_s == 0.1
    wrong = {
        r"column hop_s .* holds 0\.48 and 0\.96": [0.48, 0.96],
        "column hop_s .* holds nothing": pa.array([None, None], F32),
        "column hop_s .* holds -1": [-1.0, -1.0],
        "column hop_s that holds no numbers": ["x", "y"],
    }
    for reason, column in wrong.items():
        with pytest.raises(ConfigError, match=reason):
            resolve(write(tmp_path / "f.parquet", two, track_id=["a", "b"], hop_s=column))
    for hop_s in (0.0, -1.0, float("inf")):
        with pytest.raises(ValueError, match="hop_s"):
            resolve(float32, hop_s=hop_s)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    file = tmp_path / "f.parquet"
    for columns, reason in (
        ({"title": ["a\nb"]}, r"f\.parquet has no column track_id or path \(its columns: frames, hop_s, title\)"),
        ({"track_id": [7]}, "column track_id of type int64"),
    ):
        with pytest.raises(ConfigError, match=reason):
            resolve(write(file, [[[1.0]]], **columns))
    pq.write_table(pa.table({"track_id": ["a"], "frames": [[[1.0]]]}), file)
    with pytest.raises(ConfigError, match=r"has no column hop_s \(its columns: track_id, frames\)"):
        resolve(file)
    pq.write_table(pa.table({"track_id": ["a"], "vectors": [[[1.0]]]}), file)
    with pytest.raises(ConfigError, match=r"has no column frames \(its columns: track_id, vectors\)"):
        resolve(file)
    with pytest.raises(ConfigError, match=r"no row .* has frames"):
        resolve(write(file, [[], None], track_id=["a", "b"]))
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(ConfigError, match=r"f\.parquet cannot be read as Parquet"):
        resolve(file)
    (tmp_path / "empty").mkdir()
    for path, reason in (
        (tmp_path / "gone", "does not exist"),
        (tmp_path / "empty", "holds no .parquet files"),
        ("nosuch://bucket/x", "cannot be opened"),
        ("s3://key:secret@bucket/x", "holds a password"),
    ):
        with pytest.raises(ConfigError, match=reason) as caught:
            resolve(path)
        assert "secret" not in str(caught.value)
    with pytest.raises(ValueError, match="column"):
        Params(path="x", column="y")  # type: ignore[call-arg]


def test_hostile_text_stays_on_its_line(tmp_path: Path) -> None:
    names = ["a\nb.mp3", "\x1b[31m.mp3", "x" * 5_000 + ".mp3", "C# minor?.mp3"]
    spec = resolve(write(tmp_path / "f.parquet", [[[1.0]]] * 5, path=[*names, names[0]]))
    found = dict(precomputed.rows(spec, {n: str(tmp_path / n) for n in [*names, "gone\n.mp3"]}))
    messages = [str(a) for a in found.values() if isinstance(a, TrackError)]
    assert len(messages) == 2
    assert all(m.isprintable() and len(m) < 2_000 for m in messages)


def test_a_damaged_row_group_costs_its_tracks_alone(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    file = write(
        tmp_path / "f.parquet", [rng.normal(size=(50, 8)).tolist() for _ in range(4)], track_id=[*"abcd"], group=2
    )
    spec = resolve(file)
    chunk = pq.ParquetFile(file).metadata.row_group(0).column(0)
    data = bytearray(file.read_bytes())
    start = chunk.dictionary_page_offset or chunk.data_page_offset
    data[start : start + 40] = b"\xff" * 40
    file.write_bytes(data)
    found = results(spec, dict.fromkeys("abcd"))
    assert (found["a"], found["b"]) == ("unreadable", "unreadable")
    assert found["c"].shape == found["d"].shape == (50, 8)


def test_real_embeddings() -> None:
    file = PANDA / "yamnet.parquet"
    if not file.is_file():
        pytest.skip(f"{file} is not here: YAMNet frames of the 472 clips of Panda et al. (2018)")
    spec = resolve(file)
    assert (spec.n_dims, spec.hop_s, spec.params["key"]) == (1_024, 0.96, "path")
    paths = pq.read_table(file, columns=["path"])["path"].to_pylist()
    wanted: dict[str, str | None] = {p: str(PANDA / p) for p in paths}
    for _, frames in precomputed.rows(spec, wanted):
        assert isinstance(frames, np.ndarray)
        assert frames.shape[1] == 1_024
