"""The rules of the house that no linter knows."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from graphlib import TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

from mer_ray import cli, features, models

ROOT = Path(__file__).parents[1]
MODULES = sorted((ROOT / "mer_ray").rglob("*.py"))
JOBS = sorted((ROOT / "jobs").glob("*.py"))
FLOORS = [
    {"cli"},
    {"cli_catalog"},
    {"cli_board", "cli_tag"},
    {"cli_options"},
    {"stages"},
    {"scoring"},
    {"training"},
    {"config"},
    {"config_collect"},
    {"models", "evaluation"},
    {"features", "labels", "sources", "datasets"},
    {"audio"},
    {"io"},
    {"console", "signals", "child_process", "accelerator", "machine", "config_file", "config_checks"},
    {"extras"},
    {"errors", "version"},
]
"""From the top down. A room imports from itself and from lower floors, not from its neighbours."""
LEVEL = {room: level for level, floor in enumerate(FLOORS) for room in floor}
MAX_LINES = 350


def imports(file: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= inside if node.module == "mer_ray" else {node.module, *inside}
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


def room(module: str) -> str:
    """``mer_ray.audio.readers.flac`` → ``audio``."""
    return module.split(".")[1]


def dotted(file: Path) -> str:
    """The name by which a file is imported."""
    return ".".join(file.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


@pytest.mark.parametrize("file", [f for f in MODULES if f.parent != ROOT / "mer_ray" or f.stem in LEVEL], ids=name)
def test_imports_go_down_only(file):
    own = room(dotted(file))
    for module in imports(file):
        assert module != "mer_ray", "the package's front door is above every floor"
        if module.startswith("mer_ray.") and room(module) != own and room(module) in LEVEL:
            assert LEVEL[room(module)] > LEVEL[own], module


def test_every_room_has_a_floor():
    assert {room(dotted(f)) for f in MODULES if f.parent != ROOT / "mer_ray"} <= LEVEL.keys()


def test_the_architecture_draws_the_rooms_in_the_order_of_the_floors():
    page = (ROOT / "docs" / "explanation" / "architecture.md").read_text(encoding="utf-8")
    tree = page[page.index("## Where things are") :]
    drawn = re.findall(r"^  (\w+)(?:/|\.py) ", tree, flags=re.M)
    rooms = {f.parent.relative_to(ROOT / "mer_ray").parts[0] for f in MODULES if f.parent != ROOT / "mer_ray"}
    assert rooms - set(drawn) == set()
    levels = [LEVEL[name] for name in drawn if name in LEVEL]
    assert levels == sorted(levels)


def test_no_modules_import_each_other():
    modules = {dotted(f): f for f in MODULES}
    TopologicalSorter({m: imports(f) & modules.keys() - {m} for m, f in modules.items()}).prepare()


def test_no_module_name_is_used_twice():
    names = [f.stem for f in MODULES if f.stem != "__init__"]
    assert sorted(names) == sorted(set(names))


@pytest.mark.parametrize("file", MODULES, ids=name)
def test_a_module_is_read_in_one_go(file):
    assert len(file.read_text(encoding="utf-8").splitlines()) <= MAX_LINES


def test_what_is_imported_is_declared():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    listed = project["dependencies"] + [d for extra in project["optional-dependencies"].values() for d in extra]
    declared = {re.split(r"[\[<>=; ]", d)[0].lower().replace("_", "-") for d in listed}
    of = packages_distributions()
    for file in MODULES:
        for top in {m.split(".")[0] for m in imports(file)} - {"mer_ray", *sys.stdlib_module_names}:
            names = {d.lower().replace("_", "-") for d in of.get(top, [top])}
            assert names & declared, f"{name(file)} imports {top}"


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


@pytest.mark.parametrize(
    ("registry", "room"), [(features.MODULES, "features"), (models.NETWORKS | models.BASELINES, "models")]
)
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
