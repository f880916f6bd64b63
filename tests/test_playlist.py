"""Playlists: what is in them, and that a player finds the files from where the playlist lies."""

from __future__ import annotations

import ctypes
import itertools
import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TextIO
from urllib.parse import unquote, urlparse

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import sounds
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mer_ray.cli import main
from mer_ray.io.address import to_uri
from mer_ray.io.schemas import DIMENSIONS, SCHEMAS
from mer_ray.scoring import playlist
from mer_ray.scoring.playlist import choose, duration, entry, m3u8, plain_entry, sure

SCHEMA = SCHEMAS["scores"]
OTHERS = {"valence": "tension", "arousal": "energy"}


def table(rows: list[tuple[float, float, str]], width: float = 0.2, **changes: object) -> pa.Table:
    """Rows of (valence, arousal, uri), with intervals of that width."""
    out = []
    for i, (valence, arousal, uri) in enumerate(rows):
        vad = dict(zip(DIMENSIONS, (valence, arousal, 0.5), strict=True))
        ends = {f"lower_{d}": max(0.0, v - width / 2) for d, v in vad.items()}
        ends |= {f"upper_{d}": min(1.0, v + width / 2) for d, v in vad.items()}
        own = {"track_id": f"{i:016x}", "artist": "A", "title": f"T{i}", "uri": uri, "duration_s": 61.7, "model": "m"}
        out.append({**own, **vad, **ends, "curve": [], "curve_hop_s": 1.0, **changes})
    return pa.Table.from_pylist(out, schema=SCHEMA)


