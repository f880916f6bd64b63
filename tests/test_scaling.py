"""The model of throughput: its schedule keeps the bounds of list scheduling, and docs/scaling.md says what it says."""

from __future__ import annotations

import importlib.util
import math
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[1]
WORKERS = st.integers(1, 9)
DOC = (ROOT / "docs" / "scaling.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def scaling() -> ModuleType:
    """benchmarks/scaling.py, as a module."""
    folder = str(ROOT / "benchmarks")
    spec = importlib.util.spec_from_file_location("scaling", f"{folder}/scaling.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.path.insert(0, folder)
    sys.modules["scaling"] = module  # dataclasses look their module up
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(folder)
    return module


@given(work=st.lists(st.lists(st.floats(0.1, 100.0), min_size=1, max_size=3), min_size=1, max_size=20), workers=WORKERS)
@settings(max_examples=30)
def test_no_worker_idles_while_there_is_work(scaling, work, workers):
    """The bounds of list scheduling (Graham 1969), beside the start and the handing out."""
    blocks = [np.array(parts) for parts in work]
    wall_s = scaling.schedule(blocks, workers, start_s=5.0)
    sums = [float(block.sum()) for block in blocks]
    driver_s = len(work) * scaling.MEASURED["block"].value + sum(map(len, work)) * scaling.MEASURED["part"].value
    assert wall_s >= 5.0 + max(max(sums), sum(sums) / workers) - 1e-6
    assert wall_s <= 5.0 + sum(sums) / workers + max(sums) + driver_s + 1e-6


def test_a_lost_worker_costs_the_part_that_it_was_at_and_no_more(scaling):
    in_parts, whole = np.full(100, 36.0), np.array([3_600.0])  # an hour, in which five workers are lost
    alone = scaling.schedule([in_parts], 1)
    lost_s = scaling.schedule([in_parts], 1, lost=5.0)
    n_at_most = 20
    assert alone < lost_s < alone + n_at_most * (scaling.START_S + scaling.FOUND_S + 36.0)
    assert scaling.schedule([whole], 1, lost=5.0) > 2 * lost_s


def test_a_thousand_workers_are_busy_although_some_are_lost(scaling):
    """The bar for a catalog of a million tracks."""
    scenario = scaling.Scenario(1_000_000, 1_024, lost=0.05)
    assert scaling.over_audio(scenario, "mfcc").busy >= 0.85


def test_random_catalogs_are_like_the_real_one(scaling):
    seconds = scaling.durations(50_000, 180.0, long_share=0.0)
    assert seconds.mean() == pytest.approx(180.0, rel=0.02)
    assert np.log(seconds).std() == pytest.approx(scaling.SD, rel=0.02)
    assert scaling.durations(50_000, 180.0).max() == scaling.LONG_S


def test_every_second_of_audio_is_in_one_block(scaling):
    seconds = scaling.durations(1_000, 180.0)
    blocks = scaling.cut(1_000, 180.0, 8, 60.0)
    assert sum(float(block.sum()) for block in blocks) == pytest.approx(seconds.sum())


def test_numbers_are_short(scaling):
    assert [scaling.number(x) for x in (0.0, 0.001, 0.5, 12.34, 1234567.0, math.nan)] == [
        "0", "<0.01", "0.5", "12.3", "1,230,000", "-",
    ]  # fmt: skip


# the document --------------------------------------------------------------------------------------------------------


def table(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its first two lines."""
    lines = DOC.partition(f"## {heading}")[2].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    end = next(i for i, line in enumerate(lines[start:], start) if not line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start + 2 : end]]


def figure(text: str) -> float:
    return float(re.sub(r"[^\d.]", "", text))


def alike(documented: str, computed: str) -> bool:
    """Whether two cells hold the same text, or numbers within 5 %: the schedulers may become a little better."""
    try:
        return figure(documented) == pytest.approx(figure(computed), rel=0.05)
    except ValueError:
        return documented == computed


@pytest.mark.parametrize(("tracks", "workers"), [(10_000, 16), (1_000_000, 64), (100_000_000, 1024)])
def test_the_document_has_each_stage_of_each_catalog(scaling, tracks, workers):
    computed = scaling.lines(scaling.stages(scaling.Scenario(tracks, workers)))
    for documented, cells in zip(table(f"{tracks:,} tracks"), computed, strict=True):
        assert documented[0] == cells[0]
        assert all(map(alike, documented, cells)), (documented, cells)


def test_the_document_has_what_workers_are_busy(scaling):
    for documented in table("Workers, and lost ones"):
        workers, lost = int(figure(documented[0])), figure(documented[1]) / 100
        assert all(map(alike, documented, scaling.busy(workers, lost))), documented


def test_the_document_has_the_errors_of_the_validation(scaling):
    documented = [float(row[4].strip("%")) for row in table("How far to trust it")]
    assert documented == pytest.approx([100 * (run.modelled_s() / run.wall_s - 1) for run in scaling.RUNS], abs=3)


def test_the_document_has_the_memory_and_time_of_training(scaling):
    for row in table("Training"):
        computed = scaling.training(int(figure(row[0])), figure(row[1]))
        assert row[2:] == [scaling.number(v) for v in computed.values()]


def test_the_files_it_names_exist():
    for path in set(re.findall(r"`((?:mer_ray|benchmarks|tests|docs)/[\w/]+\.\w+)`", DOC)):
        assert (ROOT / path).is_file(), path
