"""Manifests as people have them: what spreadsheets, R, pandas and players write is read, or refused with the reason."""

from __future__ import annotations

import json
import unicodedata
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from parts import label_of

from mer_ray.errors import InputError, TrackError
from mer_ray.io.track import Rating, Track
from mer_ray.scoring import catalog
from mer_ray.sources import manifest

CASES = Path(__file__).resolve().parents[1].parent / "shared" / "cases" / "manifests"
HEADER = "path,artist,title,valence,arousal,dominance\n"


def written(file: Path, content: str | bytes, encoding: str = "utf-8") -> Path:
    file.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return file


def read(file: Path, *scale: tuple[float, float]) -> list[Track | TrackError]:
    return [f[1] if isinstance(f, tuple) else f for f in manifest.tracks(file, *scale)]


def one(file: Path, *scale: tuple[float, float]) -> Track:
    (found,) = read(file, *scale)
    assert isinstance(found, Track), found
    return found


def notes(file: Path) -> str:
    return "\n".join(manifest.understood(file))


# files --------------------------------------------------------------------------------------------------------------

PLAIN = HEADER + "music/t1.wav,Björk,Jóga,0.2,0.3,0.4\n"
COMMAS = "path;artist;title;valence;arousal;dominance\nmusic/t1.wav;Björk;Jóga;0,2;0,3;0,4\n"
BLANK = "\r\n,,,,,\r\n\r\n"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.csv", COMMAS.encode()),
        ("m.csv", COMMAS.replace(";", "\t").encode()),
        ("m.tsv", PLAIN.replace(",", "\t").encode("utf-8-sig")),
        ("m.txt", PLAIN.replace(",", "\t").encode("utf-16")),  # Excel's "Unicode text"
        ("m.csv", PLAIN.replace(",", "|").encode()),
        ("m.csv", ("sep=;\r\n" + COMMAS).encode("utf-8-sig")),
        ("m.csv", ("sep=,\n" + PLAIN).encode()),
        ("m.csv", ('"sep=;"\n' + COMMAS).encode()),
        ("m.csv", PLAIN.encode("utf-8-sig")),
        ("m.csv", PLAIN.encode("cp1252")),
        ("m.csv", PLAIN.encode("utf-16")),
        ("m.csv", PLAIN.encode("utf-16-be")),
        ("m.csv", PLAIN.encode("utf-16-le")),
        ("m.csv", PLAIN.encode("utf-32")),
        ("m.csv", PLAIN.replace("\n", "\r").encode()),
        ("m.csv", (PLAIN.replace("\n", "\r\n") + BLANK).encode()),
        ("m.csv", ("\n\n" + PLAIN.replace("\n", ",,\n")).encode()),  # empty columns at the right
        ("m.csv", PLAIN.replace("artist", ' "artist"').replace("Jóga", ' "Jóga"').encode()),
        ("m.csv", PLAIN.replace("Björk,Jóga", '\t"Björk", "Jóga"').encode()),  # emoMusic
        ("m.csv", PLAIN.upper().replace("MUSIC/T1.WAV,BJÖRK,JÓGA", "music/t1.wav,Björk,Jóga").encode()),
        ("m.csv", PLAIN.replace("0.2,0.3,0.4", '" 0.2 ","0,3",.4').encode()),
        ("m.csv", ('"",' + PLAIN.replace("\n", '\n"1",', 1)).encode()),  # R's write.csv, pandas
    ],
)
def test_every_form_of_a_table_gives_the_same_track(tmp_path, name, content):
    file = written(tmp_path / name, content)
    track = one(file)
    assert (track.artist, track.title, track.uri) == ("Björk", "Jóga", str(tmp_path / "music" / "t1.wav"))
    assert label_of(track) == (0.2, 0.3, 0.4)
    manifest.check(file)


ROWS = [{"path": "a.wav", "artist": "A", "tags": ["sad"]}, {"path": "b.wav", "artist": "B", "tags": None}]


