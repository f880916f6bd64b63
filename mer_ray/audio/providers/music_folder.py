"""Provider ``folder``: files of a folder of music, by their tags or names."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from mer_ray.audio import walk
from mer_ray.audio.file_tags import describe
from mer_ray.audio.providers import Limits, Provider, ProviderResult, Settings
from mer_ray.errors import TrackError
from mer_ray.io.address import to_path
from mer_ray.io.identity import normalise
from mer_ray.io.track import Track
from mer_ray.io.variants import piece


@dataclass(frozen=True)
class Entry:
    """A file: title and album in its tags, normalised; the film that its title credits; its address."""

    title: str
    album: str
    film: str
    uri: str


Index = Mapping[str, Sequence[Entry]]
"""Artist and title of a piece, an id, or a file's name → the files."""


class MusicFolder(Provider):
    """Uses the files of a folder without copying them."""

    name = "folder"

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._index: Index = {}
        if settings.folder is not None:
            files, skipped = walk.search(settings.folder)
            self._index = index(_described(files))
            if skipped:
                self.notes.append(f"acquire.folder: {skipped}")

    @staticmethod
    def check(settings: Settings) -> None:
        """Raises InputError where the folder has no audio."""
        if settings.folder is not None:
            walk.search(settings.folder)

    def get(self, track: Track, folder: Path, limits: Limits) -> ProviderResult | None:
        """See `Provider.get`."""
        uri = find(track, self._index)
        return None if uri is None else ProviderResult(to_path(uri), uri)


def _described(files: Iterable[Path]) -> Iterable[Track]:
    for file in files:
        with suppress(OSError):
            if file.is_file():
                yield describe(file)


def index(tracks: Iterable[Track]) -> dict[str, list[Entry]]:
    """A folder's tracks by the pieces' names without remasters and guests, by id, or by the file's name.

    An untagged file named "Artist - Title" has the name of that piece.
    """
    found: dict[str, list[Entry]] = {}
    for track in tracks:
        if track.uri is None:
            continue
        named, film = track, ""
        artist, dash, title = track.title.partition(" - ")
        if dash and not track.artist:
            named = replace(track, artist=artist, title=title)
        keys = [track.id, _file_key(Path(track.uri).stem)]
        if named.artist and named.title:
            name, film = _piece_key(named)
            keys.append(name)
        for key in dict.fromkeys(keys):
            found.setdefault(key, []).append(Entry(*_spelled(named), film, track.uri))
    return found


def find(track: Track, files_by_key: Index) -> str | None:
    """Find by the piece's name, else by id, else by a file name equal to the id (of a data set's clips, for example).

    A film's theme matches a file that credits no film, but not another film. Raises TrackError where files of several
    other albums match.
    """
    name, film = _piece_key(track) if track.artist and track.title else (track.id, "")
    files = files_by_key.get(name) or files_by_key.get(track.id) or files_by_key.get(_file_key(track.id), ())
    credited = {f.film for f in files}
    if film:
        files = [f for f in files if f.film == film] or [f for f in files if not f.film]
    elif "" in credited or len(credited) > 1:
        files = [f for f in files if not f.film]
    if not files:
        return None
    title, album = _spelled(track)
    albums = {f.album for f in files}
    if album and len(albums) > 1:
        files = [f for f in files if f.album == album] or [f for f in files if not f.album]
        if not files:
            raise TrackError("no_audio", f"files of {len(albums)} albums are called so, none is of {track.album}")
    return next((f for f in files if f.title == title), files[0]).uri


def _file_key(stem: str) -> str:
    return f"file\x1f{normalise(stem)}"


def _spelled(track: Track) -> tuple[str, str]:
    return normalise(track.title), normalise(track.album or "")


def _piece_key(track: Track) -> tuple[str, str]:
    found = piece(track.artist, track.title)
    return f"{found.artist}\x1f{found.title}", found.film
