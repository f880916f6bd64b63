"""The benchmarks import what there is, and hide no installed package from each other."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import LONG

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


TABLES = {  # of gpu.py: part → the rows' first cells
    "vggish": ["float32", "tf32", "bfloat16"],
    "decoders": ["samples", "log-mel patches"],
    "trainings": ["alone", "2 together", "2 together"],
    "kernel": ["float32", "tf32", "bfloat16"],
}


@pytest.mark.parametrize("parts", [["vggish", "decoders", "kernel"], *([["trainings"]] if LONG else [])], ids=" ".join)
def test_the_gpu_benchmark_prints_its_tables_without_a_gpu(parts):
    script = next(path for path in SCRIPTS if path.stem == "gpu")
    command = [sys.executable, str(script), "--cpu", "--parts", *parts]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    assert "left out" not in done.stdout, done.stdout
    tables = [block.splitlines() for block in done.stdout.split("\n\n") if block.startswith("| ")]
    wanted = [TABLES[part] for part in parts]
    wanted += [TABLES["vggish"]] if {"vggish", "decoders"} <= {*parts} else []  # whether the one waits for the other
    assert [[row.split("|")[1].strip() for row in table[2:]] for table in tables] == wanted
    assert all(row.count("|") == table[0].count("|") for table in tables for row in table)
    assert "nan" not in done.stdout
