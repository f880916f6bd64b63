"""Small parts that many tests need: options, rows as they lie in the shards, processes, models that say nothing."""

from __future__ import annotations

import itertools
import os
import socket
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pyarrow as pa
import pyarrow.parquet as pq

from mer_ray.io.schemas import DIMENSIONS
from mer_ray.io.track import Track
from mer_ray.models import passages
from mer_ray.models.regressor import Regressor
from mer_ray.models.scaling import Scaler
from mer_ray.models.statistics import PassageStatistics
from mer_ray.scoring.intervals import Intervals
from mer_ray.training.crossval import Part, parts, train_fold
from mer_ray.training.data import Examples
from mer_ray.training.recipe import Recipe
from mer_ray.training.reference import Reference


@dataclass(frozen=True)
class Crossed:
    """A cross-validation: predicted (R, N, 3) out of fold, fold (R, N), and a member of each part of the plan."""

    predicted: np.ndarray
    fold: np.ndarray
    plan: list[Part]
    members: list[Regressor]


def cross_validate(
    recipe: Recipe, tracks: list, labels: np.ndarray, groups: list[str], fold: np.ndarray, members: int, **options: Any
) -> Crossed:
    """All folds of all repeats (R, N), one after the other in this process. options: of `train_fold`."""
    data = Examples(tracks, labels, groups, np.full(labels.shape, np.nan))
    separate = labels.shape[1] if options.pop("separate", False) else 0
    plan = parts(recipe.network, int(fold.max()) + 1, len(fold), members, separate, seed=0)
    predicted, made = np.zeros((len(fold), *labels.shape)), []
    for r, k in dict.fromkeys((p.repeat, p.fold) for p in plan):
        own = [p for p in plan if (p.repeat, p.fold) == (r, k)]
        result = train_fold(lambda part: recipe, data, fold[r], own, **options)
        predicted[r, fold[r] == k] = result.predicted
        made += result.members
    return Crossed(predicted, fold, plan, made)


def label_of(track: Track) -> tuple[float | None, ...] | None:
    """The source's own valence, arousal and dominance of a track; None where it has none of them."""
    values = {rating.dimension: rating.value for rating in track.ratings}
    return tuple(values.get(d) for d in DIMENSIONS) if values else None


def sets(*assignments: str) -> list[str]:
    """``--set`` before each ``section.name=value``."""
    return [word for assignment in assignments for word in ("--set", assignment)]


def raw_rows(workspace: Path | str, table: str) -> pa.Table:
    """All rows of a table's shards, without the reader's own care for repeats."""
    shards = sorted(p for p in Path(workspace, table).glob("*.parquet") if not p.name.startswith((".", "_")))
    return pa.concat_tables([pq.read_table(p) for p in shards]) if shards else pa.table({"track_id": []})


def raw_ids(workspace: Path | str, table: str) -> Counter[str]:
    """How often each id is in a table's shards."""
    return Counter(raw_rows(workspace, table)["track_id"].to_pylist())


def running(process: psutil.Process) -> bool:
    """Neither gone nor a zombie, which only its parent can remove."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def commands(pids: Sequence[int]) -> Iterator[tuple[psutil.Process, list[str]]]:
    """Those of the processes that live, with their command lines."""
    for pid in pids:
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            command = process.cmdline()
            if command and running(process):
                yield process, command


def wait_until(what: Callable[[], bool], about: Callable[[], object] = str, wait_s: float = 240.0) -> None:
    """Until something is so. A busy machine takes seconds for a moment: only what never comes takes so long.

    about: what is said of it then.
    """
    give_up = time.monotonic() + wait_s
    while not what():
        assert time.monotonic() < give_up, f"not in {wait_s:.0f} s: {about()}"
        time.sleep(0.02)


def held(folder: Path, process: int | str = "[0-9]*") -> list[str]:
    """What holds files in a folder: "PROCESS COMMAND: FILE" for each that a process has open, mapped, or stands in."""
    found = set()
    for about in Path("/proc").glob(str(process)):
        with suppress(OSError):  # it has just ended
            command = (about / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")[:80]
            mapped = [line.split(maxsplit=5)[-1] for line in (about / "maps").read_text().splitlines()]
            for link in (about / "cwd", *(about / "fd").iterdir()):
                with suppress(OSError):  # it has just been closed
                    mapped.append(str(link.readlink()))
            found |= {f"{about.name} {command}: {name}" for name in mapped if f"{name}/".startswith(f"{folder}/")}
    return sorted(found)


_PORTS = itertools.count()


def free_ports(n: int) -> list[int]:
    """Ports that nobody listens on here, below those that the system and Ray give to clients and workers.

    Of processes that run side by side, which are numbered one after the other, each begins elsewhere.
    """
    found: list[int] = []
    for i in itertools.islice(_PORTS, 12_000):
        port = 20_000 + (100 * (os.getpid() % 120) + i) % 12_000
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                found.append(port)
        if len(found) == n:
            return found
    raise AssertionError("no free ports")


def even_intervals(radius: Sequence[float]) -> Intervals:
    """Of the same half-width wherever the prediction lies."""
    mean = np.asarray(radius, float)
    n = len(mean)
    return Intervals.of_whole(np.concatenate([mean[None], np.zeros((n, n))]), mean, np.ones(n))


def wide_reference(statistics: PassageStatistics, basis: np.ndarray) -> Reference:
    """Nothing is new to it. basis: (P, S), of the coordinates."""
    limits = np.array([[-1e9], [1e9]])
    return Reference(statistics, basis, np.zeros(1, int), np.ones(1, int), limits, np.ones(1), 1.0)


def blank_reference(n_dims: int, hop_s: float) -> Reference:
    """Nothing is new to it."""
    size, ones = sum(passages.block_sizes(n_dims, hop_s)), np.ones(n_dims, np.float32)
    scaler = Scaler(0 * ones, 0 * ones, ones, np.full(3, 0.5, np.float32), np.ones(3, np.float32))
    components = np.zeros((n_dims, passages.n_components(n_dims, hop_s)), np.float32)
    own = PassageStatistics(scaler, (components,), np.zeros(size, np.float32), np.ones(size, np.float32))
    return wide_reference(own, np.zeros((size, 16), np.float32))
