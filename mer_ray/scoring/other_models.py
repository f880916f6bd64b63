"""Scores that another model has made of a catalog, where a command is to write: what it says of them, and removes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import PurePosixPath

from mer_ray.console import problem
from mer_ray.errors import InputError
from mer_ray.io.identity import one_line
from mer_ray.io.store import Store
from mer_ray.io.tables import Workspace
from mer_ray.scoring import file_changes, scores_table
from mer_ray.scoring.catalog import Catalog

COLUMNS = (*file_changes.COLUMNS, "model")
WINDOW = 5_000


def refuse(models: Iterable[str], shown: str, model: str) -> None:
    """Raises InputError where there are any, in a folder."""
    if models := list(models):
        raise InputError(
            f"--out {shown} holds scores by {_listed(models)}, and the model is now {model}",
            "choose another folder, or remove this one",
        )


def in_file(uri: str, shown: str, model: str, catalog: Catalog | None, keep_gone: bool) -> str:
    """A line on a file's scores by others, which this command's will replace; empty if there are none.

    Raises InputError where some of them are of tracks that the catalog does not list.
    """
    found: Counter[str] = Counter()
    for piece in scores_table.pieces(uri, ["model"]):
        found.update({r["values"]: r["counts"] for r in piece["model"].value_counts().to_pylist()})
    del found[model]
    if not found:
        return ""
    if catalog is not None and not catalog.tables:  # whose tracks are not known before
        pieces = scores_table.pieces(uri, COLUMNS)
        file_changes.keep_others(pieces, shown, model, catalog.windows(WINDOW), catalog.folders, keep_gone)
    return f"{shown} held {found.total():,} scores by {_listed(found)}: these take their place"


def beside(folder: Store, name: str, model: str) -> None:
    """Raises InputError where a file with another suffix has other models' scores: their side files are named alike.

    name: of the file that is to be written; its own rows are not looked at.
    """
    stem, own = PurePosixPath(name).stem, PurePosixPath(name).suffix.lower()
    for other in (f"{stem}{suffix}" for suffix in scores_table.SUFFIXES if suffix != own):
        if not folder.exists(other):
            continue
        try:
            models = {m for piece in scores_table.pieces(folder.at(other), ["model"]) for m in piece["model"].unique()}
        except InputError:  # no scores
            continue
        if found := {str(m) for m in models} - {model, ""}:
            raise InputError(
                f"{other}, beside {name}, holds scores by {_listed(found)}, and the model is now {model}: "
                f"{stem}.rollups.csv and failures would be of the one or the other",
                "give --out another name, or remove that file",
            )


def in_parts(
    work: Workspace, models: Iterable[str], shown: str, model: str, catalog: Catalog | None, keep_gone: bool
) -> None:
    """Remove a working folder that a killed run of others has left, and say so. Raises as `in_file` does."""
    if catalog is not None and not catalog.tables:
        pieces = work.batches("scores", COLUMNS)
        file_changes.keep_others(pieces, shown, model, catalog.windows(WINDOW), catalog.folders, keep_gone)
    n = len(work.ids("scores"))
    why = f"of a run that did not end: removed, as the model is now {model}"
    problem(f"{shown} held {n:,} scores by {_listed(models)}, {why}")
    work.remove()


def _listed(models: Iterable[str]) -> str:
    return one_line(", ".join(sorted(models)), 200)
