"""The ceiling of R²: the reliability of labels from tags, planted and found again, and what a report says of it."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from click.testing import CliRunner
from parts import blank_reference, even_intervals

from mer_ray import cli, features
from mer_ray.evaluation.ceiling import Ceiling, Evidence, ceiling
from mer_ray.evaluation.predictions import Predictions
from mer_ray.evaluation.rater_ceiling import rater_ceiling
from mer_ray.evaluation.summary import evaluate
from mer_ray.features.mfcc import Params
from mer_ray.io.schemas import DIMENSIONS, SCHEMAS, labels_schema
from mer_ray.io.tables import Workspace
from mer_ray.scoring import model_folder

VALUE_SD, TAG_SD = np.array([0.10, 0.06, 0.02]), 0.08


def planted(
    n: int, seed: int = 0, most: int = 8, fewest: int = 1, skew: float = 0.0, artists: int = 0
) -> tuple[Evidence, np.ndarray, list[str], np.ndarray]:
    """Tags around known values: the evidence, the values (n, 3), the artists, and the true reliability (3,).

    skew: SD of the logarithm of the weights.
    """
    rng = np.random.default_rng(seed)
    artist = rng.integers(0, artists or n, n)
    value = 0.5 + VALUE_SD * (rng.normal(size=(artists or n, 3))[artist])
    lengths = rng.integers(fewest, most + 1, n)
    owner = np.repeat(np.arange(n), lengths)
    tags = value[owner] + rng.normal(0, TAG_SD, (len(owner), 3))
    weights = 100 * np.exp(skew * rng.normal(size=len(owner)))
    squares = np.bincount(owner, weights**2) / np.bincount(owner, weights) ** 2
    reliability = VALUE_SD**2 / (VALUE_SD**2 + TAG_SD**2 * squares.mean())
    return Evidence(np.arange(len(owner)), tags, weights, lengths), value, [f"a{i}" for i in artist], reliability


def found(evidence: Evidence, groups: list[str], seed: int = 0) -> Ceiling:
    made = ceiling(evidence, groups, seed)
    assert made is not None
    return made


@pytest.mark.parametrize("skew", [0.0, 1.0, 3.0])
@pytest.mark.parametrize(("fewest", "most"), [(2, 2), (4, 4), (2, 9), (1, 5)])
def test_what_was_planted_is_found(skew, fewest, most):
    evidence, value, groups, reliability = planted(6_000, most=most, fewest=fewest, skew=skew)
    made = found(evidence, groups)
    assert made.reliability == pytest.approx(reliability, abs=0.03)
    assert (made.interval[:, 0] < made.reliability).all()
    assert (made.reliability < made.interval[:, 1]).all()
    # It is the R² of whoever knows the values.
    owner = np.repeat(np.arange(len(value)), evidence.lengths)
    total = np.bincount(owner, evidence.weights)
    label = np.stack([np.bincount(owner, evidence.weights * x) / total for x in evidence.values.T], axis=1)
    knows = 1 - np.mean((label - value) ** 2, axis=0) / label.var(axis=0)
    assert made.reliability == pytest.approx(knows, abs=0.03)


def test_spearman_and_browns_formula_for_equal_weights_and_even_numbers():
    evidence, _, groups, _ = planted(500, fewest=4, most=4)
    made = found(evidence, groups)
    assert made.factor == pytest.approx(2, abs=1e-9)
    assert made.reliability == pytest.approx(2 * made.halves / (1 + made.halves), abs=1e-9)


def test_the_interval_holds_the_truth_also_where_artists_have_many_tracks():
    held = []
    for seed in range(60):
        evidence, _, groups, reliability = planted(200, seed, most=6, artists=60)
        ends = found(evidence, groups, seed).interval
        held.append((ends[:, 0] <= reliability) & (reliability <= ends[:, 1]))
    assert np.mean(held, axis=0).min() > 0.88


def test_few_labels_from_tags_have_no_ceiling():
    evidence, _, groups, _ = planted(29, fewest=2)
    assert ceiling(evidence, groups) is None
    given = Evidence(np.zeros(0, int), np.zeros((0, 3)), np.zeros(0), np.zeros(100, int))
    assert ceiling(given, [f"{i}" for i in range(100)]) is None


def test_few_different_tags_are_noticed():
    evidence, _, groups, _ = planted(400, fewest=3, most=5)
    assert found(evidence, groups).chance == pytest.approx(0, abs=0.01)
    few = Evidence(evidence.tags % 10, evidence.values, evidence.weights, evidence.lengths)
    assert found(few, groups).chance == pytest.approx(-2 / 8, abs=0.03)


def test_the_terms_of_one_tag_stay_together():
    row = {"weight": 1.0, **dict.fromkeys(DIMENSIONS, 0.5)}
    tags = [[("happy rain", 1, 0.9), ("happy rain", 3, 0.5), ("cold", 2, 0.1)], [], [("cold", 5, 0.1)]]
    lists = [[{**row, "tag": t, "weight": float(w), "valence": v} for t, w, v in track] for track in tags]
    labels = pa.chunked_array([pa.array(lists[:2]), pa.array(lists[2:])]).cast(SCHEMAS["labels"].field("evidence").type)
    made = Evidence.of(labels)
    assert made.lengths.tolist() == [2, 0, 1]
    assert sorted(zip(made.values[:2, 0].round(6).tolist(), made.weights[:2].tolist(), strict=True)) == [
        (0.1, 2.0),
        (0.6, 4.0),
    ]
    assert (made.values[2, 0], made.weights[2]) == (0.1, 5.0)


# raters --------------------------------------------------------------------------------------------------------------


def rated(n: int, seed: int = 0, artists: int = 0, noise: float = 0.1) -> tuple[np.ndarray, ...]:
    """Labels (n,) with the means of 2 to 30 raters around values of SD 0.1, their true errors, values, and artists."""
    rng = np.random.default_rng(seed)
    artist = rng.integers(0, artists or n, n)
    value = 0.5 + 0.1 * rng.normal(size=artists or n)[artist]
    error = noise * np.sqrt(5 / rng.integers(2, 31, n))
    return value + error * rng.normal(size=n), error, value, np.array([f"a{i}" for i in artist])


@pytest.mark.parametrize("noise", [0.02, 0.1, 0.3])
def test_the_ceiling_of_raters_is_the_r2_of_who_knows_the_values(noise):
    labels, errors, values, groups = rated(8_000, noise=noise)
    made = rater_ceiling(labels, errors, groups)
    assert made is not None
    assert made.reliability == pytest.approx(1 - np.mean((labels - values) ** 2) / labels.var(), abs=0.02)
    assert made.reliability == pytest.approx(np.corrcoef(labels, values)[0, 1] ** 2, abs=0.02)
    assert made.interval[0] < made.reliability < made.interval[1]
    assert (made.n, made.error) == (8_000, pytest.approx(np.sqrt(np.mean(errors**2))))
    assert made.deviation == pytest.approx(labels.std(ddof=1))


def test_the_interval_of_raters_holds_the_truth_also_where_artists_have_many_tracks():
    held = 0
    for seed in range(60):
        labels, errors, _, groups = rated(200, seed, artists=60)
        made = rater_ceiling(labels, errors, groups, seed)
        assert made is not None
        held += made.interval[0] <= 0.01 / (0.01 + 0.01 * 5 * np.mean(1 / np.arange(2, 31))) <= made.interval[1]
    assert held / 60 > 0.88


def test_labels_without_errors_do_not_count_and_few_or_equal_ones_have_no_ceiling():
    labels, errors, _, groups = rated(100)
    some = np.where(np.arange(100) < 40, errors, np.nan)
    made = rater_ceiling(labels, some, groups)
    assert made == rater_ceiling(labels[:40], errors[:40], groups[:40])
    assert rater_ceiling(labels, np.where(np.arange(100) < 29, errors, np.nan), groups) is None
    assert rater_ceiling(np.full(100, 0.5), errors, groups) is None
    worse = rater_ceiling(labels, 5 * errors, groups)
    assert worse is not None
    assert worse.reliability == 0


# the report ----------------------------------------------------------------------------------------------------------


def workspace(
    folder: str, evidence: Evidence, groups: list[str], from_tags: bool = True, errors: np.ndarray | None = None
) -> None:
    """A workspace with the labels that follow from this evidence, and a model that predicts them.

    errors: (N,), standard errors of labels, NaN where there is none: those that have one are not from tags.
    """
    errors = np.full(len(evidence.lengths), np.nan) if errors is None else errors
    place, n = Workspace(folder), len(evidence.lengths)
    ids = [f"{i:016x}" for i in range(n)]
    ends = np.cumsum(evidence.lengths)
    rows, vad = [], np.zeros((n, 3))
    for i, (start, end) in enumerate(zip(ends - evidence.lengths, ends, strict=True)):
        own, weights = np.clip(evidence.values[start:end], 0, 1), evidence.weights[start:end]
        vad[i] = np.average(own, axis=0, weights=weights)
        terms = [
            {"tag": f"t{t}", "term": f"t{t}", "weight": w, **dict(zip(DIMENSIONS, v, strict=True))}
            for t, w, v in zip(evidence.tags[start:end].tolist(), weights.tolist(), own.tolist(), strict=True)
        ]
        label = dict(zip(DIMENSIONS, vad[i].tolist(), strict=True))
        terms = terms if from_tags and np.isnan(errors[i]) else []
        se = dict.fromkeys([f"se_{d}" for d in DIMENSIONS], None if np.isnan(errors[i]) else float(errors[i]))
        own = {"track_id": ids[i], "evidence": terms, "n_matched": len(terms), "lexicon": "l"}
        rows.append({**label, **se, **own})
    place.append("labels", pa.Table.from_pylist(rows, schema=SCHEMAS["labels"]), "x")
    predicted = (vad + 0.02 * np.random.default_rng(1).normal(size=vad.shape)).clip(0, 1)[None]
    fold = np.array([[int(g[1:]) % 5 for g in groups]])
    place.write_table(
        Predictions(ids, groups, ids, groups, vad, fold, predicted).table(),
        "runs",
        "kernel-mfcc",
        "predictions.parquet",
    )
    spec = features.resolve("mfcc", Params())
    details = {"settings": {"folds": 5, "seed": 0}, "data": "0", "n_tracks": n, "n_artists": n, "repeats": 1}
    around = even_intervals([0.1] * 3), blank_reference(spec.n_dims, spec.hop_s)
    figures = evaluate(vad, predicted, groups)
    details |= {"labels": "planted", "trained_at": "2026-01-01"}
    model = model_folder.Model("kernel-mfcc", "kernel", spec, 215, [], *around, figures, details)
    model_folder.save(model, place, "runs", "kernel-mfcc")


def reported(folder: str) -> tuple[str, str]:
    """What the report prints, on one line, and its text."""
    result = CliRunner().invoke(cli.main, ["report", "--workspace", folder])
    assert result.exit_code == 0, result.output
    return " ".join(result.stdout.split()), Workspace(folder).read_bytes("report", "report.md").decode()


def test_the_report_gives_r2_as_a_share_of_the_ceiling(tmp_path):
    evidence, _, groups, _ = planted(300, fewest=3, most=5)
    workspace(str(tmp_path), evidence, groups)
    printed, text = reported(str(tmp_path))
    expected = ceiling(evidence, groups)
    assert expected is not None
    assert "## Ceiling" in text
    assert f"| valence | {expected.halves[0]:.3f} | {expected.reliability[0]:.3f} [" in text
    r2 = float(text.partition("| kernel | MFCC | ")[2].split(" | ")[3].strip("*").split()[0])
    shares = text.rpartition("| kernel | MFCC | ")[2].splitlines()[0]
    assert float(shares.split("%")[0]) == pytest.approx(100 * r2 / expected.reliability[0], abs=1.5)
    assert f"valence {expected.reliability[0]:.2f} (the best R² is " in printed
    assert "lower bound" not in printed + text


def test_a_run_of_a_dimension_that_labels_no_longer_have_has_no_share(tmp_path):
    evidence, _, groups, _ = planted(100, fewest=3, most=5)
    workspace(str(tmp_path), evidence, groups)
    place = Workspace(str(tmp_path))
    labels = place.read("labels").drop_columns(["dominance", "se_dominance"]).to_pylist()
    place.discard("labels")
    place.append("labels", pa.Table.from_pylist(labels, labels_schema(("valence", "arousal"))), "x")
    _, text = reported(str(tmp_path))
    shares = text.rpartition("| kernel | MFCC | ")[2].splitlines()[0]
    assert [cell.strip().endswith("%") for cell in shares.split("|")[:3]] == [True, True, False]


def test_a_ceiling_from_few_different_tags_is_called_a_lower_bound(tmp_path):
    evidence, _, groups, _ = planted(100, fewest=3, most=5)
    few = Evidence(evidence.tags % 12, evidence.values, evidence.weights, evidence.lengths)
    workspace(str(tmp_path), few, groups)
    assert all("a lower bound" in said for said in reported(str(tmp_path)))


def test_labels_that_were_given_have_no_ceiling(tmp_path):
    evidence, _, groups, _ = planted(100, fewest=3)
    workspace(str(tmp_path), evidence, groups, from_tags=False)
    printed, text = reported(str(tmp_path))
    assert "Ceiling" not in text
    assert "to be expected" not in printed


def test_the_report_gives_the_ceiling_of_raters_errors(tmp_path):
    evidence, _, groups, _ = planted(300, fewest=3, most=5)
    errors = np.random.default_rng(3).uniform(0.02, 0.06, 300)
    workspace(str(tmp_path), evidence, groups, errors=errors)
    printed, text = reported(str(tmp_path))
    labels = Workspace(tmp_path).read("labels")["valence"].to_numpy()
    made = rater_ceiling(labels, errors, groups)
    assert made is not None
    assert f"| valence | 300 | {made.error:.3f} | {made.deviation:.3f} | {made.reliability:.3f} [" in text
    assert f"] | {np.sqrt(made.reliability):.3f} |" in text
    assert "r between halves" not in text
    r2 = float(text.partition("| kernel | MFCC | ")[2].split(" | ")[3].strip("*").split()[0])
    shares = text.rpartition("| kernel | MFCC | ")[2].splitlines()[0]
    assert float(shares.split("%")[0]) == pytest.approx(100 * r2 / made.reliability, abs=1.5)
    assert f"from the raters' standard errors: valence {made.reliability:.2f} (the best R² is " in printed


def test_a_ceiling_of_a_part_of_the_labels_is_told_and_no_r2_given_as_its_share(tmp_path):
    evidence, _, groups, _ = planted(300, fewest=3, most=5)
    errors = np.where(np.arange(300) < 150, 0.04, np.nan)
    workspace(str(tmp_path), evidence, groups, errors=errors)
    printed, text = reported(str(tmp_path))
    assert "| valence | 150 | 0.040 |" in text
    assert "r between halves" in text
    assert "of 150 labelled from tags" in text
    assert "Each ceiling holds for a part of the labels" in text
    assert "R² / ceiling" not in text
    assert printed.count("Highest R² to be expected") == 2
    assert "of it)" not in printed
