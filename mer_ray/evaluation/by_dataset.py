"""Metrics of each data set of a catalog that has several."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mer_ray.evaluation.comparison import Comparison
from mer_ray.evaluation.metric_tables import Cells, display, heading, lines, with_ends
from mer_ray.evaluation.summary import evaluate

SHOWN = {"rmse": "RMSE", "r2": "R²", "r": "r", "ccc": "CCC"}


def biases_markdown(compared: Comparison) -> str:
    """A section on ``train.source_bias``: each data set's bias, and R² with them; "" where no run was trained so."""
    runs = [(r, r.described["details"]) for r in compared.trained if r.described]
    runs = [(r, details) for r, details in runs if details.get("biases")]
    if not runs:
        return ""
    names = list(dict.fromkeys(d for r, _ in runs for d in r.predictions.dimensions))
    rows: Cells = []
    for run, details in runs:
        figures = [details["with_biases"].get(d) for d in names]
        shown = [with_ends("r2", m["r2"], m["intervals"]["r2"]) if m else "–" for m in figures]
        rows.append([(text, False) for text in (display(run.network), display(run.feature), *shown)])
    first, details = runs[0]
    own: Cells = [
        [(text, False) for text in (name or "(none named)", *(f"{value:+.3f}" for value in values))]
        for name, values in details["biases"].items()
    ]
    about = "The models were trained on labels without the bias of their data set, and predict on the pooled scale, of"
    about += " which the tables above are; the baselines there learned labels with the biases, so verdicts between both"
    about += " compare unequal tasks. R² where each data set's bias is added, as estimated without the fold:"
    table = lines(["Network", "Feature", *(f"{heading(d)}, R²" for d in names)], rows)
    biases = lines(["Data set", *(heading(d) for d in first.predictions.dimensions)], own, n_texts=1)
    return "\n".join(["## Biases of data sets", "", about, "", *table, "", "The biases:", "", *biases])


def markdown(compared: Comparison, dataset_of: Mapping[str, str]) -> str:
    """A section; "" where the tracks are not of two data sets or more. dataset_of: track id → its data set."""
    names = {i: dataset_of.get(i) or "" for i in compared.runs[0].predictions.ids}
    different = sorted(set(names.values()))
    if len(different) < 2:
        return ""
    rows: Cells = []
    for dataset in different:
        for run in compared.trained:
            own = run.predictions.on([i for i in run.predictions.ids if names[i] == dataset])
            known = [d for d, c in zip(own.dimensions, own.labels.T, strict=True) if np.isfinite(c).sum() > 1]
            figures = evaluate(own.of(known).labels, own.of(known).predicted, own.groups, known)
            for name, m in figures.items():
                texts = [dataset or "(none named)", name, display(run.network), display(run.feature), f"{m['n']:,}"]
                texts += [with_ends(k, m[k], m["intervals"][k] if k == "r2" else [np.nan] * 2) for k in SHOWN]
                rows.append([(text, False) for text in texts])
    heads = ["Data set", "Dimension", "Network", "Feature", "Tracks", *SHOWN.values()]
    about = "The same predictions, of each data set's tracks alone. R² is against the mean of that data set's labels."
    return "\n".join(["## By data set", "", about, "", *lines(heads, rows, n_texts=4)])
