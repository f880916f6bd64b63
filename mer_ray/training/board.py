"""TensorBoard on a workspace: its finished runs, and the trials of those that are not: `training.events`."""

from __future__ import annotations

import logging
import shlex
import sys
import threading
import webbrowser
from collections.abc import Callable
from contextlib import suppress
from types import ModuleType
from urllib.parse import parse_qsl, unquote, urlsplit

from mer_ray import extras
from mer_ray.errors import InputError, WorkspaceError
from mer_ray.io import address, buckets, scratch
from mer_ray.io.tables import Workspace
from mer_ray.training.events import Events

HOST = "127.0.0.1"
LOOK_S = 15.0
"""Time between two looks for new runs."""


def run(workspace: Workspace, port: int | None, opens: bool, say: Callable[[str], None]) -> None:
    """Serve until a signal comes (KeyboardInterrupt). TensorBoard runs in this process, so that none is left.

    Args:
        workspace: Also in an object store; the trials themselves are shown of a local one only.
        port: None for a free one.
        opens: Whether to open a browser.
        say: Called with lines for the user.

    Raises:
        MissingExtra: TensorBoard is not installed.
        WorkspaceError: There is nothing to show.
        InputError: The port is taken.
    """
    extras.require("train", "tensorboard", "tensorboardX")
    if not (workspace.names("runs") or workspace.names("tune")):
        raise WorkspaceError(f"workspace {workspace.uri} has no runs to show", "run `mer-ray train` on it first")
    with scratch.folder() as folder:
        events = Events(workspace, folder)
        n = events.update()
        if not workspace.is_local and workspace.names("tune"):
            say(f"to see the trials as they run: {copying(workspace.at('tune'))}; tensorboard --logdir tune")
        served = _launch(str(folder), port)
        say(f"{served}: {n} finished run{'s' * (n != 1)} of {workspace.uri}; Ctrl-C ends it")
        if opens:
            webbrowser.open(served)
        ended = threading.Event()
        while not ended.wait(LOOK_S):
            with suppress(WorkspaceError):  # a store that does not answer now
                events.update()


def copying(uri: str) -> str:
    """The command that brings a folder of an object store up to date in the folder ``tune`` of this machine."""
    parts = urlsplit(uri)
    place, query = f"{address.host(uri)}{unquote(parts.path)}", dict(parse_qsl(parts.query))
    if address.scheme(uri) in buckets.GCS:
        return f"mkdir -p tune; gcloud storage rsync --recursive {shlex.quote(f'gs://{place}')} tune"
    options = ""
    if endpoint := query.get("endpoint_override"):
        full = endpoint if "://" in endpoint else f"{query.get('scheme', 'https')}://{endpoint}"
        options += f" --endpoint-url {shlex.quote(full)}"
    if region := query.get("region"):
        options += f" --region {shlex.quote(region)}"
    return f"aws s3 sync{options} {shlex.quote(f's3://{place}')} tune"


def _launch(folder: str, port: int | None) -> str:
    """Start TensorBoard's server in a thread. Returns its address."""
    # TensorFlow takes 15 s to import, and TensorBoard does without it if there is a module of this name.
    sys.modules.setdefault("tensorboard.compat.notf", ModuleType("tensorboard.compat.notf"))
    from tensorboard import default, program

    logging.getLogger("tensorboard").setLevel(logging.CRITICAL)  # the folder's removal at the end is no news

    board = program.TensorBoard(plugins=default.get_plugins())
    # The quick loader is a process of its own, which the next look at the runs would outlive.
    options = ["--logdir", folder, "--host", HOST, "--port", str(port or 0), "--load_fast", "false"]
    board.configure(argv=["mer-ray board", *options, "--reload_interval", "5"])
    try:
        return str(board.launch()).rstrip("/")
    except program.TensorBoardServerException as error:
        raise InputError(f"TensorBoard cannot listen at {HOST}:{port}", "give another --port, or none") from error
