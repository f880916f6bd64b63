"""Published data sets: one contract for all, on miniature copies in the real layouts (`dataset_copies.py`)."""

from __future__ import annotations

import csv
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from dataset_copies import DYNAMIC, MINIATURES, SONG_LEVEL, Song, write_deam
from hypothesis import given, settings
from hypothesis import strategies as st
from parts import raw_rows, sets

from mer_ray import config
from mer_ray.cli import main
from mer_ray.datasets import DATASETS, base, conversion
from mer_ray.io.cells import unguard
from mer_ray.io.identity import one_line
from mer_ray.sources import manifest

ROOT = Path(__file__).parents[1]
BENCHES = sorted((ROOT / "configs").glob("bench-*.yaml"))


@pytest.fixture
def convert(tmp_path, monkeypatch):
    """Types ``mer-ray dataset NAME FOLDER``: (exit code, what it printed, in one line each)."""
    monkeypatch.setenv("COLUMNS", "1000")
    monkeypatch.chdir(tmp_path)

    def run(name: str, *arguments: object) -> tuple[int, str]:
        result = CliRunner().invoke(main, ["dataset", name, *map(str, arguments)])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.output

    return run


@pytest.fixture(params=sorted(MINIATURES))
def copy(request, tmp_path):
    """(name, folder) of a miniature copy of each data set."""
    MINIATURES[request.param].build(tmp_path / "copy")
    return request.param, tmp_path / "copy"


def read(file: Path) -> list[dict[str, str]]:
    with file.open(encoding="utf-8-sig", newline="") as handle:
        return [{k: unguard(v) for k, v in row.items()} for row in csv.DictReader(handle)]


def holds(cell: str, wanted: object) -> bool:
    if wanted is None:
        return cell == ""
    return float(cell) == pytest.approx(wanted) if isinstance(wanted, int | float) else cell == wanted


def share(value: float, scale: tuple[float, float]) -> float:
    """0 for the lowest value of a scale, 1 for the highest."""
    return (value - scale[0]) / (scale[1] - scale[0])


def test_each_data_set_has_its_miniature():
    assert MINIATURES.keys() == DATASETS.keys()


def test_a_copy_becomes_a_manifest(convert, copy):
    name, folder = copy
    wanted = MINIATURES[name]
    code, printed = convert(name, folder, "--out", "made")
    assert code == 0, printed
    rows = {row["track_id"]: row for row in read(Path(f"made/{name}.csv"))}
    assert len(rows) == wanted.n_tracks
    assert {row["dataset"] for row in rows.values()} == {name}
    for track, columns in wanted.rows.items():
        for column, value in columns.items():
            if column == "path":
                assert rows[track]["path"] == str((folder / str(value)).resolve())
                assert Path(rows[track]["path"]).is_file()
            else:
                assert holds(rows[track].get(column, ""), value), (track, column, rows[track])


def test_labels_over_time_are_a_tidy_table(convert, copy):
    name, folder = copy
    wanted = MINIATURES[name]
    assert convert(name, folder, "--out", "made")[0] == 0
    assert Path("made/curves.csv").exists() == (base.load(name).curve_scale is not None) == bool(wanted.curves)
    if wanted.curves:
        rows = read(Path("made/curves.csv"))
        assert len(rows) == wanted.n_points
        points = {(row["track_id"], float(row["time_s"])): row for row in rows}
        for at, (valence, arousal) in wanted.curves.items():
            assert holds(points[at]["valence"], valence)
            assert holds(points[at]["arousal"], arousal)


def test_the_settings_say_scale_dimensions_curves_split_and_source(convert, copy):
    name, folder = copy
    assert convert(name, folder, "--out", "made")[0] == 0
    text = Path("made/config.yaml").read_text(encoding="utf-8")
    made = yaml.safe_load(text)
    split = made["train"].get("split")
    assert made["collect"] | ({"split": split} if split else {}) == MINIATURES[name].settings
    assert base.load(name).citation in " ".join(made["train"]["about"].split())
    assert base.load(name).licence in text


