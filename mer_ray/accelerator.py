"""Whether JAX has something faster than the CPU."""

from __future__ import annotations

import os
from importlib.util import find_spec


def has_gpu() -> bool:
    """Whether JAX has an accelerator. JAX is not imported if its plug-in is missing, or JAX is set to use CPUs."""
    if os.environ.get("JAX_PLATFORMS") == "cpu" or not (find_spec("jax_plugins") or find_spec("libtpu")):
        return False
    import jax

    return bool(jax.default_backend() != "cpu")
