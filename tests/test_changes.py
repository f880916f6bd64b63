"""What follows from a row of a source, and is void once it is edited: labels, and frames that are precomputed."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import write_tunes
from parts import sets

from mer_ray import features
from mer_ray.features import mfcc
from mer_ray.features.precomputed import Params
from mer_ray.io.schemas import DIMENSIONS, ragged_arrays
from mer_ray.io.tables import Workspace, failure
from mer_ray.training import data

HEADER = "clip_id,path,artist,title,valence,arousal,dominance,tags"
BIAS = {"source_bias": True}
STAGES = ("collect", "label", "acquire", "extract")


@pytest.fixture
def edited(tmp_path, mer_ray):
    """Writes a manifest, and runs stages on it: in a workspace that goes on, or a new one."""

    def run(rows: list[str], workspace: str, *settings: str, stages=STAGES) -> Workspace:
        (tmp_path / "m.csv").write_text("\n".join([HEADER, *rows]) + "\n")
        given = [f"collect.manifest={tmp_path / 'm.csv'}", "label.report=false", *settings]  # no pictures
        for stage in stages:
            code, out, err = mer_ray(
                stage, "--workspace", tmp_path / workspace, *(x for s in given for x in ("--set", s))
            )
            assert code == 0, stage + out + err
        return Workspace(tmp_path / workspace)

    return run


@pytest.fixture
def copied(tmp_path):
    """Copies a workspace, in place of an earlier copy: its name."""

    def copy(workspace: str, name: str = "") -> str:
        name = name or f"copy of {workspace}"
        shutil.rmtree(tmp_path / name, ignore_errors=True)
        shutil.copytree(tmp_path / workspace, tmp_path / name)
        return name

    return copy


def labels(workspace: Workspace) -> list[tuple]:
    return [
        (r["track_id"], r["valence"], r["lexicon"]) for r in workspace.read("labels").sort_by("track_id").to_pylist()
    ]


WHOLE = ["c0,0.wav,A,One,0.1,0.2,0.3,sad", "c1,1.wav,B,Two,0.4,0.5,0.6,happy"]
PART = [WHOLE[0], "c1,1.wav,B,Two,,,,happy"]


@pytest.mark.parametrize(("before", "after"), [(WHOLE, PART), (PART, WHOLE)], ids=["lost", "found"])
def test_a_row_may_lose_its_label_or_get_one(tmp_path, edited, before, after):
    lexicon = tmp_path / "l.txt"
    lexicon.write_text("sad\t0.1\t0.2\t0.3\nhappy\t0.9\t0.8\t0.7\n")
    stages, setting = ("collect", "label"), f"label.lexicon={lexicon}"
    edited(before, "w", setting, stages=stages)
    assert labels(edited(after, "w", setting, stages=stages)) == labels(edited(after, "fresh", setting, stages=stages))


def test_a_lexicon_that_is_named_later_labels_what_brings_no_label(tmp_path, edited):
    """As the note of `label` advises."""
    lexicon = tmp_path / "l.txt"
    lexicon.write_text("sad\t0.1\t0.2\t0.3\nhappy\t0.9\t0.8\t0.7\n")
    assert len(labels(edited(PART, "w", stages=("collect", "label")))) == 1
    found = labels(edited(PART, "w", f"label.lexicon={lexicon}", stages=("collect", "label")))
    assert [v for _, v, _ in found] == [0.1, 0.9]


def in_the_old_form(workspace: Workspace) -> None:
    """Write tracks and labels as versions did that knew valence, arousal and dominance alone."""
    own = pa.struct([pa.field(d, pa.float64()) for d in DIMENSIONS])
    for table, made in (("tracks", workspace.read("tracks")), ("labels", workspace.read("labels"))):
        workspace.discard(table)
        if table == "tracks":
            values = [
                None if r is None else {d: {x["dimension"]: x["value"] for x in r}.get(d) for d in DIMENSIONS}
                for r in made["ratings"].to_pylist()
            ]
            at = made.schema.get_field_index("ratings")
            made = made.drop_columns(["ratings", "curves", "dataset", "split", "fold"])
            made = made.add_column(at, "given", pa.array(values, own))
        else:
            made = made.drop_columns("curves")
        folder = Path(workspace.path(table))
        folder.mkdir()
        pq.write_table(made, folder / "shard.parquet")


def test_a_workspace_of_an_earlier_version_goes_on(tmp_path, edited, mer_ray):
    """Its table ``tracks`` has no ratings, which are another form of the same labels; a part of one was no label."""
    write_tunes(tmp_path, 3)
    rows = [f"c{i},tune00{i}.flac,A,T{i},0.1,0.2,0.{i}," for i in range(2)] + ["c2,tune002.flac,A,T2,0.4,0.5,,"]
    settings = ("extract.features=mfcc", "label.source=manifest")
    workspace = edited(rows, "w", *settings)
    wanted, frames_ = workspace.read("labels").sort_by("track_id"), workspace.names("features/mfcc")
    in_the_old_form(workspace)
    workspace.drop("labels", {"c2"})
    message = failure("label", "c2", "partial_label", "training needs all three")
    workspace.append_rows("failures", [message])
    assert [r["valence"] for r in workspace.read("labels").to_pylist()] == [0.1, 0.1]
    code, out, err = mer_ray("collect", "--workspace", tmp_path / "w")
    assert code == 0, out + err
    assert "3 tracks changed (label 3)" in out
    for stage in STAGES[1:]:
        code, out, err = mer_ray(stage, "--workspace", tmp_path / "w", *sets("label.report=false", *settings))
        assert code == 0, out + err
    assert workspace.read("labels").sort_by("track_id").equals(wanted)
    assert workspace.names("features/mfcc") == frames_
    assert workspace.failures() == []
    spec = features.resolve("mfcc", mfcc.Params())
    loaded = data.load(workspace, spec)
    assert loaded.labels[:, 2].tolist() == [0.0, 0.1, pytest.approx(np.nan, nan_ok=True)]
    code, out, _ = mer_ray("collect", "--workspace", tmp_path / "w")
    assert (code, "nothing new" in out) == (0, True)


def test_split_fold_and_data_set_change_the_training_alone(tmp_path, mer_ray):
    write_tunes(tmp_path, 2)
    workspace, own = Workspace(tmp_path / "w"), ["--workspace", tmp_path / "w", *sets("extract.features=mfcc")]
    text = "id,path,artist,title,valence,arousal,split,fold,dataset\nc0,tune000.flac,A,x,0.1,0.2,train,1,D\n"
    text += "c1,tune001.flac,B,y,0.3,0.2,train,1,D\n"
    kept, prints = [], list[list[str]]()
    for change in ({}, {"train,1,D\nc1": "test,1,D\nc1"}, {",1,D": ",2,E"}):
        for old, new in change.items():
            text = text.replace(old, new)
        (tmp_path / "m.csv").write_text(text)
        for stage in STAGES:
            more = sets(f"collect.manifest={tmp_path / 'm.csv'}", "label.report=false")
            code, out, err = mer_ray(stage, *own, *more)
            assert code == 0, stage + out + err
        kept.append([workspace.names(table) for table in ("labels", "audio", "features/mfcc")])
        spec = features.resolve("mfcc", mfcc.Params())
        loaded = data.load(workspace, spec)
        prints.append([loaded.fingerprint(spec, of) for of in ({}, *({"split": s} for s in ("test", "folds")), BIAS)])
    assert kept[0] == kept[1] == kept[2]
    # Each edit is one of the data of those runs that depend on it, and of no others.
    assert [len(set(of_run)) for of_run in zip(*prints, strict=True)] == [1, 2, 2, 2]
    assert len({of_run for found in prints for of_run in found}) == 7
    assert (loaded.splits, loaded.given_folds, loaded.datasets) == (["test", "train"], ["2", "2"], ["E", "E"])


def precompute(folder: Path, key: str, names: list[str]) -> list[str]:
    """Frames that hold the number of their name; the settings for them."""
    frames = [[[float(i)] * 4] * 3 for i in range(len(names))]
    pq.write_table(pa.table({key: names, "frames": frames, "hop_s": [1.0] * len(names)}), folder / f"{key}.parquet")
    return ["extract.features=yam", f"extract.precomputed.yam.path={folder / key}.parquet"]


def frames(workspace: Workspace) -> dict[str, float]:
    rows = workspace.read("features/yam")
    return {i: float(f[0, 0]) for i, f in zip(rows["track_id"].to_pylist(), ragged_arrays(rows["frames"]), strict=True)}


@pytest.mark.parametrize("stages", [STAGES, ("collect", "label", "extract")], ids=["audio", "no audio"])
@pytest.mark.parametrize("key", ["track_id", "path"])
def test_precomputed_frames_follow_the_name_that_they_are_under(tmp_path, edited, copied, key, stages):
    paths = write_tunes(tmp_path, 3)
    paths[2].write_bytes(paths[0].read_bytes())
    own = precompute(tmp_path, key, [p.name for p in paths] if key == "path" else ["c0", "c1", "c2"])
    rows = [f"c{i},tune00{i}.flac,{'AB'[i]},Song,0.1,0.2,0.3," for i in range(2)]
    edited(rows, "before", *own, stages=stages)
    for edit, after in {
        "paths exchanged": [rows[0].replace("tune000", "tune001"), rows[1].replace("tune001", "tune000")],
        "another id": [rows[0].replace("c0", "c2"), rows[1]],
        "a copy at another path": [rows[0].replace("tune000", "tune002"), rows[1]],
    }.items():
        found = frames(edited(after, copied("before"), *own, stages=stages))
        assert found == frames(edited(after, f"fresh, {edit}", *own, stages=stages)), edit


def test_a_model_of_precomputed_frames_is_outdated_when_paths_are_edited(tmp_path, edited):
    stages = ("collect", "label", "extract")
    own = precompute(tmp_path, "path", ["tune000.flac", "tune001.flac"])
    spec = features.resolve("yam", Params(path=str(tmp_path / "path.parquet")), family="precomputed")
    rows = [f"c{i},tune00{i}.flac,A{i},Song,0.{i}1,0.2,0.3," for i in range(2)]
    before = data.load(edited(rows, "w", *own, stages=stages), spec).fingerprint(spec)
    rows = [rows[0].replace("tune000", "tune001"), rows[1].replace("tune001", "tune000")]
    assert data.load(edited(rows, "w", *own, stages=stages), spec).fingerprint(spec) != before


def raw(workspace: Workspace, table: str) -> list[str]:
    """The ids in a table's shards, as a reader without mer-ray meets them."""
    files = [pq.ParquetFile(workspace.path(table, name)) for name in workspace.names(table)]
    return sorted(i for f in files for i in f.read(["track_id"])["track_id"].to_pylist())


