"""Foreign functions in pieces: the frames of the whole audio, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_ray.errors import ModelError
from mer_ray.features.framing import Framing, Pieces

Function = Callable[[np.ndarray], np.ndarray]


def noise(n: int) -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, n).astype(np.float32)


def cut(samples: np.ndarray, window: int, hop: int) -> np.ndarray:
    frames = np.lib.stride_tricks.sliding_window_view(samples, window)[::hop]
    return np.stack([frames.mean(1), frames.std(1), frames[:, 0], frames[:, -1]], axis=1)


def plain(window: int, hop: int) -> Function:
    """Whole windows; shorter audio is refused."""

    def run(samples: np.ndarray) -> np.ndarray:
        if samples.size < window:
            raise ModelError("too short")
        return cut(samples, window, hop)

    return run


def padded(window: int, hop: int) -> Function:
    """As YAMNet: zeros at the end, to one window at least and until the last sample is in one."""

    def run(samples: np.ndarray) -> np.ndarray:
        wanted = window + -(-max(0, samples.size - window) // hop) * hop
        return cut(np.pad(samples, (0, wanted - samples.size)), window, hop)

    return run


def centred(window: int, hop: int) -> Function:
    """As librosa: reflections at both ends."""

    def run(samples: np.ndarray) -> np.ndarray:
        if samples.size <= window // 2:
            raise ModelError("too short")
        return cut(np.pad(samples, window // 2, mode="reflect"), window, hop)

    return run


def by_its_peak(samples: np.ndarray) -> np.ndarray:
    return cut(samples / max(1e-9, np.abs(samples).max()), 500, 200)


FUNCTIONS = [
    (plain(500, 200), Framing(4, 200, 2)),
    (padded(975, 480), Framing(4, 480, 2)),
    (centred(512, 128), Framing(4, 128, 2)),
    (by_its_peak, Framing(4, 200, None)),
]


@pytest.mark.parametrize(("function", "framing"), FUNCTIONS)
@given(n=st.integers(500, 12_000), k=st.integers(1, 9), cuts=st.lists(st.integers(0, 12_000), max_size=6))
@settings(max_examples=100, deadline=None)
def test_pieces_make_the_frames_of_the_whole(
    function: Function, framing: Framing, n: int, k: int, cuts: list[int]
) -> None:
    audio = noise(n)
    pieces = Pieces(function, framing, k)
    for block in np.split(audio, sorted(c for c in cuts if c <= n)):
        mine = block.copy()
        pieces.push(mine)
        mine[:] = np.nan  # the caller's to write into
    frames = pieces.finish()
    assert frames.dtype == np.float32
    assert pieces.n_samples == n
    np.testing.assert_array_equal(frames, function(audio).astype(np.float32))


def test_what_is_too_short_for_the_function_is_its_error_and_nothing_is_no_frames() -> None:
    pieces = Pieces(plain(500, 200), Framing(4, 200, 2), 3)
    pieces.push(noise(499))
    with pytest.raises(ModelError, match="too short"):
        pieces.finish()
    assert Pieces(plain(500, 200), Framing(4, 200, 2), 3).finish().shape == (0, 4)


def test_no_run_grows_with_the_audio() -> None:
    sizes = []

    def run(samples: np.ndarray) -> np.ndarray:
        sizes.append(samples.size)
        return centred(512, 128)(samples)

    pieces = Pieces(run, Framing(4, 128, 2), 10)
    for _ in range(100):
        pieces.push(noise(1_000))
    assert len(pieces.finish()) == 1 + 100_000 // 128
    assert max(sizes) <= (2 + 10 + 2 + 1) * 128
    assert min(sizes) >= (2 + 1 + 1) * 128  # never on a sliver