def typed(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(main, [str(a) for a in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.stdout, result.stderr


def test_the_format():
    rows = table([(0.1, 0.9, "/music/a.mp3"), (0.1, 0.9, "https://x/b.mp3?k=%20")])
    assert m3u8(rows, [1, 0], Path("/lists")) == (
        "#EXTM3U\n#EXTINF:62,A - T1\nhttps://x/b.mp3?k=%20\n#EXTINF:62,A - T0\n../music/a.mp3\n"
    )
    odd = table([(0.1, 0.9, "a.mp3")], duration_s=None, artist="", title="line\r\nbreak, #EXTINF:9\u2028x")
    assert m3u8(odd, [0], Path.cwd()) == "#EXTM3U\n#EXTINF:-1,line break, #EXTINF:9 x\na.mp3\n"


@pytest.mark.parametrize(
    ("uri", "line"),
    [
        ("/lists/sad/a.mp3", "sad/a.mp3"),
        ("/lists/#1.mp3", "file:///lists/%231.mp3"),
        ("/lists/100%25.mp3", "file:///lists/100%2525.mp3"),
        ("file:///lists/100%25%20%C3%A4.mp3", "file:///lists/100%25%20%C3%A4.mp3"),
        ("file:///lists/%20%C3%A4.mp3", "file:///lists/%20%C3%A4.mp3"),
        ("file:///lists/a%20%C3%A4.mp3", "a ä.mp3"),
        ("/m/who?.mp3", "file:///m/who%3F.mp3"),
        ("/lists/AC:DC/a.mp3", "file:///lists/AC%3ADC/a.mp3"),
        ("/lists/AC/D:C.mp3", "AC/D:C.mp3"),
        ("/lists/C:\\a.mp3", "file:///lists/C%3A%5Ca.mp3"),
        ("/lists/http:x.mp3", "file:///lists/http%3Ax.mp3"),
        ("file:///m/%E9.mp3", "file:///m/%E9.mp3"),
        ("/m/two\nlines.mp3", "file:///m/two%0Alines.mp3"),
        ("/lists/ a.mp3", "file:///lists/%20a.mp3"),
        ("s3://bucket/a b.mp3", "s3://bucket/a b.mp3"),
        ("s3://bucket/a\n#EXTM3U", "s3://bucket/a%0A#EXTM3U"),
        ("https://x/a:b.mp3?k=%20#t", "https://x/a:b.mp3?k=%20#t"),
    ],
)
def test_an_address_as_a_line(uri, line):
    assert entry(uri, Path("/lists")) == line


def test_absolute_paths():
    assert entry("/music/a.mp3", Path("/lists"), absolute=True) == "/music/a.mp3"
    assert entry("a.mp3", Path("/lists"), absolute=True) == str(Path.cwd() / "a.mp3")


def test_a_playlist_in_a_linked_folder_stays_within_it(tmp_path):
    """Music is a link to disk/music, which is scored by either name; so may the playlist's folder be named."""
    (tmp_path / "disk" / "music" / "a").mkdir(parents=True)
    (tmp_path / "disk" / "music" / "a" / "b.mp3").touch()
    (tmp_path / "Music").symlink_to("disk/music")
    roots = [tmp_path / "Music", tmp_path / "disk" / "music"]
    for file, folder in itertools.product([root / "a" / "b.mp3" for root in roots], roots):
        assert entry(to_uri(file), folder) == plain_entry(to_uri(file), folder) == "a/b.mp3"
        for beside in (folder / "a", folder / "..", tmp_path, tmp_path / "disk"):
            assert (beside.resolve() / entry(to_uri(file), beside)).exists()
    (tmp_path / "lists").mkdir()
    (tmp_path / "Music" / "lists").symlink_to("../../lists")
    line = entry(to_uri(roots[0] / "a" / "b.mp3"), roots[0] / "lists")  # up from there leads elsewhere
    assert os.path.exists(os.path.join(tmp_path / "lists", line))  # noqa: PTH110, PTH118


@given(st.binary(min_size=1, max_size=12).filter(lambda b: not {0, 47} & set(b) and b not in (b".", b"..")))
def test_any_file_name_is_found_again_from_its_line(name):
    path = Path("/music") / os.fsdecode(name)
    line = entry(to_uri(path), Path("/lists"))
    assert line.splitlines() == [line]
    assert line.startswith("file://") or not (set(line) & set("#?%") or ":" in line.split("/")[0])
    found = unquote(urlparse(line).path, errors="surrogateescape") if line.startswith("file://") else f"/lists/{line}"
    assert os.path.normpath(found) == str(path)


def test_sure_asks_for_every_corner_of_the_intervals():
    rows = table([(0.2, 0.8, "a"), (0.2, 0.65, "b"), (0.32, 0.8, "c")])
    assert sure("valence < 0.35 and arousal > 0.6", rows).tolist() == [True, False, False]
    assert choose(rows, "valence < 0.35 and arousal > 0.6").tolist() == [0, 1, 2]
    assert sure("arousal - valence > 0.5", rows).tolist() == [False, False, False]
    assert sure("arousal - valence > 0.3", rows).tolist() == [True, False, False]
    assert choose(rows, "valence < 0.35", "-arousal", certain=True).tolist() == [0, 1]


def test_sure_asks_for_the_dimensions_that_the_scores_have():
    rows = table([(0.2, 0.8, "a"), (0.2, 0.65, "b"), (0.32, 0.8, "c")])
    plane = rows.select([n for n in SCHEMA.names if "dominance" not in n])
    assert sure("valence < 0.35 and arousal > 0.6", plane).tolist() == [True, False, False]
    one = plane.select([n for n in plane.column_names if "valence" not in n])
    assert sure("arousal > 0.6", one).tolist() == [True, False, True]
    assert sure("arousal_percentile > 50", one).tolist() == [False, False, False]
    emotions = (
        "anger",
        "fear",
        "happy",
        "sad",
        "tender",
        "tension",
        "energy",
        "wonder",
        "power",
        "peace",
        "awe",
        "joy",
    )
    values = {f"{end}{d}": [0.5 + by] * 3 for d in emotions for end, by in (("", 0), ("lower_", -0.1), ("upper_", 0.1))}
    many = pa.table({"title": ["a", "b", "c"], **values})
    assert sure("anger < 0.7 and joy > 0.3", many).all()  # four corners, not 2,048
    assert not sure("anger < 0.7 and joy > 0.45", many).any()


def test_a_playlist_by_dimensions_that_the_scores_lack_is_one_line(tmp_path):
    rows = table([(0.1 + 0.05 * i, 0.9 - 0.05 * i, f"{i}.mp3") for i in range(12)])
    names = {f"{end}{d}": f"{end}{own}" for end in ("", "lower_", "upper_") for d, own in OTHERS.items()}
    rows = rows.select([n for n in SCHEMA.names if "dominance" not in n])
    pq.write_table(rows.rename_columns([names.get(n, n) for n in rows.column_names]), tmp_path / "s.parquet")
    query = ["playlist", tmp_path / "s.parquet"]
    for options in (["--where", "valence < 0.3"], ["--sort", "-valence"], ["--where", "valence < 0.3", "--sure"]):
        code, out, err = typed(*query, *options)
        assert (code, out) == (2, "")
        assert "these scores have no valence: their dimensions are: tension, energy" in err
        assert len(err.splitlines()) == 1
    assert "mood follows from valence and arousal" in typed(*query, "--where", "mood = 'calm'")[2]
    code, out, _ = typed(*query, "--where", "tension_percentile < 25 and energy > 0.5", "--sort", "-tension")
    assert code == 0
    assert out.split()[4:7] == ["Tension", "Energy", "Time"]
    assert [line.split()[3] for line in out.splitlines() if "A – T" in line] == ["T2", "T1", "T0"]
    assert "no track of 12 fulfils tension > 1;" not in typed(*query, "--where", "tension > 1")[1]
    assert "no track of 12 fulfils tension > 1" in typed(*query, "--where", "tension > 1")[1]


def test_a_playlist_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lists").mkdir()
    rows = [(0.1, 0.7, "music/b.mp3"), (0.2, 0.9, (tmp_path / "music" / "ä b.mp3").as_uri()), (0.2, 0.8, "")]
    pq.write_table(table([*rows, (0.9, 0.9, "music/glad.mp3")]), "s.parquet")
    query = ["playlist", "s.parquet", "--where", "valence < 0.35 and arousal > 0.6"]
    code, out, err = typed(*query, "--sort", "-arousal", "--out", "lists/sad.m3u8")
    assert (code, err) == (0, "")
    assert "lists/sad.m3u8: 2 of 4 tracks, 2 min" in out
    assert "left out, as the table has no file for them: 1" in out
    written = (tmp_path / "lists" / "sad.m3u8").read_text(encoding="utf-8")
    assert written == "#EXTM3U\n#EXTINF:62,A - T1\n../music/ä b.mp3\n#EXTINF:62,A - T0\n../music/b.mp3\n"
    assert [p.name for p in (tmp_path / "lists").iterdir()] == ["sad.m3u8"]
    assert "the first 1 of 3 that match, of 4 tracks" in typed(*query, "-n", 1)[1]
    assert typed(*query, "-n", 1, "--absolute", "--out", "one.m3u8")[0] == 0
    assert (tmp_path / "one.m3u8").read_text().splitlines()[2:] == [str(tmp_path / "music" / "b.mp3")]
    code, out, _ = typed(*query, "--sort", "arousal")
    assert code == 0
    assert [line.split()[3] for line in out.splitlines() if "A – T" in line] == ["T0", "T2", "T1"]
    assert "3 of 4 tracks" in out


def test_files_that_are_gone_are_counted(tmp_path):
    there = tmp_path / "a b.mp3"
    there.touch()
    rows = table([(0.2, 0.9, str(there)), (0.3, 0.9, str(tmp_path / "gone.mp3")), (0.4, 0.9, "https://x/b.mp3")])
    pq.write_table(rows, tmp_path / "s.parquet")
    for name in ("list.m3u8", "list.m3u"):
        code, out, err = typed("playlist", tmp_path / "s.parquet", "--out", tmp_path / name)
        assert (code, "gone since they were scored: 1 of these files\n" in out) == (0, True), out + err
        only = typed("playlist", tmp_path / "s.parquet", "--out", tmp_path / name, "--where", "valence != 0.3")
        assert "since they were scored" not in only[1]


def test_nothing_matches_and_nothing_is_written(tmp_path):
    pq.write_table(table([(0.3, 0.7, "a.mp3")]), tmp_path / "s.parquet")
    target = tmp_path / "none.m3u8"
    query = ["playlist", tmp_path / "s.parquet", "--out", target, "--where"]
    code, out, err = typed(*query, "valence < 0.1")
    assert (code, err) == (0, "")
    assert out == f"no track of 1 fulfils valence < 0.1; {target} is not written\n"
    code, out, err = typed(*query, "valence < 0.35", "--sure")
    assert (code, err) == (0, "")
    assert "for sure (1 do by their predictions, without --sure)" in out
    assert not target.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--out", "x.txt"], "must end in .m3u8"),
        (["--out", "gone/x.m3u8"], "gone for --out does not exist"),
        (["--where", "valnce < 1"], "did you mean valence?"),
        (["--sort", "-modl"], "there is no column modl: did you mean model?"),
        (["--sort", "valence < 1"], "a number or text is needed"),
        (["--sort", "arousal desc"], "-arousal for the highest first"),
        (["--where", "true; drop table scores"], "'true; drop table scores': syntax error"),
    ],
)
def test_a_slip_is_one_line(tmp_path, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    pq.write_table(table([(0.3, 0.7, "a.mp3")]), "s.parquet")
    code, out, err = typed("playlist", "s.parquet", *options)
    assert (code, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_a_length_in_words():
    assert [duration(s) for s in (45, 720, 12_000, 360_000)] == ["45 s", "12 min", "3 h 20 min", "100 h"]


NAMES = [
    *(f"a{c}b.wav" for c in "#?%:[]&;'\"<>|\\^~"),
    "100%41.wav",
    "a\nb.wav",
    " a.wav",
    "C:\\x.wav",
    "http:x.wav",
    "é.wav",
]


@pytest.mark.parametrize("absolute", [False, True])
def test_an_m3u_names_files_without_escapes(tmp_path, absolute):
    """As servers read it that know no URI: a line is a path, beside the playlist where it is relative."""
    (tmp_path / "lists").mkdir()
    uris = [to_uri(tmp_path / "lists" / name) for name in ("#1.wav", "sub/#2.wav", *NAMES)]
    pq.write_table(table([(0.1, 0.9, uri) for uri in uris]), tmp_path / "s.parquet")
    target = tmp_path / "lists" / "l.m3u"
    code, out, _ = typed("playlist", tmp_path / "s.parquet", "--out", target, *(["--absolute"] if absolute else []))
    assert code == 0
    lost = {"a\nb.wav", " a.wav"}
    assert f"or one whose name no line can hold: {len(lost)}" in out
    lines = [line for line in target.read_text(encoding="utf-8").split("\n") if line and not line.startswith("#")]
    named = [os.path.normpath(target.parent / line) for line in lines]
    assert named == [str(target.parent / n) for n in ("#1.wav", "sub/#2.wav", *NAMES) if n not in lost]


@pytest.mark.parametrize("absolute", [False, True])
def test_mpv_opens_every_name(tmp_path, absolute):
    if shutil.which("mpv") is None:
        pytest.skip("mpv is not installed")
    lines = ["#EXTM3U"]
    for name in NAMES:
        sounds.write(tmp_path / "music" / name, sounds.tone(seconds=0.05))
        lines.append(entry(to_uri(tmp_path / "music" / name), tmp_path, absolute))
    (tmp_path / "l.m3u8").write_text("\n".join(lines), encoding="utf-8")
    player = ["mpv", "--no-config", "--ao=null", "--vo=null", f"--playlist={tmp_path / 'l.m3u8'}"]
    done = subprocess.run(player, capture_output=True, text=True, timeout=240)
    assert (done.returncode, done.stdout.count("(+) Audio")) == (0, len(NAMES)), done.stdout + done.stderr


@pytest.mark.parametrize("absolute", [False, True])
def test_vlc_reads_every_name(tmp_path, absolute):
    try:
        vlc = ctypes.CDLL("libvlc.so.5")
    except OSError:
        pytest.skip("libVLC is not installed")
    for call in "new", "media_new_path", "media_subitems", "media_list_item_at_index":
        getattr(vlc, f"libvlc_{call}").restype = ctypes.c_void_p
    vlc.libvlc_media_get_mrl.restype = ctypes.c_char_p
    lines = [entry(to_uri(tmp_path / "music" / name), tmp_path, absolute) for name in NAMES]
    for name in NAMES:
        sounds.write(tmp_path / "music" / name, sounds.tone(seconds=0.05))
    (tmp_path / "l.m3u8").write_text("\n".join(["#EXTM3U", *lines, ""]), encoding="utf-8")
    player = ctypes.c_void_p(vlc.libvlc_new(1, (ctypes.c_char_p * 1)(b"--quiet")))
    media = ctypes.c_void_p(vlc.libvlc_media_new_path(player, os.fsencode(tmp_path / "l.m3u8")))
    vlc.libvlc_media_parse_with_options(media, 1, 120_000)  # ms
    give_up = time.monotonic() + 150
    while not vlc.libvlc_media_get_parsed_status(media) and time.monotonic() < give_up:
        time.sleep(0.02)
    found = ctypes.c_void_p(vlc.libvlc_media_subitems(media))
    items = [vlc.libvlc_media_list_item_at_index(found, i) for i in range(vlc.libvlc_media_list_count(found))]
    paths = [unquote(urlparse(vlc.libvlc_media_get_mrl(ctypes.c_void_p(i)).decode()).path) for i in items]
    assert [os.path.normpath(p) for p in paths] == [str(tmp_path / "music" / name) for name in NAMES]


def test_mpd_lists_every_name_that_it_knows(tmp_path):
    if shutil.which("mpd") is None:
        pytest.skip("mpd is not installed")
    music, home = tmp_path / "music", tmp_path / "home"
    known = [
        "#1 hit.wav",
        "100% %41?.wav",
        "a:b.wav",
        "http:x.wav",
        "it's, Träume.wav",
        "sub/Ünï 🎻.wav",
        "tab\tin.wav",
    ]
    names = [*known, "line\nbreak.wav", os.fsdecode(b"caf\xe9.wav"), " lead.wav"]
    rows = []
    for i, name in enumerate(names):
        path = sounds.write(music / name, sounds.tone(seconds=0.05))
        row = {"track_id": str(i), "artist": "#EXTM3U\n", "title": "x\n,", "uri": to_uri(path), "duration_s": 1.0}
        row |= {"model": "light", "curve": [], "curve_hop_s": 1.0}
        rows.append(row | {end + d: 0.5 for end in ("", "lower_", "upper_") for d in DIMENSIONS})
    pq.write_table(pa.Table.from_pylist(rows, schema=SCHEMA), tmp_path / "s.parquet")
    (home / "stored").mkdir(parents=True)
    lines = playlist.run(str(tmp_path / "s.parquet"), output=str(music / "relative.m3u"))
    assert f"{len(known)} of {len(names)} tracks" in lines[0]
    assert "3" in lines[1]
    playlist.run(str(tmp_path / "s.parquet"), output=str(home / "stored" / "absolute.m3u"), absolute=True)
    with tempfile.TemporaryDirectory() as short:  # a socket's name has 107 bytes at most
        listens = f"{short}/mpd"
        (home / "mpd.conf").write_text(
            f'music_directory "{music}"\nplaylist_directory "{home}/stored"\ndb_file "{home}/db"\n'
            f'bind_to_address "{listens}"\naudio_output {{\ntype "null"\nname "null"\n}}\n'
        )
        process = subprocess.Popen(
            ["mpd", "--no-daemon", "--stderr", str(home / "mpd.conf")], stderr=subprocess.DEVNULL
        )
        try:
            give_up = time.monotonic() + 150
            while not Path(listens).exists() and time.monotonic() < give_up:
                time.sleep(0.02)
            with socket.socket(socket.AF_UNIX) as server:
                server.settimeout(150)
                server.connect(listens)
                with server.makefile("rw", encoding="utf-8", newline="\n") as talk:
                    assert talk.readline().startswith("OK MPD")
                    asked(talk, "update")
                    while any(line.startswith("updating_db") for line in asked(talk, "status")):
                        time.sleep(0.02)
                    found = [sorted(asked(talk, f"listplaylist {n}")) for n in ("relative.m3u", "absolute")]
        finally:
            process.terminate()
            process.wait(120)
    assert found == [sorted(f"file: {name}" for name in known)] * 2


def asked(talk: TextIO, command: str) -> list[str]:
    """The lines of MPD's answer."""
    talk.write(command + "\n")
    talk.flush()
    lines = []
    while (line := talk.readline().removesuffix("\n")) != "OK":
        assert line, "MPD has closed the connection"
        assert not line.startswith("ACK"), line
        lines.append(line)
    return lines
