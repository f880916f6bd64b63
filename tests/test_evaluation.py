"""Figures agree with scikit-learn's, and tables say what the figures say."""

from __future__ import annotations

import csv
import io
import re
from dataclasses import replace

import matplotlib.image
import numpy as np
import pyarrow as pa
import pytest
import scipy.stats
import sklearn.metrics
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from markdown_it import MarkdownIt
from parts import blank_reference, even_intervals

from mer_ray import features, models
from mer_ray.config import TrainConfig
from mer_ray.errors import InputError, WorkspaceError
from mer_ray.evaluation import against, leakage_report
from mer_ray.evaluation.calibration import calibration
from mer_ray.evaluation.escape import latex_text, markdown_text
from mer_ray.evaluation.judge import Candidate, Row, judge
from mer_ray.evaluation.latex import latex
from mer_ray.evaluation.metric_tables import Table, differences_markdown, display, markdown, original_markdown, to_csv
from mer_ray.evaluation.metrics import INDEX, METRICS, Metrics, constant_mean, constant_median, metrics, spread
from mer_ray.evaluation.plots import bands, calibration_picture, learning_curves, predicted_against_labelled
from mer_ray.evaluation.predictions import Predictions, from_table, joined_groups, other_labels
from mer_ray.evaluation.summary import evaluate
from mer_ray.features.mfcc import Params
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.scoring.card import card
from mer_ray.scoring.model_folder import Model
from mer_ray.training.settings import RESOURCES

HOSTILE = r"""A|B $x_1$ <b>&amp;</b> [c](http://d) `e` **f** \input{g} % # ~ ^ {h} "i" 中 www.j.com ! é"""
values = st.floats(0, 1).map(lambda x: round(x, 6))


# figures -----------------------------------------------------------------------------------------------------------


@settings(max_examples=50, deadline=None)
@given(st.integers(2, 40).flatmap(lambda n: st.tuples(*[hnp.arrays(np.float64, n, elements=values)] * 2)))
def test_figures_are_those_of_scikit_learn_scipy_and_lin(pair):
    true, predicted = pair
    got = metrics(true, predicted)
    assert got["mse"] == pytest.approx(sklearn.metrics.mean_squared_error(true, predicted), abs=1e-9)
    assert got["mae"] == pytest.approx(sklearn.metrics.mean_absolute_error(true, predicted), abs=1e-9)
    assert got["rmse"] == pytest.approx(sklearn.metrics.root_mean_squared_error(true, predicted), abs=1e-9)
    assert got.n == len(true)
    assert got.label_sd == pytest.approx(true.std(), abs=1e-12)
    if np.ptp(true) == 0:
        assert np.isnan([got["r2"], got["r"], got["ccc"]]).all()
        return
    assert got["r2"] == pytest.approx(sklearn.metrics.r2_score(true, predicted), rel=1e-9, abs=1e-9)
    covariance = np.mean((true - true.mean()) * (predicted - predicted.mean()))
    apart = true.mean() - predicted.mean()
    assert got["ccc"] == pytest.approx(2 * covariance / (true.var() + predicted.var() + apart**2), abs=1e-9)
    if np.ptp(predicted) > 0:
        assert got["r"] == pytest.approx(scipy.stats.pearsonr(true, predicted).statistic, abs=1e-9)
    else:
        assert np.isnan(got["r"])
        assert got["ccc"] == 0


def test_a_figure_of_repeats_is_its_mean():
    rng = np.random.default_rng(0)
    true, predicted = rng.uniform(size=30), rng.uniform(size=(3, 30))
    each = [metrics(true, p).values for p in predicted]
    assert metrics(true, predicted).values == pytest.approx(np.mean(each, axis=0), abs=1e-12)


def test_a_model_that_says_the_mean_has_no_r2():
    true = np.random.default_rng(0).uniform(size=500)
    assert metrics(true, np.full(500, true.mean()))["r2"] == pytest.approx(0, abs=1e-12)
    assert metrics(true, true).values == pytest.approx([0, 0, 0, 1, 1, 1])
    fold = np.arange(500) % 5
    baseline = metrics(true, constant_mean(true, fold))
    assert -0.02 < baseline["r2"] < 0
    assert baseline["mse"] == pytest.approx(true.var(), rel=0.02)


@pytest.mark.parametrize("label", [0.1, 1 / 3, 0.7])
def test_labels_that_do_not_vary_have_no_r2(label):
    got = metrics(np.full(10, label), np.linspace(0, 1, 10))
    assert np.isnan([got["r2"], got["r"], got["ccc"]]).all()


def test_the_constants_have_not_seen_their_fold():
    true, fold = np.array([0.1, 0.2, 0.6, 0.9]), np.array([0, 0, 1, 2])
    assert constant_mean(true, fold).tolist() == pytest.approx([0.75, 0.75, 0.4, 0.3])
    assert constant_median(true, fold).tolist() == pytest.approx([0.75, 0.75, 0.2, 0.2])


