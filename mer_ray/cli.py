"""The command ``mer-ray``: parses, calls a stage; what cannot go on ends in one clear line, see `ending`.

Heavy imports stay inside the commands, so that ``--help`` answers at once.
"""

from __future__ import annotations

import functools
import io
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import click

from mer_ray import child_process, signals
from mer_ray.errors import InputError
from mer_ray.version import __version__

if TYPE_CHECKING:
    from mer_ray.config import Config
    from mer_ray.io.tables import Workspace


class _Commands(click.Group):
    """All commands, each with the same ends: see `ending`."""

    debug = False

    def main(self, args: Sequence[str] | None = None, *more: Any, **options: Any) -> Any:
        child_process.leave_current_folder()
        signals.open_streams()
        self.debug = "--debug" in (sys.argv if args is None else args)
        with signals.signals(last=args is None):
            return signals.run(lambda: super(_Commands, self).main(args, *more, **options), debug=self.debug)

    def invoke(self, ctx: click.Context) -> Any:
        return signals.run(lambda: super(_Commands, self).invoke(ctx), _leave_ray, self.debug)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="mer-ray")
def main() -> None:
    """Valence, arousal and dominance of soundtracks, from listeners' tags and audio.

    The stages, in their order: collect, label, acquire, extract, train, report, score; `run` is all of them. Each one
    does what is left to do in the workspace. Without a config file, they work on the embedded demo catalog.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a title is no reason to stop, whatever a log can hold


def _stage(function: Callable[..., None]) -> Callable[..., None]:
    """The options that every stage has."""

    @functools.wraps(function)
    def command(
        config: str | None,
        assignments: tuple[str, ...],
        workspace: str | None,
        address: str | None,
        retry: bool,
        debug: bool,
        **own: Any,
    ) -> None:
        from mer_ray.stages import workspace_source

        settings = _settings(config, assignments, workspace, address, retry)
        settings, opened = _at_work(settings, catalog=bool(own.get("catalog")))
        if own.get("catalog") or click.get_current_context().info_name == "status":
            function(settings, opened, **own)
            return
        given = workspace_source.Command.given(config, assignments)
        try:
            function(settings, opened, **own)
        except KeyboardInterrupt:
            given.remember(opened)
            raise
        given.remember(opened)

    options = [
        click.option("-c", "--config", metavar="FILE", help="Settings, in YAML (see configs/)."),
        click.option(
            "--set", "assignments", metavar="KEY=VALUE", multiple=True, help="One setting, as in train.folds=10."
        ),
        click.option("--workspace", metavar="URI", help="Where the tables are: a path, or s3://, gs://, file://."),
        click.option(
            "--address", metavar="RAY", help="A Ray cluster to join; without one (or RAY_ADDRESS), this machine."
        ),
        click.option("--retry-failed", "retry", is_flag=True, help="Also try again what failed for good."),
        click.option("--debug", is_flag=True, help="Show the traceback of an error."),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def _partial(command: Callable[..., None]) -> Callable[..., None]:
    """The option of stages that decode audio: the setting ``allow_partial``."""

    @click.option("--allow-partial", is_flag=True, help="Use what there is of audio files that are cut or damaged.")
    @functools.wraps(command)
    def wrapped(assignments: tuple[str, ...], allow_partial: bool, **own: Any) -> None:
        command(assignments=(*assignments, "allow_partial=true") if allow_partial else assignments, **own)

    return wrapped


def _settings(
    file: str | None, assignments: tuple[str, ...], workspace: str | None, address: str | None, retry: bool
) -> Config:
    from mer_ray.config import load

    config = load(file, assignments)
    changes: dict[str, Any] = {"workspace": workspace, "address": address, "retry_failed": retry or None}
    return config.model_copy(update={k: v for k, v in changes.items() if v is not None})


def _at_work(config: Config, catalog: bool) -> tuple[Config, Workspace]:
    """The settings and the workspace, each with what the other says. A catalog's scores go elsewhere."""
    from mer_ray.io.store import check_lasting
    from mer_ray.io.tables import Workspace
    from mer_ray.stages import workspace_source

    workspace = Workspace(config.workspace)
    if catalog:
        return config, workspace
    if workspace.is_local:
        check_lasting(workspace.root, "--workspace")
    workspace.sweep()
    if click.get_current_context().info_name != "status" and workspace_source.is_older(workspace):
        said = "was made by an older mer-ray: `mer-ray collect` brings it up to date, and keeps what is still right"
        click.echo(f"mer-ray: workspace {workspace.uri} {said}", err=True)
    return workspace_source.adopt(config, workspace), workspace


