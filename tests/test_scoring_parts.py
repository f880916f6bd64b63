"""What scoring is made of: catalogs, frames, waveforms, rows, the Python interface, and what is shown at the end."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq
import pytest
import sounds
from conftest import spoil, write_tunes
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

import mer_ray
from mer_ray.errors import InputError, TrackError
from mer_ray.features import FeatureSpec
from mer_ray.features.joined import Joined, frames_of, parts
from mer_ray.io.objects import local_copy
from mer_ray.io.schemas import DIMENSIONS, SCHEMAS, catalog_scores_schema, dimensions_of, scores_schema
from mer_ray.scoring import predictor, preview, rows, standing
from mer_ray.scoring.catalog import file_id, find
from mer_ray.scoring.frames import MAX_ROWS, Frames, ids, shards, unit_rows
from mer_ray.scoring.predictor import Prediction
from mer_ray.scoring.rows import Scored
from mer_ray.scoring.waveform import HOP_S, POINTS, Waveform, duration_s
from mer_ray.scoring.waveform import outline as waveform_outline

SCHEMA = SCHEMAS["scores"]
RATE = 8_000
SPEC = FeatureSpec("vggish", 1, RATE, 0.96, 2)


@pytest.fixture(scope="module")
def packaged() -> predictor.Predictor:
    return predictor.load()


@pytest.fixture
def stored() -> Iterator[str]:
    """The address of a store with names that hurt."""
    fs = fsspec.filesystem("memory")
    for name in ("a.wav", "b c%20d.OGG", "sub/é#1.mp3", "notes.txt"):
        fs.pipe(f"/bucket/music/{name}", name.encode())
    yield "memory://bucket/music/"
    fs.rm("/bucket", recursive=True)


def listed_in(catalog):
    return [row for window in catalog.windows(2) for row in window.to_pylist()]


# catalogs ------------------------------------------------------------------------------------------------------------


def test_a_store_is_listed_and_what_is_listed_can_be_read(stored):
    tracks = listed_in(find([stored]))
    assert [t["title"] for t in tracks] == ["a", "b c d", "é#1"]
    assert all(t["uri"].startswith(stored) for t in tracks)
    for track, name in zip(tracks, ("a.wav", "b c%20d.OGG", "sub/é#1.mp3"), strict=True):
        with local_copy(track["uri"]) as path:
            assert path.read_bytes() == name.encode()
    assert listed_in(find([stored, f"{stored}a.wav"])) == tracks


def test_a_store_without_audio_is_an_error(stored):
    with pytest.raises(InputError, match="is not there"):
        find([f"{stored}gone/"])
    fsspec.filesystem("memory").pipe("/bucket/texts/notes.txt", b"x")
    with pytest.raises(InputError, match="holds no audio files"):
        find(["memory://bucket/texts/"])


def test_a_file_is_one_track_however_it_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = write_tunes(tmp_path / "music", 1)[0]
    manifest = tmp_path / "lists" / "m.jsonl"
    manifest.parent.mkdir()
    places = [path.as_uri(), "../music/tune000.flac", str(path)]
    manifest.write_text("".join(json.dumps({"path": p}) + "\n" for p in places))
    spelled = ["music", "./music/tune000.flac", "lists/../music", path.as_uri(), str(manifest), "lists/m.jsonl"]
    (track,) = listed_in(find(spelled))
    assert track["uri"] == str(path)
    assert track["track_id"] == file_id(str(path))
    assert track["planned"] == max(1.0, path.stat().st_size / 20_000)


def test_a_name_that_is_not_utf8_has_an_address(tmp_path):
    path = Path(f"{tmp_path}/caf\udce9.wav")
    sounds.write(path, sounds.noise(1.5))
    (track,) = listed_in(find([str(tmp_path)]))
    assert track["uri"] == f"{tmp_path.as_uri()}/caf%E9.wav"
    assert mer_ray.score(path)["uri"].to_pylist() == [track["uri"]]


# tables of frames ----------------------------------------------------------------------------------------------------


def frames_file(path: Path, sizes: list[int], row_group_size: int) -> Path:
    frames = [np.full((n, 2), i, np.float32).tolist() for i, n in enumerate(sizes)]
    ids = [str(i) for i in range(len(sizes))]
    table = pa.table({"track_id": ids, "frames": frames, "fingerprint": [SPEC.fingerprint] * len(ids)})
    pq.write_table(table, path, row_group_size=row_group_size)
    return path


def test_row_groups_come_in_pieces_that_keep_their_names(tmp_path):
    file = str(frames_file(tmp_path / "f.parquet", [1] * 3_000, 2_500))
    units = list(unit_rows(file, None, "m"))
    assert [u["rows"] for u in units] == [2_500, 500]
    assert [len(shards(u)) for u in units] == [3, 1]
    found = []
    for unit in units:
        pieces = list(Frames(unit, None, SPEC).pieces())
        assert [name for name, _ in pieces] == shards(unit)
        assert [len(p) for _, p in pieces][:-1] == [MAX_ROWS] * (len(pieces) - 1)
        found += [i for _, p in pieces for i in p["track_id"].to_pylist()]
        assert ids(unit, None).to_pylist() == [i for _, p in pieces for i in p["track_id"].to_pylist()]
    assert found == [str(i) for i in range(3_000)]
    assert len({s for u in units for s in shards(u)}) == 4


def test_long_tracks_come_a_few_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("mer_ray.scoring.frames.MAX_VALUES", 2_000)
    (unit,) = unit_rows(str(frames_file(tmp_path / "f.parquet", [50] * 100, 100)), None, "m")
    assert [len(p) for _, p in Frames(unit, None, SPEC).pieces()] == [20] * 5


def test_a_table_that_was_written_anew_is_another(tmp_path):
    path = tmp_path / "f.parquet"
    names = []
    for sizes in ([1, 2], [1, 2, 3], [1, 2]):
        frames_file(path, sizes, 10)
        names.append([s for u in unit_rows(str(path), None, "m") for s in shards(u)])
    assert names[0] == names[2] != names[1]


def test_numbers_may_be_ids(tmp_path):
    table = pq.read_table(frames_file(tmp_path / "f.parquet", [2, 0, 1], 10))
    pq.write_table(table.set_column(0, "track_id", pa.array([7, 8, 9])), tmp_path / "f.parquet")
    (unit,) = unit_rows(str(tmp_path / "f.parquet"), None, "m")
    frames = Frames(unit, None, SPEC)
    ((_, piece),) = frames.pieces()
    tracks, arrays, failed = frames.read(piece)
    assert [t["track_id"] for t in tracks] == ["7", "9"]
    assert [a.tolist() for a in arrays] == [[[0, 0]] * 2, [[2, 2]]]
    assert [(f["track_id"], f["reason"]) for f in failed] == [("8", "too_short")]
    assert ids(unit, None).to_pylist() == ["7", "8", "9"]


def test_what_comes_before_the_damage_is_read(tmp_path):
    frames = np.random.default_rng(0).standard_normal((3_000, 1, 2)).astype(np.float32)
    own = {"track_id": [str(i) for i in range(3_000)], "fingerprint": [SPEC.fingerprint] * 3_000}
    table = pa.table(own | {"frames": frames.tolist()})
    path = tmp_path / "f.parquet"
    pq.write_table(table, path, data_page_size=1_000, use_dictionary=False, write_batch_size=100)
    spoil(path, 0, "frames")
    (unit,) = unit_rows(str(path), None, "m")
    assert len(ids(unit, None)) == 3_000
    found = []
    with pytest.raises(TrackError, match=r"f\.parquet, row group 0 \(3,000 rows\) cannot be read") as caught:
        found.extend(Frames(unit, None, SPEC).pieces())
    assert [name for name, _ in found] == shards(unit)[:2]
    assert (caught.value.reason, caught.value.transient) == ("unreadable", False)
    with pytest.raises(TrackError) as caught:
        list(Frames(unit, pa.fs.SubTreeFileSystem("/", pa.fs.LocalFileSystem()), SPEC).pieces())
    assert caught.value.transient  # as in a store, which may only have been out of reach


def test_text_that_is_none_is_damage(tmp_path):
    path = frames_file(tmp_path / "f.parquet", [1], 10)
    table = pq.read_table(path)
    broken = pa.array([b"\xff\xfe"]).cast(pa.binary()).view(pa.string())
    pq.write_table(table.set_column(0, "track_id", broken), path)
    (unit,) = unit_rows(str(path), None, "m")
    assert len(ids(unit, None)) == 0
    with pytest.raises(TrackError, match="row group 0"):
        list(Frames(unit, None, SPEC).pieces())


def test_what_is_no_parquet_is_said(tmp_path):
    (tmp_path / "f.parquet").write_text("no")
    with pytest.raises(InputError, match=r"f\.parquet cannot be read"):
        list(unit_rows(str(tmp_path / "f.parquet"), None, "m"))


# waveforms -----------------------------------------------------------------------------------------------------------


def outline(samples: np.ndarray, cuts: list[int], rate: int = RATE) -> np.ndarray:
    stream = Waveform(FeatureSpec("x", 1, rate, 1.0, 1)).start()
    for block in np.split(samples, sorted(c % (len(samples) + 1) for c in cuts)):
        stream.push(block)
    stream.finish()
    return stream.frames()


@given(st.integers(0, 3_000), st.lists(st.integers(0, 3_000), max_size=8), st.sampled_from([RATE, 22_050, 11_025]))
def test_how_the_audio_is_cut_makes_no_difference(n, cuts, rate):
    samples = np.random.default_rng(n).uniform(-1, 1, n).astype(np.float32)
    found = outline(samples, cuts, rate)
    assert np.array_equal(found, outline(samples, [], rate))
    assert duration_s(found) == pytest.approx(n / rate, abs=6e-4)
    size = round(HOP_S * rate)
    assert len(found) == -(-n // size)
    assert found[:, 0].tolist() == [np.abs(samples[i : i + size]).max() for i in range(0, n, size)]


@given(st.integers(0, 2_000))
def test_a_drawing_is_small_and_misses_no_peak(n):
    peaks = np.random.default_rng(n).uniform(0, 1.2, n).astype(np.float32)
    points = waveform_outline(np.stack([peaks, np.full(n, HOP_S)], axis=1))
    assert points.dtype == np.uint8
    assert len(points) == min(n, POINTS)
    if n:
        assert points.max() == round(255 * min(1.0, float(peaks.max())))


# rows ----------------------------------------------------------------------------------------------------------------


def prediction(n: int = 3, size: int = 3) -> Prediction:
    half = np.full(size, 0.5)
    return Prediction(half, half - 0.1, half + 0.1, np.full((n, size), 0.5), 1.0, 0.7, np.zeros(4, np.float32))


def test_rows_hold_what_is_known_and_nulls_for_the_rest():
    waveform = np.float32([[1.0, HOP_S], [0.2, HOP_S]])
    tracks = [{"track_id": "a"}, {"track_id": "b", "artist": "A\n", "title": "T", "album": "L", "uri": "/m/ b.mp3"}]
    table = rows.table(
        [Scored(tracks[0], prediction(1), 1.0, "m"), Scored(tracks[1], prediction(2), 2.0, "m", waveform)], DIMENSIONS
    )
    table.validate(full=True)
    assert table.schema == SCHEMA
    a, b = table.to_pylist()
    assert [a[c] for c in ("artist", "title", "album", "uri", "waveform")] == ["", "", None, "", None]
    assert [b[c] for c in ("artist", "title", "album", "uri", "waveform")] == ["A", "T", "L", "/m/ b.mp3", [255, 51]]
    assert [len(r["curve"]) for r in (a, b)] == [1, 2]
    assert rows.table([], DIMENSIONS).equals(SCHEMA.empty_table())
    assert set(rows.COLUMNS) == set(scores_schema(()).names)


@pytest.mark.parametrize("dimensions", [("arousal",), ("valence", "arousal"), ("tension", "energy", "wonder", "power")])
def test_rows_have_a_column_of_each_dimension_and_no_other(dimensions):
    table = rows.table([Scored({"track_id": "a"}, prediction(2, len(dimensions)), 1.0, "m")], dimensions)
    table.validate(full=True)
    assert table.schema == scores_schema(dimensions)
    assert dimensions_of(table.schema, "scores") == dimensions
    [row] = table.to_pylist()
    ends = {"": 0.5, "lower_": 0.4, "upper_": 0.6}
    assert {n: row[n] for n in row if n.endswith(dimensions)} == {e + d: v for e, v in ends.items() for d in dimensions}
    assert row["curve"] == [[0.5] * len(dimensions)] * 2


# the Python interface ------------------------------------------------------------------------------------------------


def test_the_interface_answers_in_the_order_of_the_files(packaged, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    paths = write_tunes(tmp_path / "music", 3)[::-1]
    table = mer_ray.score([*paths, Path("music/tune000.flac")], packaged)
    assert table.schema == catalog_scores_schema()
    assert table["uri"].to_pylist() == [*map(str, paths), str(tmp_path / "music" / "tune000.flac")]
    one = mer_ray.score(str(paths[0])).to_pylist()
    assert one == standing.added(table.slice(0, 1)).to_pylist()
    assert mer_ray.score([]).equals(catalog_scores_schema().empty_table())


def test_command_and_interface_agree_and_the_interface_needs_neither_ray_nor_jax(tmp_path):
    from mer_ray.config import Config
    from mer_ray.stages.score import run_catalog

    paths = write_tunes(tmp_path / "music", 2, seconds=5)
    code = """
