"""How rows are cut into blocks: nothing is lost, and no worker waits long for another."""

from __future__ import annotations

import pyarrow as pa
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_ray.stages.blocks import balanced, by_duration, split

durations = st.lists(st.floats(0.001, 40_000), min_size=1, max_size=200)


def table(seconds: list[float]) -> pa.Table:
    return pa.table({"i": list(range(len(seconds))), "seconds": seconds})


@settings(deadline=None)
@given(durations, st.integers(1, 64), st.floats(1, 600), st.floats(1, 10_000))
def test_every_row_is_in_one_block(seconds, workers, smallest, largest):
    blocks = by_duration(table(seconds), seconds, workers, smallest, largest)
    assert sorted(i for b in blocks for i in b["i"].to_pylist()) == list(range(len(seconds)))
    assert all(len(b) for b in blocks)


@settings(deadline=None)
@given(durations, st.integers(1, 64), st.floats(1, 600), st.floats(1, 10_000))
def test_a_block_is_at_most_half_a_track_over_its_bound(seconds, workers, smallest, largest):
    for block in by_duration(table(seconds), seconds, workers, min(smallest, largest), largest):
        held = block["seconds"].to_pylist()
        assert len(held) == 1 or sum(held) <= largest + min(held) / 2 + 1e-6


@settings(deadline=None)
@given(st.lists(st.floats(1, 600), min_size=50, max_size=300), st.integers(1, 8))
def test_workers_that_take_the_next_block_end_at_about_the_same_time(seconds, workers):
    busy = [0.0] * workers
    for block in by_duration(table(seconds), seconds, workers, 60, 1_800):
        busy[busy.index(min(busy))] += sum(block["seconds"].to_pylist())
    # Greedy list scheduling: no one works longer than the mean by more than the last block that he took.
    assert max(busy) <= sum(seconds) / workers + max(sum(seconds) / (4 * workers), 60) + 300


def test_the_longest_tracks_come_first_and_a_long_one_stands_alone():
    blocks = by_duration(table([30.0, 36_000.0, 30.0, 200.0]), [30.0, 36_000.0, 30.0, 200.0], 2, 180, 1_800)
    assert [b["seconds"].to_pylist() for b in blocks] == [[36_000.0], [200.0], [30.0, 30.0]]


def test_the_same_rows_make_the_same_blocks():
    seconds = [float(i % 7) + 1 for i in range(100)]
    once, again = (by_duration(table(seconds), seconds, 2, 20, 100) for _ in range(2))
    assert all(a.equals(b) for a, b in zip(once, again, strict=True))


@settings(deadline=None)
@given(st.integers(1, 1_000), st.integers(1, 64), st.integers(1, 32))
def test_blocks_by_count(n, largest, workers):
    size = balanced(n, largest, workers)
    assert 1 <= size <= largest
    assert sum(len(b) for b in split(table([1.0] * n), size)) == n
