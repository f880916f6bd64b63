"""Batches of random windows, from the device and from the host."""

from __future__ import annotations

import numpy as np
import pytest

from mer_ray.training import feed as feed_module
from mer_ray.training.feed import Feed
from mer_ray.training.placement import Placement

LENGTHS = [3, 8, 5, 40, 1]
WINDOW = 6


def numbered() -> list[np.ndarray]:
    """Tracks whose frames (n, 2) say which track and which frame they are; no frame is zeros."""
    return [np.stack([np.full(n, 100 + i), np.arange(n) + 1], axis=1).astype(np.float32) for i, n in enumerate(LENGTHS)]


def batches(feed: Feed, count: int = 40) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    rng, order = np.random.default_rng(1), np.random.default_rng(2)
    found = []
    for _ in range(count):
        rows = order.integers(0, len(LENGTHS), 4)
        x, mask = feed.cut(rows, rng)
        found.append((rows, np.asarray(x), np.asarray(mask)))
    return found


def test_a_window_is_a_stretch_of_its_own_track_and_zeros():
    for rows, x, mask in batches(Feed(numbered(), WINDOW, Placement.single())):
        assert x.shape == (4, WINDOW, 2)
        for row, frames, there in zip(rows, x, mask, strict=True):
            n = min(LENGTHS[row], WINDOW)
            assert there.tolist() == [1] * n + [0] * (WINDOW - n)
            assert (frames[:n, 0] == 100 + row).all()
            assert (np.diff(frames[:n, 1]) == 1).all()
            assert not frames[n:].any()


def test_every_window_of_a_track_comes_up():
    feed, rng = Feed(numbered(), WINDOW, Placement.single()), np.random.default_rng(0)
    x, _ = feed.cut(np.full(600, 3), rng)
    assert sorted(set(np.asarray(x)[:, 0, 1])) == [*range(1, 40 - WINDOW + 2)]


def test_frames_on_the_device_and_on_the_host_give_the_same_batches(monkeypatch):
    def halved(frames):
        return frames / 2

    resident = Feed(numbered(), WINDOW, Placement.single(), halved)
    assert resident.tracks is None
    monkeypatch.setattr(feed_module, "RESIDENT_BYTES", 0)
    on_host = Feed(numbered(), WINDOW, Placement.single(), halved)
    assert on_host.tracks is not None
    for here, there in zip(batches(resident), batches(on_host), strict=True):
        for a, b in zip(here, there, strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("resident", [6 * 2**30, 0], ids=["device", "host"])
def test_frames_are_scaled_once(monkeypatch, resident):
    monkeypatch.setattr(feed_module, "RESIDENT_BYTES", resident)
    tracks = numbered()
    feed = Feed(tracks, WINDOW, Placement.single(), lambda frames: frames + 1)
    x, mask = feed.cut(np.array([1, 0]), np.random.default_rng(0))
    assert set(np.asarray(x)[0, :, 0]) == {102.0}
    assert np.asarray(x)[1, :, 1].tolist() == [2, 3, 4, 0, 0, 0]
    assert np.asarray(mask)[1].sum() == 3
    assert np.array_equal(tracks[0], numbered()[0])
