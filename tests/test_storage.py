"""Files in object stores: whole or not at all, in bounded time, and what is said when a store does not let us in."""

from __future__ import annotations

import os
import pickle
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import object_servers as stores
import pytest
from hypothesis import given
from hypothesis import strategies as st
from services import closed_port

from mer_ray.errors import WorkspaceError
from mer_ray.io.buckets import REACHABLE_S
from mer_ray.io.store import Store
from mer_ray.io.tables import Workspace

MIB = 1 << 20
BIG = 11 * MIB  # two parts of a multipart upload


@pytest.fixture(scope="module")
def s3() -> Iterator[str]:
    with stores.s3() as at:
        yield at


@pytest.fixture(scope="module")
def gcs() -> Iterator[str]:
    with stores.gcs() as at:
        yield at


@pytest.fixture(params=["s3", "gs"])
def server(request: pytest.FixtureRequest) -> tuple[str, str]:
    """(scheme, host:port) of either store."""
    return request.param, request.getfixturevalue({"s3": "s3", "gs": "gcs"}[request.param])


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fewer attempts, so that a test of what never works does not wait for all of them."""
    monkeypatch.setattr("mer_ray.io.buckets.ATTEMPTS", 3)


def put_all(place: Store, files: dict[str, bytes]) -> None:
    for name, data in files.items():
        place.write_bytes(data, "folder", name)


# a folder in a store ----------------------------------------------------------------------------------------------


def test_a_folder_in_a_store_is_like_one_on_a_disk(server: tuple[str, str], tmp_path: Path) -> None:
    kind, at = server
    with stores.Proxy(at) as proxy:
        for place in Store(tmp_path / "w"), Store(stores.uri_of(proxy.at, "like", "w", scheme=kind)):
            assert (place.names("folder"), place.exists("folder")) == ([], False)
            assert place.read_json("folder", "a.json") is None
            put_all(place, {"b.gz": b"no gzip", "a.bin": b"", ".hidden": b"x", "_too": b"x"})
            place.write_json({"a": 1}, "folder", "a.json")
            place.write_json({"a": [1, 2]}, "folder", "a.json")
            assert place.names("folder") == ["a.bin", "a.json", "b.gz"]
            assert [place.read_bytes("folder", n) for n in ("b.gz", "a.bin")] == [b"no gzip", b""]
            assert place.read_json("folder", "a.json") == {"a": [1, 2]}
            assert [place.exists("folder"), place.exists("folder", "a.bin"), place.exists("x")] == [True, True, False]
            (tmp_path / "song").write_bytes(bytes(range(256)) * 4096)
            place.write_file(tmp_path / "song", "media", "song.flac")
            (tmp_path / "empty").touch()
            place.write_file(tmp_path / "empty", "media", "empty.flac")
            assert place.read_bytes("media", "song.flac") == (tmp_path / "song").read_bytes()
            assert place.read_bytes("media", "empty.flac") == b""
            with pytest.raises(FileNotFoundError):
                place.read_bytes("folder", "none")
            again = pickle.loads(pickle.dumps(place))  # as Ray sends it to a worker
            assert again.names("folder") == place.names("folder")
            assert Store(place.at("folder")).names() == place.names("folder")
            place.delete("folder", "a.bin")
            place.delete("folder", "a.bin")
            assert place.names("folder") == ["a.json", "b.gz"]
            place.discard("folder")
            place.discard("folder")
            assert place.names("folder") == []
            place.remove()
            assert not place.exists("media", "song.flac")
            place.sweep()


def test_a_bucket_itself_is_emptied_and_not_removed(gcs: str) -> None:
    with stores.Proxy(gcs) as proxy:
        place = Store(stores.uri_of(proxy.at, scheme="gs").replace("bucket", "bucket/"))
        place.write_bytes(b"x", "a")
        place.write_bytes(b"x", "folder", "a")
        place.remove()
        assert place.names() == []


def test_faults_that_pass_are_ridden_out(server: tuple[str, str]) -> None:
    kind, at = server
    files = {f"{i:02d}": bytes([i]) * 1000 * i for i in range(20)}

    def only_before(method: str, path: str) -> str | None:
        # Unlike Google's, the emulator forgets an upload once it is complete, and tells of a byte that it has not got.
        return draw.choice(("500", "503", "stall")) if method != "PUT" and draw.random() < 0.12 else None

    draw = random.Random(3)
    with stores.Proxy(at, seed=3, rate=0.08) as proxy:
        if kind == "gs":
            proxy.rate, proxy.rule = 0.0, only_before
        place = Store(stores.uri_of(proxy.at, "faults", scheme=kind))
        put_all(place, files)
        assert place.names("folder") == sorted(files)
        assert {n: place.read_bytes("folder", n) for n in files} == files
        assert proxy.injected.total() >= 4
        place.discard("folder")
        assert place.names("folder") == []


def test_a_small_file_is_one_request(s3: str) -> None:
    with stores.Proxy(s3) as proxy:
        place = Store(stores.uri_of(proxy.at, "requests"))
        proxy.asked.clear()
        place.write_bytes(b"x" * MIB, "a")
        assert dict(proxy.asked) == {"PUT": 1}


def test_replacing_a_table_in_a_store_leaves_the_new_rows_alone(s3: str) -> None:
    row = {"artist": "A", "title": "T", "mbid": None, "rule": "spelling"}
    with stores.Proxy(s3) as proxy:
        workspace = Workspace(stores.uri_of(proxy.at, "tables"))
        workspace.replace("merged", [[{"track_id": "1", **row}], [{"track_id": "2", **row}]])
        workspace.replace("merged", [[{"track_id": "2", **row}], [{"track_id": "3", **row}]])
        assert sorted(workspace.read("merged")["track_id"].to_pylist()) == ["2", "3"]
        assert len(workspace.names("merged")) == 2


# whole or not at all ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "failing"), [(1000, "500"), (1000, "lost"), (BIG, "500")])
def test_a_write_that_fails_for_good_leaves_no_object(s3: str, hurried: None, size: int, failing: str) -> None:
    def rule(method: str, path: str) -> str | None:
        last = "partNumber=2" in path if size == BIG else method == "PUT"
        return failing if last else None

    with stores.Proxy(s3) as proxy:
        place = Store(stores.uri_of(proxy.at, "failing", f"{size}{failing}"))
        proxy.rule = rule
        if failing == "500" or size == BIG:
            with pytest.raises(WorkspaceError, match=r"cannot use s3://bucket/failing/.*/a "):
                place.write_bytes(b"x" * size, "a")
            proxy.rule = None
            assert place.names() == []
        else:  # the store has it, though nobody has heard so: it is there, and whole
            with pytest.raises(WorkspaceError):
                place.write_bytes(b"x" * size, "a")
            proxy.rule = None
            assert place.read_bytes("a") == b"x" * size
        place.write_bytes(b"y" * size, "a")
        assert place.read_bytes("a") == b"y" * size


WRITER = """
import sys
from mer_ray.io.store import Store
place = Store(sys.argv[1])
print("ready", flush=True)
for number in range(3):
    place.write_bytes(bytes([number]) * int(sys.argv[2]), f"{number}.bin")
