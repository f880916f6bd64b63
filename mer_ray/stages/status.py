"""The contents of a workspace, its failures with advice, and the next command."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs
from rich import box
from rich.filesize import decimal
from rich.markup import escape
from rich.table import Table as RichTable

from mer_ray.config import Config
from mer_ray.console import Summary, out
from mer_ray.errors import WorkspaceError
from mer_ray.features.joined import part_names
from mer_ray.io.identity import one_line
from mer_ray.io.last_command import Command
from mer_ray.io.schemas import features_table
from mer_ray.io.tables import Workspace
from mer_ray.scoring import failure_list, model_list, other_parts

SHOWN_REASONS = 15
SHOWN_CHARACTERS = 120  # of an example's message
MANY_ROWS = 1_000_000
"""Up to so many rows, distinct track_ids are counted; beyond, the row counts of the Parquet files."""


def look(workspace: Workspace, typed: str = "", used: Command | None = None) -> dict[str, Any]:
    """The status of a workspace, JSON-able.

    typed, used: the workspace as it was typed and the settings in use, for the next command.

    ``workspace``; ``tables``: name, rows, bytes, settings_since and last_written (ISO 8601, UTC) of each; ``other``:
    bytes of the other folders; ``audio_s``: s of audio; ``models``: see `model_list.models`; ``failures``: stage,
    reason, count, transient (how many of them), advice, examples, the commonest first; ``next``: stage, command and
    why, or null.
    Raises WorkspaceError where there is no workspace.
    """
    if not workspace.exists("settings"):
        raise WorkspaceError(f"there is no workspace at {workspace.uri}", "give the one that you ran with --workspace")
    files = _files(workspace)
    tables = []
    for name in _tables(workspace):
        own = [f for f in files if f.path.rpartition("/")[0] == workspace.path(name)]
        stage = {"tracks": "collect", "labels": "label", "audio": "acquire"}.get(name, "")
        recorded = workspace.read_json("settings", f"{stage or name.replace('features/', 'extract-')}.json") or {}
        tables.append(
            {
                "name": name,
                "rows": _rows(workspace, name),
                "bytes": sum(f.size for f in own),
                "settings_since": recorded.get("since"),
                "last_written": max((f.mtime.isoformat() for f in own if f.mtime), default=None),
            }
        )
    models, failures = model_list.models(workspace), failure_list.groups(workspace)
    other = Counter[str]()
    for file in files:
        top = file.path.removeprefix(workspace.root.rstrip("/") + "/").split("/")[0]
        if top not in {t["name"].split("/")[0] for t in tables}:
            other[top] += file.size
    following = _next(workspace, {t["name"]: t["rows"] for t in tables}, models, failures, files)
    if following is not None:
        command = used or Command.of_process(None, ())
        plain = f"mer-ray {following['stage']}"
        following["command"] = command.line(following["stage"], workspace, typed) if typed else plain
    return {
        "workspace": workspace.uri,
        "tables": tables,
        "other": dict(other.most_common()),
        "audio_s": _audio_s(workspace),
        "models": models,
        "failures": failures,
        "next": following,
    }


def run(config: Config, workspace: Workspace, as_json: bool = False, used: Command | None = None) -> Summary:
    """Print the result of `look`, as text or as one JSON object. used: the settings for the next command."""
    status = look(workspace, config.workspace, used)
    if as_json:
        sys.stdout.write(json.dumps(status, indent=2, ensure_ascii=False) + "\n")
    else:
        _print(status)
    failed = sum(f["count"] for f in status["failures"])
    return Summary("status", unit="rows", made=sum(t["rows"] for t in status["tables"]), failed=failed)


# contents ----------------------------------------------------------------------------------------------------------


def _tables(workspace: Workspace) -> list[str]:
    return [
        "tracks",
        *(["merged"] if workspace.has("merged") else []),
        "labels",
        "audio",
        *(features_table(f) for f in workspace.names("features")),
        "scores",
    ]


def _rows(workspace: Workspace, table: str) -> int:
    shards = [workspace.path(table, n) for n in workspace.names(table) if n.endswith(".parquet")]
    try:
        rows = int(ds.dataset(shards, format="parquet", filesystem=workspace.fs).count_rows()) if shards else 0
    except (pa.ArrowException, OSError):
        rows = 0  # a damaged shard: the stage that reads the table names it
    return rows if rows > MANY_ROWS else int(workspace.read(table, ["track_id"]).num_rows)


def _audio_s(workspace: Workspace) -> float:
    durations = (pc.sum(b["duration_s"]).as_py() for b in workspace.batches("audio", ["duration_s"]))
    return float(sum(d or 0.0 for d in durations))


def _files(workspace: Workspace) -> list[Any]:
    """Information on the workspace's files; of one in an object store, only on those of its tables and models."""
    folders = [()] if workspace.is_local else [(t,) for t in (*_tables(workspace), "runs", "report")]
    files: list[Any] = []
    for folder in folders:
        selector = pyarrow.fs.FileSelector(workspace.path(*folder), allow_not_found=True, recursive=True)
        files += [f for f in workspace.fs.get_file_info(selector) if f.type == pyarrow.fs.FileType.File]
    return files


