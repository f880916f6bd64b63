"""Where tracks stand in their catalog: percentiles and moods, as files, playlists and Python give them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.csv as pacsv
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy.stats import percentileofscore

from mer_ray.cli import main
from mer_ray.io.schemas import DIMENSIONS, catalog_scores_schema, scores_schema, standing_schema
from mer_ray.scoring import output, sheet, standing
from mer_ray.scoring.playlist import choose

STANDING = standing_schema().names
VALUES = st.lists(st.tuples(*[st.floats(0, 1, width=16)] * 3), min_size=1, max_size=40)


def table(
    vad: np.ndarray | list[tuple[float, ...]],
    width: float = 0.0,
    first: int = 0,
    dimensions: tuple[str, ...] = DIMENSIONS,
) -> pa.Table:
    """Rows of ``scores`` with these values (N, 3), of which the first are taken, numbered from ``first``."""
    vad = np.reshape(vad, (-1, 3))
    n = len(vad)
    columns: dict[str, object] = {
        **{c: ["x"] * n for c in ("artist", "title", "album", "sha256")},
        "track_id": [f"{i:016x}" for i in range(first, first + n)],
        "uri": [f"/m/{i:06d}.mp3" for i in range(first, first + n)],
        "model": ["m:1"] * n,
        "duration_s": [60.0] * n,
        "curve_hop_s": [1.0] * n,
        "curve": [[]] * n,
    }
    for i, d in enumerate(dimensions):
        for end, by in (("", 0.0), ("lower_", -width), ("upper_", width)):
            columns[end + d] = np.clip(vad[:, i] + by, 0, 1)
    schema = scores_schema(dimensions)
    return pa.table([pa.array(columns.get(f.name, [None] * n), f.type) for f in schema], schema=schema)


def drawn(n: int, seed: int = 0) -> np.ndarray:
    """Values as a catalog of soundtracks has them: nearly all between 0.4 and 0.6."""
    return np.random.default_rng(seed).normal(0.5, 0.04, (n, 3))


def listed(scores: Path, where: str) -> str:
    result = CliRunner().invoke(main, ["playlist", str(scores), "--where", where])
    assert result.exit_code == 0, result.output
    return result.output


@given(VALUES)
def test_percentiles_are_scipys_and_ties_share_one(values):
    made = standing.added(table(values))
    for i, d in enumerate(DIMENSIONS):
        own = [v[i] for v in values]
        expected = [percentileofscore(own, v, kind="mean") for v in own]
        assert made[f"{d}_percentile"].to_pylist() == pytest.approx(expected, abs=1e-9)


@given(VALUES)
def test_only_the_order_within_the_catalog_counts(values):
    squeezed = 0.4 + 0.2 * np.array(values) ** 3
    [one, other] = [standing.added(table(v)).select(STANDING).to_pylist() for v in (values, squeezed)]
    assume(all(len(np.unique(a)) == len(np.unique(b)) for a, b in zip(squeezed.T, np.transpose(values), strict=True)))
    assert one == other  # where no two values became one by rounding


def test_a_catalog_between_04_and_06_has_words_of_all_directions_and_a_middle():
    made = standing.added(table(drawn(2_000)))
    words = np.array(made["mood"].to_pylist())
    assert set(words) == set(standing.WORDS)
    assert np.mean(words == standing.MIDDLE) == pytest.approx(np.pi * 0.2**2, abs=0.02)
    mean = {w: [made[d].to_numpy()[words == w].mean() for d in DIMENSIONS[:2]] for w in standing.WORDS}
    for word, degrees in standing.ANGLES.items():
        valence, arousal = np.array(mean[word]) - 0.5
        assert np.degrees(np.arctan2(arousal, valence)) % 360 == pytest.approx(degrees, abs=15)


def test_few_tracks_have_no_mood_and_one_is_in_the_middle_of_itself():
    assert standing.added(table(drawn(1))).select(STANDING).to_pylist() == [
        {**{f"{d}_percentile": 50.0 for d in DIMENSIONS}, "mood": None}
    ]
    assert standing.added(table(drawn(9)))["mood"].null_count == 9
    assert standing.added(table(drawn(10)))["mood"].null_count == 0


@pytest.mark.parametrize("dimensions", [("arousal",), ("tension", "energy"), ("arousal", "valence")])
def test_percentiles_are_those_of_the_dimensions_and_a_mood_needs_valence_and_arousal(dimensions):
    vad = drawn(40)
    whole = standing.added(table(vad))
    made = standing.added(table(vad, dimensions=dimensions))
    assert made.column_names == catalog_scores_schema(dimensions).names
    for d, own in zip(DIMENSIONS, dimensions, strict=False):
        assert made[f"{own}_percentile"].to_pylist() == whole[f"{d}_percentile"].to_pylist()
    assert ("mood" in made.column_names) == (set(dimensions) == {"valence", "arousal"})
    if "mood" in made.column_names:  # whatever the order of the columns
        swapped = vad[:, [1, 0, 2]]
        assert made["mood"].to_pylist() == standing.added(table(swapped))["mood"].to_pylist()


# files ---------------------------------------------------------------------------------------------------------------


def commit(target: Path, rows: pa.Table) -> None:
    out = output.Output(str(target))
    out.open("m:1")
    out.workspace.append("scores", rows, rows["track_id"][0].as_py())
    out.finish([], len(out.done()))


def columns_of(target: Path) -> pa.Table:
    if target.suffix == ".parquet":
        return pq.read_table(target)
    if target.suffix == ".csv":
        return pacsv.read_csv(target)
    with target.open("rb") as file:
        return sheet.read(file, lambda names: catalog_scores_schema(), target.name)


@pytest.mark.parametrize("limit", [output.SORTED_ROWS, 5])
@pytest.mark.parametrize("name", ["s.parquet", "s.csv", "s.xlsx"])
def test_new_tracks_move_all_percentiles_of_a_file(tmp_path, monkeypatch, name, limit):
    monkeypatch.setattr(output, "SORTED_ROWS", limit)
    target, vad = tmp_path / name, drawn(30)
    commit(target, table(vad[:12]))
    commit(target, table(vad[12:], first=12))
    made = columns_of(target).sort_by("uri")
    expected = standing.added(table(vad))
    for d in DIMENSIONS:
        assert made[f"{d}_percentile"].to_pylist() == pytest.approx(expected[f"{d}_percentile"].to_pylist(), abs=1e-6)
    assert made["mood"].to_pylist() == expected["mood"].to_pylist()
    at = made.column_names.index("dominance")
    assert made.column_names[at + 1 : at + 5] == STANDING


def test_an_older_file_gets_them_with_the_next_tracks(tmp_path):
    target, vad = tmp_path / "s.parquet", drawn(20)
    pq.write_table(table(vad[:19]), target)
    assert "of 19 tracks" in listed(target, "mood is not null")
    commit(target, table(vad[19:], first=19))
    assert pq.read_table(target)["mood"].null_count == 0


# conditions ----------------------------------------------------------------------------------------------------------


def test_shards_that_come_and_leave_move_the_percentiles_of_a_folder(tmp_path):
    vad = np.arange(20)[:, None] / 20 + np.zeros(3)
    pq.write_table(table(vad[:10]), tmp_path / "a.parquet")
    assert "2 of 10 tracks" in listed(tmp_path, "valence_percentile > 80")
    pq.write_table(table(vad[10:], first=10), tmp_path / "b.parquet")
    assert "4 of 20 tracks" in listed(tmp_path, "valence_percentile > 80 and arousal_percentile > 80")
    (tmp_path / "a.parquet").unlink()
    assert "2 of 10 tracks" in listed(tmp_path, "dominance_percentile > 80")


def test_what_a_file_says_of_its_former_catalog_does_not_count(tmp_path):
    pq.write_table(standing.added(table(drawn(100))).slice(0, 50), tmp_path / "s.parquet")
    assert "25 of 50 tracks" in listed(tmp_path / "s.parquet", "arousal_percentile > 50")


def test_a_mood_is_asked_for_by_its_word(tmp_path):
    pq.write_table(table(drawn(200)), tmp_path / "s.parquet")
    shown = listed(tmp_path / "s.parquet", "mood = 'Calm'")
    assert "Mood" in shown
    assert "calm" in shown
    pq.write_table(table(drawn(3)), tmp_path / "few.parquet")
    assert "in a catalog of 10 tracks or more" in listed(tmp_path / "few.parquet", "mood = 'calm'")


def test_sure_compares_the_ends_of_the_interval_with_the_catalog():
    vad = np.arange(20)[:, None] / 20 + np.zeros(3)
    rows = standing.added(table(vad, width=0.1))
    assert choose(rows, "valence_percentile > 75").tolist() == [15, 16, 17, 18, 19]
    assert choose(rows, "valence_percentile > 75", certain=True).tolist() == [17, 18, 19]
    everywhere = choose(rows, "mood = 'excited'", certain=True)
    assert set(everywhere) < set(choose(rows, "mood = 'excited'"))
    assert len(everywhere)
