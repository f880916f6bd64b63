"""Draws the hidden affect of each cue: valence, arousal, dominance.

The three dimensions are those of Russell and Mehrabian, "Evidence for a three-factor theory of emotions", Journal of
Research in Personality 11 (1977), 273-294. A composer has a centre, around which the cues vary more than composers vary
among themselves, as film scores do; so a model that only knows the composer learns little.
"""

from __future__ import annotations

import numpy as np

CUES_PER_COMPOSER = 4

# Dominance leans a little on the others: pleasant and active music sounds somewhat more in control.
_MIX = np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.18, 0.15, 0.97]])
_COMPOSER_SHARE = 0.3  # of the variance
_SPREAD = 1.0  # of the logistic: SD of about 0.21 per dimension, and few cues at the very ends


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