def _next(
    workspace: Workspace,
    rows: Mapping[str, int],
    models: list[dict[str, Any]],
    failures: list[dict[str, Any]],
    files: list[Any],
) -> dict[str, str] | None:
    """The first stage that has something left to do."""
    failed = Counter[str]()
    for failure in failures:
        failed[failure["stage"]] += failure["count"]
    features = [t for t in rows if t.startswith(features_table(""))]
    behind = [t for t in features if rows[t] + failed["extract"] + failed[f"extract:{t[9:]}"] < rows["audio"]]
    without_label = rows["tracks"] - rows["labels"] - failed["label"]
    without_audio = rows["tracks"] - rows["audio"] - failed["acquire"]
    written = {f.path: f.mtime for f in files}
    made = [m for p, m in written.items() if p.endswith("/model.json") and p.startswith(workspace.path("runs"))]
    reported = written.get(workspace.path("report", "report.md"))
    best = next((m for m in models if m["best"]), None)
    to_score = 0
    if best:
        own = [features_table(name) for name in part_names(best["feature"])]
        to_score = (other_parts.n_whole(workspace, own) if len(own) > 1 else rows.get(own[0], 0)) - rows["scores"]
    needs_audio = rows["audio"] > 0 or not features  # precomputed ones need none
    steps = [
        ("collect", rows["tracks"] == 0, "there are no tracks yet"),
        ("label", without_label > 0 or rows["labels"] == 0, f"{max(0, without_label):,} tracks have no label yet"),
        ("acquire", without_audio > 0 and needs_audio, f"{without_audio:,} tracks have no audio yet"),
        ("extract", not features, "there are no features yet"),
        ("extract", bool(behind), f"{', '.join(behind)}: some tracks are left"),
        ("train", best is None, "there is no trained model yet"),
        ("train", any(m.get("outdated") for m in models), "tracks or labels have changed since"),
        ("report", reported is None or any(m and m > reported for m in made), "there are models that it does not show"),
        ("score", to_score > 0, f"{to_score:,} tracks are not scored yet"),
    ]
    return next(({"stage": stage, "why": why} for stage, due, why in steps if due), None)


# display -----------------------------------------------------------------------------------------------------------


def _print(status: Mapping[str, Any]) -> None:
    out.print(f"[bold]Workspace {escape(status['workspace'])}[/bold]")
    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("Table")
    for column in ("Rows", "Size", "Last written"):
        table.add_column(column, justify="right", no_wrap=True)
    for row in status["tables"]:
        table.add_row(
            escape(row["name"]), f"{row['rows']:,}", decimal(row["bytes"]), model_list.when(row["last_written"])
        )
    out.print(table)
    if status["audio_s"]:
        out.print(f"\n{status['audio_s'] / 3600:,.1f} hours of audio")
    other = [f"{one_line(name, 40)} {decimal(size)}" for name, size in status["other"].items() if size >= 1e6]
    if other:
        out.print(escape(f"Beside the tables: {', '.join(other)}"))
    if models := status["models"]:
        out.print(f"\n[bold]{_number(len(models), 'model')}[/bold], R² on left-out tracks, 95 % intervals; * is best")
        out.print(model_list.table(models))
        for problem in (m["problem"] for m in models if "problem" in m):
            out.print(escape(f"! {problem}"))
    _print_failures(status["failures"])
    if status["next"] is None:
        out.print("\nAll stages are done; `mer-ray score MUSIC --out scores.parquet` scores other music.")
    else:
        out.print(f"\nNext: [bold]{escape(status['next']['command'])}[/bold] ({escape(status['next']['why'])})")


def _print_failures(failures: list[dict[str, Any]]) -> None:
    if not failures:
        out.print("\nNo failures.")
        return
    n, passing = sum(f["count"] for f in failures), sum(f["transient"] for f in failures)
    out.print(f"\n[bold]{_number(n, 'failure')}[/bold]")
    table = RichTable(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    table.add_column("Stage", overflow="fold")
    table.add_column("Reason", no_wrap=True)
    table.add_column("Rows", justify="right", no_wrap=True)
    table.add_column("What to do, and examples", overflow="fold")
    for f in failures[:SHOWN_REASONS]:
        examples = "\n".join(f"[dim]{escape(one_line(e, SHOWN_CHARACTERS))}[/dim]" for e in f["examples"])
        table.add_row(escape(f["stage"]), escape(f["reason"]), f"{f['count']:,}", f"{escape(f['advice'])}\n{examples}")
    out.print(table)
    hidden = failures[SHOWN_REASONS:]
    if hidden:
        out.print(f"and {sum(f['count'] for f in hidden):,} for {len(hidden)} other reasons: see --json")
    if passing:
        out.print(f"The next run tries {passing:,} of them again, as they may pass; --retry-failed tries all.")
    else:
        out.print("--retry-failed tries them again, after you mended what they name.")


def _number(n: int, what: str) -> str:
    return f"{n:,} {what}{'' if n == 1 else 's'}"
