"""The demo's music: a cue at ``demo:SEED/INDEX/SECONDS`` is composed and rendered, so that every stage runs offline.

A seed and an index give a cue its hidden valence, arousal and dominance (`affect`). They are mapped, by
results of music psychology (`style`, with its sources), to a score (`composition`), rendered to samples (`synth`).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mer_ray.audio.providers.demo import composition, style, synth
from mer_ray.audio.providers.demo.affect import CUES_PER_COMPOSER, affect, stream
from mer_ray.errors import TrackError

_URI = re.compile(r"demo:(-?\d{1,40})/(\d{1,18})/(\d+(?:\.\d+)?)")
_SECONDS = (0.1, 3600.0)
_OVERLAP_S = 1.0  # in which a section fades out


def render(uri: str) -> tuple[np.ndarray, int]:
    """Render a cue; the same uri gives the same samples.

    Returns:
        (mono float32 samples of shape (n,), |x| < 1; their rate in Hz)

    Raises:
        TrackError: The uri is not ``demo:SEED/INDEX/SECONDS``.
    """
    seed, index, seconds = _parse(uri)
    manner = planted(uri)
    notes = composition.compose(manner, seconds, stream(seed, index, "score"))
    return synth.perform(notes, manner, seconds, stream(seed, index, "synth")), synth.RATE


def planted(uri: str) -> style.Style:
    """The style of a cue: its tempo, tonic, mode and what else `render` plays. Raises TrackError as `render` does."""
    seed, index, _ = _parse(uri)
    lead = synth.LEADS[stream(seed, index // CUES_PER_COMPOSER, "lead").integers(len(synth.LEADS))]
    return style.choose(affect(seed, index), lead, stream(seed, index, "style"))


def render_sections(
    sections: Sequence[tuple[tuple[float, float, float], float]], seed: int, index: int
) -> tuple[np.ndarray, int]:
    """Render a song whose affect changes: sections of ((valence, arousal, dominance), seconds), one after the other.

    Its sections share key, metre and lead, and what else is drawn for the style of the cue ``index``; each fades out
    under the next one. The same arguments give the same samples, as of `render`.
    """
    lead = synth.LEADS[stream(seed, index // CUES_PER_COMPOSER, "lead").integers(len(synth.LEADS))]
    ends = np.rint(np.cumsum([0.0, *(seconds for _, seconds in sections)]) * synth.RATE).astype(int)
    out = np.zeros(ends[-1] + round(_OVERLAP_S * synth.RATE) + 1, np.float32)
    for number, ((own, seconds), start) in enumerate(zip(sections, ends[:-1], strict=True)):
        manner = style.choose(own, lead, stream(seed, index, "style"))
        notes = composition.compose(manner, seconds, stream(seed, index, f"score {number}"))
        played = synth.perform(notes, manner, seconds + _OVERLAP_S, stream(seed, index, f"synth {number}"))
        out[start : start + len(played)] += played
    return np.clip(out[: ends[-1]], -1, 1), synth.RATE


def fetch(uri: str, path: Path) -> None:
    """Write a cue to ``path`` as 16-bit FLAC. Raises TrackError as `render` does."""
    samples, rate = render(uri)
    import soundfile

    soundfile.write(path, samples, rate, format="FLAC", subtype="PCM_16")


def _parse(uri: str) -> tuple[int, int, float]:
    match = _URI.fullmatch(uri)
    if match is None:
        raise TrackError("no_audio", f"{uri!r} is no demo cue; one is demo:SEED/INDEX/SECONDS, as in demo:7/0/20")
    seconds = float(match[3])
    if not _SECONDS[0] <= seconds <= _SECONDS[1]:
        shortest, longest = _SECONDS
        raise TrackError("no_audio", f"{uri!r} is to last {seconds:g} s; {shortest:g} to {longest:g} s are possible")
    return int(match[1]), int(match[2]), seconds