@pytest.mark.parametrize(
    ("name", "document"),
    [
        ("m.json", ROWS),
        ("m.jsonl", ROWS),
        ("m.json", {"count": 2, "tracks": ROWS}),
        ("m.json", {k: {str(i): row[k] for i, row in enumerate(ROWS)} for k in ROWS[0]}),  # pandas' to_json
        ("m.json", {k: [row[k] for row in ROWS] for k in ROWS[0]}),
        ("m.json", {"columns": list(ROWS[0]), "index": [0, 1], "data": [list(row.values()) for row in ROWS]}),
        ("m.json", {str(i): row for i, row in enumerate(ROWS)}),
    ],
)
@pytest.mark.parametrize("indent", [None, 2])
def test_every_form_of_json_gives_the_same_tracks(tmp_path, name, document, indent):
    file = written(tmp_path / name, json.dumps(document, indent=indent))
    found = read(file)
    assert [(t.title, t.artist, t.tags, t.own_id) for t in found if isinstance(t, Track)] == [
        ("a", "A", (("sad", 1.0),), None),
        ("b", "B", (), None),
    ]


def test_an_artist_may_be_an_object_or_a_list(tmp_path):
    rows = [{"artist": {"name": "A", "mbid": ""}, "title": "x"}, {"artist": ["A", "B"], "title": "x"}]
    found = read(written(tmp_path / "m.json", json.dumps(rows)))
    assert [t.artist for t in found if isinstance(t, Track)] == ["A", "A, B"]


def test_json_by_id_keeps_the_ids_and_json_lines_may_be_called_json(tmp_path):
    found = read(written(tmp_path / "m.json", json.dumps({"s1": ROWS[0], "s2": ROWS[1]})))
    assert [t.own_id for t in found if isinstance(t, Track)] == ["s1", "s2"]
    assert len(read(written(tmp_path / "l.json", "\n".join(map(json.dumps, ROWS))))) == 2


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("m.csv", b"PK\x03\x04 and so on", "workbook"),
        ("m.xlsx", b"PK\x03\x04 and so on", "CSV"),
        ("m.csv.gz", b"\x1f\x8b", "unknown kind"),
        ("m.csv", b"\x1f\x8b and so on", "compressed"),
        ("m.csv", "path,artist,title\na.wav,Кино,Группа крови\n".encode("cp1251"), "UTF-8"),
        ("m.csv", "path,artist,title\na.wav,久石譲,さんぽ\n".encode("shift-jis"), "UTF-8"),
        ("m.csv", "path,artist,title\na.wav,周杰伦,青花瓷\nb.wav,王菲,红豆\n".encode("gbk"), "UTF-8"),
        ("m.csv", "path,artist,title\na.wav,周杰倫,青花瓷\n".encode("big5"), "UTF-8"),
        ("m.csv", b"path,artist\n" + b"x" * (1 << 24), "line of over"),
        ("m.json", b'{"path": ', "is not JSON"),
        ("m.json", b"[" * 100_000, "is not JSON"),
        ("m.json", b'{"zzz": 1}', "array of objects"),
        ("m.csv", b"music/a.wav,A,B\n", "the first row must name them"),
        ("m.csv", b"title,Title,artist\na,b,c\n", "2 columns could be title: title and Title"),
        ("m.csv", b"path,valence,arousal,dominance,Valence\na,0,0,0,1\n", "2 columns could be valence"),
        ("m.csv", b"artist,title,tag,count\nA,x,sad,80\nA,x,slow,20\n", "count seems to hold the weights of tag"),
        ("m.csv", b"path,tags,tag_weights\na,sad;slow,80;20\n", "weights of tags"),
        ("m.csv", b"path,valence_mean,static_valence,arousal_mean\na,0,0,0\n", "2 columns could be valence"),
    ],
)
def test_what_cannot_be_read_is_refused_with_the_reason(tmp_path, name, content, said):
    with pytest.raises(InputError, match=said):
        manifest.check(written(tmp_path / name, content))


def test_a_guess_of_the_encoding_is_told(tmp_path):
    assert "Windows-1252" in notes(written(tmp_path / "m.csv", PLAIN, "cp1252"))
    assert "Windows-1252" not in notes(written(tmp_path / "n.csv", PLAIN))


def test_one_bad_byte_costs_its_row_and_not_the_accents_of_the_others(tmp_path):
    file = written(tmp_path / "m.csv", PLAIN.encode() + b"b.wav,Bj\xf6rk,x,0.1,0.1,0.1\nc.wav,\0,x,0.1,0.1,0.1\n")
    first, bad, nul = read(file)
    assert isinstance(first, Track)
    assert first.artist == "Björk"
    assert [e.reason for e in (bad, nul) if isinstance(e, TrackError)] == ["bad_row", "bad_row"]