@contextlib.contextmanager
def killed(monkeypatch: pytest.MonkeyPatch, at: int) -> Iterator[None]:
    """Within, a command ends before the file number ``at`` that it would write or delete."""
    steps = []

    def step(function: Callable[..., Any], *arguments: Any) -> Any:
        if len(steps) == at:
            raise KeyboardInterrupt
        steps.append(arguments)
        return function(*arguments)

    with monkeypatch.context() as patch, contextlib.suppress(AssertionError):
        for name in ("write_bytes", "delete"):
            patch.setattr(Workspace, name, functools.partialmethod(functools.partial(step, getattr(Workspace, name))))
        yield


def test_a_run_that_is_killed_before_another_edit_leaves_nothing(tmp_path, edited, copied, monkeypatch):
    """Killed at every step in turn; the source is as it was at first by the next run."""
    write_tunes(tmp_path, 4)
    before = [f"c{i},tune00{i}.flac,A{i},Song {i},0.1,0.2,0.3," for i in range(4)]
    after = [before[0].replace("c0", "x0"), before[1].replace("0.1", "0.9"), before[2].replace("tune002", "tune003")]
    edited(before, "before", "extract.features=mfcc")
    for at in range(12):
        with killed(monkeypatch, at):
            edited(after, copied("before"), "extract.features=mfcc", stages=("collect",))
        workspace = edited(before, "copy of before", "extract.features=mfcc")
        for table in ("tracks", "labels", "audio", "features/mfcc"):
            assert raw(workspace, table) == ["c0", "c1", "c2", "c3"], (at, table)


