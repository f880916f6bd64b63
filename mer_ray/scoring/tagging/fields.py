"""mer-ray's fields in the tags of a file, by mutagen: ID3v2, Vorbis comments, MP4, APEv2, ASF.

``MER_RAY_VALENCE`` and the like, with a prefix of their own as neighbours have (Picard's ``ab:``, OneTagger's ``1T_``):
a plain VALENCE is already there in files tagged with Spotify's, which is another quantity. The mood word is also
written where players look for it: TMOO, MOOD, WM/MOOD (https://picard-docs.musicbrainz.org/en/appendices/tag_mapping.html).

Formats differ in how they name a field, so a *key* here is as in the file ("TXXX:MER_RAY_MOOD") and a *name* is not
("MER_RAY_MOOD").
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from mer_ray import extras
from mer_ray.audio.opened import shown
from mer_ray.errors import TrackError
from mer_ray.io.identity import one_line
from mer_ray.scoring.tagging import vorbis_comments

PREFIX = "MER_RAY_"
MOOD = "MOOD"
DECIMALS = 3
"""Of numbers in tags: always as many, so that players that compare them as text find the same."""
Values = dict[str, list[str] | None]
"""Key → its texts; None: there is no such field, or there shall be none."""

_ATOM = "----:com.apple.iTunes:"
_ID3V1 = 128  # bytes at a file's end
_FOOTER = 0x10  # a flag of ID3v2.4


def require() -> None:
    """Raises MissingExtra where mutagen is not installed."""
    extras.require("tag")


def number(value: float) -> str:
    """A number as it stands in a tag."""
    return f"{value:.{DECIMALS}f}"


class FileTags:
    """The tags of one file."""

    def __init__(self, path: Path) -> None:
        """Raises TrackError: unsupported format, or damaged tags."""
        self.path = path
        with _guarded(path):
            self._file = _opened(path)
        if self._file is None or (family := _family(self._file)) is None:
            raise TrackError("unsupported", f"{shown(path)}: no tags can be written into this format")
        self.family = family
        self.created = self._file.tags is None or (family == "ID3" and self._file.tags.version < (2,))
        """Whether there is no tag yet (an ID3v1 tag does not count: it has no room)."""
        if self._file.tags is None:
            self._file.add_tags()
        elif family == "Vorbis comment" and not vorbis_comments.are_exact(self._file, path):
            raise TrackError("unsafe", f"{shown(path)}: tags without a name, or that are not UTF-8, would change")

    def key(self, name: str) -> str:
        """The key under which a field is written."""
        if self.family == "ID3":
            # ID3v2.3 has no TMOO (https://id3.org/id3v2.4.0-changes).
            return "TMOO" if name == MOOD and self._version == 4 else f"TXXX:{name}"
        if self.family == "ASF" and name == MOOD:
            return "WM/Mood"
        if self.family == "APEv2":  # whose keys differ by more than case
            return next((key for key in self._keys() if key.upper() == name), name)
        return f"{_ATOM}{name}" if self.family == "MP4" else name

    def own(self) -> Values:
        """The fields that mer-ray reads and writes: its own and the mood, whoever wrote it."""
        with _guarded(self.path):
            return {key: self._get(key) for key in self._keys() if is_own(key)}

    def others(self) -> dict[str, str]:
        """All other fields, pictures included, as text that is equal if they are."""
        tags = self._file.tags
        if self.family == "Vorbis comment":
            kept = {k: repr(tags[k]) for k in self._keys() if not is_own(k)}
            pictures = getattr(self._file, "pictures", [])
            return kept | {f"picture {i}": repr(p.data) for i, p in enumerate(pictures)}
        if self.family == "ID3":
            from mer_ray.scoring.tagging import id3_frames

            return {name: repr(frame) for name, frame in id3_frames.named(tags).items()}
        return {k: repr(tags[k]) for k in self._keys() if not is_own(k)}

    def write(self, changes: Mapping[str, list[str] | None]) -> None:
        """Set or remove fields, and save into the file itself, where only tags change."""
        with _guarded(self.path):
            for key, values in sorted(changes.items(), key=lambda item: item[1] is not None):  # removals first
                self._set(key, values)
            self._save()

    def _save(self) -> None:
        if self.family == "ID3":
            with _covered(self.path) if _is_prefixed(self._file) else nullcontext():
                self._file.save(self.path, v2_version=self._version, v23_sep=None)
        else:
            with _without_id3v1(self.path) if self.family == "APEv2" else nullcontext():
                self._file.save()

    def remove(self) -> None:
        """Remove the tag as a whole; an ID3v1 tag stays."""
        with _guarded(self.path):
            if _is_prefixed(self._file):
                self._file.tags.delete(str(self.path), delete_v1=False)
            else:
                self._file.delete(str(self.path))

    @property
    def _version(self) -> int:
        return 4 if self.created or self._file.tags.version >= (2, 4) else 3

    def _keys(self) -> list[str]:
        tags = self._file.tags
        if self.family in ("Vorbis comment", "ASF"):
            return list(dict.fromkeys(k if self.family == "ASF" else k.upper() for k, _ in tags))
        return list(tags.keys())

    def _get(self, key: str) -> list[str]:
        values = self._file.tags[key]
        if self.family == "ID3":
            return [str(text) for text in values.text]
        if self.family == "MP4":
            return [bytes(value).decode("utf-8", "backslashreplace") for value in values]
        if self.family == "APEv2":
            return [str(value) for value in values] if values.kind == 0 else [repr(bytes(values.value))]
        return [str(value) for value in values]

    def _set(self, key: str, values: list[str] | None) -> None:
        tags = self._file.tags
        if values is None:
            if key in tags:
                del tags[key]
        elif self.family == "ID3":
            from mutagen import id3

            frame = {"encoding": 3 if self._version == 4 else 1, "text": values}
            description = key.removeprefix("TXXX:")
            tags.setall(key, [id3.TMOO(**frame) if key == "TMOO" else id3.TXXX(desc=description, **frame)])
        elif self.family == "MP4":
            from mutagen.mp4 import AtomDataType, MP4FreeForm

            tags[key] = [MP4FreeForm(value.encode(), AtomDataType.UTF8) for value in values]
        else:
            tags[key] = values


def changes(tags: FileTags, wanted: Mapping[str, str], replace_mood: bool = False) -> tuple[Values, bool]:
    """What to set and what to remove, so that the file says what is ``wanted`` and nothing older.

    Args:
        tags: The file's.
        wanted: Names without prefix (VALENCE, MODEL, ...) and values; MOOD goes to the players' field as well.
        replace_mood: Also replace a mood that mer-ray did not write.

    Returns:
        Changes by key, without those that change nothing; and whether somebody's own mood was kept.
    """
    before = tags.own()
    target: Values = {tags.key(PREFIX + name): [value] for name, value in wanted.items()}
    present = {key: values for key, values in before.items() if _name(key) == MOOD}
    mine = before.get(tags.key(PREFIX + MOOD))
    mood = [wanted[MOOD]] if MOOD in wanted else None
    kept = any(values not in (mine, mood) for values in present.values()) and not replace_mood
    if kept:
        target |= present
    elif mood is not None:
        target[tags.key(MOOD)] = mood
    keys = [*target, *(key for key in before if key not in target)]
    return {key: target.get(key) for key in keys if target.get(key) != before.get(key)}, kept


@contextmanager
def _guarded(path: Path) -> Iterator[None]:
    """Errors of mutagen as an OSError (of the disk) or a TrackError (of the tags)."""
    import mutagen

    try:
        yield
    except (OSError, TrackError):
        raise
    except mutagen.MutagenError as error:
        if isinstance(error.__context__, OSError):
            raise error.__context__ from error
        raise TrackError("damaged_tags", f"{shown(path)}: {one_line(str(error), 200)}") from error
    except Exception as error:  # files are hostile, and mutagen's parsers raise whatever comes
        raise TrackError("damaged_tags", f"{shown(path)}: {type(error).__name__} in its tags") from error


def _opened(path: Path) -> Any:
    import mutagen
    from mutagen import apev2, trueaudio

    file = mutagen.File(path)
    # FFmpeg, and players built on it, read no other tag of TTA with APEv2. An MP3 with APEv2 and no ID3v2 would hide
    # its title and the rest from most players, once it had an ID3v2 tag.
    if isinstance(file, trueaudio.TrueAudio) or (_is_prefixed(file) and (not file.tags or file.tags.version < (2,))):
        ape = apev2.APEv2File(path)
        if ape.tags is not None:
            return ape
    if file is None or _family(file) != "ID3":
        return file
    return _with_frames(type(file), path)


def _with_frames(kind: Any, path: Path) -> Any:
    """A file with ID3: frames as they are, neither translated to another version, nor completed from an ID3v1 tag."""
    from mer_ray.scoring.tagging import id3_frames

    with path.open("rb") as opened:
        start = opened.read(6)
    if start.startswith(b"ID3\4") and start[5] & _FOOTER:  # which mutagen takes for audio
        raise TrackError("unsafe", f"{shown(path)}: its ID3v2.4 tag ends with a footer")
    file = kind(path, translate=False, load_v1=False, known_frames=id3_frames.frames(is_own))
    if file.tags is None and _is_prefixed(file):
        file = kind(path)
        if file.tags is not None:
            for frame in file.tags.getall("COMM"):
                frame.desc = ""  # "ID3v1 Comment" is mutagen's; players show the comment without one
            id3_frames.converted(file.tags, 4, is_own)
    elif file.tags is not None and file.tags.version < (2, 3):  # which mutagen reads, but cannot write
        n_frames = len(file.tags.unknown_frames)
        file = kind(path, translate=False, load_v1=False)
        if len(file.tags) != n_frames:
            raise TrackError("unsafe", f"{shown(path)}: ID3v2.3 has not all that its tag of ID3v2.2 says")
        id3_frames.converted(file.tags, 3, is_own)
    elif file.tags is not None:
        id3_frames.settle(file.tags, file.tags.version[1])
    return file


def _is_prefixed(file: Any) -> bool:
    """Whether an ID3v2 tag stands before the audio, so that an ID3v1 tag may stand after it."""
    from mutagen import id3

    return isinstance(file, id3.ID3FileType)


@contextmanager
def _covered(path: Path) -> Iterator[None]:
    """What is at the file's end lies deeper for a while: mutagen replaces what looks like an ID3v1 tag there."""
    cover = bytes(2 * _ID3V1)
    with path.open("ab") as file:
        file.write(cover)
    yield
    os.truncate(path, path.stat().st_size - len(cover))


