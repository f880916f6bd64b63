"""No key or password in an address that is scored, or scored into, is printed or written down, at any door."""

from __future__ import annotations

import zipfile
from collections.abc import Callable
from pathlib import Path

import fsspec
import pyarrow.parquet as pq
import pytest
import sounds
from parts import sets
from test_score import SPEC, frames_of, frames_table, many_frames, save_model

import mer_ray as package
from mer_ray.io import address
from mer_ray.io.tables import Workspace

Typed = Callable[..., tuple[int, str, str]]
SECRET = "GEHEIM"
OBJECT = f"memory://key:{SECRET}@bucket/a.wav"
"""An object that can be read."""
ADDRESSES = [
    OBJECT,
    f"s3://key:{SECRET}@bucket/a.wav",
    f"s3://{SECRET}@bucket/a.wav",
    f"s3://key:12/{SECRET}@bucket/a.wav",
    f"s3:/key:{SECRET}@bucket/a.wav",
    f"gs://me:{SECRET}@bucket/a.wav",
    f"abfss://c:{SECRET}@account/a.wav",
    f"ftp://me:{SECRET}@host/a.wav",
    f"s3://bucket/a.wav?secret_key={SECRET}",
    f"https://me:{SECRET}@host/a.wav",
    f"http://u:123/{SECRET}@host",
]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    song = sounds.write(tmp_path / "a.wav", sounds.noise(1.5))
    memory = fsspec.filesystem("memory")
    memory.pipe_file(f"/key:{SECRET}@bucket/a.wav", song.read_bytes())
    memory.pipe_file("/bucket/a.wav", song.read_bytes())


def written(folder: Path) -> str:
    """All that can be read in the files of a folder."""
    text = ""
    for file in filter(Path.is_file, folder.rglob("*")):
        if file.suffix == ".parquet":
            text += repr(pq.read_table(file).to_pylist())
        elif file.suffix == ".xlsx":
            with zipfile.ZipFile(file) as book:
                text += repr([book.read(name) for name in book.namelist()])
        text += str(file) + file.read_bytes().decode("latin-1")
    return text


@pytest.mark.parametrize("uri", ADDRESSES)
@pytest.mark.parametrize("door", ["catalog", "--out", "--model", "--workspace"])
def test_an_address_with_credentials_is_refused(mer_ray: Typed, tmp_path: Path, uri: str, door: str) -> None:
    given = [uri] if door == "catalog" else ["a.wav", door, uri.replace(".wav", ".parquet")]
    code, out, err = mer_ray("score", *given)
    assert code == 2
    assert any(said in out + err for said in ("has credentials", "is a web address", "cannot be at"))
    assert SECRET not in out + err + written(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["a.wav"]


@pytest.mark.parametrize("target", ["s.parquet", "s.csv", "s.xlsx", "folder"])
def test_a_manifests_rows_with_credentials_are_failures(mer_ray: Typed, tmp_path: Path, target: str) -> None:
    listed = tmp_path.parent / "m.csv"
    listed.write_text("path,title\na.wav,Good\n" + "".join(f"{uri},Bad {i}\n" for i, uri in enumerate(ADDRESSES)))
    (tmp_path.parent / "a.wav").write_bytes((tmp_path / "a.wav").read_bytes())
    Path("out").mkdir()
    code, out, err = mer_ray("score", listed, "--out", f"out/{target}")
    assert code == 0, out + err
    texts = out + err
    for command in (["playlist", "--out", "out/p.m3u8"], ["explore", "--out", "out/e.html"], ["neighbours", "Good"]):
        code, out, err = mer_ray(command[0], f"out/{target}", *command[1:])
        assert code == 0 or command[0] == "neighbours", out + err  # there is but one track
        texts += out + err
    assert SECRET not in texts + written(tmp_path)
    if target == "folder":
        failed = Workspace(tmp_path / "out" / target).failures("score")
        assert len(failed) == len(ADDRESSES)
        assert {f["reason"] for f in failed} == {"credentials", "bad_uri"}


def test_rows_of_frames_with_credentials_are_failures(mer_ray: Typed, tmp_path: Path) -> None:
    model = save_model(tmp_path.parent / "model")
    table = many_frames(len(ADDRESSES) + 1)
    uris = ["/music/a.wav", *ADDRESSES]
    pq.write_table(table.append_column("uri", [uris]), tmp_path.parent / "f.parquet")
    code, out, err = mer_ray("score", tmp_path.parent / "f.parquet", "--model", model, "--out", "folder")
    assert code == 0, out + err
    work = Workspace(tmp_path / "folder")
    assert work.read("scores", ["uri"])["uri"].to_pylist() == ["/music/a.wav"]
    failed = work.failures(f"score:{SPEC.name}")
    assert [f["reason"] for f in failed] == ["credentials"] * len(ADDRESSES)
    assert SECRET not in out + err + written(tmp_path)


def test_scores_of_a_workspace_show_its_addresses_without_credentials(mer_ray: Typed, tmp_path: Path) -> None:
    Path("m.csv").write_text(f"path,artist,title\n{OBJECT},A,T\n")
    for stage in "collect", "acquire":
        assert mer_ray(stage, "--workspace", "w", *sets("collect.manifest=m.csv"))[0] == 0
    work, model = Workspace(tmp_path / "w"), save_model(tmp_path / "model")
    (track_id,) = work.read("audio", ["track_id"])["track_id"].to_pylist()
    work.append(f"features/{SPEC.name}", frames_table([(track_id, frames_of(1))]), "x")
    code, out, err = mer_ray("score", "--workspace", tmp_path / "w", "--model", model)
    assert code == 0, out + err
    assert work.read("scores", ["uri"])["uri"].to_pylist() == ["memory://bucket/a.wav"]


def test_the_librarys_function_refuses_them_too() -> None:
    for uri in ADDRESSES:
        table = package.score([uri], errors="ignore")
        (failed,) = package.failures(table).to_pylist()
        assert failed["reason"] == ("bad_uri" if uri.startswith("http") else "credentials")
        assert SECRET not in repr(failed)
        assert (len(table), failed["uri"]) == (0, address.shown(uri))


@pytest.mark.parametrize("command", ["playlist", "explore"])
def test_scores_at_an_address_with_credentials_are_not_read(mer_ray: Typed, command: str) -> None:
    for uri in ADDRESSES:
        code, out, err = mer_ray(command, uri)
        assert (code, "credentials" in out + err) == (2, True)
        assert SECRET not in out + err


@pytest.mark.parametrize("key", ["manifest", "folder"])
def test_a_source_that_is_no_path_is_refused_without_its_credentials(mer_ray: Typed, tmp_path: Path, key: str) -> None:
    for uri in ADDRESSES:
        code, out, err = mer_ray("collect", "--workspace", "w", *sets(f"collect.{key}={uri}"))
        assert code == 2
        assert "and folder are paths of this machine" in out + err
        assert SECRET not in out + err
