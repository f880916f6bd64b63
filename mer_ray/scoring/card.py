"""The model card (``README.md``) of a model folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mer_ray import models
from mer_ray.evaluation import overlap_report, protocol, units
from mer_ray.evaluation.bootstrap import uneven
from mer_ray.evaluation.escape import markdown_text
from mer_ray.evaluation.metric_tables import HEADS, Cells, display, heading, lines, number, with_ends
from mer_ray.evaluation.metrics import METRICS
from mer_ray.evaluation.summary import of_baselines
from mer_ray.features import FeatureSpec
from mer_ray.features.joined import parts
from mer_ray.io.schemas import DIMENSIONS
from mer_ray.io.tables import Workspace
from mer_ray.scoring import model_folder
from mer_ray.scoring.intervals import LEVEL, MARGIN
from mer_ray.scoring.model_folder import Model


def card(model: Model, baselines: Mapping[str, Mapping[str, Any]] | None = None, packaged: str = "") -> str:
    """The card, as Markdown.

    Args:
        model: What it describes.
        baselines: ridge, svr, ... → the figures of `summary.evaluate`, on the same feature, tracks and folds.
        packaged: The name of a model that comes with the package, without the files of its run.
    """
    use = _use(packaged or f"runs/{model.name}", bool(packaged), model.dimensions)
    limits = _limits(SEEN_PACKAGED if packaged else SEEN, [part.name for part in parts(model.feature)])
    sections = [_head(model), _data(model), _metrics(model, baselines or {}), _settings(model), use, limits]
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def packaged_card(uri: str, run: str, name: str) -> str:
    """The card of a workspace's run as a packaged model of that name."""
    workspace = Workspace(uri)
    model = model_folder.load(workspace.at("runs", run))
    return card(model, of_baselines(workspace).get(baselines_name(model)), name)


def baselines_name(model: Model) -> str:
    """The name in ``baselines/`` of those that were evaluated as the model was."""
    return model.feature.name + protocol.SUFFIX[protocol.of(model.details["settings"])]


def _head(model: Model) -> list[str]:
    return [
        f"# {markdown_text(display(model.network))} on {markdown_text(display(model.feature.name))}",
        "",
        f"Predicts {_listed(model.dimensions)} (each 0..1) of music from its audio.",
        _members(model),
    ]


def _listed(names: Sequence[str]) -> str:
    """``valence, arousal and dominance``."""
    shown = [markdown_text(name.replace("_", " ")) for name in names]
    return " and ".join([", ".join(shown[:-1]), shown[-1]]) if len(shown) > 1 else shown[0]


def _members(model: Model) -> str:
    if protocol.of(model.details["settings"]) == protocol.TEST:
        n = len(model.members)
        what = f"{n} models, whose predictions are averaged," if n > 1 else "One model,"
        return f"{what} trained on the tracks of a given split that are not its test set, which its figures are of."
    if len(model.members) > 1:
        return f"An ensemble of {len(model.members)} networks, whose predictions are averaged."
    return (
        "One network, solved on all of its tracks; its figures come from networks that lacked the tracks in question."
    )


def _data(model: Model) -> list[str]:
    details, feature = model.details, model.feature
    settings, repeats = details["settings"], details.get("repeats", 1)
    kind, seeds = protocol.of(settings), protocol.in_words(protocol.seeds(settings, repeats))
    text = [
        "## Data",
        "",
        f"- {details['n_tracks']:,} tracks by {details['n_artists']:,} artists, fingerprint `{details['data']}`.",
    ]
    if details.get("about"):
        text.append(f"- {markdown_text(details['about'], 1_000)}")
    if details.get("labels"):
        text.append(f"- Labels: {markdown_text(details['labels'], 1_000)}")
    if biases := details.get("biases"):
        names = ", ".join(markdown_text(name or "(none named)") for name in biases)
        text.append(
            f"- It was trained on labels without the bias of their data set ({names}), and predicts without it."
        )
    if settings.get("targets") == "curve":
        text.append("- Trained on labels over time: a window's label is the mean of its track's curve over it.")
    for part in parts(feature):
        text += [
            f"- Feature: {markdown_text(part.name)}, {_source(part)}, fingerprint `{part.fingerprint}`;",
            "  frames of any other are refused.",
        ]
    text += _splits(details, kind, f"{repeats} repeats ({seeds})")
    if "largest_group" in details:
        sizes = (details[k] for k in ("n_groups", "largest_group", "effective_groups"))
        text += [
            f"- {remark}"
            for remark in [uneven(details.get("overlap", {}).get("tested", details["n_tracks"]), *sizes)]
            if remark
        ]
    if feature.note:
        text.append(f"- Note: {markdown_text(feature.note, 1_000)}.")
    return text