@contextmanager
def _without_id3v1(path: Path) -> Iterator[None]:
    """An ID3v1 tag is away for a while: mutagen removes what is behind an APEv2 tag, or writes behind it."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - _ID3V1))
        end = file.read()
    old = end if end.startswith(b"TAG") else b""
    os.truncate(path, path.stat().st_size - len(old))
    yield
    with path.open("ab") as file:
        file.write(old)


def _family(file: Any) -> str | None:
    """How the file names its fields: by the class of its tags; None if none can be written."""
    from mutagen import _vorbis, aiff, apev2, asf, dsdiff, dsf, id3, mp4, trueaudio, wave
    from mutagen.flac import FLAC

    if isinstance(file, id3.ID3FileType | wave.WAVE | aiff.AIFF | dsf.DSF | dsdiff.DSDIFF | trueaudio.TrueAudio):
        return "ID3"
    if isinstance(file, FLAC) or isinstance(file.tags, _vorbis.VComment):
        return "Vorbis comment"
    if isinstance(file, mp4.MP4):
        return "MP4"
    if isinstance(file, asf.ASF):
        return "ASF"
    return "APEv2" if isinstance(file, apev2.APEv2File) else None


def _name(key: str) -> str:
    name = key.removeprefix("TXXX:").removeprefix(_ATOM).upper()
    return MOOD if name in ("TMOO", "WM/MOOD") else name


def is_own(key: str) -> bool:
    """Whether mer-ray may write this field."""
    name = _name(key)
    return name == MOOD or name.startswith(PREFIX)
