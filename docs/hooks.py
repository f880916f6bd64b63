"""MkDocs hooks: the pages of the reference, and the notebook's, are made from the code whenever the site is built.

Each function of `PAGES` returns one page as Markdown. What lacks its text raises ValueError, which ends the build.
"""

from __future__ import annotations

import base64
import inspect
import json
import re
import types
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import click
import pyarrow as pa
from pydantic import BaseModel
from pydantic.fields import FieldInfo

DOCS = Path(__file__).parent

ENVIRONMENT = {
    "LASTFM_API_KEY": "The key for Last.fm (`collect`). It is written nowhere.",
    "SPOTIPY_CLIENT_ID": "Of your app at Spotify, for the provider `savify`.",
    "SPOTIPY_CLIENT_SECRET": "Of the same app.",
    "AWS_ACCESS_KEY_ID": "With `AWS_SECRET_ACCESS_KEY`: credentials for `s3://`.",
    "AWS_PROFILE": "The profile that has the credentials, instead of them.",
    "AWS_ENDPOINT_URL": "Another server that speaks S3.",
    "AWS_ENDPOINT_URL_S3": "The same, before `AWS_ENDPOINT_URL`.",
    "AWS_REGION": "Of the bucket; without it, S3 is asked.",
    "AWS_DEFAULT_REGION": "The same, after `AWS_REGION`.",
    "RAY_ADDRESS": "A Ray cluster to join, as `--address`; without both, Ray starts on this machine.",
    "TFHUB_CACHE_DIR": "Where models of TensorFlow Hub and what is known of them are kept.",
    "XDG_CACHE_HOME": "Caches, where `TFHUB_CACHE_DIR` is not set: in `mer-ray` in it, by default in `~/.cache`.",
    "TMPDIR": "Temporary files: decoded pieces, downloads, sorting.",
    "JAX_PLATFORMS": "`cpu` keeps JAX off a GPU.",
    "RAY_BACKEND_LOG_LEVEL": "Ray's own log; mer-ray makes it quiet where it is not set.",
}
"""Variables that are read, with their meaning."""

SET_IF_UNSET = {
    *("JAX_COMPILATION_CACHE_DIR", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "MLFLOW_DISABLE_TELEMETRY"),
    *("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT", "MLFLOW_LOGGING_LEVEL"),
    *("RAY_AIR_NEW_OUTPUT", "RAY_DATA_LOG_LEVEL", "TF_CPP_MIN_LOG_LEVEL", "TUNE_DISABLE_SIGINT_HANDLER"),
    *("TUNE_MAX_PENDING_TRIALS_PG", "XLA_PYTHON_CLIENT_PREALLOCATE"),
}
"""Variables of other programs that mer-ray sets for its processes, where you have not."""

API = {
    "Functions": (
        *("mer_ray.score", "mer_ray.failures", "mer_ray.load_model", "mer_ray.embed", "mer_ray.read_features"),
        *("mer_ray.read_labels", "mer_ray.load_lexicon", "mer_ray.vad_from_tags"),
    ),
    "What they return": (
        *("mer_ray.scoring.predictor.Predictor", "mer_ray.scoring.predictor.Prediction"),
        *("mer_ray.labels.lexicon.Lexicon", "mer_ray.labels.vad.Label"),
    ),
    "Errors": ("mer_ray.errors",),  # its exceptions
}


def cell(text: object) -> str:
    """A text for a cell of a table: in one line, without what would end the cell or be taken for HTML."""
    parts = re.split(r"(`[^`]*`)", " ".join(str(text).split()))
    plain = (p if p.startswith("`") else p.replace("|", "&#124;").replace("<", "&lt;") for p in parts)
    return "".join(plain).replace("``", "`")


