"""``tracks`` → ``labels``: from the tags and a lexicon, or the source's own labels."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from mer_ray.config import Config
from mer_ray.console import Summary, progress
from mer_ray.errors import ConfigError, InputError
from mer_ray.evaluation import label_report
from mer_ray.evaluation.escape import markdown_text
from mer_ray.io.identity import digest, one_line
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.io.tables import Workspace, failure
from mer_ray.labels import columns, exclusions, unlabelled
from mer_ray.labels import lexicon as lexicons
from mer_ray.labels.lexicon import Lexicon, fold
from mer_ray.labels.recipes import recipe_class
from mer_ray.labels.survey import Survey
from mer_ray.labels.terms import Matcher
from mer_ray.labels.vad import Batch
from mer_ray.stages import counters, workspace_source

SHARD_ROWS = 50_000
_TABLE_WIDTH = 240  # characters: a narrow terminal wraps the lines of an explanation instead of cutting figures off


def check(config: Config) -> None:
    """Raises ConfigError or InputError if the settings are invalid, or name no lexicon where one is needed."""
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


def matcher_of(config: Config, lexicon: Lexicon, names: exclusions.Names) -> Matcher:
    """The tag matcher for these settings. Raises ConfigError for a list that cannot be read."""
    settings = config.label
    return Matcher(
        lexicon,
        recipe=settings.recipe,
        exclude=exclusions.entries("label.exclude", settings.exclude),
        keep=exclusions.entries("label.keep", settings.keep),
        seeds=config.collect.tags if config.collect.source == "lastfm" else (),
        names=names,
        words=settings.words,
        negation=settings.negation,
    )


def _survey(config: Config, workspace: Workspace) -> Survey:
    found = Survey(exclusions.Names() if recipe_class(config.label.recipe).uses_names else None)
    for tracks in workspace.batches("tracks", found.columns):
        found.add(tracks)
    if not found.tracks:
        workspace.require("tracks", "collect", ["track_id"])
    return found


def run(config: Config, workspace: Workspace) -> Summary:
    """Label the tracks that have no label yet."""
    started = time.monotonic()
    config = workspace_source.adopt(config, workspace)
    lexicon = lexicon_of(config)
    survey = _survey(config, workspace)
    mode = config.label.source
    matcher = None
    if mode == "manifest" or (mode == "auto" and survey.whole and (lexicon is None or survey.is_whole)):
        identity: dict[str, Any] = {"source": "manifest"}
    elif lexicon is None:
        raise ConfigError(f"label.lexicon is not set, and {survey.lacking()}", lexicons.WHERE_TO_GET)
    else:
        matcher = matcher_of(config, lexicon, survey.names or exclusions.Names())
        identity = _identity(config, matcher)
    workspace.claim("label", "labels", identity, binding=_is_binding(workspace, mode))

    done = workspace.ids("labels")
    failed = workspace.failed("label")
    summary = Summary("label", unit="labels", done_before=len(done))
    statistics = label_report.Statistics()

    def wanted(ids: pa.ChunkedArray) -> tuple[np.ndarray, np.ndarray]:
        return failed.todo(ids, done, config.retry_failed)

    work = _Work(config, workspace, matcher, wanted, statistics)
    todo = sum(int(wanted(t["track_id"])[0].sum()) for t in workspace.batches("tracks", ["track_id"]))
    if todo:
        with progress("label", todo) as ticker:
            for tracks in workspace.batches("tracks", work.COLUMNS, SHARD_ROWS):
                ticker.advance(work.do(tracks))
    summary.made = work.made
    reasons = workspace.reasons("label")
    summary.failed = reasons.total()
    if work.own and config.label.lexicon and mode == "auto":
        summary.notes.append(
            f"{work.own:,} labels are the manifest's own; set label.source=tags to make them from tags and lexicon"
        )
    if mode != "tags" and not survey.is_whole:
        summary.notes.append(survey.remark(matcher is not None, mode))
    if not workspace.has("labels"):
        why = "has a tag that the lexicon knows" if matcher is not None else "brings a whole label"
        raise InputError(
            f"none of {survey.tracks:,} tracks {why} (label.source is {mode})",
            f"see `mer-ray status --workspace {workspace.uri}`",
        )
    if config.label.report and work.made:
        _report(workspace, statistics, matcher, reasons)
        summary.notes.append(f"what the labels are like: {workspace.path('report', 'labels.md')}")
    summary.seconds = time.monotonic() - started
    return summary


def _is_binding(workspace: Workspace, mode: str) -> bool:
    """Whether any stored label depends on lexicon and recipe. The source's own labels do not."""
    return mode == "tags" or not workspace.distinct("labels", "lexicon") <= {columns.MANIFEST}


