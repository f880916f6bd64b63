"""Downloads of which one in ten goes wrong, and a process that is killed among them."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import psutil
import soundfile
from parts import raw_ids, running, sets
from services import Files

from mer_ray.io.identity import digest, file_digest, track_id
from mer_ray.io.tables import Workspace

N = 1_000 if os.environ.get("MER_RAY_LONG_TESTS") else 300
COPIES = N // 10  # names under which there is what is there under another name too
PER_HOST = 4
FAULTS = {
    "503": ["503", "ok"],
    "503 1": ["503 1", "ok"],
    "truncated": ["truncated", "ok"],
    "close": ["close", "ok"],
    "stall": ["stall", "ok"],
    "404": ["404"],
    "page": ["ok"],  # that is no audio
}
DRAWN = (
    ["503"] * 25 + ["503 1"] * 12 + ["truncated"] * 20 + ["close"] * 15 + ["stall"] * 4 + ["404"] * 12 + ["page"] * 12
)
FOR_GOOD = {"404": "http_404", "page": "corrupt"}


def flac(seed: int) -> bytes:
    """A quarter of a second of a note of its own."""
    rate = 8_000
    samples = 0.3 * np.sin(2 * np.pi * (200 + seed) * np.arange(rate // 4) / rate)
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format="FLAC" if seed % 2 else "WAV")
    return out.getvalue()


def killed_at(n_rows: int, workspace: Path, command: list[str]) -> None:
    """Start a command in a Ray of its own, and kill it with all that it started once it has committed so many rows."""
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    started = [process]
    try:
        deadline = time.monotonic() + 240
        while len(Workspace(workspace).ids("audio")) < n_rows:  # shards are merged as one looks
            assert process.poll() is None, "acquire ended before it could be killed"
            assert time.monotonic() < deadline, "acquire made nothing to kill"
            time.sleep(0.02)
        started += process.children(recursive=True)
    finally:
        for one in filter(running, started):
            one.kill()
        process.wait()
    while any(map(running, started)):  # else they would go on with what the next run does
        time.sleep(0.05)


def test_downloads_a_tenth_of_them_faulty_killed_and_run_again(ray_session, mer_ray, tmp_path):
    rng = random.Random(7)
    names = [f"{i:04d}.audio" for i in range(N)]
    drawn = DRAWN[:: 1_000 // N]
    faulty = dict(zip(rng.sample(names, len(drawn)), drawn, strict=True))
    contents = {name: flac(i % (N - COPIES)) for i, name in enumerate(names)}
    contents |= {n: f"<html>{n}</html>".encode() * 20 for n, kind in faulty.items() if kind == "page"}
    server = Files(
        files=contents, faults={n: list(FAULTS[k]) for n, k in faulty.items()}, validator="etag", pause_s=0.005
    )
    workspace = tmp_path / "w"
    ids = {track_id("Band", f"../../{name}"): name for name in names}
    with server:
        manifest = tmp_path / "tracks.csv"
        manifest.write_text("uri,artist,title\n" + "".join(f"{server.url}/{n},Band,../../{n}\n" for n in names))
        settings = sets(
            "collect.source=manifest",
            f"collect.manifest={manifest}",
            "acquire.timeout_s=5",
            "acquire.allow_private=true",
        )
        options = ["--workspace", str(workspace), *settings, *sets(f"acquire.per_host={PER_HOST}")]
        assert mer_ray("collect", *options)[0] == 0

        killed_at(N // 3, workspace, [sys.executable, "-m", "mer_ray", "acquire", *options])
        had = raw_ids(workspace, "audio")
        assert N // 3 <= len(had) < N
        asked = len(server.calls)
        table = Workspace(workspace)
        for _ in range(6):  # what was cut at the time limit is for the next run
            code, out, err = mer_ray("acquire", *options)
            assert code == 0, out + err
            if not any(f["transient"] for f in table.failures("acquire")):
                break
        again = {call.path.lstrip("/") for call in server.calls[asked:]}
        asked = len(server.calls)
        assert mer_ray("acquire", *options)[0] == 0
        assert len(server.calls) == asked  # what is there, or failed for good, is not asked for again

    # Complete, each exactly once, and what there was before the kill was not asked for again.
    made = raw_ids(workspace, "audio")
    assert set(made.values()) == {1}
    assert not again & {ids[i] for i in had}
    failed = {ids[f["track_id"]]: f["reason"] for f in table.failures("acquire")}
    assert failed == {n: FOR_GOOD[k] for n, k in faulty.items() if k in FOR_GOOD}
    assert len(made) + len(failed) == N
    assert {ids[i] for i in made} == set(names) - set(failed)

    # The bytes are what the server has, once each, under their own hash.
    audio = table.read("audio").to_pylist()
    assert all(Path(r["uri"]).is_relative_to(workspace / "media") for r in audio)
    hashes = {r["track_id"]: r["sha256"] for r in audio}
    assert hashes == {i: digest(contents[ids[i]]) for i in made}
    media = [p for p in (workspace / "media").rglob("*") if p.is_file()]
    assert all(file_digest(p) == p.stem for p in media)
    assert Counter(p.stem for p in media) == Counter(set(hashes.values()))
    assert {p.suffix for p in media} == {".flac", ".wav"}
    strays = [p for p in workspace.rglob("*") if p.is_file() and (p.name.startswith(".") or p.suffix == ".part")]
    assert all(p.parent == workspace / ".tmp" for p in strays)

    # The workers together never had more requests to the host in flight than `per_host`.
    assert 1 <= server.most_in_flight <= PER_HOST
