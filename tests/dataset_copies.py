"""Miniature copies of published data sets, in the layout and under the names of the real ones, and what is in them.

All titles and values are made up. `write_deam` takes any songs, with audio and curves, for longer journeys.
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

DYNAMIC = "annotations/annotations averaged per song/dynamic (per second annotations)"
SONG_LEVEL = "annotations/annotations averaged per song/song_level"


@dataclass(frozen=True)
class Song:
    """A song of a DEAM in miniature: labels on 1..9 with their raters' SD, curves on -1..1 by ms, audio as bytes."""

    number: int
    artist: str
    title: str
    valence: tuple[float, float]
    arousal: tuple[float, float]
    curves: Mapping[str, Mapping[int, float]] = field(default_factory=dict)
    audio: bytes | None = b"ID3"


@dataclass(frozen=True)
class Miniature:
    """A copy, and what a right conversion of it holds.

    Attributes:
        build: Writes the copy into a folder.
        rows: Columns of some tracks of the manifest, by track_id; numbers as numbers.
        curves: Some rows of curves.csv: (track_id, time_s) → valence and arousal, None where there is none.
        settings: ``collect`` and ``train.split`` of its config.yaml.
        annotation: A file that it cannot do without.
        column: A column of that file, as it stands there; None where the file is no table.
    """

    build: Callable[[Path], None]
    n_tracks: int
    rows: Mapping[str, Mapping[str, object]]
    settings: Mapping[str, object]
    annotation: str
    column: str | None
    curves: Mapping[tuple[str, float], tuple[float | None, float | None]] = field(default_factory=dict)
    n_points: int = 0


def table(file: Path, *rows: Sequence[object], mark: str = ",") -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", newline="", encoding="utf-8") as handle:
        csv.writer(handle, delimiter=mark).writerows(rows)


def audio(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"ID3")


def write_deam(folder: Path, songs: Sequence[Song]) -> None:
    """DEAM's layout: blanks after the commas of headers, a column a half second, metadata of three forms."""
    labels = [(s.number, *s.valence, *s.arousal) for s in songs]
    header = ["song_id", " valence_mean", " valence_std", " arousal_mean", " arousal_std"]
    early = [row for row in labels if row[0] <= 2000]
    table(folder / SONG_LEVEL / "static_annotations_averaged_songs_1_2000.csv", header, *early)
    late = [(n, v, sd, 7.0, 0.5, a, sd_a, 6.0, 0.5) for n, v, sd, a, sd_a in labels if n > 2000]
    longer = [
        *header[:3],
        " valence_ max_mean",
        " valence_max_std",
        *header[3:],
        " arousal_max_mean",
        " arousal_max_std",
    ]
    table(folder / SONG_LEVEL / "static_annotations_averaged_songs_2000_2058.csv", longer, *late)
    times = sorted({ms for s in songs for curve in s.curves.values() for ms in curve})
    for dimension in ("valence", "arousal"):
        points = [[s.number, *(s.curves.get(dimension, {}).get(ms, "") for ms in times)] for s in songs]
        table(folder / DYNAMIC / f"{dimension}.csv", ["song_id", *(f"sample_{ms}ms" for ms in times)], *points)
    metadata = folder / "metadata"
    first = ["song_id", "file_name", "Artist", "Song title", "start of the segment (min.sec)"]
    table(
        metadata / "metadata_2013.csv",
        [*first, "end of the segment (min.sec)", "Genre"],
        *([s.number, "x.mp3", f"{s.artist}\t", f"{s.title}\t", 0.3, 1.15, "Blues"] for s in songs if s.number <= 1000),
    )
    table(
        metadata / "metadata_2014.csv",
        ["Id", "Artist", "Album", "Track", "Genre", "segment start", "segment end", "Last.fm labels"],
        *([s.number, s.artist, "LP", s.title, "rock", 1, 2, "a", "b"] for s in songs if 1000 < s.number <= 2000),
    )
    table(
        metadata / "metadata_2015.csv",
        ["id", "Filename", "title", "artist", "album", "genre"],
        *([s.number, f"{s.number}.mp3", s.title, s.artist, "N", "pop", "folk"] for s in songs if s.number > 2000),
    )
    for song in songs:
        if song.audio is not None:
            audio(folder, f"MEMD_audio/{song.number}.mp3")
            (folder / f"MEMD_audio/{song.number}.mp3").write_bytes(song.audio)


