"""What a cluster without mer-ray's packages has to install."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
RUNTIME_ENV = yaml.safe_load((ROOT / "cluster" / "runtime-env.yaml").read_text(encoding="utf-8"))
PINNED = "-c ${RAY_RUNTIME_ENV_CREATE_WORKING_DIR}/constraints.txt"


def name(requirement: str) -> str:
    """``tensorflow-hub`` of ``tensorflow_hub[x]>=0.16``."""
    return re.split(r"[^\w.-]", requirement, maxsplit=1)[0].lower().replace("_", "-")


def test_it_has_the_packages_of_pyproject_and_its_extras_but_for_ray():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    needed = [*project["dependencies"], *(n for e in ("train", "harvest", "hub", "youtube") for n in extras[e])]
    assert RUNTIME_ENV["pip"]["packages"] == [PINNED, *dict.fromkeys(n for n in needed if name(n) != "ray")]


def test_each_package_has_its_version_in_the_constraints_that_are_uploaded():
    pins = {name(line) for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines() if "==" in line}
    packages = {name(p) for p in RUNTIME_ENV["pip"]["packages"] if p != PINNED}
    assert packages - pins == {"setuptools"}  # its bound is in pyproject.toml, for tensorflow-hub
    ignored = (ROOT / ".rayignore").read_text(encoding="utf-8") + (ROOT / ".gitignore").read_text(encoding="utf-8")
    assert "constraints" not in ignored


def test_it_brings_nothing_that_others_may_not_see():
    assert set(RUNTIME_ENV) == {"pip"}


def test_ray_takes_it():
    from ray.runtime_env import RuntimeEnv

    assert RuntimeEnv(**RUNTIME_ENV)["pip"]["packages"][0] == PINNED
