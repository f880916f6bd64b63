"""Keeps what is secret in the environment out of what Ray writes down."""

from __future__ import annotations


def keep_home() -> None:
    """Have Tune leave this process's AWS keys where they are. Called before trials start.

    Tune (2.60) puts them into the runtime environment of every trial, and Ray writes runtime environments into its
    logs as they are. Trials need none of that: they find the keys that their node's environment, profile or role has.
    """
    from ray.tune.execution import class_cache

    names: set[str] = class_cache.ENV_VARS_TO_PROPAGATE
    names -= {name for name in names if name.startswith("AWS_")}
