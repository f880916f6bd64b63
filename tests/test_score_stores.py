"""``mer-ray score`` from a bucket into a bucket: S3's and Google's servers, one of them with faults."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import object_servers as stores
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
import sounds
from conftest import LONG, write_tunes

from mer_ray.io.address import parted
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.io.store import Store
from mer_ray.io.tables import Workspace
from mer_ray.scoring import scores_table


@pytest.fixture(scope="module", params=["s3", "gs"])
def store(request: pytest.FixtureRequest) -> Iterator[tuple[str, str]]:
    """(scheme, host:port). S3's is behind a proxy that makes one request in twenty fail at first."""
    if request.param == "gs":
        with stores.gcs() as at:
            yield "gs", at
        return
    with stores.s3() as at, stores.Watcher(at) as watcher, stores.Proxy(at, seed=5, rate=0.05) as proxy:
        yield "s3", proxy.at
    assert proxy.injected
    assert watcher.broken == []


def typed(mer_ray, *arguments: object) -> str:
    code, out, err = mer_ray(*arguments)
    assert code == 0, out + err
    return out


def refused(mer_ray, *arguments: object) -> str:
    code, out, err = mer_ray("score", *arguments)
    assert (code, out) == (2, ""), out + err
    (line,) = err.splitlines()
    return line


def rows_of(path: object) -> dict[str, list[float]]:
    """V, A, D by title."""
    rows = scores_table.read(str(path), ["title", *DIMENSIONS]).to_pylist()
    found = {r["title"]: [r[d] for d in DIMENSIONS] for r in rows}
    assert len(found) == len(rows)
    return found


@pytest.mark.parametrize("name", ["s.parquet", "s.csv", "folder"] if LONG else ["s.parquet", "folder"])
def test_a_bucket_is_as_good_as_a_disk(store, mer_ray, tmp_path, name, request):
    kind, at = store
    if (kind, name) == ("s3", "folder"):  # a file in S3 and a folder in gs are looked at
        request.getfixturevalue("long_tests")
    bucket = Store(stores.uri_of(at, name.replace(".", "-"), scheme=kind))
    music = tmp_path / "music"
    write_tunes(music, 3, seconds=1.2)
    (music / "zz.flac").write_text("no music")
    for file in sorted(music.iterdir()):
        bucket.write_file(file, "music", file.name)
    catalog, target = bucket.at("music/"), bucket.at(name)
    assert "3 tracks · 1 failed" in typed(mer_ray, "score", catalog, "--out", target)
    typed(mer_ray, "score", music, "--out", tmp_path / "local.parquet")
    found, expected = rows_of(target), rows_of(tmp_path / "local.parquet")
    assert found.keys() == expected.keys()
    assert all(found[title] == pytest.approx(expected[title], abs=1e-6) for title in found)

    # Again, and with one file more and one mended.
    again = typed(mer_ray, "score", catalog, "--out", target)
    assert "3 tracks · nothing new, found everything done · 1 failed" in again
    bucket.write_file(sounds.write(tmp_path / "new.flac", sounds.noise(1.5)), "music", "new.flac")
    bucket.write_file(tmp_path / "new.flac", "music", "zz.flac")
    assert "5 tracks · 2 new" in typed(mer_ray, "score", catalog, "--out", target)
    assert len(rows_of(target)) == 5

    # What is there, and nothing else.
    if name == "folder":
        workspace = Workspace(target)
        assert len(workspace.ids("scores")) == 5
        assert "rollups.csv" in workspace.names()
    else:
        assert set(bucket.names()) - {"music"} == {name, "s.rollups.csv"}  # Google's lists no folders
        assert bucket.names(f"{name}.parts", "scores") == []
        (tmp_path / name).write_bytes(bucket.read_bytes(name))
        plain = pq.read_table if name.endswith("parquet") else pacsv.read_csv
        assert len(plain(tmp_path / name)) == 5

    # And it can be used from there.
    first = scores_table.read(target, ["track_id"])["track_id"][0].as_py()
    assert "new" in typed(mer_ray, "neighbours", target, first)
    assert "new" in typed(mer_ray, "playlist", target, "--where", "valence >= 0")
    typed(mer_ray, "explore", target, "--out", tmp_path / "page.html")
    assert "new" in (tmp_path / "page.html").read_text(encoding="utf-8")


