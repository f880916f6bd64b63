"""Tags that do not describe the sound or mood of music: listeners' habits, times, names of people and films."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from mer_ray.errors import ConfigError
from mer_ray.labels import lexicon
from mer_ray.labels.spelling import lemma, normal, spaced

_DATA = Path(__file__).parent / "data"
_LONGEST_NAME = 100
_LONGEST_SEARCHED = 300  # characters of untrusted text, which bounds the time of regular expressions
# The suffix of a film's name in the name of its soundtrack.
_SOUNDTRACK = re.compile(
    r"(?i)[\s:,\-–—(\[]*\b(?:the )?(?:original )?"
    r"(?:(?:motion picture|movie|film|game|television|tv|video ?game)\b[\s:]*)?"
    r"(?:(?:original )?(?:soundtrack|score|ost|o\.s\.t\.)\b|music (?:from|inspired by) ).*$"
)
_BRACKET = re.compile(r"\s*[(\[][^)\]]*[)\]]?\s*")
_FROM = re.compile(
    r"""(?i)[(\[\-–—]\s*(?:music )?from\s+(?:the\s+[\w ]{0,40}?\s*)?["“”'‘](.{1,100}?)["“”'’](?:[\s)\],]|$)"""
)
_KIND = re.compile(r"(?i)^the (?:(?:original )?motion picture|movie|film|game|(?:tv )?series) ")
_FROM_PLAIN = re.compile(r"""(?i)[(\[]\s*(?:music )?from\s+([^"“”()\[\]]{1,100})[)\]]""")


def entries(setting: str, values: Sequence[str]) -> tuple[str, ...]:
    """A list of terms from the settings. One that starts with @ names a text file: a term per line, # for comments.

    Raises ConfigError naming the setting and the file.
    """
    found: list[str] = []
    for value in values:
        if not value.startswith("@"):
            found.append(value)
            continue
        file = Path(value[1:]).expanduser()
        try:
            found += _lines(file.read_text(encoding="utf-8-sig"))
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(
                f"{setting}: the list {file} cannot be read ({' '.join(str(error).split())})",
                "give a UTF-8 text file with one term per line",
            ) from error
    return tuple(dict.fromkeys(found))


def _lines(text: str) -> list[str]:
    lines = (line.split("#", 1)[0].strip() for line in text.splitlines())
    return [line for line in lines if line]


def key(text: str) -> str:
    """The key by which tags and names are compared here: `spelling.normal`, with blanks for hyphens."""
    return spaced(normal(text))


@lru_cache(maxsize=1)
def habits() -> frozenset[str]:
    """Keys of tags about the listener: seen live, favourites, albums i own ..."""
    return frozenset(map(key, _lines((_DATA / "not_about_the_music.txt").read_text(encoding="utf-8"))))


@lru_cache(maxsize=1)
def _moods() -> frozenset[str]:
    words = _lines((_DATA / "mood_words.txt").read_text(encoding="utf-8"))
    return frozenset(map(key, [*words, *lexicon.load(lexicon.DEMO).terms]))


@lru_cache(maxsize=100_000)
def is_mood(form: str) -> bool:
    """Whether a key is a word or phrase of mood, which counts even if it is also a name."""
    return form in _moods() or (" " not in form and lemma(form) in _moods())


class Names:
    """The names of the catalogue's artists, albums and films; test a tag's key by ``form in names``."""

    def __init__(self) -> None:
        self._forms: set[str] = set()
        self._seen: set[str] = set()

    def __contains__(self, form: object) -> bool:
        return isinstance(form, str) and form in self._forms and not is_mood(form)

    def __len__(self) -> int:
        return len(self._forms)

    def add(self, artists: Iterable[str], albums: Iterable[str | None], titles: Iterable[str]) -> None:
        """Add the names in artists, albums and titles (a title can name its film)."""
        for artist in artists:
            if artist not in self._seen:
                self._seen.add(artist)
                self._add(artist)
        for album in albums:
            if album and album not in self._seen and len(album) <= _LONGEST_SEARCHED:
                self._seen.add(album)
                self._add(album)
                self._add(_SOUNDTRACK.sub("", album))
                self._add(_BRACKET.sub(" ", album))
        for title in titles:
            for film in films(title):
                self._add(film)

    def _add(self, text: str) -> None:
        if text and len(text) <= _LONGEST_NAME and (form := key(text)):
            self._forms.add(form)


def films(title: str) -> list[str]:
    """The films that a title names: Now We Are Free (From "Gladiator"), My Heart [From the film Titanic]."""
    if ("rom" not in title and "ROM" not in title) or len(title) > _LONGEST_SEARCHED:  # most titles
        return []
    return _FROM.findall(title) or [_KIND.sub("", film) for film in _FROM_PLAIN.findall(title)]


def title_forms(title: str) -> set[str]:
    """The keys of tags that name the track itself: its full title, and the title without brackets."""
    if not title or len(title) > _LONGEST_NAME:
        return set()
    forms = {key(title)}
    if "(" in title or "[" in title:
        forms.add(key(_BRACKET.sub(" ", title)))
    return forms - {""}
