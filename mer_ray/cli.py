"""The command ``mer-ray``: parses arguments and calls a stage; an error becomes one line, see `signals`.

Heavy imports stay inside the commands, so that ``--help`` is fast.
"""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from mer_ray import child_process, cli_catalog, signals
from mer_ray.cli_options import SCORES, decoding, stage
from mer_ray.errors import InputError, TooManyFailed
from mer_ray.io import scratch
from mer_ray.version import __version__

if TYPE_CHECKING:
    from mer_ray.config import Config
    from mer_ray.console import Summary
    from mer_ray.io.costs import Meter
    from mer_ray.io.tables import Workspace


SECTIONS = {
    "Score, search and use music": ("score", "explore", "playlist", "neighbours", "duplicates", "tag"),
    "Make a model, in this order": ("collect", "label", "acquire", "extract", "train", "report", "run"),
    "Watch": ("status", "board"),
    "Get data and weights": ("dataset", "weights"),
}
"""The commands in the order of ``mer-ray --help``."""


class _Commands(click.Group):
    """All commands, run by `signals.run`."""

    debug = False

    def main(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Any:
        child_process.leave_current_folder()
        signals.open_streams()
        self.debug = "--debug" in (sys.argv if args is None else args)
        with signals.signals(last=args is None):
            return signals.run(lambda: super(_Commands, self).main(args, *more, **options), debug=self.debug)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        limit = formatter.width - 6 - max(map(len, self.commands))
        for heading, names in SECTIONS.items():
            with formatter.section(heading):
                formatter.write_dl([(n, self.commands[n].get_short_help_str(limit)) for n in names])

    def invoke(self, ctx: click.Context) -> Any:
        scratch.sweep()  # what killed commands and workers left on this host
        return signals.run(lambda: super(_Commands, self).invoke(ctx), _leave_ray, self.debug)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="mer-ray")
def main() -> None:
    """Valence, arousal and dominance of soundtracks, from their audio.

    `mer-ray score ~/Music` writes scores.parquet, by a model that comes along; explore, playlist and others read it.
    A model of your own is made in a workspace, stage by stage: collect, label, acquire, extract, train, report, score
    (`run` is all of them). Each one does what is left to do. Without a config file, they work on the embedded demo.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a log's encoding may lack a title's characters


def _leave_ray() -> None:
    if "mer_ray.stages.session" in sys.modules:
        sys.modules["mer_ray.stages.session"].close()


_KEEP_GONE = click.option("--keep-gone", is_flag=True, help="Keep tracks whose row or file is gone.")


def _collecting(config: Config, **flags: bool) -> Config:
    """The settings with the flags of ``collect``."""
    changes = {name: True for name, is_set in flags.items() if is_set}
    return config.model_copy(update={"collect": config.collect.model_copy(update=changes)})


def _one(stage: str, config: Config, workspace: Workspace) -> None:
    import importlib

    from mer_ray.console import show

    meter = _meter(config)
    module = importlib.import_module(f"mer_ray.stages.{stage}")
    checked = module.check(config) if hasattr(module, "check") else None
    summary = module.run(config, workspace) if checked is None else module.run(config, workspace, checked)
    show(summary)
    _record(workspace, meter, summary)
    _end(config, summary)


def _meter(config: Config) -> Meter:
    """Measures what a stage costs."""
    from mer_ray.io.costs import Meter

    return Meter(bool(config.address or os.environ.get("RAY_ADDRESS")))


def _record(workspace: Workspace, meter: Meter, summary: Summary) -> None:
    from mer_ray.io.costs import record

    record(workspace, summary.stage, meter, summary.made + summary.changed + summary.gone, summary.failed)
    meter.again()


def _end(config: Config, *summaries: Summary) -> None:
    """Raises TooManyFailed if more of a stage's tracks were lost than ``max_lost`` allows."""
    if lost := "; ".join(f"{summary.stage}: {summary.lost}" for summary in summaries if summary.lost):
        raise TooManyFailed(
            f"{lost}, more than {config.max_lost:.0%}; the rest is written",
            "see `mer-ray status` or the failures' file, mend that and run again with --retry-failed; or allow more "
            "with --max-lost",
        )


@main.command(short_help="Find tracks and their tags: Last.fm, manifest, folder or demo.")
@click.option("--offline", is_flag=True, help="Make the tables from Last.fm's stored responses, without requests.")
@_KEEP_GONE
@stage
def collect(config: Config, workspace: Workspace, offline: bool, keep_gone: bool) -> None:
    """Find tracks and their tags: Last.fm, a manifest, a folder, or the demo catalog.

    Run again, it follows what has changed there; the other stages then redo only what depends on that.
    """
    _one("collect", _collecting(config, offline=offline, keep_gone=keep_gone), workspace)


