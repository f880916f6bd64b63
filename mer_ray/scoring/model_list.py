"""The finished models of a workspace, as `mer-ray status` lists them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.markup import escape
from rich.table import Table

from mer_ray.errors import ModelError, WorkspaceError
from mer_ray.features import FeatureSpec
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.io.tables import Workspace
from mer_ray.scoring import model_folder
from mer_ray.scoring.scores_table import heading
from mer_ray.training import grouped


def models(workspace: Workspace) -> list[dict[str, Any]]:
    """The best first, as `mer-ray score` chooses: see `model_folder.best`.

    JSON-able: name, network, feature, n_tracks, trained_at, r2 (per dimension: value, lower, upper; the ends of the
    95 % interval), best, outdated (its tracks or labels have changed), and problem where it cannot be read.
    """
    ranked = sorted(_described(workspace), key=lambda found: (*found[0], found[1]["name"]), reverse=True)
    found = [model for _, model in ranked]
    if found and "problem" not in found[0]:
        found[0]["best"] = True
    return found


def _described(workspace: Workspace) -> Iterator[tuple[tuple[float, float], dict[str, Any]]]:
    """Rank and description of each."""
    for name in workspace.names("runs"):
        try:
            described = model_folder.describe(workspace, "runs", name)
        except ModelError as error:
            yield (-math.inf, 0.0), {"name": name, "best": False, "problem": str(error)}
            continue
        if described is not None:
            details, metrics = described["details"], described["metrics"]
            own = described.get("dimensions", DIMENSIONS)
            figures = {d: (metrics[d]["r2"], *metrics[d].get("intervals", {}).get("r2", [None, None])) for d in own}
            yield (
                model_folder.rank(described),
                {
                    "name": name,
                    "network": described["network"],
                    "feature": described["feature"]["name"],
                    "n_tracks": details.get("n_tracks"),
                    "trained_at": details.get("trained_at"),
                    "r2": {
                        d: [x if x is not None and math.isfinite(x) else None for x in f] for d, f in figures.items()
                    },
                    "best": False,
                    "outdated": _outdated(workspace, described),
                },
            )


def _outdated(workspace: Workspace, described: Mapping[str, Any]) -> bool:
    try:
        feature = FeatureSpec.from_json(described["feature"])
        return grouped.changed(workspace, feature, described["details"])
    except WorkspaceError:
        return True  # its labels or features are gone, or of other settings
    except (TypeError, KeyError):
        return False  # unknown to this version


def table(found: Sequence[Mapping[str, Any]]) -> Table:
    """`models` as a table for a terminal."""
    out = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False)
    out.padding = (0, 1, 0, 0)
    out.add_column("", no_wrap=True)
    out.add_column("Model", overflow="fold")
    dimensions = list(dict.fromkeys(d for m in found for d in m.get("r2", DIMENSIONS)))
    for column in (*map(heading, dimensions), "Tracks", "Trained"):
        out.add_column(column, justify="right", no_wrap=True)
    for m in found:
        if "problem" in m:
            out.add_row("!", escape(m["name"]), "cannot be read", *[""] * (len(dimensions) + 1))
            continue
        figures = [_with_ends(m["r2"].get(d, (None, None, None))) for d in dimensions]
        n_tracks = "" if m["n_tracks"] is None else f"{m['n_tracks']:,}"
        out.add_row("*" if m["best"] else "", escape(m["name"]), *figures, n_tracks, when(m["trained_at"])[:10])
    return out


def _with_ends(figures: Sequence[float | None]) -> str:
    value, lower, upper = figures
    if value is None:
        return "–"
    return f"{value:.3f}" + ("" if lower is None or upper is None else f"\n[dim]{lower:.3f}–{upper:.3f}[/dim]")


def when(moment: str | None) -> str:
    """A moment (ISO 8601) in this machine's time, to the minute."""
    return "" if moment is None else f"{datetime.fromisoformat(moment).astimezone():%Y-%m-%d %H:%M}"
