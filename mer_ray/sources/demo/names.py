"""Invented composers, cue titles and albums. No pair of artist and title occurs twice."""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from mer_ray.audio.providers.demo.affect import CUES_PER_COMPOSER, stream


def _list(text: str) -> tuple[str, ...]:
    return tuple(text.split(";"))


_GIVEN = _list(
    "Ambrel;Ottiline;Quillon;Fenwick;Isaura;Thaddo;Belphine;Corvin;Marzipan;Wilhelmo;Odalind;Pimberly;Zephrine;"
    "Gustavo-Lune;Hesper;Jorunn-Mae;Lucasta;Nimbus;Oberia;Peregrin;Rosalba-Kit;Sigmundo;Tuppence;Umberlin;Vesperine;"
    "Wolfram-Ode;Xanthippa;Yorrick;Zinnabel;Alarico;Brontella;Cosimund;Dulcimer;Evangelo;Fiammetta-Jo;Giselbert;"
    "Horatine;Ignatzia;Juniperus;Kasimira"
)
_SURNAME = _list(
    "Thistle;Bramble;Lantern;Glimmer;Brass;Copper;Velvet;Marrow;Candle;Harrow;Pepper;Salt;Thunder;Willow;Feather;Clock;"
    "Cinder;Moss;Bobbin;Puddle;Quartz;Raven;Saffron;Timber;Umber;Vinegar;Wander;Yonder;Zither;Button;Cobble;Drizzle"
)
_ENDING = _list(
    "wick;worth;whistle;bottom;berry;stone;kettle;mantle;march;spindle;gate;feld;quist;ovitch;elli;escu;sson;dottir;"
    "oux;heim"
)

_LEAD = _list(
    "Lanterns;A Letter;Footsteps;The Last Train;Snow;The Cartographer;Two Strangers;Clockwork;The Lighthouse Keeper;"
    "Smoke;The Orchard;A Crown;Paper Boats;The Understudy;Moths;An Empty Chair;The Ferry;Salt;The Glassblower;Wolves;"
    "A Borrowed Coat;The Beekeeper;Embers;The Locksmith;A Telegram;Kites;The Quarry;A Violin;The Night Watch;Driftwood;"
    "The Mayor;Sparrows;The Tollhouse;Static;A Duel;The Weather Vane;Bells;The Stowaway;A Map;The Well"
)
_ENDINGS = _list(
    "at Low Tide;in the Attic;Before Dawn;on Harrow Street;Under the Ice;After the Flood;Across the Border;"
    "in Room Nine;from the North;at the Carnival;Beyond the Wall;in the Rain;on the Roof;Past Midnight;Without a Name;"
    "at Platform Four;in the Greenhouse;Over Umberfell;at the Crossing;for Marguerite;in Two Parts;Among the Pines;"
    "on the Balcony;Against the Clock;by Candlelight;at the Summit;in the Mirror;on the Way Home;Under the Stage;"
    "of the Seventh Hour;in Exile;at the Gates;on Thin Ice;in a Minor Hurry;Downriver;Unsent;at the Window;"
    "in the Margins;Revisited;on the Moor"
)
_FILM = _list("The {0} Affair;{0} Season;A Winter of {0};House of {0};The {0} Inheritance;{0} & Daughters;Goodbye, {0}")
_ALBUM_SHARE = 0.75


@lru_cache(maxsize=8)
def _order(seed: int) -> np.ndarray:
    return stream(seed, 0, "order of composers").permutation(len(_GIVEN) * len(_SURNAME) * len(_ENDING))


def composer(seed: int, number: int) -> str:
    """Name of composer ``number`` (0, 1, ...), unique for a seed."""
    order = _order(seed)
    generation, position = divmod(number, len(order))
    rest, ending = divmod(int(order[position]), len(_ENDING))
    given, surname = divmod(rest, len(_SURNAME))
    name = f"{_GIVEN[given]} {_SURNAME[surname]}{_ENDING[ending]}"
    return f"{name} {generation + 1}" if generation else name


def cue(seed: int, index: int) -> tuple[str, str, str | None]:
    """Artist, title and album of cue ``index``; some have no album, as in real catalogs."""
    number, position = divmod(index, CUES_PER_COMPOSER)
    rng = stream(seed, number, "titles")
    titles = rng.choice(len(_LEAD) * len(_ENDINGS), size=CUES_PER_COMPOSER, replace=False)
    film = _FILM[rng.integers(len(_FILM))].format(_SURNAME[rng.integers(len(_SURNAME))])
    listed = rng.random(CUES_PER_COMPOSER) < _ALBUM_SHARE
    lead, where = divmod(int(titles[position]), len(_ENDINGS))
    album = f"{film} (Original Score)" if listed[position] else None
    return composer(seed, number), f"{_LEAD[lead]} {_ENDINGS[where]}", album
