"""Neighbours: against distances computed pair by pair, with everything that a real catalog lacks."""

from __future__ import annotations

import re

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_ray.cli import main
from mer_ray.io.schemas import DIMENSIONS, SCHEMAS, dimensions_of, scores_schema
from mer_ray.scoring.neighbours import nearest, nearest_to, sound, spread
from mer_ray.scoring.scores_table import read


def catalog(
    n: int, seed: int = 0, without_sound: float = 0.0, copies: int = 0, dimensions: tuple[str, ...] = DIMENSIONS
) -> pa.Table:
    """n rows of ``scores`` with random feelings, curves of 0 to 5 points and 4 numbers of sound."""
    rng, size = np.random.default_rng(seed), len(dimensions)
    vad = rng.uniform(size=(n, size))
    vad[:copies] = 0.5
    vectors = rng.standard_normal((n, 4)).astype(np.float32) * [1, 10, 0.1, 3]
    vectors[:copies] = 1.0
    curves = [rng.uniform(size=(int(rng.integers(6)) * (i >= copies), size)).astype(np.float32) for i in range(n)]
    rows = [
        {
            "track_id": f"{i:016x}",
            "artist": "A",
            "title": f"T{i}",
            "uri": "",
            "duration_s": 60.0,
            **dict(zip(dimensions, vad[i], strict=True)),
            **{f"{end}_{d}": 0.5 for end in ("lower", "upper") for d in dimensions},
            "curve": curves[i].tolist(),
            "curve_hop_s": 1.0,
            "sound": None if rng.uniform() < without_sound else vectors[i].tolist(),
            "model": "m",
        }
        for i in range(n)
    ]
    return pa.Table.from_pylist(rows, schema=scores_schema(dimensions))


def by_hand(table: pa.Table, by: str) -> np.ndarray:
    """Squared distances (N, N), one pair at a time, infinite where there is nothing to compare."""
    rows, dimensions = table.to_pylist(), dimensions_of(table.schema, "scores")
    still = [np.nan] * len(dimensions)

    def scaled(columns: list[list[float]]) -> np.ndarray:
        x = np.array(columns, dtype=float)
        sd = np.nanstd(x, axis=0)
        return np.nan_to_num((x - np.nanmean(x, axis=0)) / np.where(sd > 1e-9, sd, 1.0))

    feeling = scaled(
        [[r[d] for d in dimensions] + list(np.std(r["curve"], axis=0) if r["curve"] else still) for r in rows]
    )
    heard = scaled([r["sound"] or [np.nan] * 4 for r in rows])
    out = np.full((len(rows), len(rows)), np.inf)
    for i in range(len(rows)):
        for j in range(len(rows)):
            parts = []
            if by != "sound":
                parts.append(np.mean((feeling[i] - feeling[j]) ** 2))
            if by != "feeling" and rows[i]["sound"] and rows[j]["sound"]:
                parts.append(np.mean((heard[i] - heard[j]) ** 2))
            if i != j and parts:
                out[i, j] = np.mean(parts)
    return out


@pytest.mark.parametrize("by", ["both", "feeling", "sound"])
@pytest.mark.parametrize("without_sound", [0.0, 0.3])
@pytest.mark.parametrize("dimensions", [DIMENSIONS, ("tension", "energy"), ("arousal",)])
def test_they_are_the_nearest_of_all_pairs(by, without_sound, dimensions):
    table = catalog(60, without_sound=without_sound, dimensions=dimensions)
    expected = by_hand(table, by)
    found = nearest(table, 5, by)
    assert found.dtype == np.int32
    for i, row in enumerate(found):
        order = np.argsort(expected[i], kind="stable")[:5]
        assert row.tolist() == [j if np.isfinite(expected[i, j]) else -1 for j in order]
        alone, distances = nearest_to(table, i, 5, by)
        assert alone.tolist() == [j for j in row if j >= 0]
        np.testing.assert_allclose(distances**2, expected[i, alone], rtol=1e-9)


