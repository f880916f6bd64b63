"""Embeddings published as a TensorFlow SavedModel: frames from a function of a waveform.

For example YAMNet (Plakal & Ellis, https://tfhub.dev/google/yamnet/1), whose second output is a 1024-d embedding of
0.975 s of audio, every 0.48 s:

    extract:
      features: [yamnet]
      hub:
        yamnet: {handle: "https://tfhub.dev/google/yamnet/1", rate: 16000, output: 1, hop_s: 0.48, context_s: 0.975}

The settings declare the hop between frames and the context of a frame; both are checked on noise when the module is
first used. Without ``context_s``, the module gets the complete audio. A module that gives one
vector for a clip is applied to windows (``window_s``).
"""

from __future__ import annotations

import json
import math
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from mer_ray.errors import ConfigError, ModelError, ServiceError, TrackError
from mer_ray.features import Extractor, FeatureSpec, FrameStream, handles
from mer_ray.features import saved_model as saved
from mer_ray.features.framing import Framing, Pieces, Run
from mer_ray.io.identity import digest

VERSION = 1
"""Of the framing and the check."""
PROBES_S = (12.0, 60.0)
"""Durations of the noise on which the check runs a module."""


class Params(BaseModel):
    """Settings under ``extract.hub.NAME``."""

    model_config = ConfigDict(extra="forbid", use_attribute_docstrings=True)

    handle: str = Field(min_length=1)
    """Of a TensorFlow Hub or Kaggle model (https://...), or the path of a SavedModel folder."""
    rate: int = Field(16_000, ge=1_000, le=192_000)
    """Of its mono audio, in Hz."""
    output: saved.Output = None
    """Which of its results, by index in a tuple or name in a dict; `null` for the only one."""
    hop_s: float | None = Field(None, gt=0, le=600)
    """Seconds between the starts of two frames."""
    context_s: float | None = Field(None, ge=0, le=600)
    """Seconds of audio before and after its hop that a frame depends on; `null`: the complete audio."""
    window_s: float | None = Field(None, gt=0, le=600)
    """For a module that gives one vector for a clip, the seconds of the windows to which it is applied (`null`: of
    its signature), one every `hop_s` (`null`: `window_s`)."""
    piece_s: float = Field(60.0, gt=0, le=3_600)
    """Seconds of long audio in one run."""
    max_s: float = Field(1_200.0, gt=0)
    """The longest audio if `context_s` is `null`, in seconds."""
    timeout_s: float = Field(5.0, gt=0, le=3_600)
    """Longest wait for a hub's answer, in seconds."""


def resolve(name: str, params: Params) -> FeatureSpec:
    """Settings → spec. Checks a new module: TensorFlow's start, and several runs on noise.

    Raises:
        ConfigError, ServiceError, ModelError: Each names ``extract.hub.NAME``.
    """
    key = f"extract.hub.{name}"
    location, folder = _find(key, params)
    weights = {"kind": "saved_model", "location": location, "sha256": saved.content_hash(folder)}
    declared = params.model_dump(include={"rate", "output", "hop_s", "context_s", "window_s"})
    check = digest(json.dumps([VERSION, weights["sha256"], declared]).encode())[:24]
    checked = handles.cache_folder() / f"{check}.json"
    found = _read(checked)
    if found is None:
        found = _check(key, params, folder)
        _write(checked, found)
    return FeatureSpec(
        name=name,
        version=VERSION,
        sample_rate_hz=params.rate,
        hop_s=found["hop_s"],
        n_dims=found["n_dims"],
        params={"output": params.output, "window": found["window"]},
        weights=weights,
        # The context changes no number, only how long audio is cut.
        runtime=params.model_dump(include={"context_s", "piece_s", "max_s", "timeout_s"}),
        family="hub",
    )


def load(spec: FeatureSpec) -> Extractor:
    """Spec → extractor. Raises ModelError if the module is missing, has changed, or does not run."""
    weights, key = spec.weights or {}, f"extract.hub.{spec.name}"
    params = Params(handle=weights["location"], rate=spec.sample_rate_hz, hop_s=spec.hop_s, **_runtime(spec))
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


def _runtime(spec: FeatureSpec) -> dict[str, Any]:
    """How the work is done. An older spec has ``framing`` in place of context_s: what had been found by probing."""
    own = dict(spec.runtime)
    found = own.pop("framing", None)
    if found is not None and found["left"] is not None and float(found["hop"]).is_integer():
        own["context_s"] = max(found["left"], found["right"]) * spec.hop_s
    return own


