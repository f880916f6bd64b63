"""The last command on a workspace, as recorded in it, from which `status` makes the next one."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mer_ray.io.store import Store

SOURCE = ("settings", "source.json")
"""The settings of ``collect``, once it has run."""
COMMAND = ("settings", "command.json")


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