def deam(folder: Path) -> None:
    curves = {"valence": {15000: -0.5, 15500: -0.25}, "arousal": {15000: 0.125, 15500: 0.5}}
    write_deam(
        folder,
        [
            Song(2, "The New Mystikal Troubadours", "Tonight A Lonely Century", (3.1, 0.94), (3.0, 0.63), curves),
            Song(10, "=HYPERLINK(1)", "<b>Rain</b>", (5.0, 1.2), (6.5, 0.9), {"valence": {15000: 0.75}}),
            Song(1001, "Band", "Song", (8.4, 0.3), (1.6, 0.6)),
            Song(2001, "Band", "Whole song", (4.2, 0.8), (5.8, 1.2), {d: {15000: 0.0, 60000: 1.0} for d in curves}),
        ],
    )


def emomusic(folder: Path) -> None:
    info = ["song_id", "file_name", "Artist", "Song title", "start of the segment (min.sec)"]
    info += ["end of the segment (min.sec)", "Genre", "Mediaeval 2013 set"]
    notes = folder / "annotations"
    table(
        notes / "songs_info.csv",
        info,
        [2, "a.mp3", "Bessie Smith\t", "Dyin' by the Hour\t", 0.3, 1.15, "Blues\t", "development"],
        [3, "b.mp3", "The Rat Pack", "Sunrise", 0.3, 1.15, "Blues", "evaluation"],
        [5, "c.mp3", "Zé!", "Noite", 0.3, 1.15, "Pop", "development"],
    )
    table(
        notes / "static_annotations.csv",
        ["song_id", "mean_arousal", "std_arousal", "mean_valence", "std_valence"],
        [2, 3, 0.63, 3.1, 0.94],
        [3, 3.3, 1.62, 3.5, 1.75],
        [5, 4.4, 1.5, 5.5, 1.63],
    )
    for dimension, values in ("valence", [0.1, 0.2]), ("arousal", [-0.3, -0.4]):
        times = ["sample_15000ms", "sample_15500ms"]
        table(notes / f"{dimension}_cont_average.csv", ["song_id", *times], *([n, *values] for n in (2, 3, 5)))
    audio(folder / "clips_45seconds", "2.mp3", "3.mp3", "5.mp3")


def pmemo(folder: Path) -> None:
    table(
        folder / "metadata.csv",
        ["musicId", "fileName", "title", "artist", "album", "duration", "chorus_start_time", "chorus_end_time"],
        [1, "1.mp3", "Good Drank", "2 Chainz", "Pretty Girls", 27.0, "02:35", "03:02"],
        [4, "4.mp3", "X (feat. Y)", "Future", "", 20.0, "00:10", "00:30"],
        [7, "7.mp3", "No annotations", "Someone", "", 20.0, "00:10", "00:30"],
    )
    notes = folder / "annotations"
    means = ["Arousal(mean)", "Valence(mean)"]
    table(notes / "static_annotations.csv", ["musicId", *means], [1, 0.4, 0.575], [4, 0.2625, 0.2875])
    spreads = ["Arousal(std)", "Valence(std)"]
    table(notes / "static_annotations_std.csv", ["musicId", *spreads], [1, 0.15, 0.16], [4, 0.153, 0.159])
    points = [[1, 15.5, 0.4, 0.6], [1, 15.0, 0.5, 0.55], [4, 15.5, 0.2, 0.3]]
    table(notes / "dynamic_annotations.csv", ["musicId", "frameTime", *means], *points)
    table(notes / "dynamic_annotations_std.csv", ["musicId", "frameTime", *spreads], *points)
    audio(folder / "chorus", "1.mp3", "4.mp3", "7.mp3")


def muse(folder: Path) -> None:
    header = ["lastfm_url", "track", "artist", "seeds", "number_of_emotion_tags", "valence_tags", "arousal_tags"]
    url = "https://www.last.fm/music/eminem/_/%2527till%2bi%2bcollapse"
    table(
        folder / "muse_v3.csv",
        [*header, "dominance_tags", "mbid", "spotify_id", "genre"],
        [url, "'Till I Collapse", "Eminem", "['aggressive']", 6, 4.55, 5.273125, 5.690625, "cab93def", "4xkO", "rap"],
        [url, "St. Anger", "Metallica", "['aggressive', \"devil's\"]", 8, 3.71, 5.833, 5.4275, "", "3fOc", "metal"],
        [url, "No tags", "Nobody", "[]", 0, "", "", "", "", "", ""],
    )


