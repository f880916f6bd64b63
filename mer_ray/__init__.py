"""mer-ray: valence, arousal and dominance of soundtracks, at catalog scale."""

from __future__ import annotations

__version__ = "0.1.0"