def test_collect_takes_it_as_it_is(convert, copy):
    name, folder = copy
    wanted = MINIATURES[name]
    assert convert(name, folder, "--out", "made")[0] == 0
    result = CliRunner().invoke(main, ["collect", "-c", "made/config.yaml", "--workspace", "work"])
    assert result.exit_code == 0, result.output
    rows = {row["track_id"]: row for row in raw_rows("work", "tracks").to_pylist()}
    assert len(rows) == wanted.n_tracks
    dataset = base.load(name)
    for track, columns in wanted.rows.items():
        row = rows[track]
        assert row["dataset"] == name
        for field in ("artist", "title", "split"):
            if field in columns:
                assert row[field] == columns[field]
        ratings = {rating["dimension"]: rating for rating in row["ratings"] or []}
        for dimension in set(dataset.dimensions) & columns.keys():
            value, error = columns[dimension], columns.get(f"se_{dimension}")
            assert (dimension in ratings) == (value is not None)
            if value is not None:
                assert ratings[dimension]["value"] == pytest.approx(share(value, dataset.scale), abs=1e-6)
            if error is not None:
                assert ratings[dimension]["se"] == pytest.approx(
                    share(dataset.scale[0] + error, dataset.scale), abs=1e-6
                )
    for (track, time_s), values in wanted.curves.items():
        curves = {curve["dimension"]: curve for curve in rows[track]["curves"] or []}
        for dimension, value in zip(("valence", "arousal"), values, strict=True):
            if value is not None:
                points = dict(zip(curves[dimension]["time_s"], curves[dimension]["value"], strict=True))
                assert points[time_s] == pytest.approx(share(value, dataset.curve_scale), abs=1e-6)


def test_it_prints_what_it_found_and_what_to_do_next(convert, copy):
    name, folder = copy
    code, printed = convert(name, folder)
    dataset = base.load(name)
    assert code == 0
    assert f"{MINIATURES[name].n_tracks} tracks of the {dataset.n_tracks:,}" in printed
    for text in (dataset.citation, dataset.licence, "next: mer-ray ", f"datasets/{name}"):
        assert text in printed
    digest = hashlib.sha256((folder / MINIATURES[name].annotation).read_bytes()).hexdigest()
    assert f"{MINIATURES[name].annotation}, SHA-256 {digest}" in printed


def test_a_missing_annotation_file_is_one_line(convert, copy):
    name, folder = copy
    (folder / MINIATURES[name].annotation).unlink()
    code, printed = convert(name, folder)
    assert code == 2
    assert len(printed.strip().splitlines()) == 1
    assert Path(MINIATURES[name].annotation).name in printed
    assert base.load(name).where in printed
    assert not Path("datasets").exists()


def test_a_wrong_column_is_one_line(convert, copy):
    name, folder = copy
    file = folder / MINIATURES[name].annotation
    column = MINIATURES[name].column
    damaged = file.read_text().replace(column, "no_such_column", 1) if column else "{}\n"
    file.write_text(damaged)
    code, printed = convert(name, folder)
    assert code == 2
    assert len(printed.strip().splitlines()) == 1
    assert file.name in printed
    assert (column or "").strip().casefold() in printed.casefold()
    assert not Path("datasets").exists()


def test_missing_audio_is_counted_and_stays_in_the_manifest(convert, copy):
    name, folder = copy
    rows = MINIATURES[name].rows
    lost = next((folder / str(c["path"]) for c in rows.values() if "path" in c), None)
    if lost is None:
        assert name == "muse"  # no audio belongs to it
        return
    lost.unlink()
    code, printed = convert(name, folder, "--out", "made")
    assert code == 0
    assert lost.name.partition(".")[0] in printed.partition("missing: ")[2].partition("Their tracks")[0]
    assert len(read(Path(f"made/{name}.csv"))) == MINIATURES[name].n_tracks


def test_a_copy_deeper_in_the_folder_is_found(convert, copy):
    name, folder = copy
    around = folder.parent / "downloads"
    around.mkdir()
    folder.rename(around / "release 1.0")
    (around / "__MACOSX").mkdir()
    (around / "__MACOSX" / Path(MINIATURES[name].annotation).name).write_text("resource fork")
    code, printed = convert(name, around, "--out", "made")
    assert code == 0, printed
    assert len(read(Path(f"made/{name}.csv"))) == MINIATURES[name].n_tracks


def test_the_same_copy_gives_the_same_bytes(convert, copy):
    name, folder = copy
    convert(name, folder, "--out", "one")
    convert(name, folder, "--out", "two")
    for file in sorted(Path("one").iterdir()):
        assert file.read_bytes() == Path("two", file.name).read_bytes()


# one data set, one trap -----------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_one_line(convert):
    code, printed = convert("deam", "nowhere")
    assert code == 2
    assert "nowhere is not a folder" in printed
    assert "cvml.unige.ch" in printed


def test_an_archive_with_another_hash_is_refused(convert, tmp_path):
    MINIATURES["emomusic"].build(tmp_path / "copy")
    (tmp_path / "copy/annotations.tar.gz").write_bytes(b"half a download")
    code, printed = convert("emomusic", tmp_path / "copy")
    assert code == 2
    found = hashlib.sha256(b"half a download").hexdigest()
    assert f"annotations.tar.gz has the SHA256 {found}" in printed
    assert "e0cb0b06e1b0ce7f04b1572fc410937699b7fad9dae67ddaa745f06cda4b0b33" in printed
    assert not Path("datasets").exists()