def _identity(config: Config, matcher: Matcher) -> dict[str, Any]:
    """Everything that decides a label, except for the names in the catalogue, which may grow."""
    settings = config.label
    return {
        "source": settings.source,
        "lexicon": matcher.lexicon.name,
        "scale": list(matcher.lexicon.scale),
        "recipe": settings.recipe if matcher.reader.version == 1 else f"{settings.recipe} {matcher.reader.version}",
        "exclude": _list_identity(matcher.exclude),
        "keep": _list_identity(matcher.keep),
        "seeds": sorted(matcher.seeds) if matcher.reader.uses_names else [],
        "words": settings.words,
        "negation": settings.negation,
        "min_coverage": settings.min_coverage,
        "min_terms": settings.min_terms,
    }


def _list_identity(entries: Any) -> str:
    folded = sorted({fold(e) for e in entries})
    return f"{len(folded)} terms, {digest(chr(10).join(folded).encode())[:12]}" if folded else ""


@dataclass
class _Work:
    """Makes labels, with one batch of tracks in memory at a time."""

    config: Config
    workspace: Workspace
    matcher: Matcher | None
    todo: Callable[[pa.ChunkedArray], tuple[np.ndarray, np.ndarray]]
    statistics: label_report.Statistics
    made: int = 0
    own: int = 0
    COLUMNS = ("track_id", "artist", "title", "tags", "given")
    """Columns of ``tracks`` that `do` needs."""

    def do(self, tracks: pa.Table) -> int:
        """Label the tracks that need it, and count the tags of all. Returns how many were labelled or failed."""
        wanted, attempts = self.todo(tracks["track_id"])
        labelled, _ = columns.completeness(tracks["given"])
        if self.config.label.source == "tags":
            labelled[:] = False
        rows, failures = [], []
        if (labelled & wanted).any():
            chosen = tracks.filter(pa.array(labelled & wanted)).combine_chunks()
            rows.append(columns.source_rows(_array(chosen["track_id"]), _array(chosen["given"])))
            self.own += len(chosen)
        tagged = tracks.filter(pa.array(~labelled)) if labelled.any() else tracks
        todo, tries = wanted[~labelled], attempts[~labelled]
        if self.matcher is None:
            failures = self._failures(tagged, todo, tries, None)
        elif todo.any() or self.config.label.report:
            tags = columns.encode(tagged["tags"])
            self.statistics.add_tags(tags)
            if todo.any():
                titles = tagged["title"] if self.matcher.reader.uses_names else None
                batch = columns.label(tags, self.matcher, titles)
                good = todo & self._is_enough(batch)
                name = self.matcher.lexicon.name
                rows.append(columns.label_rows(_array(tagged["track_id"]), tags.names, batch, good, name))
                failures = self._failures(tagged, todo & ~good, tries, batch)
        self.workspace.append_rows("failures", failures)
        labels = pa.concat_tables(rows) if rows else None
        if labels is not None and len(labels):
            self.workspace.append("labels", labels, "\n".join(labels["track_id"].to_pylist()))
            self.made += len(labels)
        n_labels = 0 if labels is None else len(labels)
        counters.count("label", n_labels, failed=[f["reason"] for f in failures])
        return n_labels + len(failures)

    def _is_enough(self, batch: Batch) -> np.ndarray:
        settings = self.config.label
        out: np.ndarray = (
            (batch.n_terms > 0) & (batch.n_terms >= settings.min_terms) & (batch.coverage >= settings.min_coverage)
        )
        return out

    def _failures(
        self, tracks: pa.Table, failed: np.ndarray, tries: np.ndarray, batch: Batch | None
    ) -> list[dict[str, Any]]:
        settings, lexicon = self.config.label, None if self.matcher is None else self.matcher.lexicon.name
        criteria = unlabelled.Criteria(settings.source, settings.min_terms, settings.min_coverage, lexicon)
        rows = []
        for i, track in zip(np.flatnonzero(failed), tracks.filter(pa.array(failed)).to_pylist(), strict=True):
            n_terms, coverage = (0, 0.0) if batch is None else (int(batch.n_terms[i]), float(batch.coverage[i]))
            reason, message = unlabelled.reason(track, n_terms, coverage, criteria)
            rows.append(failure("label", track["track_id"], reason, message, attempts=int(tries[i]) + 1))
        return rows


