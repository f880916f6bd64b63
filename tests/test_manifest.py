"""Manifests: many formats, one meaning; a bad row costs itself, and says where it stands."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from parts import label_of
from sounds import hostile_names

from mer_ray.errors import InputError, TrackError
from mer_ray.io import cells
from mer_ray.io.address import to_path
from mer_ray.io.identity import track_id
from mer_ray.io.track import Rating, Track
from mer_ray.sources import manifest, manifest_tags

PANDA = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "panda4q" / "manifest.csv"
ROWS = [
    {
        "path": "a  b.wav",
        "artist": "Zoë, the “quoted”",
        "title": "One; two",
        "album": "First",
        "composer": "Zoë & Ann",
        "mbid": "m-1",
        "spotify_id": "s-1",
        "tags": [("dark: night", 1.0), ("sad", 80.0), ("slow", 20.5)],
        "valence": 0.25,
        "arousal": 0.5,
        "dominance": 1.0,
    },
    {"path": "/abs/b.mp3", "artist": "", "title": "", "tags": []},
    {"path": "https://example.org/c.ogg", "artist": "B", "title": "Three"},
    {"artist": "C", "title": "Four", "tags": [("calm", 1.0)], "valence": None, "arousal": None, "dominance": None},
]


def write_csv(file: Path, rows: list[dict]) -> Path:
    columns = list(dict.fromkeys(k for r in rows for k in r))
    with file.open("w", newline="", encoding="utf-8-sig") as handle:
        writer = csv.DictWriter(handle, columns)
        writer.writeheader()
        for row in rows:
            tags = row.get("tags")
            if isinstance(tags, list):
                row = {**row, "tags": "; ".join(f"{n}:{w:g}" if w != 1 else n for n, w in tags)}
            writer.writerow(row)
    return file


def write_jsonl(file: Path, rows: list[dict]) -> Path:
    file.write_text("\n\n".join(json.dumps(r) for r in rows) + "\n", encoding="utf-8")
    return file


def write_parquet(file: Path, rows: list[dict]) -> Path:
    columns = list(dict.fromkeys(k for r in rows for k in r))
    full = [{c: r.get(c) for c in columns} for r in rows]
    for row in full:
        if row.get("tags") is not None:
            row["tags"] = [{"name": n, "weight": w if w != 1 else None} for n, w in row["tags"]]
    pq.write_table(pa.Table.from_pylist(full), file)
    return file


WRITERS = {".csv": write_csv, ".jsonl": write_jsonl, ".ndjson": write_jsonl, ".parquet": write_parquet}


def good(file: Path, **options: object) -> list[Track]:
    found = list(manifest.tracks(file, **options))
    assert all(isinstance(f, Track) for f in found), found
    return found


@pytest.mark.parametrize("suffix", WRITERS)
def test_each_format_gives_the_same_tracks(tmp_path, suffix):
    first, second, third, fourth = good(WRITERS[suffix](tmp_path / f"m{suffix}", ROWS))
    assert first == Track(
        artist="Zoë, the “quoted”",
        title="One; two",
        album="First",
        composer="Zoë & Ann",
        mbid="m-1",
        spotify_id="s-1",
        uri=str(tmp_path / "a  b.wav"),
        location="a  b.wav",
        tags=(("dark: night", 1.0), ("sad", 80.0), ("slow", 20.5)),
        ratings=(Rating("valence", 0.25), Rating("arousal", 0.5), Rating("dominance", 1.0)),
    )
    assert first.id == track_id("zoe, the “quoted”", "ONE; TWO", "first")
    assert (second.artist, second.title, second.uri, second.tags, second.ratings) == ("", "b", "/abs/b.mp3", (), ())
    assert (second.album, second.composer) == (None, None)
    assert (third.uri, third.id) == ("https://example.org/c.ogg", track_id("B", "Three"))
    assert (fourth.uri, fourth.tags, fourth.ratings) == (None, (("calm", 1.0),), ())
    manifest.check(tmp_path / f"m{suffix}")


@pytest.mark.parametrize(
    ("value", "tags"),
    [
        (None, ()),
        ("", ()),
        (" ; ;", ()),
        ("sad; slow", (("sad", 1.0), ("slow", 1.0))),
        ("sad:80; slow : 20;", (("sad", 80.0), ("slow", 20.0))),
        ("time: the revenge", (("time: the revenge", 1.0),)),
        ("a:b:3", (("a:b", 3.0),)),
        (":5", ((":5", 1.0),)),
        ("sad:80; rare:0", (("sad", 80.0),)),
        (["sad", " slow "], (("sad", 1.0), ("slow", 1.0))),
        ([["sad", 80], ("slow", "20")], (("sad", 80.0), ("slow", 20.0))),
        ("sad, slow", (("sad", 1.0), ("slow", 1.0))),
        ("sad:80, slow:20.5", (("sad", 80.0), ("slow", 20.5))),
        ("sad:80%|slow=20 %", (("sad", 80.0), ("slow", 20.0))),
        ("sad\nslow", (("sad", 1.0), ("slow", 1.0))),
        ("sad (80), slow(20)", (("sad", 80.0), ("slow", 20.0))),
        ("sad [80] / slow [20]", (("sad", 80.0), ("slow", 20.0))),
        ("sad:1/slow:2", (("sad", 1.0), ("slow", 2.0))),
        ("sad:0,8; slow:0,25", (("sad", 0.8), ("slow", 0.25))),
        ("AC/DC", (("AC/DC", 1.0),)),
        ("Earth, Wind & Fire; top 40; blink-182", (("Earth, Wind & Fire", 1.0), ("top 40", 1.0), ("blink-182", 1.0))),
        ('"sad", "slow"', (("sad", 1.0), ("slow", 1.0))),
        ('["sad", "slow"]', (("sad", 1.0), ("slow", 1.0))),
        ("['sad', 'slow']", (("sad", 1.0), ("slow", 1.0))),
        ("['sad' 'slow']", (("sad", 1.0), ("slow", 1.0))),  # as NumPy prints it
        ("{'sad': 80, 'slow': 20}", (("sad", 80.0), ("slow", 20.0))),
        ('[{"name": "sad", "count": 80, "url": "https://last.fm/tag/sad"}]', (("sad", 80.0),)),
        ('[["sad", 80]]', (("sad", 80.0),)),
        ("[('sad', 80)]", (("sad", 80.0),)),
        ({"sad": 80, "slow": "20", "absent": None, "rare": 0}, (("sad", 80.0), ("slow", 20.0))),
        ({"sad": True, "slow": False}, (("sad", 1.0),)),
        ({"name": "sad", "count": "80"}, (("sad", 80.0),)),
        ({"tag": [{"name": "sad", "count": 80}]}, (("sad", 80.0),)),
        ([{"tag": "sad", "score": 0.5}, {"Name": "slow", "Weight": 2}], (("sad", 0.5), ("slow", 2.0))),
        (["sad:80", "slow (20)"], (("sad", 80.0), ("slow", 20.0))),
        (float("nan"), ()),
        ("NA", ()),
        ("sad: 80; slow: 20", (("sad", 80.0), ("slow", 20.0))),
        ("sad = 80, slow = 20", (("sad", 80.0), ("slow", 20.0))),
        ("sad：80；slow：20", (("sad", 80.0), ("slow", 20.0))),
        ('"sad": 80, "slow": 20', (("sad", 80.0), ("slow", 20.0))),
        ("[]", ()),
        (
            [{"name": "sad", "weight": 80}, {"name": "slow"}, {"name": "low", "weight": None}],
            (("sad", 80.0), ("slow", 1.0), ("low", 1.0)),
        ),
    ],
)
def test_forms_of_tags(value, tags):
    assert manifest_tags.parse(value) == tags


@pytest.mark.parametrize(
    "value",
    [
        "sad:-1",
        "sad:nan",
        "sad:inf",
        [["sad", "much"]],
        [["sad"]],
        [{"weight": 3}],
        [None],
        5,
        [["sad", 10**400]],
        "sad:high=3; slow=high",
        "sad (80); slow",
        "sad:0,8, slow:0,2",
        "sad:1,000; slow:2",
        "80:sad; 20:slow",
        "sad*80",
        "sad|80; slow|20",
        "sad,80;slow,20",
        "sad 80%",
        "sad:80; slow: n/a",
        "sad:; slow:20",
        "sad 80; slow 20",
        "80 sad, 20 slow",
        "sad:80 slow:20",
        "sad - 80",
        "[sad, slow]",
        "Counter({'sad': 80})",
        [{"name": "sad", "plays": 80}],
        ["batman (1989)", "sad"],
        [{"name": "sad", "count": 80, "weight": 3}],
        {"sad": "much"},
        [80, "sad"],
        "x" * 2_000,
    ],
)
def test_bad_tags(value):
    with pytest.raises(TrackError) as caught:
        manifest_tags.parse(value)
    assert caught.value.reason == "bad_tags"


@pytest.mark.parametrize("suffix", [".csv", ".jsonl", ".parquet"])
def test_labels_on_a_declared_scale(tmp_path, suffix):
    rows = [
        {"artist": "A", "title": str(i), "path": f"{i}.mp3", "valence": v, "arousal": 5, "dominance": 9}
        for i, v in enumerate([1, 3, 9])
    ]
    file = WRITERS[suffix](tmp_path / f"m{suffix}", rows)
    assert [label_of(t) for t in good(file, scale=(1.0, 9.0))] == [(0, 0.5, 1), (0.25, 0.5, 1), (1, 0.5, 1)]
    for refuse in (manifest.check, lambda file: list(manifest.tracks(file))):
        with pytest.raises(InputError, match=r"valence runs from 1 to 9, outside in 2 of 3.*collect\.scale=\[1,9\]"):
            refuse(file)
    assert [label_of(t) for t in manifest.tracks(file, to_score=True)] == [None] * 3


BAD = [
    ({"artist": "A", "title": ""}, "incomplete"),
    ({"artist": "A", "title": "x", "tags": "sad:-3"}, "bad_tags"),
    ({"artist": "A", "title": "x", "valence": "high", "arousal": "0.1", "dominance": "0.1"}, "bad_label"),
    ({"artist": "A", "title": "x", "valence": "1_0", "arousal": "0.1", "dominance": "0.1"}, "bad_label"),
    ({"artist": "A", "title": "x", "valence": "1.000,5", "arousal": "0.1", "dominance": "0.1"}, "bad_label"),
    ({"path": "C:\\Music\\x.wav"}, "bad_uri"),
    ({"path": "\\\\nas\\music\\x.wav"}, "bad_uri"),
    ({"path": "file:///C:/Music/x.wav"}, "bad_uri"),
    ({"path": "file://nas/x.wav"}, "bad_uri"),
    ({"path": "Macintosh HD:Users:me:x.wav"}, "bad_uri"),
    ({"path": "file:///music/%00.wav"}, "bad_uri"),
    ({"path": "git://me:geheim@host/x.mp3"}, "bad_uri"),
    ({"path": "zip://x.mp3::s3://bucket/x.zip"}, "bad_uri"),
    ({"path": "local:///etc/passwd"}, "bad_uri"),
    ({"artist": "A", "title": "x", "duration_s": "three minutes"}, "bad_duration"),
    ({"artist": "A", "title": "x", "duration_s": "-1"}, "bad_duration"),
    ({"path": "http://[broken/x.mp3"}, "bad_uri"),
]


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
@pytest.mark.parametrize(("row", "reason"), BAD)
def test_a_bad_row_costs_itself_and_says_where_it_is(tmp_path, suffix, row, reason):
    fine = {"path": "", "artist": "A", "title": "fine", "tags": "sad"}
    file = WRITERS[suffix](
        tmp_path / f"my{suffix}", [fine, {"artist": "", "title": "", "path": ""} | row, fine | {"title": "too"}]
    )
    before, (failed, error), after = manifest.tracks(file)
    assert (before.title, after.title) == ("fine", "too")
    assert error.reason == reason
    assert error.message.startswith(f"my{suffix}, row 2: ")
    assert failed.id != before.id
    assert not error.transient
    assert "geheim" not in error.message


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ('{"path": "x.mp3", "artist": ', "bad_row"),
        ("[1, 2]", "bad_row"),
        ("null", "bad_row"),
        ("[" * 100_000, "bad_row"),
        ('{"title": "no artist"}', "incomplete"),
        ('{"path": "\\ud800.mp3"}', "bad_uri"),
        ('{"path": "https://example.org/\\ud800.mp3"}', "bad_uri"),
        ('{"path": NaN, "artist": NaN, "title": "x"}', "incomplete"),
        ('{"artist": "A", "title": "T", "tags": {"sad": {"n": 3}}}', "bad_tags"),
        ('{"artist": "A", "title": "T", "title": "U"}', "bad_row"),
        ('{"artist": {"first": "A"}, "title": "T"}', "bad_row"),
        ('{"artist": "A", "title": "T", "valence": true, "arousal": 0, "dominance": 0}', "bad_label"),
        ('{"path": "a\\u0000.wav"}', "bad_uri"),
        ('{"artist": "A", "title": "T", "valence": 1' + "0" * 400 + ', "arousal": 0, "dominance": 0}', "bad_label"),
    ],
)
def test_a_hostile_line_of_json_costs_itself(tmp_path, line, reason):
    file = tmp_path / "m.jsonl"
    file.write_text('{"path": "a.wav"}\n' + line + '\n{"path": "b.wav"}\n')
    before, (_, error), after = manifest.tracks(file)
    assert (before.title, after.title) == ("a", "b")
    assert error.reason == reason
    assert error.message.isprintable()
    assert "row 2" in error.message


def test_two_lost_rows_have_two_ids(tmp_path):
    file = write_csv(tmp_path / "m.csv", [{"artist": "A", "title": ""}] * 2)
    assert len({failed.id for failed, _ in manifest.tracks(file)}) == 2


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("m.csv", b"artist,album\nA,B\n"),
        ("m.csv", b""),
        ("m.jsonl", b'{"artist": "A"}\n'),
        ("m.csv", b"path\n\xff\xfe.mp3\n"),
        ("m.parquet", b"not parquet"),
        ("m.xlsx", b"PK"),
        ("m.csv", b"path\n"),
        ("m.jsonl", b"\n\n"),
    ],
)
def test_a_manifest_of_no_use_is_refused_by_name(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        manifest.check(tmp_path / name)


def test_a_missing_column_names_the_ones_there_are(tmp_path):
    file = write_parquet(tmp_path / "m.parquet", [{"sound": "x.mp3", "artist": "A"}])
    with pytest.raises(InputError, match="its columns are sound, artist"):
        list(manifest.tracks(file))


@pytest.mark.parametrize("name", ["missing.csv", "."])
def test_a_missing_manifest_is_named(tmp_path, name):
    with pytest.raises(InputError, match="does not exist"):
        manifest.check(tmp_path / name)


def test_headers_are_read_in_any_case_and_short_rows_lack_their_end(tmp_path):
    (tmp_path / "m.csv").write_text("Artist , TITLE,Path,unknown\nA,One\nB,Two,x.mp3,?,,\n")
    first, second = good(tmp_path / "m.csv")
    assert (first.artist, first.uri, second.uri) == ("A", None, str(tmp_path / "x.mp3"))


def test_paths_start_at_the_manifest_s_folder(tmp_path, monkeypatch):
    (tmp_path / "there").mkdir()
    write_csv(tmp_path / "there" / "m.csv", [{"path": "x.wav"}, {"path": "~nobody-here/y.wav"}])
    monkeypatch.chdir(tmp_path)
    first, second = list(manifest.tracks("there/m.csv"))
    assert first.uri == str(tmp_path / "there" / "x.wav")
    assert isinstance(second, tuple)


@pytest.mark.parametrize("suffix", [".csv", ".jsonl"])
def test_hostile_file_names_lead_to_their_files(tmp_path, suffix):
    paths = [p for p in hostile_names(tmp_path / "music") if p.name.isascii() or "🎻" in p.name]
    assert len(paths) >= 6
    tracks = good(WRITERS[suffix](tmp_path / f"m{suffix}", [{"path": f"music/{p.name}"} for p in paths]))
    assert [to_path(t.uri) for t in tracks if t.uri] == paths
    assert all(t.title.isprintable() for t in tracks)


def test_the_real_manifest():
    if not PANDA.is_file():
        pytest.skip(f"{PANDA} is not there: it is a real manifest of 472 clips")
    tracks = good(PANDA)
    assert len({t.id for t in tracks}) == 472
    assert all(len(t.ratings) == 3 and len(t.tags) >= 3 and t.uri for t in tracks)
    assert all(to_path(t.uri).is_file() for t in tracks if t.uri)


def test_objects_and_expected_durations(tmp_path):
    rows = [
        {"path": "s3://bucket/my music/a.flac", "artist": "A", "title": "1", "duration_s": "61.5"},
        {"path": "gs://bucket/b.flac", "artist": "A", "title": "2", "duration_s": ""},
        {"path": "ftp://me:geheim@host/c.flac?x=SIGNATURE", "artist": "", "title": "", "duration_s": 3},
    ]
    one, two, three = good(WRITERS[".csv"](tmp_path / "m.csv", rows))
    assert [t.uri for t in (one, two, three)] == [r["path"] for r in rows]
    assert [t.duration_s for t in (one, two, three)] == [61.5, None, 3.0]
    assert three.title == "c"
    assert three.location == rows[2]["path"]


def test_our_own_scores_are_read_without_the_apostrophes_that_guard_them(tmp_path):
    name, title = "'-1 (Live)", "=cmd|'/c calc'!A0"
    scores = {"track_id": "1", "artist": cells.guard(name), "title": cells.guard(title), "uri": "/a.mp3"}
    scores |= dict.fromkeys(("valence", "arousal", "dominance"), 0.5) | {"lower_valence": 0.4, "upper_valence": 0.6}
    (ours,) = good(write_csv(tmp_path / "scores.csv", [scores]))
    assert (ours.artist, ours.title) == (name, title)
    del scores["upper_valence"]
    (foreign,) = good(write_csv(tmp_path / "other.csv", [scores]))
    assert (foreign.artist, foreign.title) == (cells.guard(name), cells.guard(title))
