"""How foreign functions cut their frames: measured on functions whose rules are known, and run in pieces."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_ray.errors import ModelError
from mer_ray.features.framing import Framing, Pieces, measure, noise

RATE = 2_000  # low: a measurement is some hundred runs
Function = Callable[[np.ndarray], np.ndarray]


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


def above_a_floor(samples: np.ndarray) -> np.ndarray:
    """Decibels, no more than 60 below the loudest frame."""
    levels = 20 * np.log10(cut(samples, 500, 200)[:, 1:2] + 1e-9)
    return np.maximum(levels, levels.max() - 60)


def in_threes(samples: np.ndarray) -> np.ndarray:
    """As YAMNet's spectrogram: the audio is padded so that the number of frames is one of 3, 6, 9, ..."""
    return cut(np.pad(samples, (0, 400 + 600 * -(-samples.size // 600) - samples.size)), 600, 200)


def remembering(samples: np.ndarray) -> np.ndarray:
    return np.cumsum(cut(samples, 500, 200), axis=0)


@pytest.mark.parametrize(
    ("function", "framing"),
    [
        (plain(500, 200), Framing(4, 200, 0, 2, 500)),
        (plain(200, 200), Framing(4, 200, 0, 0, 200)),
        (plain(100, 300), Framing(4, 300, 0, 0, 100)),
        (padded(975, 480), Framing(4, 480, 0, 2, 1)),
        (centred(512, 128), Framing(4, 128, 2, 1, 257)),
        (plain(9_000, 4_000), Framing(4, 4_000, 0, 2, 9_000)),  # too few frames of the short probe
        (by_its_peak, Framing(4, 200, None, 0, 500)),
        (above_a_floor, Framing(1, 200, None, 0, 500)),
        (in_threes, Framing(4, 200, None, 0, 1)),
        (remembering, Framing(4, 200, None, 0, 500)),
        (lambda samples: cut(samples, 500, 200).mean(0)[None], None),
    ],
)
def test_what_is_measured(function: Function, framing: Framing | None) -> None:
    def run(samples: np.ndarray) -> np.ndarray:
        try:
            return function(samples)
        except ValueError as error:
            raise ModelError("too short") from error

    assert measure(run, RATE) == framing


def test_a_hop_that_is_no_whole_number_of_samples_is_found() -> None:
    def run(samples: np.ndarray) -> np.ndarray:  # at another rate inside
        slower = np.interp(np.arange(0, samples.size, 1.5), np.arange(samples.size), samples)
        return plain(400, 101)(slower)

    found = measure(run, RATE)
    assert found is not None
    assert found.hop == pytest.approx(101 * 1.5, abs=0.1)
    assert found.left is None


@pytest.mark.parametrize(
    ("function", "reason"),
    [
        (lambda s: cut(s, 500, 200) * np.nan, "not finite"),
        (lambda s: cut(s, 500, 200) + np.random.default_rng().normal(), "other frames of the same audio"),
        (lambda s: s[None], "width depends on the length"),
        (lambda s: s[:3, None], "only 3 frames of 60 s"),
        (lambda s: np.resize(s, (100, 2)), "makes 100 frames, however long"),
    ],
)
def test_what_makes_no_frames_is_refused(function: Function, reason: str) -> None:
    with pytest.raises(ModelError, match=reason):
        measure(function, RATE)


FUNCTIONS = [
    (plain(500, 200), Framing(4, 200, 0, 2, 500)),
    (padded(975, 480), Framing(4, 480, 0, 2)),
    (centred(512, 128), Framing(4, 128, 2, 1, 257)),
    (by_its_peak, Framing(4, 200, None, 0, 500)),
]


@pytest.mark.parametrize(("function", "framing"), FUNCTIONS)
@given(n=st.integers(1, 12_000), k=st.integers(1, 9), cuts=st.lists(st.integers(0, 12_000), max_size=6))
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
    whole = function(audio) if n >= framing.shortest else np.zeros((0, framing.n_dims))
    np.testing.assert_array_equal(frames, whole.astype(np.float32))


def test_no_run_grows_with_the_audio() -> None:
    sizes = []

    def run(samples: np.ndarray) -> np.ndarray:
        sizes.append(samples.size)
        return centred(512, 128)(samples)

    pieces = Pieces(run, Framing(4, 128, 2, 1, 257), 10)
    for _ in range(100):
        pieces.push(noise(1_000))
    assert len(pieces.finish()) == 1 + 100_000 // 128
    assert max(sizes) <= (2 + 10 + 1 + 1) * 128
    assert min(sizes) >= (2 + 1 + 1) * 128  # never on a sliver
