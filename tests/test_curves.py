"""Labels over time: the layouts of DEAM, emoMusic and PMEmo, faulty tables, and the way to tracks and labels."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mer_ray.errors import InputError
from mer_ray.io.tables import Workspace
from mer_ray.sources import manifest_curves

VA = ("valence", "arousal")
UNIT = (0.0, 1.0)

DEAM_AROUSAL = """song_id,sample_15000ms,sample_15500ms,sample_16000ms,sample_16500ms
2,-0.10,-0.05,0.0,
3,0.2,0.2,0.4,0.6
"""
DEAM_VALENCE = DEAM_AROUSAL.replace("-0.10", "1").replace("0.6", "-1")
PMEMO = """musicId,frameTime,Arousal(mean),Valence(mean)
1,15,0.1375,0.51875
1,15.5,0.1375,0.51875
4,15,0.6125,0.6
"""
TIDY = "track_id,time_ms,valence,arousal\na,0,0.25,0.5\na,500,NA,0.75\nb,250,1,\n"


def written(file: Path, text: str) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text, encoding="utf-8")
    return file


def read(*files: Path, dimensions=VA, scale=UNIT) -> manifest_curves.Curves:
    return manifest_curves.read(files, dimensions, scale, "collect.curve_scale")


def curves(found: manifest_curves.Curves) -> dict[str, dict[str, list[tuple[float, float]]]]:
    return {
        song: {c.dimension: list(zip(c.time_s, c.value, strict=True)) for c in own} for song, own in found.of.items()
    }


# layouts -----------------------------------------------------------------------------------------------------------


def test_a_row_a_song_and_a_file_a_dimension(tmp_path):
    files = [written(tmp_path / "arousal.csv", DEAM_AROUSAL), written(tmp_path / "valence.csv", DEAM_VALENCE)]
    found = read(*files, scale=(-1, 1))
    assert not found.errors
    own = curves(found)
    assert own.keys() == {"2", "3"}
    assert own["2"]["arousal"] == [(15.0, pytest.approx(0.45)), (15.5, pytest.approx(0.475)), (16.0, 0.5)]
    assert own["2"]["valence"][0] == (15.0, 1.0)
    assert [t for t, _ in own["3"]["arousal"]] == [15.0, 15.5, 16.0, 16.5]
    assert own["3"]["valence"][-1] == (16.5, 0.0)
    assert [c.dimension for c in found.of["2"]] == ["valence", "arousal"]
    assert any("arousal.csv: labels over time on the scale -1..1: arousal 7 (2 new songs)" in n for n in found.notes)


@pytest.mark.parametrize(
    ("name", "dimension"),
    [
        ("arousal_cont_average.csv", "arousal"),
        ("Valence dynamic.csv", "valence"),
        ("mean_arousal_per_second.csv", "arousal"),
    ],
)
def test_a_file_is_called_like_its_dimension(tmp_path, name, dimension):
    (own,) = read(written(tmp_path / name, DEAM_AROUSAL), scale=(-1, 1)).of["2"]
    assert own.dimension == dimension


def test_a_row_a_point(tmp_path):
    assert curves(read(written(tmp_path / "dynamic_annotations.csv", PMEMO))) == {
        "1": {"valence": [(15.0, 0.51875), (15.5, 0.51875)], "arousal": [(15.0, 0.1375), (15.5, 0.1375)]},
        "4": {"valence": [(15.0, 0.6)], "arousal": [(15.0, 0.6125)]},
    }


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".jsonl", ".parquet"])
def test_every_kind_of_table_and_milliseconds_where_the_name_says_so(tmp_path, suffix):
    head, *lines = (line.split(",") for line in TIDY.split())
    if suffix in (".csv", ".tsv"):
        file = written(tmp_path / f"c{suffix}", TIDY.replace(",", "\t" if suffix == ".tsv" else ","))
    else:
        rows = [
            {k: None if v in ("", "NA") else v if k == "track_id" else float(v) for k, v in zip(head, own, strict=True)}
            for own in lines
        ]
        file = tmp_path / f"c{suffix}"
        if suffix == ".jsonl":
            written(file, "\n".join(map(json.dumps, rows)))
        else:
            pq.write_table(pa.Table.from_pylist(rows), file)
    assert curves(read(file)) == {
        "a": {"valence": [(0.0, 0.25)], "arousal": [(0.0, 0.5), (0.5, 0.75)]},
        "b": {"valence": [(0.25, 1.0)]},
    }


def test_other_dimensions_and_those_that_nobody_asked_for(tmp_path):
    file = written(tmp_path / "c.csv", "id,seconds,tension_mean,valence\n7,0,0.1,0.9\n")
    assert curves(read(file, dimensions=("tension",))) == {"7": {"tension": [(0.0, 0.1)]}}
    assert curves(read(written(tmp_path / "tension.csv", "id,1s,2.5s\n7,0.1,0.2\n"), dimensions=("tension",))) == {
        "7": {"tension": [(1.0, 0.1), (2.5, 0.2)]}
    }


SONGS = st.dictionaries(
    st.integers(0, 99).map(str),
    st.lists(st.integers(-16, 16).map(lambda x: x / 16), min_size=1, max_size=6),
    min_size=1,
    max_size=5,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(songs=SONGS, start=st.integers(0, 20), step=st.integers(1, 4))
def test_tidy_and_wide_tables_say_the_same(tmp_path, songs, start, step):
    times = [(start + step * i) / 4 for i in range(6)]
    tidy = "track_id,time_s,arousal\n" + "".join(
        f"{song},{t},{x}\n" for song, values in songs.items() for t, x in zip(times, values, strict=False)
    )
    wide = "song_id," + ",".join(f"sample_{1_000 * t:g}ms" for t in times) + "\n"
    for song, values in songs.items():
        wide += ",".join([song, *map(str, values), *[""] * (len(times) - len(values))]) + "\n"
    both = [
        curves(read(written(tmp_path / name, text), scale=(-1, 1)))
        for name, text in (("tidy.csv", tidy), ("arousal.csv", wide))
    ]
    assert both[0] == both[1]
    assert both[0] == {
        song: {"arousal": [(t, (x + 1) / 2) for t, x in zip(times, values, strict=False)]}
        for song, values in songs.items()
    }


# what is wrong -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("c.csv", "song_id,sample_0ms\n1,0.5\n", "is that of no dimension in collect.dimensions (valence, arousal)"),
        ("arousal_cont_std.csv", "song_id,sample_0ms\n1,0.5\n", "is that of no dimension"),
        ("c.csv", "a,b\n1,2\n", "no column holds the songs' ids"),
        ("c.csv", "song_id,valence\n1,0.2\n", "no column holds times"),
        ("c.csv", "song_id,time,tension\n1,0,0.2\n", "no column is of collect.dimensions"),
        ("c.csv", "song_id,track_id,time,valence\n1,1,0,0.2\n", "2 columns could be a song's id"),
        ("c.csv", "song_id,time,time_ms,valence\n1,1,0,0.2\n", "2 columns could be the time"),
        ("c.csv", "song_id,time,valence,valence_mean\n1,0,0.2,0.2\n", "2 columns could be valence"),
        ("c.csv", "song_id,time,valence\n,0,0.2\n", "c.csv, row 1: it names no song"),
        ("c.csv", "song_id,time,valence\n1,0,\n", "holds no value"),
        ("c.csv", "song_id,time,valence\n1,0,0.2,9\n", "row 1 has 4 cells"),
        ("arousal.csv", "song_id,sample_500ms,sample_0ms\n1,0,0\n", "not in ascending order"),
        ("c.csv", "song_id,time,valence\n1,15000,0\n1,15500,0\n", "name the column time_ms"),
        ("c.csv", "song_id,time,valence\n1,0,0\n1,20,0\n1,40,0\n1,30020,0\n", "reach to 30020 s"),
        ("c.csv", "song_id,time,valence\n1,30020,0\n", "name the column time_ms"),
        ("arousal.csv", "song_id,mean_0ms,sd_500ms\n1,0.5,0.1\n", "of several kinds: mean... and sd..."),
        ("c.csv", "song_id,time,valence\n1,0,0\n1,1,-0.5\n2,0,3\n", "valence runs from -0.5 to 3, outside in 2 of 3"),
        ("c.csv", "song_id,time,valence\n1,0,0\n1,1,-0.5\n", "--set collect.curve_scale=[-1,1]"),
        ("c.csv", "song_id,time,valence\n1,0,0\n1,1,-0.5\n", "mend row 2"),
        ("c.xlsx", "PK", "table of curves"),
    ],
)
def test_a_table_that_cannot_be_meant_is_refused_by_name(tmp_path, name, text, said):
    with pytest.raises(InputError) as caught:
        read(written(tmp_path / name, text))
    assert said in str(caught.value)
    assert name in str(caught.value)


def test_a_scale_that_the_labels_hardly_use_is_told(tmp_path):
    """Labels on 0..1, declared as -1..1, would all lie in the upper half."""
    rows = "".join(f"1,{t},{t / 30}\n" for t in range(30))
    file = written(tmp_path / "c.csv", f"song_id,time_s,valence\n{rows}")
    (said,) = [note for note in read(file, scale=(-1, 1)).notes if "all labels lie" in note]
    assert said.startswith("c.csv: all labels lie in 0..0.966667: if -1..1 is not the scale")
    assert said.endswith("set collect.curve_scale")
    assert not [note for note in read(file).notes if "all labels lie" in note]


def test_a_table_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InputError, match=r"table of curves .*gone\.csv does not exist"):
        read(tmp_path / "gone.csv")


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            "1,0,0.1\n1,0,0.2\n",
            "c.csv, row 2: song 1: the time 0 s of valence stands twice (the song begins in c.csv, row 1)",
        ),
        ("1,1,0.1\n1,0.5,0.2\n", "row 2: song 1: the time 0.5 s of valence comes after 1 s"),
        ("1,-1,0.1\n1,0.5,0.2\n", "the time -1 s is before the start"),
        ("1,0,0.1\n1,,0.2\n", "row 2: song 1: it has no time"),
        ("1,0,0.1\n1,1,high\n", "row 2: song 1: valence is not a number: 'high'"),
        ("1,0,0.1\n1,inf,0.5\n", "row 2: song 1: the time is not a number: 'inf'"),
    ],
)
def test_a_doubtful_song_is_lost_alone(tmp_path, rows, said):
    found = read(written(tmp_path / "c.csv", f"song_id,time,valence\n{rows}2,0,0.5\n"))
    assert list(found.of) == ["2"]
    assert found.errors["1"].reason == "bad_curve"
    assert said in found.errors["1"].message


def test_a_song_in_two_rows_or_tables_is_lost_alone(tmp_path):
    file = written(tmp_path / "arousal.csv", DEAM_AROUSAL + "2,0,0,0,0\n")
    found = read(file, scale=(-1, 1))
    assert list(found.of) == ["3"]
    assert "arousal.csv, row 3: song 2: its arousal stands in arousal.csv, row 1 as well" in found.errors["2"].message
    again = written(tmp_path / "more" / "arousal.csv", "song_id,sample_99000ms\n3,0.1\n")
    assert read(written(tmp_path / "arousal.csv", DEAM_AROUSAL), again, scale=(-1, 1)).errors.keys() == {"3"}
    # Ids of two data sets may be the same by chance.
    later = written(tmp_path / "later.csv", PMEMO.replace(",15", ",95"))
    found = read(written(tmp_path / "c.csv", PMEMO), later)
    assert (found.of, found.errors.keys()) == ({}, {"1", "4"})
    assert "later.csv, row 1: song 1: its valence stands in c.csv, row 1 as well" in found.errors["1"].message


# to the tracks -----------------------------------------------------------------------------------------------------


def rows_of(workspace: Path) -> dict[str, dict]:
    return {r["track_id"]: r for r in Workspace(workspace).read("tracks").to_pylist()}


def points(row: dict) -> dict[str, list[tuple[float, float]]]:
    return {c["dimension"]: list(zip(c["time_s"], c["value"], strict=True)) for c in row["curves"] or ()}


def test_tracks_get_their_curves_and_a_rating_where_they_have_none(tmp_path, mer_ray):
    static = "song_id,valence_mean,arousal_mean\n2,3,5\n3,,7\n4,9,1\n"
    manifest = written(tmp_path / "static.csv", static)
    deam = [written(tmp_path / f"{n}.csv", t) for n, t in (("arousal", DEAM_AROUSAL), ("valence", DEAM_VALENCE))]
    written(tmp_path / "valence.csv", DEAM_VALENCE + "77,0,0,0,0\n")
    common = ["--workspace", tmp_path / "w", "--set", f"collect.manifest={manifest}", "--set", "collect.scale=[1,9]"]
    common += ["--set", f"collect.curves={deam[0]},{deam[1]}"]
    code, _, err = mer_ray("collect", *common)
    assert code == 2
    assert "arousal runs from -0.1" in err
    assert "collect.scale" in err
    code, out, _ = mer_ray("collect", *common, "--set", "collect.curve_scale=[-1,1]")
    assert code == 0
    for said in (
        "2 tracks have labels over time",
        "curves of 1 songs belong to no track of the manifest: 77",
        "ratings that are the mean of the track's curve: valence 1",
    ):
        assert said in out
    rows = rows_of(tmp_path / "w")
    assert points(rows["2"])["arousal"] == [(15.0, pytest.approx(0.45)), (15.5, pytest.approx(0.475)), (16.0, 0.5)]
    ratings = {i: {r["dimension"]: r["value"] for r in row["ratings"]} for i, row in rows.items()}
    assert ratings["2"] == {"valence": 0.25, "arousal": 0.5}
    mean = np.mean([x for _, x in points(rows["3"])["valence"]])
    assert ratings["3"] == {"valence": pytest.approx(mean, abs=1e-6), "arousal": 0.75}
    assert rows["4"]["curves"] is None
    # what labels do with them, and what a change costs
    assert mer_ray("label", "--workspace", tmp_path / "w", "--set", "label.report=false")[0] == 0
    labels = {r["track_id"]: r for r in Workspace(tmp_path / "w").read("labels").to_pylist()}
    assert {i: points(r) for i, r in labels.items()} == {i: points(r) for i, r in rows.items()}
    written(tmp_path / "arousal.csv", DEAM_AROUSAL.replace("3,0.2", "3,0.3"))
    code, out, _ = mer_ray("collect", "--workspace", tmp_path / "w")
    assert code == 0
    assert "1 track changed (label over time 1)" in out
    assert set(Workspace(tmp_path / "w").read("labels", ["track_id"])["track_id"].to_pylist()) == {"2", "4"}


def test_tracks_without_ids_are_found_by_their_files_names(tmp_path, mer_ray):
    manifest = written(tmp_path / "m.csv", "path,artist,title\nclips/1.mp3,A,x\nclips/4.mp3,A,y\n")
    written(tmp_path / "dynamic_annotations.csv", PMEMO.replace("4,15,", "4,15,nonsense"))
    own = ["--workspace", tmp_path / "w", "--set", f"collect.manifest={manifest}"]
    own += ["--set", f"collect.curves={tmp_path / 'dynamic_annotations.csv'}"]
    code, out, _ = mer_ray("collect", *own)
    assert code == 0
    ((_, row),) = rows_of(tmp_path / "w").items()
    assert row["title"] == "x"
    assert {r["dimension"]: r["value"] for r in row["ratings"]} == {"valence": 0.51875, "arousal": 0.1375}
    (failure,) = Workspace(tmp_path / "w").failures("collect")
    assert failure["reason"] == "bad_curve"
    assert "dynamic_annotations.csv, row 3: song 4: arousal is not a number" in failure["message"]
    assert "1 tracks have labels over time" in out


ALIKE = {
    "files": ("path,artist,title\nx/1.mp3,A,x\n", "path,artist,title\ny/1.mp3,B,y\n"),
    "ids": ("track_id,artist,title\n1,A,x\n", "track_id,artist,title\n1,B,y\n"),
}


@pytest.mark.parametrize("kind", ALIKE)
def test_a_song_that_could_be_two_tracks_is_refused(tmp_path, mer_ray, kind):
    """The curves of one data set's song 1 are no labels of another's."""
    first, second = (written(tmp_path / n / f"{n}.csv", t) for n, t in zip(("deam", "pmemo"), ALIKE[kind], strict=True))
    written(tmp_path / "c.csv", PMEMO)
    own = ["--set", f"collect.curves={tmp_path / 'c.csv'}", "--set"]
    code, _, err = mer_ray("collect", "--workspace", tmp_path / "w", *own, f"collect.manifest={first},{second}")
    assert code == 2
    assert "song 1 in collect.curves could be two tracks" in err
    assert str(first.parent) in err
    assert str(second.parent) in err
    assert not Workspace(tmp_path / "w").has("tracks")
    # The same track, named twice, is one.
    code, out, _ = mer_ray("collect", "--workspace", tmp_path / "w", *own, f"collect.manifest={first}")
    assert code == 0
    assert "1 tracks have labels over time" in out
    written(first, ALIKE[kind][0] + ALIKE[kind][0].splitlines()[1])
    assert mer_ray("collect", "--workspace", tmp_path / "w")[0] == 0
    assert [f["reason"] for f in Workspace(tmp_path / "w").failures("collect")] == ["duplicate"]


def test_curves_of_other_songs_are_an_error(tmp_path, mer_ray):
    manifest = written(tmp_path / "m.csv", "path,artist,title\nclips/x.mp3,A,x\n")
    written(tmp_path / "c.csv", PMEMO)
    own = ["--set", f"collect.manifest={manifest}", "--set", f"collect.curves={tmp_path / 'c.csv'}"]
    code, _, err = mer_ray("collect", "--workspace", tmp_path / "w", *own)
    assert code == 2
    assert "none of the 2 songs in collect.curves is a track of the manifest: 1, 4" in err
    code, _, err = mer_ray("collect", "--workspace", tmp_path / "w", "--set", "collect.source=folder", *own[2:])
    assert code == 2
    assert "curves are labels of the tracks of a manifest" in err