def test_the_spread_of_a_constant_is_none_though_each_fold_has_another():
    rng = np.random.default_rng(0)
    true, fold = rng.uniform(size=40), np.arange(40) % 4
    assert spread(true, constant_mean(true, fold), fold) == pytest.approx(0, abs=1e-12)
    assert spread(true, true, np.zeros(40)) == pytest.approx(1)
    assert np.isnan(spread(np.full(40, 0.3), true, fold))


def test_the_summary_of_a_run_is_metrics_and_intervals():
    rng = np.random.default_rng(0)
    labels, predicted = rng.uniform(size=(60, 3)), rng.uniform(size=(2, 60, 3))
    got = evaluate(labels, predicted, [f"artist {i % 20}" for i in range(60)])
    assert list(got) == list(DIMENSIONS)
    for i, dimension in enumerate(DIMENSIONS):
        message = got[dimension]
        assert message.keys() == {*METRICS, "n", "label_sd", "intervals"}
        assert {k: v for k, v in message.items() if k != "intervals"} == metrics(
            labels[:, i], predicted[..., i]
        ).to_json()
        for figure in METRICS:
            lower, upper = message["intervals"][figure]
            assert lower < message[figure] < upper


def test_a_dimension_is_judged_by_the_tracks_that_have_a_label_of_it():
    rng = np.random.default_rng(0)
    labels, predicted = rng.uniform(size=(80, 4)), rng.uniform(size=(2, 80, 4))
    groups, names = [f"artist {i % 20}" for i in range(80)], ("valence", "arousal", "tension", "energy")
    whole = evaluate(labels, predicted, groups, names)
    assert list(whole) == list(names)
    known = rng.uniform(size=80) < 0.6
    masked = labels.copy()
    masked[~known, 2] = np.nan
    got = evaluate(masked, predicted, groups, names)
    assert {n: got[n] for n in names if n != "tension"} == {n: whole[n] for n in names if n != "tension"}
    own = [g for g, k in zip(groups, known, strict=True) if k]
    assert got["tension"] == evaluate(labels[known][:, 2:3], predicted[:, known][..., 2:3], own, ["x"])["x"]
    assert got["tension"]["n"] == known.sum()


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 30))
def test_tracks_without_a_label_are_as_if_they_were_not_there(seed, n_unknown):
    labels, groups, candidates = planted(seed, 60)
    rng, chosen = np.random.default_rng(seed), [candidates["good"], candidates["random"]]
    known = rng.permutation(60) >= n_unknown
    masked, own = np.where(known, labels, np.nan), [g for g, k in zip(groups, known, strict=True) if k]
    few = [Candidate(c.network, c.feature, c.predicted[:, known], c.fold[:, known]) for c in chosen]
    for got, wanted in zip(judge(masked, groups, chosen), judge(labels[known], own, few), strict=True):
        np.testing.assert_array_equal(got.metrics.values, wanted.metrics.values)
        np.testing.assert_array_equal(got.intervals, wanted.intervals)
        assert (got.spread, got.best, got.beats_mean, got.metrics.n) == (
            *(wanted.spread, wanted.best, wanted.beats_mean),
            60 - n_unknown,
        )
    line, straight = (
        calibration(*of) for of in ((masked, chosen[0].predicted, groups), (labels[known], few[0].predicted, own))
    )
    assert (line.slope, line.intercept) == (straight.slope, straight.intercept)
    np.testing.assert_array_equal(line.upper, straight.upper)


# verdicts ----------------------------------------------------------------------------------------------------------


def planted(seed: int = 0, n: int = 300) -> tuple[np.ndarray, list[str], dict[str, Candidate]]:
    """Labels (N,), groups, and candidates with known truth, in three repeats."""
    rng = np.random.default_rng(seed)
    group = rng.integers(0, 100, n)
    labels = np.clip(0.5 + rng.normal(0, 0.1, 100)[group] + rng.normal(0, 0.1, n), 0, 1)
    fold = np.stack([rng.integers(0, 5, 100)[group] for _ in range(3)])

    def noisy(sd: float) -> np.ndarray:
        return labels + rng.normal(0, sd, (3, n))

    made = {
        "winner": noisy(0.03),
        "good": noisy(0.08),
        "good too": noisy(0.08),
        "random": rng.permuted(np.tile(labels, (3, 1)), axis=1),
        "flat": np.stack([constant_mean(labels, f) for f in fold]) + 0.002 * rng.standard_normal((3, n)),
    }
    return labels, [f"artist {g}" for g in group], {k: Candidate(k, "mfcc", v, fold) for k, v in made.items()}


def judged(*names: str) -> dict[str, Row]:
    labels, groups, candidates = planted()
    return {row.network: row for row in judge(labels, groups, [candidates[n] for n in names])}


