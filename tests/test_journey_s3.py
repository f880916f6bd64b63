"""The whole pipeline on a real S3-compatible server that sends 500 and 503, drops responses and cuts them."""

from __future__ import annotations

import object_servers as stores
import pytest
from parts import sets

from mer_ray.io.schemas import LOGS
from mer_ray.io.tables import Workspace

CUES = 16


def settings(uri: str) -> list[str]:
    return [
        *("-c", "configs/demo.yaml", "--workspace", uri),
        *sets("extract.features=mfcc", f"collect.demo.cues={CUES}", "collect.demo.seconds=3", "train.folds=2"),
        *sets("train.networks=lstm", "train.epochs=2", "train.members=1", "train.batch_size=8"),
    ]


@pytest.mark.timeout(600)
def test_the_pipeline_in_a_store_with_faults(ray_session, mer_ray):
    with (
        stores.s3() as server,
        stores.Watcher(server) as watcher,
        stores.Proxy(server, seed=7, rate=0.03) as proxy,
    ):
        uri = stores.uri_of(proxy.at, "music", "w")
        code, out, err = mer_ray("run", *settings(uri))
        assert code == 0, out + err
        assert set(proxy.injected) == set(stores.FAULTS)

        workspace = Workspace(uri)
        for table in "tracks", "audio", "labels", "features/mfcc", "scores":
            ids = workspace.read(table, ["track_id"])["track_id"].to_pylist()
            shards = sum(name.endswith(".parquet") for name in workspace.names(table))
            assert (len(ids), len(set(ids)), shards > 0) == (CUES, CUES, True), table
        assert [table for table in LOGS if workspace.has(table)] == ["costs"]
        assert "model.json" in workspace.names("runs", "lstm-mfcc")
        assert workspace.names("checkpoints") == []
        assert {"report.md", "metrics.csv"} <= set(workspace.names("report"))
        assert all(u.startswith("s3://") for u in workspace.read("audio", ["uri"])["uri"].to_pylist())

        code, out, err = mer_ray("status", "--workspace", uri)
        assert (code, "features/mfcc" in out) == (0, True), out + err
        code, out, err = mer_ray("report", "--html", "--workspace", uri)
        assert (code, "page: s3://" in out) == (0, True), out + err
        assert workspace.read_bytes("report", "report.html").startswith(b"<!doctype html>")
        before, faults = proxy.asked["PUT"], proxy.injected.total()
        code, out, err = mer_ray("run", *settings(uri))
        assert (code, "everything was done already" in out + err) == (0, True), out + err
        assert len(workspace.ids("scores")) == CUES
        # The report and what goes with it, and what a fault made to be asked once more; no shard, no medium, no model.
        assert proxy.asked["PUT"] - before < 12 + proxy.injected.total() - faults
    assert watcher.broken == []
    assert {".parquet", ".json", ".safetensors"} <= set(watcher.seen)
    assert watcher.seen["media"] >= CUES