def test_copies_come_in_the_order_of_their_rows():
    found = nearest(catalog(200, copies=90), 4)
    assert found[0].tolist() == [1, 2, 3, 4]
    assert found[2].tolist() == [0, 1, 3, 4]
    assert found[89].tolist() == [0, 1, 2, 3]


def test_blocks_do_not_change_the_answer(monkeypatch):
    table = catalog(101, seed=3, without_sound=0.2, copies=40)
    whole = nearest(table)
    monkeypatch.setattr("mer_ray.scoring.neighbours._CELLS", 700)
    np.testing.assert_array_equal(nearest(table), whole)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(0, 40), k=st.integers(0, 50), seed=st.integers(0, 1000), copies=st.integers(0, 40))
def test_no_row_is_its_own_neighbour_and_none_comes_twice(n, k, seed, copies):
    table = catalog(n, seed, without_sound=0.5, copies=min(n, copies))
    found = nearest(table, k)
    assert found.shape == (n, k)
    for i, row in enumerate(found):
        real = [j for j in row if j >= 0]
        assert len(set(real)) == len(real) == min(k, n - 1)
        assert i not in real
        assert row.tolist() == [*real, *[-1] * (k - len(real))]


def test_a_table_without_curves_and_sounds_goes_by_feeling():
    table = catalog(30)
    plain = table.drop_columns(["curve", "sound"])
    np.testing.assert_array_equal(nearest(plain, 3, "both"), nearest(plain, 3, "feeling"))
    assert (nearest(plain, 3, "sound") == -1).all()
    assert sound(plain).shape == (30, 0)
    assert np.isnan(spread(plain)).all()


def test_a_sound_of_another_length_or_with_nan_is_none():
    rows = catalog(8).to_pylist()
    rows[1]["sound"] = [1.0, 2.0]
    rows[2]["sound"] = [1.0, float("nan"), 0.0, 0.0]
    found = nearest(pa.Table.from_pylist(rows, schema=SCHEMAS["scores"]), 7, "sound")
    assert (found[[1, 2]] == -1).all()
    assert not {1, 2} & set(found.ravel().tolist())


def test_another_way_of_measuring_is_refused():
    with pytest.raises(ValueError, match="both, feeling, sound"):
        nearest(catalog(3), by="taste")


def test_the_command(tmp_path):
    rows = catalog(12).to_pylist()
    rows[3] |= {"artist": "Vangelis", "title": "[bold]Rachel", "sound": None}
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMAS["scores"]), tmp_path / "s.parquet")
    typed = CliRunner().invoke
    result = typed(main, ["neighbours", str(tmp_path / "s.parquet"), "rachel", "-n", "3"])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("Vangelis – [bold]Rachel  valence 0.")
    ranked = [line.split() for line in result.stdout.splitlines() if "A – T" in line]
    expected = nearest_to(read(tmp_path / "s.parquet"), 3, 3)[0]
    assert [r[0] for r in ranked] == ["1", "2", "3"]
    assert [r[3] for r in ranked] == [f"T{i}" for i in expected]
    assert "Nothing is known of its sound" in result.stdout
    pq.write_table(catalog(3, dimensions=("joyful_activation", "fear")), tmp_path / "other.parquet")
    result = typed(main, ["neighbours", str(tmp_path / "other.parquet"), "T1"])
    assert re.match(r"A – T1  joyful activation 0\.\d\d, fear 0\.\d\d$", result.stdout, re.MULTILINE)
    result = typed(main, ["neighbours", str(tmp_path / "s.parquet"), "rachel", "--by", "sound"])
    assert (result.exit_code, "no other track to compare it with by its sound" in result.stdout) == (0, True)
    result = typed(main, ["neighbours", str(tmp_path / "s.parquet"), "T1"])
    assert result.exit_code == 0, result.output  # T10 and T11 contain it, T1 is it
    result = typed(main, ["neighbours", str(tmp_path / "s.parquet"), "A – "])
    assert result.exit_code == 2
    assert result.stderr.startswith("mer-ray: error: 11 tracks are or contain 'A –': give the id")
    assert len(result.stderr.splitlines()) == 1