def test_a_clear_winner_is_bold_alone_and_nothing_is_as_good():
    rows = judged("good", "winner", "random")
    assert rows["winner"].best
    assert not any(r.near_best for r in rows.values())
    made = Table("valence", list(rows.values()), "")
    assert bold(made) == [(list(rows).index("winner"), 2 + c) for c in range(len(METRICS))]
    assert rows["winner"].verdict == "best"


def test_rows_that_differ_by_noise_are_marked():
    rows = judged("good", "good too", "random")
    assert sorted(r.verdict for n, r in rows.items() if n.startswith("good")) == ["best", "≈ best"]
    assert not rows["random"].near_best
    assert not rows["constant mean"].near_best


def test_a_model_that_knows_nothing_is_told_so():
    rows = judged("random", "flat", "good")
    assert rows["good"].beats_mean
    for name in "random", "flat":
        assert rows[name].intervals[INDEX["r2"], 0] <= 0
        assert not rows[name].beats_mean
    assert rows["random"].verdict == "not better than the mean"
    assert rows["flat"].verdict == "predicts the mean"
    assert rows["constant mean"].verdict == ""
    assert rows["constant mean"].beats_mean is None


def test_random_labels_hardly_ever_look_learned():
    """At most 2 of 20 tries: nominal are 2.5 %."""
    surely = 0
    for seed in range(20):
        labels, groups, candidates = planted(seed, 120)
        row = judge(labels, groups, [candidates["random"]])[-1]
        surely += row.intervals[INDEX["r2"], 0] > 0
        assert not row.beats_mean
    assert surely <= 2


def test_a_network_is_compared_with_the_svr_on_its_own_feature():
    labels, groups, made = planted()
    winner, good = made["winner"], made["good"]
    candidates = [
        Candidate("cnn", "mfcc", winner.predicted, winner.fold),
        Candidate("svr", "mfcc", good.predicted, good.fold),
        Candidate("cnn", "vggish", winner.predicted, winner.fold),
    ]
    rows = judge(labels, groups, candidates)
    value, lower, upper = rows[2].over_svr
    assert value == pytest.approx(rows[2].metrics["r2"] - rows[3].metrics["r2"])
    assert 0 < lower < value < upper
    assert [r.over_svr for r in rows if r is not rows[2]] == [None] * 4
    text = differences_markdown([Table("valence", rows, "")])
    assert f"| CNN on MFCC | valence | {value:+.3f} | [{lower:+.3f}, {upper:+.3f}] | better |" in text
    assert differences_markdown([Table("valence", rows[:2], "")]) == ""


# tables ------------------------------------------------------------------------------------------------------------


def row(network: str, feature: str, mse: float, mae: float, r2: float, **more: bool) -> Row:
    figures = Metrics(np.array([mse, mae, np.sqrt(mse), r2, 0.1, 0.05]), 96, 0.123456789)
    return Row(network, feature, figures, np.stack([figures.values - 0.01, figures.values + 0.01], axis=1), **more)


def table(*figures: tuple[float, float, float]) -> Table:
    names = [("constant mean", "-"), ("cnn", "mfcc"), ("lstm", "vggish")]
    return Table("valence", [row(*n, *f) for n, f in zip(names, figures, strict=False)], "96 tracks.")


def bold(made: Table) -> list[tuple[int, int]]:
    return [(i, c) for i, line in enumerate(made.cells()) for c, (_, is_bold) in enumerate(line) if is_bold]


def test_the_best_figures_are_bold():
    got = bold(table((0.03, 0.1, 0.0), (0.02, 0.2, 0.5), (0.01, 0.3, 0.4)))
    assert [place for place in got if place[1] < 6] == [(0, 3), (1, 5), (2, 2), (2, 4)]


def test_all_that_share_the_best_figure_as_shown_are_bold():
    got = bold(table((0.02, 0.1, -0.0001), (0.020004, 0.1, 0.0), (0.03, 0.2, 0.0004)))
    assert [place for place in got if place[1] in (2, 3, 5)] == [
        *[(0, 2), (0, 3), (0, 5)],
        *[(1, 2), (1, 3), (1, 5)],
        (2, 5),
    ]


def test_no_figure_is_never_the_best():
    got = bold(table((0.02, 0.1, float("nan")), (0.03, 0.2, -3.0)))
    assert [place for place in got if place[1] in (2, 3, 5)] == [(0, 2), (0, 3), (1, 5)]
    assert (0, 5) not in bold(table((0.02, 0.1, float("nan"))))


def test_markdown_has_intervals_verdicts_and_the_names_of_the_settings():
    rows = [row("constant mean", "-", 0.03, 0.1, -0.01), row("lstm", "vggish", 0.01, 0.3, 0.4, best=True)]
    lines = markdown(Table("valence", rows, "96 tracks.")).splitlines()
    assert lines[0] == "### Valence"
    assert lines[2] == "| Network | Feature | MSE | MAE | RMSE | R² | r | CCC | Verdict |"
    assert lines[4].startswith("| constant mean | - | 0.0300 [0.0200, 0.0400] | **0.1000 [0.0900, 0.1100]** |")
    assert "| LSTM | VGGish | **0.0100 [0.0000, 0.0200]** |" in lines[5]
    assert lines[5].endswith("| best |")
    assert lines[-1] == "96 tracks."
    assert display("mfcc") == "MFCC"


