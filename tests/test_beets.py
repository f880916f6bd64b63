"""The plugin for beets: real ``beet`` commands in a real library of real files."""

from __future__ import annotations

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import mutagen
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from conftest import write_tunes
from test_tag import read_by_mutagen, scored

import mer_ray
from mer_ray.io.schemas import scores_schema
from mer_ray.scoring.tagging import command as tagging

ROOT = Path(__file__).parents[1]
N = 12
Beet = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a library of 12 tunes, some under bad names, and a broken file; nothing is scored."""
    home = tmp_path_factory.mktemp("beets")
    files = write_tunes(home / "music", N + 1)
    for i, file in enumerate(files):
        tags = mutagen.File(file)
        tags["title"], tags["artist"] = f"Tune {i}", "Komponist"
        tags.save()
    data = files[N].read_bytes()
    files[N].write_bytes(data[: len(data) // 2])
    files[0].rename(home / "music" / os.fsdecode(b"caf\xe9 \xff.flac"))
    files[1].rename(home / "music" / "line\nbreak [red].flac")
    settings(home)
    assert beet(home, "import", "-q", "-A", "-C", home / "music").returncode == 0
    return home


@pytest.fixture
def library(imported: Path, tmp_path: Path) -> Path:
    """A library of one's own, of the same files in a folder of one's own."""
    home = tmp_path / "home"
    shutil.copytree(imported, home)
    settings(home)
    return home


def settings(home: Path, **own: object) -> None:
    known = {"directory": str(home / "music"), "library": str(home / "library.db"), "plugins": ["mer_ray"]}
    known |= {"mer_ray": {"model": "light", **own}, "import": {"copy": False, "write": False}}
    (home / "config.yaml").write_text(yaml.safe_dump(known))


def beet(home: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, "-P", "-m", "beets", *map(str, arguments)]
    environment = os.environ | {"BEETSDIR": str(home), "PYTHONPATH": path}
    return subprocess.run(
        command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=300
    )


def listed(home: Path, form: str, *query: str) -> list[str]:
    return beet(home, "ls", "-f", form, *query).stdout.splitlines()


def test_a_library_is_scored_once_and_found_by_its_values(library):
    shown = beet(library, "mood", "--pretend")
    assert f"{N + 1} items would be scored" in shown.stdout
    assert not listed(library, "$title", "valence:0..1")
    made = beet(library, "mood")
    assert made.returncode == 0, made.stderr
    assert f"{N} items scored; 1 failed" in made.stdout
    (failed,) = [line for line in made.stderr.splitlines() if "tune012" in line]
    assert "(too_short)" in failed
    files = [p for p in (library / "music").iterdir() if p.name != f"tune{N:03d}.flac"]
    expected = mer_ray.score(files, "light")
    values = {
        line.split("|")[0]: float(line.split("|")[1]) for line in listed(library, "$title|$valence", "valence::.")
    }
    assert values == {
        t: pytest.approx(v, abs=6e-4)
        for t, v in zip(*expected.select(["title", "valence"]).to_pydict().values(), strict=True)
    }
    middle = sorted(values.values())[N // 2]
    assert set(listed(library, "$title", f"valence:..{middle}")) == {t for t, v in values.items() if v <= middle}
    moods = dict(zip(*expected.select(["title", "mood"]).to_pydict().values(), strict=True))
    assert dict(line.split("|") for line in listed(library, "$title|$mood", "mood::.")) == moods


def test_only_changed_audio_is_scored_again(library):
    assert f"{N} items scored" in beet(library, "mood").stdout
    edited, replaced = library / "music" / "tune002.flac", library / "music" / "tune003.flac"
    tags = mutagen.File(edited)
    tags["genre"] = "score"
    tags.save()
    shutil.copy(library / "music" / "tune004.flac", replaced)
    said = beet(library, "mood", "--pretend").stdout.splitlines()
    assert any("tune003.flac (changed)" in line for line in said)
    assert not any("tune002" in line for line in said)
    assert "1 items scored; 11 were up to date; 1 failed" in beet(library, "mood").stdout
    assert len(set(listed(library, "$valence", "title:Tune 3", ",", "title:Tune 4"))) == 1


def test_values_of_a_file_of_scores_are_taken_by_path(library):
    files = sorted(p for p in (library / "music").iterdir() if p.name != f"tune{N:03d}.flac")
    table = mer_ray.score(files, "light")
    marked = table.set_column(table.column_names.index("valence"), "valence", pa.array([0.5] * N))
    older = [
        name for name in marked.column_names if name not in ("tempo", "key", "mode", "loudness", "true_peak", "sha256")
    ]
    pq.write_table(marked.select(older), library / "scores.parquet")
    with (library / "music" / "tune005.flac").open("ab") as file:
        file.write(b"\0")
    said = beet(library, "mood", "--from", library / "scores.parquet")
    assert said.returncode == 0, said.stderr
    assert f"{N - 1} items given new values; 1 failed; 1 are not in the scores" in said.stdout
    assert f"{N - 1} have no tempo, key and loudness" in said.stdout
    assert "tune005.flac has changed since it was scored" in said.stderr
    assert set(listed(library, "$valence $valence_percentile", "valence:0..1")) == {"0.500 50.0"}
    again = beet(library, "mood", "--force", "--from", library / "scores.parquet", "title:Tune 5", ",", "title:Tune 6")
    assert "1 items given new values; 1 had them already" in again.stdout
    bad = beet(library, "mood", "--from", library / "config.yaml")
    assert (bad.returncode, "neither .parquet nor .csv" in bad.stderr, "Traceback" in bad.stderr) == (1, True, False)


def test_values_are_taken_of_files_that_have_been_tagged_since(library):
    first, second = (library / "music" / f"tune00{i}.flac" for i in (3, 4))
    scores = scored(library / "scores.parquet", [first, second])
    tagging.run(str(scores))
    with second.open("ab") as file:
        file.write(b"\0")  # by somebody else
    said = beet(library, "mood", "--from", scores)
    assert "1 items given new values; 1 failed" in said.stdout
    assert "tune004.flac has changed since it was scored" in said.stderr
    assert listed(library, "$title $valence", "valence:0..1") == ["Tune 3 0.900"]


def test_every_item_is_accounted_for(library):
    copies, gone = library / "music" / "tune002.flac", library / "music" / "tune003.flac"
    gone.unlink()
    with closing(sqlite3.connect(library / "library.db")) as database, database:  # an item twice, as happens
        columns = ", ".join(name for _, name, *_ in database.execute("PRAGMA table_info(items)") if name != "id")
        wanted = f"SELECT {columns} FROM items WHERE title = 'Tune 2'"
        database.execute(f"INSERT INTO items ({columns}) {wanted}")
    query = ["title:Tune 2", ",", "title:Tune 3"]
    assert "2 items scored; 1 are without their file" in beet(library, "mood", *query).stdout
    assert len(listed(library, "$title", "valence:0..1")) == 2
    os.utime(copies, (0, 0))
    said = beet(library, "mood", "--write", *query).stdout
    assert "0 items scored; 2 were up to date; 1 are without their file" in said
    assert "1 files tagged" in said
    assert "MER_RAY_VALENCE" in read_by_mutagen(copies)
    copies.write_bytes(copies.read_bytes()[:20_000])
    said = beet(library, "mood", "title:Tune 2").stdout
    assert "2 failed; 2 lost their values, as their files have changed" in said
    assert not listed(library, "$title", "valence:0..1")


def test_imports_are_scored_and_files_written_on_request_only(library):
    settings(library, auto=True, write=True)
    before = {p: p.read_bytes() for p in (library / "music").iterdir()}
    (library / "library.db").unlink()
    made = beet(library, "import", "-q", "-A", library / "music")
    assert made.returncode == 0, made.stderr
    tags = {p.stem: read_by_mutagen(p) for p in before if p.stem != f"tune{N:03d}"}
    stored = dict(line.split("|") for line in listed(library, "$title|$valence", "valence:0..1"))
    assert {t["TITLE"]: t["MER_RAY_VALENCE"] for t in tags.values()} == stored
    assert {t["MER_RAY_MOOD"] for t in tags.values()} == set(listed(library, "$mood", "valence:0..1"))
    with (library / "mer_ray.tags.jsonl").open("a") as log:
        log.write('{"temporary": "half a li')  # as a kill leaves it
    assert beet(library, "move").returncode == 0
    files = [p for p in (library / "music").rglob("*") if p.is_file()]
    assert len(files) == len(before)
    assert not set(files) & set(before)
    assert f"0 items scored; {N} were up to date; 1 failed" in beet(library, "mood").stdout
    undone = subprocess.run(
        [sys.executable, "-m", "mer_ray", "tag", "--undo", str(library / "mer_ray.tags.jsonl")], check=False
    )
    assert undone.returncode == 0
    assert not any("MER_RAY_VALENCE" in read_by_mutagen(p) for p in files)
    settings(library)
    now = {p: p.read_bytes() for p in files}
    assert beet(library, "mood", "--force").returncode == 0
    assert {p: p.read_bytes() for p in files} == now


def test_other_dimensions_are_fields_once_the_settings_name_them(library):
    for dimensions in (("tension", "energy"), ("year", "arousal")):
        row = {
            "track_id": "a",
            "artist": "",
            "title": "",
            "uri": str(library / "music" / "tune006.flac"),
            "model": "own",
        }
        row |= {"duration_s": 1.0, "curve": [], "curve_hop_s": 1.0}
        row |= {end + d: 0.25 for end in ("", "lower_", "upper_") for d in dimensions}
        pq.write_table(
            pa.Table.from_pylist([row], schema=scores_schema(dimensions)), library / f"{dimensions[0]}.parquet"
        )
    said = beet(library, "mood", "--from", library / "tension.parquet")
    assert (said.returncode, "dimensions: valence arousal dominance tension energy" in said.stderr) == (1, True)
    settings(library, dimensions="tension energy")
    assert "1 items given new values" in beet(library, "mood", "--from", library / "tension.parquet").stdout
    assert listed(library, "$title", "tension:0.2..0.3") == ["Tune 6"]
    said = beet(library, "mood", "--from", library / "year.parquet")
    assert (said.returncode, "Traceback" in said.stderr) == (1, False)
    assert "beets has one so named" in said.stderr
