"""Counters for Ray's dashboard and Prometheus: tracks finished, seconds of audio, failures by reason.

The driver counts as results arrive, so that a block that was repeated because a worker died counts once. Counts are
buffered until Ray is connected. Ray exports them on the driver's node as ``ray_NAME_total`` (`cluster/grafana.json`
draws them).
"""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Iterable
from typing import Any

from mer_ray.io.advice import advice
from mer_ray.stages import session

COUNTERS = {
    "mer_ray_tracks": ("Tracks that a stage has finished; harvest: that were requested of Last.fm", ("stage",)),
    "mer_ray_audio_seconds": ("Seconds of audio that a stage has worked through", ("stage",)),
    "mer_ray_failures": ("Tracks that failed in a stage, by the reason in the table failures", ("stage", "reason")),
    "mer_ray_blocks": ("Blocks of work that a stage has committed", ("stage",)),
    "mer_ray_models": ("Models that have been trained", ("stage",)),
}
"""Name → (what it counts, its tags)."""
IN_A_JOB = "RAY_JOB_CONFIG_JSON_ENV_VAR"
"""A variable that Ray sets for the driver of a submitted job, and for nothing else."""

Key = tuple[str, tuple[str, ...]]
"""A counter's name, and the values of its tags."""

_waiting: dict[Key, float] = {}
_counters: dict[str, Any] = {}
_made_for: Any = None


def count(stage: str, tracks: int = 0, audio_s: float = 0.0, failed: Iterable[str] = (), models: int = 0) -> None:
    """Count what ``stage`` has committed. failed: the reason of each failure. Zeros create no counter."""
    for key, n in tally(stage, tracks, audio_s, failed, models).items():
        _waiting[key] = _waiting.get(key, 0.0) + n
    if _waiting:
        _send()


def tally(stage: str, tracks: int, audio_s: float, failed: Iterable[str], models: int) -> dict[Key, float]:
    """The increments of the counters: see `count`."""
    reasons = Counter(map(code, failed))
    if not (tracks or models or reasons):
        return {}
    found: dict[Key, float] = {
        ("mer_ray_blocks", (stage,)): 1,
        ("mer_ray_tracks", (stage,)): tracks,
        ("mer_ray_audio_seconds", (stage,)): audio_s,
        ("mer_ray_models", (stage,)): models,
    }
    found |= {("mer_ray_failures", (stage, reason)): n for reason, n in reasons.items()}
    return {key: n for key, n in found.items() if n > 0}


def code(reason: str) -> str:
    """The reason as a tag: one of the codes that `advice` knows or an HTTP status, else ``other``."""
    if reason.startswith("http_"):
        return reason if re.fullmatch("http_[1-5][0-9][0-9]", reason) else "other"
    return reason if advice(reason) else "other"


def _send() -> None:
    """Send buffered counts to Ray. In a submitted job this connects, even in stages that do not need Ray otherwise."""
    global _made_for
    if IN_A_JOB in os.environ:
        session.connect(None)
    ray = sys.modules.get("ray")
    if ray is None or not ray.is_initialized():
        return
    from ray.util import metrics

    context = ray.get_runtime_context()
    if _made_for != (now := (context.gcs_address, context.get_job_id())):  # a counter belongs to its connection
        _counters.clear()
        _made_for = now
    for (name, values), n in _waiting.items():
        about, tags = COUNTERS[name]
        if name not in _counters:
            _counters[name] = metrics.Counter(name, about, tag_keys=tags)
        _counters[name].inc(n, dict(zip(tags, values, strict=True)))
    _waiting.clear()
