"""What a workspace remembers of where its tracks come from, and of the command that worked on it last.

Every stage takes the source from here. The demo's stand-ins (its lexicon, random VGGish weights) are for the demo's own
tracks: that a command names no source is no reason to take them.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mer_ray.config import CollectConfig, Config
from mer_ray.errors import WorkspaceError
from mer_ray.io.store import Storage
from mer_ray.io.tables import Workspace

SOURCE = ("settings", "source.json")
COMMAND = ("settings", "command.json")
OLDER = ("settings", "collect.json")
PASSING = ("offline", "workers", "timeout_s", "requests_per_s", "keep_gone")
"""Settings of ``collect`` that are the command's and not the workspace's."""


def adopt(config: Config, workspace: Storage) -> Config:
    """The settings, with those of ``collect`` as the workspace remembers them where they name no source.

    Raises WorkspaceError where they name another source.
    """
    recorded = workspace.read_json(*SOURCE)
    before = recorded["collect"] if recorded is not None else {"source": _older_source(workspace)}
    settings = config.collect.model_dump(exclude_unset=True)
    if before["source"] is None or settings.get("source") == before["source"]:
        return config
    if settings.get("source") is not None and not workspace.names("tracks"):
        return config  # nothing came of the first source, and here is another
    if settings.get("source") is not None:
        raise WorkspaceError(
            f"workspace {workspace.uri} holds tracks of the source {before['source']}, and these settings say "
            f"{settings['source']}",
            "choose another --workspace, or leave out collect.source and what implies it",
        )
    return config.model_copy(update={"collect": CollectConfig.model_validate({**before, **settings})})


def is_older(workspace: Storage) -> bool:
    """Whether an older version of mer-ray made it, which identified tracks by artist and title alone."""
    return _older_source(workspace) is not None and not workspace.exists(*SOURCE)


def _older_source(workspace: Storage) -> str | None:
    """What older versions wrote down of the source; where that is missing, what the tracks themselves say."""
    if not workspace.names("tracks"):
        return None
    source = ((workspace.read_json(*OLDER) or {}).get("settings") or {}).get("source")
    return source or next(iter(sorted(Workspace(workspace.uri).distinct("tracks", "source"), key=_is_demo)), None)


def _is_demo(source: str) -> bool:
    return source == "demo"


def remember(collect: CollectConfig, workspace: Storage) -> None:
    """Write down what is collected, for `adopt`. Local paths become absolute."""
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
        """Of this process. An assignment that may hold a secret is left out."""
        pairs = (a.partition("=") for a in assignments)
        return cls(config, {k.strip(): v for k, _, v in pairs if not _may_be_secret(v)}, os.getcwd())  # noqa: PTH109

    def remember(self, workspace: Storage) -> None:
        """Write it down, in a workspace that tracks were collected in.

        Without a settings file, that of the command before it stays, and so do its assignments.
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

    def line(self, stage: str, workspace: Storage, typed: str) -> str:
        """``mer-ray STAGE`` with these settings, as it can be typed in the present folder.

        typed: the workspace as it was typed there.
        """
        here = self.folder == os.getcwd() or not (self.config or self.assignments)  # noqa: PTH109
        words = ["mer-ray", stage, *(["-c", self.config] if self.config else [])]
        words += ["--workspace", typed if here else workspace.uri]
        for key, value in self.assignments.items():
            words += ["--set", f"{key}={value}"]
        line = shlex.join(words)
        return line if here else f"cd {shlex.quote(self.folder)} && {line}"


def recall(workspace: Storage) -> Command | None:
    """The command that `Command.remember` wrote down last."""
    values = workspace.read_json(*COMMAND)
    return Command(**values) if values else None


def _may_be_secret(value: str) -> bool:
    """Whether there is, anywhere in it, an address with a user, a password or a query."""
    _, found, address = value.partition("://")
    return bool(found) and any(character in address for character in "@?")


def _absolute(path: str) -> str:
    return path if "://" in path else str(Path(path).expanduser().absolute())
