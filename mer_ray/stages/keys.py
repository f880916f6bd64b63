"""Keeps secrets of the environment out of Ray's logs."""

from __future__ import annotations


def keep_home() -> None:
    """Stop Tune from copying this process's AWS keys into its trials. Called before trials start.

    Tune (2.60) puts them into the runtime environment of every trial, and Ray writes runtime environments into its
    logs unredacted. Trials find the keys of their node's environment, profile or role by themselves.
    """
    from ray.tune.execution import class_cache

    names: set[str] = class_cache.ENV_VARS_TO_PROPAGATE
    names -= {name for name in names if name.startswith("AWS_")}
