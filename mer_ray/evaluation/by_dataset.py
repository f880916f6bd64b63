"""Metrics of each data set of a catalog that has several."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from mer_ray.evaluation.comparison import Comparison
from mer_ray.evaluation.metric_tables import Cells, display, lines, with_ends
from mer_ray.evaluation.summary import evaluate

SHOWN = {"rmse": "RMSE", "r2": "R²", "r": "r", "ccc": "CCC"}


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
