"""Scores in CSV files that a spreadsheet or a script has saved again: the same values, or a cell that is refused."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow as pa
import pytest
from test_scores_table import row, table
from xlsxwriter import Workbook

from mer_ray.errors import InputError
from mer_ray.io import cells
from mer_ray.scoring import sheet
from mer_ray.scoring.scores_table import NESTED, count, read

ROWS = table(
    row(1, "Ólafur", '"Saman"; two', valence=0.421521, novelty=1e-5, in_distribution=True, size=180_941, mtime_ms=7),
    row(2, "", "-30-", album="a,b", loudness=-16.7, tempo_confidence=0.942, in_distribution=False),
)
ORIGINAL = ROWS.drop([*NESTED, "mtime_ms"]).to_pylist()


def saved(
    file: Path, mark: str = ",", encoding: str = "utf-8", decimal: str = ".", first: str = "", **words: str
) -> Path:
    """The rows as a spreadsheet saves them. words: what it makes of cells."""
    flat = cells.guarded(ROWS.drop(NESTED))
    text = io.StringIO(newline="")
    writer = csv.writer(text, delimiter=mark)
    writer.writerow(flat.column_names)
    for values in flat.to_pylist():
        line = []
        for name, value in values.items():
            shown = "" if value is None else str(value)
            if name == "mtime_ms" and value is not None:
                shown = f"1{decimal}79597E+12"
            line.append(words.get(shown, shown.replace(".", decimal) if isinstance(value, float) else shown))
        writer.writerow(line)
    writer.writerow([""] * len(flat.column_names))
    file.write_bytes((first + text.getvalue()).encode(encoding))
    return file


FORMS: list[dict[str, str]] = [
    {},
    {"encoding": "utf-8-sig"},
    {"mark": ";", "decimal": ",", "True": "WAHR", "False": "FALSCH"},
    {"mark": ";", "decimal": ",", "encoding": "utf-8-sig", "first": "sep=;\r\n"},
    {"mark": ";", "decimal": ",", "encoding": "cp1252", "True": "VRAI", "False": "FAUX"},
    {"mark": "\t", "encoding": "utf-16", "True": "TRUE", "False": "FALSE"},
    {"mark": "\t", "encoding": "utf-16", "decimal": ","},
    {"mark": ",", "decimal": ","},
]


@pytest.mark.parametrize("form", FORMS, ids=lambda form: "-".join(form.values()).strip() or "own")
def test_another_separator_encoding_and_decimal_mark_have_the_same_values(tmp_path, form):
    file = saved(tmp_path / "s.csv", **form)
    found = read(file)
    assert found.drop([*NESTED, "mtime_ms"]).to_pylist() == ORIGINAL
    assert found["mtime_ms"].null_count == 2  # rounded, which is not its time
    assert count(file) == 2


@pytest.mark.parametrize(
    ("cell", "by", "message"),
    [
        ("0000000000000001", "1.2E+15", "s.csv: the track_id 1.2E+15 is a number that a spreadsheet has rounded"),
        ("0000000000000001", "", "s.csv: a row has no track_id"),
        ("0.942", "942", "s.csv: tempo_confidence is 942, and it is from 0 to 1"),
        (
            "0.421521",
            "0,421521",
            "s.csv has numbers with a point and with a comma (duration_s '60.0', valence '0,421521')",
        ),
        ("60.0", "30. Jun", "s.csv: duration_s of track 0000000000000001 is '30. Jun'"),
        ("180941", "180.941", "s.csv: size of track 0000000000000001 is '180.941'"),
        ("True", "perhaps", "s.csv: in_distribution of track 0000000000000001 is 'perhaps'"),
        ("Ólafur", "a\nb", "valence"),
    ],
)
def test_what_a_spreadsheet_has_made_of_a_cell_is_refused_by_name(tmp_path, cell, by, message):
    file = saved(tmp_path / "s.csv", **{cell: by})
    if message == "valence":  # a break in a cell is none between rows
        assert read(file)["artist"][0].as_py() == "a\nb"
        return
    with pytest.raises(InputError) as error:
        read(file, ["uri"] if "confidence" in message else None)
    assert message in str(error.value)


def test_rows_whose_ids_became_the_same_are_counted_aloud(tmp_path, capsys):
    """As of 007 and 7, which a spreadsheet takes for one number."""
    lines = saved(tmp_path / "s.csv").read_text().splitlines(keepends=True)
    lines[2] = lines[2].replace(ROWS["track_id"][1].as_py(), ROWS["track_id"][0].as_py())
    file = tmp_path / "same.csv"
    file.write_text("".join(lines))
    for _ in range(2):
        assert read(file)["title"].to_pylist() == [ROWS["title"][0].as_py()]
    said = " ".join(capsys.readouterr().err.split())
    assert said.count("1 row has the track_id of a row above, which is the one that counts") == 1


def test_a_damaged_table_is_refused_in_plain_words(tmp_path):
    text = saved(tmp_path / "s.csv").read_text()
    head, first, *_ = text.splitlines()
    for broken, message in (
        (f"{head}\n{first},x\n", "a row has 31 cells where the header has 30"),
        (f"{head},title\n{first},x\n", "has the column title twice"),
        ('"track_id,""artist"",""title"""\n', "each of its rows stands in one cell"),
    ):
        (tmp_path / "s.csv").write_text(broken)
        with pytest.raises(InputError, match=message):
            read(tmp_path / "s.csv")
    (tmp_path / "s.csv").write_bytes(text.encode() + "é".encode() + b"\xe9\n")
    with pytest.raises(InputError, match="it is UTF-8 but for 1 bytes"):
        read(tmp_path / "s.csv")


def test_a_guarded_csv_that_was_saved_as_a_workbook_has_its_titles(tmp_path):
    titles = ["-30-", "@home", "=1+1", "'=1+1", "a; -b", "'Til Tuesday"]
    rows = table(*(row(i, title=title) for i, title in enumerate(titles))).drop(NESTED)
    with (tmp_path / "s.xlsx").open("wb") as opened, sheet.Writer(opened, rows.schema) as writer:
        writer.write_table(rows)
    assert read(tmp_path / "s.xlsx")["title"].to_pylist() == titles
    with Workbook(tmp_path / "saved.xlsx") as book:
        page, guarded = book.add_worksheet(), cells.guarded(rows)
        for i, name in enumerate(guarded.column_names):
            page.write_column(0, i, [name, *guarded[name].to_pylist()])
    assert read(tmp_path / "saved.xlsx")["title"].to_pylist() == titles


def test_cells_of_a_workbook_that_are_no_longer_what_was_written(tmp_path):
    def book(name: str, values: pa.Array) -> Path:
        rows = ROWS.drop(NESTED)
        rows = rows.set_column(rows.column_names.index(name), name, values)
        with (tmp_path / "s.xlsx").open("wb") as opened, sheet.Writer(opened, rows.schema) as writer:
            writer.write_table(rows)
        return tmp_path / "s.xlsx"

    for name, values, message in (
        ("track_id", pa.array([1234567890123456.0, 2.0]), "track_id in row 2 is '1234567890123456.0'"),
        ("valence", pa.array([True, True]), "valence in row 2 is 'True'"),
        ("valence", pa.array(["0,42", "0,43"]), "valence in row 2 is '0,42'"),
        ("tempo_confidence", pa.array([942.0, 993.0]), "tempo_confidence is 993, and it is from 0 to 1"),
    ):
        with pytest.raises(InputError, match=message):
            read(book(name, values))
