"""CSV files and workbooks as spreadsheets take them: no formula, right accents, and back again as it was."""

from __future__ import annotations

import csv
import io
import re
import shutil
import subprocess
import zipfile
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_output import command, commit, finish, rows

from mer_ray.io.cells import BOM, encoded, guard, guarded, unguard
from mer_ray.io.schemas import catalog_scores_schema
from mer_ray.io.tables import failure
from mer_ray.scoring import output, playlist, scores_table, sheet
from mer_ray.scoring.scores_table import NESTED
from mer_ray.sources import manifest

FORMULAS = [
    '=HYPERLINK("http://x.invalid/","Main Title")',
    "+1+cmd|' /C calc'!A0",
    "-2+3",
    "@SUM(1)",
    "\t=1+1",
    "\r=1+1",
    "\n=1+1",
    "  =1+1",
    "'=1+1",
    '"=1+1',
    "＝1+1",
    "＠SUM(1)",
    "\u00a0\u200b\ufeff=1+1",
    "x;=1+1",
    "two\nlines\n=1+1",
]
HARMLESS = [
    "",
    "Main Title",
    "AC-DC",
    "a = b",
    "100% +",
    "O'Neil",
    "'s Wonderful",
    "日本",
    "1812",
    "é;è",
    "a;b",
    "\u202ex",
]
TEXT = st.text() | st.text(st.sampled_from("'\"=+-@ \t\r\n;,a＝\u200b\ufeff\x00\x01_x0"), max_size=9)


@given(TEXT)
def test_any_text_comes_back_and_is_no_formula(text):
    cell = guard(text)
    assert unguard(cell) == text
    assert not cell.startswith(("=", "+", "-", "@", "\t", "\r", "\n", " =", "＝", "＋", "－", "＠"))


@pytest.mark.parametrize("text", FORMULAS)
def test_a_formula_is_guarded(text):
    assert guard(text) != text
    assert guard(guard(text)) != guard(text)


@pytest.mark.parametrize("text", HARMLESS)
def test_other_text_stays_as_it_is(text):
    assert guard(text) == unguard(text) == text


def changed(base: pa.Table, **columns: list[object]) -> pa.Table:
    for name, values in columns.items():
        base = base.set_column(base.column_names.index(name), base.field(name), pa.array(values, base[name].type))
    return base


def written(target: Path, scores: pa.Table) -> Path:
    out = command(target)
    out.workspace.append("scores", scores, "all")
    finish(out)
    return target


@pytest.mark.parametrize("name", ["s.csv", "s.xlsx"])
@settings(max_examples=25)
@given(texts=st.lists(TEXT, min_size=3, max_size=3))
def test_scores_come_back_from_a_spreadsheet(tmp_path_factory, name, texts):
    folder = tmp_path_factory.mktemp("cells")
    cells = [t or "-" for t in texts] if name.endswith("xlsx") else texts  # an empty cell is no text there
    cells = [t.translate({0xFFFE: "", 0xFFFF: ""}) or "-" for t in cells] if name.endswith("xlsx") else cells
    own = dict.fromkeys(("artist", "title", "album", "uri"), cells)
    scores = changed(rows(1, 2, 3), **own, novelty=[-1.5, None, 1 / 3], in_distribution=[None, False, True])
    found = scores_table.read(written(folder / name, scores)).sort_by("track_id")
    flat = [c for c in scores.column_names if c not in NESTED]
    wanted = changed(scores, novelty=[-1.5, None, 0.333333]).select(flat).to_pylist()
    assert found.select(flat).to_pylist() == wanted
    shutil.rmtree(folder)


