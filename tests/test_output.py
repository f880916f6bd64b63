"""The place for a catalog's scores: several commands at once, and files that are larger than memory."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest

from mer_ray.errors import InputError
from mer_ray.io.schemas import DIMENSIONS, SCHEMAS, catalog_scores_schema, scores_schema
from mer_ray.io.tables import failure
from mer_ray.scoring import output, preview, scores_table

SCHEMA = SCHEMAS["scores"]
MODEL = "m:1"


def rows(*numbers: int, model: str = MODEL, drawn: int = 1, dimensions: tuple[str, ...] = DIMENSIONS) -> pa.Table:
    """Rows of ``scores``, with so many bytes of waveform."""
    n = len(numbers)
    columns = {
        "track_id": [f"{i:016x}" for i in numbers],
        **{name: ["x"] * n for name in ("artist", "title", "album")},
        "uri": [f"/m/{i:06d}.mp3" for i in numbers],
        **{f"{end}{d}": [0.5] * n for end in ("", "lower_", "upper_") for d in dimensions},
        **{name: [1] * n for name in ("size", "mtime_ms")},
        "sha256": ["x"] * n,
        **{name: [1.0] * n for name in ("duration_s", "decoded_share", "novelty", "curve_hop_s")},
        "in_distribution": [True] * n,
        "curve": [[[0.5] * len(dimensions)]] * n,
        "sound": [[0.0]] * n,
        "waveform": pa.array(list(np.random.default_rng(0).integers(0, 255, (n, drawn), np.uint8))),
        "model": [model] * n,
    }
    schema = scores_schema(dimensions)
    return pa.table([pa.array(columns.get(f.name, [None] * n), f.type) for f in schema], schema=schema)


def command(target: Path) -> output.Output:
    out = output.Output(str(target))
    out.open(MODEL)
    return out


def commit(out: output.Output, *numbers: int) -> None:
    for i in numbers:
        out.workspace.append("scores", rows(i), f"{i}")


def finish(out: output.Output) -> None:
    out.finish(out.workspace.failures(), len(out.done()))


def scored(target: Path) -> list[int]:
    """In the file's order."""
    read = pq.read_table if target.suffix == ".parquet" else pacsv.read_csv
    types = {"convert_options": pacsv.ConvertOptions(column_types={"track_id": pa.string()})}
    return [int(i, 16) for i in read(target, **({} if read is pq.read_table else types))["track_id"].to_pylist()]


# several commands at once --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["s.parquet", "s.csv"])
@pytest.mark.parametrize("before", [[], [9]])
def test_commands_that_score_into_one_file_keep_each_others_rows(tmp_path, name, before):
    target = tmp_path / name
    if before:
        first = command(target)
        commit(first, *before)
        finish(first)
    one, other = command(target), command(target)
    commit(one, 1, 2)
    one.workspace.append_rows("failures", [failure("score", "a", "corrupt", "a")])
    commit(other, 3, 4)
    other.workspace.append_rows("failures", [failure("score", f"{5:016x}", "missing", "b")])
    finish(other)
    assert scored(target) == sorted([1, 2, 3, 4, *before])
    commit(one, 5)
    assert len(one.done()) == 5 + len(before)
    finish(one)
    assert scored(target) == sorted([1, 2, 3, 4, 5, *before])
    # What had failed when the other command took it away, but for what has a score by now.
    failed = (tmp_path / f"s.failures{target.suffix}").read_bytes()
    assert (b"corrupt" in failed, b"missing" in failed) == (True, False)
    assert {p.name for p in tmp_path.iterdir()} == {name, f"s.failures{target.suffix}", "s.rollups.csv"}
    last = command(target)
    finish(last)
    assert {p.name for p in tmp_path.iterdir()} == {name, "s.rollups.csv"}


