"""What a run of a stage has done, and what of it was lost."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from mer_ray.io.advice import of_environment


@dataclass
class Totals:
    """What a run of a stage has done.

    Attributes:
        rows: That have ended, well or not.
        made: With a result.
        lost: Failures by reason.
        by_node: The same for each machine, by address.
        seconds: Of audio.
        cpu_s: CPU-seconds of the workers and their decoders.
        wall_s: From the first block's beginning, and before that (``start_s``).
        aside: Why machines were set aside, by address.
    """

    rows: int = 0
    made: int = 0
    lost: Counter[str] = field(default_factory=Counter)
    by_node: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    seconds: float = 0.0
    cpu_s: float = 0.0
    wall_s: float = 0.0
    start_s: float = 0.0
    aside: dict[str, str] = field(default_factory=dict)

    def notes(self) -> list[str]:
        """Lines for the stage's summary."""
        lines = []
        if self.seconds:
            speed = self.seconds / max(1e-3, self.wall_s)
            cost = f"{self.cpu_s:.1f} CPU-s" if self.cpu_s < 600 else f"{self.cpu_s / 3600:.2f} CPU-h"
            lines.append(
                f"{self.seconds / 3600:.2f} h of audio in {self.wall_s:.1f} s ({speed:.0f}x real time), "
                f"{self.start_s:.1f} s after the start, {cost}"
            )
        lines += [f"node {address} was set aside: {why}" for address, why in self.aside.items()]
        if self.lost:
            lines.append(f"failed: {_counted(self.lost)}")
        if len(self.by_node) > 1:
            lines += [f"failed on {address}: {_counted(c)}" for address, c in sorted(self.by_node.items()) if c]
        return lines


def lost(reasons: Mapping[str, int], done: int, most: float) -> str:
    """What was lost of a catalog for reasons beside the files themselves, if it is more than a share of it; else "".

    By what is in the tables, so that the same command says the same when it is repeated.

    Args:
        reasons: How many tracks failed for each.
        done: Tracks with a result.
        most: The share that is allowed, 0 to 1.
    """
    found = Counter({reason: n for reason, n in reasons.items() if of_environment(reason)})
    total = done + sum(reasons.values())
    if not total or found.total() / total <= most:
        return ""
    return f"{found.total():,} of {total:,} tracks could not be worked on ({_counted(found)})"


def _counted(reasons: Counter[str]) -> str:
    return ", ".join(f"{n:,} {reason}" for reason, n in reasons.most_common())
