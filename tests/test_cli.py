"""The command line: help for everything, and one clear line for whatever goes wrong."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
import sounds
from click.testing import CliRunner

from mer_ray import __version__
from mer_ray.cli import main
from mer_ray.io.tables import Workspace

ROOT = Path(__file__).parents[1]
COMMANDS = sorted(main.commands)
STAGES = ["collect", "label", "acquire", "extract", "train", "report", "score"]
HEAVY = ["ray", "jax", "flax", "tensorflow", "librosa", "pyarrow", "soundfile", "matplotlib", "numpy", "pydantic"]


@pytest.fixture
def typed(tmp_path, monkeypatch):
    """Types ``mer-ray ARGUMENTS``, far from any Ray: (exit code, standard output, standard error)."""
    monkeypatch.setenv("COLUMNS", "200")
    for secret in "LASTFM_API_KEY", "SPOTIPY_CLIENT_ID", "SPOTIPY_CLIENT_SECRET", "RAY_ADDRESS":
        monkeypatch.delenv(secret, raising=False)
    monkeypatch.chdir(tmp_path)

    def run(*arguments: object) -> tuple[int, str, str]:
        result = CliRunner().invoke(main, [str(a) for a in arguments])
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result.exit_code, result.stdout, result.stderr

    return run


def manifest(folder: Path, rows: str = "A,One,sad,,,\nB,Two,calm,,,\n") -> Path:
    file = folder / "m.csv"
    file.write_text("artist,title,tags,valence,arousal,dominance\n" + rows)
    return file


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_on_every_option(typed, command):
    code, out, _ = typed(command, "--help")
    assert code == 0
    assert main.commands[command].help
    assert out.startswith("Usage: ")
    for parameter in main.commands[command].params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert parameter.opts[-1] in out


def test_the_commands_are_the_stages(typed):
    code, out, _ = typed("--help")
    assert code == 0
    assert {*STAGES, "run", "status"} <= set(COMMANDS)
    for command in COMMANDS:
        assert len(re.findall(rf"^  {command} {{2,}}\w", out, re.MULTILINE)) == 1, command
    narrow = CliRunner().invoke(main, ["--help"], terminal_width=80).output
    assert [line for line in narrow.splitlines() if line.endswith("...") and line.startswith(" ")] == []
    assert typed("--version")[1].strip().endswith(__version__)


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from click.testing import CliRunner; from mer_ray.cli import main;"
        "assert CliRunner().invoke(main, ['--help']).exit_code == 0;"
        "assert CliRunner().invoke(main, ['run', '--help']).exit_code == 0;"
        f"print([m for m in {HEAVY} if m in sys.modules])"
    )
    message = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert message.stdout.strip() == "[]"


def test_reading_settings_imports_neither_ray_nor_a_framework():
    code = (
        "import sys; from mer_ray import config; config.load(); import mer_ray.io.tables;"
        f"print([m for m in {HEAVY[:5]} if m in sys.modules])"
    )
    message = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert message.stdout.strip() == "[]"


def test_the_module_runs_as_the_command():
    message = subprocess.run([sys.executable, "-m", "mer_ray", "--version"], capture_output=True, text=True, check=True)
    assert message.stdout.strip() == f"mer-ray, version {__version__}"


# bad input ---------------------------------------------------------------------------------------------------------

BAD = {
    "no API key": (["collect", "--set", "collect.source=lastfm"], ["LASTFM_API_KEY"]),
    "no API key, all stages": (
        ["run", "--set", "collect.source=lastfm", "--set", "label.lexicon=demo"],
        ["LASTFM_API_KEY"],
    ),
    "unknown key": (["label", "--set", "label.lexicn=x"], ["label.lexicn", "did you mean lexicon?"]),
    "unknown section": (["run", "--set", "trian.folds=3"], ["trian", "did you mean train?"]),
    "bad value": (["train", "--set", "train.folds=one"], ["train.folds", "one"]),
    "no assignment": (["train", "--set", "train.folds"], ["key=value"]),
    "missing config": (["run", "-c", "nowhere.yaml"], ["nowhere.yaml", "does not exist"]),
    "config is no mapping": (["run", "-c", "list.yaml"], ["list.yaml"]),
    "no manifest named": (["collect", "--set", "collect.source=manifest"], ["collect.manifest is not set"]),
    "missing manifest": (
        ["collect", "--set", "collect.source=manifest", "--set", "collect.manifest=gone.csv"],
        ["gone.csv", "does not exist"],
    ),
    "manifest of another kind": (
        ["collect", "--set", "collect.source=manifest", "--set", "collect.manifest=list.yaml"],
        ["list.yaml", ".parquet"],
    ),
    "no folder named": (["collect", "--set", "collect.source=folder"], ["collect.folder is not set"]),
    "empty folder": (
        ["collect", "--set", "collect.source=folder", "--set", "collect.folder=empty"],
        ["empty", "no audio files"],
    ),
    "label before collect": (["label"], ["no tracks", "mer-ray collect"]),
    "acquire before collect": (["acquire"], ["no tracks", "mer-ray collect"]),
    "extract before acquire": (["extract", "--set", "extract.features=mfcc"], ["no audio", "mer-ray acquire"]),
    "train before label": (["train", "--set", "extract.features=mfcc"], ["no labels", "mer-ray label"]),
    "report before train": (["report"], ["no trained model", "mer-ray train"]),
    "score before train": (["score"], ["no trained model", "mer-ray train"]),
    "status of nothing": (["status"], ["no workspace"]),
    "missing lexicon": (["label", "--set", "label.lexicon=gone.txt"], ["gone.txt", "saifmohammad.com"]),
    "lexicon with a malformed line": (["label", "--set", "label.lexicon=bad.txt"], ["bad.txt, line 2"]),
    "the demo's lexicon for others": (
        ["label", "--set", "label.lexicon=demo", "--set", "collect.source=folder"],
        ["demo lexicon", "not for research"],
    ),
    "--out of another kind": (["score", "music", "--model", "model", "--out", "scores.ods"], [".parquet", ".csv"]),
    "missing model": (["score", "music", "--model", "model", "--out", "scores.csv"], ["model", "model.json"]),
    "workspace is a file": (["collect", "--workspace", "list.yaml"], ["list.yaml"]),
    "workspace of an unknown kind": (["collect", "--workspace", "gopher://x"], ["gopher://x"]),
}


@pytest.fixture
def bad_things(tmp_path) -> None:
    (tmp_path / "list.yaml").write_text("- a\n- b\n")
    (tmp_path / "bad.txt").write_text("sad\t0.1\t0.2\t0.3\nglad\t0.9\n")
    (tmp_path / "empty").mkdir()
    sounds.write(tmp_path / "music" / "a.wav", sounds.tone())


@pytest.mark.usefixtures("bad_things")
@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_exit_code_2(typed, case):
    arguments, message = BAD[case]
    code, out, err = typed(*arguments)
    assert code == 2
    assert out == ""
    assert len(err.splitlines()) == 1, err
    assert err.startswith("mer-ray: error: ")
    for part in message:
        assert part in err
    assert "Traceback" not in err


def test_the_traceback_is_for_those_who_ask(tmp_path):
    environment = {k: v for k, v in os.environ.items() if k != "LASTFM_API_KEY"}
    command = [
        sys.executable,
        "-m",
        "mer_ray",
        "collect",
        "--set",
        "collect.source=lastfm",
        "--workspace",
        str(tmp_path),
    ]
    plain = subprocess.run(command, capture_output=True, text=True, env=environment)
    debug = subprocess.run([*command, "--debug"], capture_output=True, text=True, env=environment)
    assert plain.returncode == 2
    assert len(plain.stderr.splitlines()) == 1
    assert debug.returncode != 0
    assert "Traceback (most recent call last)" in debug.stderr
    assert "LASTFM_API_KEY" in debug.stderr


@pytest.mark.parametrize("command", ["no-such-stage", "collect --no-such-option", "score catalog"])
def test_a_slip_in_the_command_itself_is_exit_code_2(typed, command):
    code, _, err = typed(*command.split())
    assert code == 2
    assert "error: " in err.casefold()
    assert "Traceback" not in err


# what needs no Ray -------------------------------------------------------------------------------------------------


def test_tracks_and_labels_of_a_manifest(typed, tmp_path):
    rows = "A,One,sad:3; calm,,,\nA,Two,unheard of,,,\nB,Three,,,,\nC,,,,,\nB,three,sad,,,\n"
    own = [
        "--workspace",
        "w",
        "--set",
        "collect.source=manifest",
        "--set",
        f"collect.manifest={manifest(tmp_path, rows)}",
    ]
    (tmp_path / "lexicon.txt").write_text("sad\t0.1\t0.2\t0.3\ncalm\t0.9\t0.1\t0.6\n")
    code, out, err = typed("collect", *own)
    assert code == 0, err
    assert "3 tracks" in out
    assert "2 failed" in out
    code, out, err = typed("label", *own, "--set", "label.lexicon=lexicon.txt")
    assert code == 0, err
    workspace = Workspace(tmp_path / "w")
    (label,) = workspace.read("labels").to_pylist()
    assert [round(label[d], 4) for d in ("valence", "arousal", "dominance")] == [0.3, 0.175, 0.375]
    reasons = {f["reason"] for f in workspace.failures()}
    assert reasons == {"incomplete", "duplicate", "no_known_tag", "no_tags"}
    code, out, err = typed("status", *own)
    assert code == 0, err
    for message in (*reasons, "m.csv, row 4", "tracks", "labels"):
        assert message in out
    code, out, err = typed("label", *own, "--set", "label.lexicon=lexicon.txt")
    assert code == 0, err
    assert "nothing new" in out
    assert workspace.read("labels").num_rows == 1


def test_a_workspace_made_with_other_settings_is_not_touched(typed, tmp_path):
    own = ["--workspace", "w", "--set", "collect.source=manifest", "--set", f"collect.manifest={manifest(tmp_path)}"]
    assert typed("collect", *own)[0] == 0
    (tmp_path / "one.txt").write_text("sad\t0.1\t0.2\t0.3\n")
    (tmp_path / "two.txt").write_text("sad\t0.2\t0.2\t0.3\n")
    assert typed("label", *own, "--set", "label.lexicon=one.txt")[0] == 0
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "w").rglob("*") if p.is_file()}
    for command, change, message in (
        ("label", ["label.lexicon=two.txt"], "label.lexicon was 'one.txt:"),
        ("collect", ["collect.scale=[1, 9]"], "collect.scale was [0.0, 1.0], now [1.0, 9.0]"),
    ):
        code, _, err = typed(command, *own, "--set", *change)
        assert code == 2
        assert message in err
        assert "another --workspace" in err
        assert len(err.splitlines()) == 1
    assert before == {p: p.stat().st_mtime_ns for p in (tmp_path / "w").rglob("*") if p.is_file()}


def test_no_lexicon_where_one_is_needed(typed, tmp_path):
    own = ["--workspace", "w", "--set", "collect.source=manifest", "--set", f"collect.manifest={manifest(tmp_path)}"]
    assert typed("collect", *own)[0] == 0
    code, _, err = typed("label", *own)
    assert code == 2
    assert "label.lexicon is not set, and 2 tracks bring no label" in err
    assert "saifmohammad.com" in err
    assert len(err.splitlines()) == 1


def test_collect_says_what_it_understood(typed, tmp_path):
    (tmp_path / "songs.csv").write_text("Name;Artist;Valence Mean;Arousal Mean;Genre\nx;A;0,1;0,2;Score\n")
    own = ["--workspace", "w", "--set", "collect.source=manifest", "--set", "collect.manifest=songs.csv"]
    code, out, _ = typed("collect", *own)
    assert code == 0
    assert "Name as title" in out
    assert "not used: Genre" in out
    assert "1 of 1 rows have a label (valence 1, arousal 1, dominance 0)" in out
    (own,) = Workspace(tmp_path / "w").read("tracks", ["ratings"])["ratings"].to_pylist()
    assert {r["dimension"]: r["value"] for r in own} == {"valence": 0.1, "arousal": 0.2}


def test_a_command_that_an_error_names_can_be_typed_as_it_stands(typed, tmp_path):
    lacking = ("--set", f"collect.manifest={manifest(tmp_path, 'A,,,,,,')}")
    code, _, err = typed("collect", "--workspace", tmp_path / "Meine Töne", *lacking)
    assert code == 2
    named = re.search(r"see `(mer-ray status [^`]*)`", err)
    assert shlex.split(named[1]) == ["mer-ray", "status", "--workspace", str(tmp_path / "Meine Töne")]
    assert typed(*shlex.split(named[1])[1:])[0] == 0


def test_labels_on_another_scale_write_nothing(typed, tmp_path):
    (tmp_path / "songs.csv").write_text("title,artist,valence,arousal,dominance\nx,A,0.5,1,0\ny,A,8.7,1.2,3\n")
    own = ["--workspace", "w", "--set", "collect.source=manifest", "--set", "collect.manifest=songs.csv"]
    code, _, err = typed("collect", *own)
    assert code == 2
    assert "valence runs from 0.5 to 8.7" in err
    assert "collect.scale=[0,10]" in err
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "w" / "tracks").exists()


def test_a_damaged_table_is_one_line(typed, tmp_path):
    own = ["--workspace", "w", "--set", "collect.source=manifest", "--set", f"collect.manifest={manifest(tmp_path)}"]
    assert typed("collect", *own)[0] == 0
    (shard,) = (tmp_path / "w" / "tracks").glob("*.parquet")
    shard.write_bytes(shard.read_bytes()[:50])
    code, _, err = typed("status", *own)
    assert code == 2
    assert f"remove {shard}" in err
    assert len(err.splitlines()) == 1


def test_what_a_hostile_catalog_says_does_not_reach_the_terminal(typed, tmp_path):
    file = tmp_path / "m.jsonl"
    rows = [
        {"artist": "\x1b[31mA[bold]", "title": "x\ny\u202e", "tags": ["[/bold]\x07"]},
        {"artist": "\x1b[0m", "title": ""},
    ]
    file.write_text("\n".join(map(json.dumps, [*rows, {"artist": "B", "title": "fine", "tags": ["sad"]}])))
    own = ["--workspace", "w", "--set", "collect.source=manifest", "--set", f"collect.manifest={file}"]
    (tmp_path / "lexicon.txt").write_text("sad\t0.1\t0.2\t0.3\n")
    for command in ["collect"], ["label", "--set", "label.lexicon=lexicon.txt"], ["status"]:
        code, out, err = typed(*command, *own)
        assert code == 0, err
        assert not set("\x1b\x07\u202e") & set(out + err)