def test_every_csv_of_a_catalog_is_guarded_and_marked(tmp_path):
    scores = changed(
        rows(*range(len(FORMULAS))),
        **dict.fromkeys(("artist", "title", "album"), FORMULAS),
        uri=[f"-dir/@x/{i}.mp3" for i in range(len(FORMULAS))],
    )
    out, other = command(tmp_path / "s.csv"), command(tmp_path / "s.csv")
    out.workspace.append("scores", scores, "all")
    out.workspace.append_rows("failures", [failure("score", "=bad", "corrupt", "@é: no audio")])
    finish(out)
    names = {"s.csv", "s.failures.csv", "s.rollups.csv"}
    assert {p.name for p in tmp_path.iterdir()} == names
    for name in names:
        data = (tmp_path / name).read_bytes()
        assert data.startswith(BOM), name
        lines = list(csv.reader(io.StringIO(data.decode("utf-8-sig"), newline="")))
        assert len(lines) > 1
        assert [c for line in lines for c in line if c.startswith(("=", "+", "-", "@", "\t", "\r", "\n"))] == []
    # A command that was at work beside it takes up what it has put there, as it was.
    finish(other)
    [failed] = csv.DictReader(io.StringIO((tmp_path / "s.failures.csv").read_text("utf-8-sig")))
    assert (unguard(failed["track_id"]), unguard(failed["message"])) == ("=bad", "@é: no audio")
    assert len(command(tmp_path / "s.csv").done()) == len(FORMULAS)


def test_numbers_are_numbers_of_a_sensible_precision(tmp_path):
    base = changed(rows(1, 2), valence=[1 / 3, 0.1 + 0.2], novelty=[-2 / 3, -1.0], duration_s=[183.123456789, 1.0])
    found = pd.read_csv(written(tmp_path / "s.csv", base))
    assert found.columns[0] == "track_id"
    assert found["valence"].tolist() == [0.333333, 0.3]
    assert found["novelty"].tolist() == [-0.666667, -1.0]
    assert found["duration_s"].tolist() == [183.123457, 1.0]
    assert b"-0.666667,-0" not in (tmp_path / "s.csv").read_bytes()
    assert b",0.333333,0.5,0.5," in (tmp_path / "s.csv").read_bytes()


def test_a_csv_without_the_mark_is_read_too(tmp_path):
    target = written(tmp_path / "s.csv", changed(rows(1), title=["Été"]))
    (tmp_path / "plain.csv").write_bytes(target.read_bytes().removeprefix(BOM))
    for file in target, tmp_path / "plain.csv":
        assert scores_table.read(file)["title"].to_pylist() == ["Été"]
        assert [p["title"].to_pylist() for p in scores_table.pieces(file)] == [["Été"]]
        assert scores_table.count(file) == 1


# workbooks -----------------------------------------------------------------------------------------------------------


def test_a_workbook_has_text_numbers_and_a_header_that_stays(tmp_path):
    target = written(tmp_path / "s.xlsx", changed(rows(*range(len(FORMULAS))), title=FORMULAS))
    with zipfile.ZipFile(target) as book:
        text = book.read("xl/worksheets/sheet1.xml").decode()
        assert not any("hyperlink" in book.read(name).decode().lower() for name in book.namelist() if "rels" in name)
    assert "<f>" not in text
    assert 'ySplit="1"' in text
    assert 'state="frozen"' in text
    written(tmp_path / "s.csv", rows(1))
    assert pd.read_excel(target, engine="calamine").columns.tolist() == pd.read_csv(tmp_path / "s.csv").columns.tolist()
    assert pd.read_excel(target, engine="calamine")["valence"].tolist() == [0.5] * len(FORMULAS)


@pytest.mark.parametrize("name", ["s.csv", "s.xlsx"])
def test_a_spreadsheet_grows_and_nothing_in_it_is_scored_again(tmp_path, name):
    target = tmp_path / name
    first = command(target)
    commit(first, 1, 2)
    first.workspace.append_rows("failures", [failure("score", "a", "corrupt", "a")])
    finish(first)
    second = command(target)
    assert len(second.done()) == 2
    commit(second, 3)
    finish(second)
    assert scores_table.read(target)["track_id"].to_pylist() == [f"{i:016x}" for i in (1, 2, 3)]
    assert {p.name for p in tmp_path.iterdir()} <= {name, "s.rollups.csv", "s.failures.csv"}
    other = output.Output(str(target))
    other.open("other:1")
    assert len(other.done()) == 0
    assert "held 3 scores by m:1" in other.note


def test_people_edit_workbooks(tmp_path):
    changed_by_hand = rows(1).drop(["title", "duration_s", *NESTED])
    extra = pa.table({"title": [1999.0], "duration_s": [60], "mood": ["sad"]})
    both = pa.table(
        [*changed_by_hand.columns, *extra.columns], names=[*changed_by_hand.column_names, *extra.column_names]
    )
    with (tmp_path / "s.xlsx").open("wb") as file, sheet.Writer(file, both.schema) as writer:
        writer.write_table(both)
    (row,) = scores_table.read(tmp_path / "s.xlsx").to_pylist()
    assert (row["title"], row["duration_s"], row["valence"], row["curve"]) == ("1999", 60.0, 0.5, None)