def test_r_writes_row_numbers_without_a_name_above_them(tmp_path):
    text = '"path"\t"artist"\t"title"\n"1"\t"a.wav"\t"A"\t"x"\n"2"\t"b.wav"\t"B"\t"y"\n'
    found = read(written(tmp_path / "m.txt", text))
    assert [(t.location, t.artist, t.title) for t in found if isinstance(t, Track)] == [
        ("a.wav", "A", "x"),
        ("b.wav", "B", "y"),
    ]


# rows ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "bad"),
    [
        ("a.wav,Earth, Wind & Fire,September,0.9,0.8,0.7\nb.wav,A,B,0.1,0.2,0.3\n", [1]),
        ("a.wav,A,B,0.9,0.8\nb.wav,A,B,0.1,0.2,0.3\n", [1]),  # broken off in the middle of its label
        ('a.wav,A,"B,0.9,0.8,0.7\nb.wav,A,"C",0.1,0.2,0.3\nc.wav,A,B,0.1,0.2,0.3\n', [1]),
        ('a.wav,A,"B,0.9,0.8,0.7\nb.wav,A,C",0.1,0.2,0.3\nc.wav,A,B,0.1,0.2,0.3\n', [1]),
        ('a.wav,A,B,0.9,0.8,0.7\nb.wav,A,"C,0.1,0.2,0.3\nc.wav,A,B,0.1,0.2,0.3\n', [2]),
        ('a.wav,A,"say "hi" now",0.9,0.8,0.7\nb.wav,A,B,0.1,0.2,0.3\n', [1]),
    ],
)
def test_a_row_that_does_not_fit_the_header_is_lost_alone(tmp_path, rows, bad):
    found = read(written(tmp_path / "m.csv", HEADER + rows))
    assert len(found) == rows.count("\n")
    for number, row in enumerate(found, start=1):
        if number in bad:
            assert isinstance(row, TrackError)
            assert row.reason == "bad_row"
            assert row.message.startswith(f"m.csv, row {number}: ")
        else:
            assert isinstance(row, Track)
            assert row.title in ("B", "C", 'C"')
            assert len(row.ratings) == 3


def test_quoted_cells_hold_separators_quotes_and_line_ends(tmp_path):
    text = HEADER + '"a.wav","Earth, Wind & Fire","Say ""hi""\nnow",0.1,0.2,0.3\nb.wav,A,Say "hi",0.1,0.2,0.3\n'
    first, second = read(written(tmp_path / "m.csv", text))
    assert isinstance(first, Track)
    assert isinstance(second, Track)
    assert (first.artist, first.title, second.title) == ("Earth, Wind & Fire", 'Say "hi" now', 'Say "hi"')


def test_blank_rows_are_no_tracks_and_count_in_the_row_s_number(tmp_path):
    first, second = read(written(tmp_path / "m.csv", HEADER + "a.wav,A,B,0.1,0.2,0.3\n,,,,,\nc.wav,A,B,x,0,0\n"))
    assert isinstance(first, Track)
    assert isinstance(second, TrackError)
    assert second.message.startswith("m.csv, row 3: valence is not a number")


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_names_stay_text(tmp_path, suffix):
    rows = [("NA", "null"), ("None", "nan"), ("311", "007"), ("True", "1e5")]
    dicts = [{"track_id": t, "path": "t.wav", "artist": a, "title": t, "album": a} for a, t in rows]
    file = tmp_path / f"m{suffix}"
    if suffix == ".csv":
        lines = [",".join(row.values()) for row in dicts]
        written(file, "\n".join([",".join(dicts[0]), *lines]))
    elif suffix == ".jsonl":
        written(file, "\n".join(map(json.dumps, dicts)))
    else:
        pq.write_table(pa.Table.from_pylist(dicts), file)
    found = [t for t in read(file) if isinstance(t, Track)]
    assert [(t.artist, t.title, t.album, t.own_id) for t in found] == [(a, t, a, t) for a, t in rows]


