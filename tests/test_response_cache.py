"""Raw responses on disk or in a bucket: what was put is found again, whoever wrote, and whatever broke off."""

from __future__ import annotations

import gzip
import itertools
import json
import os
import re
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import object_servers as stores
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_ray.errors import WorkspaceError
from mer_ray.io.tables import Workspace
from mer_ray.sources import response_cache as module
from mer_ray.sources.response_cache import SUFFIX, ResponseCache, request_hash

# Lone surrogates too: no service should send them, and none may break the store.
TEXTS = st.text(st.characters(exclude_categories=()), max_size=200)
REQUESTS = st.dictionaries(st.sampled_from(["method", "artist", "track", "page"]), TEXTS | st.integers(), min_size=1)


def ask(i: int) -> dict[str, str | int]:
    return {"method": "track.getTopTags", "track": f"Title {i}"}


def filled(folder: Path, n: int = 5) -> Path:
    """The file that n responses were put in."""
    with ResponseCache(folder) as cache:
        for i in range(n):
            cache.put(ask(i), f"<answer {i}>" * 20)
    (file,) = folder.iterdir()
    return file


def text(cache: ResponseCache, request: dict[str, str | int]) -> str | None:
    """What a cache has for a request."""
    found = cache.get(request)
    return None if found is None else found.text


def members(file: Path) -> list[int]:
    """Where each answer of an intact file begins, and the file's end."""
    lengths = [length for _, _, length in ResponseCache(file.parent)._members(file.name)]
    return [0, *itertools.accumulate(lengths)]


def lines(file: Path) -> list[dict[str, object]]:
    """What ``zcat`` shows, by a reader that knows nothing of ours."""
    with gzip.open(file, "rb") as unpacked:
        return [json.loads(line) for line in unpacked]


def test_what_was_put_is_found_with_its_time(tmp_path: Path) -> None:
    before = datetime.now(UTC) - timedelta(milliseconds=1)
    with ResponseCache(tmp_path / "new" / "folder") as cache:
        cache.put(ask(1), "one")
        assert ask(1) not in cache  # reload has not seen it yet
        assert cache.get(ask(1)) is None
        cache.reload()
        assert ask(1) in cache
        assert ask(2) not in cache
        found = cache.get(ask(1))
    assert found is not None
    assert (found.text, before <= found.at <= datetime.now(UTC)) == ("one", True)
    assert len(cache) == 1


def test_an_empty_folder_has_no_answers_and_is_not_made(tmp_path: Path) -> None:
    with ResponseCache(tmp_path / "none") as cache:
        assert len(cache) == 0
        assert cache.get(ask(1)) is None
        assert cache.size_bytes() == 0
    assert not (tmp_path / "none").exists()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(REQUESTS, TEXTS), max_size=8))