def _splits(details: Mapping[str, Any], kind: str, repeats: str) -> list[str]:
    """How the figures came about, and what a given split has on both sides."""
    folds = details["settings"]["folds"]
    if kind == protocol.GROUPS:
        return [
            f"- Splits: {folds} folds × {repeats}. Tracks of an artist, an album or a",
            "  composer, and near-duplicates, are one group, and a group is never on both sides of a split.",
        ]
    what = f"{folds} folds"
    if kind == protocol.TEST:
        what = ", ".join(f"{n:,} tracks of {name}" for name, n in details["parts"].items() if n)
    shared = overlap_report.warning(details["overlap"], kind)
    return [f"- Split: as the source gives it, {what}; {repeats}.", *(f"- Leakage: {text}." for text in shared)]


def _source(feature: FeatureSpec) -> str:
    source = f"{feature.sample_rate_hz:,} Hz" if feature.sample_rate_hz else "precomputed frames"
    if feature.excerpt is None:
        return source
    return f"{source} of {feature.excerpt['seconds']:g} s ({feature.excerpt['place']}) of each track"


def _metrics(model: Model, baselines: Mapping[str, Mapping[str, Any]]) -> list[str]:
    rows: Cells = []
    typical = model.intervals.mean * model.intervals.factor
    coverage = model.details.get("coverage", [float("nan")] * len(model.dimensions))
    covered = [_percent(share) for share in coverage]
    unequal = len({model.metrics[d]["n"] for d in model.dimensions}) > 1  # not every track has all labels
    for i, dimension in enumerate(model.dimensions):
        m: Mapping[str, Any] = model.metrics[dimension]
        unknown = [float("nan")] * 2
        figures = [with_ends(f, m.get(f, np.nan), m.get("intervals", {}).get(f, unknown)) for f in METRICS]
        others = [number("r2", b[dimension]["r2"]) if dimension in b else "–" for b in baselines.values()]
        n = [f"{m['n']:,}"] if unequal else []
        texts = [heading(dimension), *n, *figures, f"{m['label_sd']:.3f}", *others, f"± {typical[i]:.3f}", covered[i]]
        rows.append([(text, False) for text in texts])
    others = [f"R² of the {display(name)}" for name in baselines]
    first = ["Dimension", "Tracks"] if unequal else ["Dimension"]
    heads = [*first, *HEADS.values(), "Label SD", *others, "90 % interval", "holds"]
    how = "Of the test set" if protocol.of(model.details["settings"]) == protocol.TEST else "Out of fold"
    about = f"{how}; figures are means over the repeats, in brackets their 95 % intervals (bootstrap over groups)."
    remarks = [
        "R² is against the mean of these labels, whose MSE is the label SD squared. 90 % interval: half of its usual",
        "width; holds: the share of labels in it, of artists that neither the model nor the interval had met;",
        f"{_at_once(model)}It is calibrated at {100 * (LEVEL + MARGIN):.0f} %, a margin for other music, "
        "and wider for audio",
        "of less than half a minute: " + _widths(model) + ".",
    ]
    if baselines:
        remarks[-1] += " Baselines: on mean and SD of the same feature, same folds."
    remarks += units.remark(model.metrics, model.dimensions, model.details.get("scale"))
    return ["## Metrics", "", about, "", *lines(heads, rows, n_texts=1), "", *remarks]


def _at_once(model: Model) -> str:
    """The share of tracks whose labels all lie in their intervals; "" of a model of one dimension."""
    if len(model.dimensions) == 1:
        return ""
    every = {2: "both", 3: "all three"}.get(len(model.dimensions), "all of a track")
    return f"{every} at once: {_percent(model.details.get('coverage_of_all', np.nan))}. "


def _percent(share: float) -> str:
    return "–" if np.isnan(share) else f"{100 * share:.1f} %"