# columns ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "row", "wanted"),
    [
        ("Filename,Name", "a.wav,x", {"location": "a.wav", "title": "x"}),
        ("file,Track Title,Artist Name(s)", "a.wav,x,A", {"location": "a.wav", "title": "x", "artist": "A"}),
        ("Location,Song", "file:///a.wav,x", {"uri": "/a.wav", "title": "x"}),
        ("FilePath,track", "a.wav,x", {"location": "a.wav", "title": "x"}),
        ("url,song_title,Performer", "https://x.org/a.mp3,x,A", {"uri": "https://x.org/a.mp3", "artist": "A"}),
        ("path,V,A,D", "a.wav,0.1,0.2,0.3", {"label": (0.1, 0.2, 0.3)}),
        ("path,valence_mean,arousal_mean,dominance_mean", "a.wav,0.1,0.2,0.3", {"label": (0.1, 0.2, 0.3)}),
        ("path,Mean(Valence),Mean(Arousal)", "a.wav,0.1,0.2", {"label": (0.1, 0.2, None)}),
        ("musicId,Arousal(mean),Valence(mean)", "007,0.2,0.1", {"label": (0.1, 0.2, None), "own_id": "007"}),
        ("path,V_mean,A_mean,V_std", "a.wav,0.1,0.2,0.9", {"label": (0.1, 0.2, None)}),
        ("path,static_valence,staticArousal,valence_max_mean", "a.wav,.1,.2,.9", {"label": (0.1, 0.2, None)}),
        ("path,ValMn,AroMn,DomMn", "a.wav,0.1,0.2,0.3", {"label": (0.1, 0.2, 0.3)}),
        ("path,Valence (0-1),Arousal [0..1]", "a.wav,0.1,0.2", {"label": (0.1, 0.2, None)}),
        ("path,artist,A,D", "a.wav,Abba,x,y", {"label": None, "artist": "Abba"}),
        ("path,valence,lower_valence,valence_std", "a.wav,0.5,0.1,0.2", {"label": (0.5, None, None)}),
        ("path,duration_ms", "a.wav,61500", {"duration_s": 61.5}),
        ("path,Duration (s)", "a.wav,61.5", {"duration_s": 61.5}),
        ("path,id,song_id,Track ID", "a.wav,1,2,003", {"own_id": "003"}),
        ("path,id", "a.wav,", {"own_id": None}),
        (
            "Track URI,Track Name,artist",
            "spotify:track:3n3Ppam7vgaVa1iaRUc9Lp,x,A",
            {"spotify_id": "3n3Ppam7vgaVa1iaRUc9Lp"},
        ),
        ("title,track,artist", "x,7,A", {"title": "x"}),
        ("path,moods", 'a.wav,"sad, slow"', {"tags": (("sad", 1.0), ("slow", 1.0))}),
        ("path,mbid,spotify_id", "a.wav,NA,null", {"mbid": None, "spotify_id": None}),
    ],
)
def test_columns_under_the_names_that_people_give_them(tmp_path, header, row, wanted):
    track = one(written(tmp_path / "m.csv", f"{header}\n{row}\n"))
    own = {name: label_of(track) if name == "label" else getattr(track, name) for name in wanted}
    assert own == wanted


def test_what_was_understood_is_said_in_one_line_and_what_is_not_used_is_named(tmp_path):
    text = ",Filename,Name,artist,Valence Mean,Arousal_mean,Genre,BPM\n0,a.wav,x,A,0.1,0.2,Score,120\n"
    (line,) = [n for n in manifest.understood(written(tmp_path / "m.csv", text)) if "columns" in n]
    for said in (
        "Filename as path",
        "Name as title",
        "Valence Mean as valence",
        "not used: Genre, BPM, the one without",
    ):
        assert said in line
    said = notes(written(tmp_path / "t.csv", 'path,tags\na.wav,"sad, slow"\nb.wav,sad; slow\n'))
    assert "tags are separated by , (1 rows) and by ; (1 rows)" in said


