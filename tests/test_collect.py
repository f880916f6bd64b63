"""The stage ``collect`` where writing fails in the middle."""

from __future__ import annotations

import pytest

from mer_ray.config import load
from mer_ray.errors import WorkspaceError
from mer_ray.stages import collect
from mer_ray.tables import Workspace

N = 2 * collect.SHARD_ROWS


@pytest.fixture
def config(tmp_path):
    """Of a manifest whose last row repeats the first one's artist and title."""
    manifest = tmp_path / "tracks.csv"
    rows = [f"{i}.wav,Artist,Title {i}" for i in range(N)] + ["again.wav,Artist,Title 0"]
    manifest.write_text("\n".join(["path,artist,title", *rows]))
    return load(None, ["collect.source=manifest", f"collect.manifest={manifest}"])


@pytest.mark.parametrize("table", ["tracks", "failures"])
@pytest.mark.parametrize("error", [WorkspaceError("the disk is full", "make room"), KeyboardInterrupt()])
def test_what_could_not_be_written_is_no_repeat_of_itself(config, tmp_path, monkeypatch, table, error):
    workspace, append = Workspace(tmp_path / "w"), Workspace.append_rows
    broken = [error]

    def once(self, name, rows, *arguments):
        if name == table and rows and broken:
            raise broken.pop()
        return append(self, name, rows, *arguments)

    monkeypatch.setattr(Workspace, "append_rows", once)
    with pytest.raises(type(error)) as caught:
        collect.run(config, workspace)
    assert caught.value is error
    assert "duplicate" not in workspace.reasons("collect")
    summary = collect.run(config, workspace)
    assert len(workspace.ids("tracks")) == summary.made + summary.done_before == N
    assert workspace.reasons("collect") == {"duplicate": 1}
