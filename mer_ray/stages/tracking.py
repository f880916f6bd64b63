"""Where trials are logged: TensorBoard's files, CSV and JSON are Ray Tune's own doing; MLflow is an option."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from mer_ray.console import err
from mer_ray.errors import ConfigError, ServiceError
from mer_ray.io.identity import one_line
from mer_ray.io.store import Store

DATABASE = "mlflow.db"
OURS = ("epoch", "score", "train_loss", "valid_loss", "steps_done", "r2_valence", "r2_arousal", "r2_dominance")
"""What is logged to MLflow of a trial's reports; the rest is Tune's bookkeeping, and every number is a request."""


def storage(workspace: Store) -> dict[str, Any]:
    """Where Tune and Train keep their own, for their RunConfig.

    Of a store, the file system that is open here: what they would open from its URI has no patience, and their paths
    would land behind its query.
    """
    place = {"storage_path": workspace.path("tune")}
    return place if workspace.is_local else {**place, "storage_filesystem": workspace.fs}


def callbacks(place: str | None, experiment: str) -> list[Any]:
    """Tune callbacks that log trials to MLflow; none without a place.

    place: a tracking URI (http://, https://, databricks, sqlite://, ...), or a folder, which gets a SQLite database.
    The URI goes into the environment of this process (MLFLOW_TRACKING_URI), a user and password in it into
    MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD: what Tune writes of a callback holds none of them.
    Raises ConfigError where MLflow is not installed, ServiceError where its server does not answer.
    """
    if place is None:
        return []
    if importlib.util.find_spec("mlflow") is None:
        raise ConfigError("train.mlflow is set, but MLflow is not installed", "pip install 'mer-ray[mlflow]'")
    uri, secrets = tracking_uri(place)
    os.environ.update({"MLFLOW_TRACKING_URI": uri, **secrets})
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # MLflow's own patience is minutes for each request.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    try:
        _knock()
    except Exception as error:
        # Its messages may quote the URI.
        raise ServiceError(
            f"MLflow at {redacted(uri)} does not answer ({type(error).__name__})",
            "check train.mlflow, or leave it out",
        ) from None
    return [_mlflow(experiment)]


def tracking_uri(place: str) -> tuple[str, dict[str, str]]:
    """(what MLflow is to be given, variables of its environment with the user and password of an http address)."""
    if "://" not in place and place not in ("databricks", "databricks-uc", "uc"):
        folder = Path(place).expanduser().resolve()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"train.mlflow: cannot make the folder {one_line(place)} ({error.strerror})", "give another folder"
            ) from error
        return f"sqlite:///{folder / DATABASE}", {}
    parts = urlsplit(place)
    if parts.scheme not in ("http", "https") or "@" not in parts.netloc:
        return place, {}
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    secrets = {"MLFLOW_TRACKING_USERNAME": unquote(user), "MLFLOW_TRACKING_PASSWORD": unquote(password)}
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])), secrets


def redacted(uri: str) -> str:
    """A URI fit for a message: without user, password and query."""
    parts = urlsplit(one_line(uri))
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def parameters(config: dict[str, Any]) -> dict[str, str | int | float]:
    """What of a trial's config is logged: what it trains, and the settings; no paths, no lists."""
    trial = config["trial"]
    what = {"name": trial.run, "kind": trial.kind, "network": trial.network, "repeat": trial.repeat, "fold": trial.fold}
    return {k: v for k, v in {**what, **trial.settings}.items() if isinstance(v, str | int | float)}


def _knock() -> None:
    mlflow = importlib.import_module("mlflow")  # an extra, so that no linter need know it
    mlflow.MlflowClient().search_experiments(max_results=1)


def _warn(error: Exception) -> None:
    err.print(f"MLflow failed ({type(error).__name__}): the rest is logged by Tune alone", markup=False)


def _mlflow(experiment: str) -> Any:
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    class Quiet(MLflowLoggerCallback):  # type: ignore[misc]
        """Ray's callback, with our numbers alone; an MLflow that fails costs its log, not the training."""

        failed = False

        def log_trial_start(self, trial: Any) -> None:
            self.log_params_on_trial_end = True  # not now: the parent would log all of the trial's config
            self._try(super().log_trial_start, trial)
            self._try(self._log_parameters, trial)

        def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
            ours = {k: result[k] for k in (*OURS, "training_iteration") if k in result}
            self._try(super().log_trial_result, iteration, trial, ours)

        def log_trial_end(self, trial: Any, failed: bool = False) -> None:
            self.log_params_on_trial_end = False
            self._try(super().log_trial_end, trial, failed)

        def _log_parameters(self, trial: Any) -> None:
            self.mlflow_util.log_params(run_id=self._trial_runs[trial], params_to_log=parameters(trial.config))

        def _try(self, log: Any, *arguments: Any) -> None:
            if self.failed:
                return
            try:
                log(*arguments)
            except Exception as error:
                self.failed = True
                _warn(error)

    return Quiet(experiment_name=experiment)