def test_what_was_scored_before_a_kill_is_not_scored_again(store, mer_ray, tmp_path):
    kind, at = store
    music = tmp_path / "music"
    write_tunes(music, 2, seconds=1.2)
    bucket = Store(stores.uri_of(at, "killed", scheme=kind))
    typed(mer_ray, "score", music, "--out", bucket.at("before"))
    for folder in ("scores", "settings"):  # as if killed before the file was written
        for name in bucket.names("before", folder):
            bucket.write_bytes(bucket.read_bytes("before", folder, name), "s.parquet.parts", folder, name)
    bucket.discard("before")
    write_tunes(music, 3, seconds=1.2)
    assert "3 tracks · 1 new" in typed(mer_ray, "score", music, "--out", bucket.at("s.parquet"))
    assert len(rows_of(bucket.at("s.parquet"))) == 3
    assert bucket.names() == ["s.parquet", "s.rollups.csv"]


def test_places_that_make_no_sense_are_one_line(store, mer_ray, tmp_path):
    kind, at = store
    music = tmp_path / "music"
    write_tunes(music, 1, seconds=1.2)
    bucket = Store(stores.uri_of(at, "none", scheme=kind))
    assert "must end in .parquet or .csv" in refused(mer_ray, music, "--out", bucket.at("s.ods"))
    message = refused(mer_ray, music, "--out", f"{kind}://me:sesame@bucket/s.csv")
    assert "has credentials in its URI" in message
    assert "sesame" not in message
    message = refused(mer_ray, music, "--out", stores.uri_of(at, "s.csv", scheme=kind).replace("bucket/", "nobodys/"))
    assert "make the bucket nobodys first" in message
    bucket.write_bytes(b"one,two\n1,2\n", "notes.csv")
    assert "notes.csv is no file of scores" in refused(mer_ray, music, "--out", bucket.at("notes.csv"))
    assert bucket.read_bytes("notes.csv") == b"one,two\n1,2\n"
    code, _, err = mer_ray("neighbours", bucket.at("gone.parquet"), "x")
    assert (code, "gone.parquet do not exist" in err) == (2, True)
    if kind == "gs":  # S3's is watched for such files
        bucket.write_bytes(b"PAR1", "bad.parquet")
        code, _, err = mer_ray("neighbours", bucket.at("bad.parquet"), "x")
        assert (code, "bad.parquet cannot be read" in err) == (2, True)


@pytest.mark.parametrize("place", ["abfs://account/s.csv", "hdfs://name/folder"])
def test_stores_that_cannot_be_written_whole_are_refused(mer_ray, tmp_path, place):
    write_tunes(tmp_path / "music", 1, seconds=1.2)
    assert "cannot be at" in refused(mer_ray, tmp_path / "music", "--out", place)


@pytest.mark.parametrize(
    ("uri", "folder", "name"),
    [
        ("s3://b/a/s.csv", "s3://b/a", "s.csv"),
        ("s3://b/s.csv?region=x", "s3://b?region=x", "s.csv"),
        ("gs://b/a%20b/", "gs://b", "a b"),
        ("s3://b", "s3://b", ""),
        ("s3://b/", "s3://b/", ""),
    ],
)
def test_a_folder_and_a_name_in_it(uri, folder, name):
    assert parted(uri) == (folder, name)


def test_a_job_does_not_write_into_what_is_thrown_away(mer_ray, tmp_path, monkeypatch):
    job = tmp_path / "session_1" / "runtime_resources" / "working_dir_files" / "_ray_pkg_0"
    write_tunes(job / "music", 1, seconds=1.2)
    monkeypatch.chdir(job)
    assert "Ray throws away" in refused(mer_ray, "music")
    assert "Ray throws away" in refused(mer_ray, "--workspace", "w")
    assert "1 tracks" in typed(mer_ray, "score", "music", "--out", tmp_path / "s.parquet")
    assert [p.name for p in Path.cwd().iterdir()] == ["music"]
