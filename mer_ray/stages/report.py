"""``runs`` and ``baselines`` → ``report/``: the metric tables, their plots, ``metrics.csv`` and ``report.tex``."""

from __future__ import annotations

import time
from collections.abc import Sequence

from mer_ray import extras
from mer_ray.config import Config
from mer_ray.console import Summary
from mer_ray.errors import InputError, WorkspaceError
from mer_ray.evaluation import against as versus
from mer_ray.evaluation import metric_tables, predictions, protocol, sections
from mer_ray.evaluation.comparison import Comparison, Run, print_remarks, print_table
from mer_ray.evaluation.judge import BASELINES
from mer_ray.evaluation.latex import latex
from mer_ray.evaluation.metric_tables import Table
from mer_ray.features import MODULES as FEATURES
from mer_ray.io import cells
from mer_ray.io.tables import Workspace
from mer_ray.models import NETWORKS
from mer_ray.scoring import report_page


def run(config: Config, workspace: Workspace, against: str | None = None, as_page: bool = False) -> Summary:
    """Compare the workspace's models on the tracks that all of them and their baselines predicted.

    against: a run's folder, or another workspace. Then each model is compared with that run, or with the one of the
    same name there, and nothing else is written. as_page: also write it as a page, ``report.html``.
    """
    started = time.monotonic()
    extras.require("train", "matplotlib", "scipy")
    models = _models(workspace)
    if not models:
        raise WorkspaceError(f"workspace {workspace.uri} has no trained models", "run `mer-ray train` on it first")
    summary = Summary("report", unit="models")
    if against is None:
        summary.made = len(models)
        left_out = _report(workspace, models, as_page)
        if left_out:
            summary.notes.append(f"{left_out:,} tracks are left out, since not every model predicted them")
        summary.notes.append(f"tables and plots: {workspace.path('report')}")
    else:
        summary.made = _against(workspace, models, against, as_page)
        summary.notes.append(f"against.md and against.csv: {workspace.path('report')}")
    if as_page:
        summary.notes.append(f"page: {workspace.at('report', 'against.html' if against else 'report.html')}")
    summary.seconds = time.monotonic() - started
    return summary


def _report(workspace: Workspace, models: list[Run], as_page: bool) -> int:
    """Write and print everything. Returns the number of tracks that not every run has."""
    baselines, dataset_of = _baselines(workspace), sections.datasets(workspace)
    paragraphs, tables, left_out = list[str](), list[Table](), 0
    for kind in protocol.TITLES:
        if own := [r for r in models if r.kind == kind]:
            known = {r.feature for r in own}
            runs = [*(r for r in baselines if r.kind == kind and r.feature in known), *own]
            compared = Comparison.make(runs, workspace.uri)
            found = sections.write(workspace, compared, kind, dataset_of)
            paragraphs += found[0]
            tables += found[1]
            left_out = max(left_out, compared.n_left_out)
    text = "\n\n".join(section for section in paragraphs if section)
    workspace.write_bytes(f"{text}\n".encode(), "report", "report.md")
    workspace.write_bytes(cells.encoded(metric_tables.to_csv(tables)), "report", "metrics.csv")
    workspace.write_bytes(latex(tables).encode(), "report", "report.tex")
    print_remarks([metric_tables.LEGEND])
    if as_page:
        report_page.write(workspace, text, models, tables)
    return left_out


# reading -----------------------------------------------------------------------------------------------------------


def _models(workspace: Workspace) -> list[Run]:
    """The finished runs, in the order of the registries."""
    runs = [_model(workspace, "runs", name) for name in workspace.names("runs")]
    return sorted((r for r in runs if r is not None), key=_order)


def _model(workspace: Workspace, *folder: str) -> Run | None:
    from mer_ray.scoring import model_folder

    described = model_folder.describe(workspace, *folder)
    if described is None:
        return None
    [made] = predictions.read(workspace, *folder, "predictions.parquet").values()
    kind = protocol.of(described["details"]["settings"])
    return Run(described["network"], described["feature"]["name"], made, described, kind)


def _baselines(workspace: Workspace) -> list[Run]:
    runs = []
    for file in (n for n in workspace.names("baselines") if n.endswith(".parquet")):
        feature, _, end = file.removesuffix(".parquet").partition(".")
        kind = next((k for k, suffix in protocol.SUFFIX.items() if suffix.removeprefix(".") == end), None)
        if kind is not None:
            found = predictions.read(workspace, "baselines", file)
            runs += [Run(model, feature, made, None, kind) for model, made in found.items()]
    return sorted(runs, key=_order)


def _order(run: Run) -> tuple[int, str, int, str]:
    networks, features = [*BASELINES, *NETWORKS], list(FEATURES)
    return (
        networks.index(run.network) if run.network in networks else len(networks),
        run.network,
        features.index(run.feature) if run.feature in features else len(features),
        run.feature,
    )


# against another run -----------------------------------------------------------------------------------------------


def _against(workspace: Workspace, models: Sequence[Run], uri: str, as_page: bool) -> int:
    """Compare, print, and write ``report/against.md`` and ``.csv``. Returns the number of comparisons."""
    pairs = _pairs(workspace, models, uri)
    differences = [
        difference
        for this, that in pairs
        for difference in versus.compare(this.predictions, that.predictions, (this.name, that.name))
    ]
    remarks = [
        remark
        for this, that in pairs
        for remark in versus.not_compared(this.predictions, that.predictions, (this.name, that.name))
    ]
    text = versus.markdown(differences, uri, remarks)
    workspace.write_bytes(text.encode(), "report", "against.md")
    if as_page:
        report_page.write_text(workspace, text, "against")
    workspace.write_bytes(cells.encoded(versus.to_csv(differences)), "report", "against.csv")
    for dimension in versus.dimensions_of(differences):
        print_table(dimension, versus.HEAD, versus.cells(differences, dimension))
    print_remarks([versus.caption(differences), *remarks])
    return len(pairs)


def _pairs(workspace: Workspace, models: Sequence[Run], uri: str) -> list[tuple[Run, Run]]:
    """Each model, and the run that it is compared with. Raises InputError where there are none."""
    other = Workspace(uri)
    one = _model(other)
    if one is not None:
        same = [r for r in models if r.kind == one.kind]
        if pairs := [(r, one) for r in same if workspace.at("runs", r.name) != other.at()]:
            return pairs
        if models and not same:
            raise InputError(
                f"no run of {workspace.uri} was evaluated as {uri} was, on the same kind of split",
                "train with the same train.split, or name another run",
            )
        raise InputError(f"{uri} is the only run of workspace {workspace.uri}", "name a run of another workspace")
    there = {r.name: r for r in _models(other)}
    if not there:
        raise InputError(
            f"--against {uri} is neither a run nor a workspace with runs", "give .../runs/NAME or a workspace"
        )
    if pairs := [(r, there[r.name]) for r in models if r.name in there]:
        return pairs
    raise InputError(
        f"no run of {workspace.uri} ({', '.join(r.name for r in models)}) has a namesake in {uri} ({', '.join(there)})",
        "name one run, as .../runs/NAME",
    )