def _leave_ray() -> None:
    if "mer_ray.stages.session" in sys.modules:
        sys.modules["mer_ray.stages.session"].close()


_KEEP_GONE = click.option("--keep-gone", is_flag=True, help="Keep tracks whose row or file is gone.")


def _collecting(config: Config, **flags: bool) -> Config:
    """The settings with those of ``collect`` that are flags."""
    given = {name: True for name, is_set in flags.items() if is_set}
    return config.model_copy(update={"collect": config.collect.model_copy(update=given)})


def _one(stage: str, config: Config, workspace: Workspace) -> None:
    import importlib

    from mer_ray.console import show

    module = importlib.import_module(f"mer_ray.stages.{stage}")
    checked = module.check(config) if hasattr(module, "check") else None
    show(module.run(config, workspace) if checked is None else module.run(config, workspace, checked))


@main.command()
@click.option("--offline", is_flag=True, help="Make the tables from Last.fm's answers that are kept, asking nothing.")
@_KEEP_GONE
@_stage
def collect(config: Config, workspace: Workspace, offline: bool, keep_gone: bool) -> None:
    """Find tracks and their tags: Last.fm, a manifest, a folder, or the demo catalog.

    Given again, it follows what has changed there: only what followed from that is made anew by the other stages.
    """
    _one("collect", _collecting(config, offline=offline, keep_gone=keep_gone), workspace)


@main.command()
@click.option("--explain", metavar='"ARTIST – TITLE"', help="Show how one track's label comes about, and make none.")
@_stage
def label(config: Config, workspace: Workspace, explain: str | None) -> None:
    """Turn tags into valence, arousal and dominance with a lexicon."""
    if explain is not None:
        from mer_ray.stages import label as stage

        stage.explain(config, workspace, explain)
        return
    _one("label", config, workspace)


@main.command()
@_partial
@_stage
def acquire(config: Config, workspace: Workspace) -> None:
    """Get the audio of each track."""
    _one("acquire", config, workspace)


@main.command()
@_partial
@_stage
def extract(config: Config, workspace: Workspace) -> None:
    """Compute features from the audio."""
    _one("extract", config, workspace)


@main.command()
@_stage
def train(config: Config, workspace: Workspace) -> None:
    """Train every network on every feature."""
    _one("train", config, workspace)


@main.command()
@click.option("--against", metavar="RUN", help="Only compare with this: .../runs/NAME, or another workspace.")
@_stage
def report(config: Config, workspace: Workspace, against: str | None) -> None:
    """Compare the models: a table and plots for each dimension, with 95 % intervals."""
    from mer_ray.console import show
    from mer_ray.stages import report as stage

    show(stage.run(config, workspace, against))


@main.command()
@click.argument("catalog", nargs=-1)
@click.option(
    "--model", metavar="DIR", help="A model folder; else the packaged one, and for the workspace's own tracks its best."
)
@click.option(
    "--out",
    "output",
    metavar="PLACE",
    help="Of a catalog's scores: .parquet, .csv, .xlsx, or a folder; a path, s3:// or gs://. [scores.parquet]",
)
@_KEEP_GONE
@click.option("--keep-features", is_flag=True, help="Also keep the features, in the folder that --out names.")
@_partial
@_stage
def score(
    config: Config,
    workspace: Workspace,
    catalog: tuple[str, ...],
    model: str | None,
    output: str | None,
    keep_features: bool,
    keep_gone: bool,
) -> None:
    """Valence, arousal and dominance of everything in CATALOG; without one, of the workspace's own tracks.

    CATALOG: folders of audio, audio files, manifests, tables of frames (Parquet), s3:// and gs:// addresses. What the
    same model has scored into the same place is not scored again.
    """
    from mer_ray.console import out, show
    from mer_ray.stages import score as stage

    if not catalog:
        if output is not None or keep_features:
            raise InputError("--out needs a CATALOG", "the workspace's own scores are its table scores/")
        if model is not None:
            config = config.model_copy(update={"score": config.score.model_copy(update={"model": model})})
        show(stage.run(config, workspace))
        return
    from mer_ray.scoring import preview

    target = output or "scores.parquet"
    config = _collecting(config, keep_gone=keep_gone)
    show(stage.run_catalog(config, catalog, target, model or config.score.model, keep_features))
    for shown in preview.tables(target, out.width):
        out.print(shown)


