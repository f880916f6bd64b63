"""The commands of ``mer-ray`` that only read files: scores, data sets, weights. `cli` holds those of the stages."""

from __future__ import annotations

from typing import Any

import click

from mer_ray.cli_board import board
from mer_ray.cli_options import arcs, reader
from mer_ray.cli_tag import tag
from mer_ray.datasets import DATASETS


@click.command(short_help="List tracks by a condition or along an arc; write a playlist.")
@click.argument("scores")
@click.option("--where", metavar="CONDITION", help="Which tracks: valence < 0.35 and arousal > 0.6 and 'war' in title.")
@click.option("--sort", metavar="COLUMN", help="Lowest first; with a minus, highest first: -arousal.")
@click.option("-n", "limit", metavar="N", type=click.IntRange(min=1), help="At most so many tracks.")
@click.option("--sure", "certain", is_flag=True, help="Only where it holds for all ends of the 90 % intervals.")
@click.option(
    "--out", "output", metavar="FILE", help="The list, .m3u8, .m3u (servers), .jsonl or .nsp; without it, it is shown."
)
@click.option("--absolute", is_flag=True, help="Absolute paths, instead of relative to the playlist.")
@arcs
@reader
def playlist(**own: Any) -> list[str]:
    """Choose tracks from SCORES, a file that `mer-ray score` wrote or a workspace, and list them or write a playlist.

    A CONDITION is SQL: and, or, not, = != < <= > >=, between, in, is null, + - * /, title like '%war%' or 'war' in
    title, and the columns valence, arousal, dominance (or the model's other dimensions), the ends of their 90 %
    intervals (lower_valence, upper_valence), width (the mean width of these intervals), duration_s, novelty,
    in_distribution, artist, title, album, uri, model, tempo (BPM), key ('C', 'C#', ... 'B'), mode ('major', 'minor'),
    loudness (LUFS), true_peak (dBTP) and the other columns of scores. valence_percentile (0 to 100) and those of the
    other dimensions, and mood ('happy', 'excited', 'tense', 'distressed', 'miserable', 'sad', 'sleepy', 'calm',
    'neutral'; from valence and arousal) compare a track with all others of SCORES. What is not known fulfils no
    comparison.

    An arc (--arc, --from, --to, or together) has 20 tracks, or -n, each by another artist while there are others.
    A .jsonl file has a line of JSON for each track; a .nsp file the CONDITION as rules for Navidrome, which must read
    what `mer-ray tag` writes (docs/how-to/players.md). --cues marks.txt makes the folder marks: labels of each track;
    --cues passages.edl a timeline of all passages, one after the other.
    """
    from mer_ray.scoring import playlist as module

    return module.run(**own)


@click.command(short_help="Show the tracks that are most like one.")
@click.argument("scores")
@click.argument("track")
@click.option("-n", "n", metavar="N", type=click.IntRange(min=1), default=10, show_default=True, help="How many.")
@click.option(
    "--by",
    type=click.Choice(["both", "feeling", "sound"]),
    default="both",
    show_default=True,
    help="Alike in what they make feel, in how they sound, or in both.",
)
@reader
def neighbours(**own: Any) -> list[str]:
    """Show the tracks in SCORES that are most like TRACK: its id, its file, or a part of its name."""
    from mer_ray.scoring import neighbours as module

    return module.run(**own)


@click.command(short_help="List the same files and the same recordings.")
@click.argument("scores")
@click.option(
    "--out", "output", metavar="FILE", help="All groups, .csv, .parquet or .jsonl; without it, some are shown."
)
@reader
def duplicates(**own: Any) -> list[str]:
    """List tracks in SCORES that are the same file, or the same recording in another codec or cut a little shorter.

    No audio is read, and nothing is deleted. Other takes and covers are no duplicates; remastered and much quieter
    versions can be missed.
    """
    from mer_ray.scoring import repeats

    return repeats.run(**own)


@click.command(short_help="Make one HTML page to search, filter, listen and choose in.")
@click.argument("scores")
@click.option("--out", "output", metavar="FILE", default="explore.html", show_default=True, help="The page, .html.")
@click.option("--title", metavar="TEXT", default="Soundtrack catalog", show_default=True, help="Its heading.")
@reader
def explore(**own: Any) -> list[str]:
    """Make one HTML page of SCORES to search, filter, listen and pick playlists in; it opens offline."""
    from mer_ray.scoring.explorer import page

    return page.run(**own)


@click.command(short_help="Make a manifest of your copy of a published data set.")
@click.argument("name", type=click.Choice(list(DATASETS)))
@click.argument("folder")
@click.option("--out", "output", metavar="DIR", help="The folder to write. [datasets/NAME]")
@reader
def dataset(**own: Any) -> list[str]:
    """Make a manifest and settings of FOLDER, your copy of a published data set; nothing is downloaded.

    docs/datasets.md says what each holds and where to get it.
    """
    from mer_ray.datasets import conversion

    return conversion.run(**own)


@click.command(short_help="Make a file of musicnn's weights from its own release.")
@click.argument("network", type=click.Choice(["musicnn"]))
@click.option("--wheel", metavar="FILE", help="The wheel of musicnn 0.1.0; without it, pip's package index sends it.")
@click.option("--out", "output", metavar="FILE", default="musicnn.safetensors", show_default=True, help="The weights.")
@click.option("--packed", is_flag=True, help="20 bits a number, as they come with mer-ray, instead of 32.")
@click.option(
    "--timeout",
    "timeout_s",
    metavar="SECONDS",
    type=click.FloatRange(min=1),
    default=300.0,
    show_default=True,
    help="The most seconds that the download may take.",
)
@reader
def weights(network: str, **own: Any) -> list[str]:
    """Make a file of a pre-trained network's weights from its own release.

    mer-ray comes with musicnn's weights, packed. This makes them again, to the same bytes, or in full precision.
    """
    from mer_ray.features import musicnn_import

    return musicnn_import.run(**own)


COMMANDS = [playlist, neighbours, duplicates, explore, tag, board, dataset, weights]
"""In the order in which ``--help`` names them after those of the stages."""