def _array(column: pa.ChunkedArray) -> pa.Array:
    """A column in one piece."""
    whole = column.combine_chunks()
    if isinstance(whole, pa.ChunkedArray):
        return whole.chunk(0) if whole.num_chunks else pa.array([], column.type)
    return whole


def _report(
    workspace: Workspace, statistics: label_report.Statistics, matcher: Matcher | None, failures: Counter[str]
) -> None:
    """Write ``report/labels.md`` and ``labels.png`` on all the labels that there are now."""
    wanted = [*DIMENSIONS, *(f"se_{d}" for d in DIMENSIONS), "coverage", "n_matched"]
    for labels in workspace.batches("labels", wanted):
        statistics.add_labels(
            np.stack([labels[d].to_numpy() for d in DIMENSIONS], axis=1),
            np.stack([labels[f"se_{d}"].to_numpy() for d in DIMENSIONS], axis=1),
            labels["coverage"].to_numpy(),
            labels["n_matched"].to_numpy(),
        )
    about = ""
    if matcher is not None:
        low, high = matcher.lexicon.scale
        lexicon = markdown_text(matcher.lexicon.name, 120)
        about = f"Lexicon {lexicon} ({len(matcher.lexicon):,} terms, scale {low:g}..{high:g}), recipe {matcher.recipe}."
    workspace.write_bytes(label_report.markdown(statistics, matcher, failures, about).encode(), "report", "labels.md")
    workspace.write_bytes(label_report.picture(statistics), "report", "labels.png")


# one label, explained ------------------------------------------------------------------------------------------------


def explain(config: Config, workspace: Workspace, query: str) -> None:
    """Print the arithmetic of one track's label under the present settings; nothing is written.

    query: "Artist – Title" (a hyphen or dash between blanks), a track_id, or a title that only one track has. Raises
    InputError where it matches no track or several.
    """
    from rich.console import Console
    from rich.markup import escape

    from mer_ray.console import out
    from mer_ray.labels import explain as explanation
    from mer_ray.labels.find import find

    track = find(workspace, query)
    out.print(escape(one_line(f"{track['artist']} – {track['title']}")), f"[dim]({escape(track['track_id'])})[/dim]")
    label = track["given"]
    if label is not None and None not in label.values() and config.label.source != "tags":
        values = ", ".join(f"{d} {explanation.figure(label[d])}" for d in DIMENSIONS)
        out.print(f"The label is the source's own, not made from tags: {values}.")
        return
    lexicon = lexicon_of(config)
    if lexicon is None or config.label.source == "manifest":
        raise ConfigError("there is no arithmetic to show: the label cannot come from tags", lexicons.WHERE_TO_GET)
    names = _survey(config, workspace).names
    matcher = matcher_of(config, lexicon, names or exclusions.Names())
    tags = [(t["name"] or "", float("nan") if t["weight"] is None else t["weight"]) for t in track["tags"] or ()]
    readings = explanation.read(tags, track["title"], matcher)
    wide = Console(highlight=False, emoji=False, width=_TABLE_WIDTH)
    for table in explanation.tables(readings, matcher):
        wide.print(table)
    out.print(escape(f"Lexicon {one_line(lexicon.name)}, recipe {matcher.recipe}."))
    found = explanation.label(readings, matcher)
    settings = config.label
    if found is None:
        out.print("No label: no tag of the track stands for a term of the lexicon.")
    elif len(found.evidence) < settings.min_terms or found.coverage < settings.min_coverage:
        out.print(
            f"No label: {len(found.evidence)} terms and coverage {found.coverage:.3f}, where label.min_terms is "
            f"{settings.min_terms} and label.min_coverage {settings.min_coverage:g}."
        )