"""


def test_a_writer_that_is_killed_in_the_middle_leaves_whole_objects_only(server: tuple[str, str]) -> None:
    kind, at = server
    asked: list[str] = []

    def rule(method: str, path: str) -> str | None:
        # The second object's upload begins, a part of it arrives, and the rest never does.
        asked.append(path)
        later = [p for p in asked if "1.bin" in p]
        return "hang" if "1.bin" in path and len(later) > 2 else None

    with stores.Proxy(at, rule=rule) as proxy:
        uri = stores.uri_of(proxy.at, "killed", kind, scheme=kind)
        command = [sys.executable, "-c", WRITER, uri, str(BIG)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True)
        deadline = time.monotonic() + 150
        while not proxy.injected["hang"]:
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        proxy.rule = None
        place = Store(uri)
        assert place.names() == ["0.bin"]
        assert place.read_bytes("0.bin") == bytes(BIG)
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, timeout=240)
        assert [place.read_bytes(n) == bytes([i]) * BIG for i, n in enumerate(place.names())] == [True] * 3


# what is said -----------------------------------------------------------------------------------------------------


def refused(uri: str) -> WorkspaceError:
    with pytest.raises(WorkspaceError) as caught:
        Store(uri)
    return caught.value


@pytest.mark.parametrize("kind", ["s3", "gs"])
def test_a_dead_endpoint_is_told_soon(kind: str) -> None:
    start = time.monotonic()
    error = refused(stores.uri_of(f"127.0.0.1:{closed_port()}", "w", scheme=kind))
    assert time.monotonic() - start < REACHABLE_S  # pyarrow's own patience is a matter of minutes
    assert error.message.startswith(f"cannot use {kind}://bucket/w (")
    assert "check the network" in error.hint


def test_a_bucket_that_is_not_there_is_named(server: tuple[str, str]) -> None:
    kind, at = server
    with stores.Proxy(at) as proxy:
        error = refused(stores.uri_of(proxy.at, "w", scheme=kind).replace("bucket", "nobucket"))
    assert "nobucket" in error.message
    assert "make the bucket nobucket first" in error.hint


def test_wrong_credentials_are_told_without_them(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDWRONG")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "geheimnis")
    with stores.Proxy(s3, rule=lambda method, path: "403") as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{proxy.at}")
        error = refused("s3://bucket/w")
    assert "AWS_ACCESS_KEY_ID" in error.hint
    assert "AKIDWRONG" not in str(error)
    assert "geheimnis" not in str(error)


def test_credentials_and_endpoint_of_the_environment_are_used(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDGOOD")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "geheimnis")
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{s3}")
    place = Store("s3://bucket/environment")
    place.write_bytes(b"x", "a")
    assert place.read_bytes("a") == b"x"
    assert "geheimnis" not in repr(place.__reduce__()) + repr(vars(place))


@pytest.mark.parametrize(
    "uri",
    [
        *("s3://AKID:geheimnis@bucket/w", "s3://geheimnis@bucket/w", "gs://me:geheimnis@bucket/w"),
        *("s3://anonymous:geheimnis@bucket/w", "s3://bucket/w?secret_key=geheimnis", "S3://a:geheimnis@b/w"),
    ],
)
def test_credentials_in_the_address_are_refused_and_not_shown(uri: str) -> None:
    error = refused(uri)
    assert "geheimnis" not in str(error)
    assert re.search(r"AWS_ACCESS_KEY_ID|GOOGLE_APPLICATION_CREDENTIALS", error.hint)


@pytest.mark.parametrize(
    "uri", ["hdfs://name/w", "abfs://c@account/w", "mock://w", "https://host/w", "s3:///w", "s3://["]
)
def test_what_is_no_place_for_a_workspace(uri: str) -> None:
    assert str(refused(uri))


@given(st.text(min_size=4), st.text("abcdefgh/%@:?#&=+ é", min_size=4))
def test_no_password_is_ever_shown(path: str, password: str) -> None:
    from urllib.parse import quote

    uri = f"s3://user:Q{quote(password, safe='')}Q@bucket/{quote(path)}"
    assert f"Q{password}Q" not in str(refused(uri))
    assert quote(f"Q{password}Q", safe="") not in str(refused(uri))
