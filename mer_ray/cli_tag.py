"""The command ``mer-ray tag``: its options."""

from __future__ import annotations

from typing import Any

import click

from mer_ray.cli_options import reader


@click.command(short_help="Write scores and mood words into the audio files' own tags.")
@click.argument("scores", required=False)
@click.option("--dry-run", is_flag=True, help="Show what would change, and change nothing.")
@click.option("--undo", metavar="LOG", help="Restore what the fields were before, from the log of earlier runs.")
@click.option("--log", metavar="FILE", help="The log of the former values. [SCORES.tags.jsonl]")
@click.option("--replace-mood", is_flag=True, help="Also replace a mood that mer-ray did not write.")
@click.option("--keep-mtime", is_flag=True, help="Keep the files' times of modification.")
@click.option(
    "--max-lost",
    metavar="SHARE",
    type=click.FloatRange(0, 1),
    default=0.2,
    show_default=True,
    help="End with exit code 3 if more of the files could not be tagged.",
)
@reader
def tag(**own: Any) -> list[str]:
    """Write the SCORES of audio files into their own tags: MER_RAY_VALENCE and so on, mood word, and model.

    A copy of each file is tagged, checked (same audio, same other tags), and put in its place. What is up to date
    stays. A file that is no longer the one that was scored is not tagged. Needs mutagen: pip install 'mer-ray[tag]'.
    """
    from mer_ray.scoring.tagging import command

    return command.run(**own)