def test_ids_as_they_are_written_and_of_bounded_length(tmp_path):
    pq.write_table(pa.table({"id": [7.0, None], "path": ["a.wav", "b.wav"]}), tmp_path / "m.parquet")
    assert [t.own_id for t in read(tmp_path / "m.parquet") if isinstance(t, Track)] == ["7", None]
    long = "x" * 5_000
    file = written(tmp_path / "m.jsonl", "\n".join(json.dumps({"id": long + str(i), "path": "a"}) for i in (1, 2)))
    first, second = (t.own_id or "" for t in read(file) if isinstance(t, Track))
    assert len(first) == len(second) == 200
    assert first != second


def test_columns_of_parquet_that_mean_nothing_here_are_left_alone(tmp_path):
    table = pa.table({"blob": [b"x", b"y"], "file.name": ["a", "b"], "path": ["a", "b"]})
    pq.write_table(table.drop_columns("file.name"), tmp_path / "m.parquet")
    pq.write_table(table, tmp_path / "dotted.parquet")
    for name in ("m", "dotted"):
        assert [t.location for t in read(tmp_path / f"{name}.parquet") if isinstance(t, Track)] == ["a", "b"]


def test_dict_columns_of_parquet_are_tags(tmp_path):
    maps = pa.array([[("sad", 80.0)], None], pa.map_(pa.string(), pa.float64()))
    structs = pa.array([{"sad": 80.0, "slow": None}, {"sad": None, "slow": 2.0}])
    for name, column in (("maps", maps), ("structs", structs)):
        pq.write_table(pa.table({"path": ["a", "b"], "tags": column}), tmp_path / f"{name}.parquet")
    tags = {n: [t.tags for t in read(tmp_path / f"{n}.parquet") if isinstance(t, Track)] for n in ("maps", "structs")}
    assert tags == {"maps": [(("sad", 80.0),), ()], "structs": [(("sad", 80.0),), (("slow", 2.0),)]}


# labels -------------------------------------------------------------------------------------------------------------


def test_a_label_may_lack_a_dimension_and_a_row_its_label(tmp_path):
    text = HEADER + "a,A,x,NA,0.3,0.4\nb,A,x,nan,-,#N/A\nc,A,x,1,0.5,\n"
    assert [label_of(t) for t in read(written(tmp_path / "m.csv", text)) if isinstance(t, Track)] == [
        (None, 0.3, 0.4),
        None,
        (1.0, 0.5, None),
    ]
    said = notes(tmp_path / "m.csv")
    assert "2 of 3 rows have a label (valence 1, arousal 2, dominance 1)" in said


def test_one_value_outside_the_scale_may_be_a_typing_error(tmp_path):
    rows = "".join(f"{i}.wav,A,x,0.{i % 10},0.5,{'12' if i == 40 else '0.1'}\n" for i in range(60))
    file = written(tmp_path / "m.csv", HEADER + rows)
    with pytest.raises(InputError) as caught:
        manifest.check(file)
    assert "dominance runs from 0.1 to 12, outside in 1 of 60" in str(caught.value)
    assert "if these are typing errors, mend row 41, or declare the scale" in str(caught.value)


def test_rounding_at_the_ends_of_the_scale_is_no_fault(tmp_path):
    file = written(tmp_path / "m.csv", HEADER + "a,A,x,1.0000001,-1e-8,0.5\n")
    assert label_of(one(file)) == (1.0, 0.0, 0.5)


def test_labels_that_fill_a_strange_part_of_their_scale_are_told(tmp_path):
    rows = "".join(f"{i}.wav,A,x,0.{i % 10},0.5,0.1\n" for i in range(30))
    file = written(tmp_path / "m.csv", HEADER + rows)
    said = {s: "\n".join(manifest.understood(file, s)) for s in ((0, 1), (-1, 1), (0, 100))}
    assert {s: "is not the scale" in text for s, text in said.items()} == {(0, 1): False, (-1, 1): True, (0, 100): True}


def test_labels_do_not_matter_to_a_catalog_that_is_scored(tmp_path):
    file = written(tmp_path / "m.csv", HEADER.replace("dominance", "tags") + "a.wav,A,x,8,high,sad:-1\n")
    found = catalog.find([str(file)])
    assert (found.tracks, found.failed) == (1, [])


MOODS = ("valence", "tension", "energy")


