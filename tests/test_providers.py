"""What every provider of audio does: the contract that a new one is held to, by its line in `PROVIDERS` alone.

`CASES` adds what has to be set up for one: a track that it knows, and tracks whose audio is missing, too big or late.
"""

from __future__ import annotations

import importlib
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import fsspec
import pytest
import sounds
from services import STALL_S, Files, wav_bytes

from mer_ray.audio import providers
from mer_ray.audio.decode import check
from mer_ray.audio.providers import Limits, Provider, savify
from mer_ray.audio.providers.fetch import AudioFile, fetch
from mer_ray.config import AcquireConfig
from mer_ray.errors import TrackError
from mer_ray.io import http
from mer_ray.io.track import Track

AUDIO = wav_bytes(0.5)  # 44 kB
SECRET = "geheim"
LIMITS = Limits(10.0, 1.0, http.unlimited)
UNKNOWN = Track("Nobody", "Nothing")


@dataclass
class Case:
    """A provider with a track that it has, and tracks by the reason for which it cannot have them."""

    provider: Provider
    known: Track
    failed: Mapping[str, Track] = field(default_factory=dict)


def _http(tmp_path: Path, files: Files) -> Case:
    files.files["a.wav"] = AUDIO
    files.faults["slow.wav"] = ["drip"]
    named = {name: Track("A", "T", uri=f"{files.url}/{name}.wav?key={SECRET}") for name in ("a", "none", "slow")}
    failed = {"http_404": named["none"], "too_big": named["a"], "timeout": named["slow"]}
    return Case(*load("uri", allow_private=True), named["a"], failed)


def _object(tmp_path: Path, files: Files) -> Case:
    fsspec.filesystem("memory").pipe_file("/contract/a.wav", AUDIO)
    known = Track("A", "T", uri="memory://contract/a.wav")
    return Case(*load("uri"), known, {"missing": Track("A", "T", uri="memory://contract/none"), "too_big": known})


def _file(tmp_path: Path, files: Files) -> Case:
    known = Track("A", "T", uri=str(sounds.write(tmp_path / "a.wav", sounds.tone())))
    return Case(*load("uri"), known, {"missing": Track("A", "T", uri=str(tmp_path / "none.wav"))})


def _demo(tmp_path: Path, files: Files) -> Case:
    return Case(*load("uri"), Track("A", "T", uri="demo:7/0/1"), {"no_audio": Track("A", "T", uri="demo:x")})


def _folder(tmp_path: Path, files: Files) -> Case:
    for album in ("A - T", "of/A - One", "by/A - One"):
        sounds.write(tmp_path / "music" / f"{album}.wav", sounds.tone())
    return Case(*load("folder", folder=str(tmp_path / "music")), Track("A", "T"))


def _savify(tmp_path: Path, files: Files) -> Case:
    """Its child process is replaced by one that does what the artist is called."""
    mp3 = sounds.write(tmp_path / "a.mp3", sounds.tone())
    child = f"""
import json, shutil, sys, time
order = json.load(sys.stdin)
shutil.copy({str(mp3)!r}, "a.mp3")
if order["artist"] == "timeout":
    time.sleep({STALL_S})
result = {{"status": order["artist"], "file": "a.mp3", "spotify_id": "1", "expected_s": None}}
json.dump(result, open("result.json", "w"))
"""
    (provider,) = load("savify")
    assert isinstance(provider, savify.Savify)
    provider.child = (sys.executable, "-c", child)
    failed = {reason: Track(reason, "T") for reason in ("not_found", "timeout", "rate_limited", "too_big")}
    return Case(provider, Track("ok", "T"), failed)


CASES: dict[str, Callable[[Path, Files], Case]] = {
    "uri http": _http,
    "uri object": _object,
    "uri file": _file,
    "uri demo": _demo,
    "folder": _folder,
    "savify": _savify,
}


def load(name: str, **settings: object) -> list[Provider]:
    return providers.load([name], AcquireConfig.model_validate(settings))


@pytest.fixture(autouse=True)
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of temporary files, which is empty afterwards."""
    for name in savify.CREDENTIALS:
        monkeypatch.setenv(name, SECRET)
    monkeypatch.setattr(http, "BACKOFF_S", 0.01)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "tmp"))
    yield tmp_path / "tmp"
    assert [p for p in (tmp_path / "tmp").rglob("*") if p.name != f"mer-ray-{os.getuid()}"] == []


@pytest.fixture
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    with Files() as files:
        yield CASES[request.param](tmp_path, files)


def keep(path: Path, uri: str | None) -> AudioFile:
    return AudioFile(uri or "workspace", "", check(path))


@pytest.mark.parametrize("name", providers.PROVIDERS)
def test_it_is_registered_and_can_be_sent_to_a_worker(name: str) -> None:
    kind = providers.provider_class(name)
    assert (kind.name, importlib.import_module(kind.__module__).__doc__ is not None) == (name, True)
    providers.check([name], AcquireConfig())
    (provider,) = load(name)
    assert isinstance(pickle.loads(pickle.dumps(provider)), kind)
    assert provider.source(UNKNOWN) == name
    assert providers.searches(name) == kind.searches


def test_each_has_a_case() -> None:
    assert {case.split()[0] for case in CASES} == providers.PROVIDERS.keys()


@pytest.mark.parametrize("name", [n for n in providers.PROVIDERS if n != "savify"])
def test_a_track_that_it_does_not_know_is_none_of_its_failures(name: str, tmp_path: Path) -> None:
    (provider,) = load(name)
    assert provider.get(UNKNOWN, tmp_path, LIMITS) is None


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_a_track_that_it_knows_is_brought(case: Case) -> None:
    fetched = fetch(case.known, [case.provider], keep, LIMITS)
    assert fetched.provider == case.provider.source(case.known)
    assert fetched.file.probe.duration_s > 0.4


@pytest.mark.parametrize("case", CASES, indirect=True)
def test_what_it_cannot_bring_is_lost_for_a_reason_and_in_time(case: Case) -> None:
    for reason, track in case.failed.items():
        limits = Limits(0.8 if reason == "timeout" else 120.0, 0.01 if reason == "too_big" else 1.0, http.unlimited)
        start = time.monotonic()
        with pytest.raises(TrackError) as caught:
            fetch(track, [case.provider], keep, limits)
        assert (caught.value.reason, time.monotonic() - start < STALL_S / 2) == (reason, True)
        assert SECRET not in str(caught.value)
