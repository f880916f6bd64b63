"""Frames that the user brings: real Parquet files in every layout, and which path means which track. 3 s."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer_ray import features
from mer_ray.errors import ConfigError, ModelError, TrackError
from mer_ray.features import brought
from mer_ray.features.brought import Params
from mer_ray.features.brought_paths import match, plain

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
    return features.resolve("mine", Params(path=str(path), **settings), family="brought")


def answers(spec: features.FeatureSpec, wanted: dict[str, str | None]) -> dict[str, np.ndarray | str]:
    """Frames, or the reason; each track once."""
    found = list(brought.rows(spec, wanted))
    assert sorted(i for i, _ in found) == sorted(wanted)
    return {i: a.reason if isinstance(a, TrackError) else a for i, a in found}


# ------------------------------------------------------------------------------------------------------------ layouts


def nested(kind: pa.DataType) -> pa.Array:
    return pa.array([m.tolist() for m in MATRICES], kind)


def halves() -> pa.Array:
    """list<fixed_size_list<halffloat>>: pyarrow makes none from Python's numbers."""
    flat = pa.array(np.concatenate(MATRICES).astype(np.float16).ravel())
    return pa.ListArray.from_arrays([0, 2, 3, 7], pa.FixedSizeListArray.from_arrays(flat, 3))


def ragged_tensors() -> pa.Array:
    """As Ray Data writes tensors of several shapes."""
    data = pa.array([m.ravel().tolist() for m in MATRICES], pa.large_list(F32))
    return pa.StructArray.from_arrays([data, pa.array([list(m.shape) for m in MATRICES])], ["data", "shape"])


@pytest.mark.parametrize(
    "column",
    [
        nested(LIST(LIST(F32))),
        nested(LIST(LIST(F32, 3))),
        nested(pa.large_list(pa.large_list(pa.float64()))),
        halves(),
        ragged_tensors(),
        nested(LIST(LIST(F32, 3))).slice(0),
    ],
    ids=lambda column: str(column.type)[:60],
)
def test_every_layout_of_ragged_matrices(column: pa.Array, tmp_path: Path) -> None:
    spec = resolve(write(tmp_path / "f.parquet", column, track_id=["a", "b", "c"], group=2))
    assert (spec.n_dims, spec.hop_s, spec.sample_rate_hz, spec.family) == (3, 0.5, 0, "brought")
    found = answers(spec, dict.fromkeys("cab"))
    for track_id, matrix in zip("abc", MATRICES, strict=True):
        frames = found[track_id]
        assert isinstance(frames, np.ndarray)
        assert frames.dtype == np.float32
        np.testing.assert_array_equal(frames, matrix)


def as_ray_writes_it(flat: pa.Array, shape: str, path: Path) -> Path:
    about = {"ARROW:extension:name": "ray.data.arrow_tensor_v2", "ARROW:extension:metadata": shape}
    schema = pa.schema([pa.field("frames", flat.type, metadata=about), ("track_id", pa.string())])
    pq.write_table(pa.table([flat, pa.array(["a", "b"])], schema=schema), path)
    return path


def test_tensors_of_one_shape(tmp_path: Path) -> None:
    both = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    flat = [m.ravel().tolist() for m in both]
    arrow = pa.ExtensionArray.from_storage(pa.fixed_shape_tensor(F32, [2, 3]), pa.array(flat, LIST(F32, 6)))
    files = [
        write(tmp_path / "arrow.parquet", arrow, track_id=["a", "b"]),
        write(tmp_path / "fixed.parquet", both.tolist(), LIST(LIST(F32, 3), 2), track_id=["a", "b"]),
        as_ray_writes_it(pa.array(flat, pa.large_list(F32)), "[2, 3]", tmp_path / "ray.parquet"),
    ]
    for file in files:
        found = answers(resolve(file, hop_s=0.5), dict.fromkeys("ab"))
        np.testing.assert_array_equal(np.stack([found["a"], found["b"]]), both)
    unclear = as_ray_writes_it(pa.array(flat, pa.large_list(F32)), "\\x80", tmp_path / "unclear.parquet")
    # Once Ray Data is loaded in the process, its own type refuses the file before we see it.
    with pytest.raises(ConfigError, match=r"holds no matrices|cannot be read as Parquet"):
        resolve(unclear, hop_s=0.5)


def test_one_vector_a_track_is_one_frame(tmp_path: Path) -> None:
    for kind in (LIST(F32), LIST(pa.int16(), 3)):
        file = write(tmp_path / "f.parquet", [[1, 2, 3], [4, 5, 6]], kind, track_id=["a", "b"])
        found = answers(resolve(file), dict.fromkeys("ab"))
        np.testing.assert_array_equal(found["b"], [[4, 5, 6]])


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
    found = dict(brought.rows(spec, dict.fromkeys([*"abcdefghij", "unknown"])))
    reasons = {i: a.reason for i, a in found.items() if isinstance(a, TrackError)}
    assert reasons == {
        **dict.fromkeys("bc", "empty"),
        **dict.fromkeys("deh", "bad_frames"),
        **dict.fromkeys("fgi", "not_finite"),
        "j": "duplicate",
        "unknown": "not_brought",
    }
    np.testing.assert_array_equal(found["a"], good)
    for track_id, place in (("f", "row 6"), ("j", "row 10"), ("j", "row 11")):
        assert f"{file}, {place}" in found[track_id].message
    fixed = pa.array([[[1.0, 2.0]], [None, [1.0, 2.0]]], LIST(LIST(F32, 2)))
    assert answers(resolve(write(file, fixed, track_id=["a", "b"])), {"b": None}) == {"b": "bad_frames"}