@pytest.mark.parametrize(
    ("header", "row", "wanted"),
    [
        ("valence,se_valence", "3,0.4", {"valence": 0.1}),
        ("valence,valence_se,arousal,Arousal (SEM)", "3,0.4,5,0.8", {"valence": 0.1, "arousal": 0.2}),
        ("valence,valence std error,std_valence", "3,0.4,4", {"valence": 0.1}),  # what is stated comes first
        ("valence_mean,valence_std,n_raters", "3,2,25", {"valence": 0.1}),
        (
            "Arousal(mean),Arousal(std),Valence(mean),Valence(std),raters",
            "3,1,5,2,25",
            {"arousal": 0.05, "valence": 0.1},
        ),
        (
            "mean_valence,std_valence,n_valence,mean_arousal,std_arousal,n_arousal",
            "3,2,25,5,2,100",
            {"valence": 0.1, "arousal": 0.05},
        ),
        ("valence,sd_valence,num_annotators", "3,2,1", {"valence": None}),  # one rater has no SD
        ("valence,sd_valence,n_raters", "3,2,", {"valence": None}),
        ("valence,valence_std", "3,2", {"valence": None}),
        ("valence,se_valence", "3,NA", {"valence": None}),
        ("valence,arousal,se_valence", "3,,0.4", {"valence": 0.1}),
        ("V,A,V_SD,A_SD,n_raters", "3,3,1,2,25", {"valence": 0.05, "arousal": 0.1}),
    ],
)
def test_errors_of_labels(tmp_path, header, row, wanted):
    track = one(written(tmp_path / "m.csv", f"path,{header}\na.wav,{row}\n"), (1, 5))
    assert {r.dimension: r.se for r in track.ratings} == {d: pytest.approx(x) for d, x in wanted.items()}


def test_errors_that_are_used_and_those_that_are_not_are_told(tmp_path):
    lone = written(tmp_path / "m.csv", "path,valence,valence_std\na,0.1,0.2\n")
    assert "not used as errors of the labels: valence_std (give the number of raters as n_raters)" in notes(lone)
    used = written(tmp_path / "m2.csv", "path,valence,valence_std,n_raters\na,0.1,0.2,9\nb,0.1,,9\n")
    assert "not used" not in notes(used)
    assert "2 of 2 rows have a label (valence 2, arousal 0, dominance 0), with standard errors (valence 1" in notes(
        used
    )
    twice = written(tmp_path / "m3.csv", "path,valence,valence_std,n_raters,num_annotators\na,0.1,0.2,9,8\n")
    with pytest.raises(InputError, match="2 columns could be n_raters"):
        manifest.check(twice)


@pytest.mark.parametrize(
    ("header", "row", "said"),
    [
        ("valence,se_valence", "0.5,-0.1", "the standard error of valence, -0.1, must be 0 to 0.5"),
        ("valence,se_valence", "0.5,0.6", "the standard error of valence, 0.6, must be 0 to 0.5 on the scale 0..1"),
        ("valence,se_valence", "0.5,small", "the standard error of valence is not a number: 'small'"),
        # Ratings on 0..1 whose SD stayed on 1..9: over four raters, two of 0 and two of 1 have the largest, 0.577.
        (
            "valence,sd_valence,n_raters",
            "0.5,0.58,4",
            "the SD of valence, 0.58, must be 0 to 0.57735 on the scale 0..1",
        ),
        ("valence,sd_valence,n_raters", "0.5,1.2,10", "the SD of valence, 1.2, must be 0 to 0.527046"),
        ("valence,sd_valence,n_raters", "0.5,-0.1,9", "must be 0 to"),
        ("valence,sd_valence,n_raters", "0.5,x,9", "the SD of valence is not a number"),
        ("valence,sd_valence,n_raters", "0.5,0.1,many", "the number of raters of valence is not a number"),
    ],
)
def test_errors_that_are_none_cost_their_row(tmp_path, header, row, said):
    (bad,) = read(written(tmp_path / "m.csv", f"path,{header}\na.wav,{row}\n"))
    assert isinstance(bad, TrackError)
    assert bad.reason == "bad_label"
    assert said in bad.message


def test_the_largest_possible_sd_is_none_too_large(tmp_path):
    row = f"{{}},0.5,{np.std([0, 0, 1, 1], ddof=1)},4"
    track = one(written(tmp_path / "m.csv", "path,valence,sd_valence,n_raters\n" + row.format("a.wav")))
    assert track.ratings[0].se == pytest.approx(1 / np.sqrt(12))


