"""``score CATALOG`` again, into the same place, after files have changed, moved or gone."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import write_tunes

from mer_ray.io.identity import file_digest
from mer_ray.scoring import file_changes, scores_table


def values(out: Path) -> dict[str, tuple[float, ...]]:
    """File name → its scores."""
    rows = scores_table.read(out).to_pylist()
    return {Path(r["uri"]).name: (r["valence"], r["arousal"], r["dominance"]) for r in rows}


@pytest.mark.parametrize("name", ["s.parquet", "s.csv", "s.xlsx", "folder"])
def test_scores_follow_their_files(tmp_path, mer_ray, name):
    music, out = tmp_path / "music", tmp_path / name
    paths = write_tunes(music, 5)
    code, message, err = mer_ray("score", music, "--out", out)
    assert code == 0, message + err
    before = values(out)
    assert "nothing new" in mer_ray("score", music, "--out", out)[1]

    shutil.copyfile(paths[1], paths[0])  # another piece of the same name
    paths[2].rename(music / "renamed.flac")
    paths[3].unlink()
    code, message, err = mer_ray("score", music, "--out", out)
    assert code == 0, message + err
    assert ("1 changed" in message, "2 gone" in message, "2 new" in message) == (True, True, True)
    after = values(out)
    expected = {**before, "tune000.flac": before["tune001.flac"], "renamed.flac": before["tune002.flac"]}
    del expected["tune002.flac"], expected["tune003.flac"]
    assert after == {k: pytest.approx(v, abs=1e-6) for k, v in expected.items()}


def test_a_file_that_became_bad_loses_its_score(tmp_path, mer_ray):
    music, out = tmp_path / "music", tmp_path / "s.parquet"
    paths = write_tunes(music, 2)
    assert mer_ray("score", music, "--out", out)[0] == 0
    paths[0].write_bytes(b"no audio at all")
    code, message, _ = mer_ray("score", music, "--out", out)
    assert (code, "1 failed" in message) == (0, True)
    assert list(values(out)) == ["tune001.flac"]
    paths[1].write_bytes(b"nor this")
    assert mer_ray("score", music, "--out", out)[0] == 2
    assert not out.exists()


def test_what_lies_elsewhere_is_not_gone(tmp_path, mer_ray):
    out = tmp_path / "s.parquet"
    for folder in ("one", "two"):
        write_tunes(tmp_path / folder, 1)
        assert mer_ray("score", tmp_path / folder, "--out", out)[0] == 0
    assert len(pq.read_table(out)) == 2
    (tmp_path / "one" / "tune000.flac").rename(tmp_path / "one" / "other.flac")
    assert mer_ray("score", "--keep-gone", tmp_path / "one", "--out", out)[0] == 0
    assert len(pq.read_table(out)) == 3
    assert mer_ray("score", tmp_path / "one", "--out", out)[0] == 0
    assert len(pq.read_table(out)) == 2


def test_scores_of_an_older_version_are_kept_and_that_is_said(tmp_path, mer_ray):
    music, out = tmp_path / "music", tmp_path / "s.parquet"
    (path,) = write_tunes(music, 1)
    assert mer_ray("score", music, "--out", out)[0] == 0
    pq.write_table(pq.read_table(out).drop_columns(["size", "mtime_ms"]), out)
    os.utime(path, ns=(0, 0))
    code, message, _ = mer_ray("score", music, "--out", out)
    assert (code, "do not say which version of their file" in message) == (0, True)


def test_two_files_under_one_id_are_one_score_and_one_failure(tmp_path, mer_ray):
    write_tunes(tmp_path, 2)
    (tmp_path / "m.csv").write_text("track_id,path\nx,tune000.flac\nx,tune001.flac\nx,tune000.flac\n")
    out = tmp_path / "s.parquet"
    code, message, _ = mer_ray("score", tmp_path / "m.csv", "--out", out)
    assert (code, "1 failed" in message) == (0, True)
    assert pq.read_table(out)["track_id"].to_pylist() == ["x"]
    failed = pq.read_table(tmp_path / "s.failures.parquet").to_pylist()
    assert [(f["reason"], "tune001.flac" in f["message"]) for f in failed] == [("duplicate", True)]


EDITS = {
    "c0,tune000.flac,A,ids exchanged": "c1,tune000.flac,A,ids exchanged",
    "c1,tune001.flac,B,ids exchanged": "c0,tune001.flac,B,ids exchanged",
    "c2,tune002.flac,A,paths exchanged": "c2,tune003.flac,A,paths exchanged",
    "c3,tune003.flac,B,paths exchanged": "c3,tune002.flac,B,paths exchanged",
    "c4,tune004.flac,A,another path": "c4,tune005.flac,A,another path",
    "c5,tune006.flac,A,another id": "c9,tune006.flac,A,another id",
    "c6,tune007.flac,A,another title": "c6,tune007.flac,A,Uno",
    ",tune008.flac,A,another artist without an id": ",tune008.flac,B,another artist without an id",
    "c7,tune009.flac,A,the same": "c7,tune009.flac,A,the same",
}
"""Rows of a manifest, before and after."""


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".xlsx"])
def test_scores_follow_a_manifest_with_ids(tmp_path, mer_ray, suffix):
    write_tunes(tmp_path, 10)
    manifest, out, fresh = tmp_path / "m.csv", tmp_path / f"s{suffix}", tmp_path / f"fresh{suffix}"
    names = ["track_id", "uri", "artist", "title", "valence", "arousal"]
    for rows in (EDITS, EDITS.values()):
        manifest.write_text("\n".join(["clip_id,path,artist,title", *rows]))
        code, message, err = mer_ray("score", manifest, "--out", out)
        assert code == 0, message + err
    assert f" {len(EDITS) - 1} changed" in message
    assert mer_ray("score", manifest, "--out", fresh)[0] == 0
    order = [("track_id", "ascending")]
    followed, anew = (scores_table.read(file, names).sort_by(order) for file in (out, fresh))
    assert followed.select(names[:4]) == anew.select(names[:4])
    for name in names[4:]:  # the kernel adds in single precision, in another order in another batch
        assert followed[name].to_numpy() == pytest.approx(anew[name].to_numpy(), abs=1e-6)
    assert "nothing new" in mer_ray("score", manifest, "--out", out)[1]


@pytest.mark.parametrize("name", ["s.parquet", "s.csv", "s.xlsx", "folder"])
def test_names_of_any_kind_are_the_same_names_the_next_time(tmp_path, mer_ray, name):
    titles = ["=1+1", "'=1+1", "1984", "007", " x ", "NA", "null", "a\tb", '"q"', "é – ばば", "-", "@x", "''"]
    titles.append("x" * 600)
    (path,) = write_tunes(tmp_path / "one", 1)
    for i in range(len(titles)):
        shutil.copy(path, tmp_path / f"{i}.flac")
    rows = [{"path": f"{i}.flac", "artist": t, "title": t, "album": t} for i, t in enumerate(titles)]
    rows += [{"path": "one/tune000.flac"}]
    (tmp_path / "m.jsonl").write_text("\n".join(map(json.dumps, rows)))
    assert mer_ray("score", tmp_path / "m.jsonl", "--out", tmp_path / name)[0] == 0
    assert "nothing new" in mer_ray("score", tmp_path / "m.jsonl", "--out", tmp_path / name)[1]


def test_two_places_that_list_a_file_under_two_ids_stay(tmp_path, mer_ray):
    write_tunes(tmp_path / "music", 2)
    (tmp_path / "m.csv").write_text("clip_id,path\nc0,music/tune000.flac\n")
    catalog, out = (tmp_path / "music", tmp_path / "m.csv"), tmp_path / "s.parquet"
    assert mer_ray("score", *catalog, "--out", out)[0] == 0
    before = pq.read_table(out)["track_id"].to_pylist()
    assert "nothing new" in mer_ray("score", *catalog, "--out", out)[1]
    assert pq.read_table(out)["track_id"].to_pylist() == before


def test_the_bytes_decide_where_a_spreadsheet_has_rounded_the_time(tmp_path):
    kept, changed = tmp_path / "kept.mp3", tmp_path / "changed.mp3"
    for file in (kept, changed):
        file.write_bytes(b"as it was")
    names = dict.fromkeys(file_changes.NAMES, "")
    was = [{"uri": str(f), "track_id": f.name, "size": 9, "sha256": file_digest(f), **names} for f in (kept, changed)]
    changed.write_bytes(b"now other")
    scores = pa.Table.from_pylist([{**row, "mtime_ms": None} for row in was])
    listed = pa.Table.from_pylist([{**row, "mtime_ms": 1_795_965_447_270} for row in was])
    void = file_changes.find([scores], [listed], [])
    assert (void.changed, void.gone, void.unknown) == (1, 0, 0)
    assert list(void.ids.mask(pa.array(["kept.mp3", "changed.mp3"]))) == [False, True]
