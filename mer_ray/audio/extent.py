"""How much audio a file should hold, how much of it could be decoded, and when that is too little: the one policy."""

from __future__ import annotations

from dataclasses import dataclass

from mer_ray.audio.containers import Survey
from mer_ray.audio.reader import SLACK_S, Reader
from mer_ray.errors import TrackError

MISSING_SHARE, MISSING_S = 0.02, 0.5
"""A file is truncated if it lacks more than this share of what it announces, and more than so many seconds: of a long
one, a few damaged frames do no harm; of a short one, no more than that is what encoders pad. Where bytes are announced,
there is no such doubt, and the share alone decides."""

ABSURD = 1_000
"""So many times what is there, nobody announces who knows."""

KEEP = "--allow-partial keeps what is there"


@dataclass(frozen=True)
class Extent:
    """What a file says of its length. announced_s: seconds; None where it does not say. bytes_share: of the bytes that
    it announces, those that are there. broken: why its end is missing, of which it does not say how long it is.
    counted_s: seconds that its structure holds, where counting tells. lost_s: in packets that could not be decoded.
    failed: what ended the decoding.
    """

    announced_s: float | None = None
    bytes_share: float | None = None
    broken: str = ""
    counted_s: float | None = None
    lost_s: float = 0.0
    failed: str = ""

    @classmethod
    def of(cls, survey: Survey, reader: Reader) -> Extent:
        """As the structure has it, and as the reader knows by now."""
        announced_s = survey.announced_s or reader.announced_s
        if announced_s is None and survey.kind == "flac" and reader.quick_seek and reader.frames:
            announced_s = reader.frames / reader.rate
        failed = str(reader.failed) if reader.failed else ""
        return cls(announced_s, survey.share, survey.broken, survey.counted_s, reader.lost_s, failed)

    @property
    def is_whole(self) -> bool:
        """Whether nothing in the structure speaks against it."""
        enough = self.counted_s is None or self.missing_s(self.counted_s) < SLACK_S
        return not self.broken and (self.bytes_share or 1.0) >= 1 and enough

    def missing_s(self, decoded_s: float) -> float:
        """Seconds that should be there, and of which nothing came out."""
        return max(0.0, (self._should_s(decoded_s) or 0.0) - decoded_s)

    def share(self, decoded_s: float) -> float | None:
        """Of what should be there, how much could be decoded, in 0..1; None where nobody knows."""
        should_s = self._should_s(decoded_s)
        if self.broken or should_s is None:
            return None
        return round(decoded_s / should_s, 6) if self.missing_s(decoded_s) > SLACK_S or self._cut else 1.0

    @property
    def _cut(self) -> bool:
        return self.bytes_share is not None and self.bytes_share < 1

    def _should_s(self, decoded_s: float) -> float | None:
        found_s = decoded_s + self.lost_s
        if self.announced_s is not None and (self.announced_s > found_s + SLACK_S or not self.bytes_share):
            return max(self.announced_s, found_s if self.lost_s else 0.0)
        if self.bytes_share:  # a header that was written anew when the file was cut knows of nothing
            return found_s / self.bytes_share
        return found_s if self.lost_s else None

    def judge_structure(self, name: str, allow_partial: bool) -> None:
        """Raises TrackError (truncated) where the structure alone says that too much is missing."""
        if self.broken and not allow_partial:
            raise TrackError("truncated", f"{name} breaks off: {self.broken}; {KEEP}")
        if self.counted_s is not None:
            self.judge(name, self.counted_s, allow_partial)

    def judge(self, name: str, decoded_s: float, allow_partial: bool) -> None:
        """Raises TrackError (truncated; corrupt) where less could be decoded than `MISSING_SHARE` and `MISSING_S` let
        pass."""
        should_s = self._should_s(decoded_s)
        if should_s is None:
            if self.failed and not allow_partial:
                raise TrackError("corrupt", f"{name} cannot be decoded to its end ({self.failed}); {KEEP}")
            return
        missing_s = self.missing_s(decoded_s)
        found = f"{decoded_s:,.2f} of {should_s:,.2f} s"
        if decoded_s * ABSURD < should_s and missing_s > MISSING_S:
            raise TrackError("corrupt", f"{name} makes no sense: {found} that it announces are there")
        tolerated_s = max(MISSING_SHARE * should_s, 0.0 if self._cut else MISSING_S)
        if missing_s > tolerated_s and not allow_partial:
            raise TrackError(
                "truncated", f"{name} breaks off or is damaged: {found} that it announces are there; {KEEP}"
            )
