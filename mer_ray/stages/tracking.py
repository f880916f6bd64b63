"""Where trials are logged. Ray Tune itself writes TensorBoard's files, CSV and JSON; MLflow is an option."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit

from mer_ray.console import err
from mer_ray.errors import ConfigError, ServiceError
from mer_ray.io.address import scheme, shown
from mer_ray.io.identity import one_line
from mer_ray.io.store import Store

DATABASE = "mlflow.db"
LOGGED = ("epoch", "score", "train_loss", "valid_loss", "steps_done", "training_iteration")
"""The values of a trial's reports that are logged to MLflow, with ``r2_NAME`` of each dimension: each is a request, and
the rest is Tune's bookkeeping."""


def storage(workspace: Store) -> dict[str, Any]:
    """Where Tune and Train store their files, for their RunConfig.

    An object store is passed as an open file system: one that they opened themselves would not retry, and would append
    paths to the URI's query.
    """
    paths = {"storage_path": workspace.path("tune")}
    return paths if workspace.is_local else {**paths, "storage_filesystem": workspace.fs}


def keep_keys_home() -> None:
    """Stop Tune from copying this process's AWS keys into its trials. Called before trials start.

    Tune (2.60) puts them into the runtime environment of every trial, and Ray writes runtime environments into its
    logs unredacted. Trials find the keys of their node's environment, profile or role by themselves.
    """
    from ray.tune.execution import class_cache

    names: set[str] = class_cache.ENV_VARS_TO_PROPAGATE
    names -= {name for name in names if name.startswith("AWS_")}


def callbacks(address: str | None, experiment: str) -> list[Any]:
    """Tune callbacks that log trials to MLflow; none without an address.

    address: a tracking URI (http://, https://, databricks, sqlite://, ...), or a folder, which gets a SQLite database.
    The URI goes into the environment of this process (MLFLOW_TRACKING_URI), a user and password in it into
    MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, and not into the callback, which Tune writes to its logs.
    Raises ConfigError where MLflow is not installed, ServiceError where its server does not answer.
    """
    if address is None:
        return []
    if importlib.util.find_spec("mlflow") is None:
        raise ConfigError("train.mlflow is set, but MLflow is not installed", "pip install 'mer-ray[mlflow]'")
    uri, secrets = tracking_uri(address)
    os.environ.update({"MLFLOW_TRACKING_URI": uri, **secrets})
    os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
    os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
    # MLflow's defaults wait for minutes on each request.
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
    try:
        importlib.import_module("mlflow").MlflowClient().search_experiments(max_results=1)
    except Exception as error:
        # Its messages may quote the URI.
        raise ServiceError(
            f"MLflow at {shown(uri)} does not answer ({type(error).__name__})",
            "check train.mlflow, or leave it out",
        ) from None
    return [_mlflow(experiment)]


def tracking_uri(address: str) -> tuple[str, dict[str, str]]:
    """(the URI for MLflow, environment variables with the user and password of an http address)."""
    if not scheme(address) and address not in ("databricks", "databricks-uc", "uc"):
        folder = Path(address).expanduser().resolve()
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ConfigError(
                f"train.mlflow: cannot make the folder {one_line(address)} ({error.strerror})", "give another folder"
            ) from error
        return f"sqlite:///{folder / DATABASE}", {}
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or "@" not in parts.netloc:
        return address, {}
    user, _, password = parts.netloc.rpartition("@")[0].partition(":")
    secrets = {"MLFLOW_TRACKING_USERNAME": unquote(user), "MLFLOW_TRACKING_PASSWORD": unquote(password)}
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2])), secrets


def parameters(config: dict[str, Any]) -> dict[str, str | int | float]:
    """The parameters of a trial that are logged: what it trains, and its settings, without paths and lists."""
    trial = config["trial"]
    what = {"name": trial.run, "kind": trial.kind, "network": trial.network, "repeat": trial.repeat, "fold": trial.fold}
    return {k: v for k, v in {**what, **trial.settings}.items() if isinstance(v, str | int | float)}


def _mlflow(experiment: str) -> Any:
    from ray.air.integrations.mlflow import MLflowLoggerCallback

    class Quiet(MLflowLoggerCallback):  # type: ignore[misc]
        """Ray's callback, for the `LOGGED` values alone; when MLflow fails, training goes on without its log."""

        failed = False

        def log_trial_start(self, trial: Any) -> None:
            self.log_params_on_trial_end = True  # prevents that the parent logs all of the trial's config
            self._try(super().log_trial_start, trial)
            self._try(self._log_parameters, trial)

        def log_trial_result(self, iteration: int, trial: Any, result: dict[str, Any]) -> None:
            logged = {k: value for k, value in result.items() if k in LOGGED or k.startswith("r2_")}
            self._try(super().log_trial_result, iteration, trial, logged)

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
                name = type(error).__name__
                err.print(f"MLflow failed ({name}): the rest is logged by Tune alone", markup=False)

    return Quiet(experiment_name=experiment)
