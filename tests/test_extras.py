"""What is said where a package of an extra is missing, for every command; and what runs without it."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
from conftest import write_tunes

from mer_ray import cli, extras
from mer_ray.errors import MerRayError, MissingExtra
from mer_ray.stages import train

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
HUB = "https://tfhub.dev/google/yamnet/1"

TYPED = """
import contextlib, io, json, os, sys
blocked, commands = json.loads(sys.argv[1])
sys.modules.update(dict.fromkeys(blocked))  # importing one raises ModuleNotFoundError
from mer_ray import cli
for words in commands:
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main(words)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
    print(json.dumps([code, err.getvalue()]), flush=True)
"""


def distributions(extra: str) -> set[str]:
    """Of an extra in pyproject.toml, by normalised name."""
    return {re.split(r"[\[<>=; ]", d)[0].lower().replace("_", "-") for d in PROJECT["optional-dependencies"][extra]}


def test_the_table_of_modules_is_that_of_pyproject():
    of = packages_distributions() | {"deno": ["deno"], "mlflow": ["mlflow-skinny"], "alembic": ["alembic"]}
    assert {"all", "cuda", "dev", *extras.EXTRAS} == set(PROJECT["optional-dependencies"])
    for extra, modules in extras.EXTRAS.items():
        found = {d.lower().replace("_", "-") for m in modules for d in of.get(m, [m])}
        needed = distributions(extra) - {"setuptools", "yt-dlp-ejs"}  # the one imports them, we do not
        assert needed <= found, extra
        assert all({d.lower().replace("_", "-") for d in of.get(m, [m])} & needed for m in modules), extra


def test_all_is_all_that_a_machine_without_a_gpu_needs():
    (line,) = PROJECT["optional-dependencies"]["all"]
    named = set(re.fullmatch(r"mer-ray\[(.*)\]", line)[1].split(","))
    assert named == set(extras.EXTRAS) - {"mlflow"}


def test_a_missing_package_is_an_import_error_and_one_of_ours():
    error = extras.explained(ModuleNotFoundError("No module named 'jax.numpy'", name="jax.numpy"))
    assert isinstance(error, MerRayError)
    assert isinstance(error, ImportError)
    assert str(error) == "this needs jax: pip install 'mer-ray[train]'"
    assert extras.explained(ModuleNotFoundError("No module named 'xyz'", name="xyz")) is None
    assert "WSL" in str(extras.explained(ModuleNotFoundError(name="fcntl")))
    with pytest.raises(MissingExtra, match="xyz"):
        extras.require("train", "os", "xyz")
    extras.require("train", *train.PACKAGES)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """Music, its scores, and a workspace of it with features, all made without Ray."""
    folder = tmp_path_factory.mktemp("extras")
    paths = write_tunes(folder / "music", 3, 3.0)
    rows = [f"{p.name},A{i},T{i},0.{i + 1},0.5,0.5" for i, p in enumerate(paths)]
    manifest = folder / "music" / "manifest.csv"
    manifest.write_text("\n".join(["path,artist,title,valence,arousal,dominance", *rows]))
    done = typed(
        ["ray", "tensorflow"],
        [
            ["score", str(folder / "music"), "--out", str(folder / "scores.parquet"), "--model", "light"],
            *([stage, *workspace(folder)] for stage in ("collect", "label", "acquire", "extract")),
        ],
    )
    assert [code for code, _ in done] == [0] * 5, done
    return folder


def workspace(folder: Path, own: Path | None = None) -> list[str]:
    """Options for a workspace of the folder's music. own: where it is, if not in that folder."""
    return [
        *(
            "--workspace",
            str((own or folder) / "w"),
            "--set",
            "collect.source=manifest",
            "--set",
            "extract.features=mfcc",
        ),
        *("--set", f"collect.manifest={folder / 'music' / 'manifest.csv'}"),
    ]


def typed(blocked: list[str], commands: list[list[str]], **environment: str) -> list[tuple[int, str]]:
    """(exit code, standard error) of each command, in one process in which these modules are not installed."""
    ended = subprocess.run(
        [sys.executable, "-c", TYPED, json.dumps([blocked, commands])],
        capture_output=True, text=True, check=False, timeout=300, env={**os.environ, **environment},
    )  # fmt: skip
    lines = ended.stdout.splitlines()
    assert len(lines) == len(commands), ended.stderr
    return [tuple(json.loads(line)) for line in lines]


