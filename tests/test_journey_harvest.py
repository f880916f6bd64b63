"""Thousands of tracks from a Last.fm in bad weather: complete and within the rate, whatever is killed."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pytest
from parts import raw_rows, sets
from services import busiest_second
from storms import KEY, WEATHER, Storm, responses_per_question, storm

from mer_ray.io.tables import Workspace
from mer_ray.stages.collect_lastfm import MAX_THREADS

LONG = bool(os.environ.get("MER_RAY_LONG_TESTS"))
SONGS = 9_000 if LONG else 3_000
RATE = 300


pytestmark = pytest.mark.alone


def options(server: Storm, workspace: Path) -> list[str]:
    settings = {"source": "lastfm", "api_url": server.url, "requests_per_s": RATE, "timeout_s": 2}
    return ["--workspace", str(workspace), *sets(*(f"collect.{name}={value}" for name, value in settings.items()))]


def rows(workspace: Path) -> pa.Table:
    """All rows of ``tracks`` as they stand in the shards, but for the times at which they were asked for."""
    return raw_rows(workspace, "tracks").drop_columns(["fetched_at"])


def check_complete(server: Storm, workspace: Path) -> None:
    """Every track that the server lists is a row or a failure, and nothing is there twice."""
    ids = Counter(rows(workspace)["track_id"].to_pylist())
    assert set(ids.values()) == {1}
    failures = Workspace(workspace).failures("collect")
    assert {f["reason"] for f in failures} == {"not_found"}
    assert not {f["track_id"] for f in failures} & set(ids)
    assert len(ids) + len(failures) == server.n_songs == SONGS
    untagged = sum(not tags for tags in rows(workspace)["tags"].to_pylist())
    assert 0.03 * SONGS < untagged < 0.05 * SONGS


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A workspace that one process harvested in one go, in weather that its test looks at."""
    workspace = tmp_path_factory.mktemp("harvest") / "w"
    with storm(SONGS) as server:
        done = run(server, workspace)
        assert done.returncode == 0, done.stdout + done.stderr
        check_weather(server)
        check_complete(server, workspace)
    return workspace


def run(server: Storm, workspace: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mer_ray", "collect", *options(server, workspace)]
    environment = {**os.environ, "LASTFM_API_KEY": KEY}
    return subprocess.run(command, capture_output=True, text=True, timeout=500, env=environment)


def check_weather(server: Storm) -> None:
    """It stormed as it should, the rate was kept to, and nothing was requested again after its response."""
    log, times = server.log()
    struck = Counter(request.outcome for request in log)
    for fault, share in WEATHER:
        assert 0.5 * share < struck[fault] / len(log) < 2 * share
    assert busiest_second(times) <= RATE
    assert set(responses_per_question(log).values()) == {1}


def test_one_process_gets_everything_at_the_rate_that_was_set(undisturbed: Path) -> None:
    assert len(Workspace(undisturbed).ids("tracks")) > 0.98 * SONGS


def test_killed_three_times_and_continued(undisturbed: Path, tmp_path: Path) -> None:
    workspace = tmp_path / "w"
    moments = sorted(random.Random(5).sample(range(500, SONGS - 500), 3))
    with storm(SONGS) as server:
        for moment in moments:
            process = subprocess.Popen(
                [sys.executable, "-m", "mer_ray", "collect", *options(server, workspace)],
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                env={**os.environ, "LASTFM_API_KEY": KEY},
            )
            try:
                while server.responses() < moment:
                    assert process.poll() is None, "it ended before it could be killed"
                    time.sleep(0.01)
            finally:
                process.send_signal(signal.SIGKILL)
                process.wait()
        done = run(server, workspace)
        assert done.returncode == 0, done.stdout + done.stderr
        check_complete(server, workspace)
        log, times = server.log()
    assert busiest_second(times) <= RATE
    again = sum(count - 1 for count in responses_per_question(log).values())
    assert again <= len(moments) * MAX_THREADS  # what was in flight when it was killed
    assert rows(workspace).equals(rows(undisturbed))


def test_the_answers_make_the_same_table_byte_for_byte_without_network_or_key(
    undisturbed: Path, mer_ray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LASTFM_API_KEY", raising=False)
    recorded = Workspace(undisturbed).read_json("settings", "collect.json")["settings"]["api_url"]
    cache = undisturbed / "cache" / "lastfm"
    settings = ["collect.source=lastfm", f"collect.api_url={recorded}", f"collect.cache={cache}"]
    code, out, err = mer_ray("collect", "--offline", "--workspace", tmp_path / "w", *sets(*settings))
    assert code == 0, out + err
    for table in ("tracks", "merged"):
        made = {p.name: p.read_bytes() for p in (tmp_path / "w" / table).glob("*")}
        assert made == {p.name: p.read_bytes() for p in (undisturbed / table).glob("*")}
    assert made == {}  # nothing had a second name
