"""How a function of a waveform cuts its frames, found out by trying it; and how to run it on audio of any length.

The function is a black box: (n,) float32 samples → (N, F) float32 frames. `measure` finds how far apart its frames are
and how much audio each of them depends on; `Pieces` then gives it a long audio in pieces that overlap so far that the
frames are those of the whole.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from mer_ray.errors import ModelError

Run = Callable[[np.ndarray], np.ndarray]

PROBES_S = (12.0, 60.0)  # the second for functions that make only a few frames of the first
ENOUGH = 8  # frames of a probe
SAME = 1e-5  # of the frames' largest value: what rounding does
ALIKE = 1e-3  # of the frames' SD: pieces may round in other ways than the whole


@dataclass(frozen=True)
class Framing:
    """n_dims: F. hop: samples between the starts of two frames.

    left, right: frame i follows from the samples [(i - left) * hop, (i + 1 + right) * hop) alone; left is None if it
    follows from the whole audio. shortest: the fewest samples that the function takes.
    """

    n_dims: int
    hop: float
    left: int | None = 0
    right: int = 0
    shortest: int = 1

    @property
    def reach(self) -> int:
        """Samples around a frame, its own hop among them, that it follows from; of those known."""
        return max(self.shortest, math.ceil(((self.left or 0) + 1 + self.right) * self.hop))


def measure(run: Run, rate_hz: int) -> Framing | None:
    """The framing of a function; None if it makes one vector, however long the audio is.

    Takes some 100 runs on 12 s of noise. Raises ModelError if it is not a function of that kind: widths that change,
    values that are not finite, other frames at each call, too few frames. Its message says what, not of which function.
    """
    counts, widths = [], set()
    for seconds in PROBES_S:
        probe = noise(round(seconds * rate_hz))
        whole = _checked(run(probe))
        counts.append(len(whole))
        widths.add(whole.shape[1])
        if len(widths) > 1:
            raise ModelError("makes frames whose width depends on the length of the audio")
        if len(whole) >= ENOUGH:
            break
    else:
        if counts[-1] == 1:
            return None
        raise ModelError(f"makes only {counts[-1]} frames of {PROBES_S[-1]:g} s, too few to find their hop")
    if not _close(run(probe), whole, SAME * np.abs(whole).max()):
        raise ModelError("makes other frames of the same audio at each call")
    n_dims = whole.shape[1]
    shortest = _first(1, probe.size, lambda n: _takes(run, probe[:n]))
    hop = _hop(run, probe, len(whole), shortest)
    local = _reach(run, probe, whole, int(hop)) if hop.is_integer() else None
    in_whole = Framing(n_dims, hop, None, 0, shortest)
    if local is None:
        return in_whole
    framing = Framing(n_dims, hop, *local, shortest)
    return framing if _holds(run, framing, max(3, local[0], len(whole) // 4), probe.size) else in_whole


def noise(n: int, seed: int = 0) -> np.ndarray:
    """(n,) float32 of white noise that swells from -100 to -10 dB, five times: normalisation by the whole shows."""
    envelope = 10 ** (-0.5 - 4.5 * np.abs(np.cos(np.linspace(0, 5 * np.pi, n))))
    samples: np.ndarray = np.random.default_rng(seed).uniform(-1, 1, n) * envelope
    return samples.astype(np.float32)


class Pieces:
    """One audio on its way through a function, in pieces of ``k`` frames and the audio around them.

    Where the pieces begin follows from the framing and ``k`` alone, so the frames do not depend on how the audio comes.
    """

    def __init__(self, run: Run, framing: Framing, k: int) -> None:
        self._run = run
        self._framing = framing
        self._k = max(k, (framing.left or 0) + 1)
        # How many of the frames of what is held are made already; the next ones still need its audio.
        self._lead = 0
        self._held: list[np.ndarray] = []
        self._size = 0
        self._total = 0
        self._frames: list[np.ndarray] = []

    @property
    def n_samples(self) -> int:
        """Samples pushed so far."""
        return self._total

    def push(self, samples: np.ndarray) -> None:
        """The next samples (n,), which are copied."""
        self._held.append(np.array(samples, np.float32))
        self._size += samples.size
        self._total += samples.size
        if self._framing.left is not None and self._size >= self._needed():
            self._work(self._framing.left)

    def finish(self) -> np.ndarray:
        """All frames, (N, F); none of audio that is too short for the function."""
        rest = np.concatenate([*self._held, np.zeros(0, np.float32)])
        self._held = []
        if self._total >= self._framing.shortest:
            self._frames.append(self._run(rest)[self._lead :])
        return np.concatenate([np.zeros((0, self._framing.n_dims), np.float32), *self._frames])

    def _needed(self) -> int:
        # One hop more than the piece itself: what is left then holds at least one frame, so that the last run is never
        # on a sliver, which a function would pad, or refuse, though it is not the audio's own end that it sees.
        return int((self._lead + self._k + 1 + self._framing.right) * self._framing.hop)

    def _work(self, left: int) -> None:
        audio = np.concatenate(self._held)
        hop, start = int(self._framing.hop), 0
        while audio.size - start >= self._needed():
            frames = self._run(audio[start : start + self._needed() - hop])
            end = self._lead + self._k
            if len(frames) < end:
                raise ModelError(f"made {len(frames)} frames of a piece that has {end}")
            self._frames.append(frames[self._lead : end])
            start += (end - left) * hop
            self._lead = left
        self._held = [audio[start:].copy()]
        self._size = audio.size - start


def _holds(run: Run, framing: Framing, k: int, at_least: int) -> bool:
    """Whether pieces of ``k`` frames make the frames of the whole, on audio of ``at_least`` so many samples."""
    hop, left = int(framing.hop), framing.left or 0
    several = max(at_least, 2 * (k + left + framing.right + 1) * hop)
    for n in (several, several - hop // 3):  # ends that do and do not fall on a hop
        audio = noise(n)
        whole = run(audio)
        pieces = Pieces(run, framing, k)
        pieces.push(audio)
        # The shift by one hop finds the functions that repeat only after several, which some k would hide.
        for found, wanted in ((pieces.finish(), whole), (run(audio[hop:])[left:], whole[left + 1 :])):
            if not _close(found, wanted, ALIKE * whole.std()):
                return False
    return True


def _checked(frames: np.ndarray) -> np.ndarray:
    if not np.isfinite(frames).all():
        raise ModelError("makes frames of noise that are not finite")
    return frames


def _takes(run: Run, samples: np.ndarray) -> bool:
    try:
        run(samples)
    except ModelError:
        return False
    return True


def _close(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    return a.shape == b.shape and bool(np.all(np.abs(a - b) <= tolerance))


def _first(low: int, high: int, holds: Callable[[int], bool]) -> int:
    """The smallest number in low..high for which it holds, if it holds from there on; high if it never does."""
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if holds(middle) else (middle + 1, high)
    return low


def _hop(run: Run, probe: np.ndarray, n_frames: int, shortest: int) -> float:
    """Samples between two frames: from the lengths at which more frames appear; some functions add several at once."""

    def needed(count: int) -> int:
        return _first(shortest, probe.size, lambda n: len(run(probe[:n])) >= count)

    first, last = needed(n_frames // 2), needed(n_frames)
    if first == last:
        raise ModelError(f"makes {n_frames} frames, however long the audio is")
    return (last - first) / (n_frames - len(run(probe[:first])))


def _reach(run: Run, probe: np.ndarray, whole: np.ndarray, hop: int) -> tuple[int, int] | None:
    """(left, right) of `Framing`, from which samples the middle frame notices; None if it notices the ends."""
    middle = len(whole) // 2
    other = np.random.default_rng(1).uniform(-1, 1, probe.size).astype(np.float32)  # as loud as can be, everywhere
    tolerance = SAME * np.abs(whole).max()

    def same(changed: np.ndarray) -> bool:
        return _close(run(changed)[middle], whole[middle], tolerance)

    def without_before(n: int) -> bool:
        return same(np.concatenate([other[:n], probe[n:]]))

    def without_after(n: int) -> bool:
        return same(np.concatenate([probe[:n], other[n:]]))

    if not without_before(hop) or not without_after(probe.size - hop):
        return None
    start = _first(0, probe.size, lambda n: not without_before(n)) - 1
    end = _first(0, probe.size, without_after)
    return max(0, middle - start // hop), max(0, -(-end // hop) - middle - 1)
