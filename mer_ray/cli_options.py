"""The options that commands share, and how they become settings and an opened workspace."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from mer_ray.scoring.edl import RATES

if TYPE_CHECKING:
    from mer_ray.config import Config
    from mer_ray.io.tables import Workspace


ANSWERS = ("status",)
"""Commands that change nothing in a workspace: what they print is what they are for, also with ``--quiet``."""
SCORES = "scores.parquet"
"""Of a catalog, where no other file is named."""
_QUIET = click.option("-q", "--quiet", is_flag=True, help="Print errors and the result's path, and nothing else.")


def stage(function: Callable[..., None]) -> Callable[..., None]:
    """The options that every stage has."""

    @functools.wraps(function)
    def command(
        config: str | None,
        assignments: tuple[str, ...],
        workspace: str | None,
        address: str | None,
        retry: bool,
        cpu_share: float | None,
        quiet: bool,
        debug: bool,
        **own: Any,
    ) -> None:
        from mer_ray import console, machine
        from mer_ray.errors import TooManyFailed

        settings = _settings(config, assignments, workspace, address, retry, cpu_share)
        on_cluster = settings.address or os.environ.get("RAY_ADDRESS")
        taken = machine.taking() if on_cluster else machine.taking(settings.cpu_share, settings.nice)
        name = click.get_current_context().info_name or ""
        answers = name in ANSWERS or own.get("explain") is not None
        try:
            with taken, console.quietly(quiet, answers):
                settings, opened = _at_work(settings, catalog=bool(own.get("catalog")), quiet=quiet)
                _run(function, settings, opened, config, assignments, own)
        except TooManyFailed:  # what could be done is written
            if quiet:
                click.echo(_result(name, opened, own))
            raise
        if quiet and not answers:
            click.echo(_result(name, opened, own))

    options = [
        click.option(
            "-c",
            "--config",
            metavar="FILE",
            multiple=True,
            callback=lambda context, option, files: os.pathsep.join(files) or None,
            help="Settings, in YAML (see configs/); of several files, later ones change what the first ones say.",
        ),
        click.option(
            "--set", "assignments", metavar="KEY=VALUE", multiple=True, help="One setting, as in train.folds=10."
        ),
        click.option("--workspace", metavar="URI", help="Where the tables are: a path, or s3://, gs://, file://."),
        click.option(
            "--address", metavar="RAY", help="A Ray cluster to join; without one (or RAY_ADDRESS), this machine."
        ),
        click.option("--retry-failed", "retry", is_flag=True, help="Also try again what failed for good."),
        click.option(
            "--cpu-share",
            metavar="SHARE",
            type=click.FloatRange(0, 1, min_open=True),
            help="Of this machine's CPUs, the share to work with, 0 to 1. [1]",
        ),
        _QUIET,
        click.option("--debug", is_flag=True, help="Show the traceback of an error."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _run(
    function: Callable[..., None],
    settings: Config,
    workspace: Workspace,
    config: str | None,
    assignments: tuple[str, ...],
    own: dict[str, Any],
) -> None:
    """Run a command, and remember how it was typed."""
    from mer_ray.io.last_command import Command

    if own.get("catalog") or click.get_current_context().info_name in ANSWERS:
        function(settings, workspace, **own)
        return
    typed = Command.of_process(config, assignments)
    try:
        function(settings, workspace, **own)
    except KeyboardInterrupt:
        typed.remember(workspace)
        raise
    typed.remember(workspace)


def _result(name: str, workspace: Workspace, own: dict[str, Any]) -> str:
    """The path that a quiet command prints."""
    if own.get("catalog"):
        return str(own.get("output") or SCORES)
    if name == "report":
        stem = "against" if own["against"] is not None else "report"
        return workspace.at("report", f"{stem}.{'html' if own['as_page'] else 'md'}")
    return workspace.uri


def decoding(command: Callable[..., None]) -> Callable[..., None]:
    """The options of stages that decode audio: the settings ``allow_partial`` and ``max_lost``."""

    @click.option("--allow-partial", is_flag=True, help="Use what there is of audio files that are cut or damaged.")
    @click.option(
        "--max-lost",
        metavar="SHARE",
        help="End with exit code 3 if more of the tracks were missing, or lost to machines or the network. [0.2]",
    )
    @functools.wraps(command)
    def wrapped(assignments: tuple[str, ...], allow_partial: bool, max_lost: str | None, **own: Any) -> None:
        own_assignments = ["allow_partial=true"] if allow_partial else []
        own_assignments += [f"max_lost={max_lost}"] if max_lost is not None else []
        command(assignments=(*assignments, *own_assignments), **own)

    return wrapped


def arcs(command: Callable[..., None]) -> Callable[..., None]:
    """The options of playlists for arcs and for passages."""
    options = [
        click.option("--arc", "moods", metavar="MOODS", help="From mood to mood: calm-tense, sad-calm-happy."),
        click.option("--from", "start", metavar="TRACK", help="First of an arc: its id, file, or a part of its name."),
        click.option("--to", "end", metavar="TRACK", help="Last of an arc."),
        click.option(
            "--cues",
            "cue_file",
            metavar="FILE",
            help="Calm and tense passages: .csv, .edl for video editors, .txt for Audacity.",
        ),
        click.option(
            "--cue-seconds",
            metavar="SECONDS",
            type=click.FloatRange(1, 3600),
            default=20.0,
            show_default=True,
            help="About so long each.",
        ),
        click.option(
            "--cue-rate",
            type=click.Choice(list(RATES)),
            default="25",
            show_default=True,
            help="Frames in a second, of the project that imports the .edl.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _settings(
    file: str | None,
    assignments: tuple[str, ...],
    workspace: str | None,
    address: str | None,
    retry: bool,
    cpu_share: float | None,
) -> Config:
    from mer_ray.config import load

    config = load(file, assignments)
    changes: dict[str, Any] = {"workspace": workspace, "address": address, "retry_failed": retry or None}
    changes["cpu_share"] = cpu_share
    return config.model_copy(update={k: v for k, v in changes.items() if v is not None})


def _at_work(config: Config, catalog: bool, quiet: bool) -> tuple[Config, Workspace]:
    """The workspace, and the settings completed by its recorded source. Scores of a catalog use no workspace."""
    from mer_ray.io.store import check_lasting
    from mer_ray.io.tables import Workspace
    from mer_ray.stages import workspace_source

    workspace = Workspace(config.workspace)
    if catalog:
        return config, workspace
    if workspace.is_local:
        check_lasting(workspace.root, "--workspace")
    workspace.sweep()
    if not quiet and click.get_current_context().info_name != "status" and workspace_source.is_older(workspace):
        notice = "was made by an older mer-ray: `mer-ray collect` brings it up to date, and keeps what is still right"
        click.echo(f"mer-ray: workspace {workspace.uri} {notice}", err=True)
    return workspace_source.adopt(config, workspace), workspace


def reader(function: Callable[..., list[str]]) -> Callable[..., None]:
    """Decorate a command that only reads files: print its remarks."""

    @_QUIET
    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @functools.wraps(function)
    def command(quiet: bool, debug: bool, **own: Any) -> None:
        from rich.markup import escape

        from mer_ray.console import out, quietly

        written = own.get("output")
        answers = not (written or own.get("dry_run") is False)  # then the lines are what was asked for
        with quietly(quiet, answers):
            lines = function(**own)
        if quiet and not answers:
            lines = [written] if written else []
        for line in lines:
            out.print(escape(line))

    return command
