"""Simulated listeners' tags of a cue: mood words near its affect, and words without mood.

The words are in ``labels/data/demo_lexicon.txt``: own ratings, not for research. They were rated by reasoning on the
circumplex (Russell, "A circumplex model of affect", Journal of Personality and Social Psychology 39 (1980),
1161-1178) with dominance as third axis, and come from no published lexicon. Weights are like Last.fm's counts:
1..100, with the heaviest tag at 100.
"""

from __future__ import annotations

from functools import lru_cache
from importlib.resources import files

import numpy as np

_MOODS = (4, 9)  # fewest and most mood words on a cue
_NEAR = 0.16  # VAD distance beyond which a word is much rarer
_NOISE = 0.5  # SD of a count's logarithm
_PLAIN = {
    "soundtrack": 0.9,
    "instrumental": 0.6,
    "score": 0.4,
    "composers": 0.25,
    "seen live": 0.15,
    "2010s": 0.3,
    "favourites": 0.2,
    "orchestral": 0.3,
}  # words without mood, not in the lexicon; with the share of cues that have each


@lru_cache(maxsize=1)
def _words() -> tuple[list[str], np.ndarray]:
    """The lexicon: n words, and their (n, 3) valence, arousal, dominance in 0..1."""
    text = files("mer_ray.labels").joinpath("data", "demo_lexicon.txt").read_text(encoding="utf-8")
    rows = [line.split("\t") for line in text.splitlines()[1:]]
    return [row[0] for row in rows], np.array([row[1:] for row in rows], dtype=float)


def draw(affect: tuple[float, float, float], rng: np.random.Generator) -> tuple[tuple[str, float], ...]:
    """(tag, weight) pairs for an affect in 0..1, heaviest first; weights are whole numbers in 1..100."""
    words, vad = _words()
    distance = np.linalg.norm(vad - np.array(affect), axis=1)
    likelihood = np.exp(-0.5 * (distance / _NEAR) ** 2)
    # A floor allows occasional unrelated tags, and gives every word a positive probability.
    likelihood = likelihood / likelihood.sum() + 2e-4
    likelihood /= likelihood.sum()
    count = int(rng.integers(_MOODS[0], _MOODS[1] + 1))
    picked = rng.choice(len(words), size=count, replace=False, p=likelihood)
    weight = np.exp(-0.5 * (distance[picked] / (2 * _NEAR)) ** 2 + rng.normal(0, _NOISE, count))
    tags = {words[i]: float(w) for i, w in zip(picked, weight, strict=True)}
    tags |= {tag: float(np.exp(rng.normal(0, _NOISE))) for tag, share in _PLAIN.items() if rng.random() < share}
    heaviest = max(tags.values())
    counts = {tag: float(max(1, round(100 * w / heaviest))) for tag, w in tags.items()}
    return tuple(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
