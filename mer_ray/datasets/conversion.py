"""The command ``mer-ray dataset``: reads a copy, checks it, and writes a manifest, curves and settings for it."""

from __future__ import annotations

import csv
import io
import math
import shutil
import uuid
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import yaml

from mer_ray.datasets.base import Contents, DataSet, Item, Scale, load
from mer_ray.datasets.copied import Folder
from mer_ray.errors import InputError
from mer_ray.io import cells

CURVES, SETTINGS = "curves.csv", "config.yaml"
_MARK = "# Made by `mer-ray dataset {}`"
"""The start of `SETTINGS`, by which a folder is known that may be replaced."""
_SPLITS = ("train", "valid", "test")
_SHOWN = 3
"""Missing files that are named."""


def run(name: str, folder: str, output: str | None) -> list[str]:
    """Convert a copy of a data set. Returns what was found, how to cite it, and the next command.

    Args:
        name: A key of `datasets.DATASETS`.
        folder: The copy, or a folder above it.
        output: The folder to write; by default ``datasets/NAME``. It must be new, or what this command has written.

    Raises:
        InputError: The copy is incomplete, damaged, or not of this data set.
    """
    dataset = load(name)
    copy = Folder(folder, f"unpack the release of {dataset.where} there, unchanged")
    out = Path(output or f"datasets/{name}")
    _check_replaceable(out, name, copy.root)
    archives = copy.check_archives(dataset.archives, dataset.archives_from)
    contents = dataset.read(copy)
    _check(dataset, contents, copy)
    digests = copy.digests()
    _write(out.resolve(), _files(dataset, contents, digests))  # what a link leads to
    return [
        dataset.title,
        *_found(dataset, contents, copy),
        *archives,
        *(f"read: {file}, SHA-256 {digest}" for file, digest in digests),
        *contents.notes,
        f"cite: {dataset.citation}",
        f"licence: {dataset.licence}",
        f"written: {', '.join(sorted(p.name for p in out.iterdir()))} in {out}",
        f"next: {dataset.next_command(out)}",
    ]


def _check(dataset: DataSet, contents: Contents, copy: Folder) -> None:
    """Raises InputError unless there are tracks, each once, with labels on the scale that the release states."""
    if not contents.items:
        raise InputError(f"{copy.read[0]} has no tracks", copy.advice)
    (twice, n), *_ = Counter(item.track_id for item in contents.items).most_common(1)
    if n > 1:
        raise InputError(f"{copy.read[0]} has track {twice} {n} times", copy.advice)
    for item in contents.items:
        _check_values(dataset, f"track {item.track_id}", item.values, dataset.scale, copy)
    for track_id, time_s, values in contents.curves:
        if not (math.isfinite(time_s) and time_s >= 0):
            raise InputError(f"{dataset.name}: track {track_id} has a label at {time_s:g} s", copy.advice)
        _check_values(dataset, f"track {track_id} at {time_s:g} s", values, dataset.curve_scale or dataset.scale, copy)


def _check_values(dataset: DataSet, where: str, values: Mapping[str, float], scale: Scale, copy: Folder) -> None:
    low, high = scale
    for dimension, value in values.items():
        if not low <= value <= high:
            raise InputError(
                f"{copy.root}: {dimension} of {where} is {value:g}, and {dataset.name}'s scale is {low:g}..{high:g}",
                copy.advice,
            )


def _found(dataset: DataSet, contents: Contents, copy: Folder) -> list[str]:
    """What the copy holds, and what it lacks."""
    items, low, high = contents.items, *dataset.scale
    whole = "" if len(items) == dataset.n_tracks else f" of the {dataset.n_tracks:,} of the release"
    tagged = sum(bool(item.tags) for item in items)
    unlabelled = sum(not item.values and not item.tags for item in items) if dataset.dimensions or tagged else 0
    what = [f"{', '.join(dataset.dimensions)} on {low:g}..{high:g}"] if dataset.dimensions else []
    what += [f"{sum(bool(i.errors) for i in items):,} with standard errors"] if any(i.errors for i in items) else []
    what += [f"{tagged:,} with tags"] if tagged else []
    what += [f"{unlabelled:,} without a label"] if unlabelled else []
    lines = [f"{len(items):,} tracks{whole}{': ' if what else ''}{'; '.join(what)}"]
    curves = _known_curves(contents)
    if dataset.curve_scale:
        times = [time_s for _, time_s, _ in curves]
        span = f", {min(times):g} to {max(times):g} s" if times else ""
        counts = {d: sum(d in values for _, _, values in curves) for d in dataset.dimensions}
        by_dimension = ", ".join(f"{d} {count:,}" for d, count in counts.items())
        which = "" if len(set(counts.values())) == 1 else f" ({by_dimension})"
        low, high = dataset.curve_scale
        n, left = len({track for track, _, _ in curves}), len(contents.curves) - len(curves)
        lines.append(
            f"labels over time of {n:,} tracks: {len(curves):,} points{which}{span}, on {low:g}..{high:g}"
            + (f"; {left:,} of other tracks left out" if left else "")
        )
    splits = Counter(item.split for item in items if item.split)
    if splits:
        lines.append(f"split: {', '.join(f'{splits[s]:,} {s}' for s in _SPLITS if splits[s])} ({dataset.protocol})")
    wanted = sum(item.path is not None for item in items)
    if copy.missing:
        names = [file.relative_to(copy.root).as_posix() for file in copy.missing[:_SHOWN]]
        more = ", ..." if len(copy.missing) > _SHOWN else ""
        lines.append(
            f"audio: {wanted - len(copy.missing):,} of {wanted:,} files; missing: {', '.join(names)}{more}. Their "
            "tracks stay in the manifest, and are failures of `mer-ray acquire` until the files are there"
        )
    elif wanted:
        lines.append(f"audio: all {wanted:,} files")
    return lines


