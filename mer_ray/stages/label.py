"""``tracks`` → ``labels``: from the tags and a lexicon, or the source's own labels."""

from __future__ import annotations

import shlex
import time
from typing import Any

from mer_ray import extras
from mer_ray.config import Config
from mer_ray.console import Summary, progress
from mer_ray.errors import ConfigError, InputError
from mer_ray.evaluation import label_report
from mer_ray.io.tables import Workspace
from mer_ray.labels import columns, exclusions, labeller
from mer_ray.labels import explain as explanation
from mer_ray.labels import lexicon as lexicons
from mer_ray.labels.find import find
from mer_ray.labels.lexicon import Lexicon
from mer_ray.labels.recipes import recipe_class
from mer_ray.labels.survey import Survey, survey
from mer_ray.labels.terms import Matcher
from mer_ray.labels.unlabelled import Criteria
from mer_ray.stages import counters, workspace_source

SHARD_ROWS = 50_000


def check(config: Config) -> None:
    """Raises ConfigError or InputError if the settings are invalid, or name no lexicon where one is needed."""
    extras.require("train", "matplotlib")
    lexicon = lexicon_of(config)
    if lexicon is None and (config.collect.source == "lastfm" or config.label.source == "tags"):
        raise ConfigError("label.lexicon is not set", lexicons.WHERE_TO_GET)
    if lexicon is not None:
        matcher_of(config, lexicon, exclusions.Names())


def lexicon_of(config: Config) -> Lexicon | None:
    """The lexicon that the settings name; the built-in one for the demo; None where none is named."""
    path = config.label.lexicon
    if path == "demo" or (path is None and config.is_demo):
        if not config.is_demo:
            raise ConfigError("the demo lexicon is for the demo's own tracks, not for research", lexicons.WHERE_TO_GET)
        return lexicons.load(lexicons.DEMO)
    return lexicons.load(path, config.label.scale) if path else None


def matcher_of(config: Config, lexicon: Lexicon, names: exclusions.Names | None) -> Matcher:
    """The tag matcher for these settings. Raises ConfigError for a list that cannot be read."""
    settings = config.label
    lexicons.check_dimensions(config.collect.dimensions)
    return Matcher(
        lexicon,
        recipe=settings.recipe,
        exclude=exclusions.entries("label.exclude", settings.exclude),
        keep=exclusions.entries("label.keep", settings.keep),
        seeds=config.collect.tags if config.collect.source == "lastfm" else (),
        names=names or exclusions.Names(),
        words=settings.words,
        negation=settings.negation,
    )


def _criteria(config: Config, matcher: Matcher | None, dimensions: tuple[str, ...]) -> Criteria:
    own, lexicon = config.label, matcher.lexicon.name if matcher else None
    return Criteria(own.source, own.min_terms, own.min_coverage, lexicon, dimensions)


def _survey(config: Config, workspace: Workspace) -> Survey:
    return survey(workspace, config.collect.dimensions, recipe_class(config.label.recipe).uses_names)


def run(config: Config, workspace: Workspace) -> Summary:
    """Label the tracks that have no label yet."""
    started = time.monotonic()
    config = workspace_source.adopt(config, workspace)
    lexicon = lexicon_of(config)
    found = _survey(config, workspace)
    mode, dimensions = config.label.source, found.dimensions
    matcher = None
    identity: dict[str, Any] = {"source": "manifest"}
    if not (mode == "manifest" or (mode == "auto" and found.labelled and (lexicon is None or found.is_whole))):
        if lexicon is None:
            raise ConfigError(f"label.lexicon is not set, and {found.without()}", found.remedy())
        matcher = matcher_of(config, lexicon, found.names)
        identity = {**matcher.identity(), **config.label.model_dump(include={"source", "min_coverage", "min_terms"})}
    # Whether any stored label depends on lexicon and recipe: the source's own do not.
    binding = mode == "tags" or not workspace.distinct("labels", "lexicon") <= {columns.MANIFEST}
    workspace.claim("label", "labels", identity, binding=binding)

    done, failed = workspace.ids("labels"), workspace.failed("label")
    summary = Summary("label", unit="labels", done_before=len(done))
    statistics, own, criteria = label_report.Statistics(dimensions), 0, _criteria(config, matcher, dimensions)
    pieces = workspace.batches("tracks", ["track_id"])
    n_todo = sum(int(failed.todo(t["track_id"], done, config.retry_failed)[0].sum()) for t in pieces)
    if n_todo:
        with progress("label", n_todo) as ticker:
            for tracks in workspace.batches("tracks", labeller.COLUMNS, SHARD_ROWS):
                todo, attempts = failed.todo(tracks["track_id"], done, config.retry_failed)
                made = labeller.label(tracks, todo, attempts, matcher, criteria)
                if made.tags is not None:
                    statistics.add_tags(made.tags)
                workspace.append_rows("failures", made.failures)
                if n := len(made.labels):
                    workspace.append("labels", made.labels, "\n".join(made.labels["track_id"].to_pylist()))
                counters.count("label", n, failed=[f["reason"] for f in made.failures])
                summary.made, own = summary.made + n, own + made.own
                ticker.advance(n + len(made.failures))
    reasons = workspace.reasons("label")
    summary.failed = reasons.total()
    if own and config.label.lexicon and mode == "auto":
        summary.notes.append(
            f"{own:,} labels are the manifest's own; set label.source=tags to make them from tags and lexicon"
        )
    if mode != "tags":
        summary.notes += found.remarks(matcher is not None, lexicon is not None, mode)
    if not workspace.has("labels"):
        why = "has a tag that the lexicon knows" if matcher is not None else "brings a label"
        raise InputError(
            f"none of {found.tracks:,} tracks {why} (label.source is {mode})",
            f"see `mer-ray status --workspace {shlex.quote(workspace.uri)}`",
        )
    if config.label.report and summary.made:
        for labels in workspace.batches("labels", statistics.columns):
            statistics.add_labels(labels)
        text = label_report.markdown(statistics, matcher, reasons)
        workspace.write_bytes(text.encode(), "report", "labels.md")
        workspace.write_bytes(label_report.picture(statistics), "report", "labels.png")
        summary.notes.append(f"what the labels are like: {workspace.path('report', 'labels.md')}")
    summary.seconds = time.monotonic() - started
    return summary


def explain(config: Config, workspace: Workspace, query: str) -> None:
    """Print the arithmetic of one track's label under the present settings; nothing is written.

    query: "Artist – Title" (a hyphen or dash between blanks), a track_id, or a title that only one track has. Raises
    InputError where it matches no track or several.
    """
    track = find(workspace, query)
    if explanation.show_given(track, config.label.source):
        return
    lexicon = lexicon_of(config)
    if lexicon is None or config.label.source == "manifest":
        raise ConfigError("there is no arithmetic to show: the label cannot come from tags", lexicons.WHERE_TO_GET)
    found = _survey(config, workspace)
    matcher = matcher_of(config, lexicon, found.names)
    explanation.show(track, matcher, _criteria(config, matcher, found.dimensions))
