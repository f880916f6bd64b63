"""The workspace: shards appear whole and once, settings are held to, failures are counted right."""

from __future__ import annotations

import errno
import json
import os
import pickle
import time
from datetime import timedelta
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mer_ray.errors import WorkspaceError
from mer_ray.io import tables
from mer_ray.io.ids import Ids
from mer_ray.io.schemas import SCHEMAS, features_schema, ragged_arrays, ragged_column
from mer_ray.io.store import MARKER
from mer_ray.io.tables import COMPUTED, Workspace, failure


@pytest.fixture
def workspace(tmp_path) -> Workspace:
    return Workspace(tmp_path / "workspace")


def audio_row(track_id: str, **changes: object) -> dict[str, object]:
    row = {"track_id": track_id, "uri": f"/music/{track_id}.ogg", "provider": "file", "sha256": "0", "duration_s": 1.0}
    return {
        **row,
        "sample_rate": 22_050,
        "channels": 2,
        "tried": [],
        "spotify_id": None,
        "decoded_share": None,
        **changes,
    }


def frames_table(frames: dict[str, np.ndarray], n_dims: int) -> pa.Table:
    columns = [pa.array(list(frames)), ragged_column(list(frames.values()), n_dims)]
    columns += [pa.array([0.1] * len(frames)), pa.array(["f"] * len(frames))]
    return pa.Table.from_arrays(columns, schema=features_schema(n_dims))


# shards ------------------------------------------------------------------------------------------------------------


def test_a_batch_written_twice_is_there_once(workspace):
    for _ in range(2):
        workspace.append_rows("audio", [audio_row("a"), audio_row("b")])
    workspace.append_rows("audio", [audio_row("c")])
    assert workspace.read("audio")["track_id"].to_pylist().count("a") == 1
    assert len(workspace.names("audio")) == 2
    assert workspace.ids("audio") == {"a", "b", "c"}


def test_rows_that_two_processes_made_are_read_once(workspace):
    workspace.append_rows("audio", [audio_row("a"), audio_row("b")])
    workspace.append_rows("audio", [audio_row("b"), audio_row("c")])
    workspace.append_rows("audio", [audio_row("c"), audio_row("a")])
    assert sorted(workspace.read("audio")["track_id"].to_pylist()) == ["a", "b", "c"]
    assert workspace.read("audio", ["uri"]).column_names == ["uri"]
    assert len(workspace.read("audio", ["uri"])) == 3


def test_a_row_is_read_as_it_was_written(workspace):
    row = audio_row("é 🎻", uri="/music/two  blanks.ogg", duration_s=1 / 3)
    workspace.append_rows("audio", [row])
    (read,) = workspace.read("audio").to_pylist()
    assert {k: v for k, v in read.items() if v is not None or k in row} == row


def test_no_rows_make_no_shard(workspace):
    workspace.append_rows("audio", [])
    assert not workspace.has("audio")


