"""A cluster of two machines, one of which is sick: nothing is lost to it, and it is named."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from clusters import Cluster, can_separate
from conftest import write_tunes
from parts import sets

from mer_ray.io.tables import Workspace

RUN_S = 240.0
N = 48
DAY_S = 86_400


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if not can_separate() or shutil.which("nsenter") is None:
        pytest.skip("needs root, ip, mount and nsenter")
    clocks = {2: DAY_S} if shutil.which("cc") else {}
    with Cluster(2, clocks=clocks) as made:
        yield made


def finish(cluster: Cluster, stage: str, workspace: Path, *options: str, state: str = "SUCCEEDED") -> str:
    """The log of a stage as a job."""
    job = cluster.submit("python", f"jobs/{stage}.py", "--workspace", workspace, *options)
    assert job.wait(RUN_S) == state, job.log()
    return job.log()


def test_a_machine_that_does_not_see_the_music_or_has_a_full_disk_loses_nothing(cluster, mer_ray, tmp_path):
    music = tmp_path / "music"
    write_tunes(music, N, 4.0)
    workspace = tmp_path / "w"
    code, _, err = mer_ray(
        "collect", "--workspace", workspace, *sets("collect.source=folder", f"collect.folder={music}")
    )
    assert code == 0, err
    sick = cluster.nodes[1]

    cluster.hide(sick, music)
    log = finish(cluster, "acquire", workspace)
    assert f"node {sick.address} was set aside" in log, log
    assert len(Workspace(workspace).ids("audio")) == N
    assert Workspace(workspace).failures() == []

    next(music.iterdir()).rename(tmp_path / "gone")
    log = finish(cluster, "extract", workspace, *sets("extract.features=mfcc"))
    assert f"node {sick.address} was set aside" in log, log
    assert len(Workspace(workspace).ids("features/mfcc")) == N - 1
    (failed,) = Workspace(workspace).failures()
    assert failed["reason"] == "missing", "on both machines"
