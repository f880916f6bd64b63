"""Draws the hidden affect of each cue: valence, arousal, dominance.

The three dimensions are from Russell and Mehrabian, "Evidence for a three-factor theory of emotions", Journal of
Research in Personality 11 (1977), 273-294. Cues vary more around their composer's centre than the centres do, as
in film scores, so that the composer alone predicts little.
"""

from __future__ import annotations

import numpy as np

CUES_PER_COMPOSER = 4

# Dominance correlates slightly with the others: pleasant and active music sounds more in control.
_MIX = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.18, 0.15, 0.97]])
_COMPOSER_SHARE = 0.3  # of the variance
_SPREAD = 1.0  # of the logistic: SD of about 0.21 per dimension, with a small number of cues near 0 and 1


def stream(seed: int, index: int, purpose: str) -> np.random.Generator:
    """The random numbers for one purpose of one cue (or composer); any integer seed, also a negative one."""
    return np.random.default_rng([abs(seed), int(seed < 0), index, *purpose.encode()])


def affect(seed: int, index: int) -> tuple[float, float, float]:
    """Hidden (valence, arousal, dominance) of cue ``index``, each in 0..1 and about 0.21 apart from 0.5 (SD)."""
    centre = stream(seed, index // CUES_PER_COMPOSER, "composer").normal(size=3)
    own = stream(seed, index, "affect").normal(size=3)
    latent = _MIX @ (np.sqrt(_COMPOSER_SHARE) * centre + np.sqrt(1 - _COMPOSER_SHARE) * own)
    valence, arousal, dominance = 1 / (1 + np.exp(-_SPREAD * latent))
    return float(valence), float(arousal), float(dominance)