def table(header: Iterable[str], rows: Iterable[Iterable[object]]) -> str:
    """A table in Markdown."""
    names = list(header)
    lines = [names, ["---"] * len(names), *([cell(c) for c in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _wanted(text: str | None, of: str) -> str:
    if not (text or "").strip():
        raise ValueError(f"{of} has no text that says what it is")
    return str(text)


# commands ----------------------------------------------------------------------------------------------------------


def commands() -> str:
    """``reference/commands.md``: every command with its arguments and options."""
    from mer_ray.cli import main

    out = ["# Commands\n", "`mer-ray COMMAND --help` says the same. Every command also has `-h, --help`.\n"]
    rows = [(f"[`mer-ray {n}`](#mer-ray-{n})", c.get_short_help_str(200)) for n, c in main.commands.items()]
    out.append(table(["command", "does"], rows))
    for name, command in main.commands.items():
        usage = " ".join(["mer-ray", name, *command.collect_usage_pieces(click.Context(command, info_name=name))])
        out.append(f"## mer-ray {name}\n\n```text\n{usage}\n```\n")
        out.append(inspect.cleandoc(_wanted(command.help, f"the command {name}")).replace("<", "&lt;") + "\n")
        options = [p for p in command.params if isinstance(p, click.Option)]
        out.append(table(["option", "default", ""], (_option(name, p) for p in options)))
    return "\n".join(out)


def _option(command: str, option: click.Option) -> tuple[str, str, str]:
    text = _wanted(option.help, f"the option {option.opts[-1]} of {command}")
    value = "" if option.is_flag else f" {option.metavar or _kind_of(option.type)}"
    stated = re.search(r"\s*\[([^\[\]]+)\]$", text)
    default = (
        f"`{option.default}`" if option.show_default else f"`{stated[1]}`" if stated and " " not in stated[1] else ""
    )
    names = ", ".join(f"`{o}`" for o in option.opts[:-1]) + (", " if option.opts[1:] else "")
    shown = text[: stated.start()] if stated and default and not option.show_default else text
    return f"{names}`{option.opts[-1]}{value}`", default, shown


def _kind_of(kind: click.ParamType) -> str:
    if isinstance(kind, click.Choice):
        return "|".join(map(str, kind.choices))
    if isinstance(kind, click.IntRange | click.FloatRange):
        ends = [f"{kind.min:g}" if kind.min is not None else "", f"{kind.max:g}" if kind.max is not None else ""]
        return f"{'INTEGER' if isinstance(kind, click.IntRange) else 'NUMBER'} ({'..'.join(ends)})"
    return kind.name.upper()


# settings ----------------------------------------------------------------------------------------------------------


def sections(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, type[BaseModel]]]:
    """(key, its model) of each group of settings, the outer ones first."""
    inner: list[tuple[str, type[BaseModel]]] = []
    for name, field in model.model_fields.items():
        found = [k for k in _kinds(field.annotation) if isinstance(k, type) and issubclass(k, BaseModel)]
        if found:
            inner.append((f"{prefix}{name}" + (".NAME" if get_origin(field.annotation) is dict else ""), found[0]))
    yield prefix.rstrip("."), model
    for key, other in inner:
        yield from sections(other, f"{key}.")


def _kinds(annotation: Any) -> list[Any]:
    return [annotation, *get_args(annotation)]


def settings() -> str:
    """``reference/settings.md``: every setting with its type, bounds and default."""
    from mer_ray import models
    from mer_ray.config import Config

    out = [
        "# Settings\n",
        "A setting is given in a YAML file (`-c FILE`; of several, later ones change what the first say) or as "
        "`--set KEY=VALUE`, with the value in YAML. Lists may be given as `a,b`. Relative paths in a file start at "
        "the file's folder. The defaults are those of the demo. An unknown key or a bad value ends the command with "
        "one line.\n",
    ]
    for key, model in sections(Config):
        own = [(n, f) for n, f in model.model_fields.items() if not _is_section(f)]
        out.append(f"## {f'`{key}`' if key else 'All stages'}\n\n{_first(model)}\n")
        out.append(table(["key", "values", "default", ""], (_setting(f"{key}.{n}" if key else n, f) for n, f in own)))
        if key == "train":
            names = list(models.NETWORKS)
            values = {n: models.defaults(n) for n in names}
            rows = ([f"`{k}`", *(_used(n, k, values[n][k]) for n in names)] for k in models.DEFAULTS)
            out.append("Where `train` leaves a setting open, the network's own value counts:\n")
            out.append(table(["key", *(f"`{n}`" for n in names)], rows))
    return "\n".join(out)


def _used(network: str, setting: str, value: object) -> str:
    from mer_ray import models

    return f"`{value}`" if setting in models.uses(network) else "not used"


def _first(model: type[BaseModel]) -> str:
    text = _wanted(model.__dict__.get("__doc__") or (model.__base__ and model.__base__.__doc__), model.__name__)
    return cell(inspect.cleandoc(text).split("\n\n")[0].replace("``", "`"))


def _is_section(field: FieldInfo) -> bool:
    is_model = any(isinstance(k, type) and issubclass(k, BaseModel) for k in _kinds(field.annotation))
    return is_model and not field.description


def _setting(key: str, field: FieldInfo) -> tuple[str, str, str, str]:
    default = field.get_default(call_default_factory=True)
    shown = "required" if field.is_required() else "" if default is None else f"`{_plain(default)}`"
    return f"`{key}`", values(field.annotation, field.metadata), shown, _wanted(field.description, f"the setting {key}")


def _plain(value: Any) -> str:
    value = list(value) if isinstance(value, tuple) else value
    return json.dumps(value, ensure_ascii=False) if not isinstance(value, str) else value


def values(annotation: Any, metadata: Iterable[Any] = ()) -> str:
    """The values that a type accepts, in words, with its bounds."""
    origin, inner = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return values(inner[0], [*metadata, *annotation.__metadata__])
    if origin is Literal:
        return ", ".join(f"`{_plain(v)}`" for v in inner)
    if origin in (Union, types.UnionType):
        said = [values(i, metadata) for i in inner if i is not type(None)]
        return " or ".join(dict.fromkeys(said))
    if origin is list:
        return f"list of {values(inner[0])}"
    if origin is dict:
        return f"names with {values(inner[1])}"
    if origin is tuple:
        return f"[{', '.join(values(i) for i in inner if i is not Ellipsis)}]"
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "{" + ", ".join(annotation.model_fields) + "}"
    words = {int: "whole number", float: "number", str: "text", bool: "`true`, `false`"}
    return (words[annotation] + _bounds(metadata)).strip()


def _bounds(metadata: Iterable[Any]) -> str:
    flat = [m for entry in metadata for m in (entry.metadata if isinstance(entry, FieldInfo) else [entry])]
    signs = {"ge": "≥", "gt": ">", "le": "≤", "lt": "&lt;"}
    said = [f"{sign} {getattr(m, name)}" for name, sign in signs.items() for m in flat if hasattr(m, name)]
    return f" {', '.join(said)}" if said else ""


# tables ------------------------------------------------------------------------------------------------------------


def tables() -> str:
    """``reference/tables.md``: every column with its type and unit."""
    from mer_ray.io import schemas

    shown = {
        **{name: schema for name, schema in schemas.SCHEMAS.items() if name != "scores"},
        "features/NAME": schemas.features_schema(20),
        "scores": schemas.catalog_scores_schema(),
    }
    notes = {
        "labels": "A column for each dimension; here valence, arousal and dominance.",
        "scores": "As a file of `mer-ray score CATALOG` and in Python. In a workspace, without percentiles and mood.",
        "features/NAME": "One row a track; F numbers in a frame (here 20).",
    }
    out = [
        "# Tables\n",
        "Parquet, in the workspace's folder of that name. The field metadata of each file has the same units. "
        "A score file of an earlier version lacks columns that came later: they count as null.\n",
    ]
    first = ["tracks", "merged", "labels", "audio", "features/NAME", "scores"]
    for name in [*first, *(n for n in shown if n not in first)]:
        out.append(f"## {name}\n\n{notes.get(name, '')}\n")
        out.append(table(["column", "type", "null", ""], (column(name, f) for f in shown[name])))
    return "\n".join(out)


def column(of: str, field: pa.Field) -> tuple[str, str, str, str]:
    """A row of the page for one column."""
    unit = (field.metadata or {}).get(b"unit", b"").decode()
    return (
        f"`{field.name}`",
        f"`{_type(field.type)}`",
        "yes" if field.nullable else "",
        _wanted(unit, f"{of}.{field.name}"),
    )


def _type(kind: pa.DataType) -> str:
    if pa.types.is_struct(kind):
        return "{" + ", ".join(f"{f.name}: {_type(f.type)}" for f in kind) + "}"
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        size = f" × {kind.list_size}" if pa.types.is_fixed_size_list(kind) else ""
        return f"[{_type(kind.value_type)}{size}]"
    return str(kind)


# the rest ----------------------------------------------------------------------------------------------------------


def reasons() -> str:
    """``reference/failures.md``: every reason of a failure, and what to do."""
    from mer_ray.io.advice import ADVICE, advice

    rows = [(f"`{name}`", _wanted(text, f"the reason {name}")) for name, text in sorted(ADVICE.items())]
    rows += [(f"`http_{code}`", advice(f"http_{code}")) for code in (403, 404, 500)]
    return (
        "# Failures\n\nWhat could not be done is a row in the table [`failures`](tables.md#failures) (of `mer-ray "
        "score CATALOG`, in the file `scores.failures.parquet`), with one of these reasons. `mer-ray status` counts "
        "them.\n\n" + table(["reason", "what to do"], rows)
    )


def environment() -> str:
    """``reference/environment.md``: the environment variables that are read."""
    return (
        "# Environment variables\n\nNo secret is a setting: keys come from the environment.\n\n"
        + table(["variable", ""], ((f"`{name}`", text) for name, text in ENVIRONMENT.items()))
        + "\nOther programs' variables that mer-ray sets for its own processes, where you have not: "
        + ", ".join(f"`{name}`" for name in sorted(SET_IF_UNSET))
        + ".\n"
    )


def api() -> str:
    """``reference/api.md``: directives of mkdocstrings."""
    from mer_ray import errors

    raised = ", ".join(n for n, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, Exception))
    out = ["# Python\n", "```python\nimport mer_ray\n```\n"]
    for heading, names in API.items():
        out += [f"## {heading}\n", *(f"::: {name}\n" for name in names)]
    return "\n".join(out) + f"    options: {{members: [{raised}]}}\n"


def notebook() -> dict[str, str | bytes]:
    """``how-to/notebook.md``, and its pictures: the cells with the outputs that are stored in ``notebook.ipynb``."""
    out, files = [], {}
    for number, found in enumerate(json.loads((DOCS / "notebook.ipynb").read_text(encoding="utf-8"))["cells"]):
        source = "".join(found["source"])
        out.append(source if found["cell_type"] == "markdown" else f"```python\n{source}\n```")
        for output in found.get("outputs", []):
            if picture := output.get("data", {}).get("image/png"):
                name = f"notebook-{number}.png"
                files[f"how-to/{name}"] = base64.b64decode("".join(picture))
                out.append(f"![What the cell above draws]({name})")
            elif text := "".join(output.get("text", [])):
                out.append(f"```text\n{text.rstrip()}\n```")
    out.insert(1, "The same as a [file for Jupyter](../notebook.ipynb).")
    return {"how-to/notebook.md": "\n\n".join(out) + "\n", **files}


PAGES: dict[str, Callable[[], str]] = {
    "reference/commands.md": commands,
    "reference/settings.md": settings,
    "reference/tables.md": tables,
    "reference/api.md": api,
    "reference/failures.md": reasons,
    "reference/environment.md": environment,
}


def on_files(files: Any, config: Any) -> Any:
    """Adds the generated pages to those of the folder."""
    from mkdocs.structure.files import File

    for path, content in {**{p: make() for p, make in PAGES.items()}, **notebook()}.items():
        files.append(File.generated(config, path, content=content))
    return files