# -------------------------------------------------------------------------------------------------------------- paths


def test_paths_from_the_folder_of_the_file_and_by_their_end(tmp_path: Path) -> None:
    frames = [[[float(i)]] for i in range(6)]
    paths = ["audio/a.mp3", str(tmp_path / "b.mp3"), "../c.mp3", "disc 1/d.mp3", "x/e.mp3", "e.mp3"]
    spec = resolve(write(tmp_path / "set" / "f.parquet", frames, path=paths))
    wanted = {
        "a": str(tmp_path / "set" / "audio" / "a.mp3"),
        "b": (tmp_path / "b.mp3").as_uri(),
        "c": str(tmp_path / "set" / ".." / "c.mp3"),
        "d": "https://example.org/music/disc 1/d.mp3",
        "e": "/music/x/e.mp3",
        "f": "/music/disc 2/d.mp3",
        "none": None,
    }
    found = answers(spec, wanted)
    assert [float(found[i][0, 0]) for i in "abcd"] == [0, 1, 2, 3]
    assert (found["e"], found["f"], found["none"]) == ("ambiguous", "not_brought", "not_brought")


def test_what_a_path_means_does_not_follow_from_what_is_asked(tmp_path: Path) -> None:
    spec = resolve(write(tmp_path / "f.parquet", [[[1.0]]], path=["x.mp3"]))
    tracks: dict[str, str | None] = {"mine": str(tmp_path / "x.mp3"), "other": "/elsewhere/x.mp3"}
    everything = {i: isinstance(a, TrackError) for i, a in brought.rows(spec, tracks)}
    assert everything == {"mine": False, "other": True}
    for track_id, lost in everything.items():  # as in a run that goes on after the others are done
        assert [isinstance(a, TrackError) for _, a in brought.rows(spec, tracks, [track_id])] == [lost]


ROOT = "/data/set"


def test_ambiguous_paths_name_both() -> None:
    error = match({"e": "/music/x/e.mp3"}, {"x/e.mp3", "e.mp3"}, ROOT)["e"]
    assert isinstance(error, TrackError)
    assert "'x/e.mp3' and 'e.mp3' both fit '/music/x/e.mp3'" in error.message
    errors = match({"1": "/a/x.mp3", "2": "/b/x.mp3"}, {"x.mp3"}, ROOT)
    assert {str(e) for e in errors.values()} == {
        "ambiguous: 'x.mp3' fits '/a/x.mp3' and '/b/x.mp3'; give more of the paths, or track_id"
    }
    assert match({"1": "/a/x.mp3", "2": "/a/./x.mp3"}, {"x.mp3"}, ROOT) == {"1": "x.mp3", "2": "x.mp3"}  # one file
    assert match({"1": "/data/set/x.mp3", "2": "/b/x.mp3"}, {"x.mp3"}, ROOT) == {"1": "x.mp3"}  # it is the first's


def test_plain_paths() -> None:
    for path, wanted in {
        "a//b/./c/../d": "a/b/d",
        "//a/../../b": "/b",
        "file:///a%20b/%C3%A9": "/a b/é",
        "e\u0301.mp3": "\u00e9.mp3",
        "s3://bucket//a/./b": "s3://bucket/a/b",
        "": "",
        "../a": "../a",
    }.items():
        assert plain(path) == wanted
        assert plain(plain(path)) == wanted


NAMES = st.sampled_from(["a", "b", "c d", "é", "💿", "a.mp3", "-", "%41", "#", "c:"])
PARTS = st.lists(NAMES, min_size=1, max_size=4)


@given(files=st.lists(PARTS, min_size=1, max_size=6), rows=st.lists(PARTS, max_size=6), absolute=st.booleans())
def test_a_match_is_one_path_that_the_file_ends_with(
    files: list[list[str]], rows: list[list[str]], absolute: bool
) -> None:
    wanted = {str(i): "/" + "/".join(parts) for i, parts in enumerate(files)}
    paths = {"/" * absolute + "/".join(parts) for parts in rows}
    found = match(wanted, paths, "/a/b")
    for track_id, file in wanted.items():
        fits = {p for p in paths if file == p or (not absolute and f"/{file}".endswith(f"/{p}"))}
        fits_others = {p for p in fits for other in wanted.values() if other != file and f"/{other}".endswith(f"/{p}")}
        answer = found.get(track_id)
        if isinstance(answer, str):
            assert answer in fits or f"/a/b/{answer}" == file
        elif answer is None:
            assert all(f"/a/b/{p}" in wanted.values() for p in fits)  # taken by the file that it is the path of
        else:
            assert len(fits) > 1 or fits_others
        if len(fits) == 1 and not fits_others:
            assert answer is not None


