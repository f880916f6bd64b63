"""Good files among bad ones: `mer_ray.score` and the command score what they can, and account for the rest."""

from __future__ import annotations

import os
import re
import shutil
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sounds
from conftest import write_tunes

import mer_ray as package
from mer_ray.errors import InputError, TrackError
from mer_ray.io.schemas import DIMENSIONS, catalog_scores_schema
from mer_ray.io.tables import Workspace
from mer_ray.scoring import predictor


@pytest.fixture(scope="module")
def model() -> predictor.Predictor:
    return predictor.load()


@pytest.fixture
def page(tmp_path) -> Path:
    return sounds.text(tmp_path / "page.mp3")


def beside_progress(err: str) -> list[str]:
    """Lines on standard error, without those that a busy machine makes a command print."""
    return [line for line in err.splitlines() if not line.startswith("score: ")]


def vad(table: pa.Table) -> np.ndarray:
    return np.stack([table[d].to_numpy() for d in DIMENSIONS], axis=1)


# the Python interface ------------------------------------------------------------------------------------------------


def test_what_can_be_scored_comes_back_and_the_rest_is_told(model, tmp_path, page):
    one, two = write_tunes(tmp_path / "music", 2)
    gone = tmp_path / "gone.wav"
    with pytest.warns(UserWarning, match=r"2 of 5 could not be scored: .*page\.mp3 is a web page") as told:
        table = package.score(iter([two, page, str(one), gone, two]), model)
    assert len(told) == 1
    assert told[0].filename == __file__
    assert table.schema == catalog_scores_schema()
    assert table["uri"].to_pylist() == [str(two), str(one), str(two)]
    assert np.array_equal(vad(table), vad(package.score([two, one, two], model, errors="raise")))
    failed_rows = package.failures(table)
    assert failed_rows.column_names == ["uri", "reason", "message"]
    assert [(r["uri"], r["reason"]) for r in failed_rows.to_pylist()] == [
        (str(page), "corrupt"),
        (str(gone), "missing"),
    ]
    pq.write_table(table, tmp_path / "s.parquet")
    assert package.failures(pq.read_table(tmp_path / "s.parquet")).equals(failed_rows)


def test_nothing_but_bad_files_is_an_empty_table_and_a_warning(model, page):
    with pytest.warns(UserWarning, match="1 of 1 could not be scored"):
        table = package.score(page, model)
    assert table.equals(catalog_scores_schema().empty_table())
    assert len(package.failures(table)) == 1