def test_the_original_s_form_has_its_networks_alone_and_tells_the_constants():
    rows = [
        row("constant mean", "-", 0.005, 0.01, 0.0),
        row("svr", "mfcc", 0.006, 0.02, 0.9),
        row("cnn", "mfcc", 0.02, 0.2, 0.1),
        row("lstm", "mfcc", 0.03, 0.1, 0.2),
    ]
    made = Table("valence", rows, "")
    text = original_markdown([made])
    assert "| CNN | MFCC | **0.0200** | 0.2000 |" in text
    assert "| LSTM | MFCC | 0.0300 | **0.1000** |" in text
    assert "SVR" not in text
    assert "a constant mean has MSE 0.0050, MAE 0.0100" in text
    assert original_markdown([Table("valence", rows[:2], "")]) == ""


def test_the_csv_has_exactly_the_promised_columns_in_full_precision():
    rows = [row("constant mean", "-", 1 / 3, 0.1, float("nan")), row("cnn", "mfcc", 0.02, 0.2, 0.5, beats_mean=False)]
    got = list(csv.DictReader(io.StringIO(to_csv([Table("valence", rows, "")]))))
    limits = [f"{f}_{end}" for f in METRICS for end in ("lower", "upper")]
    flags = ["best", "near_best", "beats_mean", "predicts_mean", "verdict"]
    more = ["split", "scale", "rmse_on_scale", "mae_on_scale"]
    columns = ["dimension", "network", "feature", *METRICS, "n", "label_sd", *limits, "spread", *flags, *more]
    assert list(got[0]) == columns
    assert [got[0][name] for name in more] == ["groups", "", "", ""]
    assert float(got[0]["mse"]) == 1 / 3
    assert got[0]["r2"] == "nan"
    assert got[0]["beats_mean"] == ""
    wanted = {"network": "cnn", "mse": "0.02", "mae_lower": "0.19", "n": "96", "best": "false"}
    assert {**wanted, "label_sd": "0.123456789"}.items() <= got[1].items()
    assert (got[1]["beats_mean"], got[1]["verdict"]) == ("false", "not better than the mean")


def test_latex_is_balanced_and_every_row_has_every_column():
    rows = [row("constant mean", "-", 0.03, 0.1, -0.01), row("cnn", HOSTILE, 0.01, 0.3, 0.4, near_best=True)]
    text = latex([Table("valence", rows, HOSTILE)])
    bare = re.sub(r"\\[\\{}$&%#_]", "", text.replace(r"\\" + "\n", "\n"))  # without what is escaped, and ends of rows
    assert bare.count("{") == bare.count("}")
    assert bare.count("$") % 2 == 0
    assert text.isascii()
    for body in re.findall(r"\\toprule\n(.*?)\\bottomrule", text, re.DOTALL):
        lines = [line for line in body.splitlines() if line != r"\midrule"]
        assert len({len(re.findall(r"(?<!\\)&", line)) for line in lines}) == 1
        assert all(line.endswith(r" \\") for line in lines)
    assert r"\input" not in text
    assert r"{$-$0.010 [$-$0.020, 0.000]}" in text


@given(st.text())
def test_no_text_is_read_as_markup(text):
    shown = latex_text(text)
    assert shown.isascii()
    assert "\n" not in shown
    bare = re.sub(r"\\[#$%&_{}]", "", shown)
    assert bare.count("{") == bare.count("}")
    assert not re.search(r"[#%&_~^]", bare.replace("$^2$", ""))
    inline = MarkdownIt("commonmark", {"linkify": False}).enable("table").parse(f"# x{markdown_text(text)}x")[1]
    assert {t.type for t in inline.children} <= {"text", "text_special"}


def test_hostile_text_is_shown_as_it_is():
    cell = f"| a | b |\n| --- | --- |\n| {markdown_text(HOSTILE)} | c |\n"
    html = MarkdownIt("commonmark").enable("table").render(cell)
    shown = re.findall(r"<td>(.*?)</td>", html)
    assert shown == [
        HOSTILE.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").replace('"', "&quot;"),
        "c",
    ]


# leakage -----------------------------------------------------------------------------------------------------------


def leak(**changed: object) -> dict[str, object]:
    pairs = [{"a": f"t{i}", "b": f"u{i}", "similarity": i / 30, "same_artist": i != 3} for i in range(30)]
    report = {
        "feature": "mfcc",
        "grouped_r2": [0.1, 0.2, 0.3],
        "random_r2": [0.3, 0.2, 0.3],
        "leak": [0.2, 0.0, 0.0],
        "leak_lower": [0.1, -0.1, -0.1],
        "leak_upper": [0.3, 0.1, 0.1],
        "duplicates": pairs,
        "n_duplicates_across_artists": 1,
    }
    return {**report, **changed}