import json, sys, mer_ray
table = mer_ray.score(sys.argv[1:])
heavy = {"ray", "tensorflow", "jax", "flax", "librosa", "sklearn", "matplotlib"}
json.dump([table.to_pylist(), sorted(heavy & set(sys.modules))], sys.stdout)
"""
    message = subprocess.run([sys.executable, "-c", code, *map(str, paths)], capture_output=True, text=True, check=True)
    rows, heavy = json.loads(message.stdout)
    assert heavy == []
    run_catalog(Config(), [str(tmp_path / "music")], str(tmp_path / "s.parquet"))
    for mine, other in zip(rows, pq.read_table(tmp_path / "s.parquet").to_pylist(), strict=True):
        for column, value in mine.items():
            numbers = isinstance(value, float | list)
            assert other[column] == (pytest.approx(np.array(value), abs=1e-6) if numbers else value), column


def test_samples_that_are_no_music(packaged):
    second = sounds.noise(1.0)[:, 0]
    for wrong in (second[:, None], np.zeros((2, 22_050), np.float32), np.float32(0.5)):
        with pytest.raises(InputError, match="mono"):
            packaged.predict(wrong, 22_050)
    for value in (np.nan, np.inf):
        spoiled = second.copy()
        spoiled[500] = value
        with pytest.raises(TrackError) as caught:
            packaged.predict(spoiled, 22_050)
        assert caught.value.reason == "not_finite"
    with pytest.raises(TrackError) as caught:
        packaged.predict(second[:0], 22_050)
    assert caught.value.reason == "too_short"
    silence = packaged.predict(np.zeros(3 * 22_050, np.float32), 22_050)
    assert not silence.in_distribution
    for found in (silence, packaged.predict(second[:10_000], 44_100)):
        assert np.isfinite([found.vad, found.lower, found.upper]).all()
        assert (found.lower <= found.vad).all()
        assert (found.vad <= found.upper).all()
        assert len(found.curve) >= 1


def test_frames_that_are_none(packaged):
    spec = packaged.model.feature
    wide = {part.name: part.n_dims for part in parts(spec)}

    def frames(n: int, value: float = 0.0, **other: int) -> Joined:
        return frames_of(spec, {k: np.full((n, v), value, np.float32) for k, v in {**wide, **other}.items()})

    assert packaged.predict_frames([]) == []
    for name, n_dims in wide.items():
        with pytest.raises(ValueError, match=f"of shape .n, {n_dims}."):
            packaged.predict_frames([frames(5), frames(5, **{name: n_dims - 1})])
    for wrong, reason in ((frames(0), "too_short"), (frames(5, np.nan), "not_finite")):
        with pytest.raises(TrackError) as caught:
            packaged.predict_frames([wrong])
        assert caught.value.reason == reason


# preview ------------------------------------------------------------------------------------------------------------

HOSTILE = "[red]x[/red] [link=http://e]\x1b[31m\u202e"


def shown(n: int, folder: Path, width: int, dimensions: tuple[str, ...] = DIMENSIONS, **known: str) -> str:
    made = prediction(1, len(dimensions))
    tracks = [{"track_id": str(i), "title": f"{HOSTILE}{i}", "uri": f"/m/[b]{i % 2}/{i}.mp3"} for i in range(n)]
    table = rows.table([Scored({**t, **known}, made, 61.0, "m") for t in tracks], dimensions)
    pq.write_table(table, folder / "s.parquet")
    console = Console(width=width, record=True, file=io.StringIO())
    for part in preview.tables(folder / "s.parquet", width):
        console.print(part)
    return console.export_text()


@pytest.mark.parametrize(("n", "listed"), [(1, 1), (40, 40), (41, 2)])
def test_few_tracks_are_listed_and_more_by_folder(tmp_path, n, listed):
    text = shown(n, tmp_path, 120)
    lines = [line for line in text.splitlines() if "0.50" in line]
    assert len(lines) == listed
    assert ("[red]x[/red] [link=http://e]" in text) == (n <= 40)
    assert ("/m/[b]1" in text) == (n > 40)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "1:01" in text if n <= 40 else "41" not in text
    assert all(d.capitalize() in text for d in DIMENSIONS)


def test_a_folder_below_the_current_one_is_named_as_one_types_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = shown(41, tmp_path, 120, uri=str(tmp_path / "Ä b" / "c" / "d.mp3"))
    assert [line.split("  ")[0] for line in text.splitlines() if "0.50" in line] == ["Ä b/c"]


def test_without_folders_albums_are_listed_or_nothing(tmp_path):
    assert "A – L[b]" in shown(41, tmp_path, 120, uri="", artist="A", album="L[b]")
    assert shown(41, tmp_path, 120, uri="") == ""


@pytest.mark.parametrize("n", [3, 41])
@pytest.mark.parametrize("dimensions", [("arousal",), ("valence", "arousal"), ("joyful_activation", "tension")])
def test_the_dimensions_of_the_scores_are_shown_and_no_others(tmp_path, n, dimensions):
    text = shown(n, tmp_path, 50 + 20 * len(dimensions), dimensions)
    heads = next(line for line in text.splitlines() if "Time" in line)
    heads = heads.replace("Joyful activation", "Joyful_activation").split()
    [first] = [i for i, head in enumerate(heads) if head.lower() == dimensions[0]]
    assert tuple(h.lower() for h in heads[first : first + len(dimensions) + 1]) == (*dimensions, "time")
    listed = [line for line in text.splitlines() if "0.50 0.40–0.60" in line or "0.50 0.50–0.50" in line]
    assert [line.count("0.50 0.") for line in listed] == [len(dimensions)] * (3 if n == 3 else 2)


def test_a_narrow_terminal_shows_no_intervals(tmp_path):
    assert "0.40–0.60" in shown(2, tmp_path, 120)
    assert "0.40–0.60" not in shown(2, tmp_path, 80)
