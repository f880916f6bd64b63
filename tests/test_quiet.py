"""`--quiet`: a command prints its errors and its result's path, and nothing else; exit codes stay."""

from __future__ import annotations

import click
import pyarrow.parquet as pq
import pytest
from conftest import write_tunes
from explorer_pages import scores
from test_report import Catalog, typed

from mer_ray import cli
from mer_ray.io.tables import Workspace


def test_every_command_has_it():
    for name, command in cli.main.commands.items():
        assert any("--quiet" in option.opts and "-q" in option.opts for option in command.params), name
        assert any(isinstance(option, click.Option) and option.help for option in command.params)


def test_stages_print_the_workspace(tmp_path):
    own = ["--workspace", tmp_path, "--set", "collect.demo.cues=6"]
    for stage in ("collect", "label"):
        assert typed(stage, "-q", *own) == (0, f"{tmp_path}\n", "")
    code, out, err = typed("label", *own)  # and the next one speaks again
    assert (code, "6 labels" in out, err) == (0, True, "")
    code, out, _ = typed("status", "-q", *own)  # what it prints is what it is for
    assert (code, "tracks" in out) == (0, True)


def test_errors_are_said(tmp_path):
    code, out, err = typed("label", "-q", "--workspace", tmp_path)
    assert (code, out) == (2, "")
    assert err.startswith("mer-ray: error: ")
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("options", "name"), [([], "report.md"), (["--html"], "report.html"), (["--html", "--against"], "against.html")]
)
def test_a_report_prints_its_file(tmp_path, options, name):
    catalog = Catalog.make()
    for folder in ("a", "b"):
        catalog.run(Workspace(tmp_path / folder), "cnn-mfcc", catalog.predicted(0.03, 1))
    own = [tmp_path / "b"] if "--against" in options else []
    assert typed("report", "-q", "--workspace", tmp_path / "a", *options, *own) == (
        0,
        f"{tmp_path / 'a' / 'report' / name}\n",
        "",
    )
    assert (tmp_path / "a" / "report" / name).exists()


def test_commands_on_scores_print_what_they_wrote_or_were_asked_for(tmp_path):
    pq.write_table(scores(30), tmp_path / "scores.parquet")
    own = [tmp_path / "scores.parquet", "-q"]
    written = {"playlist": "list.m3u8", "explore": "page.html", "duplicates": "duplicates.csv"}
    for command, name in written.items():
        assert typed(command, *own, "--out", tmp_path / name) == (0, f"{tmp_path / name}\n", "")
    assert {path.name for path in tmp_path.iterdir()} == {"scores.parquet", *written.values()}  # no temporary folder
    code, out, err = typed("playlist", *own, "-n", 3)
    assert (code, out.count("Tune"), err) == (0, 3, "")


def test_lost_tracks_keep_their_exit_code_and_the_path(tmp_path):
    paths = write_tunes(tmp_path / "music", 1)
    lines = ["artist,title,path", *(f"A,T{i},{path}" for i, path in enumerate([*paths, tmp_path / "gone.flac"]))]
    (tmp_path / "m.csv").write_text("\n".join(lines))
    target = tmp_path / "out.parquet"
    code, out, err = typed("score", "-q", "--model", "light", tmp_path / "m.csv", "--out", target)
    assert (code, out) == (3, f"{target}\n")
    assert err.startswith("mer-ray: error: score: 1 of 2 tracks could not be worked on")
    assert len(err.splitlines()) == 1
    assert pq.read_table(target).num_rows == 1
    code, out, err = typed("score", "-q", "--model", "light", tmp_path / "music", "--out", target)
    assert (code, out, err) == (0, f"{target}\n", "")
