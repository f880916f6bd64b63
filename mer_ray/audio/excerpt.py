"""The part of a track that is used."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Position = Literal["start", "centre", "spread"]


@dataclass(frozen=True)
class Excerpt:
    """``seconds`` of each track, in ``windows`` pieces of equal length.

    place: one piece at the start, one in the centre, or ``windows`` pieces spread evenly: the i-th of n is centred at
    (i + 1/2) / n of the track. A track that is no longer than ``seconds`` is used whole, as one piece.
    """

    seconds: float
    place: Position = "centre"
    windows: int = 1

    def pieces(self, n_samples: int, rate_hz: int) -> list[tuple[int, int]]:
        """(first sample, number of samples) of each piece of a track of ``n_samples``, in order, without overlap."""
        wanted = round(self.seconds * rate_hz)
        if n_samples <= wanted:
            return [(0, n_samples)]
        if self.place == "start":
            return [(0, wanted)]
        n = self.windows if self.place == "spread" else 1
        length = max(1, wanted // n)
        return [(round((2 * i + 1) * n_samples / (2 * n) - length / 2), length) for i in range(n)]

    def to_json(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, Any] | None) -> Excerpt | None:
        """The inverse of `to_json`; None stays None."""
        return None if value is None else cls(**value)