class Hub(Extractor):
    """A loaded module, which processes one track at a time."""

    def __init__(self, spec: FeatureSpec, module: saved.Module, params: Params) -> None:
        self.spec = spec
        window, hop = spec.params["window"], round(spec.hop_s * params.rate)
        self._run: Run = module.frames if window is None else partial(_windowed, module, window, hop, spec.n_dims)
        context = math.ceil(window / hop) - 1 if window else _hops(params.context_s, spec.hop_s)
        self._framing = Framing(spec.n_dims, hop, context)
        self._k = max(1, round(params.piece_s / spec.hop_s))
        self._limit = round(params.max_s * spec.sample_rate_hz) if context is None else None
        found = self._run(_noise(max(params.rate, window or 0))).shape[1]  # fails now, not in the first track
        if found != spec.n_dims:
            raise ModelError(f"extract.hub.{spec.name} gave frames of {found}, not {spec.n_dims} dimensions")

    def start(self) -> FrameStream:
        """See `mer_ray.features.Extractor`. `frames` raises TrackError: too_long, not_computed, not_finite."""
        return _Stream(Pieces(self._run, self._framing, self._k), self._limit, self.spec)


class _Stream:
    """One track. Errors of `push` and `finish` are raised by `frames`, since other features may share the audio."""

    def __init__(self, pieces: Pieces, limit: int | None, spec: FeatureSpec) -> None:
        self._pieces: Pieces | None = pieces
        self._limit = limit
        self._spec = spec
        self._result: np.ndarray | TrackError | None = None

    def push(self, samples: np.ndarray) -> None:
        if self._pieces is None:
            return
        if self._limit is not None and self._pieces.n_samples + samples.size > self._limit:
            limit_s = self._limit / self._spec.sample_rate_hz
            what = f"{self._spec.name} needs the whole audio at once, and takes {limit_s:g} s (extract.hub.*.max_s)"
            self._result, self._pieces = TrackError("too_long", what), None
            return
        try:
            self._pieces.push(samples)
        except ModelError as error:
            self._result, self._pieces = TrackError("not_computed", error.message), None

    def finish(self) -> None:
        if self._pieces is None:
            return
        try:
            self._result = self._pieces.finish()
        except ModelError as error:
            self._result = TrackError("not_computed", error.message)
        self._pieces = None

    def frames(self) -> np.ndarray:
        if isinstance(self._result, TrackError):
            raise self._result
        assert self._result is not None, "finish() comes first"
        if not np.isfinite(self._result).all():
            raise TrackError("not_finite", f"{self._spec.name} gave NaN or infinite frames")
        return self._result


def _find(key: str, params: Params) -> tuple[str, Path]:
    """(location: a handle, or an absolute path; the module's local folder)."""
    hint = (
        f"let this machine reach the hub, or set {key}.handle to a local SavedModel folder, "
        "or set TFHUB_CACHE_DIR to a TensorFlow Hub cache that holds it"
    )
    if handles.is_handle(params.handle):
        try:
            return params.handle, handles.fetch(params.handle, params.timeout_s, hint)
        except (ConfigError, ServiceError) as error:
            raise type(error)(f"{key}: {error.message}", error.hint) from error
    folder = Path(params.handle).expanduser().resolve()
    if not (folder / handles.SAVED_MODEL).is_file():
        what = f"holds no {handles.SAVED_MODEL}" if folder.is_dir() else "does not exist"
        raise ConfigError(f"{key}.handle: {folder} {what}", hint)
    return str(folder), folder


def _check(key: str, params: Params, folder: Path) -> dict[str, Any]:
    """n_dims, hop_s, and window: the samples of the windows to which the module is applied, or None."""
    module = saved.Module(folder, params.output, f"{key} ({params.handle})")
    if module.length is None and params.window_s is None:
        return {"n_dims": _check_frames(key, params, module), "hop_s": params.hop_s, "window": None}
    own_s = module.length and module.length / params.rate
    if own_s and params.window_s is not None and abs(params.window_s - own_s) > 0.01 * own_s:
        what = f"{key}.window_s is {params.window_s:g}, the module's own is {own_s:g}"
        raise ConfigError(what, f"leave out {key}.window_s")
    window = module.length or round((params.window_s or 0) * params.rate)
    vectors = module.vectors(_noise(window)[None])
    _check_finite(key, params, vectors)
    hop = round(params.hop_s * params.rate) if params.hop_s is not None else window
    return {"n_dims": vectors.shape[1], "hop_s": hop / params.rate, "window": window}