@pytest.mark.parametrize("dimensions", [("valence",), ("arousal", "valence"), ("valence", "tension")])
def test_one_letter_beside_the_other_is_understood_whichever_is_wanted(tmp_path, dimensions):
    file = written(tmp_path / "m.csv", "path,V,A,V_SD,n_raters\na.wav,0.25,0.5,0.2,4\n")
    (track,) = manifest.tracks(file, dimensions=dimensions)
    wanted = {"valence": Rating("valence", 0.25, 0.1), "arousal": Rating("arousal", 0.5)}
    assert track.ratings == tuple(wanted[d] for d in dimensions if d in wanted)


def test_labels_of_the_dimensions_that_are_named(tmp_path):
    text = "path,Valence,mean_tension,Energy (1-9),tension_std,n_raters,dominance\na,1,5,,2,4,3\n"
    file = written(tmp_path / "m.csv", text)
    (track,) = manifest.tracks(file, (1, 9), dimensions=MOODS)
    assert track.ratings == (Rating("valence", 0.0), Rating("tension", 0.5, 0.125))
    said = "\n".join(manifest.understood(file, (1, 9), MOODS))
    for part in (
        "mean_tension as tension",
        "Energy (1-9) as energy",
        "tension_std as sd_tension",
        "labels that are not used: dominance (collect.dimensions is valence,tension,energy)",
        "1 of 1 rows have a label (valence 1, tension 1, energy 0), with standard errors (valence 0, tension 1",
    ):
        assert part in said
    assert "labels that are not used" not in notes(file)
    with pytest.raises(InputError, match="tension runs from 5 to 5, outside in 1 of 1"):
        manifest.check(file, dimensions=("tension",))
    twice = written(tmp_path / "n.csv", "path,tension_mean,tension_rating\na,1,1\n")
    with pytest.raises(InputError, match="2 columns could be tension"):
        manifest.check(twice, dimensions=MOODS)


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_dataset_split_and_fold(tmp_path, suffix):
    words = {
        "train": "train",
        "Training": "train",
        "VAL": "valid",
        "dev": "valid",
        "validation": "valid",
        "eval": "test",
    }
    rows = [{"path": f"{i}.wav", "split": w, "fold": i, "dataset": "DEAM"} for i, w in enumerate(words)]
    rows += [{"path": "x.wav", "split": None, "fold": None, "dataset": None}]
    file = tmp_path / f"m{suffix}"
    if suffix == ".csv":
        lines = [",".join("" if v is None else str(v) for v in r.values()) for r in rows]
        written(file, "\n".join([",".join(rows[0]), *lines]))
    else:
        pq.write_table(pa.Table.from_pylist(rows), file)
    found = [(t.split, t.fold, t.dataset) for t in read(file) if isinstance(t, Track)]
    assert found == [*((s, str(i), "DEAM") for i, s in enumerate(words.values())), (None, None, None)]


def test_another_split_costs_its_row_and_none_where_it_does_not_matter(tmp_path):
    file = written(tmp_path / "m.csv", "path,split\na.wav,train\nb.wav,holdout\n")
    _, bad = read(file)
    assert isinstance(bad, TrackError)
    assert bad.reason == "bad_split"
    assert bad.message == "m.csv, row 2: split must be train, valid or test, got 'holdout'"
    assert catalog.find([str(file)]).failed == []


