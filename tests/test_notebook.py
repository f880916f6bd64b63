"""The example notebook: it runs, and what is stored in it is what it prints."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILE = ROOT / "docs" / "notebook.ipynb"
RUN = """
import contextlib, io, json, sys
import matplotlib.pyplot as plt
found, own = [], {"__name__": "__main__"}
shown = plt.show = lambda: found[-1].append(len(plt.get_fignums()))
for cell in json.load(open(sys.argv[1], encoding="utf-8"))["cells"]:
    if cell["cell_type"] == "code":
        found.append([])
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile("".join(cell["source"]), "a cell", "exec"), own)
        found[-1].insert(0, printed.getvalue())
print(json.dumps(found))
"""
NUMBER = re.compile(r"-?\d+\.\d+")


@pytest.fixture(scope="module")
def cells() -> list[dict]:
    return json.loads(FILE.read_text(encoding="utf-8"))["cells"]


def test_it_is_a_notebook_with_its_outputs(cells):
    notebook = json.loads(FILE.read_text(encoding="utf-8"))
    assert (notebook["nbformat"], notebook["nbformat_minor"]) == (4, 5)
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"
    assert len({cell["id"] for cell in cells}) == len(cells)
    code = [cell for cell in cells if cell["cell_type"] == "code"]
    assert [cell["execution_count"] for cell in code] == list(range(1, len(code) + 1))
    kinds = {output["output_type"] for cell in code for output in cell["outputs"]}
    assert kinds == {"stream", "display_data"}
    assert str(Path.home()) not in FILE.read_text(encoding="utf-8")


def test_it_runs_and_prints_what_is_stored(cells, tmp_path):
    environment = {**os.environ, "MPLBACKEND": "Agg", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", RUN, str(FILE)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    code = [cell["outputs"] for cell in cells if cell["cell_type"] == "code"]
    for (printed, *figures), outputs in zip(json.loads(done.stdout), code, strict=True):
        stored = "".join(line for o in outputs if o["output_type"] == "stream" for line in o["text"])
        assert NUMBER.sub("x", printed) == NUMBER.sub("x", stored)
        found, expected = ([float(x) for x in NUMBER.findall(text)] for text in (printed, stored))
        assert found == pytest.approx(expected, abs=0.05)
        assert figures == [1] * sum(o["output_type"] == "display_data" for o in outputs)
