"""The plan for scale: what its simulation must keep to, and that docs/scaling.md says what the model says."""

from __future__ import annotations

import importlib.util
import math
import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

ROOT = Path(__file__).parents[1]
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


def blocks(work: list[float]) -> list[pa.Table]:
    """One row a block, with its core-seconds."""
    return [pa.table({"row": [i], "planned_s": [s]}) for i, s in enumerate(work)]


works = st.lists(st.floats(0.1, 100.0), min_size=1, max_size=20)


@given(work=works, workers=st.integers(1, 9), spread=st.sampled_from([0.0, 0.3]), seed=st.integers(0, 99))
@settings(max_examples=15)
def test_without_losses_each_block_is_worked_on_once_and_nobody_idles_while_there_is_work(
    scaling, work, workers, spread, seed
):
    cluster = scaling.Cluster(workers, start_s=5.0, block_s=0.0, spread=spread)
    found = scaling.simulate(blocks(work), scaling.audio_s, cluster, seed)
    assert sorted(found.answered) == list(range(len(work)))
    assert found.lost_s == found.losses == 0
    assert found.efficiency(workers) <= 1
    if not spread:  # the bounds of list scheduling (Graham 1969), beside the start and the handing out
        assert found.busy_s == pytest.approx(sum(work))
        assert found.wall_s >= 5.0 + max(max(work), sum(work) / workers) - 1e-6
        handing_out = len(work) * scaling.MEASURED["hand out"].value
        assert found.wall_s <= 5.0 + sum(work) / workers + max(work) + handing_out + 1e-6


@given(work=works, workers=st.integers(1, 9), seed=st.integers(0, 99))
@settings(max_examples=15)
def test_whatever_nodes_are_lost_each_row_is_answered_once(scaling, work, workers, seed):
    cluster = scaling.Cluster(workers, cores=2, losses_per_h=20.0, replace_s=60.0, start_s=5.0)
    found = scaling.simulate(blocks(work), scaling.audio_s, cluster, seed)
    assert sorted(found.answered) == list(range(len(work)))
    assert 0 <= found.lost_s <= found.busy_s
    assert not found.lost_s or found.losses


def test_losses_cost_time_and_are_seen(scaling):
    work = blocks([50.0] * 400)
    calm = scaling.simulate(work, scaling.audio_s, scaling.Cluster(16, spread=0.0))
    stormy = scaling.simulate(work, scaling.audio_s, scaling.Cluster(16, cores=4, losses_per_h=2.0, spread=0.0))
    assert stormy.losses > 0
    assert stormy.lost_s > 0
    assert stormy.wall_s > calm.wall_s
    assert stormy.busy_s - stormy.lost_s == pytest.approx(calm.busy_s)


def test_passes_are_as_long_as_the_pools(scaling):
    from mer_ray.stages import pool

    assert scaling.Cluster().pass_blocks == getattr(pool, "PASS", 4096)


@given(n=st.integers(2, 40), rate=st.sampled_from([2.0, 5.0, 40.0]), answer_s=st.floats(0.01, 1.0))
@settings(max_examples=10)
def test_last_fm_is_never_asked_faster_than_its_rate(scaling, n, rate, answer_s):
    assert scaling.asked(n, rate, answer_s) >= (n - 1) / rate


@given(hosts=st.integers(1, 5), per_host=st.integers(1, 4), workers=st.integers(1, 4))
@settings(max_examples=10)
def test_downloads_take_as_long_as_the_places_allow(scaling, hosts, per_host, workers):
    n, file_s = 96, 1.0
    took = scaling.downloaded(n, hosts, per_host, workers, file_s)
    at_once = min(hosts * per_host, 8 * workers)
    assert took >= 0.5 * n * file_s / at_once
    assert took == scaling.downloaded(n, hosts, per_host, workers, file_s)


def test_made_up_catalogs_are_like_the_real_one(scaling):
    seconds = scaling.durations(50_000, 180.0, long_share=0.0)
    assert seconds.mean() == pytest.approx(180.0, rel=0.02)
    assert np.log(seconds).std() == pytest.approx(scaling.SPREAD, rel=0.02)
    assert scaling.durations(50_000, 180.0).max() == scaling.LONG_S


# the document --------------------------------------------------------------------------------------------------------


def table(heading: str) -> list[list[str]]:
    """The cells of the first table under a heading, without its first two lines."""
    lines = DOC.partition(f"## {heading}")[2].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    end = next(i for i, line in enumerate(lines[start:], start) if not line.startswith("|"))
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[start + 2 : end]]


def figure(text: str) -> float:
    return float(re.sub(r"[^\d.]", "", text))


def alike(said: str, found: str) -> bool:
    """Whether two cells hold the same text, or numbers within 5 %: the schedulers may become a little better."""
    try:
        return figure(said) == pytest.approx(figure(found), rel=0.05)
    except ValueError:
        return said == found


def test_the_document_has_each_stage_as_the_model_has_it_for_a_small_catalog(scaling):
    found = scaling.stages(scaling.Scenario(10_000), scaling.Cluster(16, losses_per_h=0.05))
    for said, cells in zip(table("10,000 tracks"), scaling.lines(found, 16, scaling.Prices()), strict=True):
        assert said[0] == cells[0]
        assert all(map(alike, said, cells)), (said, cells)


def test_the_document_has_the_errors_of_the_validation(scaling):
    said = [float(row[4].strip("%")) for row in table("How far to trust it")]
    assert said == pytest.approx([100 * row["error"] for row in scaling.validate()], abs=3)


def test_the_document_has_the_memory_and_time_of_training(scaling):
    for row in table("Training"):
        found = scaling.training(int(figure(row[0])), figure(row[1]))
        assert row[2:] == [scaling.number(v) for v in found.values()]


def test_the_document_names_every_price_as_the_model_has_it(scaling):
    said = {row[0].strip("`"): float(row[1]) for row in table("Prices")}
    assert said == {f"--{name}-price": value for name, value in vars(scaling.Prices()).items()}


def test_what_the_document_calls_modules_is_there():
    for path in set(re.findall(r"`((?:mer_ray|benchmarks|tests|docs)/[\w/]+\.\w+)`", DOC)):
        assert (ROOT / path).is_file(), path
    assert (ROOT / "docs" / "scaling.png").stat().st_size < 100_000


def test_numbers_are_short(scaling):
    assert [scaling.number(x) for x in (0.0, 0.001, 0.5, 12.34, 1234567.0, math.nan)] == [
        "0", "<0.01", "0.5", "12.3", "1,230,000", "-",
    ]  # fmt: skip
