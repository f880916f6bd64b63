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


@pytest.fixture
def collected(cluster, mer_ray, tmp_path) -> tuple[Path, Path]:
    """(a workspace with tracks, the folder of their music)."""
    music, workspace = tmp_path / "music", tmp_path / "w"
    write_tunes(music, N, 4.0)
    source = sets("collect.source=folder", f"collect.folder={music}")
    code, _, err = mer_ray("collect", "--workspace", workspace, *source)
    assert code == 0, err
    return workspace, music


def test_a_machine_that_does_not_see_the_music_loses_nothing(cluster, collected, tmp_path):
    """The other one's clock is a day ahead."""
    (workspace, music), sick = collected, cluster.nodes[1]
    cluster.hide(sick, music)
    try:
        log = finish(cluster, "acquire", workspace)
        assert f"node {sick.address} was set aside" in log, log
        assert len(Workspace(workspace).ids("audio")) == N
        assert Workspace(workspace).failures() == []

        next(music.iterdir()).rename(tmp_path / "gone")
        # Whether the sick node gets enough work to be set aside is Ray's choice: so short a stage may end before.
        finish(cluster, "extract", workspace, *sets("extract.features=mfcc"))
        assert len(Workspace(workspace).ids("features/mfcc")) == N - 1
        (failed,) = Workspace(workspace).failures()
        assert failed["reason"] == "missing", "on both machines"
    finally:
        cluster.heal(sick, music)


def test_a_machine_with_a_full_disk_loses_nothing(cluster, collected, long_tests):
    (workspace, music), sick = collected, cluster.nodes[1]
    cluster.fill(sick)
    try:
        log = finish(cluster, "acquire", workspace)
        assert f"node {sick.address} was set aside: cannot work in {sick.temporary}" in log, log
        assert len(Workspace(workspace).ids("audio")) == N
        assert Workspace(workspace).failures() == []
    finally:
        cluster.heal(sick, music)


def test_a_catalog_whose_files_are_gone_everywhere_ends_with_exit_code_3(long_tests, cluster, collected, tmp_path):
    workspace, music = collected
    for file in sorted(music.iterdir())[: N // 2]:
        file.rename(tmp_path / file.name)
    log = finish(cluster, "acquire", workspace, state="FAILED")
    assert f"acquire: {N // 2} of {N} tracks could not be worked on ({N // 2} missing), more than 20%" in log, log
    assert len(Workspace(workspace).ids("audio")) == N // 2
    assert {f["reason"] for f in Workspace(workspace).failures()} == {"missing"}
    assert "nothing new" in finish(cluster, "acquire", workspace, "--max-lost", "0.5")
