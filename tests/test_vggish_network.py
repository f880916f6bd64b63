"""VGGish's network: on CPUs by Winograd, on accelerators in JAX, and both the same to rounding."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from vggish_sounds import music, noise, relative, weights_with_biases, windows

from mer_ray.features import vggish_cpu, vggish_frontend, vggish_network
from mer_ray.features.winograd import Convolution, Scratch


@pytest.fixture(scope="module")
def weights() -> dict[str, np.ndarray]:
    return weights_with_biases(3)


@pytest.fixture(scope="module")
def on_cpu(weights: dict[str, np.ndarray]) -> vggish_cpu.Network:
    return vggish_cpu.Network(weights)


@pytest.fixture(scope="module")
def patches() -> np.ndarray:
    """More than a batch of the dense layers, of all kinds of sound, silence included."""
    sounds = [music(30, 7), noise(20, 8), noise(15, 9, 1e-4), np.zeros(16_000 * 4, np.float32)]
    return np.concatenate([vggish_frontend.patches(windows(sound)) for sound in sounds])


def test_parameter_count() -> None:
    shapes = vggish_network.shapes()
    assert sum(math.prod(shape) for shape in shapes.values()) == 72_141_184
    assert shapes["vggish/fc1/fc1_1/weights"] == (4_096, 12_288)
    kernels = [shape for shape in shapes.values() if len(shape) > 1]
    assert len(set(kernels)) == len(kernels) == 9


def test_random_weights_are_the_same_everywhere(weights: dict[str, np.ndarray]) -> None:
    first = vggish_network.random_weights(0)
    np.testing.assert_allclose(first["vggish/conv1/weights"].ravel()[:3], [0.526852, -0.653897, -0.201088], rtol=1e-5)
    np.testing.assert_allclose(first["vggish/fc2/weights"].ravel()[-3:], [-0.011318, -0.0038948, 0.0055643], rtol=1e-4)
    assert not np.allclose(first["vggish/fc2/weights"], weights["vggish/fc2/weights"])  # of another seed
    for name, array in first.items():
        assert array.dtype == np.float32
        assert array.shape == vggish_network.shapes()[name]
        inputs = array.shape[1] if array.ndim == 2 else math.prod(array.shape[:-1])
        assert array.std() == pytest.approx(math.sqrt(2 / inputs) if array.ndim > 1 else 0, rel=0.1)


def reference_convolution(images: np.ndarray, kernel: np.ndarray, bias: np.ndarray, pool: bool) -> np.ndarray:
    """The definition in float64: (n, H, W, I) → (n, H, W, O), or half of H and W."""
    n, height, width, _ = images.shape
    padded = np.pad(images.astype(np.float64), ((0, 0), (1, 1), (1, 1), (0, 0)))
    total = np.zeros((n, height, width, kernel.shape[3]))
    for r in range(3):
        for s in range(3):
            total += padded[:, r : r + height, s : s + width] @ kernel[r, s].astype(np.float64)
    result = np.maximum(total + bias, 0)
    return result.reshape(n, height // 2, 2, width // 2, 2, -1).max((2, 4)) if pool else result


@given(
    n=st.integers(1, 3),
    rows=st.integers(1, 4),
    columns=st.integers(1, 4),
    inputs=st.integers(1, 20),
    outputs=st.integers(1, 20),
    pool=st.booleans(),
    border=st.sampled_from([0, 1]),
    seed=st.integers(0, 99),
)
@settings(max_examples=30, deadline=None)
def test_winograd_is_a_convolution(
    n: int, rows: int, columns: int, inputs: int, outputs: int, pool: bool, border: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    height, width = 4 * rows, 4 * columns
    images = rng.standard_normal((n, height, width, inputs)).astype(np.float32)
    kernel = rng.standard_normal((3, 3, inputs, outputs)).astype(np.float32) / np.float32(3 * math.sqrt(inputs))
    bias = rng.standard_normal(outputs).astype(np.float32)
    wanted = reference_convolution(images, kernel, bias, pool)
    out = np.full((n, wanted.shape[1] + 2 * border, wanted.shape[2] + 2 * border, outputs), 7, np.float32)
    padded = np.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    Convolution(kernel, bias, n, height, width, pool, Scratch())(padded, out)
    inside = out[:, border : out.shape[1] - border, border : out.shape[2] - border]
    np.testing.assert_allclose(inside, wanted, atol=3e-5)
    assert np.sum(out == 7) == out.size - inside.size  # the border is left alone


def test_cpus_and_jax_agree(on_cpu: vggish_cpu.Network, weights: dict[str, np.ndarray], patches: np.ndarray) -> None:
    some = patches[::9]
    assert relative(on_cpu(some), np.asarray(vggish_network.embed(weights, some))) < 2e-5


def test_an_embedding_does_not_depend_on_its_neighbours(on_cpu: vggish_cpu.Network, patches: np.ndarray) -> None:
    """To the last bit: a run that was killed and goes on batches the rest in another way."""
    if not vggish_cpu.rows_are_alike():
        pytest.skip("this machine's BLAS rounds by position: the feature takes JAX's network here")
    wanted = on_cpu(patches)
    assert len(patches) == 70
    assert on_cpu(patches[:0]).shape == (0, 128)
    rng = np.random.default_rng(0)
    for n in (1, 17, 33, 64):
        chosen = rng.permutation(len(patches))[:n]
        np.testing.assert_array_equal(on_cpu(patches[chosen]), wanted[chosen])
    for k in (0, 37, 69):
        np.testing.assert_array_equal(on_cpu(patches[k : k + 1]), wanted[k : k + 1])


def test_what_is_not_a_number_stays_with_its_patch(on_cpu: vggish_cpu.Network, patches: np.ndarray) -> None:
    broken = patches[:20].copy()
    broken[3, 50, 20] = np.nan
    found, wanted = on_cpu(broken), on_cpu(patches[:20])
    assert not np.isfinite(found[3]).any()
    others = np.arange(20) != 3
    np.testing.assert_array_equal(found[others], wanted[others])
    np.testing.assert_array_equal(on_cpu(patches[:20]), wanted)  # and nothing of it is left behind


def test_jax_compiles_for_one_shape(weights: dict[str, np.ndarray], on_cpu: vggish_cpu.Network) -> None:
    """On an accelerator, too, the last batch is filled up, and its samples go in as they are."""
    sound = windows(music(20, 8))
    network = vggish_network.Network(weights, batch=16)
    assert network(sound[:0]).shape == (0, 128)
    found = network(sound)
    assert relative(found, on_cpu(vggish_frontend.patches(sound))) < 1e-4
    np.testing.assert_array_equal(network(sound[[14, 1, 18]]), found[[14, 1, 18]])


def test_bfloat16_is_near(weights: dict[str, np.ndarray], patches: np.ndarray) -> None:
    exact = np.asarray(vggish_network.embed(weights, patches[:1]))
    rounded = np.asarray(vggish_network.embed(weights, patches[:1], "bfloat16"))
    assert rounded.dtype == np.float32
    assert 1e-4 < relative(rounded, exact) < 0.1
