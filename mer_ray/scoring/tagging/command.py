"""``mer-ray tag``: a file of scores → the audio files' own tags, and back."""

from __future__ import annotations

import os
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mer_ray.audio.opened import shown
from mer_ray.console import out, problem, progress
from mer_ray.errors import InputError, TooManyFailed, TrackError
from mer_ray.io.address import has_credentials, is_local, to_path, to_uri
from mer_ray.io.identity import file_digest, one_line
from mer_ray.io.schemas import dimensions_of
from mer_ray.scoring import standing
from mer_ray.scoring.scores_table import NESTED, read
from mer_ray.scoring.tagging import fields, rewrite
from mer_ray.scoring.tagging.fields import MOOD, FileTags, Values
from mer_ray.scoring.tagging.log import Former, Log, beside

VERSION = ("size", "mtime_ms", "sha256")
"""Columns that say which version of its file a row is of."""
_FIRST = 10  # changes that a dry run shows


@dataclass
class Tally:
    """What became of the files. rows: the first changes, for a dry run."""

    counts: Counter[str] = field(default_factory=Counter)
    rows: list[str] = field(default_factory=list)
    first: str = ""

    def changed(self, path: Path, before: Values, after: Values) -> None:
        self.counts["changed"] += 1
        if len(self.rows) < _FIRST:
            parts = [f"{key} {_text(before.get(key))} → {_text(values)}" for key, values in after.items()]
            self.rows.append(f"{shown(path)}: {'; '.join(parts)}")

    @contextmanager
    def file(self) -> Iterator[None]:
        """A failure costs this file only."""
        try:
            yield
        except TrackError as error:
            self._failed(error)
        except (OSError, ValueError) as error:
            self._failed(TrackError("unreadable", one_line(str(error), 300)))

    def _failed(self, error: TrackError) -> None:
        self.counts["failed"] += 1
        self.first = self.first or str(error)
        problem(f"not done: {error.message} ({error.reason})")


def run(
    scores: str | None = None,
    dry_run: bool = False,
    undo: str | None = None,
    log: str | None = None,
    replace_mood: bool = False,
    keep_mtime: bool = False,
    max_lost: float = 0.2,
) -> list[str]:
    """Tag the files of ``scores``, or restore those of the log ``undo``. Returns lines for the user.

    Raises:
        InputError: No file could be done.
        TooManyFailed: More than the share ``max_lost`` could not.
    """
    if (scores is None) == (undo is None):
        raise InputError("give either SCORES or --undo LOG", "as in `mer-ray tag scores.parquet --dry-run`")
    fields.require()
    tally = Tally()
    if undo is not None:
        path = Path(undo).expanduser()
        if log is not None or replace_mood:
            raise InputError("--undo LOG goes with --dry-run, --keep-mtime and --max-lost only")
        if not path.is_file():
            raise InputError(f"log {one_line(undo)} does not exist", "give the .tags.jsonl that `mer-ray tag` wrote")
        with Log(path, writes=not dry_run) as opened:
            _undo(opened, tally, dry_run, keep_mtime)
        return _ended(tally, "would be restored" if dry_run else "restored", max_lost)
    assert scores is not None
    path = _log_path(scores, log)
    with Log(path, writes=not dry_run) as opened:
        _tag(scores, opened, tally, dry_run, replace_mood, keep_mtime)
    undoing = f"to undo it: mer-ray tag --undo {shlex.quote(one_line(str(path)))}"
    return _ended(tally, "would be tagged" if dry_run else "tagged", max_lost, "" if dry_run else undoing)


def _log_path(scores: str, log: str | None) -> Path:
    if log is None and not is_local(scores):
        raise InputError("SCORES are not on this machine, and the log of former values has no place", "give --log FILE")
    path = beside(scores) if log is None else Path(log).expanduser()
    if not path.parent.is_dir():
        raise InputError(f"folder {one_line(str(path.parent))} for the log does not exist", "make it first")
    return path


def _tag(scores: str, log: Log, tally: Tally, dry_run: bool, replace_mood: bool, keep_mtime: bool) -> None:
    table = standing.added(read(scores, without=NESTED))
    dimensions = dimensions_of(table.schema, "scores")
    columns = [*dimensions, *(["mood"] if "mood" in table.column_names else []), "uri", "model", *VERSION]
    with progress("tagging", table.num_rows) as ticker:
        for _ in tag_rows(table.select(columns).to_pylist(), dimensions, log, tally, dry_run, replace_mood, keep_mtime):
            ticker.advance()


def tag_rows(
    rows: Iterable[Mapping[str, Any]],
    dimensions: Sequence[str],
    log: Log,
    tally: Tally,
    dry_run: bool = False,
    replace_mood: bool = False,
    keep_mtime: bool = False,
) -> Iterator[None]:
    """Tag the file of each row, and yield after each. What fails costs one line and its file stays as it is.

    rows: with uri, model, mood (may be missing), `VERSION` and the dimensions.
    """
    seen = set[Path]()
    for row in rows:
        with tally.file():
            wanted = {d.upper(): fields.number(row[d]) for d in dimensions}
            wanted |= {"MODEL": row["model"]} if row["model"] else {}
            wanted |= {MOOD: row["mood"]} if row.get("mood") else {}
            if not row["uri"] or not is_local(row["uri"]) or has_credentials(row["uri"]):
                tally.counts["no_file"] += 1
            else:
                _tag_one(row, wanted, log, tally, seen, dry_run, replace_mood, keep_mtime)
        yield


