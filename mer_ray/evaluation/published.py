"""Published figures on known data sets (``published.yaml``), to show beside a report's own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from mer_ray.evaluation.comparison import Comparison
from mer_ray.evaluation.escape import markdown_text
from mer_ray.evaluation.metric_tables import Cells, Protocol, Table, display, heading, lines, name, number
from mer_ray.evaluation.metrics import METRICS


@cache
def rows() -> list[dict[str, Any]]:
    """Every published row: dataset, name, protocol, metrics (dimension → metric → value), source, year."""
    loaded: list[dict[str, Any]] = yaml.safe_load((files("mer_ray.evaluation") / "published.yaml").read_text("utf-8"))
    return loaded


def dataset(compared: Comparison, dataset_of: Mapping[str, str]) -> str:
    """The one data set that all tracks are of, in lower case, or ""."""
    found = {(dataset_of.get(i) or "").casefold() for i in compared.runs[0].predictions.ids}
    return found.pop() if len(found) == 1 else ""


def markdown(of_dataset: str, compared: Comparison, tables: Sequence[Table]) -> str:
    """A section with this report's models and the published rows of a data set; "" where none are known.

    Nothing in it is bold: the protocols differ.
    """
    dimensions = [table.dimension for table in tables]
    known = [r for r in rows() if set(r["metrics"]) & set(dimensions)]
    if not any(r["dataset"] == of_dataset for r in known):
        return ""
    published = [r for r in known if r["dataset"] in (of_dataset, "any")]
    found = {(d, m) for r in published for d, own in r["metrics"].items() for m in own}
    columns = [(d, m) for d in dimensions for m in METRICS if (d, m) in found]
    how = next(Protocol.of(r.described, len(r.predictions.predicted)) for r in compared.trained if r.described)
    cells: Cells = []
    own = {(t.dimension, row.network, row.feature): row for t in tables for row in t.rows}
    for run in compared.trained:
        of_run = [own.get((d, run.network, run.feature)) for d, _ in columns]
        row = next((row for row in of_run if row is not None), None)
        if row is None:  # it has other dimensions
            continue
        figures = [number(m, r.metrics[m]) if r else "–" for r, (_, m) in zip(of_run, columns, strict=True)]
        cells.append(_row(name(row), str(how), figures, "this report"))
    for r in published:
        figures = [number(m, r["metrics"].get(d, {}).get(m, float("nan"))) for d, m in columns]
        cells.append(_row(f"{r['name']} (published)", r["protocol"], figures, f"{r['source']}, {r['year']}"))
    heads = ["Model", "Evaluated", *(f"{heading(d)}, {METRICS[m].heading}" for d, m in columns), "Source"]
    about = f"On {markdown_text(display_dataset(of_dataset))}. Published figures are as their sources give them: they"
    about += " were not computed here, from other tracks, labels and splits, and take no part in any comparison."
    return "\n".join(["## Published", "", about, "", *lines(heads, cells, last_is_text=True)])


def display_dataset(named: str) -> str:
    """``emomusic`` → emoMusic."""
    return _NAMES.get(named, display(named))


_NAMES = {"emomusic": "emoMusic", "pmemo": "PMEmo"}


def _row(model: str, how: str, figures: Sequence[str], source: str) -> list[tuple[str, bool]]:
    return [(text, False) for text in (model, how, *figures, source)]