@main.command()
@_KEEP_GONE
@_partial
@_stage
def run(config: Config, workspace: Workspace, keep_gone: bool) -> None:
    """All stages in order; what is done is not done again."""
    import time

    from mer_ray.console import out, show
    from mer_ray.stages import run as stages

    started = time.monotonic()
    made = failed = 0
    for summary in stages.run(_collecting(config, keep_gone=keep_gone), workspace):
        show(summary)
        made += summary.made + summary.changed + summary.gone if summary.stage != "report" else 0
        failed += summary.failed
    verdict = "all done" if made else "everything was done already"
    out.print(
        f"{verdict} in {time.monotonic() - started:.0f} s"
        + (f"; {failed:,} failures, see `mer-ray status`" if failed else "")
    )


@main.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object, for scripts.")
@_stage
def status(config: Config, workspace: Workspace, as_json: bool) -> None:
    """Show the workspace's tables and models, what is lost and why, and what comes next."""
    from mer_ray.stages import status as stage
    from mer_ray.stages import workspace_source

    parameters = click.get_current_context().params
    given = workspace_source.Command.given(parameters["config"], parameters["assignments"])
    used = given if given.config or given.assignments else workspace_source.recall(workspace) or given
    stage.run(config, workspace, as_json, used)


def _reader(function: Callable[..., list[str]]) -> Callable[..., None]:
    """For commands that only read files: print their remarks."""

    @click.option("--debug", is_flag=True, help="Show the traceback of an error.")
    @functools.wraps(function)
    def command(debug: bool, **own: Any) -> None:
        from rich.markup import escape

        from mer_ray.console import out

        for line in function(**own):
            out.print(escape(line))

    return command


@main.command()
@click.argument("scores")
@click.option("--where", metavar="CONDITION", help="Which tracks: valence < 0.35 and arousal > 0.6 and 'war' in title.")
@click.option("--sort", metavar="COLUMN", help="Lowest first; with a minus, highest first: -arousal.")
@click.option("-n", "limit", type=click.IntRange(min=1), help="At most so many tracks.")
@click.option("--sure", "certain", is_flag=True, help="Only where it holds for all ends of the 90 % intervals.")
@click.option("--out", "output", metavar="FILE", help="The playlist, .m3u8; without it, the tracks are listed here.")
@click.option("--absolute", is_flag=True, help="Absolute paths, instead of relative to the playlist.")
@_reader
def playlist(**own: Any) -> list[str]:
    """Choose tracks from SCORES, a file that `mer-ray score` wrote or a workspace, and list them or write a playlist.

    A CONDITION is SQL: and, or, not, = != < <= > >=, between, in, is null, + - * /, title like '%war%' or 'war' in
    title, and the columns valence, arousal, dominance, their 90 % intervals' ends as in lower_valence and upper_valence
    and mean width, duration_s, novelty, in_distribution, artist, title, album, uri, model and the other columns of
    scores. What is not known fulfils no comparison.
    """
    from mer_ray.scoring import playlist as module

    return module.run(**own)


@main.command()
@click.argument("scores")
@click.argument("track")
@click.option("-n", "n", type=click.IntRange(min=1), default=10, show_default=True, help="How many.")
@click.option(
    "--by",
    type=click.Choice(["both", "feeling", "sound"]),
    default="both",
    show_default=True,
    help="Alike in what they make feel, in how they sound, or in both.",
)
@_reader
def neighbours(**own: Any) -> list[str]:
    """Show the tracks in SCORES that are most like TRACK: its id, its file, or a part of its artist and title."""
    from mer_ray.scoring import neighbours as module

    return module.run(**own)


@main.command()
@click.argument("scores")
@click.option("--out", "output", metavar="FILE", default="explore.html", show_default=True, help="The page, .html.")
@click.option("--title", metavar="TEXT", default="Soundtrack catalog", show_default=True, help="Its heading.")
@_reader
def explore(**own: Any) -> list[str]:
    """Make one HTML page of SCORES to search, filter, listen and pick playlists in; it opens offline."""
    from mer_ray.scoring.explorer import page

    return page.run(**own)
