"""The source of a workspace's tracks, as recorded in it.

Every stage takes the source from here, so that the demo's lexicon and random VGGish weights are used for the demo's
tracks alone, and not whenever a command names no source.
"""

from __future__ import annotations

from pathlib import Path

from mer_ray.config import Config
from mer_ray.config_collect import CollectConfig
from mer_ray.errors import WorkspaceError
from mer_ray.io.address import scheme
from mer_ray.io.last_command import SOURCE
from mer_ray.io.store import Store
from mer_ray.io.tables import Workspace

OLDER = ("settings", "collect.json")
PASSING = ("offline", "workers", "timeout_s", "requests_per_s", "keep_gone")
"""Settings of ``collect`` that are not recorded."""


def adopt(config: Config, workspace: Store) -> Config:
    """The settings, with the recorded ones of ``collect`` where they name no source.

    Raises WorkspaceError where they name another source.
    """
    recorded = workspace.read_json(*SOURCE)
    before = recorded["collect"] if recorded is not None else {"source": _older_source(workspace)}
    settings = config.collect.model_dump(exclude_unset=True)
    if before["source"] is None or settings.get("source") == before["source"]:
        return config
    if settings.get("source") is not None and not workspace.names("tracks"):
        return config  # no track was collected from the first source
    if settings.get("source") is not None:
        raise WorkspaceError(
            f"workspace {workspace.uri} holds tracks of the source {before['source']}, and these settings say "
            f"{settings['source']}",
            "choose another --workspace, or leave out collect.source and what implies it",
        )
    return config.model_copy(update={"collect": CollectConfig.model_validate({**before, **settings})})


def is_older(workspace: Store) -> bool:
    """Whether an older version of mer-ray made it, which identified tracks by artist and title alone."""
    return _older_source(workspace) is not None and not workspace.exists(*SOURCE)


def _older_source(workspace: Store) -> str | None:
    """The source as older versions recorded it, else as the tracks show it."""
    if not workspace.names("tracks"):
        return None
    source = ((workspace.read_json(*OLDER) or {}).get("settings") or {}).get("source")
    shown = Workspace(workspace.uri).distinct("tracks", "source")
    return source or next(iter(sorted(shown, key=lambda name: name == "demo")), None)


def remember(collect: CollectConfig, workspace: Store) -> None:
    """Record the source, for `adopt`. Local paths become absolute."""
    values = collect.model_dump(mode="json", exclude_unset=True, exclude=set(PASSING))
    values |= {name: _absolute(values[name]) for name in ("manifest", "curves", "folder", "cache") if values.get(name)}
    recorded = {"collect": {**values, "source": collect.source}}
    if workspace.read_json(*SOURCE) != recorded:
        workspace.write_json(recorded, *SOURCE)


def _absolute(path: str | list[str]) -> str | list[str]:
    if isinstance(path, list):
        return [str(_absolute(each)) for each in path]
    return path if scheme(path) else str(Path(path).expanduser().absolute())