# places -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cell", "file"),
    [
        ("file://localhost/ABS/my song.wav", "my song.wav"),
        ("file:/ABS/my%20song.wav", "my song.wav"),
        ("FILE:///ABS/100%25.wav", "100%.wav"),
        ("file:my%20song.wav", "my song.wav"),
        ("file://sub/b.wav", "sub/b.wav"),
        ("  my song.wav\t", "my song.wav"),
        ('"my song.wav"', "my song.wav"),
        (" 'my song.wav' ", "my song.wav"),
        ("\N{NO-BREAK SPACE}my song.wav\N{ZERO WIDTH SPACE}", "my song.wav"),
        ("sub\\b.wav", "sub/b.wav"),
        ("..\\HERE\\sub\\b.wav", "sub/b.wav"),
        (".\\sub/b.wav", "sub/b.wav"),
        ("100%25.wav", "100%25.wav"),
        ("blank .wav ", "blank .wav "),
        ("back\\slash.wav", "back\\slash.wav"),
        ("'quoted'", "'quoted'"),
        ("~.wav", "~.wav"),
        (unicodedata.normalize("NFC", "é.wav"), unicodedata.normalize("NFD", "é.wav")),
    ],
)
def test_places_as_people_write_them_are_found(tmp_path, cell, file):
    here = tmp_path / "here"
    (here / "sub").mkdir(parents=True)
    decoys = ["my song.wav", "100%.wav", "sub/b.wav"]
    for name in {*decoys, file}:
        (here / name).touch()
    text = cell.replace("/ABS", str(here)).replace("HERE", "here")
    track = one(written(here / "m.jsonl", json.dumps({"path": text})))
    assert track.uri is not None
    assert Path(track.uri).resolve() == here / file


def test_the_place_is_kept_as_the_manifest_writes_it(tmp_path):
    found = [
        one(written(tmp_path / "m.jsonl", json.dumps({"path": cell}))) for cell in (' "a\\b.wav" ', "file:/x%20y.wav")
    ]
    assert [(t.location, t.title) for t in found] == [("a/b.wav", "b"), ("file:/x%20y.wav", "x y")]
    assert one(written(tmp_path / "n.csv", "artist,title\nA,B\n")).location is None


# the collected cases ------------------------------------------------------------------------------------------------

SAME = ("semicolon", "sepline", "tabs", "utf16", "cp1252", "cr_only", "crlf_blank")
GIVEN = {
    **{name: [(0.2, 0.3, 0.4)] for name in ("tabs.tsv", *(f"{stem}.csv" for stem in SAME))},
    "upper.csv": [(0.1, 0.3, 0.3)],
    "maintitle.csv": [(0.8, 0.7, 0.7), (0.2, 0.7, 0.3)],
    "twoclips.csv": [(0.2, 0.3, 0.4), (0.8, 0.7, 0.6)],
    "idcol.csv": [(0.8, 0.7, 0.7), (0.2, 0.7, 0.3)],
    "nodom.csv": [(0.1, 0.3, None), (0.2, 0.3, None)],
    "nalabels.csv": [(None, 0.3, 0.4), (None, 0.3, 0.4), (0.5, 0.3, 0.4), (0.5, 0.3, 0.4)],
    "names.csv": [(0.2, 0.3, 0.4)] * 3 + [(0.1, 0.1, 0.1)],
    "backslash.csv": [(0.1, 0.3, 0.3)],
    "extra_cell.csv": ["bad_row"],
}


@pytest.mark.parametrize("name", GIVEN)
def test_the_collected_cases(name):
    if not CASES.is_dir():
        pytest.skip(f"{CASES} is not there: it has manifests as people make them")
    found = read(CASES / name)
    assert [label_of(f) if isinstance(f, Track) else f.reason for f in found] == GIVEN[name]


def test_the_collected_headers():
    if not CASES.is_dir():
        pytest.skip(f"{CASES} is not there: it has manifests as people make them")
    track = one(CASES / "deam_header.csv", (1, 9))
    assert (track.own_id, track.title, label_of(track)) == ("2", "2", (pytest.approx(2.1 / 8), 0.25, None))
    with pytest.raises(InputError, match="2 columns could be valence"):
        manifest.check(CASES / "dupheader.csv")


@pytest.mark.parametrize("missing", ["", "NA", "nan", "NULL", "n/a"])
def test_folds_and_datasets_as_r_and_pandas_write_them(tmp_path, missing):
    """Whole numbers as 1.0, where others are missing; and what is missing in their words."""
    rows = ["a.wav,1.0,DEAM", "b.wav,10.00,PMEmo 1.0", f"c.wav,{missing},{missing}", "d.wav,1.5,x", "e.wav,outer.0,y"]
    found = read(written(tmp_path / "m.csv", "\n".join(["path,fold,dataset", *rows])))
    assert [(t.fold, t.dataset) for t in found if isinstance(t, Track)] == [
        ("1", "DEAM"),
        ("10", "PMEmo 1.0"),
        (None, None),
        ("1.5", "x"),
        ("outer.0", "y"),
    ]