def commands(folder: Path, into: Path) -> dict[str, list[str]]:
    """Every command, on what there is; and some with a setting that needs an extra. into: a copy of the workspace."""
    own, scores, out = workspace(folder, into), str(folder / "scores.parquet"), str(into / "out")
    return {
        "collect": ["collect", *own],
        "label": ["label", *own],
        "acquire": ["acquire", *own],
        "extract": ["extract", *own],
        "train": ["train", *own],
        "report": ["report", *own],
        "score": ["score", str(folder / "music"), "--out", f"{out}.parquet", "--model", "light"],
        "run": ["run", *own],
        "status": ["status", *own],
        "playlist": ["playlist", scores, "--where", "valence > 0"],
        "neighbours": ["neighbours", scores, "tune001"],
        "explore": ["explore", scores, "--out", f"{out}.html"],
        "duplicates": ["duplicates", scores],
        "tag": ["tag", scores, "--dry-run"],
        "board": ["board", "--workspace", f"{out}4"],
        "dataset": ["dataset", "deam", str(folder / "nothing")],
        "weights": ["weights", "musicnn", "--wheel", str(folder / "nothing"), "--out", f"{out}.safetensors"],
        "score on a cluster": ["score", str(folder / "music"), "--out", f"{out}2.parquet", "--address", "127.0.0.1:1"],
        "extract spectral": ["extract", *own, "--set", "extract.features=spectral"],
        "extract chroma": ["extract", *own, "--set", "extract.features=chroma"],
        "collect lastfm": ["collect", "--workspace", f"{out}3", "--set", "collect.source=lastfm"],
        "acquire savify": ["acquire", *own, "--set", "acquire.providers=savify"],
        "explain": ["label", *own, "--explain", "A0 – T9"],
        "extract hub": ["extract", *own, "--set", "extract.features=yam", "--set", f"extract.hub.yam.handle={HUB}"],
    }


MISSING = {
    "cluster": {"train": "train", "run": "train", "score on a cluster": "cluster"},
    "train": {
        **dict.fromkeys(("label", "train", "report", "run", "explain", "board"), "train"),
        **dict.fromkeys(("extract spectral", "extract chroma"), "train"),
        "score on a cluster": "cluster",
    },
    "harvest": {"collect lastfm": "harvest", "acquire savify": "harvest", "explain": "train"},
    "hub": {"extract hub": "hub"},
    "tag": {"tag": "tag"},
    "youtube": {},
}
"""Extra that is missing → what is typed → the extra that the line names. What is not here runs, or ends by itself."""


@pytest.mark.parametrize("extra", MISSING)
def test_every_command_runs_without_an_extra_or_says_what_to_type(made, extra, tmp_path):
    shutil.copytree(made / "w", tmp_path / "w")  # what one case extracts, another would find done
    typing = commands(made, tmp_path)
    assert set(cli.main.commands) <= set(typing), "a new command: say here how it is typed"
    needed = MISSING[extra]
    # Training takes Ray's start; with what it needs it is tested elsewhere, as are other machines.
    left_out = {"train", "run", "score on a cluster", "collect lastfm", "acquire savify", "extract hub"} - set(needed)
    chosen = {name: words for name, words in typing.items() if name not in left_out}
    done = typed(list(extras.EXTRAS[extra]), list(chosen.values()), TFHUB_CACHE_DIR=str(tmp_path), LASTFM_API_KEY="x")
    for name, (code, errors) in zip(chosen, done, strict=True):
        if name in needed:
            pattern = rf"mer-ray: error: this needs \w+: pip install 'mer-ray\[{needed[name]}\]'\n"
            assert re.fullmatch(pattern, "".join(errors.splitlines(keepends=True)[-1:])), (name, errors)
            assert (code, "Traceback" in errors) == (2, False), (name, errors)
        else:
            assert "pip install" not in errors, (name, errors)
            assert "Traceback" not in errors, (name, errors)
            assert code == 0 or name in ("report", "board", "dataset", "weights", "explain"), (name, errors)


def test_the_python_interface_says_it_too(made, tmp_path):
    code = (
        "import sys; sys.modules['scipy'] = None; import mer_ray\n"
        "try: mer_ray.read_labels(sys.argv[1])\n"
        "except ImportError as error: print(error)"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(made / "w")], capture_output=True, text=True, check=False)
    assert ended.stdout == "this needs scipy: pip install 'mer-ray[train]'\n", ended.stderr
