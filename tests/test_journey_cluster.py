"""The whole pipeline as a job on a cluster of three nodes, while it is hurt in every stage.

MER_RAY_CHAOS=10 makes ten repetitions, each with another seed (from MER_RAY_SEED on), and `benchmarks/cluster.py chaos`
a table of them. One takes five minutes: too long for every run of the tests.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator

import pytest
from chaos import Storm, catalogue, differences, undisturbed
from clusters import Cluster, can_separate

from mer_ray.io.tables import Workspace

REPEATS = int(os.environ.get("MER_RAY_CHAOS", "0"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    if not REPEATS:
        pytest.skip("a repetition takes five minutes: MER_RAY_CHAOS=1 makes one")
    if not can_separate():
        pytest.skip("needs root, ip and mount")
    with Cluster(2, clocks={2: 86_400} if shutil.which("cc") else {}) as made:
        yield made


@pytest.mark.timeout(600 + 600 * REPEATS)
def test_what_is_lost_on_the_way_is_not_missing_at_the_end(cluster, tmp_path):
    manifest = catalogue(tmp_path)
    seconds = undisturbed(cluster, manifest, tmp_path / "calm")
    calm = Workspace(tmp_path / "calm")
    assert len(calm.ids("scores")) == 24
    assert [f["reason"] for f in calm.failures()] == ["corrupt"]

    first = int(os.environ.get("MER_RAY_SEED", "1"))
    for seed in range(first, first + REPEATS):
        storm = Storm(cluster, manifest, tmp_path / f"storm-{seed}", seconds, seed)
        storm.run()
        print(
            f"seed {seed}: {storm.struck}, missed {storm.plan}, {storm.submissions} submissions, {storm.wall_s:.0f} s; "
            f"node {storm.patient.number} was {storm.sick}{', and named' if storm.named else ''}"
        )
        assert storm.struck
        assert storm.unexpected == []
        assert differences(calm, Workspace(storm.workspace)) == []
