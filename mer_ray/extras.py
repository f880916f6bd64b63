"""Packages that come only with an extra of mer-ray, and the line that says so where one is missing.

``pip install mer-ray`` brings what it takes to score, search and export; ``pip install 'mer-ray[train]'`` what it
takes to train.
"""

from __future__ import annotations

from importlib.util import find_spec

from mer_ray.errors import MissingExtra

EXTRAS: dict[str, tuple[str, ...]] = {
    "cluster": ("ray",),
    "harvest": (
        "pylast",
        "savify",
        "yt_dlp",
        "imageio_ffmpeg",
        "requests",
        "urllib3",
        "spotipy",
        "rapidfuzz",
    ),
    "train": (
        "jax",
        "flax",
        "optax",
        "optuna",
        "sklearn",
        "scipy",
        "librosa",
        "numba",
        "simplemma",
        "matplotlib",
        "tensorboardX",
        "tensorboard",
        "rapidfuzz",
        "ray",
    ),
    "hub": ("tensorflow", "tensorflow_hub"),
    "mlflow": ("mlflow", "sqlalchemy", "alembic"),
    "youtube": ("deno",),
    "tag": ("mutagen",),
}
"""Extra → the modules that it is for. Without another hint, a module comes with the first that has it."""
POSIX = ("fcntl", "resource")


def explained(error: ModuleNotFoundError) -> MissingExtra | None:
    """What to install for a module that was not found; None if it is none of `EXTRAS`."""
    module = (error.name or "").partition(".")[0]
    if module in POSIX:
        return MissingExtra("mer-ray needs Linux or macOS", "on Windows, run it in WSL (docs/how-to/install.md)")
    found = next((extra for extra, modules in EXTRAS.items() if module in modules), None)
    return None if found is None else _missing(module, found)


def require(extra: str, *modules: str) -> None:
    """Raises MissingExtra unless these modules of an extra, or all of them, are installed."""
    for module in modules or EXTRAS[extra]:
        if find_spec(module) is None:
            raise _missing(module, extra)


def is_installed(module: str) -> bool:
    """Whether a module can be imported; it is not."""
    return find_spec(module) is not None


def _missing(module: str, extra: str) -> MissingExtra:
    return MissingExtra(f"this needs {module}", f"pip install 'mer-ray[{extra}]'")
