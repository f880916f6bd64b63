"""The command ``mer-ray board``."""

from __future__ import annotations

import click

from mer_ray.cli_options import reader


@click.command(short_help="Show training in TensorBoard.")
@click.option(
    "--workspace", metavar="URI", default="work/demo", show_default=True, help="A path, or s3://, gs://, file://."
)
@click.option(
    "--port", metavar="PORT", type=click.IntRange(1, 65_535), help="To listen at; by default one that is free."
)
@click.option("--open", "opens", is_flag=True, help="Open it in a browser.")
@reader
def board(workspace: str, port: int | None, opens: bool) -> list[str]:
    """Show training in TensorBoard: losses and R² of each epoch and fold, runs by their settings, and the trials.

    It listens on this machine only (127.0.0.1), until Ctrl-C. Runs that are finished meanwhile appear. Needs
    TensorBoard: pip install 'mer-ray[train]'.
    """
    from mer_ray import signals
    from mer_ray.console import out
    from mer_ray.io.tables import Workspace
    from mer_ray.training import board as module

    def say(line: str) -> None:
        out.print(line, markup=False)
        out.file.flush()

    try:
        module.run(Workspace(workspace), port, opens, say)
    except KeyboardInterrupt:
        signals.handled()
    return []
