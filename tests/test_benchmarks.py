"""The benchmarks import what there is, and hide no installed package from each other."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

SCRIPTS = sorted((Path(__file__).parents[1] / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.stem)
def test_the_names_it_imports_exist(script):
    spec = importlib.util.find_spec(script.stem)
    assert spec is None or spec.origin in (None, str(script)), f"benchmarks/{script.name} hides {spec.origin}"
    tree = ast.parse(script.read_text(encoding="utf-8"))
    code = [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and str(n.value).startswith("\nimport ")]
    for node in (node for part in [tree, *map(ast.parse, code)] for node in ast.walk(part)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "mer_ray":
            module = importlib.import_module(node.module)
            for name in node.names:
                assert hasattr(module, name.name) or importlib.util.find_spec(f"{node.module}.{name.name}"), name.name