@main.command(short_help="Turn tags into valence, arousal and dominance.")
@click.option("--explain", metavar='"ARTIST – TITLE"', help="Show how one track's label comes about, and make none.")
@stage
def label(config: Config, workspace: Workspace, explain: str | None) -> None:
    """Turn tags into valence, arousal and dominance with a lexicon."""
    if explain is not None:
        from mer_ray.stages import label as label_stage

        label_stage.explain(config, workspace, explain)
        return
    _one("label", config, workspace)


@main.command()
@decoding
@stage
def acquire(config: Config, workspace: Workspace) -> None:
    """Get the audio of each track."""
    _one("acquire", config, workspace)


@main.command()
@decoding
@stage
def extract(config: Config, workspace: Workspace) -> None:
    """Compute features from the audio."""
    _one("extract", config, workspace)


@main.command()
@stage
def train(config: Config, workspace: Workspace) -> None:
    """Train every network on every feature."""
    _one("train", config, workspace)


@main.command(short_help="Compare the models: tables and plots, with 95 % intervals.")
@click.option("--against", metavar="RUN", help="Only compare with this: .../runs/NAME, or another workspace.")
@click.option("--html", "as_page", is_flag=True, help="Also as one page for a browser: report/report.html.")
@stage
def report(config: Config, workspace: Workspace, against: str | None, as_page: bool) -> None:
    """Compare the models: a table and plots for each dimension, with 95 % intervals."""
    from mer_ray.console import show
    from mer_ray.stages import report as report_stage

    show(report_stage.run(config, workspace, against, as_page))


@main.command(short_help="Score folders, files, manifests, or a workspace's tracks.")
@click.argument("catalog", nargs=-1)
@click.option(
    "--model",
    metavar="light|default|DIR",
    help="A packaged model or a folder (./light, if so called). [default; for the workspace's own tracks, its best]",
)
@click.option(
    "--out",
    "output",
    metavar="PATH",
    help="Of a catalog's scores: .parquet, .csv, .xlsx, or a folder; a path, s3:// or gs://. [scores.parquet]",
)
@_KEEP_GONE
@click.option("--keep-features", is_flag=True, help="Also keep the features, in the folder that --out names.")
@decoding
@stage
def score(
    config: Config,
    workspace: Workspace,
    catalog: tuple[str, ...],
    model: str | None,
    output: str | None,
    keep_features: bool,
    keep_gone: bool,
) -> None:
    """Valence, arousal and dominance, or what else the model predicts, of everything in CATALOG.

    Without one, of the workspace's own tracks.

    CATALOG: folders of audio, audio files, manifests, tables of frames (Parquet), s3:// and gs:// addresses. What the
    same model has scored into the same output is not scored again. Of audio, tempo, key and loudness are measured, too.
    """
    from mer_ray.console import out, show
    from mer_ray.stages import score as score_stage

    if not catalog:
        if output is not None or keep_features:
            raise InputError("--out needs a CATALOG", "the workspace's own scores are its table scores/")
        if model is not None:
            config = config.model_copy(update={"score": config.score.model_copy(update={"model": model})})
        meter = _meter(config)
        show(summary := score_stage.run(config, workspace))
        _record(workspace, meter, summary)
        _end(config, summary)
        return
    from mer_ray.scoring import preview

    target = output or SCORES
    config = _collecting(config, keep_gone=keep_gone)
    show(summary := score_stage.run_catalog(config, catalog, target, model or config.score.model, keep_features))
    if not out.quiet:
        for shown in preview.tables(target, out.width):
            out.print(shown)
    _end(config, summary)


@main.command()
@_KEEP_GONE
@decoding
@stage
def run(config: Config, workspace: Workspace, keep_gone: bool) -> None:
    """All stages in order; what is done is not done again."""
    import time

    from mer_ray.console import out, show
    from mer_ray.stages import run as stages

    started, meter = time.monotonic(), _meter(config)
    made = failed = 0
    summaries = []
    for summary in stages.run(_collecting(config, keep_gone=keep_gone), workspace):
        show(summary)
        summaries.append(summary)
        if summary.stage != "report":
            made += summary.made + summary.changed + summary.gone
            _record(workspace, meter, summary)
        failed += summary.failed
    verdict = "all done" if made else "everything was done already"
    out.print(
        f"{verdict} in {time.monotonic() - started:.0f} s"
        + (f"; {failed:,} failures, see `mer-ray status`" if failed else "")
    )
    _end(config, *summaries)


@main.command(short_help="Show what there is, what failed and why, and what comes next.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for scripts.")
@stage
def status(config: Config, workspace: Workspace, as_json: bool) -> None:
    """Show the workspace's tables and models, what failed and why, and what comes next."""
    from mer_ray.io.last_command import Command, recall
    from mer_ray.stages import status as status_stage

    parameters = click.get_current_context().params
    typed = Command.of_process(parameters["config"], parameters["assignments"])
    used = typed if typed.config or typed.assignments else recall(workspace) or typed
    status_stage.run(config, workspace, as_json, used)


for _command in cli_catalog.COMMANDS:
    main.add_command(_command)