@pytest.mark.parametrize(
    ("name", "file", "old", "new", "message"),
    [
        (
            "deam",
            f"{SONG_LEVEL}/static_annotations_averaged_songs_1_2000.csv",
            "2,3.1",
            "2,31",
            "valence of track deam-2 is 31",
        ),
        (
            "deam",
            f"{SONG_LEVEL}/static_annotations_averaged_songs_1_2000.csv",
            "2,3.1",
            "2,three",
            "no number: 'three'",
        ),
        (
            "deam",
            f"{SONG_LEVEL}/static_annotations_averaged_songs_1_2000.csv",
            "10,",
            "2,",
            "has the song_id of row 1, 2",
        ),
        (
            "pmemo",
            "annotations/dynamic_annotations.csv",
            "1,15.5,0.4",
            "1,15.5,4",
            "arousal of track pmemo-1 at 15.5 s is 4",
        ),
        ("pmemo", "metadata.csv", "4.mp3", "../../../etc/passwd", "no file's name in the copy"),
        (
            "panda4q",
            "panda_dataset_taffc_metadata.csv",
            "MT0000004637",
            "../../etc/passwd",
            "no file's name in the copy",
        ),
        ("mtg-jamendo-mood", "data/splits/split-0/autotagging_moodtheme-test.tsv", "82/382", "../x", "no file's name"),
        ("musav", "data/audio.chunk_000-006.songids", "3VGna0Rewe9Mzvrdycsyg2", "../x", "no Spotify id"),
        ("emomusic", "annotations/songs_info.csv", "\n3,", "\nthree,", "song_id is no number"),
    ],
)
def test_damage_names_the_file_or_the_track(convert, tmp_path, name, file, old, new, message):
    MINIATURES[name].build(tmp_path / "copy")
    damaged = tmp_path / "copy" / file
    text = damaged.read_text()
    assert old in text
    damaged.write_text(text.replace(old, new, 1))
    code, printed = convert(name, tmp_path / "copy")
    assert code == 2
    assert message in printed
    assert len(printed.strip().splitlines()) == 1
    assert not Path("datasets").exists()


OVER_TIME = [("deam", f"{DYNAMIC}/valence.csv"), ("emomusic", "annotations/arousal_cont_average.csv")]
STATIC = [
    ("deam", f"{SONG_LEVEL}/static_annotations_averaged_songs_1_2000.csv"),
    ("emomusic", "annotations/static_annotations.csv"),
    ("pmemo", "annotations/static_annotations.csv"),
    ("pmemo", "annotations/static_annotations_std.csv"),
    ("pmemo", "metadata.csv"),
    ("eerola", "mean_ratings_set1.csv"),
    ("panda4q", "panda_dataset_taffc_metadata.csv"),
]


@pytest.mark.parametrize(
    ("damage", "name", "file"),
    [
        *(("twice", *table) for table in [*OVER_TIME, *STATIC]),
        *(("cut", *table) for table in STATIC),
    ],
)
def test_a_track_twice_and_a_row_cut_are_one_line(convert, tmp_path, damage, name, file):
    MINIATURES[name].build(tmp_path / "copy")
    header, *rows = (tmp_path / "copy" / file).read_text().splitlines()
    made = {
        "twice": [*rows, rows[-1].replace("0.1", "0.2")],  # of two labels, none is taken
        "cut": [*rows[:-1], rows[-1].partition(",")[0]],
    }
    (tmp_path / "copy" / file).write_text("\n".join([header, *made[damage]]) + "\n")
    code, printed = convert(name, tmp_path / "copy")
    assert code == 2
    assert len(printed.strip().splitlines()) == 1
    assert Path(file).name in printed
    assert {"twice": f"of row {len(rows)}, ", "cut": "ends before its"}[damage] in printed
    assert not Path("datasets").exists()


def test_a_link_to_a_folder_stays_one(convert, tmp_path):
    MINIATURES["eerola"].build(tmp_path / "copy")
    (tmp_path / "disk").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    for _ in range(2):
        assert convert("eerola", tmp_path / "copy", "--out", "link")[0] == 0
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "disk" / "eerola.csv").is_file()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["copy", "disk", "link"]