def _check_frames(key: str, params: Params, module: saved.Module) -> int:
    """The width of a module's frames. Raises ConfigError or ModelError if hop or context differ from the declared."""
    short, long = (_noise(round(seconds * params.rate)) for seconds in PROBES_S)
    short_frames, long_frames = module.frames(short), module.frames(long)
    what = f"{key} ({params.handle})"
    if short_frames.shape[1] != long_frames.shape[1]:
        reason = "makes frames whose width depends on the length of the audio"
        raise ModelError(f"{what} {reason}", "choose another output, or another module")
    _check_finite(key, params, short_frames)
    if not _alike(module.frames(short), short_frames):
        raise ModelError(f"{what} makes other frames of the same audio at each call", "choose another module")
    if len(short_frames) == len(long_frames) == 1:
        hint = f"set {key}.window_s (and hop_s) to apply it to windows"
        raise ConfigError(f"{what} gives one vector, however long the audio is", hint)
    more, more_s = len(long_frames) - len(short_frames), PROBES_S[1] - PROBES_S[0]
    if more <= 0:
        raise ModelError(f"{what} makes {len(short_frames)} frames, however long the audio is", "choose another output")
    about = f"the module makes a frame about every {more_s / more:.3g} s"
    if params.hop_s is None:
        raise ConfigError(f"{key}.hop_s is not set; {about}", "set it to what the module's documentation says")
    if abs(more - more_s / params.hop_s) > 1.01:
        raise ConfigError(f"{key}.hop_s is {params.hop_s:g}; {about}", "set it to what the module's documentation says")
    hop, context = params.hop_s * params.rate, _hops(params.context_s, params.hop_s)
    if context is not None:
        if abs(hop - round(hop)) > 1e-6:
            raise ConfigError(f"{key}.context_s needs a hop of whole samples, hop_s is {hop:g} of them", "leave it out")
        for k in (7, len(long_frames) // 3):
            pieces = Pieces(module.frames, Framing(long_frames.shape[1], round(hop), context), k)
            pieces.push(long)
            if not _alike(pieces.finish(), long_frames):
                what = f"{key}.context_s is {params.context_s:g}, but frames depend on audio further away"
                raise ConfigError(what, "raise it, or leave it out: audio then goes through the module whole")
    return int(long_frames.shape[1])


def _check_finite(key: str, params: Params, frames: np.ndarray) -> None:
    if not np.isfinite(frames).all():
        raise ModelError(f"{key} ({params.handle}) makes frames that are not finite", "choose another output")


def _alike(found: np.ndarray, wanted: np.ndarray) -> bool:
    """Whether both are equal up to rounding, which differs between pieces and the whole."""
    return found.shape == wanted.shape and bool(np.all(np.abs(found - wanted) <= 1e-3 * wanted.std() + 1e-12))


def _hops(seconds: float | None, hop_s: float) -> int | None:
    return None if seconds is None else math.ceil(seconds / hop_s - 1e-6)


def _noise(n: int) -> np.ndarray:
    """(n,) float32 of white noise that rises from -100 to -10 dB, five times, to reveal normalisation by the whole."""
    envelope = 10 ** (-0.5 - 4.5 * np.abs(np.cos(np.linspace(0, 5 * np.pi, n))))
    samples: np.ndarray = np.random.default_rng(0).uniform(-1, 1, n) * envelope
    return samples.astype(np.float32)


def _windowed(module: saved.Module, window: int, hop: int, n_dims: int, samples: np.ndarray) -> np.ndarray:
    """(n,) → (N, F): a vector for each whole window."""
    if samples.size < window:
        return np.zeros((0, n_dims), np.float32)
    return module.vectors(np.lib.stride_tricks.sliding_window_view(samples, window)[::hop])


def _read(file: Path) -> dict[str, Any] | None:
    """The result of an earlier check; None if there is none, or the file is damaged."""
    try:
        found: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
        return {"n_dims": int(found["n_dims"]), "hop_s": float(found["hop_s"]), "window": found["window"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _write(file: Path, found: dict[str, Any]) -> None:
    """Write it atomically. If the cache cannot be written, the next run repeats the check."""
    with suppress(OSError):
        file.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", encoding="utf-8", dir=file.parent, delete=False) as temporary:
            json.dump(found, temporary)
        Path(temporary.name).replace(file)
