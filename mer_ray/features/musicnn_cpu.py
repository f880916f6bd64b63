"""musicnn on one CPU core: log-mel patches → penultimate layer and tags, several networks in one pass.

The same function as the release's TensorFlow graph, up to rounding. Nearly all of the graph's products are those of the
timbral and temporal filters, which have one input channel; here the former take a quarter as many, the latter two
thirds:

- *timbral*: a convolution over bands is a product of spectra (a DFT of length 96 is free of wrap-around where all bands
  of the filter lie within the input), a sum over the 7 frames, and an inverse DFT of the valid outputs alone. Outputs
  are numbered from their middle, -m and +m, so that both follow from one even and one odd part, and the larger of
  the two is even + |odd|: the maximum over bands needs no more.
- *temporal*: a filter's two halves and three blocks of outputs take four products instead of six: Toom and Cook's
  F(3, 2) with the points 0, 1, -1 and infinity (Winograd 1980, "Arithmetic complexity of computations"), which
  divides by nothing but 2.

ReLU and batch normalisation stand after the maximum: both are monotone. Where a scale is negative, the filter is
negated instead, and the maximum with it. Networks differ in scale and shift of their input, which go into their
filters, so all of them read the same spectra. All products have fixed shapes of one patch, in pieces that stay in the
caches: a patch's result depends on nothing else, to the bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from mer_ray.features.musicnn_network import (
    CONVOLUTIONS,
    N_BANDS,
    N_MIDDLE,
    N_PENULTIMATE,
    N_TAGS,
    N_TIMBRAL,
    PATCH_FRAMES,
    TAPS,
    TEMPORAL,
    TIMBRAL,
)

BINS = N_BANDS // 2 + 1
FRAMES, FILTERS = 17, 32  # of one piece of the timbral layer
CELLS = 4  # frames of one piece of the temporal layer
BLOCKS = 3  # blocks of outputs of F(3, 2)
PADDED = 192  # frames of the temporal layer's outputs: a multiple of three times 64, 32 and 16

Weights = Mapping[str, np.ndarray]


class Networks:
    """weights: for each network, arrays of `musicnn_network.shapes`."""

    def __init__(self, weights: Sequence[Weights]) -> None:
        self._timbral = Timbral(weights)
        self._temporal = [Temporal(weights, name) for name in TEMPORAL]
        self._rest = [_Rest(each) for each in weights]

    def __call__(self, patch: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(187, 96) float32 log-mel → penultimate (networks, 200) and tags (networks, 50), float32; NaN for NaN."""
        timbral = self._timbral(patch)
        temporal = [layer(patch) for layer in self._temporal]
        penultimate = np.empty((len(self._rest), N_PENULTIMATE), np.float32)
        tags = np.empty((len(self._rest), N_TAGS), np.float32)
        for i, rest in enumerate(self._rest):
            front = [part[:, i] for part in (*timbral, *temporal)]
            penultimate[i], tags[i] = rest(np.concatenate(front, axis=1))
        return penultimate, tags


class _Filters:
    """The layers of one name of all networks: their filters side by side, with what follows the maximum over bands.

    Attributes:
        kernel: (..., networks * filters) float64, of the input before its normalisation, negated where needed.
    """

    def __init__(self, weights: Sequence[Weights], name: str) -> None:
        def all_of(part: str) -> np.ndarray:
            return np.concatenate([np.asarray(w[f"{name}/{part}"], np.float64) for w in weights])

        kernels = [np.asarray(w[f"{name}/kernel"], np.float64) for w in weights]
        scale = all_of("scale")
        sign = np.where(scale < 0, -1.0, 1.0)
        scaled = [kernel * float(w["input/scale"][0]) for kernel, w in zip(kernels, weights, strict=True)]
        self.kernel = sign * np.concatenate(scaled, axis=-1)
        # What the input's shift adds: to all bands alike, and less where a filter reaches over the patch's ends.
        taps = np.concatenate(
            [
                kernel.reshape(len(kernel), -1, kernel.shape[-1]).sum(1) * float(w["input/shift"][0])
                for kernel, w in zip(kernels, weights, strict=True)
            ],
            axis=-1,
        )
        before = (len(taps) - 1) // 2
        sums = np.concatenate([np.zeros((1, taps.shape[1])), np.cumsum(taps, axis=0)])
        t = np.arange(PATCH_FRAMES)
        first, last = np.maximum(before - t, 0), np.minimum(before + PATCH_FRAMES - t, len(taps))
        self._bias = (sums[last] - sums[first] + all_of("bias")).astype(np.float32)
        self._scale, self._shift = scale.astype(np.float32), all_of("shift").astype(np.float32)
        self._sign = sign.astype(np.float32)
        self._networks = len(weights)

    def finished(self, largest: np.ndarray) -> np.ndarray:
        """(187, networks * filters) maxima over bands → (187, networks, filters): bias, ReLU, normalisation."""
        result = largest * self._sign
        result += self._bias
        np.maximum(result, 0, out=result)
        result *= self._scale
        result += self._shift
        return result.reshape(PATCH_FRAMES, self._networks, -1)