def test_the_leakage_section_tells_the_inflation_and_twenty_pairs():
    text = leakage_report.leakage_markdown([leak()], {"t3": (HOSTILE, HOSTILE), "t29": ("", "Only a title")})
    assert "| MFCC | valence | 0.300 | 0.100 | +0.200 | [+0.100, +0.300] | inflated |" in text
    assert text.count("not distinguishable") == 2
    assert "30 pairs, 1 of them across artists" in text
    pairs = [line for line in text.splitlines() if line.endswith(("same |", "another |"))]
    assert len(pairs) == 20
    assert pairs[0].endswith("| u3 | 0.100 | another |")  # across artists first, then the most similar
    assert pairs[1].startswith("| Only a title | u29 | 0.967 |")
    assert markdown_text(HOSTILE) in pairs[0]
    assert leakage_report.leakage_markdown([], {}) == ""
    assert "0 pairs." in leakage_report.leakage_markdown([leak(duplicates=[])], {})


@pytest.mark.parametrize("broken", [None, [], {"feature": "mfcc"}, leak(leak=[0.1])])
def test_a_broken_leakage_report_is_an_error_that_names_it(broken):
    with pytest.raises(WorkspaceError, match=r"baselines/mfcc\.json is no leakage report \(.*leak"):
        leakage_report.check(broken, "baselines/mfcc.json")


# predictions -------------------------------------------------------------------------------------------------------


def rows_of(n: int = 4, repeats: int = 2) -> dict[str, list[object]]:
    ids = [f"t{i}" for i in range(n)] * repeats
    columns: dict[str, list[object]] = {name: list(ids) for name in ("track_id", "artist", "title", "group")}
    columns["repeat"] = [r for r in range(repeats) for _ in range(n)]
    columns["fold"] = [i % 2 for i in range(n * repeats)]
    for d in DIMENSIONS:
        columns[d] = [i % n / n for i in range(n * repeats)]
        columns[f"predicted_{d}"] = [i / n / repeats for i in range(n * repeats)]
    return columns


def test_predictions_are_arrays_whatever_the_order_of_the_rows():
    straight = pa.table(rows_of())
    got = from_table(straight.take(np.random.default_rng(0).permutation(8)), "x")
    assert got.ids == ["t0", "t1", "t2", "t3"]
    assert got.predicted.shape == (2, 4, 3)
    assert got.predicted[..., 0].tolist() == [[0, 0.125, 0.25, 0.375], [0.5, 0.625, 0.75, 0.875]]
    assert got.labels[:, 1].tolist() == [0, 0.25, 0.5, 0.75]
    assert got.fold.tolist() == [[0, 1, 0, 1]] * 2
    part = got.on(["t2", "t0"])
    assert part.predicted[1, :, 2].tolist() == [0.75, 0.5]
    assert part.groups == ["t2", "t0"]


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"group": None}, "has no group"),
        ({"track_id": ["t0"] * 8}, "each track once"),
        ({"valence": [float("nan")] * 8}, "not a number"),
        ({d: [float("nan"), *[0.5] * 3] * 2 for d in DIMENSIONS}, "not a number"),
        ({"valence": [float("inf"), *[0.5] * 3] * 2}, "not a number"),
        ({"predicted_valence": [None, *[0.5] * 7]}, "not a number"),
        ({f"predicted_{d}": None for d in DIMENSIONS}, "has no predicted_valence"),
        ({"valence": None}, "has no valence"),
    ],
)
def test_a_table_that_is_none_of_predictions_is_named(changed, said):
    columns = {k: v for k, v in {**rows_of(), **changed}.items() if v is not None}
    with pytest.raises(WorkspaceError, match=f"runs/x.* {said}"):
        from_table(pa.table(columns), "runs/x")


@pytest.mark.parametrize("names", [("arousal",), ("valence", "arousal"), ("energy", "valence", "tension", "arousal")])
def test_predictions_of_any_dimensions_come_back_from_their_table(names):
    rng, texts = np.random.default_rng(0), [f"t{i:02d}" for i in range(12)]
    labels, predicted = rng.uniform(size=(12, len(names))), rng.uniform(size=(2, 12, len(names)))
    labels[:5, 1:] = np.nan
    made = Predictions(texts, texts, texts, texts, labels, np.zeros((2, 12), int), predicted, names)
    stored = made.table()
    assert stored[names[-1]].null_count == (10 if len(names) > 1 else 0)  # not NaN
    back = from_table(stored, "x")
    assert back.dimensions == names
    np.testing.assert_array_equal(back.labels, labels)
    np.testing.assert_array_equal(back.predicted, predicted)
    turned = back.of(names[::-1])
    np.testing.assert_array_equal(turned.labels, labels[:, ::-1])
    assert turned.on(["t11", "t03"]).dimensions == names[::-1]


