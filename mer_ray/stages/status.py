"""What a workspace holds, and what it lost."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.markup import escape
from rich.table import Table as RichTable

from mer_ray.config import Config
from mer_ray.console import Summary, out
from mer_ray.errors import WorkspaceError
from mer_ray.scoring import store
from mer_ray.tables import DIMENSIONS, Workspace, features_table

EXAMPLES = 2


def counts(workspace: Workspace) -> dict[str, int]:
    """Rows per table; ``runs`` counts finished models."""
    tables = [
        "tracks",
        *(["merged"] if workspace.has("merged") else []),
        "labels",
        "audio",
        *(features_table(f) for f in workspace.names("features")),
        "scores",
    ]
    rows = {table: workspace.read(table, ["track_id"]).num_rows for table in tables}
    rows["runs"] = sum(store.describe(workspace, "runs", name) is not None for name in workspace.names("runs"))
    return rows


def run(config: Config, workspace: Workspace) -> Summary:
    """Print the tables with their rows, the models with their R², and the failures by stage and reason."""
    if not workspace.exists("settings"):
        raise WorkspaceError(f"there is no workspace at {workspace.uri}", "give the one that you ran with --workspace")
    rows = counts(workspace)
    table = RichTable(title=f"Workspace {escape(workspace.uri)}", title_justify="left")
    table.add_column("Table", no_wrap=True)
    table.add_column("Rows", justify="right")
    for name, count in rows.items():
        table.add_row(escape(name), f"{count:,}")
    out.print(table)
    for name in workspace.names("runs"):
        described = store.describe(workspace, "runs", name)
        if described is not None:
            figures = ", ".join(f"{d} {described['metrics'][d]['r2']:.3f}" for d in DIMENSIONS)
            out.print(f"model {escape(name)}: R² {figures}")
    failures = workspace.failures()
    _print_failures(failures)
    return Summary("status", unit="rows", made=sum(rows.values()), failed=len(failures))


def _print_failures(failures: list[dict[str, Any]]) -> None:
    if not failures:
        out.print("no failures")
        return
    table = RichTable(title=f"{len(failures):,} failures", title_justify="left", show_lines=True)
    for column, justify in (("Stage", "left"), ("Reason", "left"), ("Rows", "right"), ("For example", "left")):
        table.add_column(column, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for (stage, reason), count in Counter((f["stage"], f["reason"]) for f in failures).most_common():
        examples = [f["message"] for f in failures if (f["stage"], f["reason"]) == (stage, reason)][:EXAMPLES]
        table.add_row(escape(stage), escape(reason), f"{count:,}", escape("\n".join(examples)))
    out.print(table)
    if any(f["transient"] for f in failures):
        out.print("Failures that may pass are tried again by the next run; --retry-failed tries all of them.")
    else:
        out.print("--retry-failed tries them again, after you mended what they name.")