class Timbral:
    """The timbral layers of all networks."""

    def __init__(self, weights: Sequence[Weights]) -> None:
        self._layers = [_Filters(weights, name) for name in TIMBRAL]
        self._n = N_TIMBRAL * len(weights)
        self._padded = -(-self._n // FILTERS) * FILTERS
        self._spectral = [_spectral(layer.kernel, self._padded) for layer in self._layers]
        self._inverse = [_inverse(N_BANDS - bands + 1) for bands in TIMBRAL.values()]
        angles = 2 * np.pi * np.outer(np.arange(N_BANDS), np.arange(BINS)) / N_BANDS
        self._forward = np.stack([np.cos(angles), -np.sin(angles)]).swapaxes(1, 2).astype(np.float32)
        self._input = np.zeros((2, BINS, PATCH_FRAMES + TAPS - 1), np.float32)
        self._left = np.empty((BINS, PATCH_FRAMES, 2 * TAPS), np.float32)
        self._products = np.empty((2, BINS, FRAMES * FILTERS), np.float32)
        self._parts = [np.empty((2, inverse.shape[1], FRAMES * FILTERS), np.float32) for inverse in self._inverse]
        pieces = PATCH_FRAMES // FRAMES, self._padded // FILTERS
        self._largest = np.empty((*pieces, FRAMES * FILTERS), np.float32)

    def __call__(self, patch: np.ndarray) -> list[np.ndarray]:
        """(187, 96) → for each of `TIMBRAL`, (187, networks, 204)."""
        np.matmul(self._forward, patch.T, out=self._input[:, :, TAPS // 2 : TAPS // 2 + PATCH_FRAMES])
        windows = np.lib.stride_tricks.sliding_window_view(self._input, TAPS, axis=2)
        self._left[:, :, :TAPS], self._left[:, :, TAPS:] = windows
        result = []
        for layer, kernels, inverse, parts in zip(
            self._layers, self._spectral, self._inverse, self._parts, strict=True
        ):
            products = self._products.reshape(2, BINS, FRAMES, FILTERS)
            even, odd = parts
            for i, kernel in enumerate(kernels):
                for t in range(PATCH_FRAMES // FRAMES):
                    np.matmul(self._left[:, t * FRAMES : (t + 1) * FRAMES], kernel, out=products)
                    np.matmul(inverse, self._products, out=parts)
                    np.abs(odd, out=odd)
                    np.add(even, odd, out=even)
                    np.maximum.reduce(even, axis=0, out=self._largest[t, i])
            largest = self._largest.reshape(len(self._largest), -1, FRAMES, FILTERS).swapaxes(1, 2)
            result.append(layer.finished(largest.reshape(PATCH_FRAMES, self._padded)[:, : self._n]))
        return result


def _spectral(kernel: np.ndarray, padded: int) -> np.ndarray:
    """(7, bands, filters) → (pieces, 2, bins, 14, 32): factors of spectra whose sums are output spectra.

    The spectrum of outputs numbered from their middle, real and imaginary part. Its second half of bins follows from
    the first, so those count twice.
    """
    taps, bands, n = kernel.shape
    bins = np.arange(BINS)
    middle = (N_BANDS - bands) / 2
    weight = np.where((bins == 0) | (bins == BINS - 1), 1, 2) / N_BANDS
    turned = np.exp(2j * np.pi * np.outer(bins, np.arange(bands) + middle) / N_BANDS) * weight[:, None]
    spectrum = np.einsum("kb,tbf->ktf", turned, kernel)
    real, imaginary = spectrum.real, spectrum.imag
    both = np.zeros((2, BINS, 2 * taps, padded))
    both[..., :n] = np.stack([np.concatenate([real, -imaginary], 1), np.concatenate([imaginary, real], 1)])
    return np.ascontiguousarray(np.moveaxis(both.reshape(2, BINS, 2 * taps, -1, FILTERS), 3, 0), np.float32)


def _inverse(valid: int) -> np.ndarray:
    """(2, (valid + 1) // 2, bins): cosines and sines at the valid outputs in and above their middle."""
    outputs = np.arange((valid + 1) // 2) + (0 if valid % 2 else 0.5)
    angles = 2 * np.pi * np.outer(outputs, np.arange(BINS)) / N_BANDS
    return np.stack([np.cos(angles), np.sin(angles)]).astype(np.float32)


class Temporal:
    """A temporal layer of all networks. name: of `TEMPORAL`."""

    def __init__(self, weights: Sequence[Weights], name: str) -> None:
        self._layer = _Filters(weights, name)
        kernel = self._layer.kernel
        frames, self._n = kernel.shape
        self._half = half = frames // 2
        self._before = (frames - 1) // 2
        first, second = kernel[:half], kernel[half:]
        products = [first, (first + second) / 2, second, (first - second) / 2]
        self._kernel = np.stack(products)[:, None].astype(np.float32)  # (4, 1, half, filters)
        self._input = np.zeros((PADDED + frames, N_BANDS), np.float32)
        self._combined = np.empty((4, 2 * half, N_BANDS), np.float32)
        self._products = np.empty((4, CELLS, N_BANDS, self._n), np.float32)
        self._sum = np.empty(self._products.shape[1:], np.float32)
        self._largest = np.empty((PADDED, self._n), np.float32)

    def __call__(self, patch: np.ndarray) -> np.ndarray:
        """(187, 96) → (187, networks, 51)."""
        half, products = self._half, self._products
        self._input[self._before : self._before + PATCH_FRAMES] = patch
        # (4, half + 1, bands, half): the frames that each product of each output reads.
        windows = np.lib.stride_tricks.sliding_window_view(self._combined, half, axis=1)
        for start in range(0, PADDED, BLOCKS * half):
            x0, x1, x2, x3 = (self._input[start + i * half : start + (i + 2) * half] for i in range(4))
            np.subtract(x0, x2, out=self._combined[0])
            np.add(x1, x2, out=self._combined[1])
            np.subtract(x3, x1, out=self._combined[2])
            np.subtract(x2, x1, out=self._combined[3])
            largest = self._largest[start : start + BLOCKS * half].reshape(BLOCKS, half, self._n)
            for t in range(0, half, CELLS):
                np.matmul(windows[:, t : t + CELLS], self._kernel, out=products)
                np.add(products[1], products[3], out=self._sum)
                np.subtract(products[1], products[3], out=products[1])
                products[0] += self._sum
                products[2] += self._sum
                np.maximum.reduce(products[:BLOCKS], axis=2, out=largest[:, t : t + CELLS])
        return self._layer.finished(self._largest[:PATCH_FRAMES])


class _Rest:
    """One network after its filters: convolutions, pooling and dense layers."""

    def __init__(self, weights: Weights) -> None:
        self._weights = weights
        # All taps side by side: (channels, 7 * 64).
        self._kernels = [
            np.ascontiguousarray(weights[f"{name}/kernel"].swapaxes(0, 1), np.float32).reshape(-1, TAPS * N_MIDDLE)
            for name in CONVOLUTIONS
        ]

    def __call__(self, front: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(187, 561) → (200,) and (50,)."""
        weights = self._weights
        first = self._convolved(front, 0)
        second = self._convolved(first, 1) + first
        third = self._convolved(second, 2) + second
        channels = np.concatenate([front, first, second, third], axis=1)
        pooled = np.stack([channels.max(0), channels.mean(0)], axis=1).reshape(-1)
        pooled = pooled * weights["pooled/scale"] + weights["pooled/shift"]
        dense = np.maximum(pooled @ weights["penultimate/kernel"] + weights["penultimate/bias"], 0)
        penultimate = dense * weights["penultimate/scale"] + weights["penultimate/shift"]
        logits = penultimate @ weights["tags/kernel"] + weights["tags/bias"]
        return penultimate, 1 / (1 + np.exp(-logits))

    def _convolved(self, channels: np.ndarray, layer: int) -> np.ndarray:
        """(187, channels) → (187, 64): convolution over 7 frames, ReLU, normalisation."""
        name = CONVOLUTIONS[layer]
        taps = (channels @ self._kernels[layer]).reshape(PATCH_FRAMES, TAPS, N_MIDDLE)
        total = np.zeros((PATCH_FRAMES + TAPS - 1, N_MIDDLE), np.float32)
        for tap in range(TAPS):
            total[TAPS - 1 - tap : TAPS - 1 - tap + PATCH_FRAMES] += taps[:, tap]
        result = total[TAPS // 2 : TAPS // 2 + PATCH_FRAMES] + self._weights[f"{name}/bias"]
        np.maximum(result, 0, out=result)
        result *= self._weights[f"{name}/scale"]
        result += self._weights[f"{name}/shift"]
        return result
