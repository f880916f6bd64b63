"""Scores from wherever they are, and the one row that somebody means."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from rich.console import Console

from mer_ray.errors import InputError
from mer_ray.io import buckets
from mer_ray.io.address import located
from mer_ray.io.schemas import DIMENSIONS, SCHEMAS, scores_schema
from mer_ray.io.tables import Workspace
from mer_ray.scoring import sheet
from mer_ray.scoring.scores_table import NESTED, clock, count, find, listing, name, pieces, read

SCHEMA = SCHEMAS["scores"]
NEWER = ("album", "novelty", "sound", "waveform")


def row(i: int, artist: str = "A", title: str = "", **changes: object) -> dict[str, object]:
    scored = {f"{end}{d}": v for end, v in (("", 0.5), ("lower_", 0.4), ("upper_", 0.6)) for d in DIMENSIONS}
    own = {"track_id": f"{i:016x}", "artist": artist, "title": title or f"T{i}", "uri": f"/m/{i}.mp3", "model": "m"}
    rest = {"duration_s": 60.0, "curve": [[0.5] * 3], "curve_hop_s": 1.0, "sound": [0.0], "waveform": [7]}
    return {**own, **scored, **rest, **changes}


def table(*rows: dict[str, object]) -> pa.Table:
    return pa.Table.from_pylist(list(rows), schema=SCHEMA)


WIDTHS = (("lower_", -0.1), ("upper_", 0.1))


def scored(dimensions: tuple[str, ...], first: int = 0, n: int = 3) -> pa.Table:
    """Rows by a model of these dimensions."""
    made = []
    for i in range(first, first + n):
        values = {d: round(0.3 + 0.01 * i + 0.1 * k, 9) for k, d in enumerate(dimensions)}
        ends = {
            f"{end}_{d}": round(v + by, 9) for end, by in (("lower", -0.1), ("upper", 0.1)) for d, v in values.items()
        }
        made.append({**row(i, curve=[[0.5] * len(dimensions)]), **values, **ends})
    return pa.Table.from_pylist(made, schema=scores_schema(dimensions))


def written(rows: pa.Table, file: Path) -> Path:
    """The table as a file of its suffix."""
    flat = rows.drop(NESTED)
    if file.suffix == ".parquet":
        pq.write_table(rows, file)
    elif file.suffix == ".csv":
        pacsv.write_csv(flat, file)
    else:
        with file.open("wb") as opened, sheet.Writer(opened, flat.schema) as writer:
            writer.write_table(flat)
    return file


OTHERS = [("arousal",), ("valence", "arousal"), ("tension", "energy"), ("order", "select", "wonder", "power")]


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".xlsx"])
@pytest.mark.parametrize("dimensions", OTHERS)
def test_scores_of_any_dimensions_come_back_from_any_file(tmp_path, dimensions, suffix):
    rows = scored(dimensions)
    found = read(written(rows, tmp_path / f"s{suffix}"))
    assert found.schema == scores_schema(dimensions)
    kept = list(NESTED) if suffix != ".parquet" else []
    assert found.drop(kept).to_pylist() == rows.drop(kept).to_pylist()
    assert pa.concat_tables(pieces(tmp_path / f"s{suffix}")).equals(found)
    assert read(tmp_path / f"s{suffix}", [dimensions[0], "uri"]).column_names == [dimensions[0], "uri"]
    assert not set(read(tmp_path / f"s{suffix}", without=NESTED).column_names) & set(NESTED)
    assert list(pieces(tmp_path / f"s{suffix}", ["uri"], ("dominance",))) == []


@pytest.mark.parametrize("dimensions", OTHERS)
def test_scores_of_any_dimensions_come_back_from_a_workspace(tmp_path, dimensions):
    for i in range(3):
        Workspace(tmp_path).append("scores", scored(dimensions, i, 1), f"{i}")
    assert read(tmp_path).sort_by("track_id").equals(scored(dimensions))


def test_a_dimension_without_one_of_its_columns_is_named(tmp_path):
    for gone in ("tension", "lower_tension", "upper_tension"):
        written(scored(("tension", "energy")).drop([gone]), tmp_path / "s.csv")
        with pytest.raises(InputError, match=rf"it has no column {gone}: give"):
            read(tmp_path / "s.csv")


def test_a_column_that_somebody_has_added_is_no_dimension(tmp_path):
    rows = scored(("valence", "arousal"))
    for added in ("bpm", "lower_limit", 'x"); DROP TABLE scores; --'):
        rows = rows.append_column(added, pa.array([0.5] * 3))
    for end in ("", "lower_", "upper_"):  # no name of a column that mer-ray writes
        rows = rows.append_column(f'{end}y"', pa.array([0.5] * 3))
    for suffix in (".parquet", ".csv", ".xlsx"):
        assert read(written(rows, tmp_path / f"s{suffix}")).schema == scores_schema(("valence", "arousal"))


def test_a_folder_of_shards_by_models_of_different_dimensions_is_refused(tmp_path):
    written(scored(("valence", "arousal")), tmp_path / "a.parquet")
    written(scored(("tension", "energy")), tmp_path / "b.parquet")
    with pytest.raises(
        InputError, match=r"a\.parquet has scores of valence, arousal, and .*b\.parquet of tension, energy"
    ):
        read(tmp_path)


def test_a_file_a_folder_of_shards_and_a_workspace_read_alike(tmp_path):
    rows = table(row(1), row(2))
    pq.write_table(rows, tmp_path / "s.parquet")
    Workspace(tmp_path / "w").append("scores", rows.slice(0, 1), "a")
    Workspace(tmp_path / "w").append("scores", rows, "b")  # two processes scored the first track
    assert read(tmp_path / "s.parquet").equals(rows)
    for place in (tmp_path / "w", tmp_path / "w" / "scores", (tmp_path / "w").as_uri()):
        assert sorted(read(place)["track_id"].to_pylist()) == rows["track_id"].to_pylist()
    assert read(tmp_path / "w", ["uri", "valence"]).column_names == ["uri", "valence"]


def test_what_an_older_file_lacks_is_null(tmp_path):
    pq.write_table(table(row(1)).drop_columns([*NEWER, "artist"]), tmp_path / "old.parquet")
    found = read(tmp_path / "old.parquet")
    assert found.schema.names == SCHEMA.names
    assert all(found[c].null_count == 1 for c in NEWER)
    assert found["artist"].to_pylist() == [""]


def test_csv_comes_back_but_for_its_lists(tmp_path):
    nasty = 'NA, "quoted"\n=1+1'
    rows = table(row(1, title=nasty, in_distribution=False, novelty=1.5), row(2, album="", artist=""))
    lists = ["curve", "curve_hop_s", "sound", "waveform"]
    pacsv.write_csv(rows.drop_columns(lists), tmp_path / "s.csv")
    found = read(tmp_path / "s.csv")
    assert found.drop_columns(lists).to_pylist() == rows.drop_columns(lists).to_pylist()
    assert found["curve"].null_count == 2


def test_pieces_are_what_is_read_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr("mer_ray.scoring.scores_table._ROWS", 2)
    rows = table(*(row(i, title=f"a\n{i}" if i % 2 else "") for i in range(7)), row(3, album="again"))
    pq.write_table(rows, tmp_path / "s.parquet", row_group_size=3)
    pq.write_table(rows.drop_columns([*NEWER, "artist"]), tmp_path / "old.parquet")
    pacsv.write_csv(rows.drop_columns(["curve", "sound", "waveform", "novelty"]), tmp_path / "s.csv")
    for i in range(len(rows)):
        Workspace(tmp_path / "w").append("scores", rows.slice(i, 1), f"{i}")
    for place in ("s.parquet", "old.parquet", "s.csv", "w", "w/scores"):
        for columns in (None, ["model", "curve", "title"]):
            found = list(pieces(tmp_path / place, columns))
            assert max(map(len, found)) <= (7 if place == "s.csv" else 2)
            assert pa.concat_tables(found).equals(read(tmp_path / place, columns))
        assert count(tmp_path / place) == 8
    with pytest.raises(InputError, match=r"gone\.parquet do not exist"):
        list(pieces(tmp_path / "gone.parquet"))
    pq.write_table(table(*map(row, range(5)), row(5, arousal=1.5)), tmp_path / "range.parquet")
    with pytest.raises(InputError, match="arousal of track 0000000000000005"):
        list(pieces(tmp_path / "range.parquet", ["title"]))


def test_hostile_text_is_listed_as_text():
    rows = table(row(1, "[bold]A[/bold]", "x\ny\x1b[31m\u202e", uri="[link=http://x]/m"), row(2, duration_s=3725.4))
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(listing(rows, [1, 0], np.array([0.25, 1.5])))
    lines = [line.split() for line in console.export_text().splitlines() if line.strip()]
    assert lines[2] == ["1", "A", "–", "T2", "0.50", "0.50", "0.50", "0.25", "1:02:05", "/m/2.mp3"]
    assert lines[3][:5] == ["2", "[bold]A[/bold]", "–", "x", "y"]
    assert "[link=http://x]/m" in lines[3]


def test_a_file_below_the_current_folder_is_listed_as_one_types_it(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    away, below = tmp_path / "away" / "a.ogg", tmp_path / "here" / "Ä b" / "c%20d.mp3"
    for uri, shown in (
        (str(below), "Ä b/c%20d.mp3"),
        (below.as_uri(), "Ä b/c%20d.mp3"),
        (str(away), str(away)),
        ("s3://bucket/a b.ogg", "s3://bucket/a b.ogg"),
        ("music/a.ogg", "music/a.ogg"),
    ):
        assert located(uri) == shown
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(listing(table(row(1, uri=str(below))), [0]))
    assert console.export_text().splitlines()[2].endswith(" Ä b/c%20d.mp3")


def test_the_dimensions_are_listed_by_letters_or_by_names():
    for dimensions, heads in ((("valence", "arousal"), ["V", "A"]), (("tension", "valence"), ["Tension", "Valence"])):
        console = Console(width=120, record=True, file=io.StringIO())
        console.print(listing(scored(dimensions), [0]))
        assert console.export_text().split()[4:7] == [*heads, "Time"]


def test_a_time_reads_as_on_a_player():
    assert [clock(s) for s in (0, 59.6, 187, 3600, None, float("nan"))] == ["0:00", "1:00", "3:07", "1:00:00", "", ""]


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("gone.parquet", "do not exist"),
        ("scores.ods", "neither .parquet nor .csv nor .xlsx"),
        ("text.xlsx", "cannot be read"),
        ("labels.xlsx", "no column lower_valence"),
        ("wrong.xlsx", "wrong.xlsx: valence in row 2 is 'high'"),
        ("text.parquet", "cannot be read"),
        ("labels.parquet", "no column lower_valence"),
        ("labels.csv", "no column lower_valence"),
        ("wrong.csv", "wrong.csv: valence of track x is 'high'"),
        ("empty", "holds no scores"),
        ("range.parquet", "arousal of track 0000000000000002 is 1.5"),
        ("null.csv", "valence of track x is nan"),
    ],
)
def test_anything_else_is_refused_by_name(tmp_path, file, message):
    for text in "scores.ods", "text.parquet", "text.xlsx":
        (tmp_path / text).write_text("PAR1")
    (tmp_path / "empty").mkdir()
    labels = table(row(1)).select(["track_id", *DIMENSIONS])
    pq.write_table(labels, tmp_path / "labels.parquet")
    pacsv.write_csv(labels, tmp_path / "labels.csv")
    pq.write_table(table(row(1), row(2, arousal=1.5)), tmp_path / "range.parquet")
    header = ",".join(["track_id", *(f"{e}{d}" for e in ("", "lower_", "upper_") for d in DIMENSIONS)])
    flat = table(row(1)).drop(NESTED)
    for book, rows in ("labels", labels), ("wrong", flat.set_column(6, "valence", pa.array(["high"]))):
        with (tmp_path / f"{book}.xlsx").open("wb") as opened, sheet.Writer(opened, rows.schema) as writer:
            writer.write_table(rows)
    (tmp_path / "wrong.csv").write_text(f"{header}\nx,high{',0.5' * 8}\n")
    (tmp_path / "null.csv").write_text(f"{header}\nx,{',0.5' * 8}\n")
    with pytest.raises(InputError) as error:
        read(tmp_path / file)
    assert message in str(error.value)
    assert file in str(error.value)
    assert "mer-ray score" in str(error.value) or "score that track again" in str(error.value)


def test_the_row_that_is_meant(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = table(
        row(1, "Hans Zimmer", "Time", uri="music/time.flac"),
        row(2, "Hans Zimmer", "Time (Reprise)", uri=(tmp_path / "Ä b.mp3").as_uri()),
        row(3, "Ólafur Arnalds", "Saman", uri="s3://bucket/saman.ogg"),
    )
    for query, i in (
        ("0000000000000002", 1),
        ("music/time.flac", 0),
        ("./music/../music/time.flac", 0),
        (str(tmp_path / "Ä b.mp3"), 1),
        ("s3://bucket/saman.ogg", 2),
        ("hans zimmer - time", 0),
        ("time", 0),
        ("reprise", 1),
        ("olafur", 2),
        ("SAMAN.ogg", 2),
        ("a b.mp", 1),
    ):
        assert find(rows, query) == i, query
    with pytest.raises(
        InputError, match=r"2 tracks .*'zimmer'.*Hans Zimmer – Time \(0{15}1, music/time.flac\); .*Reprise.*, Ä b.mp3\)"
    ):
        find(rows, "zimmer")
    with pytest.raises(InputError, match="no track is or contains 'Williams'"):
        find(rows, "Williams")
    with pytest.raises(InputError, match="3 tracks"):
        find(rows, "")


def test_a_name_is_one_line():
    assert name("A\nB", "C\x1b[0m") == "A B – C [0m"
    assert name("", "C") == name(None, "C") == "C"


def test_a_garbled_answer_of_a_store_is_read_again_from_there_on(monkeypatch):
    monkeypatch.setattr("time.sleep", lambda s: None)
    whole, failures = pa.record_batch({"x": range(10)}), iter([3, 7])

    def batches():
        end = next(failures, 10)
        yield from (whole.slice(i, 2) for i in range(0, end - 1, 2))
        if end < 10:
            raise OSError("Failed to flush response stream")

    found = pa.Table.from_batches(buckets.read_batches(batches), whole.schema)
    assert found["x"].to_pylist() == [*range(10)]
    with pytest.raises(OSError, match="disk"):
        list(buckets.read_batches(lambda: (_ for _ in ()).throw(OSError("disk"))))
