"""How a stage's rows are sorted and cut into blocks: nothing is lost, and no worker waits long for another."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_ray.io.plan import BY_TURN, PlanFile, Sizes, Turns, Work, parts
from mer_ray.io.store import TEMPORARY
from mer_ray.io.tables import Workspace

durations = st.lists(st.floats(0.001, 40_000), min_size=1, max_size=200)
few = settings(max_examples=30, deadline=None)


def table(seconds: list[float]) -> pa.Table:
    ids = [f"{i:04d}" for i in range(len(seconds))]
    return pa.table({"track_id": ids, "i": range(len(seconds)), "planned": pa.array(seconds, pa.float64())})


def cut(seconds: list[float], workers: int, smallest: float, largest: float, pieces: int = 2) -> list[pa.Table]:
    rows = table(seconds)
    size = -(-len(rows) // pieces)
    with Work(rows.slice(start, size) for start in range(0, len(rows), size)) as work:
        assert work.rows == len(seconds)
        assert work.planned == pytest.approx(sum(seconds))
        return list(work.blocks(workers, Sizes(smallest, largest, largest)))


@few
@given(durations, st.integers(1, 64), st.floats(1, 600), st.floats(1, 10_000))
def test_every_row_is_in_one_block_and_the_longest_come_first(seconds, workers, smallest, largest):
    blocks = cut(seconds, workers, smallest, largest)
    assert sorted(i for b in blocks for i in b["i"].to_pylist()) == list(range(len(seconds)))
    assert all(len(b) for b in blocks)
    planned = [s for b in blocks for s in b["planned"].to_pylist()]
    assert planned == sorted(planned, reverse=True)


@few
@given(durations, st.integers(1, 64), st.floats(1, 600), st.floats(1, 10_000))
def test_a_block_is_at_most_half_a_track_over_its_bound(seconds, workers, smallest, largest):
    for block in cut(seconds, workers, min(smallest, largest), largest):
        held = block["planned"].to_pylist()
        assert len(held) == 1 or sum(held) <= largest + min(held) / 2 + 1e-6


@few
@given(st.lists(st.floats(1, 600), min_size=50, max_size=300), st.integers(1, 8))
def test_workers_that_take_the_next_block_end_at_about_the_same_time(seconds, workers):
    busy = [0.0] * workers
    for block in cut(seconds, workers, 60, 1_800):
        busy[busy.index(min(busy))] += sum(block["planned"].to_pylist())
    # Greedy list scheduling: no one works longer than the mean by more than the last block that he took.
    assert max(busy) <= sum(seconds) / workers + max(sum(seconds) / (4 * workers), 60) + 300


def test_a_long_track_stands_alone():
    blocks = cut([30.0, 36_000.0, 30.0, 200.0], 2, 180, 1_800)
    assert [b["planned"].to_pylist() for b in blocks] == [[36_000.0], [200.0], [30.0, 30.0]]


def test_the_same_rows_in_any_order_make_the_same_blocks():
    seconds = [float(i % 7) + 1 for i in range(100)]
    once, again = cut(seconds, 2, 20, 100), cut(seconds, 2, 20, 100, pieces=7)
    assert all(a.equals(b) for a, b in zip(once, again, strict=True))


def test_a_large_catalog_gets_larger_blocks_and_no_more_of_them():
    rng = np.random.default_rng(0)
    blocks = cut(rng.lognormal(5, 0.6, 40_000).tolist(), 64, 180, 14_400)
    assert len(blocks) < 64 * 20
    share = sum(float(b["planned"].to_numpy().sum()) for b in blocks) / 64
    assert min(float(b["planned"].to_numpy().sum()) for b in blocks[:-1]) > 0.005 * share


@few
@given(durations, st.floats(1, 10_000))
def test_the_parts_of_a_block_are_its_rows_in_order(seconds, part):
    pieces = parts(table(seconds), part)
    assert [i for p in pieces for i in p["i"].to_pylist()] == list(range(len(seconds)))
    assert all(len(p) == 1 or sum(p["planned"].to_pylist()) <= part + p["planned"][-1].as_py() / 2 for p in pieces)


def test_hosts_take_turns():
    hosts, turns = ["a"] * 6 + ["b"] * 3 + [None] * 2, Turns()
    counted = [t for start in (0, 4) for t in turns.of(pa.array(hosts[start : start + 4 + start])).to_pylist()]
    rows = table([1.0] * 11).append_column("host", pa.array(hosts)).append_column("turn", pa.array(counted[:11]))
    with Work([rows], BY_TURN) as work:
        order = [h for block in work.blocks(1, Sizes(1, 1, 1)) for h in block["host"].to_pylist()]
    assert sorted(order, key=str) == sorted(hosts, key=str)
    assert {*order[:3]} == {*order[3:6]} == {"a", "b", None}


@pytest.mark.parametrize("hosts", [1, 30_000])
def test_a_large_catalog_of_few_or_many_hosts_is_sorted_in_little_memory(hosts):
    n, turns = 400_000, Turns()

    def pieces():
        for start in range(0, n, 50_000):
            numbers = np.arange(start, start + 50_000)
            ids = pa.array([f"{i:016x}" for i in numbers])
            turn = turns.of(pa.array(numbers % hosts))
            uris = pa.array([f"http://host{i % hosts}/a/folder/of/music/track number {i}.mp3" for i in numbers])
            yield pa.table({"track_id": ids, "uri": uris, "turn": turn, "planned": np.ones(len(numbers))})

    with Work(pieces(), BY_TURN) as work:
        assert sum(len(block) for block in work.blocks(4, Sizes(8, 32, 128))) == n


def test_no_rows_make_no_blocks():
    with Work([table([]), table([])]) as work:
        assert work.rows == 0
        assert list(work.blocks(2, Sizes(1, 1, 1))) == []


def test_what_is_not_done_of_a_plan_is_there_again(tmp_path):
    workspace = Workspace(tmp_path / "w")
    blocks = cut([float(100 + i) for i in range(60)], 2, 200, 900)
    plan = PlanFile(workspace, blocks)
    assert plan.rows == [len(b) for b in blocks]
    left = pa.concat_tables(block for _, block in plan.unfinished(300))
    assert left.equals(pa.concat_tables(blocks).combine_chunks())
    done = set()
    for number, block in enumerate(blocks[:-1]):
        for index, part in enumerate(parts(block, 300)):
            if number != 1 or index != 0:
                assert plan.received(number, index, len(part))
                assert not plan.received(number, index, len(part)), "a report that came twice"
                done |= {*part["i"].to_pylist()}
    left = [i for _, block in plan.unfinished(300) for i in block["i"].to_pylist()]
    assert sorted(left) == sorted({*range(60)} - done)
    plan.delete()
    assert list((tmp_path / "w" / TEMPORARY).iterdir()) == []
