"""VGGish on a GPU: patches a second by batch size and precision, samples to embeddings in one program.

    python benchmarks/vggish_gpu.py [--json FILE] [--batches 64,256,1024,4096]
    python benchmarks/vggish_gpu.py --cpu            # a tiny run, to try the script

Needs jax, numpy, and this repository's files; no network, Ray or TensorFlow. Without a GPU it says so and ends with 0.

"of the roof" is the share of what a large bfloat16 matrix product reaches in the same run, in multiplications of the
network's definition (1.728 GFLOP a patch). "error" is the largest difference to float32's embeddings, in SDs of those.
Each time is the best of several runs of about a second, with samples on the device already; "from the host" includes
the way there (62 KB a patch) and back. On an H100 expect tf32 and bfloat16 several times as fast as float32, batches of
some hundreds near the best, errors near 1e-3 (tf32) and 1e-2 (bfloat16).
"""

from __future__ import annotations

import sys
import time
import types
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import common
import numpy as np

FLOP = 1.728e9  # a patch
PRECISIONS = ("float32", "tf32", "bfloat16")
SCALE_PATCHES = 32  # on which errors are measured


def light_packages() -> None:
    """mer_ray's modules without what its packages import at their top, which a GPU machine may lack."""
    root = Path(__file__).resolve().parent.parent
    for name in ("mer_ray", "mer_ray.features"):
        package = types.ModuleType(name)
        package.__path__ = [str(root / name.replace(".", "/"))]
        sys.modules[name] = package


def seconds(run: Callable[[], Any], at_least: float) -> float:
    """Of one call: the best of three series that last so long together."""
    import jax

    jax.block_until_ready(run())
    best, count = np.inf, 1
    for _ in range(3):
        began = time.perf_counter()
        for _ in range(count):
            result = run()
        jax.block_until_ready(result)
        best = min(best, (time.perf_counter() - began) / count)
        count = max(1, int(at_least / 3 / best))
    return float(best)


def roof(size: int, at_least: float) -> float:
    """FLOP/s of a bfloat16 product of two square matrices, with sums in float32."""
    import jax
    import jax.numpy as jnp

    a = jax.random.normal(jax.random.key(0), (size, size), jnp.bfloat16)
    product = jax.jit(lambda a: jnp.dot(a, a, preferred_element_type=jnp.float32).astype(jnp.bfloat16))
    return 2 * size**3 / seconds(lambda: product(a), at_least)


def rates(run: Callable[[Any], Any], sounds: np.ndarray, at_least: float) -> tuple[float, float]:
    """Patches a second: with the sounds on the device, and from the host and back."""
    import jax

    device = jax.device_put(sounds)
    inside = seconds(lambda: run(device), at_least)
    whole = seconds(lambda: np.asarray(run(jax.device_put(sounds))), at_least)
    return len(sounds) / inside, len(sounds) / whole


def measure(batches: list[int], at_least: float, size: int) -> dict[str, Any]:
    """All figures."""
    import jax

    from mer_ray.features import vggish_network as vggish

    weights = jax.device_put(vggish.random_weights(0))
    sounds = 0.1 * np.random.default_rng(0).standard_normal((max(batches), 15_600)).astype(np.float32)
    sounds *= np.linspace(0.01, 1, len(sounds), dtype=np.float32)[:, None]
    peak = roof(size, at_least)
    exact, rows = None, []
    for precision in PRECISIONS:
        run = jax.jit(lambda w, x, p=precision: vggish.embed(w, vggish.log_mel(x), p))
        found = np.asarray(run(weights, sounds[:: max(1, len(sounds) // SCALE_PATCHES)]))
        exact = found if exact is None else exact
        error = float(np.abs(found - exact).max() / exact.std())
        for batch in batches:
            try:
                inside, whole = rates(partial(run, weights), sounds[:batch], at_least)
            except jax.errors.JaxRuntimeError as reason:  # no memory for a batch of this size
                print(f"{precision}, batch {batch}: {str(reason)[:100]}", file=sys.stderr)
                continue
            rows.append([precision, batch, inside, whole, 0.96 * whole, inside * FLOP / peak, error])
    return {"device": jax.devices()[0].device_kind, "bfloat16_tflops": peak / 1e12, "rows": rows}


def main() -> None:
    parser = common.arguments(__doc__, music=False)
    parser.add_argument("--batches", default="64,128,256,512,1024,2048,4096")
    parser.add_argument("--cpu", action="store_true", help="a tiny run without a GPU")
    options = parser.parse_args()
    light_packages()
    import jax

    if jax.default_backend() == "cpu" and not options.cpu:
        print("JAX sees no GPU here: nothing measured (--cpu for a tiny run)")
        return
    figures = (
        measure([16, 32], 0.1, 512) if options.cpu else measure([*map(int, options.batches.split(","))], 1.0, 8192)
    )
    columns = ("precision", "batch", "patches/s", "from the host", "x real time", "of the roof", "error, SD")
    title = f"{figures['device']}, bfloat16 matrix product {figures['bfloat16_tflops']:.3g} TFLOP/s"
    common.show(title, columns, figures["rows"])
    common.save(options.json, figures)


if __name__ == "__main__":
    main()