_SPOTIFY = ["3VGna0Rewe9Mzvrdycsyg2", "76JrvGv3AXciX58uSX1gOY", "0b9kzYFHbjuFHqJNiGsw5L"]


def musav(folder: Path) -> None:
    a, b, c = _SPOTIFY
    data = folder / "data"
    (data / "annotations").mkdir(parents=True)
    (data / "audio.chunk_000-006.songids").write_text("".join(f"{song}\n" for song in _SPOTIFY))
    first = {"tripletid": "1", "triplet_type": "genre_triplet--children's music", "pairid": f"{a}-{b}"}
    first |= {"agreement": "full-agreement", "higher_value": "b", "triplet_consistency": "consistent"}
    second = first | {"pairid": f"{a}-{c}", "higher_value": "ab", "agreement": "majority-agreement"}
    for dimension in ("valence", "arousal"):
        file = data / f"annotations/annotations.{dimension}.all.agreement.gt"
        file.write_text(f"{json.dumps(first)}\n{second!r}\n")
    audio(data / "audio_chunks", f"audio.001/3V/{a}.mp3", f"audio.001/76/{b}.mp3")


def eerola(folder: Path) -> None:
    names = ["Number", "valence", "energy", "tension", "anger", "fear", "happy", "sad", "tender", "TARGET", "", ""]
    table(
        folder / "mean_ratings_set1.csv",
        names,
        [1, 3.83, 5.33, 5.5, 1.83, 2.5, 1.33, 4.5, 2.17, "SAD", "", ""],
        [62, 7.83, 4, 1, 1, 1, 5.5, 2.25, 6.67, "TENDER", "", ""],
    )
    tracks = [[1, "Anger", "", "Oliver Twist", 8], [62, "Tender", "", "The English Patient", 12]]
    table(folder / "set1_tracklist.csv", ["Nro", "Emotion", "Level", "Album name", "Track"], *tracks)
    audio(folder / "Set1/Set1", "001.mp3", "062.mp3")


def vgmidi(folder: Path) -> None:
    def curve(*values: float) -> list[float]:
        return list(values)

    pieces = {
        "piece0": {
            "audio": "audio/x.wav",
            "duration": 30.5,
            "measures": 16,
            "midi": "Final Fantasy_PS1_Final Fantasy VII_Dr. Who's Theme.mid",
            "name": "Dr. Who's Theme",
        }
    }
    annotations = {
        "piece0_1": {"valence": curve(0.5, 0.7), "arousal": curve(-0.2, -0.2), "country": "US"},
        "piece0_2": {"valence": curve(0.2, 0.2), "arousal": curve(-0.4, -0.6), "country": "US"},
        "piece0_3": {"valence": curve(1.0), "arousal": curve(1.0), "country": "US"},
        "piece9_1": {"valence": curve(1.0), "arousal": curve(1.0), "country": "US"},
    }
    notes = folder / "labelled/annotations"
    notes.mkdir(parents=True)
    (notes / "vgmidi_raw_1.json").write_text(json.dumps({"pieces": pieces, "annotations": annotations}))
    other = {"piece3": {**pieces["piece0"], "midi": "midi/Mana_SNES_Secret of Mana_Crisis.mid", "name": "Crisis"}}
    one = {"piece3_1": {"valence": curve(-1, -0.5), "arousal": curve(0.25, 0.75)}}
    (notes / "vgmidi_raw_2.json").write_text(json.dumps({"pieces": other, "annotations": one}))
    audio(folder / "rendered", "Final Fantasy_PS1_Final Fantasy VII_Dr. Who's Theme.wav")


