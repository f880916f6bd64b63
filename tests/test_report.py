"""The stage ``report`` on workspaces with planted runs: what it writes, prints, and refuses."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from markdown_it import MarkdownIt
from parts import blank_reference, even_intervals

from mer_ray import cli, features
from mer_ray.config import Config
from mer_ray.errors import InputError, WorkspaceError
from mer_ray.evaluation.metrics import METRICS, metrics
from mer_ray.evaluation.predictions import Predictions
from mer_ray.evaluation.summary import evaluate
from mer_ray.features.mfcc import Params
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.io.tables import Workspace
from mer_ray.scoring import model_folder
from mer_ray.stages import report

HOSTILE = "A|B $x$ <b>c</b> [d](http://e) `f` **g** \\input{h} _i_ 100 %"
REPEATS, TRACKS = 2, 120


@dataclass
class Catalog:
    """Labels (N, D) and groups (N,), from which runs of a known skill are planted."""

    labels: np.ndarray
    group: np.ndarray
    first: int = 0
    dimensions: tuple[str, ...] = DIMENSIONS

    @classmethod
    def make(cls, seed: int = 0, first: int = 0) -> Catalog:
        rng = np.random.default_rng(seed)
        group = rng.integers(0, 40, TRACKS)
        labels = 0.5 + rng.normal(0, 0.08, (40, 3))[group] + rng.normal(0, 0.08, (TRACKS, 3))
        return cls(np.clip(labels, 0, 1), group, first)

    def of(self, *names: str) -> Catalog:
        """The same with other dimensions: those of `DIMENSIONS`, or more of the kind."""
        more = np.random.default_rng(9).permutation(self.labels)
        columns = dict(zip([*DIMENSIONS, *"xyz"], [*self.labels.T, *more.T], strict=True))
        others = iter("xyz")
        labels = np.stack([columns[n] if n in columns else columns[next(others)] for n in names], axis=1)
        return replace(self, labels=labels, dimensions=names)

    def predicted(self, noise: float, seed: int) -> np.ndarray:
        errors = np.random.default_rng(seed).normal(0, noise, (REPEATS, *self.labels.shape))
        return np.clip(np.nan_to_num(self.labels, nan=0.5) + errors, 0, 1)

    def table(self, predicted: np.ndarray, **more: str) -> pa.Table:
        ids = [f"{i + self.first:016x}" for i in range(TRACKS)]
        artists, groups = ([f"{word} {g}" for g in self.group] for word in ("Artist", "artist"))
        fold = np.stack([(self.group + 7 * r) // 2 % 5 for r in range(REPEATS)])
        texts = ids, artists, [HOSTILE] * TRACKS, groups
        table = Predictions(*texts, self.labels, fold, predicted, self.dimensions).table()
        for name, value in more.items():
            table = table.append_column(name, [[value] * len(table)])
        return table

    def run(self, workspace: Workspace, name: str, predicted: np.ndarray) -> None:
        network, feature = name.split("-")
        spec = replace(features.resolve("mfcc", Params()), name=feature, note="seeded *weights*")
        details = {
            "settings": {"folds": 5, "seed": 3, "members": 1, "window_s": 5.0},
            "data": "0123",
            "n_tracks": TRACKS,
            "n_artists": 40,
            "repeats": REPEATS,
            "labels": "planted",
            "trained_at": "2026-01-01",
        }
        workspace.write_table(self.table(predicted), "runs", name, "predictions.parquet")
        figures = evaluate(self.labels, predicted, [str(g) for g in self.group], self.dimensions)
        around = even_intervals([0.1] * len(self.dimensions)), blank_reference(spec.n_dims, spec.hop_s)
        own = name, network, spec, 215, [], *around, figures, details, self.dimensions
        model_folder.save(model_folder.Model(*own), workspace, "runs", name)


def typed(*arguments: object) -> tuple[int, str, str]:
    result = CliRunner().invoke(cli.main, [str(a) for a in arguments], env={"COLUMNS": "80"})
    return result.exit_code, result.stdout, result.stderr


@pytest.fixture(scope="module")
def reported(tmp_path_factory) -> tuple[Path, str]:
    """A workspace whose CNN is the clear winner and whose LSTM predicts the mean, and what its report printed."""
    folder = tmp_path_factory.mktemp("w")
    workspace, catalog = Workspace(folder), Catalog.make()
    catalog.run(workspace, "cnn-mfcc", catalog.predicted(0.03, 1))
    catalog.run(
        workspace, "lstm-mfcc", catalog.labels.mean(axis=0) + 0.01 * (catalog.predicted(0.2, 2) - catalog.labels)
    )
    baselines = [catalog.table(catalog.predicted(noise, 3), model=m) for m, noise in (("ridge", 0.1), ("svr", 0.07))]
    workspace.write_table(pa.concat_tables(baselines), "baselines", "mfcc.parquet")
    message = {"grouped_r2": [0.1] * 3, "random_r2": [0.3] * 3, "leak": [0.2] * 3, "leak_lower": [0.1] * 3}
    pair = {"a": f"{0:016x}", "b": f"{1:016x}", "similarity": 0.987, "same_artist": False}
    more = {"feature": "mfcc", "leak_upper": [0.3] * 3, "duplicates": [pair], "n_duplicates_across_artists": 1}
    workspace.write_json({**message, **more}, "baselines", "mfcc.json")
    epoch = np.tile(np.arange(4), 3)
    curve = {"epoch": epoch.astype(np.int32), "train_loss": 1.0 / (1 + epoch), "valid_loss": 1.1 / (1 + epoch)}
    whose = {k: np.zeros(12, np.int32) for k in ("repeat", "fold", "member")}
    workspace.write_table(pa.table({**whose, **curve}), "runs", "cnn-mfcc", "curves.parquet")
    code, out, err = typed("report", "--workspace", folder)
    assert code == 0, out + err
    return folder, out


def test_a_table_whose_intervals_rest_on_few_groups_says_so(reported, tmp_path):
    assert "rest on few groups" not in reported[1]
    catalog = Catalog.make()
    catalog.group[:90] = 0
    catalog.run(Workspace(tmp_path), "cnn-mfcc", catalog.predicted(0.03, 1))
    code, out, err = typed("report", "--workspace", tmp_path)
    assert code == 0, out + err
    assert " ".join(out.split()).count("of 120 tracks, and the") == 3
    for name in ("report.md", "report.tex"):
        assert "The intervals rest on few groups: the largest has" in (tmp_path / "report" / name).read_text()


def test_the_csv_has_every_row_with_its_figures_and_verdicts(reported):
    folder, _ = reported
    with (folder / "report" / "metrics.csv").open() as file:
        rows = [r for r in csv.DictReader(file) if r["dimension"] == "arousal"]
    assert [(r["network"], r["feature"]) for r in rows] == [
        ("constant mean", "-"),
        ("constant median", "-"),
        ("ridge", "mfcc"),
        ("svr", "mfcc"),
        ("cnn", "mfcc"),
        ("lstm", "mfcc"),
    ]
    catalog = Catalog.make()
    wanted = metrics(catalog.labels[:, 1], catalog.predicted(0.03, 1)[..., 1])
    for figure in METRICS:
        assert float(rows[4][figure]) == pytest.approx(wanted[figure], abs=1e-9)
        assert float(rows[4][f"{figure}_lower"]) < wanted[figure] < float(rows[4][f"{figure}_upper"])
    assert [r["verdict"] for r in rows if r["network"] != "ridge"] == ["", "", "", "best", "predicts the mean"]
    assert {r["n"] for r in rows} == {str(TRACKS)}


def test_the_report_has_all_its_sections_and_no_text_is_markup(reported):
    folder, _ = reported
    text = (folder / "report" / "report.md").read_text()
    heads = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    dimensions = [d.capitalize() for d in DIMENSIONS]
    sections = ["As in the original", "Differences from the SVR", "Leakage", "Learning curves"]
    assert heads == ["Metrics", *dimensions, *sections]
    for said in (
        f"120 tracks by {len(set(Catalog.make().group))} artists, label SD 0.1",
        "5 folds, means over 2 repeats (seeds 3 to 4)",
        "not corrected for their number",
        "| CNN on MFCC | valence | +",
        "| MFCC | arousal | 0.300 | 0.100 | +0.200 | [+0.100, +0.300] | inflated |",
        "1 pair, 1 of them across artists",
    ):
        assert said in text, said
    tokens = [t for block in MarkdownIt("commonmark").enable("table").parse(text) for t in block.children or []]
    assert {t.type for t in tokens} <= {"text", "text_special", "strong_open", "strong_close", "image"}
    assert any(HOSTILE in line for line in shown(text))
    for name in re.findall(r"\]\((.*?)\)", text.replace(r"\]", "")):
        assert (folder / "report" / name).read_bytes().startswith(b"\x89PNG"), name
    assert text.count("](") >= 7


def shown(text: str) -> list[str]:
    """What a reader of the rendered document sees, paragraph by paragraph and cell by cell."""
    return [
        "".join(t.content for t in block.children)
        for block in MarkdownIt("commonmark").enable("table").parse(text)
        if block.children
    ]


def test_the_terminal_shows_the_verdicts_within_100_columns(reported):
    _, out = reported
    lines = [line.rstrip() for line in out.splitlines() if not line.strip().startswith(("tables and plots", "report"))]
    assert max(map(len, lines)) <= 100, [line for line in lines if len(line) > 100]
    assert out.count("Predicts the mean: LSTM on MFCC.") == 3
    assert re.search(
        r"^ CNN +MFCC +\d\.\d{4} +\d\.\d{4} +\d\.\d{4} +\d\.\d{3} \[\d\.\d{3}, \d\.\d{3}\]", out, re.MULTILINE
    )
    assert "…" not in out
    assert "seeded *weights*." in out.replace("\n", " ")


def test_the_latex_has_the_tables(reported):
    folder, _ = reported
    text = (folder / "report" / "report.tex").read_text()
    assert text.count(r"\begin{tabular}") == text.count(r"\end{tabular}") == 6
    assert r"\textbf{" in text
    assert text.isascii()


def test_a_run_is_compared_with_another_one(reported, tmp_path):
    folder, _ = reported
    code, out, err = typed("report", "--workspace", folder, "--against", folder / "runs" / "lstm-mfcc")
    assert code == 0, out + err
    with (folder / "report" / "against.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 3 * len(METRICS)  # not with itself
    assert {(r["this"], r["that"], r["this_is"]) for r in rows} == {("cnn-mfcc", "lstm-mfcc", "better")}
    assert (folder / "report" / "against.md").read_text().count("| better |") == len(rows)
    assert max(map(len, (line.rstrip() for line in out.splitlines()[:-1]))) <= 100
    assert out.count("better") == len(rows)


def test_a_workspace_is_compared_with_another_run_by_run(reported, tmp_path):
    folder, _ = reported
    other, catalog = Workspace(tmp_path / "other"), Catalog.make()
    catalog.run(other, "cnn-mfcc", catalog.predicted(0.03, 9))
    catalog.run(other, "cnn-vggish", catalog.predicted(0.03, 9))
    summary = report.run(Config(), Workspace(folder), other.uri)
    assert summary.made == 1
    text = (folder / "report" / "against.md").read_text()
    assert "| cnn-mfcc | cnn-mfcc | MSE |" in text
    assert "lstm" not in text.split("\n", 1)[1]
    assert "not distinguishable" in text


def test_what_cannot_be_compared_is_named(reported, tmp_path):
    here = Workspace(reported[0])
    with pytest.raises(InputError, match="neither a run nor a workspace"):
        report.run(Config(), here, str(tmp_path / "nowhere"))
    catalog = Catalog.make()
    for name, changed in {
        "others": replace(catalog, labels=catalog.labels + np.eye(1, TRACKS).T),
        "apart": Catalog.make(first=1_000),
    }.items():
        changed.run(Workspace(tmp_path / name), "cnn-mfcc", changed.predicted(0.03, 1))
    with pytest.raises(InputError, match="other labels for 1 of the 120 tracks"):
        report.run(Config(), here, str(tmp_path / "others"))
    with pytest.raises(InputError, match="no track in common"):
        report.run(Config(), here, str(tmp_path / "apart"))
    catalog.run(Workspace(tmp_path / "names"), "lstm-vggish", catalog.predicted(0.03, 1))
    with pytest.raises(InputError, match=r"\(cnn-mfcc, lstm-mfcc\) has a namesake in .* \(lstm-vggish\)"):
        report.run(Config(), here, str(tmp_path / "names"))
    code, _, err = typed("report", "--workspace", here.uri, "--against", tmp_path / "apart")
    assert code == 2
    assert err.startswith("mer-ray: error: cnn-mfcc and cnn-mfcc have no track in common")
    assert len(err.splitlines()) == 1


def test_runs_that_do_not_belong_together_are_no_table(tmp_path):
    workspace, catalog = Workspace(tmp_path), Catalog.make()
    catalog.run(workspace, "cnn-mfcc", catalog.predicted(0.03, 1))
    other = replace(catalog, labels=np.clip(catalog.labels + 0.01, 0, 1))
    other.run(workspace, "lstm-mfcc", other.predicted(0.03, 1))
    with pytest.raises(WorkspaceError, match="cnn-mfcc and lstm-mfcc were made with other labels for 120 of 120"):
        report.run(Config(), workspace)
    groupless = catalog.table(catalog.predicted(0.1, 2)).drop_columns("group")
    workspace.write_table(groupless, "runs", "lstm-mfcc", "predictions.parquet")
    with pytest.raises(WorkspaceError, match=r"lstm-mfcc/predictions\.parquet .* has no group"):
        report.run(Config(), workspace)
    workspace.write_bytes(b"PAR1", "runs", "lstm-mfcc", "predictions.parquet")
    with pytest.raises(WorkspaceError, match=r"lstm-mfcc/predictions\.parquet cannot be read"):
        report.run(Config(), workspace)
    (tmp_path / "runs" / "lstm-mfcc" / "predictions.parquet").unlink()
    with pytest.raises(WorkspaceError, match=r"lstm-mfcc/predictions\.parquet is missing"):
        report.run(Config(), workspace)


# other dimensions ----------------------------------------------------------------------------------------------------


def csv_rows(folder: Path, name: str = "metrics.csv") -> list[dict[str, str]]:
    with (folder / "report" / name).open() as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("names", [("arousal",), ("valence", "arousal"), ("valence", "arousal", "tension", "energy")])
def test_a_report_has_the_dimensions_of_its_runs(tmp_path, names):
    workspace, catalog = Workspace(tmp_path), Catalog.make().of(*names)
    catalog.labels[40:, len(names) - 1 :] = np.nan  # of the last one, only some tracks have a label
    if len(names) == 1:
        catalog = Catalog.make().of(*names)
    catalog.run(workspace, "cnn-mfcc", catalog.predicted(0.03, 1))
    workspace.write_table(catalog.table(catalog.predicted(0.1, 3), model="svr"), "baselines", "mfcc.parquet")
    leak = dict.fromkeys(("grouped_r2", "random_r2", "leak", "leak_lower", "leak_upper"), [0.1] * len(names))
    more = {"feature": "mfcc", "dimensions": list(names), "duplicates": [], "n_duplicates_across_artists": 0}
    workspace.write_json({**leak, **more}, "baselines", "mfcc.json")
    code, out, err = typed("report", "--workspace", tmp_path)
    assert code == 0, out + err
    text = (tmp_path / "report" / "report.md").read_text()
    assert re.findall(r"^### (.*)$", text, re.MULTILINE) == [n.capitalize() for n in names]
    assert re.findall(r"^\| MFCC \| (\w+) \|.*inflated", text, re.MULTILINE) == list(names)
    tables = (tmp_path / "report" / "report.tex").read_text()
    assert tables.count(r"\begin{tabular}") == 2 * len(names)
    assert not {d for d in DIMENSIONS if d in (text + tables + out).lower()} - set(names)
    for name in names:
        assert name.capitalize() in out
        for picture in (f"{name}.png", f"{name}-calibration.png"):
            assert (tmp_path / "report" / picture).read_bytes().startswith(b"\x89PNG")
    rows = csv_rows(tmp_path)
    assert list(dict.fromkeys(r["dimension"] for r in rows)) == list(names)
    n_labelled = {r["dimension"]: r["n"] for r in rows}
    assert n_labelled == {n: "40" if n == names[-1] and len(names) > 1 else "120" for n in names}
    assert text.count("40 tracks that have this label, of 120, by") == (len(names) > 1)
    known = np.isfinite(catalog.labels[:, -1])
    wanted = metrics(catalog.labels[known, -1], catalog.predicted(0.03, 1)[:, known, -1])
    assert float(rows[-1]["mse"]) == pytest.approx(wanted["mse"], abs=1e-12)
    assert model_folder.best(workspace).endswith("cnn-mfcc")


def test_each_dimension_s_table_has_the_runs_that_predict_it(tmp_path):
    workspace, catalog = Workspace(tmp_path), Catalog.make()
    catalog.run(workspace, "cnn-mfcc", catalog.predicted(0.03, 1))
    two = catalog.of("arousal", "valence")
    two.run(workspace, "lstm-mfcc", two.predicted(0.06, 2))
    code, out, err = typed("report", "--workspace", tmp_path)
    assert code == 0, out + err
    found = {(r["dimension"], r["network"]) for r in csv_rows(tmp_path) if r["feature"] == "mfcc"}
    assert found == {*((d, "cnn") for d in DIMENSIONS), ("valence", "lstm"), ("arousal", "lstm")}
    errors = {(r["dimension"], r["network"]): float(r["mse"]) for r in csv_rows(tmp_path)}
    assert errors["arousal", "lstm"] == pytest.approx(metrics(two.labels[:, 0], two.predicted(0.06, 2)[..., 0])["mse"])
    code, out, err = typed("report", "--workspace", tmp_path, "--against", tmp_path / "runs" / "lstm-mfcc")
    assert code == 0, out + err
    said = "Not compared: dominance, which cnn-mfcc predicts and lstm-mfcc does not."
    assert said in out
    assert said in (tmp_path / "report" / "against.md").read_text()
    assert {r["dimension"] for r in csv_rows(tmp_path, "against.csv")} == {"valence", "arousal"}