def _tag_one(
    row: Mapping[str, Any],
    wanted: dict[str, str],
    log: Log,
    tally: Tally,
    seen: set[Path],
    dry_run: bool,
    replace_mood: bool,
    keep_mtime: bool,
) -> None:
    named = to_path(row["uri"]).absolute()
    if not named.exists():
        raise TrackError("missing", f"{shown(named)} is not there any more")
    real = named.resolve()
    if real in seen:
        tally.counts["again"] += 1
        return
    seen.add(real)
    tags = FileTags(real)
    before = tags.own()
    after, kept = fields.changes(tags, wanted, replace_mood)
    tally.counts["kept"] += kept
    if not after:
        tally.counts["same"] += 1
        return
    path, state = rewrite.found(real)
    uri = to_uri(path)
    own = log.made_of(uri, row["sha256"]) | log.made_of(uri, None)
    _check_version(path, state, row, own, tally)
    if not dry_run:
        former = {key: before.get(key) for key in after}
        created = sorted(tags.others()) if tags.created else None

        def commit(sha256: str) -> None:
            log.write(uri=uri, former=former, wrote=after, created=created, sha256=sha256, scored=row["sha256"])

        def change(copy: FileTags) -> None:
            copy.write(after)

        rewrite.replace(path, state, change, before | after, _announce(log), commit, keep_mtime)
    tally.changed(path, before, after)


def _check_version(path: Path, state: os.stat_result, row: Mapping[str, Any], own: set[str], tally: Tally) -> None:
    """Raises TrackError if the file is neither what was scored nor what mer-ray has made of it."""
    if row["size"] is None or row["mtime_ms"] is None:
        tally.counts["unversioned"] += 1
        return
    if (state.st_size, state.st_mtime_ns // 1_000_000) == (row["size"], row["mtime_ms"]):
        return
    if (own or state.st_size == row["size"]) and file_digest(path) in {row["sha256"], *own}:
        return
    raise TrackError("changed", f"{shown(path)} has changed since it was scored: score it again")


def _undo(log: Log, tally: Tally, dry_run: bool, keep_mtime: bool) -> None:
    todo = list(log.to_undo())
    with progress("restoring", len(todo)) as ticker:
        for uri, former in todo:
            with tally.file():
                _undo_one(uri, former, log, tally, dry_run, keep_mtime)
            ticker.advance()


def _undo_one(uri: str, former: Former, log: Log, tally: Tally, dry_run: bool, keep_mtime: bool) -> None:
    path, state = rewrite.found(to_path(uri))
    tags = FileTags(path)
    before = tags.own()
    after = {key: values for key, values in former.values.items() if values != before.get(key)}
    # What somebody else has written since stays.
    foreign = {key for key in after if before.get(key) not in former.wrote[key]}
    tally.counts["edited"] += bool(foreign)
    after = {key: values for key, values in after.items() if key not in foreign}
    if after and not dry_run:
        expected = before | after
        is_empty = all(values is None for values in expected.values())
        scored = log.scored_of(uri, file_digest(path))
        has_own = former.created is None or not {*tags.others()} <= {*former.created}

        def change(copy: FileTags) -> None:
            if is_empty and not has_own:
                copy.remove()
            else:
                copy.write(after)

        def commit(sha256: str) -> None:
            log.write(undoing=uri, sha256=sha256, scored=scored)

        rewrite.replace(path, state, change, expected, _announce(log), commit, keep_mtime)
    if not dry_run:
        log.write(undone=uri)
    if after:
        tally.changed(path, before, after)
    else:
        tally.counts["same"] += 1


def _announce(log: Log) -> Callable[[Path], None]:
    return lambda temporary: log.write(durable=False, temporary=to_uri(temporary))


def _ended(tally: Tally, verb: str, max_lost: float, undoing: str = "") -> list[str]:
    """The lines for the user. Those that say what was or would be done are printed also if too many files failed."""
    n = tally.counts
    done = n["changed"] + n["same"]
    lines = [*tally.rows] if verb.startswith("would") else []
    if len(lines) < n["changed"] and lines:
        lines.append(f"… and {n['changed'] - len(lines):,} more")
    parts = [f"{n['changed']:,} files {verb}"]
    figures = (
        ("same", "were up to date"),
        ("failed", "failed"),
        ("kept", "keep a mood of somebody else's (--replace-mood replaces it)"),
        ("edited", "keep fields that somebody has changed since"),
        ("no_file", "tracks left out, as the table has no file of this machine for them"),
        ("again", "rows left out, as their file is named by an earlier row"),
        ("unversioned", "scores do not say of which version of their file they are"),
    )
    lines.append("; ".join([*parts, *(f"{n[key]:,} {what}" for key, what in figures if n[key])]))
    if n["failed"] and not done:
        raise InputError(f"none of the {n['failed']:,} files could be done", f"the first: {tally.first}")
    if n["changed"] and undoing:
        lines.append(undoing)
    if n["failed"] > max_lost * (done + n["failed"]):
        for line in lines:
            out.print(line, markup=False)
        raise TooManyFailed(
            f"{n['failed']:,} of {done + n['failed']:,} files failed",
            "what failed stays as it was: mend that and run again, or allow more with --max-lost",
        )
    return lines


def _text(values: list[str] | None) -> str:
    return "–" if values is None else one_line("/".join(values), 60)
