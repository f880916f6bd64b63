"""Status: what is there, what is lost, what to do about it, and what comes next."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from mer_ray import console
from mer_ray.cli import main
from mer_ray.io.advice import ADVICE, advice
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.io.tables import Workspace, failure, now
from mer_ray.scoring import model_folder
from mer_ray.stages.status import SHOWN_REASONS, look

ROOT = Path(__file__).parents[1] / "mer_ray"


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """Three tracks, one of them twice, with two labels and one file; two models, and one that is damaged."""
    made = Workspace(tmp_path / "w")
    rows = [{"track_id": i, "artist": "A", "title": i, "source": "manifest", "fetched_at": now()} for i in "abc"]
    made.claim("collect", "tracks", {"source": "manifest"})
    made.append_rows("tracks", rows)
    made.append_rows("tracks", rows[:1])
    vad = dict.fromkeys(DIMENSIONS, 0.5)
    made.append_rows("labels", [{"track_id": i, **vad, "n_matched": 1, "lexicon": "l"} for i in "ab"])
    audio = {"uri": "a.mp3", "provider": "file", "sha256": "", "duration_s": 5400.0, "sample_rate": 1, "channels": 1}
    made.append_rows("audio", [{"track_id": "a", **audio}])
    failed = [failure("label", "c", "no_tags", "A – c: it has no tags"), failure("acquire", "b", "timeout", "b", True)]
    made.append_rows("failures", [*failed, failure("acquire", "c", "missing", "[bold]/m/\x1b[31mc.mp3")])
    for name, r2 in (("cnn-mfcc", 0.5), ("lstm-mfcc", 0.25)):
        figures = {"r2": r2, "intervals": {"r2": [r2 - 0.1, r2 + 0.1]}}
        model = {"format": model_folder.FORMAT, "name": name, "network": name[:-5], "feature": {"name": "mfcc"}}
        details = {"n_tracks": 2, "trained_at": "2026-01-02T03:04:05+00:00"}
        metrics = dict.fromkeys(DIMENSIONS, figures)
        made.write_json({**model, "metrics": metrics, "details": details}, "runs", name, "model.json")
    return made


def typed(*arguments: object) -> tuple[int, str]:
    with console.out.capture() as printed:  # by this thread alone: those that other tests left behind print as well
        result = CliRunner().invoke(main, [str(a) for a in arguments])
    return result.exit_code, printed.get() or result.output


def test_what_it_finds(workspace):
    found = look(workspace)
    assert {t["name"]: t["rows"] for t in found["tables"]} == {"tracks": 3, "labels": 2, "audio": 1, "scores": 0}
    tracks = found["tables"][0]
    size = sum(f.stat().st_size for f in (Path(workspace.root) / "tracks").iterdir())
    assert tracks["bytes"] == size
    assert tracks["settings_since"] <= now().isoformat()
    assert tracks["last_written"] <= now().isoformat()
    assert found["audio_s"] == 5400
    assert [(m["name"], m["best"], m["r2"]["valence"][0]) for m in found["models"]] == [
        ("cnn-mfcc", True, 0.5),
        ("lstm-mfcc", False, 0.25),
    ]
    assert {(f["stage"], f["reason"], f["count"], f["transient"]) for f in found["failures"]} == {
        ("label", "no_tags", 1, 0),
        ("acquire", "timeout", 1, 1),
        ("acquire", "missing", 1, 0),
    }
    assert all(f["advice"] == ADVICE[f["reason"]] for f in found["failures"])


def test_models_of_different_dimensions_are_listed_side_by_side(workspace):
    model = workspace.read_json("runs", "cnn-mfcc", "model.json")
    for name, r2 in (("tension", 0.1), ("energy", 0.7)):
        model["metrics"][name] = {"r2": r2}
    for name in DIMENSIONS:
        del model["metrics"][name]
    workspace.write_json({**model, "dimensions": ["tension", "energy"]}, "runs", "cnn-mfcc", "model.json")
    models = look(workspace)["models"]
    assert [(m["name"], m["best"], list(m["r2"])) for m in models] == [
        ("cnn-mfcc", True, ["tension", "energy"]),
        ("lstm-mfcc", False, [*DIMENSIONS]),
    ]
    _, text = typed("status", "--workspace", workspace.uri)
    [heads] = [line.split() for line in text.splitlines() if "Tension" in line]
    assert heads == ["Model", "Tension", "Energy", "Valence", "Arousal", "Dominance", "Tracks", "Trained"]
    rows = [line.split()[:7] for line in text.splitlines() if "-mfcc" in line]
    assert rows == [
        ["*", "cnn-mfcc", "0.100", "0.700", "–", "–", "–"],
        ["lstm-mfcc", "–", "–", *["0.250"] * 3, "2"],
    ]


def test_the_best_model_is_the_one_that_scores(workspace):
    model = workspace.read_json("runs", "cnn-mfcc", "model.json")
    model["details"]["settings"] = {"split": "test"}  # on other tracks than those of the cross-validation
    workspace.write_json(model, "runs", "cnn-mfcc", "model.json")
    assert [(m["name"], m["best"]) for m in look(workspace)["models"]] == [("lstm-mfcc", True), ("cnn-mfcc", False)]
    assert model_folder.best(workspace) == workspace.at("runs", "lstm-mfcc")


@pytest.mark.parametrize("columns", [80, 200])
def test_what_people_see(workspace, columns, monkeypatch):
    monkeypatch.setattr(console.out, "width", columns)
    code, text = typed("status", "--workspace", workspace.uri)
    assert code == 0, text
    # The next command is one line, to be copied.
    assert max(len(line) for line in text.splitlines()[1:] if not line.startswith("Next:")) <= columns
    for message in (
        "1.5 hours of audio",
        "0.400–0.600",
        "2026-01-02",
        "3 failures",
        "no_tags",
        "[bold]/m/",
        "[31mc.mp3",
    ):
        assert message in text
    assert "\x1b" not in text
    assert "tries 1 of them again" in text


def test_json_is_one_object_even_with_figures_that_do_not_exist(workspace):
    model = workspace.read_json("runs", "cnn-mfcc", "model.json")
    model["metrics"]["valence"] = {"r2": float("nan")}
    workspace.write_json(model, "runs", "cnn-mfcc", "model.json")
    code, text = typed("status", "--workspace", workspace.uri, "--json")
    assert code == 0, text
    found = json.loads(text, parse_constant=lambda c: pytest.fail(f"{c} is not JSON"))
    assert found == look(workspace, workspace.uri)
    assert [(m["name"], m["best"]) for m in found["models"]] == [("lstm-mfcc", True), ("cnn-mfcc", False)]
    assert found["models"][1]["r2"]["valence"] == [None] * 3


def test_a_damaged_model_hides_nothing_else(workspace):
    workspace.write_bytes(b"{", "runs", "lstm-mfcc", "model.json")
    code, text = typed("status", "--workspace", workspace.uri)
    assert code == 0, text
    assert "cannot be read" in text
    assert "lstm-mfcc is damaged" in text
    assert "no_tags" in text


def test_many_reasons_do_not_drown_the_rest(workspace):
    rows = [failure("label", f"{i}", f"reason{i:02d}", "m" * 1000) for i in range(30) for _ in range(2)]
    workspace.append_rows("failures", rows)
    _, text = typed("status", "--workspace", workspace.uri)
    assert text.count("reason") <= SHOWN_REASONS + 1
    assert "18 for 18 other reasons: see --json" in text
    assert "m" * 200 not in text


def test_the_next_step(tmp_path):
    made = Workspace(tmp_path / "w")
    made.write_json({}, "settings", "collect.json")

    def due() -> str | None:
        step = look(made)["next"]
        return step and step["command"].removeprefix("mer-ray ")

    ids = "abc"
    vad = dict.fromkeys(DIMENSIONS, 0.5)
    assert due() == "collect"
    made.append_rows(
        "tracks", [{"track_id": i, "artist": "", "title": i, "source": "folder", "fetched_at": now()} for i in ids]
    )
    assert due() == "label"
    made.append_rows("labels", [{"track_id": i, **vad, "n_matched": 1, "lexicon": "l"} for i in "ab"])
    assert due() == "label"
    made.append_rows("failures", [failure("label", "c", "no_tags", "m")])
    assert due() == "acquire"
    audio = {"uri": "x", "provider": "file", "sha256": "", "duration_s": 1.0, "sample_rate": 1, "channels": 1}
    made.append_rows("audio", [{"track_id": i, **audio} for i in ids])
    assert due() == "extract"
    frames = made.read("tracks", ["track_id"])
    made.append("features/mfcc", frames.slice(1), "x")
    assert due() == "extract"
    made.append_rows("failures", [failure("extract:mfcc", "a", "too_short", "m")])
    assert due() == "train"
    model = {"format": model_folder.FORMAT, "network": "cnn", "feature": {"name": "mfcc"}, "details": {}}
    made.write_json({**model, "metrics": {d: {"r2": 0.1} for d in DIMENSIONS}}, "runs", "cnn-mfcc", "model.json")
    assert due() == "report"
    made.write_bytes(b"#", "report", "report.md")
    assert due() == "score"
    made.append("scores", frames.slice(1), "x")
    assert due() is None
    assert "All stages are done" in typed("status", "--workspace", made.uri)[1]


def reasons() -> set[str]:
    """Every reason that stands in a TrackError or a row of failures, anywhere in the package."""
    found = set()
    for file in ROOT.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                place = {"TrackError": 0, "failure": 2, "lose": 1}.get(ast.unparse(node.func).split(".")[-1])
                found |= (
                    {a.value for a in node.args[place : place + 1] if isinstance(a, ast.Constant)}
                    if place is not None
                    else set()
                )
    return found


def test_there_is_advice_for_every_reason():
    assert len(reasons()) > 30
    assert reasons() - set(ADVICE) == set()
    assert all(text.endswith(".") for text in ADVICE.values())
    for code in ("http_403", "http_404", "http_503"):
        assert advice(code)
    assert advice("never heard of") == ""