@pytest.mark.parametrize("limit", [output.SORTED_ROWS, 0])
def test_a_file_that_changes_while_it_is_written_is_written_anew(tmp_path, monkeypatch, limit):
    monkeypatch.setattr(output, "SORTED_ROWS", limit)
    target = tmp_path / "s.parquet"
    one, other = command(target), command(target)
    commit(one, 1)
    plain, message = one._rows, []

    def meanwhile() -> Iterator[pa.Table]:
        message.append(one.workspace.names("scores"))
        yield from plain()
        if len(message) == 1:
            commit(other, 2)
            finish(other)  # which takes the shard of the first one with it
            commit(one, 3)

    monkeypatch.setattr(one, "_rows", meanwhile)
    finish(one)
    assert [len(names) for names in message] == [1, 1]
    assert sorted(scored(target)) == [1, 2, 3]
    assert not one.workspace.exists()


def test_shards_that_appear_while_the_file_is_written_stay(tmp_path, monkeypatch):
    target = tmp_path / "s.parquet"
    one, other = command(target), command(target)
    commit(one, 1)
    plain = one._rows

    def meanwhile() -> Iterator[pa.Table]:
        yield from plain()
        commit(other, 2)
        other.workspace.append_rows("failures", [failure("score", "a", "corrupt", "a")])

    monkeypatch.setattr(one, "_rows", meanwhile)
    finish(one)
    assert scored(target) == [1]
    assert len(other.done()) == 2
    finish(other)
    assert scored(target) == [1, 2]
    assert pq.read_table(tmp_path / "s.failures.parquet")["reason"].to_pylist() == ["corrupt"]
    assert not other.workspace.exists()


def test_the_file_stays_where_nothing_is_new(tmp_path):
    target = tmp_path / "s.parquet"
    first = command(target)
    commit(first, 1)
    finish(first)
    made = target.stat()
    finish(command(target))
    assert (target.stat().st_mtime_ns, target.stat().st_ino) == (made.st_mtime_ns, made.st_ino)


# models of different dimensions ---------------------------------------------------------------------------------------

OTHERS = [("valence", "arousal"), ("tension", "energy"), ("arousal",)]


def score_by(target: Path, model: str, dimensions: tuple[str, ...], *numbers: int) -> output.Output:
    """A command that scores these tracks with a model of these dimensions."""
    out = output.Output(str(target))
    out.open(model, dimensions)
    for i in numbers:
        out.workspace.append("scores", rows(i, model=model, dimensions=dimensions), f"{model} {i}")
    finish(out)
    return out


@pytest.mark.parametrize("limit", [output.SORTED_ROWS, 1])
@pytest.mark.parametrize("name", ["s.parquet", "s.csv", "s.xlsx"])
@pytest.mark.parametrize("dimensions", OTHERS)
def test_a_file_has_the_columns_of_its_model_and_another_model_takes_its_place(
    tmp_path, monkeypatch, dimensions, name, limit
):
    monkeypatch.setattr(output, "SORTED_ROWS", limit)
    target = tmp_path / name
    for model, own, note in (
        ("m:1", DIMENSIONS, ""),
        ("m:2", dimensions, f"{target} held 3 scores by m:1: these take their place"),
        ("m:1", DIMENSIONS, f"{target} held 3 scores by m:2: these take their place"),
    ):
        assert score_by(target, model, own, 1, 2).note == note
        added = score_by(target, model, own, 3)
        assert (added.note, len(added.done())) == ("", 3)
        found = scores_table.read(target)
        assert found.schema == scores_schema(own)
        assert found["model"].to_pylist() == [model] * 3
        if limit > 1:
            with (tmp_path / "s.rollups.csv").open() as rolled:
                heads = rolled.readline().strip().split(",")
            assert {h.strip('"\ufeff').partition("_")[2] for h in heads if h.startswith('"mean_')} == set(own)
    if name == "s.parquet":
        assert pq.read_schema(target).names == catalog_scores_schema().names