def _widths(model: Model) -> str:
    """How much wider the intervals are for short audio."""
    own = model.intervals
    return "; ".join(
        f"{seconds:g} s × {', '.join(f'{g:.2f}' for g in growth)}"
        for seconds, growth in zip(own.seconds[:-1], own.growth[:-1], strict=True)
    )


def _settings(model: Model) -> list[str]:
    """The settings that the network used, with those that a search chose."""
    details, settings = model.details, model.details["settings"]
    searched, unused = details.get("searched", {}), set(settings) - models.uses(model.network)
    if not settings.get("search", {}).get("trials"):
        unused.add("search")
    if not details.get("weighed", True):
        unused.add("weigh_labels")  # no label had a standard error
    used = ", ".join(f"{key} {settings[key]}" for key in sorted(set(settings) - unused - set(searched)))
    text = ["## Training", "", f"Trained {details['trained_at']}: {markdown_text(used, 2_000)}."]
    if searched:
        values = "; ".join(f"{name} {', '.join(map(str, found))}" for name, found in searched.items())
        text += ["", f"Chosen by the search, in one fold or another: {markdown_text(values, 2_000)}."]
    selects = getattr(models.module(model.network), "SELECTS", "")
    if selects:
        text += ["", *_chosen(details.get("chosen"), selects, model.dimensions)]
    return text


def _chosen(chosen: Mapping[str, Any] | None, selects: str, dimensions: Sequence[str]) -> list[str]:
    if not chosen:
        return ["What the fit selected was not recorded."]
    names = list(chosen[dimensions[0]])
    rows: Cells = []
    for d in dimensions:
        values = (v if isinstance(v, list) else [v] for v in (chosen[d][name] for name in names))
        texts = [heading(d), *(", ".join(f"{v:g}" for v in value) for value in values)]
        rows.append([(text, False) for text in texts])
    heads = ["Dimension", *(markdown_text(name.replace("_", " ").capitalize(), 40) for name in names)]
    return [
        f"Selected for each dimension by folds inside the training tracks: {selects}",
        "",
        *lines(heads, rows, n_texts=1),
    ]


def _use(model: str, packaged: bool, dimensions: Sequence[str]) -> list[str]:
    """model: a folder, or the name of a packaged one."""
    is_default = packaged and model == model_folder.DEFAULT
    named = "" if is_default else f'"{model}"'
    value = "vad" if tuple(dimensions) == DIMENSIONS else "value"
    command = f"mer-ray score MUSIC_FOLDER{'' if is_default else f' --model {model}'}"
    if not packaged:
        command += " --out scores.csv"
    about = ["It is the model that is used where none is named.", ""] if is_default else []
    return [
        "## Use",
        "",
        *about,
        "```sh",
        command,
        "```",
        "",
        "```python",
        "import mer_ray",
        "",
        f"prediction = mer_ray.load_model({named}).predict(samples, rate)  # mono, in [-1, 1]",
        f"prediction.{value}, prediction.lower, prediction.upper  # {', '.join(dimensions)}",
        "```",
    ]


SEEN = "for those, use the out-of-fold values in `predictions.parquet`."
SEEN_PACKAGED = "for those, its scores are fitted values."
PRETRAINED = {
    "musicnn": [
        "- musicnn's networks (Pons & Serra 2019, ISC licence) learnt tags of the Million Song Dataset and of",
        "  MagnaTagATune. Whether training tracks are among those songs cannot be told without lists of them: where",
        "  they are, the figures are a little favourable.",
    ]
}
"""What a card says of features whose weights were trained on music."""


def _limits(seen: str, features: Sequence[str]) -> list[str]:
    return [
        "## Limits",
        "",
        "- The figures hold for music like the training tracks, and for labels made the same way.",
        "- Labels that come from tags say what listeners write about music. That is not what a person feels who hears",
        "  it, and nothing here measures that.",
        f"- It has heard every training track; {seen}",
        *(line for name in features for line in PRETRAINED.get(name, [])),
        "- The intervals of the figures tell what another sample of tracks would change, not what another training",
        "  would.",
        "- A track that is unlike the training tracks is marked (`in_distribution`); its interval promises nothing.",
        "- Not for judging, sorting or treating people by the music they hear or make, nor for clinical use.",
    ]
