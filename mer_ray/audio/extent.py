"""The policy on incomplete files: how much is announced, how much was decoded, and whether that is enough."""

from __future__ import annotations

from dataclasses import dataclass

from mer_ray.audio.containers import Survey
from mer_ray.audio.reader import SLACK_S, Reader
from mer_ray.errors import TrackError

MISSING_SHARE, MISSING_S = 0.02, 0.5
"""A file is truncated if it lacks more than this share of what it announces, and more than so many seconds: some
damaged frames of a long file do no harm, and in a short one encoders' padding may be missing. For announced bytes, the
share alone decides."""

ABSURD = 1_000
"""Announced lengths beyond so many times the present one are wrong."""

KEEP = "--allow-partial keeps what is there"


@dataclass(frozen=True)
class Extent:
    """The announced and the decoded length of a file.

    Attributes:
        announced_s: Seconds; None if unknown.
        bytes_share: Present share of the announced bytes.
        broken: The reason why the end is missing, if the amount is unknown.
        counted_s: Seconds counted in its structure, if possible.
        undecoded_s: Seconds in packets that could not be decoded.
        failed: The error that ended the decoding.
    """

    announced_s: float | None = None
    bytes_share: float | None = None
    broken: str = ""
    counted_s: float | None = None
    undecoded_s: float = 0.0
    failed: str = ""

    @classmethod
    def of(cls, survey: Survey, reader: Reader) -> Extent:
        """From a file's structure and the reader's present state."""
        announced_s = survey.announced_s or reader.announced_s
        if announced_s is None and survey.kind == "flac" and reader.quick_seek and reader.frames:
            announced_s = reader.frames / reader.rate
        failed = str(reader.failed) if reader.failed else ""
        return cls(announced_s, survey.share, survey.broken, survey.counted_s, reader.undecoded_s, failed)

    @property
    def is_whole(self) -> bool:
        """Whether the structure is complete."""
        enough = self.counted_s is None or self.missing_s(self.counted_s) < SLACK_S
        return not self.broken and (self.bytes_share or 1.0) >= 1 and enough

    def missing_s(self, decoded_s: float) -> float:
        """Seconds that should have been decoded and were not."""
        return max(0.0, (self._should_s(decoded_s) or 0.0) - decoded_s)

    def share(self, decoded_s: float) -> float | None:
        """The decoded share of the audio that should be present, in 0..1; None if unknown."""
        should_s = self._should_s(decoded_s)
        if self.broken or should_s is None:
            return None
        return round(decoded_s / should_s, 6) if self.missing_s(decoded_s) > SLACK_S or self._cut else 1.0

    @property
    def _cut(self) -> bool:
        return self.bytes_share is not None and self.bytes_share < 1

    def _should_s(self, decoded_s: float) -> float | None:
        found_s = decoded_s + self.undecoded_s
        if self.announced_s is not None and (self.announced_s > found_s + SLACK_S or not self.bytes_share):
            return max(self.announced_s, found_s if self.undecoded_s else 0.0)
        if self.bytes_share:  # the header may have been rewritten when the file was cut
            return found_s / self.bytes_share
        return found_s if self.undecoded_s else None

    def judge_structure(self, name: str, allow_partial: bool) -> None:
        """Raises TrackError (truncated) where the structure alone shows that too much is missing."""
        if self.broken and not allow_partial:
            raise TrackError("truncated", f"{name} breaks off: {self.broken}; {KEEP}")
        if self.counted_s is not None:
            self.judge(name, self.counted_s, allow_partial)

    def judge(self, name: str, decoded_s: float, allow_partial: bool) -> None:
        """Raises TrackError (truncated; corrupt) where more than `MISSING_SHARE` and `MISSING_S` is missing."""
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