@pytest.mark.parametrize("dimensions", OTHERS)
def test_a_folder_of_another_models_scores_is_refused_whatever_its_dimensions(tmp_path, dimensions):
    score_by(tmp_path / "folder", "m:1", DIMENSIONS, 1)
    with pytest.raises(InputError, match="holds scores by m:1, and the model is now m:2"):
        score_by(tmp_path / "folder", "m:2", dimensions, 1)
    score_by(tmp_path / "other", "m:2", dimensions, 1, 2)
    assert scores_table.read(tmp_path / "other").schema == scores_schema(dimensions)


def test_commands_with_models_of_different_dimensions_do_not_mix(tmp_path):
    target = tmp_path / "s.parquet"
    one = command(target)
    commit(one, 1, 2)
    score_by(target, "m:2", ("tension", "energy"), 3)  # meanwhile, and it clears what the first one has left
    commit(one, 1, 2)
    finish(one)
    found = scores_table.read(target)
    assert set(found["model"].to_pylist()) == {MODEL}
    assert found.schema == SCHEMA


# more than memory holds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["s.parquet", "folder"])
def test_of_more_rows_than_are_rolled_up_none_is_read_for_it(tmp_path, monkeypatch, name):
    target = tmp_path / name
    out = command(target)
    commit(out, *range(50))
    rolled = tmp_path / ("s.rollups.csv" if out.is_file else "folder/rollups.csv")
    rolled.write_text("of when there were fewer")
    monkeypatch.setattr(output, "SORTED_ROWS", 49)
    monkeypatch.setattr(preview, "TOO_MANY", 49)
    monkeypatch.setattr(scores_table, "read", None)
    finish(out)
    assert scores_table.count(target) == 50
    assert list(preview.tables(target, 80)) == []
    assert not rolled.exists()


def test_a_file_that_is_added_to_is_not_held_in_memory(tmp_path, monkeypatch):
    n, drawn, group = 4_000, 4_000, 100
    target = tmp_path / "s.parquet"
    with pq.ParquetWriter(target, SCHEMA) as writer:
        for start in range(0, n, group):
            writer.write_table(rows(*range(start, start + group), drawn=drawn))
    monkeypatch.setattr(output, "SORTED_ROWS", 100)
    before = pa.default_memory_pool()
    pool = pa.proxy_memory_pool(before)
    pa.set_memory_pool(pool)
    try:
        out = command(target)
        commit(out, n)
        finish(out)
    finally:
        pa.set_memory_pool(before)
    assert pool.max_memory() < n * drawn  # bytes, of waveforms alone
    assert sorted(scored(target)) == list(range(n + 1))
    assert pq.read_metadata(target).num_row_groups > n // group


@pytest.mark.parametrize(("first", "second"), [("s.csv", "s.xlsx"), ("s.xlsx", "s.parquet"), ("s.parquet", "s.csv")])
def test_files_of_two_models_do_not_share_their_roll_ups_and_failures(tmp_path, first, second):
    out = command(tmp_path / first)
    commit(out, 1)
    out.workspace.append_rows("failures", [failure("score", "a", "corrupt", "a")])
    finish(out)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    other = output.Output(str(tmp_path / second))
    with pytest.raises(InputError, match=rf"{first}, beside {second}, holds scores by m:1, .* m:2: s\.rollups\.csv"):
        other.open("m:2")
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
    same = command(tmp_path / second)  # the same model's scores in another format
    commit(same, 1)
    finish(same)
    assert (tmp_path / "s.rollups.csv").read_bytes() == before["s.rollups.csv"]


def test_another_table_of_that_name_is_no_reason_to_refuse(tmp_path):
    (tmp_path / "s.csv").write_text("path\n/m/1.mp3\n")
    out = command(tmp_path / "s.parquet")
    commit(out, 1)
    finish(out)
    assert (tmp_path / "s.csv").read_text() == "path\n/m/1.mp3\n"
