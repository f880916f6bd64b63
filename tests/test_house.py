"""The rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from mer_ray import cli, features, models

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "mer_ray").rglob("*.py"))
JOBS = sorted((ROOT / "jobs").glob("*.py"))
BASE = [
    "tables",
    "schemas",
    "storage",
    "stores",
    "ids",
    "lost",
    "errors",
    "identity",
    "console",
    "cells",
    "ending",
    "importing",
    "lock",
]
LAYERS = ["sources", "labels", "audio", "features", "models", "training", "evaluation", "explorer"]


def imports(file: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def name(file: Path) -> str:
    return str(file.relative_to(ROOT))


@pytest.mark.parametrize("file", MODULES + JOBS, ids=name)
def test_each_module_says_what_it_is_for(file):
    assert ast.get_docstring(ast.parse(file.read_text(encoding="utf-8")))


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_only_the_stages_know_of_ray(file):
    rays = {m for m in imports(file) if m.split(".")[0] == "ray"}
    assert not rays or file.parent.name == "stages"


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_imports_go_down_only(file):
    place = file.relative_to(ROOT / "mer_ray").with_suffix("").parts
    above = {"mer_ray.cli", "mer_ray.stages"} if place[0] not in ("stages", "cli", "__main__") else set()
    if place[0] in BASE:
        above |= {f"mer_ray.{layer}" for layer in LAYERS} | {"mer_ray.config"}
    assert not {m for m in imports(file) for a in above if m == a or m.startswith(f"{a}.")}


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_nothing_loads_a_pickle_or_runs_what_it_reads(file):
    assert not {m.split(".")[0] for m in imports(file)} & {
        "pickle",
        "cloudpickle",
        "dill",
        "joblib",
        "shelve",
        "marshal",
    }
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.keyword) and node.arg in ("allow_pickle", "shell"):
            assert isinstance(node.value, ast.Constant)
            assert node.value.value is False
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert called not in ("eval", "exec", "yaml.load", "yaml.unsafe_load", "torch.load", "os.system")


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_importing_a_module_imports_no_heavy_one(file):
    """The tensors' libraries stay inside the functions and rooms that need them."""
    place = file.relative_to(ROOT / "mer_ray").as_posix()
    body = ast.parse(file.read_text(encoding="utf-8")).body
    top = {m.split(".")[0] for node in body if isinstance(node, ast.Import | ast.ImportFrom) for m in _of(node)}
    assert not top & {"ray", "tensorflow", "tensorflow_hub", "librosa", "savify", "spotipy", "matplotlib"}, place
    if not place.startswith(("models/", "training/")):
        assert not top & {"flax", "optax"}, place


def _of(node: ast.Import | ast.ImportFrom) -> list[str]:
    return [a.name for a in node.names] if isinstance(node, ast.Import) else [node.module or ""]


@pytest.mark.parametrize("file", JOBS, ids=lambda f: f.stem)
def test_each_job_runs_its_stage(file):
    assert file.stem in cli.main.commands
    assert f'main(["{file.stem}", *sys.argv[1:]])' in file.read_text(encoding="utf-8")
    assert f"python jobs/{file.name}" in (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "")


def test_each_stage_has_a_job():
    stages = {f.stem for f in (ROOT / "mer_ray" / "stages").glob("*.py")} & set(cli.main.commands)
    assert stages == {f.stem for f in JOBS}


@pytest.mark.parametrize(("registry", "room"), [(features.MODULES, "features"), (models.NETWORKS, "models")])
def test_registries_name_modules_that_are_there(registry, room):
    for key, module in registry.items():
        assert module == f"mer_ray.{room}.{key}"
        assert (ROOT / "mer_ray" / room / f"{key}.py").is_file()


def test_no_test_is_switched_off():
    pattern = re.compile(r"@pytest\.mark\.(skip|skipif|xfail)\b")
    off = [name(f) for f in (ROOT / "tests").glob("*.py") if pattern.search(f.read_text(encoding="utf-8"))]
    assert off == []


def test_every_error_is_drawn_in_the_tree():
    from mer_ray import errors

    drawn = errors.__doc__ or ""
    for error in vars(errors).values():
        if isinstance(error, type) and issubclass(error, Exception):
            assert error.__name__ in drawn
            assert error.__doc__
