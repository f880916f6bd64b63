"""Any embedding that is published as a TensorFlow SavedModel: frames from a function of a waveform.

For example YAMNet (Plakal & Ellis, https://tfhub.dev/google/yamnet/1), whose second output is a 1024-d embedding every
0.48 s:

    extract:
      features: [yamnet]
      hub:
        yamnet: {handle: "https://tfhub.dev/google/yamnet/1", rate: 16000, output: 1}

How the module cuts its frames is measured when it is first used, and kept beside the hub's cache. If a frame follows
from the audio around it, long audio goes through the module in pieces, in bounded memory; if it follows from the whole,
the audio goes through whole. A module that gives one vector for a clip is applied to windows.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mer_ray.errors import ConfigError, ModelError, ServiceError, TrackError
from mer_ray.features import Extractor, FeatureSpec, FrameStream
from mer_ray.features import saved_model as saved
from mer_ray.features.framing import Framing, Pieces, Run, measure, noise
from mer_ray.features.vggish_weights import cache_folder, fetch
from mer_ray.io.identity import digest

VERSION = 1
"""Of the way in which frames are made, and of what is measured of a module."""


class Params(BaseModel):
    """Settings under ``extract.hub.NAME``.

    handle: of a TensorFlow Hub or Kaggle model (https://...), or the path of a SavedModel folder. rate: in Hz, of the
    mono audio that it wants. output: which of its results, by index in a tuple or name in a dict; null for the only
    one. window_s, hop_s: for a module that gives one vector for a clip: the length of the windows that it is applied
    to, where its signature does not say, and the time from one to the next (null: as long as the window). piece_s:
    seconds of long audio in one run, which changes the rounding at most. max_s: the longest audio for a module whose
    frames follow from the whole. timeout_s: longest wait for a hub's answer.
    """

    model_config = ConfigDict(extra="forbid")

    handle: str = Field(min_length=1)
    rate: int = Field(16_000, ge=1_000, le=192_000)
    output: saved.Output = None
    window_s: float | None = Field(None, gt=0, le=600)
    hop_s: float | None = Field(None, gt=0, le=600)
    piece_s: float = Field(60.0, gt=0, le=3_600)
    max_s: float = Field(1_200.0, gt=0)
    timeout_s: float = Field(5.0, gt=0, le=3_600)


def resolve(name: str, params: Params) -> FeatureSpec:
    """Settings → spec. Tries the module where it is new: TensorFlow's start, and some 100 runs on 12 s of noise.

    Raises ConfigError, ServiceError or ModelError that name ``extract.hub.NAME``.
    """
    key = f"extract.hub.{name}"
    location, folder = _find(key, params)
    weights = {"kind": "saved_model", "location": location, "sha256": saved.content_hash(folder)}
    settings = [VERSION, weights["sha256"], params.rate, params.output, params.window_s, params.hop_s]
    kept = cache_folder() / f"{digest(json.dumps(settings).encode())[:24]}.framing.json"
    found = _read(kept)
    if found is None:
        found = _try(key, params, folder)
        _write(kept, found)
    framing, window = found
    return FeatureSpec(
        name=name,
        version=VERSION,
        sample_rate_hz=params.rate,
        hop_s=framing.hop / params.rate,
        n_dims=framing.n_dims,
        params={"output": params.output, "window": window},
        weights=weights,
        # What a frame follows from changes no number: it says how to work on long audio.
        runtime={"framing": asdict(framing), **params.model_dump(include={"piece_s", "max_s", "timeout_s"})},
        family="hub",
    )


def load(spec: FeatureSpec) -> Extractor:
    """Spec → extractor. Raises ModelError if the module is gone, another, or does not run here."""
    weights, key = spec.weights or {}, f"extract.hub.{spec.name}"
    runtime = {k: v for k, v in spec.runtime.items() if k != "framing"}
    params = Params(handle=weights["location"], rate=spec.sample_rate_hz, **runtime)
    try:
        _, folder = _find(key, params)
    except ConfigError as error:
        raise ModelError(f"the module of {key} is gone ({error.message})", "put it back") from error
    if saved.content_hash(folder) != weights["sha256"]:
        raise ModelError(
            f"{params.handle} is not the module that {key} was made with",
            f"bring back the one of SHA-256 {weights['sha256'][:16]}…, or extract again with this one",
        )
    return Hub(spec, saved.Module(folder, spec.params["output"], f"{key} ({params.handle})"), params)


class Hub(Extractor):
    """A module at work, on one track at a time."""

    def __init__(self, spec: FeatureSpec, module: saved.Module, params: Params) -> None:
        self.spec = spec
        self._framing = Framing(**spec.runtime["framing"])
        self._run = _run(module, spec.params["window"], self._framing.hop)
        self._k = max(1, round(params.piece_s / spec.hop_s))
        self._limit = round(params.max_s * spec.sample_rate_hz)
        found = self._run(noise(max(self._framing.reach, params.rate))).shape[1]  # here, not in the first track
        if found != spec.n_dims:
            raise ModelError(f"extract.hub.{spec.name} gave frames of {found}, not {spec.n_dims} dimensions")

    def start(self) -> FrameStream:
        """See `mer_ray.features.Extractor`. `frames` raises TrackError: too_long, not_computed, not_finite."""
        whole = self._framing.left is None
        return _Stream(Pieces(self._run, self._framing, self._k), self._limit if whole else None, self.spec)


class _Stream:
    """A track. What goes wrong in `push` and `finish` is kept for `frames`: other features may share the audio."""

    def __init__(self, pieces: Pieces, limit: int | None, spec: FeatureSpec) -> None:
        self._pieces: Pieces | None = pieces
        self._limit = limit
        self._spec = spec
        self._error: TrackError | None = None
        self._frames: np.ndarray | None = None

    def push(self, samples: np.ndarray) -> None:
        if self._pieces is None:
            return
        if self._limit is not None and self._pieces.n_samples + samples.size > self._limit:
            limit_s = self._limit / self._spec.sample_rate_hz
            what = f"{self._spec.name} needs the whole audio at once, and takes {limit_s:g} s (extract.hub.*.max_s)"
            self._fail(TrackError("too_long", what))
            return
        try:
            self._pieces.push(samples)
        except ModelError as error:
            self._fail(TrackError("not_computed", error.message))

    def finish(self) -> None:
        if self._pieces is None:
            return
        try:
            self._frames = self._pieces.finish()
        except ModelError as error:
            self._fail(TrackError("not_computed", error.message))
        self._pieces = None

    def frames(self) -> np.ndarray:
        if self._error is not None:
            raise self._error
        assert self._frames is not None, "finish() comes first"
        if not np.isfinite(self._frames).all():
            raise TrackError("not_finite", f"{self._spec.name} gave NaN or infinite frames")
        return self._frames

    def _fail(self, error: TrackError) -> None:
        self._error = error
        self._pieces = None  # its audio too


def _find(key: str, params: Params) -> tuple[str, Path]:
    """(location: a handle, or an absolute path; the module's folder on this machine)."""
    hint = (
        f"let this machine reach the hub, or set {key}.handle to a local SavedModel folder, "
        "or set TFHUB_CACHE_DIR to a TensorFlow Hub cache that holds it"
    )
    if params.handle.startswith(("http://", "https://")):
        try:
            return params.handle, fetch(params.handle, params.timeout_s)
        except (ConfigError, ServiceError) as error:
            raise type(error)(f"{key}: {error.message}", hint) from error
    folder = Path(params.handle).expanduser().resolve()
    if not (folder / saved.FILE).is_file():
        what = f"holds no {saved.FILE}" if folder.is_dir() else "does not exist"
        raise ConfigError(f"{key}.handle: {folder} {what}", hint)
    return str(folder), folder


def _try(key: str, params: Params, folder: Path) -> tuple[Framing, int | None]:
    """(framing, samples of the windows that the module is applied to or None), measured."""
    module = saved.Module(folder, params.output, f"{key} ({params.handle})")
    framing = None
    if module.length is None:
        try:
            framing = measure(module.frames, params.rate)
        except ModelError as error:
            message = error.message if key in error.message else f"{key} ({params.handle}) {error.message}"
            raise ModelError(message, error.hint or "choose another output, or another module") from error
    if framing is not None:
        if params.window_s is not None:
            what = f"{key}.window_s: the module cuts frames of its own, every {framing.hop / params.rate:g} s"
            raise ConfigError(what, f"leave out {key}.window_s")
        _agrees(key, "hop_s", params.hop_s, framing.hop / params.rate)
        return framing, None
    if module.length is not None:
        _agrees(key, "window_s", params.window_s, module.length / params.rate)
    elif params.window_s is None:
        raise ConfigError(
            f"{key} ({params.handle}) gives one vector, however long the audio is",
            f"set {key}.window_s (and hop_s) to apply it to windows",
        )
    window = module.length or round((params.window_s or 0) * params.rate)
    hop = round(params.hop_s * params.rate) if params.hop_s is not None else window
    vectors = module.vectors(noise(window)[None])
    if not np.isfinite(vectors).all():
        raise ModelError(f"{key} ({params.handle}) gives vectors that are not finite", "choose another output")
    return Framing(vectors.shape[1], hop, 0, -(-window // hop) - 1, window), window


def _agrees(key: str, setting: str, said: float | None, found: float) -> None:
    if said is not None and abs(said - found) > 0.01 * found:
        raise ConfigError(f"{key}.{setting} is {said:g}, the module's own is {found:g}", f"leave out {key}.{setting}")


def _run(module: saved.Module, window: int | None, hop: float) -> Run:
    return module.frames if window is None else partial(_windowed, module.vectors, window, int(hop))


def _windowed(vectors: Callable[[np.ndarray], np.ndarray], window: int, hop: int, samples: np.ndarray) -> np.ndarray:
    """(n,) → (N, F): a vector for each whole window; n is at least one."""
    return vectors(np.lib.stride_tricks.sliding_window_view(samples, window)[::hop])


def _read(file: Path) -> tuple[Framing, int | None] | None:
    """What was measured before; None if nothing was, or the file is damaged."""
    try:
        kept: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return Framing(**kept["framing"]), kept["window"]
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(file: Path, found: tuple[Framing, int | None]) -> None:
    """Whole or not at all. A cache that cannot be written costs the next run its time, no more."""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=file.parent, delete=False) as temporary:
            json.dump({"framing": asdict(found[0]), "window": found[1]}, temporary)
        Path(temporary.name).replace(file)