def test_any_text_comes_back_as_it_was(asked: list[tuple[dict[str, str | int], str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        with ResponseCache(folder) as cache:
            for question, said in asked:
                cache.put(question, said)
        again = ResponseCache(folder)
        last = {json.dumps(question, sort_keys=True): (question, said) for question, said in asked}
        assert len(again) == len(last)
        for question, said in last.values():
            assert text(again, question) == said


@given(st.permutations([("a", 1), ("b", "2"), ("c", "ö")]))
def test_the_order_of_a_requests_parameters_does_not_matter(pairs: list[tuple[str, str | int]]) -> None:
    assert request_hash(dict(pairs)) == request_hash({"a": 1, "b": "2", "c": "ö"})


@given(REQUESTS, REQUESTS)
def test_requests_that_differ_have_other_hashes(one: dict[str, str | int], other: dict[str, str | int]) -> None:
    assert (request_hash(one) == request_hash(other)) == (one == other)


def test_the_last_answer_counts_within_a_file_and_across_files(tmp_path: Path) -> None:
    for run in range(3):
        with ResponseCache(tmp_path) as cache:
            cache.put(ask(1), f"{run} first")
            cache.put(ask(1), f"{run} second")
            cache.reload()
            assert text(cache, ask(1)) == f"{run} second"
    assert len(list(tmp_path.iterdir())) == 3
    again = ResponseCache(tmp_path)
    assert len(again) == 1
    assert text(again, ask(1)) == "2 second"


def test_threads_and_stores_write_at_once_and_lose_nothing(tmp_path: Path) -> None:
    stores = [ResponseCache(tmp_path) for _ in range(2)]
    together = threading.Barrier(6, timeout=240)

    def write(writer: int) -> None:
        together.wait()
        for i in range(100):
            stores[writer % 2].put({"writer": writer, "i": i}, f"{writer} {i} " + "x" * (i % 17) * 100)

    threads = [threading.Thread(target=write, args=(writer,)) for writer in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        store.__exit__(None, None, None)
    assert len(list(tmp_path.iterdir())) == 2
    again = ResponseCache(tmp_path)
    assert len(again) == 600
    for writer in range(6):
        for i in range(100):
            assert text(again, {"writer": writer, "i": i}) == f"{writer} {i} " + "x" * (i % 17) * 100


def test_readers_see_a_writers_answers_while_it_writes(tmp_path: Path) -> None:
    with ResponseCache(tmp_path) as writer:
        reader = ResponseCache(tmp_path)
        for i in range(20):
            writer.put(ask(i), str(i))
            reader.reload()
            assert len(reader) == i + 1
            assert text(reader, ask(i)) == str(i)


def test_an_answer_survives_the_end_of_its_process(tmp_path: Path) -> None:
    script = (
        "import os, sys; from mer_ray.sources.response_cache import ResponseCache; cache = ResponseCache(sys.argv[1]);"
        "[cache.put({'i': i}, f'answer {i}') for i in range(50)]; os.kill(os.getpid(), 9)"
    )
    ended = subprocess.run([sys.executable, "-c", script, str(tmp_path)], timeout=240)
    assert ended.returncode == -9
    again = ResponseCache(tmp_path)
    assert len(again) == 50


def test_every_byte_length_of_a_torn_answer_is_seen_as_torn(tmp_path: Path) -> None:
    whole = filled(tmp_path / "whole").read_bytes()
    *_, last, end = members(tmp_path / "whole" / next((tmp_path / "whole").iterdir()).name)
    assert end == len(whole)
    file = tmp_path / "torn" / f"20260101T000000.000000-00000000{SUFFIX}"
    file.parent.mkdir()
    for length in range(last, end + 1):
        file.write_bytes(whole[:length])
        cache = ResponseCache(file.parent)
        assert len(cache) == (5 if length == end else 4), length
        for i in range(4):
            assert text(cache, ask(i)) == f"<answer {i}>" * 20
        assert (ask(4) in cache) is (length == end)


def test_torn_answers_of_one_file_hide_nothing_in_another(tmp_path: Path) -> None:
    file = filled(tmp_path)
    os.truncate(file, file.stat().st_size - 3)
    with ResponseCache(tmp_path) as cache:
        assert ask(4) not in cache
        cache.put(ask(4), "asked again")
    again = ResponseCache(tmp_path)
    assert len(again) == 5
    assert text(again, ask(4)) == "asked again"


@pytest.mark.parametrize(
    "foreign",
    [
        b"\0" * 4096,
        b"no gzip at all",
        gzip.compress(b'{"asked": {}, "answer": "from another program"}\n'),
        b"\x1f\x8b\x08\x04",
        bytes(range(256)) * 10,
    ],
    ids=["zeros", "text", "gzip", "header", "all bytes"],
)
def test_foreign_bytes_are_no_answers(tmp_path: Path, foreign: bytes) -> None:
    file = filled(tmp_path)
    (tmp_path / f"20990101T000000.000000-ffffffff{SUFFIX}").write_bytes(foreign)
    with file.open("ab") as behind:  # and behind our own, as a power cut can leave them
        behind.write(foreign)
    (tmp_path / "notes.txt").write_bytes(foreign)
    cache = ResponseCache(tmp_path)
    assert len(cache) == 5
    assert all(cache.get(ask(i)) is not None for i in range(5))


def test_zcat_shows_a_line_an_answer(tmp_path: Path) -> None:
    file = filled(tmp_path)
    with ResponseCache(tmp_path) as cache:
        cache.put({"tag": "日本\n"}, 'two\nlines & "quotes" \x00 \u2028')
    shown = lines(file)
    assert [line["asked"] for line in shown] == [ask(i) for i in range(5)]
    assert [line["answer"] for line in shown] == [f"<answer {i}>" * 20 for i in range(5)]
    assert {frozenset(line) for line in shown} == {frozenset({"asked", "at", "answer"})}
    (other,) = [other for other in tmp_path.iterdir() if other != file]
    assert [line["answer"] for line in lines(other)] == ['two\nlines & "quotes" \x00 \u2028']
    unpacked = subprocess.run(["gzip", "-dc", file], capture_output=True, check=True, timeout=240).stdout
    assert unpacked == gzip.decompress(file.read_bytes())


def test_the_size_is_that_of_all_files_of_answers(tmp_path: Path) -> None:
    files = [filled(tmp_path)]
    (tmp_path / "notes.txt").write_text("not counted")
    with ResponseCache(tmp_path) as cache:
        cache.put(ask(7), "x" * 10_000)
        files = list(tmp_path.glob(f"*{SUFFIX}"))
        assert len(files) == 2
        assert cache.size_bytes() == sum(file.stat().st_size for file in files)


def test_a_byte_that_changed_in_an_answer_is_never_passed_on_as_its_text(tmp_path: Path) -> None:
    file = filled(tmp_path)
    whole = file.read_bytes()
    starts = members(file)
    body = range(starts[2] + module._HEADER, starts[3])
    seen = 0
    for at in body:
        file.write_bytes(whole[:at] + bytes([whole[at] ^ 0x10]) + whole[at + 1 :])
        cache = ResponseCache(tmp_path)
        message = ""
        try:
            found = text(cache, ask(2))
        except WorkspaceError as error:
            message = str(error)
        if message:
            assert re.search(rf"{re.escape(str(file))} is damaged at byte {starts[2]}.*remove it", message)
            seen += 1
        else:  # of the last byte of a deflate stream, some bits mean nothing
            assert found == "<answer 2>" * 20
        for i in (0, 1, 3, 4):
            assert text(cache, ask(i)) == f"<answer {i}>" * 20
    assert seen >= len(body) - 1


def test_a_byte_that_changed_in_a_header_gives_nobody_anothers_answer(tmp_path: Path) -> None:
    file = filled(tmp_path)
    whole = file.read_bytes()
    starts = members(file)
    for at in range(starts[2], starts[2] + module._HEADER):
        for bit in (0x01, 0x80):
            file.write_bytes(whole[:at] + bytes([whole[at] ^ bit]) + whole[at + 1 :])
            cache = ResponseCache(tmp_path)
            for i in range(5):
                with suppress(WorkspaceError):
                    found = cache.get(ask(i))
                    assert found is None or found.text == f"<answer {i}>" * 20
            assert cache.get(ask(0)) is not None


def test_a_full_disk_costs_the_answer_that_met_it_and_none_other(tmp_path: Path) -> None:
    # A file that may not grow stands in for a disk that is full: the same error, from the same call.
    script = """
import random, resource, signal, sys
from mer_ray.errors import WorkspaceError
from mer_ray.sources.response_cache import ResponseCache
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, 3000))
noise = random.Random(1)
with ResponseCache(sys.argv[1]) as cache:
    for i, size in enumerate((400, 4000, 400)):
        try:
            cache.put({"i": i}, noise.randbytes(size).hex())
            print("kept", i)
        except WorkspaceError as error:
            print(error)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)], capture_output=True, text=True, timeout=240, check=True
    )
    kept, refused, kept_too = done.stdout.splitlines()
    assert (kept, kept_too) == ("kept 0", "kept 2")
    assert refused.startswith(f"cannot write {tmp_path}")
    assert "free some space" in refused
    again = ResponseCache(tmp_path)
    assert len(again) == 2
    assert {"i": 1} not in again
    (file,) = tmp_path.iterdir()
    assert [line["asked"] for line in lines(file)] == [{"i": 0}, {"i": 2}]


def test_a_folder_that_cannot_be_made_is_one_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    cache = ResponseCache(tmp_path / "file" / "cache")
    with pytest.raises(WorkspaceError, match="cannot write"):
        cache.put(ask(1), "one")


# object stores ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with stores.s3() as at:
        yield at


@pytest.fixture
def bucket(server: str) -> str:
    """A folder in a store, of this test alone."""
    return stores.uri_of(server, uuid.uuid4().hex, "cache")


def test_an_object_store_keeps_answers_too(bucket: str) -> None:
    with ResponseCache(bucket) as cache:
        for i in range(5):
            cache.put(ask(i), f"answer {i}")
    again = ResponseCache(bucket)
    assert len(again) == 5
    assert again.size_bytes() > 0
    for i in range(5):
        assert text(again, ask(i)) == f"answer {i}"
    store = Workspace(bucket)
    (name,) = store.names()
    with store.fs.open_input_file(store.path(name)) as file:  # as another program would download it
        assert [json.loads(line)["asked"] for line in gzip.decompress(file.read()).splitlines()] == [
            ask(i) for i in range(5)
        ]


def test_reload_sees_what_this_store_has_not_sent_yet(bucket: str) -> None:
    with ResponseCache(bucket) as cache:
        for i in range(3):
            cache.put(ask(i), str(i))
            cache.reload()
            assert len(cache) == i + 1


@pytest.mark.parametrize("count", [1, module.REMOTE_BATCH, 2 * module.REMOTE_BATCH + 1])
def test_an_object_holds_many_answers(bucket: str, count: int) -> None:
    with ResponseCache(bucket) as cache:
        for i in range(count):
            cache.put(ask(i), str(i))
    assert len(ResponseCache(bucket)) == count
    assert len(Workspace(bucket).names()) == -(-count // module.REMOTE_BATCH)


def test_an_object_does_not_wait_for_long(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REMOTE_BATCH_S", -1.0)
    cache = ResponseCache(bucket)
    cache.put(ask(1), "one")
    assert len(ResponseCache(bucket)) == 1


def test_closing_without_answers_makes_no_object(bucket: str) -> None:
    with ResponseCache(bucket) as cache:
        cache.put(ask(1), "one")
        cache.reload()
    with ResponseCache(bucket):
        pass
    assert len(Workspace(bucket).names()) == 1


def test_a_response_that_comes_after_the_end_is_stored_at_once(bucket: str, tmp_path: Path) -> None:
    for uri in (str(tmp_path), bucket):
        with ResponseCache(uri) as cache:
            cache.put(ask(1), "one")
        cache.put(ask(2), "two")  # of a request that was under way
        assert [text(ResponseCache(uri), ask(i)) for i in (1, 2)] == ["one", "two"]
    held = [f.resolve() for f in Path("/proc/self/fd").iterdir() if f.exists()]
    assert not [file for file in held if file.is_relative_to(tmp_path)]


@pytest.mark.parametrize(
    "damage", [lambda data: data[:-3], lambda data: data[:60] + bytes([data[60] ^ 85]) + data[61:]]
)
def test_objects_can_be_damaged_as_files_can(bucket: str, damage: Callable[[bytes], bytes]) -> None:
    with ResponseCache(bucket) as cache:
        cache.put(ask(1), "one")
    store = Workspace(bucket)
    (name,) = store.names()
    with store.fs.open_input_file(store.path(name)) as file:
        data = damage(file.read())
    with store.fs.open_output_stream(store.path(name), compression=None) as stream:
        stream.write(data)
    again = ResponseCache(bucket)
    if ask(1) in again:
        with pytest.raises(WorkspaceError, match=re.escape(name)):
            again.get(ask(1))
