"""The contract that every source of tracks keeps: mer_ray/sources/source.py."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, get_args

import pyarrow as pa
import pytest
from conftest import write_tunes

from mer_ray.config import CollectConfig, load
from mer_ray.errors import ConfigError
from mer_ray.io.schemas import SCHEMAS
from mer_ray.io.tables import now
from mer_ray.io.track import Track
from mer_ray.sources import source
from mer_ray.sources.listing import Listing
from mer_ray.sources.source import TrackSource

SOURCES = sorted({*get_args(CollectConfig.model_fields["source"].annotation)} - {"lastfm"})
"""All but that which is harvested."""


def nothing(columns: Sequence[str]) -> Iterator[pa.Table]:
    """A workspace without tracks."""
    yield SCHEMAS["tracks"].empty_table().select(columns)


@pytest.fixture(params=SOURCES)
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """Of each source, with something to find."""
    write_tunes(tmp_path / "music", 3)
    (tmp_path / "m.csv").write_text("artist,title,tags\nA,One,sad\nB,,\nB,Two,happy:3;sad:1\n")
    own = {"folder": {"folder": str(tmp_path / "music")}, "manifest": {"manifest": str(tmp_path / "m.csv")}}
    return {"source": request.param, **own.get(request.param, {})}


@pytest.fixture
def found(settings: dict[str, Any]) -> TrackSource:
    config = CollectConfig.model_validate(settings)
    return source.load(config.source)(config)


def test_its_tracks_and_failures_are_the_same_each_time(found: TrackSource) -> None:
    found.check()
    first, again = list(found.tracks(nothing)), list(found.tracks(nothing))
    tracks = [item for item in first if isinstance(item, Track)]
    failures = [item for item in first if isinstance(item, tuple)]
    assert tracks
    assert len({track.id for track in tracks} | {track.id for track, _ in failures}) == len(first)
    assert all(error.reason and error.message for _, error in failures)
    assert tracks == [item for item in again if isinstance(item, Track)]
    assert not found.incomplete
    assert all(isinstance(note, str) and "\n" not in note for note in found.notes())


def test_its_tracks_are_rows_of_the_table(found: TrackSource) -> None:
    tracks = [item for item in found.tracks(nothing) if isinstance(item, Track)]
    with Listing(found.settings.source, now(), by_content=found.by_content) as listing:
        for track in tracks:
            listing.add(track)
        assert listing.close() == []
        stored = list(listing.rows())
    assert pa.concat_tables(stored).schema.names == SCHEMAS["tracks"].names
    assert sum(map(len, stored)) == len(tracks)
    list(found.tracks(lambda columns: (table.select(columns) for table in stored)))  # as the second run calls it


def test_its_identity_is_json_and_follows_the_settings_alone(settings: dict[str, Any], found: TrackSource) -> None:
    again = source.load(settings["source"])(CollectConfig.model_validate(settings))
    assert found.identity() == again.identity()


def test_without_settings_it_says_what_it_needs_or_needs_none(found: TrackSource) -> None:
    bare = type(found)(CollectConfig(source=found.settings.source))
    try:
        bare.check()
    except ConfigError as error:
        message, hint = error.message, error.hint
    else:
        message, hint = "", ""
    if message:
        assert f"collect.{found.settings.source} is not set" in message
        assert hint
    else:
        assert next(iter(bare.tracks(nothing)))


def test_a_name_that_is_no_source_is_refused() -> None:
    with pytest.raises(ConfigError, match="source"):
        load(None, ["collect.source=nowhere"])
