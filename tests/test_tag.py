"""``mer-ray tag``: real files of every format, read back by mutagen and by FFmpeg, undone; and nothing is ever lost."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import av
import mutagen
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sounds
from mutagen import apev2, id3

from mer_ray.audio.file_tags import describe
from mer_ray.io.address import to_uri
from mer_ray.io.identity import file_digest
from mer_ray.io.schemas import DIMENSIONS, scores_schema

MADE = {
    "a.mp3": [],
    "v23.mp3": ["-id3v2_version", "3"],
    "v1.mp3": ["-id3v2_version", "0"],
    "both.mp3": [],
    "untagged.mp3": ["-id3v2_version", "0", "-map_metadata", "-1"],
    "a.flac": [],
    "a.ogg": ["-c:a", "libvorbis"],
    "flac.ogg": ["-c:a", "flac"],
    "a.opus": [],
    "a.m4a": [],
    "alac.m4a": ["-c:a", "alac"],
    "a.wav": [],
    "a.aiff": ["-write_id3v2", "1"],
    "untagged.aiff": [],
    "a.wv": [],
    "a.tta": [],
    "untagged.tta": [],
    "a.wma": [],
    "a.mp4": ["-c:a", "aac", "-movflags", "+faststart"],
}
"""Names of files, and how ffmpeg makes them."""
TITLED = ["-metadata", "title=Träume & Tod", "-metadata", "artist=Komponist", "-metadata", "comment=a note"]
FIELDS = ["MER_RAY_VALENCE", "MER_RAY_AROUSAL", "MER_RAY_DOMINANCE", "MER_RAY_MOOD", "MER_RAY_MODEL", "MOOD"]


def made(folder: Path, name: str) -> Path:
    sounds.write(folder / "source" / "s.wav", sounds.noise(1.0, 44_100, 2), 44_100)
    path = sounds.ffmpeg(folder / "source" / "s.wav", folder / name, *TITLED, *MADE.get(name, []))
    if name in ("v1.mp3", "both.mp3"):
        with path.open("ab") as file:
            file.write(b"TAG" + b"Old title".ljust(30, b"\0") + b"Old artist".ljust(30, b"\0") + bytes(64) + b"\x18")
    if name == "untagged.tta":  # ffmpeg always writes an APEv2 tag
        path.write_bytes(path.read_bytes().partition(b"APETAGEX")[0])
    return path


def scored(out: Path, files: list[Path], dimensions: tuple[str, ...] = DIMENSIONS, **changes: object) -> Path:
    """A file of scores: these files as they are now, and ten tracks without one, so that there are moods."""
    rows = []
    for i in range(len(files) + 10):
        path = files[i] if i < len(files) else None
        values = dict.fromkeys(dimensions, 0.9 if path else 0.05 * (i - len(files)))
        row = {"track_id": f"{i:016x}", "artist": "", "title": f"T{i}", "uri": to_uri(path) if path else ""}
        row |= {"duration_s": 1.0, "model": "light", "curve": [], "curve_hop_s": 1.0, **values}
        row |= {f"{end}_{d}": v for d, v in values.items() for end in ("lower", "upper")}
        if path is not None and path.exists():
            state = path.stat()
            row |= {"size": state.st_size, "mtime_ms": state.st_mtime_ns // 1_000_000, "sha256": file_digest(path)}
        rows.append(row | changes)
    pq.write_table(pa.Table.from_pylist(rows, schema=scores_schema(dimensions)), out)
    return out


def samples(path: Path) -> str:
    """A hash of what FFmpeg decodes."""
    return hashlib.sha256(sounds.ffmpeg_decoded(path, 2).tobytes()).hexdigest()


def read_by_ffmpeg(path: Path) -> dict[str, str]:
    """By the program ffprobe, where there is one (for WAV, Debian 12's is too old: it skips ID3), else by libraries."""
    if path.suffix != ".wav" and (program := shutil.which("ffprobe")) is not None:
        shown = ["-show_entries", "format_tags:stream_tags", "-select_streams", "a:0", "-of", "json"]
        found = subprocess.run([program, "-v", "error", *shown, str(path)], capture_output=True, check=True)
        said = json.loads(found.stdout)
        of = [said["format"].get("tags", {}), said["streams"][0].get("tags", {})]
        return {k.upper(): v for tags in of for k, v in tags.items()}
    with av.open(str(path)) as container:
        return {k.upper(): v for m in (container.metadata, container.streams.audio[0].metadata) for k, v in m.items()}


def read_by_mutagen(path: Path) -> dict[str, str]:
    """Fields as texts; names without what a format puts before them."""
    file = mutagen.File(path)
    tags = apev2.APEv2(path) if path.suffix == ".tta" and b"APETAGEX" in path.read_bytes() else file.tags
    pairs = tags if isinstance(tags, list) else (tags or {}).items()
    out = {}
    for key, value in pairs:
        value = value[0] if isinstance(value, list) else value
        name = key.removeprefix("TXXX:").removeprefix("----:com.apple.iTunes:").upper()
        out[{"TMOO": "MOOD", "WM/MOOD": "MOOD"}.get(name, name)] = (
            value.decode() if isinstance(value, bytes) else str(value)
        )
    return out


@pytest.mark.parametrize("name", MADE)
def test_each_format_is_tagged_read_by_others_and_undone(mer_ray, tmp_path, name):
    path = made(tmp_path, name)
    path.chmod(0o640)
    before, ffmpeg, sound, state = read_by_mutagen(path), read_by_ffmpeg(path), samples(path), path.stat()
    scores = scored(tmp_path / "s.parquet", [path])
    code, out, err = mer_ray("tag", scores)
    assert code == 0, err
    assert "1 files tagged" in out
    assert samples(path) == sound
    assert path.stat().st_mode == state.st_mode
    after = read_by_mutagen(path)
    assert [after[f] for f in FIELDS] == ["0.900", "0.900", "0.900", "excited", "light", "excited"]
    assert {k: v for k, v in after.items() if k not in FIELDS} == before
    seen = read_by_ffmpeg(path)
    assert seen["MER_RAY_VALENCE"] == "0.900"
    assert "excited" in (seen.get("MOOD"), seen.get("TMOO"), seen.get("WM/MOOD"))
    assert ffmpeg.items() <= seen.items()
    code, out, _ = mer_ray("tag", scores)
    assert (code, "0 files tagged; 1 were up to date" in out) == (0, True)
    code, out, err = mer_ray("tag", "--undo", tmp_path / "s.parquet.tags.jsonl")
    assert (code, "1 files restored" in out) == (0, True), err
    assert read_by_mutagen(path) == before
    assert read_by_ffmpeg(path) == ffmpeg
    assert samples(path) == sound
    assert not [p for p in tmp_path.iterdir() if ".part" in p.name]
    # What was undone can be tagged again, though the file is no longer that of the scores, byte for byte.
    assert mer_ray("tag", scores)[0] == 0
    assert read_by_mutagen(path)["MER_RAY_VALENCE"] == "0.900"


def test_id3_keeps_its_version_and_an_old_tag_at_the_end(mer_ray, tmp_path):
    paths = [made(tmp_path, name) for name in ("v23.mp3", "v1.mp3", "both.mp3")]
    ends = [p.read_bytes()[-128:] for p in paths]
    scores = scored(tmp_path / "s.parquet", paths)
    assert mer_ray("tag", scores)[0] == 0
    assert [id3.ID3(p).version[1] for p in paths] == [3, 4, 4]
    assert [p.read_bytes()[-128:] for p in paths[1:]] == ends[1:]
    assert "TXXX:MOOD" in id3.ID3(paths[0], translate=False)
    assert str(id3.ID3(paths[1], load_v1=False)["TPE1"]) == "Old artist"  # else a player would show the new tag only
    assert mer_ray("tag", "--undo", f"{scores}.tags.jsonl")[0] == 0
    assert not paths[1].read_bytes().startswith(b"ID3")
    assert paths[1].read_bytes()[-128:] == ends[1]


def test_a_dry_run_changes_nothing(mer_ray, tmp_path):
    path = made(tmp_path, "a.flac")
    scores = scored(tmp_path / "s.parquet", [path])
    before = {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.iterdir() if p.is_file()}
    code, out, _ = mer_ray("tag", scores, "--dry-run")
    assert code == 0
    assert "1 files would be tagged" in out
    assert "MER_RAY_VALENCE – → 0.900" in out
    assert {p: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.iterdir() if p.is_file()} == before


def test_somebodys_own_mood_stays_unless_asked(mer_ray, tmp_path):
    paths = [made(tmp_path, name) for name in ("a.mp3", "v23.mp3", "a.flac", "a.m4a", "a.wv")]
    for path in paths:
        file = mutagen.File(path)
        if path.suffix == ".mp3":
            file.tags.add(id3.TMOO(encoding=3, text=["wistful", "mine"]))
        elif path.suffix == ".m4a":
            file["----:com.apple.iTunes:MOOD"] = [b"wistful", b"mine"]
        else:
            file["Mood"] = ["wistful", "mine"]
        file.save()
    own = [read_by_mutagen(p)["MOOD"] for p in paths]
    scores = scored(tmp_path / "s.parquet", paths)
    code, out, _ = mer_ray("tag", scores)
    assert (code, "5 keep a mood of somebody else's" in out) == (0, True)
    assert [read_by_mutagen(p)["MOOD"] for p in paths] == own
    assert mer_ray("tag", scores, "--replace-mood")[0] == 0
    assert {read_by_mutagen(p)["MOOD"] for p in paths} == {"excited"}
    assert mer_ray("tag", "--undo", f"{scores}.tags.jsonl")[0] == 0
    assert [read_by_mutagen(p)["MOOD"] for p in paths] == own
    assert not any(name.startswith("MER_RAY") for p in paths for name in read_by_mutagen(p))


def test_another_model_leaves_nothing_of_the_former(mer_ray, tmp_path):
    path = made(tmp_path, "a.flac")
    assert mer_ray("tag", scored(tmp_path / "s.parquet", [path]))[0] == 0
    other = scored(tmp_path / "o.parquet", [path], ("valence", "tension"), model="other")
    assert mer_ray("tag", other)[0] == 0
    tags = read_by_mutagen(path)
    own = {k: v for k, v in tags.items() if k in FIELDS or k.startswith("MER_RAY")}
    assert own == {"MER_RAY_VALENCE": "0.900", "MER_RAY_TENSION": "0.900", "MER_RAY_MODEL": "other"}
    assert mer_ray("tag", "--undo", f"{other}.tags.jsonl")[0] == 0
    assert read_by_mutagen(path)["MER_RAY_MODEL"] == "light"
    assert mer_ray("tag", "--undo", tmp_path / "s.parquet.tags.jsonl")[0] == 0
    assert not any(k.startswith("MER_RAY") for k in read_by_mutagen(path))


def test_undo_keeps_what_somebody_has_changed_since(mer_ray, tmp_path):
    path = made(tmp_path, "a.flac")
    scores = scored(tmp_path / "s.parquet", [path])
    assert mer_ray("tag", scores)[0] == 0
    file = mutagen.File(path)
    file["MOOD"], file["GENRE"] = ["mine"], ["score"]
    file.save()
    code, out, _ = mer_ray("tag", "--undo", f"{scores}.tags.jsonl")
    assert (code, "keep fields that somebody has changed since" in out) == (0, True)
    tags = read_by_mutagen(path)
    assert (tags["MOOD"], tags["GENRE"], "MER_RAY_VALENCE" in tags) == ("mine", "score", False)
    before = path.read_bytes()
    code, out, _ = mer_ray("tag", "--undo", f"{scores}.tags.jsonl")
    assert (code, "0 files restored" in out, path.read_bytes() == before) == (0, True, True)


def test_what_cannot_be_tagged_costs_a_line_and_stays(mer_ray, tmp_path):
    good = [made(tmp_path, n) for n in ("a.flac", "a.mp3", "a.m4a", "a.wav", "a.wv")]
    bad = {n: made(tmp_path / n.split(".")[0], n) for n in ("locked.flac", "edited.mp3", "linked.flac", "closed.mp3")}
    bad |= {"gone.flac": tmp_path / "gone.flac", "a.mka": made(tmp_path, "a.mka"), "x.mp3": tmp_path / "x.mp3"}
    bad["x.mp3"].write_bytes(b"no audio at all")
    scores = scored(tmp_path / "s.parquet", [*good, *bad.values()])
    bad["locked.flac"].chmod(0o444)
    bad["closed.mp3"].parent.chmod(0o555)
    os.link(bad["linked.flac"], tmp_path / "second.flac")
    with bad["edited.mp3"].open("ab") as file:
        file.write(b"\0")
    before = {name: path.read_bytes() if path.exists() else b"" for name, path in bad.items()}
    code, out, err = mer_ray("tag", scores, "--dry-run")  # seven of twelve are more than a fifth
    assert (code, "7 of 12 files failed" in err, out.count("VALENCE – →")) == (3, True, 5)
    assert "5 files would be tagged; 7 failed" in out
    code, out, err = mer_ray("tag", scores, "--max-lost", "0.9")
    bad["closed.mp3"].parent.chmod(0o755)
    assert code == 0
    assert "5 files tagged; 7 failed" in out
    lines = [line for line in err.splitlines() if line.startswith("not done: ")]
    assert [sum(name in line for line in lines) for name in bad] == [1] * 7
    assert {name: path.read_bytes() if path.exists() else b"" for name, path in bad.items()} == before
    assert not list(tmp_path.rglob(".*.part*"))
    code, out, err = mer_ray("tag", scores)
    assert (code, "6 of 12 files failed" in err, "1 files tagged; 5 were up to date" in out) == (3, True, True)
    assert "to undo it: mer-ray tag --undo" in out


def test_what_ffmpeg_cannot_read_stays_and_is_named_by_its_own_name(mer_ray, tmp_path):
    path = made(tmp_path / "Träume und Tod", "a.ogg")
    data = path.read_bytes()
    setup = data.index(b"\x05vorbis") + 7  # mutagen reads the header before it
    path.write_bytes(data[:setup] + bytes(20) + data[setup + 20 :])
    before = path.read_bytes()
    good = made(tmp_path, "a.flac")
    scores = scored(tmp_path / "Träume und Tod" / "s.parquet", [good, path])
    code, out, err = mer_ray("tag", scores, "--max-lost", "0.5")
    assert (code, "1 files tagged; 1 failed" in out) == (0, True)
    assert f"not done: {path}: FFmpeg cannot read it" in err
    assert path.read_bytes() == before
    undo = shlex.split(next(line for line in out.splitlines() if line.startswith("to undo it")))[3:]
    assert undo == ["mer-ray", "tag", "--undo", f"{scores}.tags.jsonl"]
    assert mer_ray(*undo[1:])[0] == 0


def test_if_none_can_be_tagged_the_command_fails(mer_ray, tmp_path):
    path = tmp_path / "gone.mp3"
    code, _, err = mer_ray("tag", scored(tmp_path / "s.parquet", [path]))
    assert (code, "none of the 1 files could be done" in err, "not there any more" in err) == (2, True, True)


def test_a_link_stays_a_link_and_times_are_kept_on_request(mer_ray, tmp_path):
    path, link = made(tmp_path, "a.flac"), tmp_path / "link.flac"
    link.symlink_to(path)
    os.utime(path, (1_000_000_000, 1_000_000_000))
    scores = scored(tmp_path / "s.parquet", [link, path])
    code, out, _ = mer_ray("tag", scores, "--keep-mtime")
    assert (code, "1 files tagged" in out, "1 rows left out" in out) == (0, True, True)
    assert link.is_symlink()
    assert path.stat().st_mtime == 1_000_000_000
    assert mer_ray("tag", "--undo", f"{scores}.tags.jsonl")[0] == 0
    assert path.stat().st_mtime > 1_000_000_000


def typed(limit: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own whose files may have ``limit`` bytes at most."""
    code = f"import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))\n"
    code += f"from mer_ray.cli import main; main({[str(a) for a in arguments]!r})"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=240)


def test_a_full_disk_loses_nothing(tmp_path):
    small, large = made(tmp_path, "a.opus"), made(tmp_path, "a.wav")
    scores = scored(tmp_path / "s.parquet", [small, large])
    before = large.read_bytes()
    ended = typed(100_000, "tag", scores, "--max-lost", "0.5")
    assert ended.returncode == 0, ended.stderr
    assert "a.wav" in ended.stderr
    assert "File too large" in ended.stderr
    assert large.read_bytes() == before
    assert read_by_mutagen(small)["MER_RAY_VALENCE"] == "0.900"
    assert not [*tmp_path.glob(".*.part*")]


FULL = """
import hashlib, json, shutil, sys
from pathlib import Path
from mer_ray.cli import main

folder, scores = Path(sys.argv[1]), sys.argv[2]

def typed(*arguments):
    try:
        main(list(arguments))
    except SystemExit as stop:
        return stop.code
    return 0

def state():
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in folder.iterdir() if p.name != "filler"}

before = state()
free = shutil.disk_usage(folder).free
(folder / "filler").write_bytes(bytes(free - 60_000))
full = typed("tag", scores, "--log", scores + ".log", "--max-lost", "1")
during = state()
(folder / "filler").unlink()
done = typed("tag", scores, "--log", scores + ".log")
tagged = state()
(folder / "filler").write_bytes(bytes(shutil.disk_usage(folder).free - 60_000))
stuck = typed("tag", "--undo", scores + ".log", "--max-lost", "1")
print(json.dumps([full, before == during, done, before != tagged, stuck, sorted(state()) == sorted(before)]))
"""


def test_a_disk_that_is_really_full_loses_nothing(tmp_path):
    """A file system of a megabyte, in a mount name space of the test's own."""
    files = [made(tmp_path, name) for name in ("a.wav", "a.flac")]  # 176 and some 130 kB
    disk = tmp_path / "disk"
    disk.mkdir()
    scores = scored(tmp_path / "s.parquet", [disk / f.name for f in files], size=None, mtime_ms=None, sha256=None)
    mount = f"mount -t tmpfs -o size=1m tmpfs {disk} && cp {files[0]} {files[1]} {disk}"
    if shutil.which("unshare") is None or subprocess.run(["unshare", "-rm", "sh", "-c", mount], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    command = f'{mount} && exec "$@"'
    arguments = [sys.executable, "-c", FULL, str(disk), str(scores)]
    ended = subprocess.run(
        ["unshare", "-rm", "sh", "-c", command, "sh", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    assert ended.returncode == 0, ended.stderr
    assert "No space left on device" in ended.stderr
    assert json.loads(ended.stdout.splitlines()[-1]) == [2, True, 0, True, 2, True]


def test_a_full_disk_for_the_log_ends_the_command_before_the_file(tmp_path):
    path = made(tmp_path, "a.opus")
    scores, log = scored(tmp_path / "s.parquet", [path]), tmp_path / "log.jsonl"
    log.write_text((json.dumps({"undone": "x" * 60_000}) + "\n") * 3)
    before = path.read_bytes()
    ended = typed(log.stat().st_size + 200, "tag", scores, "--log", log)
    assert ended.returncode == 2, ended.stdout + ended.stderr
    assert "File too large" in ended.stderr
    assert path.read_bytes() == before
    assert not [*tmp_path.glob(".*.part*")]
    assert typed(10**9, "tag", scores, "--log", log).returncode == 0  # half a line at its end does no harm
    assert typed(10**9, "tag", "--undo", log).returncode == 0
    assert "MER_RAY_VALENCE" not in read_by_mutagen(path)


KILLED = """
import os, signal, sys
from mer_ray.cli import main

replace, left = os.replace, int(sys.argv[2])

def counted(*arguments, **options):
    global left
    left -= 1
    if not left:
        os.kill(os.getpid(), signal.SIGKILL)
    replace(*arguments, **options)

os.replace = counted
main(["tag", sys.argv[1]])
"""
"""The command, which is killed when it is about to put so many a file in place."""


def test_a_killed_run_is_undone_or_finished(mer_ray, tmp_path):
    first = made(tmp_path, "a.flac")
    paths = [Path(shutil.copy(first, tmp_path / f"{i}.flac")) for i in range(60)]
    sound, before = samples(first), read_by_mutagen(first)
    scores = scored(tmp_path / "s.parquet", paths)
    log = tmp_path / "s.parquet.tags.jsonl"
    killed = subprocess.run([sys.executable, "-c", KILLED, str(scores), "20"], stdout=subprocess.DEVNULL)
    assert killed.returncode == -signal.SIGKILL
    assert sum("MER_RAY_VALENCE" in read_by_mutagen(p) for p in paths) == 19
    assert {samples(p) for p in paths} == {sound}
    code, out, err = mer_ray("tag", "--undo", log)
    assert code == 0, err
    assert all(read_by_mutagen(p) == before for p in paths)
    assert not [*tmp_path.glob(".*.part*")]
    code, out, _ = mer_ray("tag", scores)
    assert (code, "60 files tagged" in out) == (0, True)
    assert {samples(p) for p in paths} == {sound}


def test_hostile_names_and_texts(mer_ray, tmp_path):
    first = made(tmp_path, "a.flac")
    names = ["[bold]x.flac", "#1?%20.flac", "-n.flac", os.fsdecode(b"\xff\xfe.flac"), "new\nline.flac", "s ure .flac"]
    paths = [Path(shutil.copy(first, tmp_path / name)) for name in names]
    scores = scored(tmp_path / "s.parquet", paths, model="m\u202e\U0001f600 [red]")
    code, out, err = mer_ray("tag", scores, "--dry-run")
    assert (code, "6 files would be tagged" in out, "[bold]x.flac" in out) == (0, True, True), err
    assert mer_ray("tag", scores)[0] == 0
    assert {read_by_mutagen(p)["MER_RAY_MODEL"] for p in paths} == {"m\u202e\U0001f600 [red]"}
    assert mer_ray("tag", "--undo", f"{scores}.tags.jsonl")[0] == 0
    assert not any("MER_RAY_MODEL" in read_by_mutagen(p) for p in paths)


@pytest.mark.parametrize("name", ["a.mp3", "a.flac", "a.ogg", "a.m4a", "a.wav", "a.wv", "a.wma"])
def test_damaged_files_stay_as_they_are_or_sound_the_same(mer_ray, tmp_path, name):
    path, rng = made(tmp_path, name), np.random.default_rng(0)
    whole, files = path.read_bytes(), []
    for i in range(12):
        data = bytearray(whole)
        for at in rng.integers(0, min(600, len(data)), 3):  # headers and tags
            data[at] = rng.integers(256)
        files.append(tmp_path / f"{i}{path.suffix}")
        files[-1].write_bytes(data)
    scores = scored(tmp_path / "s.parquet", files)
    before = {p: p.read_bytes() for p in files}
    code, out, err = mer_ray("tag", scores, "--max-lost", "1")
    assert code in (0, 2)
    assert "Traceback" not in out + err
    failed = [line for line in err.splitlines() if line.startswith("not done: ")]
    same = [p for p in files if p.read_bytes() == before[p]]
    assert len(same) == len(failed)
    assert not list(tmp_path.glob(".*.part*"))


def test_scores_that_do_not_say_of_which_version_they_are(mer_ray, tmp_path):
    path = made(tmp_path, "a.flac")
    code, out, _ = mer_ray("tag", scored(tmp_path / "s.csv.parquet", [path], size=None, mtime_ms=None, sha256=None))
    assert (code, "1 scores do not say of which version" in out) == (0, True)


def test_two_commands_do_not_share_a_log(mer_ray, tmp_path):
    import fcntl

    path = made(tmp_path, "a.flac")
    scores = scored(tmp_path / "s.parquet", [path])
    with Path(f"{scores}.tags.jsonl").open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        code, _, err = mer_ray("tag", scores)
    assert (code, "another command is using" in err) == (2, True)


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "[]",
        "{}",
        json.dumps({"uri": "x", "former": {"TITLE": ["evil"]}, "wrote": {}, "created": None, "sha256": ""}),
        json.dumps({"uri": "x", "former": {"MOOD": 5}, "wrote": {}, "created": None, "sha256": ""}),
    ],
)
def test_a_log_of_somebody_else_is_refused(mer_ray, tmp_path, line):
    log = tmp_path / "log.jsonl"
    log.write_text(json.dumps({"undone": "x"}) + "\n" + line + "\n")
    code, _, err = mer_ray("tag", "--undo", log)
    assert (code, "line 2" in err) == (2, True)


def test_without_mutagen_it_says_what_to_type(tmp_path):
    code = "import sys; sys.modules['mutagen'] = None\nfrom mer_ray.cli import main; main(['tag', 's.parquet'])"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=240)
    assert ended.returncode == 2
    assert "pip install 'mer-ray[tag]'" in ended.stderr


def test_arguments_that_make_no_sense(mer_ray: Callable[..., tuple[int, str, str]], tmp_path):
    assert mer_ray("tag")[0] == 2
    assert "give either SCORES or --undo LOG" in mer_ray("tag", "s.parquet", "--undo", "l")[2]
    assert "does not exist" in mer_ray("tag", "--undo", tmp_path / "none.jsonl")[2]
    assert "give --log FILE" in mer_ray("tag", "s3://bucket/s.parquet")[2]


def test_tagging_does_not_feed_on_itself(mer_ray, tmp_path):
    path = made(tmp_path, "a.flac")
    before = describe(path)
    assert mer_ray("tag", scored(tmp_path / "s.parquet", [path]))[0] == 0
    after = describe(path)
    assert (after.artist, after.title, after.album, after.key) == (before.artist, before.title, before.album, None)
    assert not after.tags
    assert np.isfinite(sounds.decode(path)[0]).all()


@pytest.mark.parametrize("target", ["s.parquet", "folder"])
def test_a_file_that_only_got_tags_is_not_scored_again(mer_ray, tmp_path, target):
    path, target = made(tmp_path, "a.flac"), tmp_path / target
    again = ("score", path, "--model", "light", "--out", target)
    assert mer_ray(*again)[0] == 0
    for change in (("tag", target), ("tag", "--undo", f"{target}.tags.jsonl"), ("tag", target)):
        assert "1 files" in mer_ray(*change)[1]
        assert "1 tracks · nothing new, found everything done" in mer_ray(*again)[1]
    tagged = path.read_bytes()
    sounds.write(path, sounds.tone(440, 1.0, 44_100), 44_100)
    assert "1 changed" in mer_ray(*again)[1]
    path.write_bytes(tagged)  # from a backup: mer-ray has written it, but not of the version that is scored now
    assert "has changed since it was scored" in mer_ray("tag", target)[2]
    assert "1 changed" in mer_ray(*again)[1]


def test_undoing_in_a_copy_of_other_audio_does_not_hide_that(mer_ray, tmp_path):
    path, target = made(tmp_path, "a.flac"), tmp_path / "s.parquet"
    again = ("score", path, "--model", "light", "--out", target)
    assert mer_ray(*again)[0] == mer_ray("tag", target)[0] == 0
    quieter = sounds.ffmpeg(path, tmp_path / "b.flac", "-af", "volume=0.5")  # keeps the tags
    path.write_bytes(quieter.read_bytes())
    assert "1 files restored" in mer_ray("tag", "--undo", f"{target}.tags.jsonl")[1]
    assert "1 changed" in mer_ray(*again)[1]