def test_what_a_killed_process_left_is_not_read(workspace):
    workspace.append_rows("audio", [audio_row("a")])
    half = (Path(workspace.root) / "audio" / workspace.names("audio")[0]).read_bytes()[:100]
    leftover = Path(workspace.path(".tmp", "0123456789abcdef"))
    leftover.write_bytes(half)
    for name in (".part-hidden.parquet", "_temporary.parquet", "notes.txt"):
        Path(workspace.path("audio", name)).write_bytes(half)
    assert workspace.ids("audio") == {"a"}
    workspace.sweep()
    assert leftover.exists()  # it may be another process's, at work
    old = time.time() - 2 * 86_400
    os.utime(leftover, (old, old))
    mark = leftover.rename(leftover.with_name(f"{MARKER}-0"))
    workspace.sweep()
    assert mark.exists()  # of a run that takes days
    leftover = mark.rename(leftover)
    workspace.sweep()
    assert not leftover.exists()
    assert workspace.ids("audio") == {"a"}


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (
            errno.ENOSPC,
            "No space left on device: free some space or choose another place, then run the same command again",
        ),
        (errno.EROFS, "Read-only file system: allow it or choose another place, then run the same command again"),
    ],
)
def test_a_write_that_breaks_off_leaves_the_old_file(workspace, monkeypatch, number, advice):
    workspace.write_bytes(b"old", "settings", "x.json")

    def full(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(WorkspaceError, match=f"{advice}$"):
        workspace.write_bytes(b"new", "settings", "x.json")
    assert workspace.read_bytes("settings", "x.json") == b"old"
    assert list(Path(workspace.path(".tmp")).iterdir()) == []


@pytest.mark.parametrize(
    "damage", [lambda b: b"", lambda b: b"PAR1", lambda b: b[:-30], lambda b: b[:60] + bytes(90) + b[150:]]
)
def test_a_damaged_shard_is_named(workspace, damage):
    workspace.append_rows("audio", [audio_row("a")])
    workspace.append_rows("audio", [audio_row(f"b{i}") for i in range(50)])
    shard = Path(workspace.path("audio", workspace.names("audio")[0]))
    shard.write_bytes(damage(shard.read_bytes()))
    with pytest.raises(WorkspaceError) as caught:
        workspace.read("audio")
    assert caught.value.hint == f"remove {shard} and run its stage again"
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("table", SCHEMAS)
def test_a_table_that_is_not_there_is_empty(workspace, table):
    assert workspace.read(table).schema == SCHEMAS[table]
    assert workspace.read(table).num_rows == 0
    assert not workspace.has(table)


def test_a_table_that_a_stage_needs_names_the_stage(workspace):
    with pytest.raises(WorkspaceError, match=r"has no audio.*run `mer-ray acquire`"):
        workspace.require("audio", "acquire")


@pytest.mark.parametrize("schema", [*SCHEMAS.values(), features_schema(20)])
def test_every_column_says_its_unit(schema):
    for field in schema:
        assert field.metadata[b"unit"], field.name


def test_units_are_in_the_files(workspace):
    workspace.append_rows("audio", [audio_row("a")])
    on_disk = pq.read_schema(workspace.path("audio", workspace.names("audio")[0]))
    assert on_disk.field("duration_s").metadata[b"unit"] == b"s"
    assert on_disk.field("sample_rate").metadata[b"unit"] == b"Hz"


# matrices ----------------------------------------------------------------------------------------------------------


@st.composite
def matrices(draw) -> tuple[int, list[np.ndarray]]:
    n_dims = draw(st.integers(1, 5))
    shapes = draw(st.lists(st.integers(0, 4), max_size=6))
    values = st.floats(-1e6, 1e6, width=32)
    return n_dims, [draw(hnp.arrays(np.float32, (n, n_dims), elements=values)) for n in shapes]


@given(matrices(), st.data())
def test_matrices_survive_the_column_and_its_slices(made, data):
    n_dims, arrays = made
    column = ragged_column(arrays, n_dims)
    back = ragged_arrays(column)
    assert [a.shape for a in back] == [a.shape for a in arrays]
    assert all(np.array_equal(a, b) for a, b in zip(back, arrays, strict=True))
    start = data.draw(st.integers(0, len(arrays)))
    stop = data.draw(st.integers(start, len(arrays)))
    chunked = pa.chunked_array([column.slice(start, stop - start), column])
    wanted = arrays[start:stop] + arrays
    assert all(np.array_equal(a, b) for a, b in zip(ragged_arrays(chunked), wanted, strict=True))


def test_matrices_survive_the_disk(workspace):
    rng = np.random.default_rng(0)
    frames = {f"t{i}": rng.random((n, 3)).astype(np.float32) for i, n in enumerate([0, 2, 0, 0, 5, 1])}
    for i, part in enumerate([list(frames)[:3], list(frames)[3:]]):
        workspace.append("features/x", frames_table({k: frames[k] for k in part}, 3), str(i))
    rows = workspace.read("features/x", ["track_id", "frames"]).sort_by("track_id")
    for track_id, matrix in zip(rows["track_id"].to_pylist(), ragged_arrays(rows["frames"]), strict=True):
        assert np.array_equal(matrix, frames[track_id])
    assert [len(a) for a in ragged_arrays(rows.slice(1, 4)["frames"])] == [2, 0, 0, 5]


# settings ----------------------------------------------------------------------------------------------------------


def test_other_settings_are_refused_by_name(workspace):
    workspace.claim("extract:mfcc", "features/mfcc", {"hop": 512, "bands": (1, 2), "rate": 22_050})
    workspace.claim("extract:mfcc", "features/mfcc", {"hop": 256})  # nothing was made yet
    workspace.claim("extract:mfcc", "features/mfcc", {"hop": 512, "bands": (1, 2), "rate": 22_050})
    workspace.append("features/mfcc", frames_table({"a": np.ones((1, 2))}, 2), "x")
    workspace.claim("extract:mfcc", "features/mfcc", {"rate": 22_050, "bands": [1, 2], "hop": 512})
    with pytest.raises(WorkspaceError) as caught:
        workspace.claim("extract:mfcc", "features/mfcc", {"hop": 256, "bands": (1, 2), "window": 4})
    message = str(caught.value)
    assert "extract:mfcc.hop was 512, now 256" in message
    assert "extract:mfcc.rate was 22050, now None" in message
    assert "extract:mfcc.window was None, now 4" in message
    assert "bands" not in message
    assert "another --workspace" in message
    recorded = json.loads(workspace.read_bytes("settings", "extract-mfcc.json"))
    assert recorded["settings"]["hop"] == 512


def test_settings_that_are_not_json_are_named(workspace):
    workspace.write_bytes(b"{", "settings", "label.json")
    with pytest.raises(WorkspaceError, match=r"label\.json is not JSON"):
        workspace.claim("label", "labels", {})


# failures ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def clock(monkeypatch):
    """A present that moves a second at every look."""
    start, ticks = tables.now(), iter(range(1_000_000))
    monkeypatch.setattr(tables, "now", lambda: start + timedelta(seconds=next(ticks)))


def fail(workspace: Workspace, stage: str, track_id: str, reason: str, transient: bool = False, attempts: int = 1):
    workspace.append_rows("failures", [failure(stage, track_id, reason, "it broke", transient, attempts)])


def test_the_last_failure_of_a_track_counts(workspace, clock):
    fail(workspace, "acquire", "a", "timeout", True)
    fail(workspace, "acquire", "a", "http_404", attempts=2)
    fail(workspace, "acquire", "b", "timeout", True)
    fail(workspace, "label", "a", "no_tags")
    assert {(f["track_id"], f["reason"], f["attempts"]) for f in workspace.failures("acquire")} == {
        ("a", "http_404", 2),
        ("b", "timeout", 1),
    }
    assert len(workspace.failures()) == 3


def test_what_failed_for_good_is_left_and_the_rest_is_tried_again(workspace, clock):
    fail(workspace, "acquire", "gone", "http_404")
    fail(workspace, "acquire", "slow", "timeout", True, attempts=3)
    ids, done = pa.array(["new", "slow", "done", "gone"]), Ids(["done"])
    todo, attempts = workspace.failed("acquire").todo(ids, done)
    assert (todo.tolist(), attempts.tolist()) == ([True, True, False, False], [0, 3, 0, 1])
    todo, attempts = workspace.failed("acquire").todo(ids, done, retry_failed=True)
    assert (todo.tolist(), attempts.tolist()) == ([True, True, False, True], [0, 3, 0, 1])
    todo, attempts = workspace.failed("label").todo(ids, Ids())
    assert (todo.tolist(), attempts.tolist()) == ([True] * 4, [0] * 4)


def test_a_later_success_mends_a_failure(workspace, clock):
    fail(workspace, "acquire", "a", "timeout", True)
    workspace.append_rows("audio", [audio_row("a")])
    assert workspace.failures() == []


def test_failures_under_settings_since_given_up_do_not_count(workspace, clock):
    workspace.claim("label", "labels", {"lexicon": "one"})
    fail(workspace, "label", "a", "no_known_tag")
    workspace.claim("label", "labels", {"lexicon": "one"})
    assert len(workspace.failures("label")) == 1
    workspace.claim("label", "labels", {"lexicon": "other"})
    assert workspace.failures("label") == []
    assert len(workspace.failed("label")) == 0
    assert workspace.reasons("label").total() == 0


def test_a_stage_that_meets_its_failures_again_starts_them_anew(workspace, clock):
    workspace.claim("collect", "tracks", {})
    fail(workspace, "collect", "a", "incomplete")
    workspace.claim("collect", "tracks", {}, restart=True)
    assert workspace.failures("collect") == []


def test_a_feature_that_failed_is_not_mended_by_another(workspace, clock):
    for name in "mfcc", "vggish":
        workspace.claim(f"extract:{name}", f"features/{name}", {})
    fail(workspace, "extract:vggish", "a", "too_short")
    fail(workspace, "extract", "b", "missing")  # its file was gone before vggish came to it
    workspace.append("features/mfcc", frames_table({"a": np.ones((1, 2)), "b": np.ones((1, 2))}, 2), "x")
    assert {(f["stage"], f["track_id"]) for f in workspace.failures("extract")} == {
        ("extract:vggish", "a"),
        ("extract", "b"),
    }
    assert [f["track_id"] for f in workspace.failures("extract:vggish")] == ["a"]
    assert workspace.reasons("extract") == {"too_short": 1, "missing": 1}
    assert workspace.failed("extract").ids.to_pylist() == ["b"]
    workspace.append("features/vggish", frames_table({"a": np.ones((1, 2)), "b": np.ones((1, 2))}, 2), "x")
    assert workspace.failures() == []


def test_a_file_that_is_decoded_at_last_is_mended_though_it_is_not_fit_for_a_feature(workspace, clock):
    workspace.write_json({"features": ["mfcc", "chroma"]}, "settings", COMPUTED)
    for track in "a", "b":
        fail(workspace, "extract:chroma", track, "too_short")
        fail(workspace, "extract", track, "stuck", True)
    workspace.append("features/mfcc", frames_table({"a": np.ones((1, 2))}, 2), "x")
    fail(workspace, "extract:chroma", "a", "too_short")
    assert {(f["stage"], f["track_id"]) for f in workspace.failures("extract")} == {
        ("extract:chroma", "a"),
        ("extract:chroma", "b"),
        ("extract", "b"),
    }
    assert workspace.failed("extract").ids.to_pylist() == ["b"]


def test_a_feature_that_is_not_asked_for_any_more_does_not_keep_a_failure(workspace, clock):
    for name in "mfcc", "vggish":
        workspace.claim(f"extract:{name}", f"features/{name}", {})
    fail(workspace, "extract", "a", "stuck", True)
    workspace.append("features/mfcc", frames_table({"a": np.ones((1, 2))}, 2), "x")
    assert len(workspace.failures("extract")) == 1
    workspace.write_json({"features": ["mfcc"]}, "settings", COMPUTED)
    assert workspace.failures("extract") == []


def test_a_hostile_message_is_one_line(workspace):
    fail_message = "no\nfile\x1b[31m \udcff" + "x" * 9_999
    workspace.append_rows("failures", [failure("acquire", "a", "missing", fail_message)])
    (row,) = workspace.failures()
    assert row["message"].isprintable()
    assert row["message"].startswith("no file [31m \\udcffxxx")
    assert len(row["message"]) == 500


# places ------------------------------------------------------------------------------------------------------------


def test_a_file_uri_is_the_same_workspace(tmp_path):
    folder = tmp_path / "with blank"
    Workspace(folder).append_rows("audio", [audio_row("a")])
    there = Workspace(folder.as_uri())
    assert there.ids("audio") == {"a"}
    there.append_rows("audio", [audio_row("b")])
    assert Workspace(folder).ids("audio") == {"a", "b"}
    assert there.is_local
    assert pickle.loads(pickle.dumps(there)).ids("audio") == {"a", "b"}


def test_a_relative_workspace_stays_where_it_was(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    workspace = Workspace("here")
    monkeypatch.chdir("/")
    workspace.append_rows("audio", [audio_row("a")])
    assert Workspace(tmp_path / "here").ids("audio") == {"a"}


@pytest.mark.parametrize("place", ["gopher://old/times", "file://relative", "nul\0byte", "~nobody-of-this-name/x"])
def test_a_place_that_cannot_be_is_named(place):
    with pytest.raises(WorkspaceError, match=r"cannot open workspace|a workspace cannot be at"):
        Workspace(place)


def test_a_file_is_no_workspace(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(WorkspaceError, match="is a file"):
        Workspace(tmp_path / "file")
    with pytest.raises(WorkspaceError, match="cannot write"):
        Workspace(tmp_path / "file" / "inside").write_bytes(b"x", "x")
