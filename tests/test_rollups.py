"""Albums and folders: their numbers against numpy's, one group at a time."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_ray.io.schemas import DIMENSIONS, SCHEMAS, scores_schema
from mer_ray.scoring.rollups import rollups, schema

COLUMNS = ["artist", "album", "uri", "duration_s", *DIMENSIONS, "in_distribution"]
TYPES = pa.schema([SCHEMAS["scores"].field(c) for c in COLUMNS])


def table(rows: list[tuple[object, ...]]) -> pa.Table:
    return pa.Table.from_pylist([dict(zip(COLUMNS, row, strict=True)) for row in rows], schema=TYPES)


def test_albums_and_folders():
    made = rollups(
        table(
            [
                ("A", "One", "/m/a/1.mp3", 60.0, 0.2, 0.5, 0.5, True),
                ("A", "One", "file:///m/a/%C3%A4%20b.mp3", None, 0.4, 0.5, 0.5, False),
                ("B", "One", "/m/a/deeper/3.mp3", 30.0, 0.6, 0.5, 0.5, None),
                ("", "Two\n", "s3://bucket/x/4.mp3", 1.0, 0.8, 0.5, 0.5, None),
                ("A", None, "5.mp3", 1.0, 0.9, 0.5, 0.5, None),
                ("A", "", "", 1.0, 0.9, 0.5, 0.5, None),
            ]
        )
    )
    assert made.schema.equals(schema(), check_metadata=True)
    assert all(field.metadata[b"unit"] for field in made.schema)
    found = {(r["kind"], r["name"]): r for r in made.to_pylist()}
    albums = ["A – One", "B – One", "Two"]
    folders = [".", "/m/a", "/m/a/deeper", "s3://bucket/x"]
    assert list(found) == [*(("album", a) for a in albums), *(("folder", f) for f in folders)]
    one = found["album", "A – One"]
    assert (one["n"], one["duration_s"], one["in_distribution"]) == (2, 60.0, 0.5)
    np.testing.assert_allclose([one["mean_valence"], one["sd_valence"]], [0.3, 0.1])
    np.testing.assert_allclose([one["p10_valence"], one["p90_valence"]], [0.22, 0.38])
    assert found["folder", "/m/a"]["n"] == 2
    assert found["album", "B – One"]["in_distribution"] is None
    assert found["album", "B – One"]["sd_valence"] == 0


@pytest.mark.parametrize("dimensions", [("arousal",), ("tension", "energy"), ("order", "from", "joy", "fear")])
def test_albums_have_columns_of_the_dimensions_of_their_scores(dimensions):
    columns = ["artist", "album", "uri", "duration_s", *dimensions, "in_distribution"]
    rows = [("A", "One", "/m/1.mp3", 60.0, *[0.2 * i] * len(dimensions), True) for i in (1, 2)]
    types = pa.schema([scores_schema(dimensions).field(c) for c in columns])
    made = rollups(pa.Table.from_pylist([dict(zip(columns, r, strict=True)) for r in rows], schema=types), dimensions)
    assert made.schema.equals(schema(dimensions), check_metadata=True)
    of_dimensions = [f"{s}_{d}" for d in dimensions for s in ("mean", "sd", "p10", "p90")]
    assert made.column_names == ["kind", "name", "n", "duration_s", *of_dimensions, "in_distribution"]
    assert made.to_pylist()[0][f"mean_{dimensions[-1]}"] == pytest.approx(0.3)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.floats(0, 1), st.sampled_from([None, True, False])), max_size=30))
def test_each_group_is_what_numpy_says(rows):
    made = rollups(table([("A", album, "", 2.0, v, 1 - v, 0.5, known) for album, v, known in rows])).to_pylist()
    assert [r["name"] for r in made] == sorted({f"A – {album}" for album, _, _ in rows})
    for row in made:
        values = np.array([v for album, v, _ in rows if row["name"] == f"A – {album}"])
        known = [k for album, _, k in rows if row["name"] == f"A – {album}" and k is not None]
        assert (row["n"], row["duration_s"]) == (len(values), 2.0 * len(values))
        for d, x in (("valence", values), ("arousal", 1 - values)):
            expected = [x.mean(), x.std(), *np.quantile(x, [0.1, 0.9])]
            found = [row[f"{s}_{d}"] for s in ("mean", "sd", "p10", "p90")]
            np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-9)
        assert row["in_distribution"] == (np.mean(known) if known else None)
