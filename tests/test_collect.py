"""The stage ``collect``: which tracks there are, and what becomes of them when their source changes."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from conftest import write_tunes
from parts import sets

from mer_ray.config import load
from mer_ray.errors import WorkspaceError
from mer_ray.io.tables import Workspace
from mer_ray.stages import collect

CASES = Path(__file__).parents[2] / "shared" / "cases" / "manifests"
ROWS = "path,artist,title,album,valence,arousal,dominance\n"
MFCC = ("extract.features=mfcc", "label.report=false")


def write(path: Path, *rows: str, header: str = ROWS) -> Path:
    path.write_text(header + "\n".join(rows) + "\n", encoding="utf-8")
    return path


def tracks(workspace: object, *columns: str) -> list[tuple]:
    rows = Workspace(workspace).read("tracks").sort_by("title").to_pylist()
    return [tuple(row[c] for c in columns) for row in rows]


# writing that fails ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [WorkspaceError("the disk is full", "make room"), KeyboardInterrupt()])
def test_a_run_that_breaks_off_while_writing_is_made_good_by_the_next(tmp_path, monkeypatch, error):
    n = 2 * collect.changes.BATCH
    manifest = tmp_path / "tracks.csv"
    rows = [f"{i}.wav,Artist,Title {i}" for i in range(n)] + ["0.wav,Artist,Title 0"]
    manifest.write_text("\n".join(["path,artist,title", *rows]))
    config = load(None, [f"collect.manifest={manifest}"])
    workspace, append, written = Workspace(tmp_path / "w"), Workspace.append, []

    def broken(self, table, *arguments):
        if table == "tracks" and len(written) == 1:
            written.append("broken off")
            raise error
        written.append(table)
        return append(self, table, *arguments)

    monkeypatch.setattr(Workspace, "append", lambda *a: broken(*a) if a[1] == "tracks" else append(*a))
    with pytest.raises(type(error)):
        collect.run(config, workspace)
    summary = collect.run(config, workspace)
    assert len(workspace.ids("tracks")) == summary.made + summary.done_before == n
    assert workspace.reasons("collect") == {"duplicate": 1}


# which tracks there are --------------------------------------------------------------------------------------------


def test_three_main_titles_are_three_tracks(tmp_path, mer_ray):
    albums = ("Star Wars", "Jaws", "E.T.")
    rows = [f"{i}.wav,John Williams,Main Title,{album},0.5,0.5,0.{i}" for i, album in enumerate(albums)]
    manifest = write(tmp_path / "m.csv", *rows)
    assert mer_ray("collect", "--workspace", tmp_path / "w", "--set", f"collect.manifest={manifest}")[0] == 0
    assert sorted(tracks(tmp_path / "w", "album")) == [("E.T.",), ("Jaws",), ("Star Wars",)]
    assert Workspace(tmp_path / "w").failures() == []


@pytest.mark.parametrize(
    ("one", "other"),
    [("はは", "ばば"), ("ばば", "ぱぱ"), ("Мой", "Мои"), ("한국", "한구")],
    ids=["h", "p", "m", "k"],
)
def test_marks_that_make_another_letter_make_another_track(tmp_path, mer_ray, one, other):
    manifest = write(tmp_path / "m.csv", f"1.wav,A,{one},,1,1,1", f"1.wav,A,{other},,0,0,0")
    assert mer_ray("collect", "--workspace", tmp_path / "w", "--set", f"collect.manifest={manifest}")[0] == 0
    assert sorted(tracks(tmp_path / "w", "title")) == sorted([(one,), (other,)])


def test_two_files_of_one_name_are_two_tracks_in_any_order(tmp_path, mer_ray):
    rows = ["a/1.wav,Band,Song,,0.2,0.3,0.4", "a/2.wav,Band,Song,,0.8,0.7,0.6", "a/3.wav,Band,Other,,0.5,0.5,0.5"]
    found = []
    for name, order in (("w1", rows), ("w2", rows[::-1])):
        manifest = write(tmp_path / f"{name}.csv", *order)
        assert mer_ray("collect", "--workspace", tmp_path / name, "--set", f"collect.manifest={manifest}")[0] == 0
        found.append(sorted(tracks(tmp_path / name, "track_id", "uri", "ratings")))
    assert len(found[0]) == 3
    assert [i for i, *_ in found[0]] == [i for i, *_ in found[1]]
    assert [g for *_, g in found[0]] == [g for *_, g in found[1]]


def test_a_row_that_repeats_another_is_a_failure_that_names_both(tmp_path, mer_ray):
    manifest = write(tmp_path / "m.csv", "1.wav,A,B,C,0,0,0", "1.wav,a,b,c,1,1,1")
    assert mer_ray("collect", "--workspace", tmp_path / "w", "--set", f"collect.manifest={manifest}")[0] == 0
    (failed,) = Workspace(tmp_path / "w").failures()
    assert failed["reason"] == "other_label"
    assert "same artist, title, album and file" in failed["message"]
    assert failed["message"].count("1.wav") == 2


def test_untagged_files_of_the_same_bytes_are_called_that(tmp_path, mer_ray):
    (tune,) = write_tunes(tmp_path / "music", 1)
    shutil.copy(tune, tmp_path / "music" / "copy.flac")
    assert mer_ray("collect", "--workspace", tmp_path / "w", "--set", f"collect.folder={tmp_path / 'music'}")[0] == 0
    (failed,) = Workspace(tmp_path / "w").failures()
    assert (failed["reason"], "the same bytes as" in failed["message"]) == ("duplicate", True)
    assert "artist" not in failed["message"]


def test_the_users_own_ids_are_in_every_table(tmp_path, mer_ray):
    write_tunes(tmp_path / "music", 2)
    header = f"clip_id,{ROWS}"
    rows = [f"clip-{i},music/tune00{i}.flac,John Williams,Main Title,,0.5,0.5,0.{i}" for i in range(2)]
    manifest = write(tmp_path / "m.csv", *rows, header=header)
    workspace = tmp_path / "w"
    own = [
        *sets(f"collect.manifest={manifest}", "extract.features=mfcc", "label.report=false"),
        "--workspace",
        workspace,
    ]
    for stage in ("collect", "label", "acquire", "extract"):
        code, out, err = mer_ray(stage, *own)
        assert code == 0, out + err
    for table in ("tracks", "labels", "audio", "features/mfcc"):
        assert set(Workspace(workspace).ids(table)) == {"clip-0", "clip-1"}, table
    out = tmp_path / "s.parquet"
    assert mer_ray("score", manifest, "--out", out)[0] == 0
    import pyarrow.parquet as pq

    assert sorted(pq.read_table(out)["track_id"].to_pylist()) == ["clip-0", "clip-1"]


def test_an_id_that_comes_twice_is_a_failure(tmp_path, mer_ray):
    manifest = write(tmp_path / "m.csv", "7,1.wav,A,B,,0,0,0", "7,2.wav,C,D,,1,1,1", header=f"track_id,{ROWS}")
    assert mer_ray("collect", "--workspace", tmp_path / "w", "--set", f"collect.manifest={manifest}")[0] == 0
    (failed,) = Workspace(tmp_path / "w").failures()
    assert (failed["reason"], "same track_id 7" in failed["message"]) == ("duplicate", True)
    assert tracks(tmp_path / "w", "track_id", "title") == [("7", "B")]


def test_a_row_a_rater_is_told_as_other_labels_of_the_same_track(tmp_path, mer_ray):
    rows = ["1,ann,0.1,0.5", "1,bob,0.9,0.5", "2,ann,0.5,0.5", "2,bob,0.5,0.5"]
    manifest = write(tmp_path / "m.csv", *rows, header="song_id,rater,valence,arousal\n")
    assert mer_ray("collect", "--workspace", tmp_path / "w", "--set", f"collect.manifest={manifest}")[0] == 0
    found = {f["reason"]: f["message"] for f in Workspace(tmp_path / "w").failures()}
    assert found.keys() == {"other_label", "duplicate"}
    assert found["other_label"].endswith("which was kept, with another label: valence 0.9, not 0.1 (in 0..1)")
    assert "another label" not in found["duplicate"]


# several manifests -------------------------------------------------------------------------------------------------


def test_rated_and_tagged_tracks_of_two_manifests_are_one_catalog(tmp_path, mer_ray, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(
        Path("deam.csv"),
        "1,a.wav,A,One,3,9,",
        "2,b.wav,A,Two,,,sad",
        header="id,path,artist,title,valence,arousal,tags\n",
    )
    (tmp_path / "tagged").mkdir()
    rows = ["x,c.wav,B,Three,sad,mine", "y,d.wav,B,Four,happy,", "1,e.wav,B,Five,sad,"]
    write(Path("tagged/moods.csv"), *rows, header="id,path,artist,title,tags,dataset\n")
    Path("l.txt").write_text("sad\t0.1\t0.2\t0.3\nhappy\t0.9\t0.8\t0.7\n")
    own = ["--workspace", "w", *sets("collect.manifest=deam.csv,tagged/moods.csv")]
    own += sets("collect.scale={deam: [1, 9], moods.csv: [0, 1]}")
    code, out, err = mer_ray("collect", *own)
    assert code == 0, out + err
    assert "deam.csv: labels on the scale 1..9: 1 of 2 rows have a label" in out
    found = {i: (sets_, uri) for i, sets_, uri in tracks("w", "track_id", "dataset", "uri")}
    assert {i: d for i, (d, _) in found.items()} == {"1": "deam", "2": "deam", "x": "mine", "y": "moods"}
    assert found["y"][1] == f"{tmp_path}/tagged/d.wav"
    (failed,) = Workspace("w").failures()
    assert (failed["reason"], "same track_id 1" in failed["message"]) == ("duplicate", True)
    monkeypatch.chdir(tmp_path / "tagged")  # what the workspace has recorded are absolute paths
    code, out, _ = mer_ray("collect", "--workspace", "../w")
    assert (code, "nothing new" in out) == (0, True)
    lexicon = ["--workspace", "../w", *sets("label.lexicon=../l.txt", "label.report=false")]
    code, out, err = mer_ray("label", *lexicon)
    assert code == 0, out + err
    labels = {r["track_id"]: r for r in Workspace("../w").read("labels").to_pylist()}
    values = {i: [r[d] for d in ("valence", "arousal", "dominance")] for i, r in labels.items()}
    assert values == {"1": [0.25, 1.0, None], "2": [0.1, 0.2, 0.3], "x": [0.1, 0.2, 0.3], "y": [0.9, 0.8, 0.7]}
    assert {i: r["lexicon"] == "manifest" for i, r in labels.items()} == {"1": True, "2": False, "x": False, "y": False}
    for said in ("3 tracks bring no label: theirs are made from tags", "lack dimensions (dominance 1)"):
        assert said in out


def test_dimensions_of_a_workspace_stay_and_default_ones_need_not_be_recorded(tmp_path, mer_ray):
    manifest = write(tmp_path / "m.csv", "a.wav,A,One,0.1,0.2", header="path,artist,title,valence,tension\n")
    own = ["--workspace", tmp_path / "w", *sets(f"collect.manifest={manifest}")]
    assert mer_ray("collect", *own)[0] == 0
    assert "dimensions" not in Workspace(tmp_path / "w").read_json("settings", "collect.json")["settings"]
    assert mer_ray("collect", *own, *sets("collect.dimensions=valence,arousal,dominance"))[0] == 0
    other = sets("collect.dimensions=valence,tension")
    code, _, err = mer_ray("collect", *own, *other)
    assert (code, "collect.dimensions was None, now ['valence', 'tension']" in err) == (2, True)
    own[1] = tmp_path / "other"
    assert mer_ray("collect", *own, *other)[0] == 0
    code, _, err = mer_ray("label", *own)  # which names the source, but not its dimensions
    assert (code, "set collect.dimensions=valence,tension" in err) == (2, True)
    assert mer_ray("label", "--workspace", own[1], *sets("label.report=false"))[0] == 0
    assert Workspace(own[1]).dimensions("labels") == ("valence", "tension")


# whose tracks they are ---------------------------------------------------------------------------------------------


@pytest.fixture
def mine(tmp_path, mer_ray) -> Path:
    """The workspace of a manifest with tags, collected; its folder is the current one."""
    write_tunes(tmp_path / "music", 2)
    rows = ["music/tune000.flac,A,One,sad:80", "music/tune001.flac,B,Two,happy"]
    write(tmp_path / "m.csv", *rows, header="path,artist,title,tags\n")
    own = ["--workspace", tmp_path / "w", "--set", f"collect.manifest={tmp_path / 'm.csv'}"]
    code, out, err = mer_ray("collect", *own)
    assert code == 0, out + err
    return tmp_path / "w"


def test_a_manifest_implies_its_source(mine):
    assert tracks(mine, "title", "source") == [("One", "manifest"), ("Two", "manifest")]


def test_real_tracks_never_meet_the_demos_lexicon(mine, mer_ray):
    code, _, err = mer_ray("label", "--workspace", mine)
    assert (code, "label.lexicon is not set" in err) == (2, True)
    code, _, err = mer_ray("label", "--workspace", mine, "--set", "label.lexicon=demo")
    assert (code, "not for research" in err) == (2, True)
    assert not Workspace(mine).has("labels")


def test_real_tracks_never_meet_random_weights(mine, mer_ray):
    assert mer_ray("acquire", "--workspace", mine)[0] == 0
    for weights in ("auto", "random"):
        code, _, err = mer_ray(
            *("extract", "--workspace", mine, "--set", "extract.features=vggish"),
            *("--set", f"extract.vggish.weights={weights}"),
        )
        assert code == 2, weights
        assert "random" in err or "reach" in err
    assert not Workspace(mine).has("features/vggish")


def test_real_tracks_never_meet_the_demos_parts_in_python(mine):
    from mer_ray.config import Config
    from mer_ray.errors import MerRayError
    from mer_ray.stages import acquire, extract, label, run

    config, work = load(None, ["extract.features=vggish"]), Workspace(mine)
    acquire.run(config, work)
    specs = extract.check(config)  # of settings that name no source
    with pytest.raises(MerRayError, match="TensorFlow Hub"):
        extract.run(config, work, specs)
    with pytest.raises(MerRayError, match="lexicon is not set"):
        label.run(Config(), work)
    with pytest.raises(MerRayError):
        next(run.run(config, work))
    assert not work.has("features/vggish")


def test_tracks_know_their_source_where_the_settings_are_lost(mine, mer_ray):
    shutil.rmtree(mine / "settings")
    code, _, err = mer_ray("label", "--workspace", mine)
    assert (code, "label.lexicon is not set" in err) == (2, True)


@pytest.mark.parametrize(
    "settings", [["collect.source=demo"], ["collect.folder=music"], ["collect.api_url=http://localhost:1/"]]
)
@pytest.mark.parametrize("stage", ["collect", "label", "extract", "run"])
def test_another_source_is_refused(mine, mer_ray, stage, settings):
    code, _, err = mer_ray(stage, "--workspace", mine, *(x for s in settings for x in ("--set", s)))
    assert code == 2
    assert "holds tracks of the source manifest" in err


@pytest.mark.parametrize(
    "settings", ["collect.source=demo", "collect.source=lastfm", "collect.folder=music", "collect.api_url=http://a.b/"]
)
def test_settings_that_name_two_sources_are_refused(tmp_path, mer_ray, settings):
    code, _, err = mer_ray(
        "collect", "--workspace", tmp_path / "w", "--set", "collect.manifest=m.csv", "--set", settings
    )
    assert (code, "another source" in err) == (2, True)
    assert not (tmp_path / "w").exists()


def test_a_source_that_gave_no_track_binds_nothing(tmp_path, mer_ray):
    write_tunes(tmp_path / "music", 1)
    manifest = write(tmp_path / "m.csv", ",only a title,", header="artist,title,album\n")
    own = ["--workspace", tmp_path / "w", "--set"]
    assert mer_ray("collect", *own, f"collect.manifest={manifest}")[0] == 2
    code, out, err = mer_ray("collect", *own, f"collect.folder={tmp_path / 'music'}")
    assert code == 0, out + err
    assert tracks(tmp_path / "w", "source") == [("folder",)]


def test_a_workspace_of_an_older_version_is_said_and_brought_up_to_date(tmp_path, mine, mer_ray):
    (mine / "settings" / "source.json").unlink()
    code, _, err = mer_ray("label", "--workspace", mine)  # it knew its source, too
    assert (code, "label.lexicon is not set" in err) == (2, True)
    assert "made by an older mer-ray" in err.splitlines()[0]
    code, out, _ = mer_ray("collect", "--workspace", mine, "--set", f"collect.manifest={tmp_path / 'm.csv'}")
    assert (code, "nothing new" in out) == (0, True)
    assert "older" not in mer_ray("label", "--workspace", mine)[2]


def test_the_next_command_can_be_typed_as_it_stands(tmp_path, mer_ray, monkeypatch):
    folder = tmp_path / "my work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    rows = [f"music/tune00{i}.flac,Artist {i},Title,sad:80" for i in range(4)]
    write(folder / "m.csv", *rows, header="path,artist,title,tags\n")
    write_tunes(folder / "music", 4)
    (folder / "my lexicon.txt").write_text("sad\t0.1\t0.2\t0.3\nhappy\t0.9\t0.8\t0.7\n")
    (folder / "mine.yaml").write_text(
        "label: {lexicon: my lexicon.txt}\nextract: {features: [mfcc]}\ntrain: {networks: [kernel], folds: 2}\n"
    )
    given = ["-c", "mine.yaml", "--workspace", "w w", "--set", "collect.manifest=m.csv"]
    assert mer_ray("collect", *given)[0] == 0
    import json
    import shlex

    seen = []
    for _ in range(3):
        command = json.loads(mer_ray("status", "--workspace", "w w", "--json")[1])["next"]["command"]
        name, stage, *words = shlex.split(command)
        seen.append((name, stage))
        code, out, err = mer_ray(stage, *words)
        assert code == 0, command + out + err
    assert seen == [("mer-ray", "label"), ("mer-ray", "acquire"), ("mer-ray", "extract")]
    monkeypatch.chdir(tmp_path)
    command = json.loads(mer_ray("status", "--workspace", folder / "w w", "--json")[1])["next"]["command"]
    assert shlex.split(command)[:3] == ["cd", str(folder), "&&"]


SECRETS = [
    'extract.hub={y: {handle: "https://me:PW@hub.org/x"}}',
    'train.mlflow="https://u:PW@x.org/"',
    "label.exclude=[a, https://u:PW@x/]",
    "train.about=see https://a/b?key=PW",
    "label.lexicon=s3://key:P/W@bucket/l.txt",
]


@pytest.mark.parametrize("setting", SECRETS)
def test_what_may_be_secret_is_not_written_down(tmp_path, setting):
    from mer_ray.io.last_command import Command

    assert Command.of_process(None, ["train.folds=2", setting]).assignments == {"train.folds": "2"}


def test_a_name_is_shown_as_it_is(tmp_path, mer_ray, mine):
    work = tmp_path / "w :smile: [bold]"
    shutil.copytree(mine, work)
    out = mer_ray("status", "--workspace", work)[1]
    assert f"--workspace '{work}'" in out


# what has changed --------------------------------------------------------------------------------------------------


def test_only_what_changed_is_void(tmp_path, mer_ray):
    write_tunes(tmp_path / "music", 4)
    rows = [f"music/tune00{i}.flac,Artist {i},Title {i},,0.{i},0.5,0.5" for i in range(4)]
    manifest, workspace = write(tmp_path / "m.csv", *rows), tmp_path / "w"
    own = [
        *sets(f"collect.manifest={manifest}", "extract.features=mfcc", "label.report=false"),
        "--workspace",
        workspace,
    ]

    def run() -> list[str]:
        message = []
        for stage in ("collect", "label", "acquire", "extract"):
            code, out, err = mer_ray(stage, *own)
            assert code == 0, out + err
            message.append(out.splitlines()[0])
        return message

    run()
    assert all("nothing new" in line for line in run())
    rows[1] = rows[1].replace("0.1,", "0.9,")  # a label
    write(manifest, *rows)
    message = run()
    assert "1 changed" in message[0]
    assert "1 new" in message[1]
    assert all("nothing new" in line for line in message[2:])
    rows[2] = rows[2].replace("Title 2,,", "Title 2,Album,")  # an album: another id, the same music
    write(manifest, *rows)
    message = run()
    assert ("1 changed" in message[0], "nothing new" in message[2], "nothing new" in message[3]) == (True, True, True)
    (tmp_path / "music" / "tune003.flac").rename(tmp_path / "music" / "moved.flac")
    rows[3] = rows[3].replace("tune003", "moved")  # a path: the same bytes
    write(manifest, *rows)
    message = run()
    assert ("1 changed" in message[0], "nothing new" in message[3]) == (True, True)
    uris = Workspace(workspace).read("audio")["uri"].to_pylist()
    assert str(tmp_path / "music" / "moved.flac") in uris
    assert len(uris) == 4
    shutil.copy(tmp_path / "music" / "tune001.flac", tmp_path / "music" / "tune000.flac")  # other bytes
    message = run()
    assert "nothing new" in message[0]
    assert "1 changed" in message[2]
    assert "1 new" in message[3]
    write(manifest, *rows[:3])
    message = run()
    assert "1 gone" in message[0]
    for table in ("tracks", "labels", "audio", "features/mfcc"):
        assert len(Workspace(workspace).ids(table)) == 3, table


def test_a_mended_path_is_tried_again_by_itself(tmp_path, mer_ray):
    write_tunes(tmp_path / "music", 2)
    rows = ["music/wrong.flac,A,One,,0,0,0", "music/tune001.flac,B,Two,,1,1,1"]
    manifest, workspace = write(tmp_path / "m.csv", *rows), tmp_path / "w"
    own = ["--workspace", workspace, "--set", f"collect.manifest={manifest}"]
    assert [mer_ray(stage, *own)[0] for stage in ("collect", "acquire")] == [0, 3], "half of them are lost"
    assert [f["reason"] for f in Workspace(workspace).failures()] == ["missing"]
    write(manifest, rows[0].replace("wrong", "tune000"), rows[1])
    for stage in ("collect", "acquire"):
        assert mer_ray(stage, *own)[0] == 0
    assert Workspace(workspace).failures() == []
    assert len(Workspace(workspace).ids("audio")) == 2


def test_gone_rows_are_kept_on_request(tmp_path, mer_ray):
    rows = ["1.wav,A,One,,0,0,0", "2.wav,B,Two,,1,1,1"]
    manifest, workspace = write(tmp_path / "m.csv", *rows), tmp_path / "w"
    own = ["--workspace", workspace, "--set", f"collect.manifest={manifest}"]
    assert mer_ray("collect", *own)[0] == 0
    write(manifest, rows[0])
    assert mer_ray("collect", "--keep-gone", *own)[0] == 0
    assert len(tracks(workspace, "title")) == 2
    code, out, _ = mer_ray("collect", *own)
    assert (code, "1 gone" in out) == (0, True)
    assert tracks(workspace, "title") == [("One",)]


def test_a_source_that_has_none_of_the_tracks_is_refused(mine, tmp_path, mer_ray):
    other = write(tmp_path / "other.csv", "9.wav,X,Y,,0,0,0")
    code, _, err = mer_ray("collect", "--workspace", mine, "--set", f"collect.manifest={other}")
    assert (code, "none of the 2 tracks" in err) == (2, True)
    assert len(tracks(mine, "title")) == 2


def test_a_folder_is_followed(tmp_path, mer_ray):
    paths = write_tunes(tmp_path / "music", 3)
    workspace = tmp_path / "w"
    own = ["--workspace", workspace, "--set", f"collect.folder={tmp_path / 'music'}"]
    more = ["--set", "extract.features=mfcc"]
    for stage in ("collect", "acquire", "extract"):
        assert mer_ray(stage, *own, *more)[0] == 0
    paths[0].rename(paths[0].with_name("renamed.flac"))
    paths[1].unlink()
    times = paths[2].stat()
    os.utime(paths[2], ns=(times.st_atime_ns, times.st_mtime_ns + 10**9))
    code, out, _ = mer_ray("collect", *own, *more)
    assert (code, "1 gone" in out, "2 changed" in out) == (0, True, True)
    message = [mer_ray(stage, *own, *more)[1] for stage in ("acquire", "extract")]
    assert "the same as before" in message[0]
    assert "nothing new" in message[1]
    uris = {Path(u).name for u in Workspace(workspace).read("audio")["uri"].to_pylist()}
    assert uris == {"renamed.flac", "tune002.flac"}
    assert len(Workspace(workspace).ids("features/mfcc")) == 2


@pytest.mark.parametrize("name", ["maintitle", "twoclips", "idcol"])
def test_cases_of_people_have_as_many_tracks_as_rows(tmp_path, mer_ray, name):
    if not CASES.is_dir():
        pytest.skip(f"{CASES} is not here: the small inputs as people make them")
    shutil.copy(CASES / f"{name}.csv", tmp_path)
    write_tunes(tmp_path / "music", 2, suffix=".wav")
    for i in (1, 2):
        (tmp_path / "music" / f"tune00{i - 1}.wav").rename(tmp_path / "music" / f"t{i}.wav")
    own = ["--workspace", tmp_path / "w", "--set", f"collect.manifest={tmp_path / name}.csv"]
    assert mer_ray("collect", *own)[0] == 0
    rows = tracks(tmp_path / "w", "track_id", "ratings")
    assert len(rows) == 2
    assert len({str(own) for _, own in rows}) == 2
    if name == "idcol":
        assert {i for i, _ in rows} == {"clip1", "clip2"}


def test_files_are_followed_in_a_workspace_of_an_older_version(tmp_path, mer_ray):
    """Which wrote down neither size nor time of change."""
    paths, workspace = write_tunes(tmp_path / "music", 3), tmp_path / "w"
    manifest = write(tmp_path / "m.csv", *(f"music/tune00{i}.flac,A,Title {i},,0,0,0" for i in range(2)))
    own = ["--workspace", workspace, "--set", f"collect.manifest={manifest}", "--set", "extract.features=mfcc"]
    for stage in ("collect", "acquire", "extract"):
        assert mer_ray(stage, *own)[0] == 0
    work = Workspace(workspace)
    rows = [{**r, "size": None, "mtime_ns": None, "request": None} for r in work.read("audio").to_pylist()]
    work.discard("audio")
    work.append_rows("audio", rows)
    shutil.copy(paths[2], paths[0])
    message = [mer_ray(stage, *own)[1] for stage in ("collect", "acquire", "extract")]
    assert ("1 changed" in message[1], "1 the same as before" in message[1], "1 new" in message[2]) == (
        True,
        True,
        True,
    )
    assert None not in work.read("audio")["size"].to_pylist()
    assert "nothing new" in mer_ray("acquire", *own)[1]