@pytest.mark.parametrize("name", ["../../x", "Valence", "", "a|b"])
def test_a_column_becomes_no_dimension_that_could_be_a_path_or_markup(name):
    columns = rows_of()
    columns[name], columns[f"predicted_{name}"] = columns["valence"], columns["predicted_valence"]
    with pytest.raises(WorkspaceError, match="runs/x cannot be read"):
        from_table(pa.table(columns), "runs/x")


def test_a_label_that_only_one_of_two_runs_knows_is_another_label():
    one, other = predictions_of(0.1, 1), predictions_of(0.1, 1)
    other.labels[3, 1] = np.nan
    assert other_labels(one, other) == 1
    assert other_labels(other, other) == 0
    assert other_labels(one.of(["valence", "dominance"]), other) == 0


def test_groups_are_joined_where_any_grouping_joins_them():
    assert joined_groups([["a", "a", "b"], ["a", "a", "b"]]) == ["a", "a", "b"]
    joined = joined_groups([["a", "a", "b", "c"], ["1", "2", "2", "3"]])
    assert joined[0] == joined[1] == joined[2] != joined[3]


# against -----------------------------------------------------------------------------------------------------------


def predictions_of(error: float, seed: int, ids: range = range(100)) -> Predictions:
    rng = np.random.default_rng(seed)
    n, names = len(ids), [f"t{i:03d}" for i in ids]
    labels = np.random.default_rng(0).uniform(size=(200, 3))[list(ids)]
    noise = rng.normal(0, error, (2, n, 3))
    return Predictions(names, names, names, [f"g{i // 2}" for i in ids], labels, np.zeros((2, n), int), labels + noise)


def test_a_better_run_is_better_in_every_figure_and_worse_the_other_way_round():
    good, bad = predictions_of(0.05, 1), predictions_of(0.2, 2, range(50, 200))
    found = against.compare(good, bad, ("good", "bad"))
    assert len(found) == 3 * len(METRICS)
    assert {d.word for d in found} == {"better"}
    assert {d.n for d in found} == {50}
    assert {d.word for d in against.compare(bad, good, ("bad", "good"))} == {"worse"}
    assert all(d.value == d.this_value - d.that_value and d.lower < d.value < d.upper for d in found)
    equal = against.compare(good, predictions_of(0.05, 3), ("good", "good too"))
    assert "not distinguishable" in {d.word for d in equal if d.figure == "mse"}
    assert "| good | bad | MSE |" in against.markdown(found, "elsewhere")
    assert len(list(csv.DictReader(io.StringIO(against.to_csv(found))))) == len(found)


def test_runs_of_other_dimensions_are_compared_in_those_that_both_have():
    one, other = predictions_of(0.1, 1), predictions_of(0.1, 2).of(["arousal", "valence"])
    one.labels[:40, 0] = other.labels[:40, 1] = np.nan
    found = against.compare(one, other, ("one", "other"))
    assert against.dimensions_of(found) == ["valence", "arousal"]
    assert {(d.dimension, d.n) for d in found} == {("valence", 60), ("arousal", 100)}
    straight = {d.figure: d.value for d in against.compare(one.of(["arousal"]), other, ("one", "other"))}
    assert {d.figure: d.value for d in found if d.dimension == "arousal"} == straight
    remarks = against.not_compared(one, other, ("one", "other"))
    assert remarks == ["Not compared: dominance, which one predicts and other does not."]
    assert against.not_compared(other, one, ("other", "one")) == remarks
    text = against.markdown(found, "elsewhere", remarks)
    assert remarks[0] in text
    assert "## Dominance" not in text
    assert "On the 60 to 100 tracks" in text
    with pytest.raises(InputError, match="one predicts dominance, other arousal, valence"):
        against.compare(one.of(["dominance"]), other, ("one", "other"))


def test_a_comparison_on_few_groups_says_so():
    one, other = predictions_of(0.05, 1), predictions_of(0.1, 2)
    found = against.compare(one, other, ("one", "other"))
    assert "rest on few groups" not in against.caption(found)
    one.groups[:80] = other.groups[:80] = ["Zimmer"] * 80
    found = against.compare(one, other, ("one", "other"))
    assert "the largest has 80 of 100 tracks" in against.caption(found)
    assert "the largest has 80 of 100 tracks" in against.markdown(found, "there")


def test_runs_that_cannot_be_compared_are_named():
    one, other = predictions_of(0.1, 1), predictions_of(0.1, 2)
    with pytest.raises(InputError, match="this and that have no track in common"):
        against.compare(one, predictions_of(0.1, 2, range(100, 120)), ("this", "that"))
    other.labels[:7, 1] += 0.1
    with pytest.raises(InputError, match="this and that have other labels for 7 of the 100 tracks"):
        against.compare(one, other, ("this", "that"))


# pictures ----------------------------------------------------------------------------------------------------------


def is_a_picture(data: bytes) -> bool:
    pixels = matplotlib.image.imread(io.BytesIO(data))
    return min(pixels.shape[:2]) > 250 and pixels[..., :3].std() > 0.01  # something is drawn


