"""An epoch of training beside the loop that Flax's tutorials teach: seconds, and whether both learn.

    python benchmarks/train.py [--json FILE] [--epochs 3] [--only lstm|cnn]
    python benchmarks/train.py --tracks 600          # a quick look; the seconds are brought up to 9,000 tracks
    python benchmarks/train.py --gpu                 # and a grid of 12 trials; says so where JAX sees no GPU

Needs jax, flax, optax, numpy, and this repository's files; no network, no Ray. About 8 GB of memory with all tracks.

An epoch is every track once: batches of 32, forward, backward, update; the first one, which compiles, is left out, and
the best of the others is shown. Both sides have all cores. "lstm" is a sequence like VGGish's, 31 frames of 128, hidden
128; "cnn" 30 s of MFCC, 1300 frames of 40. The plain loops are written as in Flax's guides: `nnx.RNN` and `nnx.Conv`,
`nnx.Optimizer`, an `@nnx.jit` step, batches from the host.

"ours" is `mer_ray.training.network`: it also clips gradients, averages weights, masks padding, and validates on 64
tracks inside the time shown. The plain LSTM has our layers and sizes. Of the plain CNNs, "same filters" has ours as
`nnx.Conv`, and "image" is what a tutorial does: 5 × 3 filters, SAME, max pooling, 16, 16 and 32 channels, which is
another network with more products. The labels are planted in the frames: "error" is the MSE of the standardised labels
of those 64 tracks after the last epoch, where 1 is a constant. Figures of two rows compare only where both are well
below that. Expect ours a third faster than the plain LSTM, about even with the same filters, and many times faster than
the image.
"""

from __future__ import annotations

import os
import sys
import time
import types
from collections.abc import Callable
from typing import Any

import common
import numpy as np

N_TRACKS, N_VALID, BATCH = 9_000, 64, 32
SHAPES = {"lstm": (31, 128, 0.96), "cnn": (1300, 40, 512 / 22_050)}  # frames, coefficients, hop in seconds
HIDDEN = 128
RATE, DECAY = 2e-3, 0.1
WIDTH = 64  # of the CNN
GRID = [(n, r, d) for n in ("cnn", "lstm") for r in (1e-3, 2e-3, 4e-3) for d in (0.01, 0.1)]


class Laps:
    """Wall and CPU seconds of each epoch but the first, and the last validation error."""

    def __init__(self) -> None:
        self.laps: list[tuple[float, float]] = []
        self.error = np.nan

    def __call__(self, epoch: int, train: float, valid: float) -> None:
        self.laps.append((time.perf_counter(), sum(os.times()[:2])))
        self.error = valid

    def best(self, n_tracks: int) -> tuple[float, float]:
        """Brought up to `N_TRACKS`."""
        wall, cpu = np.diff(np.array(self.laps), axis=0).min(axis=0) * N_TRACKS / n_tracks
        return float(wall), float(cpu)


