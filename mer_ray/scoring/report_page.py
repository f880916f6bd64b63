"""``report/report.html``: the report's text and pictures, and what else the workspace knows, on one page."""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import numpy as np

from mer_ray.accelerator import has_gpu
from mer_ray.console import duration
from mer_ray.evaluation import protocol
from mer_ray.evaluation.comparison import Run
from mer_ray.evaluation.escape import markdown_text
from mer_ray.evaluation.metric_tables import Cells, Table, display, heading, lines
from mer_ray.evaluation.page import document, forest
from mer_ray.io import costs
from mer_ray.io.tables import Workspace, now
from mer_ray.scoring import failure_list, model_list
from mer_ray.scoring.intervals import LEVEL, MARGIN, coverage
from mer_ray.version import __version__

LEVELS = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95)
SHOWN_REASONS = 50
_PICTURE = re.compile(r"!\[[^\]]*\]\(([\w.+-]+\.png)\)")


def write(workspace: Workspace, text: str, runs: Sequence[Run], tables: Sequence[Table]) -> None:
    """Write ``report/report.html``.

    Args:
        workspace: Has the pictures already.
        text: ``report.md``.
        runs: The trained ones.
        tables: Those of the text, which get a drawing each.
    """
    failures, found, spent = failure_list.groups(workspace), model_list.models(workspace), costs.of(workspace)
    pictures: dict[str, bytes | str] = {}
    for name in _PICTURE.findall(text):
        pictures[name] = workspace.read_bytes("report", name)
    for table in tables:
        if svg := forest.drawing(table):
            own = f"{table.stem}-forest.svg"
            pictures[own] = svg
            text = text.replace(f"### {table.title}\n", f"### {table.title}\n\n![R²]({own})\n", 1)
    parts = [text, _coverage(runs), _models(found, runs), _failures(failures), _costs(spent)]
    name = workspace.uri.rstrip("/").rpartition("/")[2] or workspace.uri
    about = f"{workspace.uri} · {now():%Y-%m-%d %H:%M} UTC · mer-ray {__version__}"
    page = document.page(
        f"Report: {name}", about, _tiles(workspace, found, failures, spent), "\n\n".join(parts), pictures
    )
    workspace.write_bytes(page.encode(), "report", "report.html")


def write_text(workspace: Workspace, text: str, name: str) -> None:
    """Write a Markdown text of the report as a page: ``report/NAME.html``."""
    about = f"{workspace.uri} · {now():%Y-%m-%d %H:%M} UTC · mer-ray {__version__}"
    title = f"Report: {workspace.uri.rstrip('/').rpartition('/')[2]}"
    page = document.page(title, about, [], text, {})
    workspace.write_bytes(page.encode(), "report", f"{name}.html")


def _tiles(
    workspace: Workspace,
    found: Sequence[dict[str, Any]],
    failures: Sequence[dict[str, Any]],
    spent: Sequence[dict[str, Any]],
) -> list[tuple[str, str]]:
    """The figures at the top."""
    labels = len(workspace.ids("labels"))
    hours = sum(s or 0.0 for s in workspace.read("audio", ["duration_s"])["duration_s"].to_pylist()) / 3600
    best = next((m for m in found if m["best"]), None)
    tiles = [(f"{labels:,}", "labelled tracks")]
    tiles += [(f"{hours:,.1f} h", "of audio")] if hours else []
    tiles.append((f"{len(found):,}", "models"))
    if best is not None:
        values = [r2[0] for r2 in best["r2"].values() if r2[0] is not None]
        mean = f"{np.mean(values):.3f}" if values else "–"
        tiles.append((mean, f"mean R² of the best, {display(best['network'])} on {display(best['feature'])}"))
    tiles.append((f"{sum(f['count'] for f in failures):,}", "Failures"))
    if spent:
        tiles.append((duration(sum(row["seconds"] for row in spent)), "of work so far"))
    return tiles


def _models(found: Sequence[dict[str, Any]], runs: Sequence[Run]) -> str:
    """What each model was made of: the versions."""
    rows: Cells = []
    described = {run.name: run.described for run in runs if run.described is not None}
    for model in found:
        own = described.get(model["name"])
        if own is None:
            continue
        details, trained = own["details"], model_list.when(model["trained_at"])
        texts = [model["name"], trained, str(details.get("data", "")), own["feature"]["fingerprint"]]
        texts += [own["weights_sha256"][:12], "yes" if model.get("outdated") else "", f"{details['n_tracks']:,}"]
        rows.append([(text, False) for text in texts])
    if not rows:
        return ""
    heads = ["Model", "Trained", "Data", "Feature", "Weights", "Outdated", "Tracks"]
    labels = dict.fromkeys(d["details"].get("labels") for d in described.values() if d)
    about = " ".join(f"Labels: {markdown_text(label, 1_000)}" for label in labels if label)
    note = (
        "Data, feature and weights are fingerprints: models with the same ones were made of the same. Outdated: its "
        "tracks or labels have changed since; `mer-ray train` brings it up to date."
    )
    return "\n".join(["# Models and data", "", about, "", note, "", *lines(heads, rows, n_texts=6)])


