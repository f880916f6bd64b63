"""A folder of everything that can be wrong with audio files, among good ones: a row or a reason for each of them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import sounds
from conftest import tune_of
from parts import sets

from mer_ray.io.address import to_path
from mer_ray.io.tables import Workspace

RATE = 22_050
EXPECTED: dict[str | bytes, str | None] = {
    "tune-1.flac": None,
    "tune-2.ogg": None,
    "tune-3.mp3": None,
    "tune-4.wav": None,
    "tune-5.opus": None,
    "tune-6.m4a": None,
    "zero-bytes.wav": "empty",
    "one-sample.wav": "too_short",
    "half-a-second.wav": "too_short",
    "silence.wav": "silent",
    "direct-current.wav": None,
    "not-a-number.wav": "not_finite",
    "infinite.wav": "not_finite",
    "against-itself.wav": "cancelled",
    "eight-channels.wav": None,
    "8-kHz.wav": None,
    "192-kHz.wav": None,
    "cut.mp3": "truncated",
    "cut.ogg": "truncated",
    "cut.flac": "truncated",
    "flac-that-is-called.mp3": None,
    "text.mp3": "corrupt",
    "picture.ogg": "corrupt",
    "flac-in-name.flac": "corrupt",
    "cover.mp3": None,
    "two\nlines.wav": None,
    "\N{FILM FRAMES}\N{VIOLIN}.wav": None,
    b"latin-\xe9.wav": None,
    "broken-link.wav": "missing",
}
"""File name → why it cannot be used; None: it can."""


def torture(folder: Path) -> None:
    """The files of `EXPECTED`, a folder that is called x.mp3, and a file that may not be read."""
    folder.mkdir()
    tune = tune_of(9, 3, RATE)
    for i in range(1, 5):
        suffix = ("flac", "ogg", "mp3", "wav")[i - 1]
        sounds.write(folder / f"tune-{i}.{suffix}", tune_of(i, 3, RATE), RATE)
    sounds.ffmpeg(
        folder / "tune-4.wav", folder / "tune-5.opus", "-c:a", "libopus", "-ar", "48000", "-metadata", "title=5"
    )
    sounds.ffmpeg(folder / "tune-4.wav", folder / "tune-6.m4a", "-c:a", "aac")
    (folder / "zero-bytes.wav").touch()
    sounds.write(folder / "one-sample.wav", tune[:1], RATE)
    sounds.write(folder / "half-a-second.wav", tune[: RATE // 2], RATE)
    sounds.write(folder / "silence.wav", np.zeros(3 * RATE, np.float32), RATE)
    sounds.write(folder / "direct-current.wav", np.full(3 * RATE, 0.5, np.float32), RATE)
    for name, value in (("not-a-number", np.nan), ("infinite", np.inf)):
        spoilt = tune.copy()
        spoilt[2 * RATE] = value
        sounds.write(folder / f"{name}.wav", spoilt, RATE, subtype="FLOAT")
    sounds.write(folder / "against-itself.wav", np.stack([tune, -tune], 1), RATE)
    sounds.write(folder / "eight-channels.wav", np.stack([tune_of(20 + i, 3, RATE) for i in range(8)], 1), RATE)
    sounds.write(folder / "8-kHz.wav", tune_of(30, 3, 8_000), 8_000)
    sounds.write(folder / "192-kHz.wav", tune_of(31, 3, 192_000), 192_000)
    for suffix in ("mp3", "ogg", "flac"):
        whole = sounds.write(folder.parent / f"whole.{suffix}", tune_of(32, 6, RATE), RATE)
        (folder / f"cut.{suffix}").write_bytes(whole.read_bytes()[: whole.stat().st_size * 6 // 10])
    sounds.write(folder.parent / "other.flac", tune_of(33, 3, RATE), RATE).rename(folder / "flac-that-is-called.mp3")
    (folder / "text.mp3").write_text("No music in here.\n" * 500)
    (folder / "picture.ogg").write_bytes(b"\x89PNG\r\n\x1a\n" + np.random.default_rng(0).bytes(20_000))
    (folder / "flac-in-name.flac").write_bytes(b"fLaC" + bytes(range(256)) * 20)
    picture = b"\0image/jpeg\0\x03\0" + np.random.default_rng(1).bytes(5_000_000).replace(b"\xff", b"\xfe")
    tag = b"APIC" + len(picture).to_bytes(4, "big") + b"\0\0" + picture
    size = bytes(len(tag) >> shift & 0x7F for shift in (21, 14, 7, 0))
    plain = sounds.write(folder.parent / "plain.mp3", tune_of(34, 3, RATE), RATE).read_bytes()
    (folder / "cover.mp3").write_bytes(b"ID3\x03\0\0" + size + tag + plain)
    for i, name in enumerate(("two\nlines.wav", "\N{FILM FRAMES}\N{VIOLIN}.wav", os.fsdecode(b"latin-\xe9.wav"))):
        sounds.write(folder / name, tune_of(40 + i, 3, RATE), RATE)
    (folder / "broken-link.wav").symlink_to(folder / "nowhere.wav")
    (folder / "x.mp3").mkdir()
    sounds.write(folder / "forbidden.wav", tune_of(50, 3, RATE), RATE).chmod(0)


@pytest.fixture(scope="module")
def music(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("torture") / "music"
    torture(folder)
    return folder


def extracted(mer_ray, workspace: Path, music: Path) -> Workspace:
    options = sets("collect.source=folder", f"collect.folder={music}", "extract.features=mfcc,logmel")
    for stage in ("collect", "acquire", "extract"):
        code, out, err = mer_ray(stage, "--workspace", workspace, *options)
        assert code == 0, f"{stage}: {out}{err}"
    return Workspace(workspace)


def by_file(workspace: Workspace) -> dict[str, str]:
    """track id → the file's name."""
    rows = workspace.read("tracks", ["track_id", "uri"]).to_pylist()
    return {r["track_id"]: to_path(r["uri"]).name for r in rows}


def test_each_file_is_a_row_or_a_failure_with_a_fitting_reason(mer_ray, music, tmp_path):
    workspace = extracted(mer_ray, tmp_path / "w", music)
    names = by_file(workspace)
    expected = {os.fsdecode(name): reason for name, reason in EXPECTED.items()}
    expected["forbidden.wav"] = None if os.geteuid() == 0 else "unreadable"
    found: dict[str, str | None] = {}
    for i in workspace.ids("features/mfcc") & workspace.ids("features/logmel"):
        found[names[i]] = None
    for row in workspace.failures():
        # A file that fails while it is collected is no track; its message names it.
        name = names.get(row["track_id"]) or next(n for n in expected if n in row["message"])
        assert name not in found, f"{name} is there twice"
        found[name] = row["reason"]
        assert name.split("\n")[0].encode("ascii", "ignore").decode() in row["message"]
    assert found == expected

    good = tmp_path / "good"
    good.mkdir()
    for name in (name for name, reason in expected.items() if reason is None):
        shutil.copy(music / name, good / name)
    alone = extracted(mer_ray, tmp_path / "alone", good)
    assert alone.failures() == []
    for feature in ("mfcc", "logmel"):
        rows = [w.read(f"features/{feature}").sort_by("track_id") for w in (workspace, alone)]
        assert rows[0].equals(rows[1])