def test_a_text_that_is_too_long_for_a_cell_is_cut(tmp_path):
    target = written(tmp_path / "s.xlsx", changed(rows(1, 2), title=["x" * 40_000, "𝄞" * 20_000]))
    assert [len(t) for t in scores_table.read(target)["title"].to_pylist()] == [32_767, 16_383]


def test_more_tracks_than_a_sheet_has_rows_are_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(sheet, "MAX_ROWS", 2)
    out = command(tmp_path / "s.xlsx")
    commit(out, 1, 2, 3)
    with pytest.raises(output.InputError, match=r"3 tracks are too many for .*s\.xlsx.*\.csv or \.parquet"):
        finish(out)
    assert not (tmp_path / "s.xlsx").exists()


@pytest.mark.parametrize("name", ["s.csv", "s.xlsx"])
def test_libreoffice_shows_what_was_written(tmp_path, name):
    office = shutil.which("soffice")
    if office is None:
        pytest.skip("LibreOffice is not installed")
    titles = [t for t in FORMULAS if not set(t) & set("\r\n\t")] + ["Été à Malmö", "はは"]
    target = written(tmp_path / name, changed(rows(*range(len(titles))), title=titles))
    own = [office, f"-env:UserInstallation=file://{tmp_path}/profile", "--headless", "--convert-to", "fods"]
    own += ["--infilter=CSV:44,34,76"] * name.endswith("csv")  # UTF-8, which its dialog takes from the mark
    subprocess.run([*own, "--outdir", tmp_path / "out", target], check=True, capture_output=True, timeout=240)
    shown = (tmp_path / "out" / "s.fods").read_text(encoding="utf-8")
    assert set(re.findall('table:formula="([^"]*)"', shown)) <= {"of:=TRUE()"}  # its word for a cell that is true
    assert ">track_id<" in shown
    assert "Été à Malmö" in shown
    assert "はは" in shown
    assert 'office:value="0.5"' in shown


@pytest.mark.parametrize("name", ["s.csv", "s.xlsx"])
def test_a_playlist_of_odd_names_still_finds_the_files(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    uris = ["-a.mp3", "@b.mp3", "=c.mp3", "'=d.mp3", "+e/f.mp3", "g;=h.mp3"]
    written(tmp_path / name, changed(rows(*range(len(uris))), uri=uris))
    playlist.run(name, output="l.m3u8")
    lines = [line for line in Path("l.m3u8").read_text().splitlines() if not line.startswith("#")]
    assert sorted(lines) == sorted(uris)


def test_the_packaged_readers_agree(tmp_path):
    """The same scores, from the three kinds of file."""
    scores = changed(rows(1, 2), title=["=x", "Été"], valence=[0.25, 0.75])
    flat = [c for c in scores.column_names if c not in NESTED]
    found = [scores_table.read(written(tmp_path / f"s.{kind}", scores), flat) for kind in ("csv", "xlsx", "parquet")]
    assert found[0].equals(found[2])
    assert found[1].equals(found[2])
    assert pq.read_schema(tmp_path / "s.parquet").names == catalog_scores_schema().names


def test_the_figures_of_a_report_are_marked_only_where_they_need_it():
    assert encoded("network,r\nkernel,0.5\n") == b"network,r\nkernel,0.5\n"
    assert encoded("network,r\nköln,0.5\n") == BOM + "network,r\nköln,0.5\n".encode()


def test_a_file_of_scores_is_a_manifest_of_what_was_written(tmp_path):
    row = {
        "track_id": "a",
        "title": "=1+1",
        "artist": "'-x",
        "uri": "/m/a.mp3",
        "lower_valence": 0.1,
        "upper_valence": 0.2,
    }
    with (tmp_path / "s.csv").open("wb") as sink:
        pacsv.write_csv(guarded(pa.Table.from_pylist([row])), sink)
    [track] = manifest.tracks(tmp_path / "s.csv")
    assert (track.title, track.artist) == ("=1+1", "'-x")
