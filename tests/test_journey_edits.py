"""A manifest that is edited between runs: the tables are those of a new workspace; only what changed is computed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import soundfile
from conftest import RATE, tune_of, write_tunes
from parts import sets

from mer_ray.io.tables import Workspace

SETTINGS = sets(
    *("extract.features=mfcc", "train.networks=kernel", "train.folds=2", "train.repeats=1", "collect.manifest=m.csv")
)
HEADER = "path,artist,title,album,valence,arousal,dominance"


def row(i: int, path: str = "", valence: float | None = None, album: str = "") -> str:
    value = 0.05 + 0.07 * i if valence is None else valence
    return f"{path or f'music/tune{i:03d}.flac'},Artist {i // 2},Song {i},{album},{value:.2f},{0.9 - 0.05 * i:.2f},0.5"


def rows(workspace: Path, table: str, *left_out: str) -> list[dict]:
    read = Workspace(workspace).read(table).sort_by("track_id")
    return read.drop_columns(list(left_out)).to_pylist()


def lines(summary: str) -> dict[str, str]:
    """Stage → its line."""
    return {line.split()[0]: line for line in summary.splitlines() if " · " in line}


def test_the_tables_are_those_of_a_new_workspace(ray_session, tmp_path, mer_ray, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_tunes(tmp_path / "music", 13)
    listed = [row(i) for i in range(12)]
    listed[2] = row(2, path="music/misspelled.flac")
    Path("m.csv").write_text("\n".join([HEADER, *listed]))
    code, out, err = mer_ray("run", "--workspace", "w", *SETTINGS)
    assert code == 0, out + err
    assert "1 failed" in lines(out)["acquire"]
    assert "everything was done already" in mer_ray("run", "--workspace", "w", *SETTINGS)[1]

    listed[2] = row(2)  # the path corrected
    listed[5] = row(5, valence=0.1)  # a label changed
    listed[7] = row(7, album="Its Album")  # an album filled in
    del listed[9]  # a row removed
    listed.append(row(12))  # a row added
    soundfile.write("music/tune004.flac", tune_of(99), RATE)  # a file replaced
    shutil.move("music/tune006.flac", "music/moved.flac")  # a file moved, and its row follows
    listed[6] = row(6, path="music/moved.flac")
    Path("m.csv").write_text("\n".join([HEADER, *listed]))
    code, out, err = mer_ray("run", "--workspace", "w", *SETTINGS)
    assert code == 0, out + err
    summary = lines(out)
    assert ("1 new" in summary["collect"], "4 changed" in summary["collect"], "1 gone" in summary["collect"]) == (
        True,
    ) * 3
    assert "path 2" in out
    assert "3 new" in summary["label"]  # changed, added, and the one whose album made another id
    assert ("2 new" in summary["acquire"], "1 changed" in summary["acquire"]) == (True, True)
    assert "3 new" in summary["extract"]  # corrected, added, replaced: not the one that was moved, nor the other album
    assert "1 models" in summary["train"]
    assert "nothing new" not in summary["train"]

    code, _, err = mer_ray("run", "--workspace", "fresh", *SETTINGS)
    assert code == 0, err
    assert rows(tmp_path / "w", "tracks", "fetched_at") == rows(tmp_path / "fresh", "tracks", "fetched_at")
    for table in ("labels", "audio", "features/mfcc"):
        assert rows(tmp_path / "w", table) == rows(tmp_path / "fresh", table), table
    mine, fresh = (rows(tmp_path / w, "scores", "sound", "curve") for w in ("w", "fresh"))
    assert [r["track_id"] for r in mine] == [r["track_id"] for r in fresh]
    for one, other in zip(mine, fresh, strict=True):
        assert one == {k: pytest.approx(v, abs=1e-6) if isinstance(v, float) else v for k, v in other.items()}
    assert Workspace(tmp_path / "w").failures() == Workspace(tmp_path / "fresh").failures() == []
    metrics = [(tmp_path / w / "report" / "metrics.csv").read_text() for w in ("w", "fresh")]
    assert metrics[0] == metrics[1]
    assert "everything was done already" in mer_ray("run", "--workspace", "w", *SETTINGS)[1]