def _known_curves(contents: Contents) -> list[tuple[str, float, Mapping[str, float]]]:
    known = {item.track_id for item in contents.items}
    return [point for point in contents.curves if point[0] in known]


# what is written -----------------------------------------------------------------------------------------------------


def _files(dataset: DataSet, contents: Contents, digests: Sequence[tuple[str, str]]) -> dict[str, bytes]:
    """The files of the folder, by name."""
    files = {f"{dataset.name}.csv": _table(_manifest(dataset, contents.items))}
    if dataset.curve_scale:
        header = ["track_id", "time_s", *dataset.dimensions]
        points = (
            [i, _number(t), *(_number(v.get(d)) for d in dataset.dimensions)] for i, t, v in _known_curves(contents)
        )
        files[CURVES] = _table([header, *points])
    files |= {name: _table(rows) for name, rows in contents.tables.items()}
    files[SETTINGS] = _settings(dataset, contents, digests).encode()
    return files


def _manifest(dataset: DataSet, items: Sequence[Item]) -> Iterable[Sequence[str]]:
    """Its rows, the header first. Columns that are empty throughout are left out."""
    columns: dict[str, list[str]] = {
        "dataset": [dataset.name] * len(items),
        "track_id": [item.track_id for item in items],
        "path": [str(item.path or "") for item in items],
        "artist": [item.artist for item in items],
        "title": [item.title for item in items],
        "album": [item.album for item in items],
        "split": [item.split for item in items],
        **{d: [_number(item.values.get(d)) for item in items] for d in dataset.dimensions},
        **{f"se_{d}": [_number(item.errors.get(d)) for item in items] for d in dataset.dimensions},
        "tags": ["; ".join(item.tags) for item in items],
    }
    for name in dict.fromkeys(name for item in items for name in item.more):
        columns[name] = [item.more.get(name, "") for item in items]
    kept = {name: column for name, column in columns.items() if any(column)}
    return [list(kept), *map(list, zip(*kept.values(), strict=True))]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.9g}"


def _table(rows: Iterable[Sequence[str]]) -> bytes:
    """A CSV file, whose texts no spreadsheet runs as formulas; `sources.manifest` restores them."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerows([cell if _is_number(cell) else cells.guard(cell) for cell in row] for row in rows)
    return cells.encoded(text.getvalue())


def _is_number(cell: str) -> bool:
    with suppress(ValueError):
        return math.isfinite(float(cell))
    return False


def _settings(dataset: DataSet, contents: Contents, digests: Sequence[tuple[str, str]]) -> str:
    """The settings of a run on it, in YAML, under a comment with citation, licence and hashes."""
    collect: dict[str, object] = {"source": "manifest", "manifest": f"{dataset.name}.csv"}
    if dataset.dimensions:
        collect |= {"dimensions": list(dataset.dimensions), "scale": _ends(dataset.scale)}
    if dataset.curve_scale:
        collect |= {"curves": [CURVES], "curve_scale": _ends(dataset.curve_scale)}
    train: dict[str, object] = {"about": f"{dataset.title}: {dataset.labels}. {dataset.citation}."}
    if any(item.split for item in contents.items):
        train["split"] = "given"
    values = {
        "workspace": f"work/{dataset.name}",
        "collect": collect,
        "extract": {"features": ["mfcc", "logmel"]},
        "train": train,
    }
    head = [
        f"{_MARK.format(dataset.name)}, from a copy of {dataset.where}",
        f"# Cite: {dataset.citation}",
        f"# Licence: {dataset.licence}",
        *(f"# Read: {file}, SHA-256 {digest}" for file, digest in digests),
    ]
    body = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, default_flow_style=None, width=110)
    return "\n".join([*head, body])


def _ends(scale: Scale) -> list[float]:
    return [int(end) if end.is_integer() else end for end in scale]


def _check_replaceable(out: Path, name: str, copy: Path) -> None:
    """Raises InputError unless the folder is new, empty, or holds only what this command writes."""
    if out.resolve() == copy or out.resolve() in copy.parents:
        raise InputError(f"--out {out} is the copy, or above it", "give another folder")
    if not out.exists():
        return
    if not out.is_dir():
        raise InputError(f"--out {out} is a file", "give a folder")
    found = {p.name for p in out.iterdir()}
    settings = out / SETTINGS
    is_own = settings.is_file() and settings.read_text(encoding="utf-8", errors="replace").startswith(
        _MARK.format(name)
    )
    others = sorted(found - ({f"{name}.csv", CURVES, SETTINGS, "pairs.csv"} if is_own else set()))
    if others:
        raise InputError(
            f"--out {out} holds other files ({', '.join(others[:_SHOWN])})", "give a new folder, or move them elsewhere"
        )


def _write(out: Path, files: Mapping[str, bytes]) -> None:
    """Write the folder as a whole: beside its place, and then renamed."""
    part = out.parent / f".{out.name}.{uuid.uuid4().hex}"
    before = part.with_name(f"{part.name}.old")
    try:
        part.mkdir(parents=True)
        for name, content in files.items():
            (part / name).write_bytes(content)
        if out.exists():
            out.rename(before)
        try:
            part.rename(out)
        except OSError:
            if before.exists():
                before.rename(out)
            raise
    finally:
        shutil.rmtree(part, ignore_errors=True)
        shutil.rmtree(before, ignore_errors=True)
