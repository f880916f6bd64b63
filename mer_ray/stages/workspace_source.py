"""The source of a workspace's tracks and its last command, as recorded in it.

Every stage takes the source from here, so that the demo's lexicon and random VGGish weights are used for the demo's
tracks alone, and not whenever a command names no source.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mer_ray.config import CollectConfig, Config
from mer_ray.errors import WorkspaceError
from mer_ray.io.address import scheme
from mer_ray.io.store import Store
from mer_ray.io.tables import Workspace

SOURCE = ("settings", "source.json")
COMMAND = ("settings", "command.json")
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
    return source or next(iter(sorted(Workspace(workspace.uri).distinct("tracks", "source"), key=_is_demo)), None)


def _is_demo(source: str) -> bool:
    return source == "demo"


def remember(collect: CollectConfig, workspace: Store) -> None:
    """Record the source, for `adopt`. Local paths become absolute."""
    values = collect.model_dump(mode="json", exclude_unset=True, exclude=set(PASSING))
    values |= {name: _absolute(values[name]) for name in ("manifest", "folder", "cache") if values.get(name)}
    recorded = {"collect": {**values, "source": collect.source}}
    if workspace.read_json(*SOURCE) != recorded:
        workspace.write_json(recorded, *SOURCE)


@dataclass(frozen=True)
class Command:
    """How a command was called: a settings file, assignments (key to value, as typed), and the folder it ran in."""

    config: str | None
    assignments: Mapping[str, str]
    folder: str

    @classmethod
    def of_process(cls, config: str | None, assignments: Sequence[str]) -> Command:
        """The command of this process, without assignments that may hold a secret."""
        pairs = (a.partition("=") for a in assignments)
        return cls(config, {k.strip(): v for k, _, v in pairs if not _may_be_secret(v)}, os.getcwd())  # noqa: PTH109

    def remember(self, workspace: Store) -> None:
        """Record it in a workspace that has tracks.

        Without a settings file, the recorded one stays, with its assignments.
        """
        if not workspace.exists(*SOURCE):
            return
        before = recall(workspace)
        command = self
        if before is not None and self.config in (None, before.config) and self.folder == before.folder:
            command = Command(before.config, {**before.assignments, **self.assignments}, self.folder)
        if command != before:
            values = {"config": command.config, "assignments": dict(command.assignments), "folder": command.folder}
            workspace.write_json(values, *COMMAND)

    def line(self, stage: str, workspace: Store, typed: str) -> str:
        """``mer-ray STAGE`` with these settings, as one can type it in the present folder.

        typed: the workspace as it was typed there.
        """
        here = self.folder == os.getcwd() or not (self.config or self.assignments)  # noqa: PTH109
        words = ["mer-ray", stage, *(["-c", self.config] if self.config else [])]
        words += ["--workspace", typed if here else workspace.uri]
        for key, value in self.assignments.items():
            words += ["--set", f"{key}={value}"]
        line = shlex.join(words)
        return line if here else f"cd {shlex.quote(self.folder)} && {line}"


def recall(workspace: Store) -> Command | None:
    """The command that `Command.remember` recorded last."""
    values = workspace.read_json(*COMMAND)
    return Command(**values) if values else None


def _may_be_secret(value: str) -> bool:
    """Whether it contains an address with a user, a password or a query."""
    _, found, rest = value.partition(":/")  # a slash may be missing
    return bool(found) and any(character in rest for character in "@?")


def _absolute(path: str) -> str:
    return path if scheme(path) else str(Path(path).expanduser().absolute())
