"""Loudness and true peak of all channels of a file, measured while it is decoded.

Integrated loudness is that of EBU R 128 (2023) and ITU-R BS.1770-5: K-weighted energy of all channels, in 400 ms, gated
at -70 LUFS and at 10 LU below what is left. FFmpeg's filter ``ebur128`` measures it, in constant memory.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from mer_ray.audio.true_peak import TruePeak

LAYOUTS = {1: "mono", 2: "stereo", 3: "3.0", 4: "quad", 5: "5.0", 6: "5.1", 7: "6.1", 8: "7.1"}
"""FFmpeg's name of the order of so many channels in WAVE and FLAC (RFC 9639, 9.1.3)."""
VORBIS = {
    3: (0, 2, 1),
    5: (0, 2, 1, 3, 4),
    6: (0, 2, 1, 5, 3, 4),
    7: (0, 2, 1, 6, 5, 3, 4),
    8: (0, 2, 1, 7, 5, 6, 3, 4),
}
"""Where Vorbis has those channels (Vorbis I specification, 4.3.9)."""
GATE_LUFS = -70.0
LONG_ENOUGH_S = 0.4
"""Of one block of the measurement."""
RESULT = "lavfi.r128.I"


@dataclass(frozen=True)
class Loudness:
    """integrated: LUFS; None where nothing reaches the gate of -70 LUFS, or the audio is shorter than 400 ms.

    true_peak: dBTP, of the loudest channel; None in digital silence.
    """

    integrated: float | None
    true_peak: float | None


class Meter:
    """Measures samples that come in blocks.

    Args:
        rate_hz: Of the samples.
        channels: Their number.
        layout: FFmpeg's name of their order, or "vorbis"; "" for that of `LAYOUTS`. More channels than eight without a
            known order have no integrated loudness.
    """

    def __init__(self, rate_hz: int, channels: int, layout: str = "") -> None:
        self._rate, self._at, self._integrated = rate_hz, 0, -math.inf
        self._order = list(VORBIS.get(channels, ())) if layout == "vorbis" else []
        self._layout = layout if layout != "vorbis" and _fits(layout, channels) else LAYOUTS.get(channels)
        self._peak = TruePeak(rate_hz, channels)
        self._graph: Any = self._layout and _graph(rate_hz, self._layout, channels)

    def add(self, samples: np.ndarray) -> None:
        """The next samples (n, channels), float32, n > 0; they may be overwritten afterwards."""
        self._peak.add(samples)
        if self._graph:
            import av

            ordered = samples[:, self._order] if self._order else samples
            frame = av.AudioFrame.from_ndarray(ordered.reshape(1, -1), format="flt", layout=self._layout)
            frame.sample_rate, frame.pts, frame.time_base = self._rate, self._at, Fraction(1, self._rate)
            self._at += len(samples)
            self._graph.push(frame)
            self._pull()

    def pause(self) -> None:
        """What follows is of another place in the file."""
        self._peak.pause()

    def result(self) -> Loudness:
        """Of all samples; ends the measurement."""
        self._peak.pause()
        if self._graph:
            self._graph.push(None)
            self._pull()
        heard = self._at >= LONG_ENOUGH_S * self._rate and self._integrated > GATE_LUFS
        peak = self._peak.peak
        return Loudness(self._integrated if heard else None, 20 * math.log10(peak) if peak > 0 else None)

    def _pull(self) -> None:
        import av

        try:
            while True:
                found = self._graph.pull().metadata.get(RESULT)  # a last one, of less than 100 ms, has none
                self._integrated = self._integrated if found is None else float(found)
        except (av.BlockingIOError, av.EOFError):
            pass  # it waits for more samples, or there are none


def _fits(layout: str, channels: int) -> bool:
    import av

    try:
        return bool(av.AudioLayout(layout).nb_channels == channels)
    except ValueError:
        return False


def _graph(rate_hz: int, layout: str, channels: int) -> Any:
    import av

    graph = av.filter.Graph()
    source = graph.add_abuffer(sample_rate=rate_hz, format="flt", layout=layout, time_base=Fraction(1, rate_hz))
    last = graph.add("ebur128", "metadata=1:framelog=quiet")
    source.link_to(last)
    if channels > 2:  # PyAV crashes at some numbers of planes
        one = graph.add("aformat", "channel_layouts=mono")
        last.link_to(one)
        last = one
    last.link_to(graph.add("abuffersink"))
    graph.configure()
    return graph