@pytest.mark.filterwarnings("ignore:Glyph .* missing")
def test_a_plot_is_a_picture_whatever_its_texts():
    rng = np.random.default_rng(0)
    labelled = rng.uniform(size=50)
    panels = [(HOSTILE, np.clip(labelled + rng.normal(0, 0.1, 50), 0, 1), 0.5) for _ in range(5)]
    assert is_a_picture(predicted_against_labelled("arousal", labelled, panels, f"50 tracks, $100 $ {HOSTILE}"))


def test_calibration_finds_the_line_and_its_bins_hold_the_truth():
    rng = np.random.default_rng(0)
    predicted = rng.uniform(size=(2, 4_000))
    predicted[1] = predicted[0]
    labels = 0.2 + 0.5 * predicted[0] + rng.normal(0, 0.1, 4_000)
    got = calibration(labels, predicted, np.arange(4_000) // 4)
    assert got.slope == pytest.approx(0.5, abs=0.02)
    assert got.intercept == pytest.approx(0.2, abs=0.02)
    assert len(got.predicted) == 8
    inside = (got.lower <= 0.2 + 0.5 * got.predicted) & (0.2 + 0.5 * got.predicted <= got.upper)
    assert inside.sum() >= 7
    # Two copies of the same predictions are no more evidence than one.
    once = calibration(labels, predicted[:1], np.arange(4_000) // 4)
    assert got.upper - got.lower == pytest.approx(once.upper - once.lower, rel=0.01)


@pytest.mark.parametrize(("stretch", "slope"), [(0.5, 2.0), (1.0, 1.0), (2.0, 0.5)])
def test_a_slope_below_1_is_of_predictions_that_lie_too_far_from_the_mean(stretch, slope):
    """Not of predictions that vary more than the labels do: these all vary less."""
    rng = np.random.default_rng(0)
    known, not_known = rng.normal(0, 0.05, 20_000), rng.normal(0, 0.12, 20_000)
    labels, predicted = 0.5 + known + not_known, 0.5 + stretch * known
    got = calibration(labels, predicted[None], np.arange(20_000))
    assert predicted.std() < labels.std()
    assert got.slope == pytest.approx(slope, rel=0.05)
    lowest, highest = got.labelled[0] - got.predicted[0], got.labelled[-1] - got.predicted[-1]
    if slope < 1:  # what is predicted to be low is not so low, what is predicted to be high not so high
        assert lowest > 0.02
        assert highest < -0.02
    if slope > 1:
        assert lowest < -0.02
        assert highest > 0.02


def test_calibration_of_a_constant_has_one_bin_and_no_line():
    got = calibration(np.array([0.2, 0.4]), np.full((1, 2), 0.3), ["a", "b"])
    assert got.predicted.tolist() == pytest.approx([0.3])
    assert got.labelled.tolist() == pytest.approx([0.3])
    assert np.isnan([got.slope, got.intercept]).all()
    assert is_a_picture(calibration_picture("valence", [("x", got)], ""))


def test_learning_curves_are_bands_over_those_that_got_so_far():
    epoch, loss = np.array([0, 0, 0, 1, 1, 1]), np.array([1.0, 2.0, 3.0, 0.5, 0.7, np.nan])
    at, low, median, high = bands(epoch, loss)
    assert at.tolist() == [0, 1]
    assert median.tolist() == pytest.approx([2.0, 0.6])
    assert (low < median).all()
    assert (median < high).all()
    columns = {"repeat": 0 * epoch, "fold": [0, 1, 2] * 2, "member": 0 * epoch}
    curves = pa.table({**columns, "epoch": epoch, "train_loss": loss, "valid_loss": loss})
    assert is_a_picture(learning_curves([("a $b", curves)], "$"))


# the card ----------------------------------------------------------------------------------------------------------


def test_the_card_says_what_the_model_is_how_good_and_what_for():
    feature = features.resolve("mfcc", Params())
    ends = {f: [0.01, 0.99] for f in METRICS}
    figures = {
        d: {**dict.fromkeys(METRICS, 0.4567), "mse": 0.0123, "n": 96, "label_sd": 0.17, "intervals": ends}
        for d in DIMENSIONS
    }
    details = {
        "settings": {"members": 2, "folds": 5, "seed": 11, "window_s": 5.0},
        "n_tracks": 1_096,
        "n_artists": 24,
        "repeats": 3,
        "labels": "weighted means of a *lexicon*",
        "about": "Clips of *many* kinds.",
        "coverage": [0.9, 0.91, 0.877],
        "data": "0123abcd",
        "trained_at": "2026-01-01",
    }
    around = even_intervals([0.1, 0.2, 0.333]), blank_reference(feature.n_dims, feature.hop_s)
    model = Model("cnn-mfcc", "cnn", feature, 215, [], *around, figures, details)
    text = card(model, {"svr": {d: {"r2": 0.222} for d in DIMENSIONS}})
    for said in (
        *("# CNN on MFCC", "1,096 tracks by 24 artists", r"weighted means of a \*lexicon\*", feature.fingerprint),
        *("5 folds × 3 repeats (seeds 11 to 13)", "near-duplicates"),
        *("| 0.0123 [0.0100, 0.9900] |", "0.457 [0.010, 0.990]", "± 0.333 | 87.7 % |", "R² of the SVR", "| 0.222 |"),
        r"Clips of \*many\* kinds.",
        *(r"window\_s 5.0", "--model runs/cnn-mfcc", "mer_ray.load_model", "what a person feels", "Not for"),
    ):
        assert said in text, said
    assert "Note:" not in text
    assert "of the SVR" not in card(model)


def model_of(network: str, **details: object) -> Model:
    feature = features.resolve("mfcc", Params())
    figures = {d: {**dict.fromkeys(METRICS, 0.4), "n": 96, "label_sd": 0.17, "intervals": {}} for d in DIMENSIONS}
    every = TrainConfig(loss="huber", members=3, search={"trials": 4}).model_dump(exclude=set(RESOURCES))
    settings = {k: models.DEFAULTS.get(k) if v is None else v for k, v in every.items()}
    message = {"settings": settings, "n_tracks": 90, "n_artists": 9, "data": "0", "trained_at": "2026-01-01", **details}
    around = even_intervals([0.1, 0.2, 0.3]), blank_reference(feature.n_dims, feature.hop_s)
    return Model(f"{network}-mfcc", network, feature, 215, [], *around, figures, message)


@pytest.mark.parametrize(
    ("names", "said", "at_once"),
    [
        (("valence", "arousal"), "Predicts valence and arousal (each 0..1)", "both at once: 80.0 %"),
        (("arousal",), "Predicts arousal (each 0..1)", None),
        (("valence", "arousal", "tension", "joy"), "arousal, tension and joy", "all of a track at once: 80.0 %"),
    ],
)
def test_the_card_is_of_the_model_s_dimensions(names, said, at_once):
    old = model_of("kernel", coverage=[0.9] * len(names), coverage_of_all=0.8)
    figures = {d: {**old.metrics["valence"], "n": 90 - 10 * i} for i, d in enumerate(names)}
    chosen = {d: {"length_scales": [0.5], "ridge_alpha": 0.1} for d in names}
    around = {"intervals": even_intervals([0.1] * len(names)), "details": {**old.details, "chosen": chosen}}
    text = card(replace(old, metrics=figures, dimensions=names, **around))
    assert said in text
    assert f"# {', '.join(names)}" in text
    assert "prediction.value" in text
    assert at_once in text if at_once else "at once" not in text
    for i, name in enumerate(names):
        n = f" {90 - 10 * i} |" if len(names) > 1 else ""
        assert re.search(rf"^\| {name.capitalize()} \|{re.escape(n)} 0\.4000", text, re.MULTILINE)
        assert f"| {name.capitalize()} | 0.5 | 0.1 |" in text
    for absent in {"valence", "dominance"} - set(names):
        assert absent not in text.lower()


def training_of(model: Model) -> str:
    return card(model).split("## Training")[1].split("## Use")[0].replace("\\_", "_")


def test_the_card_of_a_network_lists_what_it_uses_and_nothing_else():
    """Also of a model that an older version has made, which recorded all settings."""
    message = training_of(model_of("kernel"))
    assert "folds 5" in message
    assert "window_s" in message
    for name in ("loss", "learning_rate", "members", "heads", "mixup", "mask_share", "epochs", "search", "ema"):
        assert name not in message
    assert "was not recorded" in message
    chosen = {d: {"length_scales": [0.5, 2.0], "ridge_alpha": 0.1 * 2**i} for i, d in enumerate(DIMENSIONS)}
    message = training_of(model_of("kernel", chosen=chosen, weighed=False))
    for row in ("| Valence | 0.5, 2 | 0.1 |", "| Arousal | 0.5, 2 | 0.2 |", "| Dominance | 0.5, 2 | 0.4 |"):
        assert row in message
    assert "weigh_labels" not in message
    assert "loss huber, " in training_of(model_of("cnn"))
    assert "members 3" in training_of(model_of("lstm"))


def test_the_card_lists_what_a_search_has_chosen_instead_of_what_it_began_with():
    message = training_of(model_of("cnn", searched={"learning_rate": [0.0011, 0.004], "loss": ["ccc", "mse"]}))
    assert "learning_rate 0.0011, 0.004; loss ccc, mse" in message
    assert "loss huber" not in message
    assert "learning_rate 0.002" not in message
    assert "weight_decay 0.1" in message


def test_the_card_says_that_its_intervals_rest_on_few_groups():
    sizes = {"n_groups": 9, "largest_group": 60, "effective_groups": 2.1}
    assert "the largest has 60 of 90 tracks" in card(model_of("cnn", **sizes))
    assert "rest on few" not in card(model_of("cnn", n_groups=40, largest_group=4, effective_groups=30.0))