def test_a_dimension_without_labels_over_time_is_told(convert, tmp_path):
    MINIATURES["emomusic"].build(tmp_path / "copy")
    file = tmp_path / "copy/annotations/arousal_cont_average.csv"
    file.write_text(file.read_text().splitlines()[0] + "\n")
    code, printed = convert("emomusic", tmp_path / "copy")
    assert code == 0
    assert ", arousal 0)" in printed


def test_titles_are_no_formulas_in_a_spreadsheet(convert, tmp_path):
    MINIATURES["deam"].build(tmp_path / "copy")
    convert("deam", tmp_path / "copy", "--out", "made")
    assert "\n=" not in (text := Path("made/deam.csv").read_text())
    assert ",'=HYPERLINK(1)," in text
    track = next(t for t in manifest.tracks("made/deam.csv", (1, 9)) if t.id == "deam-10")
    assert track.artist == "=HYPERLINK(1)"


def test_emomusic_validates_on_the_artists_of_jukemir(convert, tmp_path):
    MINIATURES["emomusic"].build(tmp_path / "copy")
    convert("emomusic", tmp_path / "copy", "--out", "made")
    for row in read(Path("made/emomusic.csv")):
        # only ASCII letters count: "Zé!" is "z"
        name = {"emomusic-2": "bessie smith", "emomusic-3": "the rat pack", "emomusic-5": "z"}[row["track_id"]]
        last = int(hashlib.sha1(name.encode()).hexdigest(), 16) % 10
        expected = "test" if row["track_id"] == "emomusic-3" else "valid" if last >= 8 else "train"
        assert row["split"] == expected


def test_musav_has_the_judgements_of_pairs(convert, tmp_path):
    MINIATURES["musav"].build(tmp_path / "copy")
    code, printed = convert("musav", tmp_path / "copy", "--out", "made")
    assert code == 0
    assert "next: mer-ray score made/musav.csv" in printed
    pairs = read(Path("made/pairs.csv"))
    assert [(p["dimension"], p["higher"], p["agreement"]) for p in pairs] == [
        ("valence", "b", "full-agreement"),
        ("valence", "ab", "majority-agreement"),
        ("arousal", "b", "full-agreement"),
        ("arousal", "ab", "majority-agreement"),
    ]
    assert {p["track_a"] for p in pairs} == {"3VGna0Rewe9Mzvrdycsyg2"}


def test_a_folder_made_before_is_replaced_as_a_whole(convert, tmp_path):
    song = Song(2, "A", "One", (3.0, 1.0), (4.0, 1.0), {"valence": {15000: 0.5}})
    write_deam(tmp_path / "copy", [song])
    assert convert("deam", tmp_path / "copy")[0] == 0
    before = {p.name: p.read_bytes() for p in Path("datasets/deam").iterdir()}
    assert convert("deam", tmp_path / "empty")[0] == 2
    static = tmp_path / "copy" / SONG_LEVEL / "static_annotations_averaged_songs_1_2000.csv"
    whole = static.read_text()
    static.write_text(whole.replace("3.0", "30"))
    assert convert("deam", tmp_path / "copy")[0] == 2
    assert {p.name: p.read_bytes() for p in Path("datasets/deam").iterdir()} == before
    static.write_text(whole.replace("3.0", "3.5"))
    assert convert("deam", tmp_path / "copy")[0] == 0
    assert read(Path("datasets/deam/deam.csv"))[0]["valence"] == "3.5"
    assert [p.name for p in Path("datasets").iterdir()] == ["deam"]


def test_nothing_else_is_overwritten(convert, tmp_path):
    MINIATURES["deam"].build(tmp_path / "copy")
    assert convert("deam", tmp_path / "copy", "--out", tmp_path / "copy")[0] == 2
    assert convert("deam", tmp_path / "copy", "--out", tmp_path)[0] == 2
    Path("mine").mkdir()
    Path("mine/thesis.txt").write_text("years")
    code, printed = convert("deam", tmp_path / "copy", "--out", "mine")
    assert code == 2
    assert "thesis.txt" in printed
    assert Path("mine/thesis.txt").read_text() == "years"
    assert convert("deam", tmp_path / "copy")[0] == 0
    Path("datasets/deam/scores.csv").write_text("mine")
    code, printed = convert("deam", tmp_path / "copy")
    assert code == 2
    assert "scores.csv" in printed
    assert Path("datasets/deam/deam.csv").is_file()


def test_another_data_sets_copy_beside_it_changes_nothing(convert, tmp_path):
    for name in ("deam", "emomusic", "pmemo", "eerola"):
        MINIATURES[name].build(tmp_path / "all" / name)
    for name in ("deam", "emomusic", "pmemo", "eerola"):
        alone, together = Path(f"{name}-alone"), Path(f"{name}-together")
        assert convert(name, tmp_path / "all" / name, "--out", alone)[0] == 0
        assert convert(name, tmp_path / "all", "--out", together)[0] == 0
        assert (alone / f"{name}.csv").read_bytes() == (together / f"{name}.csv").read_bytes()


