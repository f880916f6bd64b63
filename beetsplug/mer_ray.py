"""Plugin for beets: valence, arousal, dominance and mood of the library's music, as fields to query and sort by.

    plugins: mer_ray
    mer_ray:
        auto: no            # score what is imported, at the end of the import
        write: no           # also write into the files' own tags, as `mer-ray tag` does
        replace_mood: no    # there, also replace a mood that mer-ray did not write
        allow_partial: no   # score what there is of files that are cut or damaged
        model: default      # or light, or a model's folder
        dimensions: valence arousal dominance

Every command of beets loads this module, so what does the work is imported where it is needed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from optparse import Values
from pathlib import Path
from typing import TYPE_CHECKING

from beets import config as beets_config
from beets import ui
from beets.dbcore import types
from beets.importer import ImportSession, ImportTask
from beets.library import Item, Library
from beets.plugins import BeetsPlugin

if TYPE_CHECKING:
    from mer_ray.scoring.beets_items import Work

LOG = "mer_ray.tags.jsonl"


class MerRayPlugin(BeetsPlugin):  # type: ignore[misc]  # beets' own types are not checked here
    """Fields, the command ``beet mood``, and scoring after an import."""

    def __init__(self) -> None:
        super().__init__()
        self.config.add(dict.fromkeys(("auto", "write", "replace_mood", "allow_partial"), False))
        self.config.add({"model": "default", "dimensions": ["valence", "arousal", "dominance"]})
        self._imported: list[int] = []
        self.register_listener("item_moved", self._moved)
        if self.config["auto"].get(bool):
            self.import_stages = [self._note]
            self.register_listener("import", self._after_import)

    @property
    def item_types(self) -> dict[str, types.Type]:
        """The types of the fields, so that ranges of numbers can be queried."""
        own = {d: types.Float(3) for d in self._dimensions()}
        ranks = {f"{d}_percentile": types.Float(1) for d in own}
        measured = {"tempo": types.Float(1), "loudness": types.Float(2), "true_peak": types.Float(2)}
        texts = ("key", "mood", "mer_ray_model", "mer_ray_file", "mer_ray_audio")
        return own | ranks | measured | dict.fromkeys(texts, types.STRING)

    def commands(self) -> list[ui.Subcommand]:
        """``beet mood``."""
        made = ui.Subcommand("mood", help="score valence, arousal, dominance and mood of items (mer-ray)")
        add = made.parser.add_option
        add("-f", "--force", action="store_true", default=False, help="also what has values; --from: changed files too")
        add("-p", "--pretend", action="store_true", default=False, help="show what would be scored, and change nothing")
        add("--from", dest="scores", metavar="SCORES", help="take the values from a file of `mer-ray score`")
        add("--model", metavar="NAME", help="default, light, or a model's folder, instead of the setting")
        add("-w", "--write", action="store_true", default=None, help="write values into the files' tags")
        add("-W", "--nowrite", action="store_false", dest="write", help="write none, whatever the setting")
        made.func = self._command
        return [made]

    def _command(self, lib: Library, opts: Values, args: list[str]) -> None:
        with _one_line():
            work = self._work(lib, opts.pretend)
            items = list(lib.items(args))
            if opts.scores:
                work.take(items, opts.scores, opts.force)
            else:
                partial = self.config["allow_partial"].get(bool)
                work.score(items, opts.model or self.config["model"].as_str(), opts.force, partial)
            if not opts.pretend:
                self._finish(work, self.config["write"].get(bool) if opts.write is None else opts.write)
        counts = work.counts
        what = (
            ("same", "had them already" if opts.scores else "were up to date"),
            ("failed", "failed"),
            ("cleared", "lost their values, as their files have changed and cannot be scored"),
            ("gone", "are without their file (`beet update` removes such items)"),
            ("unknown", "are not in the scores"),
            ("other", "have values of another model (--force scores them again)"),
            ("unversioned", "scores do not say of which version of their file they are"),
            ("unmeasured", "have no tempo, key and loudness, as their scores have none"),
            ("written", "files tagged"),
            ("kept", "files keep a mood of somebody else's (replace_mood: yes replaces it)"),
        )
        verb = "given new values" if opts.scores else "scored"
        parts = [f"{counts['done']:,} items {'would be ' if opts.pretend else ''}{verb}"]
        for line in (*work.shown, "; ".join([*parts, *(f"{counts[k]:,} {text}" for k, text in what if counts[k])])):
            ui.print_(line)
        if counts["failed"] + counts["gone"] and not counts["done"] + counts["same"] + counts["unknown"]:
            raise ui.UserError("no item could be scored")

    def _note(self, session: ImportSession, task: ImportTask) -> None:
        self._imported += [item.id for item in task.imported_items()]

    def _after_import(self, lib: Library) -> None:
        items = [item for item in map(lib.get_item, self._imported) if item is not None]
        self._imported = []
        if items:
            with _one_line():
                work = self._work(lib)
                partial = self.config["allow_partial"].get(bool)
                work.score(items, self.config["model"].as_str(), allow_partial=partial)
                self._finish(work, self.config["write"].get(bool))

    def _moved(self, item: Item, source: bytes, destination: bytes) -> None:
        log = Path(beets_config.config_dir()) / LOG
        if log.is_file():
            from mer_ray.scoring.tagging.log import moved

            with _one_line():
                moved(log, Path(os.fsdecode(source)), Path(os.fsdecode(destination)))

    def _work(self, lib: Library, pretend: bool = False) -> Work:
        from mer_ray.scoring.beets_items import Work

        return Work(lib, self._dimensions(), self._log, pretend)

    def _finish(self, work: Work, write: bool) -> None:
        work.compare()
        if write:
            work.write(Path(beets_config.config_dir()) / LOG, self.config["replace_mood"].get(bool))

    def _dimensions(self) -> list[str]:
        named: list[str] = self.config["dimensions"].as_str_seq()
        return named


@contextmanager
def _one_line() -> Iterator[None]:
    """mer-ray's errors as those of beets: one line."""
    from mer_ray.errors import MerRayError

    try:
        yield
    except MerRayError as error:
        raise ui.UserError(" ".join(str(error).split())) from error