def test_a_run_that_is_killed_before_the_label_is_edited_leaves_no_old_one(edited, copied, monkeypatch):
    before = [f"c{i},{i}.wav,A{i},Song {i},0.1,0.2,0.3," for i in range(3)]
    moved = [before[0].replace("0.wav", "9.wav"), *before[1:]]
    after = [moved[0].replace("0.1", "0.9"), *before[1:]]
    edited(before, "before", stages=("collect", "label"))
    for at in range(8):
        with killed(monkeypatch, at):
            edited(moved, copied("before"), stages=("collect",))
        found = labels(edited(after, "copy of before", stages=("collect", "label")))
        assert [v for _, v, _ in found] == [0.9, 0.1, 0.1], at


def test_a_look_at_changed_files_that_is_killed_before_another_change(
    long_tests, tmp_path, edited, copied, monkeypatch
):
    paths = write_tunes(tmp_path, 4)
    rows = [f"c{i},tune00{i}.flac,A{i},Song {i},0.1,0.2,0.3," for i in range(3)]
    edited(rows, "before", "extract.features=mfcc")
    for path, time in [(path, path.stat().st_mtime_ns) for path in paths]:
        os.utime(path, ns=(time, time + 10**9))
    for at in range(6):
        with killed(monkeypatch, at):
            edited(rows, copied("before", f"w{at}"), stages=("acquire",))
    paths[0].write_bytes(paths[3].read_bytes())
    fresh = edited(rows, "fresh", "extract.features=mfcc")
    for at in range(6):
        workspace = edited(rows, f"w{at}", "extract.features=mfcc")
        for table in ("audio", "features/mfcc"):
            one, other = (w.read(table).sort_by("track_id").to_pylist() for w in (workspace, fresh))
            assert one == other, (at, table)
            assert raw(workspace, table) == ["c0", "c1", "c2"], (at, table)


def test_a_rename_that_is_killed_before_another_file_comes(long_tests, tmp_path, edited, copied, monkeypatch):
    write_tunes(tmp_path, 3)
    before = [f"c{i},tune00{i}.flac,A{i},Song {i},0.1,0.2,0.3," for i in range(2)]
    renamed = [before[0].replace("c0", "x0"), before[1]]
    edited(before, "before", "extract.features=mfcc")
    for at in range(7):
        with killed(monkeypatch, at):
            edited(renamed, copied("before", f"w{at}"), "extract.features=mfcc", stages=("collect",))
    for n, first in enumerate(rows[0].replace("tune000", "tune002") for rows in (before, renamed)):
        after = [first, before[1]]
        fresh = edited(after, f"fresh{n}", "extract.features=mfcc")
        for at in range(7):
            found = edited(after, copied(f"w{at}"), "extract.features=mfcc")
            one, other = (w.read("features/mfcc").sort_by("track_id").to_pylist() for w in (found, fresh))
            assert one == other, (at, n)