def test_several_data_sets_are_one_catalog(convert, tmp_path):
    for name in ("deam", "pmemo"):
        MINIATURES[name].build(tmp_path / name)
        assert convert(name, tmp_path / name)[0] == 0
    both = ["datasets/deam/deam.csv", "datasets/pmemo/pmemo.csv"]
    settings = sets(
        "collect.dimensions=valence,arousal",
        f"collect.manifest={','.join(both)}",
        "collect.scale={deam: [1, 9], pmemo: [0, 1]}",
    )
    result = CliRunner().invoke(main, ["collect", *settings, "--workspace", "work"])
    assert result.exit_code == 0, result.output
    rows = {row["track_id"]: row for row in raw_rows("work", "tracks").to_pylist()}
    assert len(rows) == MINIATURES["deam"].n_tracks + MINIATURES["pmemo"].n_tracks
    for track, value in ("deam-2", (3.1 - 1) / 8), ("pmemo-1", 0.575):
        found = {rating["dimension"]: rating["value"] for rating in rows[track]["ratings"]}
        assert found["valence"] == pytest.approx(value, abs=1e-6)


def test_a_link_to_a_folder_above_ends(convert, tmp_path):
    MINIATURES["deam"].build(tmp_path / "copy")
    (tmp_path / "copy" / "MEMD_audio" / "up").symlink_to(tmp_path / "copy", target_is_directory=True)
    assert convert("deam", tmp_path / "copy", "--out", "made")[0] == 0


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30)), min_size=1, max_size=5))
def test_names_of_any_kind_come_back_as_they_were(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("any")
    songs = [Song(n, artist, title, (3.0, 1.0), (4.0, 1.0)) for n, (artist, title) in enumerate(names, start=1)]
    write_deam(folder / "copy", songs)
    conversion.run("deam", str(folder / "copy"), str(folder / "made"))
    found = {track.id: track for track in manifest.tracks(folder / "made" / "deam.csv", (1, 9))}
    assert found.keys() == {f"deam-{song.number}" for song in songs}
    for song in songs:
        track = found[f"deam-{song.number}"]
        assert track.artist == one_line(song.artist)
        if one_line(song.title):
            assert track.title == one_line(song.title)


def test_the_docs_describe_each_data_set():
    text = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    for name in DATASETS:
        dataset = base.load(name)
        assert f"mer-ray dataset {name} " in text
        assert f"| `{name}` | {dataset.n_tracks:,} |" in text
        assert dataset.where.split(" ")[0] in text


def test_the_docs_compare_pairs_as_musav_does(convert, tmp_path):
    MINIATURES["musav"].build(tmp_path / "copy")
    assert convert("musav", tmp_path / "copy")[0] == 0
    a, b, c = (row["track_id"] for row in read(Path("datasets/musav/musav.csv")))
    Path("scores.csv").write_text(f"track_id,valence,arousal\n{a},0.2,0.9\n{b},0.7,0.1\n{c},0.5,0.5\n")
    text = (ROOT / "docs" / "datasets.md").read_text(encoding="utf-8")
    code = text.partition("```python\n")[2].partition("```")[0]
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=240)
    cells = [line.split("│")[1:-1] for line in done.stdout.splitlines() if line.startswith("│")]
    rows = [[cell.strip() for cell in row] for row in cells]
    assert ["arousal", "1", "0.0"] in rows
    assert ["valence", "1", "1.0"] in rows


@pytest.mark.parametrize("bench", BENCHES, ids=lambda f: f.stem)
def test_a_protocol_is_layered_on_a_copys_settings(convert, tmp_path, bench):
    name = bench.stem.split("-")[1]
    MINIATURES[name].build(tmp_path / "copy")
    assert convert(name, tmp_path / "copy")[0] == 0
    own = Path("datasets", name, "config.yaml")
    together = config.load(os.pathsep.join([str(own), str(bench)]))
    assert together.collect.manifest == str(own.parent / f"{name}.csv")
    assert together.collect.scale == base.load(name).scale
    assert together.workspace == f"work/{bench.stem}"
    assert base.load(name).title in (together.train.about or "")
    head = bench.read_text(encoding="utf-8").split("workspace:")[0]
    assert f"mer-ray dataset {name} " in head
    assert f"mer-ray run -c datasets/{name}/config.yaml -c configs/{bench.name}" in head
    assert "Published" in head
