"""Workers for tests of the runner: the pool's processes import them by name, Ray's are sent them by value."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pyarrow as pa

from mer_ray.errors import InputError
from mer_ray.io.tables import failure
from mer_ray.io.worker import Done


class Squares:
    """A worker. deadly: the rows that end it every time. frail: those that end it once, after a part of their block."""

    def __init__(self, folder: Path, deadly: tuple[int, ...] = (), frail: tuple[int, ...] = ()) -> None:
        self.folder, self.deadly, self.frail = folder, deadly, frail

    def __call__(self, rows: pa.Table, final: bool) -> Done:
        for x in rows["x"].to_pylist():
            mark = self.folder / f"{x}"
            if x in self.deadly or (x in self.frail and not mark.exists()):
                mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
        squares = [x * x for x in rows["x"].to_pylist()]
        output = pa.table({"x": rows["x"], "square": squares, "pid": [os.getpid()] * len(rows)})
        return Done(len(rows), output=output)

    def close(self) -> None:
        pass

    @staticmethod
    def failure(row, message):
        return failure("extract", row["track_id"], "worker_died", message)


class StillBorn(Squares):
    def __init__(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Lacking(Squares):
    def __init__(self) -> None:
        raise ModuleNotFoundError("No module named 'jax'", name="jax.numpy")


class Refuses(Squares):
    def __call__(self, rows: pa.Table, final: bool) -> Done:
        raise InputError("no", "yes")


class Mistaken(Squares):
    def __call__(self, rows: pa.Table, final: bool) -> Done:
        if 2 in rows["x"].to_pylist():
            raise KeyError("oops")
        return Done(len(rows))


class Doubts(Squares):
    """folder: where it marks each row that it has seen. missing: rows that fail. healed: those that fail once."""

    def __init__(self, folder: Path, missing: tuple[int, ...], healed: tuple[int, ...]) -> None:
        self.folder, self.missing, self.healed = folder, missing, healed

    def __call__(self, rows: pa.Table, final: bool) -> Done:
        failed = []
        for row in rows.to_pylist():
            mark = self.folder / f"{row['x']}"
            if row["x"] in self.missing or (row["x"] in self.healed and not mark.exists()):
                failed.append(failure("extract", row["track_id"], "missing", "is not there"))
            mark.write_text(f"{mark.read_text() if mark.exists() else ''}x")
        return Done(len(rows) - len(failed), failed)
