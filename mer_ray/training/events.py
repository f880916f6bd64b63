"""A workspace's finished runs as TensorBoard's event files: losses and R² of each epoch and fold, and the settings."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mer_ray.evaluation.predictions import read_table
from mer_ray.io.tables import Workspace

_FOLD = re.compile(r"(?P<run>.+)-repeat\d+-fold\d+(-search)?-\w+")
"""The folder of a trial under ``tune/EXPERIMENT``."""
_EXPERIMENT = re.compile(r"train-(\d{8})-(\d{6})")
COLUMNS = ["repeat", "fold", "epoch", "train_loss", "valid_loss"]


class Events:
    """Event files in a folder, which follow a workspace: ``runs/NAME`` and, of its folds, ``runs/NAME/repeat0-fold1``.

    Scalars of a fold, by epoch, are means of its members that are still training: loss/train and loss/valid, MSE of
    standardised labels, and r2/valid, 1 - loss/valid. Those of a run are its metrics on tracks that it was not trained
    on, test/r2_DIMENSION and so on, and its settings (HParams). ``tune`` has links to the trials of folds whose run is
    not finished yet.
    """

    def __init__(self, workspace: Workspace, folder: Path) -> None:
        self.workspace, self.folder = workspace, folder
        self._trained: dict[str, str] = {}

    def update(self) -> int:
        """Write the runs that are new or were trained again. Returns the number of runs."""
        for name in self.workspace.names("runs"):
            described = self.workspace.read_json("runs", name, "model.json")
            trained = described and described["details"]["trained_at"]
            if described is not None and self._trained.get(name) != trained:
                self._write(name, described)
                self._trained[name] = trained
        if self.workspace.is_local:
            self._link_trials()
        return len(self._trained)

    def _link_trials(self) -> None:
        for experiment in self.workspace.names("tune"):
            if not (began := _EXPERIMENT.fullmatch(experiment)):
                continue  # a folder of somebody else
            for trial in self.workspace.names("tune", experiment):
                found, link = _FOLD.fullmatch(trial), self.folder / "tune" / trial
                if found is None or link.is_symlink():
                    continue
                trained = self._trained.get(found["run"])
                if trained is None or _digits(trained) < began[1] + began[2]:
                    link.parent.mkdir(exist_ok=True)
                    link.symlink_to(self.workspace.path("tune", experiment, trial))

    def _write(self, name: str, described: Mapping[str, Any]) -> None:
        from tensorboardX import SummaryWriter

        figures = {
            f"test/{figure}_{dimension}": value
            for dimension, own in described["metrics"].items()
            for figure, value in own.items()
            if figure in ("r2", "ccc", "rmse") and isinstance(value, float) and math.isfinite(value)
        }
        with SummaryWriter(str(self.folder / "runs"), write_to_disk=False) as writer:
            writer.add_hparams(_settings(described), figures, name=name, global_step=0)
        if not self.workspace.exists("runs", name, "curves.parquet"):
            return
        table = read_table(self.workspace, "runs", name, "curves.parquet", columns=COLUMNS)
        for fold, points in _folds(table).items():
            with SummaryWriter(str(self.folder / "runs" / name / fold)) as writer:
                for epoch, train, valid in points:
                    for tag, value in (("loss/train", train), ("loss/valid", valid), ("r2/valid", 1 - valid)):
                        if math.isfinite(value):
                            writer.add_scalar(tag, value, int(epoch))


def _digits(moment: str) -> str:
    """``2026-11-29T07:00:58.343+00:00`` → ``20261129070058``."""
    return re.sub(r"\D", "", moment)[:14]


def _settings(described: Mapping[str, Any]) -> dict[str, Any]:
    """What TensorBoard compares runs by: network, feature, and the settings that are numbers or words."""
    own = described["details"]["settings"]
    what = {"network": described["network"], "feature": described["feature"]["name"]}
    return {**what, **{k: v for k, v in own.items() if isinstance(v, str | int | float)}}


def _folds(table: pa.Table) -> dict[str, list[tuple[float, ...]]]:
    """``repeat0-fold1`` → (epoch, training loss, validation loss) of each epoch, means over the members."""
    whose, epoch, *losses = (
        np.stack([table["repeat"].to_numpy(), table["fold"].to_numpy()], axis=1),
        *(table[name].to_numpy() for name in COLUMNS[2:]),
    )
    found = {}
    for repeat, fold in sorted(set(map(tuple, whose.tolist()))):
        own = (whose == (repeat, fold)).all(axis=1)
        rows = [own & (epoch == e) for e in np.unique(epoch[own])]
        points = [(float(epoch[row][0]), *(float(loss[row].mean()) for loss in losses)) for row in rows]
        found[f"repeat{repeat}-fold{fold}"] = points
    return found