@given(parts=PARTS, keep=st.integers(1, 4))
def test_the_end_of_a_path_finds_its_file(parts: list[str], keep: int) -> None:
    path = "/".join(parts[-keep:])
    assert match({"t": "/music/" + "/".join(parts)}, {path, "another/" + path}, ROOT) == {"t": path}


# ----------------------------------------------------------------------------------------------------------- settings


def test_folders_are_read_whole(tmp_path: Path) -> None:
    folder = tmp_path / "brought"
    for i in range(3):
        write(folder / f"{i % 2}" / f"{i}.parquet", [[[float(i)]]], track_id=[f"t{i}"])
    for hidden in ("_temporary/x.parquet", ".x.parquet", "notes.txt"):
        (folder / hidden).parent.mkdir(exist_ok=True)
        (folder / hidden).write_text("no Parquet")
    spec = resolve(folder)
    found = answers(spec, {f"t{i}": None for i in range(3)})
    assert [float(found[f"t{i}"][0, 0]) for i in range(3)] == [0, 1, 2]
    assert resolve(folder.as_uri()).fingerprint == spec.fingerprint
    moved = folder.rename(tmp_path / "moved")
    assert resolve(moved).fingerprint == spec.fingerprint
    write(moved / "0" / "0.parquet", [[[9.0]]], track_id=["t0"])
    assert resolve(moved).fingerprint != spec.fingerprint
    with pytest.raises(ConfigError, match=r"extract\.brought\.mine\.path: .*brought does not exist"):
        list(brought.rows(spec, {"t0": None}))


def test_spec_is_json(tmp_path: Path) -> None:
    spec = resolve(write(tmp_path / "f.parquet", [[[1.0]]], track_id=["a"]))
    assert features.FeatureSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    assert spec.weights is not None
    assert (spec.weights["kind"], spec.weights["location"]) == ("frames", str(tmp_path / "f.parquet"))
    with pytest.raises(ModelError, match="cannot be computed from audio"):
        features.load(spec)


def test_the_hop(tmp_path: Path) -> None:
    two = [[[1.0]], [[2.0]]]
    float32 = write(tmp_path / "f.parquet", two, track_id=["a", "b"], hop_s=pa.array([0.96, None], F32))
    assert resolve(float32).hop_s == 0.96
    assert resolve(float32, hop_s=0.1).hop_s == 0.1
    named = write(tmp_path / "f.parquet", two, track_id=["a", "b"], step=[1, 1])
    assert resolve(named, hop_s="step").hop_s == 1
    wrong = {
        r"'hop_s' .* holds 0\.48 and 0\.96": {"hop_s": [0.48, 0.96]},
        "'hop_s' .* is empty": {"hop_s": pa.array([None, None], F32)},
        "'hop_s' says -1": {"hop_s": [-1.0, -1.0]},
        "'hop_s' that is no number": {"hop_s": ["x", "y"]},
    }
    for reason, columns in wrong.items():
        with pytest.raises(ConfigError, match=reason):
            resolve(write(tmp_path / "f.parquet", two, track_id=["a", "b"], **columns))
    with pytest.raises(ConfigError, match=r"no column 'gone' \(its columns: frames, hop_s, track_id\)"):
        resolve(write(tmp_path / "f.parquet", two, track_id=["a", "b"]), hop_s="gone")
    with pytest.raises(ConfigError, match="it says 0"):
        resolve(float32, hop_s=0.0)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    file = write(tmp_path / "f.parquet", [[[1.0]]], title=["a\nb"], track_id=[7])
    for settings, reason in (
        ({"frames": "vectors"}, r"f\.parquet has no column 'vectors' \(its columns: frames, hop_s, title, track_id\)"),
        ({"frames": "title"}, "column 'title' of type string, which holds no matrices"),
        ({"key": "path"}, "has no column path"),
        ({}, "column track_id of type int64"),
    ):
        with pytest.raises(ConfigError, match=reason):
            resolve(file, **settings)
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
    found = dict(brought.rows(spec, {n: f"/music/{n}" for n in [*names, "gone\n.mp3"]}))
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
    found = answers(spec, dict.fromkeys("abcd"))
    assert (found["a"], found["b"]) == ("unreadable", "unreadable")
    assert found["c"].shape == found["d"].shape == (50, 8)


def test_real_embeddings() -> None:
    file = PANDA / "yamnet.parquet"
    if not file.is_file():
        pytest.skip(f"{file} is not here: YAMNet frames of the 472 clips of Panda et al. (2018)")
    spec = resolve(file)
    assert (spec.n_dims, spec.hop_s, spec.params["key"]) == (1_024, 0.96, "path")
    paths = pq.read_table(file, columns=["path"])["path"].to_pylist()
    wanted: dict[str, str | None] = {p: f"/elsewhere/{p}" for p in paths[:100]} | {
        p: str(PANDA / p) for p in paths[100:]
    }
    for _, frames in brought.rows(spec, wanted):
        assert isinstance(frames, np.ndarray)
        assert frames.shape[1] == 1_024
