"""All stages in order, each continuing from what is done."""

from __future__ import annotations

from collections.abc import Iterator

from mer_ray import extras
from mer_ray.config import Config
from mer_ray.console import Summary
from mer_ray.io.tables import Workspace
from mer_ray.stages import acquire, collect, extract, label, report, score, train, workspace_source


def run(config: Config, workspace: Workspace) -> Iterator[Summary]:
    """Check everything that can be checked before the first stage starts, then yield each stage's summary."""
    extras.require("train", *train.PACKAGES)
    config = workspace_source.adopt(config, workspace)
    collect.check(config)
    label.check(config)
    specs = extract.check(config)
    audio = any(extract.needs_audio(spec) for spec in specs.values())
    if audio:
        acquire.check(config)
    yield collect.run(config, workspace)
    yield label.run(config, workspace)
    if audio:
        yield acquire.run(config, workspace)
    yield extract.run(config, workspace, specs)
    yield train.run(config, workspace, specs)
    yield report.run(config, workspace)
    yield score.run(config, workspace)