def test_good_files_warn_of_nothing(model, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = package.score(write_tunes(tmp_path, 1), model)
    assert len(table) == 1
    assert len(package.failures(table)) == 0


def test_the_first_bad_file_may_end_it(model, tmp_path, page):
    good = write_tunes(tmp_path, 1)[0]
    for bad, reason in ((page, "corrupt"), (tmp_path / "gone.wav", "missing")):
        with pytest.raises(TrackError, match=bad.name) as caught:
            package.score([good, bad], model, errors="raise")
        assert caught.value.reason == reason


def test_errors_may_be_ignored_but_not_spelled_wrong(model, page):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(package.failures(package.score([page], model, errors="ignore"))) == 1
    for wrong in ("Raise", "coerce", None, True):
        with pytest.raises(InputError, match="errors="):
            package.score([page], model, errors=wrong)


def test_a_folder_stands_for_the_audio_in_it(model, tmp_path):
    tunes = write_tunes(tmp_path / "music", 2)
    (tmp_path / "music" / "cover.jpg").write_bytes(b"x")
    single = sounds.write(tmp_path / "b.wav", sounds.noise(2.0))
    assert package.score(tmp_path / "music", model)["uri"].to_pylist() == [*map(str, tunes)]
    (tmp_path / "empty").mkdir()
    with pytest.warns(UserWarning, match="empty holds no audio files"):
        table = package.score([single, tmp_path / "empty", os.fsencode(tmp_path / "music")], model)
    assert table["uri"].to_pylist() == [str(single), *map(str, tunes)]
    with pytest.warns(UserWarning, match="is a web address"):
        package.score("https://example.org/a.mp3", model)


# the command ---------------------------------------------------------------------------------------------------------


def test_a_file_is_scored_whatever_it_is_called(mer_ray, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plain = sounds.ffmpeg(
        sounds.write(tmp_path / "x.wav", sounds.noise(2.0)),
        tmp_path / "x.mp3",
        "-metadata",
        "title=T",
        "-metadata",
        "artist=A",
    )
    flac = sounds.write(tmp_path / "x.flac", sounds.chirp(200, 2_000, 2.0))
    names = ["song.bin", "song.txt", "song", "song.csv", "song.mp3.part", "song.json"]
    for name in names:
        shutil.copy(plain, name)
    shutil.copy(flac, "other.mp3")
    code, out, err = mer_ray("score", *names, "other.mp3", "--out", "s.parquet")
    assert (code, beside_progress(err)) == (0, []), out + err
    rows = {Path(r["uri"]).name: r for r in pq.read_table("s.parquet").to_pylist()}
    assert set(rows) == {*names, "other.mp3"}
    expected = package.score([plain, flac], errors="raise").to_pylist()
    for name in names:
        assert (rows[name]["artist"], rows[name]["title"]) == ("A", "T")
        assert [rows[name][d] for d in DIMENSIONS] == pytest.approx([expected[0][d] for d in DIMENSIONS], abs=1e-6)
    assert [rows["other.mp3"][d] for d in DIMENSIONS] == pytest.approx([expected[1][d] for d in DIMENSIONS], abs=1e-6)


@pytest.mark.parametrize("header", ["path,format", "FORMAT,path", "MAC address,path", "ID3 genre,path", "\ufeffpath,x"])
def test_a_manifest_is_one_whatever_its_first_column_is_called(mer_ray, tmp_path, header):
    tune = write_tunes(tmp_path, 1)[0]
    cells = ["x" if "path" not in column else str(tune) for column in header.split(",")]
    (tmp_path / "m.csv").write_text(f"{header}\n{','.join(cells)}\n")
    code, out, err = mer_ray("score", tmp_path / "m.csv", "--out", tmp_path / "s.parquet")
    assert (code, beside_progress(err)) == (0, []), out + err
    assert pq.read_table(tmp_path / "s.parquet")["uri"].to_pylist() == [str(tune)]


def test_all_that_lies_in_a_folder_may_be_given_by_name(mer_ray, tmp_path, monkeypatch):
    """As a shell does with ``score *``."""
    monkeypatch.chdir(tmp_path)
    write_tunes(tmp_path, 1)
    Path("cover.jpg").write_bytes(b"\xff\xd8\xff\xe0" + bytes(range(256)) * 9)
    Path("notes.txt").write_text("One track.\n")
    Path("a.mid").write_bytes(b"MThd\0\0\0\6\0\0\0\1\0\x60MTrk")
    Path("a.m3u").write_text("#EXTM3U\ntune000.flac\n")
    os.mkfifo("pipe.mp3")
    Path("gone").symlink_to("/nowhere/music")
    Path("scans").mkdir()
    Path("scans/page.png").write_bytes(b"x")
    names = ["cover.jpg", "notes.txt", "a.mid", "a.m3u", "gone", "pipe.mp3"]
    code, out, err = mer_ray("score", *names, "scans", "tune000.flac", "--out", "out")
    assert code == 3, "two are missing" + out + err
    assert "skipped 1 folder without audio (scans), 1 file not named as audio (.png 1)" in out
    messages = [(f["message"].removeprefix("manifest "), f["reason"]) for f in Workspace("out").failures()]
    failed_rows = {Path(message.split(" ")[0]).name: reason for message, reason in messages}
    others = {"a.mid": "needs_rendering", "gone": "missing", "pipe.mp3": "missing", "notes.txt": "bad_manifest"}
    assert failed_rows == dict.fromkeys(names, "corrupt") | others
    code, out, err = mer_ray("score", "scans", "scans")
    assert (code, "scans holds no audio files" in err) == (2, True)


def test_every_file_of_a_folder_is_scored_failed_or_skipped(mer_ray, tmp_path):
    music = tmp_path / "music"
    write_tunes(music / "album", 2)
    shutil.copytree(music / "album", tmp_path / "elsewhere")
    (music / "linked").symlink_to("../elsewhere")
    (music / "again").symlink_to("album")
    sounds.text(music / "page.mp3")
    (music / "a.mid").write_bytes(b"MThd\0\0\0\6\0\0\0\1\0\x60MTrk")
    for name in (".DS_Store", "album/._tune000.flac", "cover.jpg", "album/cover.jpg", "x.cue"):
        (music / name).write_bytes(b"x")
    line = "skipped 2 hidden files, 3 files not named as audio (.jpg 2, .cue 1)"
    code, out, err = mer_ray("score", music, "--out", tmp_path / "out")
    assert code == 0, out + err
    assert re.search(r"4 tracks .* 2 failed", out)
    assert [x.strip() for x in out.splitlines() if "skipped" in x] == [line]
    assert sorted(f["reason"] for f in Workspace(tmp_path / "out").failures()) == ["corrupt", "needs_rendering"]
    code, out, err = mer_ray(
        "collect", "--workspace", tmp_path / "w", "--set", "collect.source=folder", "--set", f"collect.folder={music}"
    )
    assert code == 0, out + err
    assert [x.strip() for x in out.splitlines() if "skipped" in x] == [line]