def _coverage(runs: Sequence[Run]) -> str:
    """The share of labels in intervals of several levels, for each run: nominal against held."""
    rows: Cells = []
    for run in runs:
        own = run.predictions
        held = [coverage(own.labels, own.predicted, own.groups, level=level)[0] for level in LEVELS]
        for i, dimension in enumerate(own.dimensions):
            shares = [_percent(float(values[i])) for values in held]
            used = (run.described or {}).get("details", {}).get("coverage") or [math.nan] * len(own.dimensions)
            name = run.title + protocol.SHORT[run.kind]
            rows.append([(text, False) for text in (name, heading(dimension), *shares, _percent(used[i]))])
    if not rows:
        return ""
    about = (
        "The share of labels that lie in prediction intervals of several levels, of artists that neither the model nor "
        "the interval had met. A column should hold what its head says: less, and the intervals are too narrow. In "
        f"use: those of scores, which are calibrated at {100 * (LEVEL + MARGIN):.0f} % and called "
        f"{100 * LEVEL:.0f} % intervals."
    )
    heads = ["Model", "Dimension", *(f"{100 * level:.0f} %" for level in LEVELS), "in use"]
    return "\n".join(["# Intervals: held against nominal", "", about, "", *lines(heads, rows)])


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"


def _failures(failures: Sequence[dict[str, Any]]) -> str:
    """Stage, reason, what to do, and examples."""
    parts = ["# Failures", ""]
    if not failures:
        return "\n".join([*parts, "None."])
    passing = sum(f["transient"] for f in failures)
    about = (
        f"Each is a row of the table `failures`; `mer-ray status` shows the same. The next run tries {passing:,} again"
    )
    parts.append(f"{about}, as they may pass; `--retry-failed` tries all.")
    rows: Cells = [
        [(text, False) for text in (f["stage"], f["reason"], f["advice"], " / ".join(f["examples"]), f"{f['count']:,}")]
        for f in failures[:SHOWN_REASONS]
    ]
    parts += ["", *lines(["Stage", "Reason", "What to do", "Examples", "Rows"], rows, n_texts=4)]
    if len(failures) > SHOWN_REASONS:
        parts += ["", f"And {len(failures) - SHOWN_REASONS:,} other reasons: see `mer-ray status --json`."]
    return "\n".join(parts)


def _costs(spent: Sequence[dict[str, Any]]) -> str:
    """Times of all runs of each stage."""
    parts = ["# Cost", ""]
    if not spent:
        return "\n".join([*parts, "Not recorded: the stages were run by an older mer-ray."])
    of_stage: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in spent:
        of_stage[row["stage"]].append(row)
    rows: Cells = []
    for stage, own in of_stage.items():
        known = [row["cpu_s"] for row in own if row["cpu_s"] is not None]
        cpu = f"{sum(known):,.1f}" if len(known) == len(own) else f"{sum(known):,.1f} and a cluster's" if known else "–"
        texts = [stage, ", ".join(dict.fromkeys(row["place"] for row in own)), f"{own[-1]['at']:%Y-%m-%d %H:%M}"]
        texts += [f"{len(own):,}", f"{sum(row['made'] for row in own):,}"]
        texts += [f"{sum(row['seconds'] for row in own):,.1f}", cpu]
        rows.append([(text, False) for text in texts])
    total = [row["cpu_s"] for row in spent if row["cpu_s"] is not None]
    sums = ["All", "", "", f"{len(spent):,}", "", f"{sum(r['seconds'] for r in spent):,.1f}", f"{sum(total):,.1f}"]
    rows.append([(text, True) for text in sums])
    about = (
        "Runs that came to their end and had something to do. Seconds are on the clock, CPU-s the time of all "
        "processes on the machine with the command, Ray's own included; a cluster's are not known."
    )
    device = f"This report was made on {spent[-1]['cpus']} CPUs{', with a GPU' if has_gpu() else ', without a GPU'}."
    heads = ["Stage", "Where", "Last, UTC", "Runs", "Made", "Seconds", "CPU-s"]
    return "\n".join([*parts, f"{about} {device}", "", *lines(heads, rows, n_texts=3)])