def panda4q(folder: Path) -> None:
    names = ["Song", "Artist", "Title", "Quadrant", "PQuad", "MoodsTotal", "Moods", "MoodsFoundStr", "MoodsStr"]
    moods = "Circular; Greasy"
    table(
        folder / "panda_dataset_taffc_metadata.csv",
        [*names, "MoodsStrSplit", "Genres", "GenresStr", "Sample", "SampleURL"],
        [
            "MT0000004637",
            "Charlie Poole",
            "Bulldog",
            "Q3",
            0.6,
            5,
            3,
            "greasy",
            moods,
            moods,
            1,
            "Country",
            1,
            "http://x",
        ],
        [
            "MT0000011357",
            "Dismember",
            "Reborn",
            "Q2",
            1,
            3,
            3,
            "negative",
            "Negative",
            "Negative",
            1,
            "Pop",
            1,
            "http://y",
        ],
    )
    audio(folder, "Q3/MT0000004637.mp3", "Q2/MT0000011357.mp3")


def mtg_jamendo_mood(folder: Path) -> None:
    header = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "PATH", "DURATION", "TAGS"]
    mood = "mood/theme---"
    parts = {
        "train": ["track_0000948", "artist_000087", "album_000149", "48/948.mp3", "212.7", f"{mood}background"],
        "validation": ["track_0002165", "artist_000474", "album_000298", "65/2165.mp3", "227.4", f"{mood}film"],
        "test": ["track_0000382", "artist_000020", "album_000046", "82/382.mp3", "211.1", f"{mood}sad", f"{mood}dark"],
    }
    for part, row in parts.items():
        file = folder / f"data/splits/split-0/autotagging_moodtheme-{part}.tsv"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("\t".join(header) + "\n" + "\t".join(row) + "\n")
    names = ["TRACK_ID", "ARTIST_ID", "ALBUM_ID", "TRACK_NAME", "ARTIST_NAME", "ALBUM_NAME", "RELEASEDATE", "URL"]
    known = ["track_0000948", "artist_000087", "album_000149", 'A "7 inch', "Tom", "LP", "2004", "http://jamendo.com"]
    (folder / "data/raw.meta.tsv").write_text("\t".join(names) + "\n" + "\t".join(known) + "\n")
    audio(folder, "48/948.mp3", "65/2165.low.mp3", "82/382.mp3")


def _collect(
    name: str,
    dimensions: Sequence[str] = (),
    scale: Sequence[float] = (),
    curve_scale: Sequence[float] = (),
    split: bool = False,
) -> dict[str, object]:
    """`Miniature.settings`."""
    settings: dict[str, object] = {"source": "manifest", "manifest": f"{name}.csv"}
    if dimensions:
        settings |= {"dimensions": list(dimensions), "scale": list(scale)}
    if curve_scale:
        settings |= {"curves": ["curves.csv"], "curve_scale": list(curve_scale)}
    return settings | ({"split": "given"} if split else {})


_VA = ("valence", "arousal")

