"""``tracks`` → ``labels``: from the tags and a lexicon, or as the source brings them."""

from __future__ import annotations

import time
from typing import Any

from mer_ray.config import Config
from mer_ray.console import Summary
from mer_ray.errors import ConfigError, InputError
from mer_ray.labels import lexicon as lexicons
from mer_ray.labels import vad
from mer_ray.labels.lexicon import Lexicon
from mer_ray.tables import DIMENSIONS, Workspace, failure

SHARD_ROWS = 10_000
GIVEN = "manifest"


def check(config: Config) -> None:
    """Raises ConfigError or InputError if the lexicon is of no use, or missing where labels can only come from tags."""
    if lexicon_of(config) is None and (config.collect.source == "lastfm" or config.label.source == "tags"):
        raise ConfigError("label.lexicon is not set", lexicons.WHERE_TO_GET)


def lexicon_of(config: Config) -> Lexicon | None:
    """The lexicon that the settings name; the built-in one for the demo; None where none is named."""
    path = config.label.lexicon
    if path == "demo" or (path is None and config.is_demo):
        if not config.is_demo:
            raise ConfigError(
                "the demo lexicon is not for research", f"{lexicons.WHERE_TO_GET}, or collect.source to demo"
            )
        return lexicons.load(lexicons.DEMO)
    return lexicons.load(path) if path else None


def run(config: Config, workspace: Workspace) -> Summary:
    """Label the tracks that have no label yet."""
    started = time.monotonic()
    lexicon = lexicon_of(config)
    tracks = workspace.require("tracks", "collect", ["track_id", "artist", "title", "tags", "given"])
    mode = config.label.source
    with_given = len(tracks) - tracks["given"].null_count
    if mode == "manifest" or (mode == "auto" and with_given == len(tracks)):
        identity: dict[str, Any] = {"source": "manifest"}
    elif lexicon is None:
        raise ConfigError(
            f"label.lexicon is not set, and {len(tracks) - with_given} tracks bring no label", lexicons.WHERE_TO_GET
        )
    else:
        identity = {"source": mode, "lexicon": lexicon.name, "recipe": config.label.recipe}
    workspace.claim("label", "labels", identity)

    done = workspace.ids("labels")
    todo, attempts = workspace.pending("label", tracks["track_id"].to_pylist(), done, config.retry_failed)
    wanted = set(todo)
    summary = Summary("label", unit="labels", done_before=len(done))
    n_given = 0
    for start in range(0, len(tracks), SHARD_ROWS):
        rows, failures = [], []
        for track in tracks.slice(start, SHARD_ROWS).to_pylist():
            if track["track_id"] not in wanted:
                continue
            if track["given"] is not None and mode != "tags":
                rows.append(_given(track))
                n_given += 1
                continue
            row = _from_tags(track, lexicon) if lexicon is not None and mode != "manifest" else None
            if row is not None:
                rows.append(row)
            else:
                reason, message = _why_not(track, lexicon if mode != "manifest" else None)
                failures.append(
                    failure(
                        "label", track["track_id"], reason, message, attempts=attempts.get(track["track_id"], 0) + 1
                    )
                )
        workspace.append_rows("failures", failures)
        workspace.append_rows("labels", rows)
        summary.made += len(rows)
    summary.failed = len(workspace.failures("label"))
    summary.seconds = time.monotonic() - started
    if n_given and config.label.lexicon and mode == "auto":
        summary.notes.append(
            f"{n_given:,} labels are the manifest's own; set label.source=tags to make them from tags and lexicon"
        )
    if not workspace.has("labels"):
        raise InputError(
            f"none of {len(tracks):,} tracks has a tag that the lexicon knows",
            f"see `mer-ray status --workspace {workspace.uri}`",
        )
    return summary


def _given(track: dict[str, Any]) -> dict[str, Any]:
    return {
        "track_id": track["track_id"],
        **track["given"],
        "evidence": [],
        "coverage": None,
        "n_matched": 0,
        **{f"se_{d}": None for d in DIMENSIONS},
        "lexicon": GIVEN,
    }


def _from_tags(track: dict[str, Any], lexicon: Lexicon) -> dict[str, Any] | None:
    label = vad.from_tags([(t["name"], t["weight"]) for t in track["tags"]], lexicon)
    if label is None:
        return None
    evidence = [
        {"tag": e.tag, "term": e.term, "weight": e.weight, **dict(zip(DIMENSIONS, e.vad, strict=True))}
        for e in label.evidence
    ]
    return {
        "track_id": track["track_id"],
        **dict(zip(DIMENSIONS, label.vad, strict=True)),
        "evidence": evidence,
        "coverage": label.coverage,
        "n_matched": len(evidence),
        **{f"se_{d}": None if label.se is None else label.se[i] for i, d in enumerate(DIMENSIONS)},
        "lexicon": lexicon.name,
    }


def _why_not(track: dict[str, Any], lexicon: Lexicon | None) -> tuple[str, str]:
    name = f"{track['artist']} – {track['title']}"
    if lexicon is None:
        return "no_label", f"{name}: the manifest brings no label for it"
    if not track["tags"]:
        return "no_tags", f"{name}: it has no tags"
    tags = ", ".join(t["name"] for t in track["tags"][:8])
    return "no_known_tag", f"{name}: none of its {len(track['tags'])} tags is in {lexicon.name}: {tags}"