def planted(n: int, time_steps: int, n_dims: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Frames (n, T, F) whose first three coefficients lie a little where the labels (n, 3) say."""
    rng = np.random.default_rng(seed)
    labels = rng.uniform(0.2, 0.8, (n, 3)).astype(np.float32)
    frames = rng.standard_normal((n, time_steps, n_dims), dtype=np.float32)
    frames[:, :, :3] += 3 * (labels[:, None] - 0.5)
    return frames, labels


def ours(network: str, hop_s: float, frames: np.ndarray, labels: np.ndarray, epochs: int) -> Laps:
    """The training loop, as ``mer-ray train`` calls it."""
    from mer_ray.training.network import Network
    from mer_ray.training.recipe import Recipe

    laps = Laps()
    recipe = Recipe(network, hop_s, frames.shape[1], epochs, epochs, BATCH, RATE, DECAY)
    validation = np.arange(len(frames)) >= len(frames) - N_VALID
    Network(recipe, laps).fit(list(frames), labels, [""] * len(frames), validation=validation)
    return laps


def wide_lstm() -> str:
    """Our LSTM with `HIDDEN` units, as a network of its own. Returns its name."""
    from mer_ray import models
    from mer_ray.models.lstm import Lstm

    module = types.ModuleType("benchmark_lstm")
    module.build = lambda n_dims, hop_s, rngs, outputs: Lstm(n_dims, hop_s, rngs, outputs, width=HIDDEN)
    sys.modules[module.__name__] = module
    models.NETWORKS["lstm-wide"] = module.__name__
    return "lstm-wide"


def plain_networks() -> dict[str, Callable[[int, Any], Any]]:
    """Name → (coefficients, rngs) → a network as one would write it from Flax's guides."""
    import jax.numpy as jnp
    from flax import nnx

    class PlainLstm(nnx.Module):
        def __init__(self, n_dims: int, rngs: nnx.Rngs) -> None:
            self.project = nnx.Linear(n_dims, HIDDEN, rngs=rngs)
            self.lstm = nnx.RNN(nnx.OptimizedLSTMCell(HIDDEN, HIDDEN, rngs=rngs), rngs=rngs)
            self.norm = nnx.LayerNorm(2 * HIDDEN, rngs=rngs)
            self.dropout = nnx.Dropout(0.4, rngs=rngs)
            self.head = nnx.Linear(2 * HIDDEN, 3, rngs=rngs)

        def __call__(self, x):
            h = self.dropout(nnx.relu(self.project(x)))
            pooled = jnp.concatenate([self.lstm(h).mean(axis=1), h.mean(axis=1)], axis=-1)
            return self.head(self.dropout(self.norm(pooled)))

    def moments(layers):
        return jnp.concatenate([m for layer in layers for m in (layer.mean(axis=1), layer.std(axis=1))], axis=-1)

    class PlainCnn(nnx.Module):
        def __init__(self, n_dims: int, rngs: nnx.Rngs) -> None:
            self.convolutions = nnx.List(
                nnx.Conv(c, WIDTH, (2 * s,), strides=s, rngs=rngs) for c, s in ((n_dims, 4), (WIDTH, 2), (WIDTH, 2))
            )
            self.norm = nnx.LayerNorm(2 * n_dims + 6 * WIDTH, rngs=rngs)
            self.channel_dropout = nnx.Dropout(0.2, broadcast_dims=(1,), rngs=rngs)
            self.dropout = nnx.Dropout(0.4, rngs=rngs)
            self.head = nnx.Linear(2 * n_dims + 6 * WIDTH, 3, rngs=rngs)

        def __call__(self, x):
            layers = [x]
            for convolution in self.convolutions:
                layers.append(nnx.relu(convolution(self.channel_dropout(layers[-1]))))
            return self.head(self.dropout(self.norm(moments(layers))))

    class ImageCnn(nnx.Module):
        def __init__(self, n_dims: int, rngs: nnx.Rngs) -> None:
            n_pooled = 2 * n_dims + 2 * 32 * (n_dims // 8)
            self.convolutions = nnx.List(nnx.Conv(a, b, (5, 3), rngs=rngs) for a, b in ((1, 16), (16, 16), (16, 32)))
            self.norm = nnx.LayerNorm(n_pooled, rngs=rngs)
            self.dropout = nnx.Dropout(0.4, rngs=rngs)
            self.head = nnx.Linear(n_pooled, 3, rngs=rngs)

        def __call__(self, x):
            h = x[..., None]
            for convolution, stride in zip(self.convolutions, (4, 2, 2), strict=True):
                h = nnx.max_pool(nnx.relu(convolution(h)), (stride, 2), (stride, 2))
            return self.head(self.dropout(self.norm(moments([x, h.reshape(h.shape[0], h.shape[1], -1)]))))

    return {"lstm": PlainLstm, "cnn, same filters": PlainCnn, "cnn, image": ImageCnn}


def plain(build: Callable[[int, Any], Any], frames: np.ndarray, labels: np.ndarray, epochs: int) -> Laps:
    """The loop of Flax's guides, on frames that are standardised as they come."""
    import optax
    from flax import nnx

    model = build(frames.shape[2], nnx.Rngs(0))
    optimizer = nnx.Optimizer(model, optax.adamw(RATE, weight_decay=DECAY), wrt=nnx.Param)

    @nnx.jit
    def train_step(model, optimizer, x, y):
        def loss_of(model):
            return ((model(x) - y) ** 2).mean()

        loss, gradients = nnx.value_and_grad(loss_of)(model)
        optimizer.update(model, gradients)
        return loss

    @nnx.jit
    def evaluate(model, x, y):
        return ((model(x) - y) ** 2).mean()

    rng, laps = np.random.default_rng(0), Laps()
    y = (labels - labels.mean(axis=0)) / labels.std(axis=0)
    n_fit = len(frames) - N_VALID
    for epoch in range(epochs):
        model.train()
        order = rng.permutation(n_fit)
        for i in range(n_fit // BATCH):
            rows = order[i * BATCH : (i + 1) * BATCH]
            loss = train_step(model, optimizer, frames[rows], y[rows])
        model.eval()
        laps(epoch, float(loss), float(evaluate(model, frames[n_fit:], y[n_fit:])))
    return laps


def grid(frames: np.ndarray, labels: np.ndarray, hop_s: float, epochs: int) -> float:
    """Wall seconds of 12 trials, compilation included: 2 networks, 3 learning rates, 2 weight decays."""
    from mer_ray.training.network import Network
    from mer_ray.training.recipe import Recipe

    validation = np.arange(len(frames)) >= len(frames) - N_VALID
    with common.Clock() as clock:
        for network, rate, decay in GRID:
            recipe = Recipe(network, hop_s, frames.shape[1], epochs, epochs, BATCH, rate, decay)
            Network(recipe).fit(list(frames), labels, [""] * len(frames), validation=validation)
    return clock.wall_s


def measure(which: list[str], n_tracks: int, epochs: int, skip_image: bool) -> list[list[Any]]:
    """Rows: network, loop, wall and CPU seconds an epoch, ratio of CPU seconds to ours, error."""
    rows = []
    for name in which:
        time_steps, n_dims, hop_s = SHAPES[name]
        frames, labels = planted(n_tracks + N_VALID, time_steps, n_dims)
        found = [("ours", ours(wide_lstm() if name == "lstm" else name, hop_s, frames, labels, epochs))]
        for plain_name, build in plain_networks().items():
            if plain_name.startswith(name) and not (skip_image and plain_name.endswith("image")):
                found.append((f"plain {plain_name}", plain(build, frames, labels, epochs)))
        reference = found[0][1].best(n_tracks)
        for loop, laps in found:
            wall, cpu = laps.best(n_tracks)
            rows.append([name, loop, wall, cpu, wall / reference[0], cpu / reference[1], laps.error])
    return rows


def main() -> None:
    parser = common.arguments(__doc__, music=False)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--tracks", type=int, default=N_TRACKS)
    parser.add_argument("--only", choices=list(SHAPES))
    parser.add_argument("--no-image", action="store_true", help="leave out the plain loop that takes longest")
    parser.add_argument("--gpu", action="store_true", help="the grid of 12 trials, too")
    options = parser.parse_args()
    if options.epochs < 2 or options.tracks < BATCH:
        parser.error(f"needs 2 epochs and {BATCH} tracks at least")
    import jax

    device = jax.devices()[0].device_kind
    which = [options.only] if options.only else list(SHAPES)
    rows = measure(which, options.tracks, options.epochs, options.no_image)
    columns = ("network", "loop", "wall s", "CPU s", "wall / ours", "CPU / ours", "error")
    common.show(f"An epoch of {N_TRACKS:,} tracks, batches of {BATCH}, {device}, {os.cpu_count()} CPUs", columns, rows)
    figures: dict[str, Any] = {"device": device, "tracks": options.tracks, "columns": columns, "rows": rows}
    if options.gpu:
        if jax.default_backend() == "cpu":
            print("\nJAX sees no GPU here: the grid was not run")
        else:
            time_steps, n_dims, hop_s = SHAPES["cnn"]
            frames, labels = planted(options.tracks + N_VALID, time_steps, n_dims)
            figures["grid_s"] = grid(frames, labels, hop_s, options.epochs)
            print(f"\n{len(GRID)} trials of {options.epochs} epochs, 30 s of MFCC: {figures['grid_s']:.0f} s wall")
    common.save(options.json, figures)


if __name__ == "__main__":
    main()