MINIATURES = {
    "deam": Miniature(
        deam,
        4,
        {
            "deam-2": {
                "artist": "The New Mystikal Troubadours",
                "title": "Tonight A Lonely Century",
                "valence": 3.1,
                "se_valence": 0.94 / 3,  # nine degrees of freedom
                "arousal": 3.0,
                "se_arousal": 0.21,
                "split": "train",
                "path": "MEMD_audio/2.mp3",
            },
            "deam-2001": {"valence": 4.2, "se_valence": 0.4, "se_arousal": 0.6, "split": "test", "album": "N"},
            "deam-10": {"artist": "=HYPERLINK(1)", "title": "<b>Rain</b>"},
        },
        _collect("deam", _VA, (1, 9), (-1, 1), split=True),
        f"{SONG_LEVEL}/static_annotations_averaged_songs_1_2000.csv",
        " arousal_mean",
        {("deam-2", 15.5): (-0.25, 0.5), ("deam-10", 15.0): (0.75, None), ("deam-2001", 60.0): (1.0, 1.0)},
        5,
    ),
    "emomusic": Miniature(
        emomusic,
        3,
        {
            "emomusic-2": {
                "artist": "Bessie Smith",
                "title": "Dyin' by the Hour",
                "valence": 3.1,
                "arousal": 3,
                "se_arousal": 0.21,
            },
            "emomusic-3": {"split": "test", "valence": 3.5, "arousal": 3.3, "path": "clips_45seconds/3.mp3"},
        },
        _collect("emomusic", _VA, (1, 9), (-1, 1), split=True),
        "annotations/static_annotations.csv",
        "std_valence",
        {("emomusic-5", 15.5): (0.2, -0.4)},
        6,
    ),
    "pmemo": Miniature(
        pmemo,
        2,
        {
            "pmemo-1": {
                "artist": "2 Chainz",
                "album": "Pretty Girls",
                "valence": 0.575,
                "arousal": 0.4,
                "se_arousal": 0.05,
            },
            "pmemo-4": {"title": "X (feat. Y)", "valence": 0.2875, "se_valence": 0.053, "path": "chorus/4.mp3"},
        },
        _collect("pmemo", _VA, (0, 1), (0, 1)),
        "annotations/static_annotations_std.csv",
        "Valence(std)",
        {("pmemo-1", 15.0): (0.55, 0.5), ("pmemo-1", 15.5): (0.6, 0.4), ("pmemo-4", 15.5): (0.3, 0.2)},
        3,
    ),
    "muse": Miniature(
        muse,
        3,
        {
            "muse-1": {"artist": "Eminem", "title": "'Till I Collapse", "valence": 4.55, "dominance": 5.690625},
            "muse-2": {"tags": "aggressive; devil's", "arousal": 5.833, "spotify_id": "3fOc"},
            "muse-3": {"valence": None, "tags": ""},
        },
        _collect("muse", (*_VA, "dominance"), (1, 9)),
        "muse_v3.csv",
        "dominance_tags",
    ),
    "musav": Miniature(
        musav,
        3,
        {_SPOTIFY[0]: {"spotify_id": _SPOTIFY[0], "path": f"data/audio_chunks/audio.001/3V/{_SPOTIFY[0]}.mp3"}},
        _collect("musav"),
        "data/annotations/annotations.arousal.all.agreement.gt",
        None,
    ),
    "eerola": Miniature(
        eerola,
        2,
        {
            "eerola-001": {
                "valence": 3.83,
                "tension": 5.5,
                "tender": 2.17,
                "album": "Oliver Twist",
                "path": "Set1/Set1/001.mp3",
            },
            "eerola-062": {"valence": 7.83, "energy": 4, "happy": 5.5, "album": "The English Patient"},
        },
        _collect("eerola", ("valence", "energy", "tension", "anger", "fear", "happy", "sad", "tender"), (1, 9)),
        "mean_ratings_set1.csv",
        "tension",
    ),
    "vgmidi": Miniature(
        vgmidi,
        2,
        {
            "vgmidi-1-piece0": {
                "artist": "Final Fantasy",
                "title": "Dr. Who's Theme",
                "album": "Final Fantasy VII",
                "valence": 0.4,  # of two raters, 0.6 and 0.2
                "se_valence": 0.2,
                "arousal": -0.35,
                "se_arousal": 0.15,
                "path": "rendered/Final Fantasy_PS1_Final Fantasy VII_Dr. Who's Theme.wav",
            },
            "vgmidi-2-piece3": {"valence": -0.75, "arousal": 0.5, "se_valence": None, "artist": "Mana"},
        },
        _collect("vgmidi", _VA, (-1, 1)),
        "labelled/annotations/vgmidi_raw_2.json",
        None,
    ),
    "panda4q": Miniature(
        panda4q,
        2,
        {
            "MT0000004637": {"artist": "Charlie Poole", "tags": "Circular; Greasy", "path": "Q3/MT0000004637.mp3"},
            "MT0000011357": {"title": "Reborn", "tags": "Negative"},
        },
        _collect("panda4q"),
        "panda_dataset_taffc_metadata.csv",
        "MoodsStrSplit",
    ),
    "mtg-jamendo-mood": Miniature(
        mtg_jamendo_mood,
        3,
        {
            "track_0000382": {"tags": "sad; dark", "split": "test", "artist": "artist_000020", "path": "82/382.mp3"},
            "track_0000948": {"artist": "Tom", "title": 'A "7 inch', "split": "train", "duration_s": 212.7},
            "track_0002165": {"split": "valid", "path": "65/2165.low.mp3"},
        },
        _collect("mtg-jamendo-mood", split=True),
        "data/splits/split-0/autotagging_moodtheme-test.tsv",
        "TAGS",
    ),
}
