"""Settings: one model per stage, filled from a YAML file and from ``--set stage.key=value``.

The defaults are the demo: ``mer-ray run`` without a file does what ``configs/demo.yaml`` says. An unknown key or a bad
value is a ConfigError that names the key. No secret is a setting: keys come from the environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    Field,
    StringConstraints,
    ValidationError,
    create_model,
    model_validator,
)

from mer_ray import config_checks, config_file
from mer_ray.audio.excerpt import Position
from mer_ray.audio.providers import PROVIDERS
from mer_ray.config_collect import MAX_SEED, CollectConfig, Names, Section
from mer_ray.errors import ConfigError
from mer_ray.features import FAMILIES, OLDER_NAMES, params_model
from mer_ray.features import MODULES as FEATURES
from mer_ray.labels.recipes import check_options, known_recipe
from mer_ray.models import NETWORKS

FeatureName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,63}$")]
"""Valid in names of folders, plots and table rows."""


class LabelConfig(Section):
    """How tags become valence, arousal and dominance."""

    source: Literal["auto", "manifest", "tags"] = "auto"
    """`manifest`: the labels that it brings; `tags`: from tags and lexicon; `auto`: the manifest's, else from tags."""
    lexicon: str | None = None
    """Path of the lexicon: NRC VAD v1 or v2, Warriner's norms, ANEW, or a CSV with a header. `demo` is for the demo
    only."""
    scale: tuple[float, float] | None = None
    """The lexicon's [lowest, highest] score; by default what its kind says."""
    recipe: Annotated[str, AfterValidator(known_recipe)] = "original"
    """How tags are matched: `original` (exact terms) or `careful` (spelling, negation, lemmas; leaves out names)."""
    exclude: Names = Field([])
    """Tags that do not count. `@FILE` names a list, one a line."""
    keep: Names = Field([])
    """The only terms of the lexicon that count; empty: all. `@FILE` names a list."""
    words: bool = False
    """`careful` only: the words of a phrase count where the phrase is unknown, and share its weight."""
    negation: Literal["drop", "reflect"] = "drop"
    """`careful` only, of `not sad`: `drop` counts it as unknown, `reflect` mirrors its valence."""
    min_coverage: float = Field(0.0, ge=0, le=1)
    """Lowest share of a track's tag weight that the lexicon knows; less is the failure `low_coverage`."""
    min_terms: int = Field(1, ge=1)
    """Fewest known terms of a track; less is the failure `too_few_terms`."""
    report: bool = True
    """Whether `report/labels.md` is written."""

    @model_validator(mode="after")
    def _consistent(self) -> LabelConfig:
        if self.scale is not None and not self.scale[0] < self.scale[1]:
            raise ValueError("scale must be [lowest, highest]")
        defaults = LabelConfig.model_fields
        check_options(self.recipe, {n for n in ("words", "negation") if getattr(self, n) != defaults[n].default})
        return self


class AcquireConfig(Section):
    """How audio is obtained, from the first provider that has it."""

    providers: Names = Field(["uri", "folder"])
    """Where audio is looked for, in this order: `uri` (the track's own path or address), `folder`, `savify`."""
    folder: str | None = None
    """Your music, matched by artist and title; for the provider `folder`."""
    timeout_s: float = Field(180.0, gt=0)
    """Longest time for one track's audio, in seconds."""
    max_mb: float = Field(200.0, gt=0)
    """Largest download, in MB."""
    per_host: int = Field(4, ge=1)
    """Most requests at a time to one host, on the whole cluster."""
    allow_private: bool = False
    """Tracks' addresses may lead into this machine and private networks."""
    duration_tolerance: float = Field(0.1, gt=0, le=1)
    """Share by which savify's result may be longer or shorter than expected."""
    min_similarity: float = Field(0.6, ge=0, le=1)
    """Lowest similarity of artist and title to those that are looked for."""
    workers: int | None = Field(None, ge=1)
    """Processes; by default one a core."""

    @model_validator(mode="after")
    def _known(self) -> AcquireConfig:
        config_file.check_names("provider", self.providers, PROVIDERS)
        return self


class ExcerptConfig(Section):
    """The part of each track that is used: see `audio.excerpt.Excerpt`."""

    seconds: float = Field(gt=0)
    """How much of each track, in seconds, in all windows together; shorter tracks are used whole."""
    place: Position = "centre"
    """Where it is: `start`, `centre`, or `spread` evenly over the track in `windows`."""
    windows: int = Field(1, ge=1, le=1_000)
    """How many pieces, with `spread`."""

    @model_validator(mode="after")
    def _spread(self) -> ExcerptConfig:
        if self.windows > 1 and self.place != "spread":
            raise ValueError("several windows need place=spread")
        return self


class _ExtractConfig(Section):
    """Which features are computed, and how: ``extract.NAME`` has the settings of each registered feature."""

    features: Names = Field(["mfcc", "vggish"])
    """Which are computed: built-in ones, and your own names under `hub` and `precomputed`."""
    excerpt: ExcerptConfig | None = None
    """The part of each track that is used; none: whole tracks."""
    min_duration_s: float = Field(1.0, gt=0)
    """Shorter audio is the failure `too_short`, in seconds."""
    batch_minutes: float = Field(60.0, gt=0, le=10_000)
    """Minutes of audio in a shard: what a killed worker loses at most."""
    workers: int | None = Field(None, ge=1)
    """Processes; by default one a core."""
    gpus_per_worker: float = Field(0.0, ge=0)
    """GPUs of each, for networks; a fraction shares one."""

    @model_validator(mode="after")
    def _known(self) -> _ExtractConfig:
        for name in self.known:
            if self.known.count(name) > 1:
                raise ValueError(f"{name!r} is the name of two features")
        config_file.check_names("feature", self.features, self.known)
        return self

    @property
    def known(self) -> list[str]:
        """The names of all features, computed or not."""
        return [*FEATURES, *(name for family in FAMILIES for name in getattr(self, family))]

    def params(self, name: str) -> tuple[str, BaseModel]:
        """(the family of a feature, or "", its settings)."""
        for family in FAMILIES:
            if name in getattr(self, family):
                return family, getattr(self, family)[name]
        return "", getattr(self, name)


if TYPE_CHECKING:
    ExtractConfig = _ExtractConfig
else:
    fields = {name: (params_model(name), params_model(name)()) for name in FEATURES}
    for name in FAMILIES:
        older = AliasChoices(name, OLDER_NAMES.get(name, name))
        fields[name] = (dict[FeatureName, params_model(name)], Field({}, validation_alias=older))
    ExtractConfig = create_model("ExtractConfig", __base__=_ExtractConfig, **fields)


class SearchConfig(Section):
    """The hyperparameter search within each fold's training tracks. Reproducible by the seed."""

    trials: int = Field(0, ge=0, le=10_000)
    """Of each fold; 0 for no search."""
    method: Literal["random", "optuna"] = "random"
    """Optuna's random sampler, or (`optuna`) its TPE."""
    scheduler: Literal["asha", "median", "none"] = "asha"
    """Optuna's pruner: `asha` (successive halving) stops the worst trials after `grace_epochs`, three times as many,
    and so on; `median` those below the median of earlier ones."""
    grace_epochs: int = Field(5, ge=1)
    """No trial is stopped before so many epochs."""


class TrainConfig(Section):
    """Which networks are trained on which features, and how.

    None stands for the network's own default (`models.defaults`). Not every network uses all settings (`models.uses`).
    """

    networks: Names = Field(["cnn", "lstm", "kernel"])
    """`cnn`, `lstm`, `kernel`: each is trained on each of `inputs`."""
    inputs: Annotated[list[list[str]] | None, BeforeValidator(config_checks.input_lists)] = None
    """The features that a model reads together, as `mfcc,logmel+chroma`; by default each of `extract.features`
    alone."""
    targets: Literal["track", "curve"] = "track"
    """`track`: one label a track; `curve`: labels over time, of the tracks that have them."""
    split: Literal["groups", "given"] = "groups"
    """`groups`: folds of whole groups; `given`: the split or the folds that the source gives."""
    folds: int = Field(5, ge=2, le=50)
    """Of a cross-validation."""
    repeats: int = Field(1, ge=1, le=20)
    """Cross-validations, each with other folds; trainings on a given split."""
    members: int = Field(2, ge=1, le=20)
    """Networks per fold, whose predictions are averaged."""
    seed: int = Field(0, ge=0, le=MAX_SEED)
    """Of the first repeat; others have the following numbers."""
    seeds: Annotated[list[Annotated[int, Field(ge=0, le=MAX_SEED)]] | None, Field(min_length=1, max_length=20)] = None
    """One for each repeat, instead of `seed` and `repeats`."""
    heads: Literal["joint", "separate"] = "joint"
    """One network for all dimensions, or one each."""
    loss: Literal["mse", "huber", "ccc", "nll"] | None = None
    """`mse`, `huber`, `ccc` (1 - concordance) or `nll` (Gaussian, with a predicted variance)."""
    window_s: float | None = Field(None, gt=0)
    """Seconds of audio that a network, or a passage of `kernel`, sees."""
    epochs: int | None = Field(None, ge=1)
    """Most passes over the training tracks."""
    patience: int | None = Field(None, ge=1)
    """Epochs without a better validation loss after which training stops."""
    batch_size: int | None = Field(None, ge=1)
    """Windows in a step of the optimiser."""
    learning_rate: float | None = Field(None, gt=0)
    """Of AdamW, at its highest."""
    weight_decay: float | None = Field(None, ge=0)
    """Of AdamW."""
    mask_share: float | None = Field(None, ge=0, le=0.5)
    """Share of time and of bands that is masked in training."""
    mixup: float | None = Field(None, ge=0, le=10)
    """Alpha of the beta distribution from which pairs of tracks are mixed; 0: none."""
    ema: float | None = Field(None, ge=0, lt=1)
    """Decay of the moving average of the weights; 0: none."""
    weigh_labels: bool = True
    """By their standard errors, if labels have any."""
    source_bias: bool = False
    """Train on labels without the bias of their data set (several data sets)."""
    baselines: bool = True
    """Also fit ridge and SVR on mean and deviation of each of `inputs`."""
    search: SearchConfig = SearchConfig()
    workers: int = Field(1, ge=1, le=1_024)
    """Processes that train one network together."""
    cpus_per_trial: float = Field(1.0, gt=0)
    """Cores of each trial: as many trials run side by side as there is room for."""
    gpus_per_trial: float = Field(0.0, ge=0)
    """GPUs of each trial; a fraction shares one."""
    mlflow: str | None = None
    """A tracking URI or a folder, to log the trials there, too."""
    about: str | None = None
    """A line on the tracks and their labels, for the model card."""

    @model_validator(mode="before")
    @classmethod
    def _seeds(cls, values: Any) -> Any:
        """``seeds`` decide ``seed`` and ``repeats``."""
        return config_checks.seeds(values) if isinstance(values, dict) else values

    @model_validator(mode="after")
    def _known(self) -> TrainConfig:
        config_file.check_names("network", self.networks, NETWORKS)
        config_checks.processes(self.workers, self.gpus_per_trial, self.batch_size or 32)
        return self


class ScoreConfig(Section):
    """How catalogs are scored."""

    model: str | None = None
    """`default`, `light` or a model folder; by default `default`, for the workspace's own tracks their best model."""
    batch_minutes: float = Field(60.0, gt=0)
    """Minutes of audio in a shard: what a killed worker loses at most."""
    workers: int | None = Field(None, ge=1)
    """Processes; by default one a core."""
    gpus_per_worker: float = Field(0.0, ge=0)
    """GPUs of each, for networks; a fraction shares one."""


class Config(Section):
    """All settings of a run."""

    workspace: str = "work/demo"
    """Where the tables are: a path, `s3://BUCKET/FOLDER` or `gs://BUCKET/FOLDER`."""
    address: str | None = None
    """A Ray cluster to join, as in `--address`; by default this machine."""
    retry_failed: bool = False
    """Also try again what failed for good, as `--retry-failed`."""
    cpu_share: float = Field(1.0, gt=0, le=1)
    """The share of this machine's CPUs that work on this machine may take."""
    nice: int = Field(10, ge=0, le=19)
    """The niceness of long work on this machine; 0 for the usual priority."""
    allow_partial: bool = False
    """Use the decodable part of truncated or damaged audio files, instead of failing them."""
    max_lost: float = Field(0.2, ge=0, le=1)
    """A command ends with exit code 3 if more of the catalog's tracks failed for reasons beside the files."""
    collect: CollectConfig = CollectConfig()
    label: LabelConfig = LabelConfig()
    acquire: AcquireConfig = AcquireConfig()
    extract: ExtractConfig = ExtractConfig()
    train: TrainConfig = TrainConfig()
    score: ScoreConfig = ScoreConfig()

    @model_validator(mode="after")
    def _inputs(self) -> Config:
        config_checks.inputs(self.train.inputs, self.extract.features, self.extract.known)
        return self

    @property
    def again(self) -> tuple[str, ...]:
        """Reasons of failures to retry under these settings."""
        partial = ("truncated", "corrupt") if self.allow_partial else ()
        return (*partial, "private_address") if self.acquire.allow_private else partial

    @property
    def is_demo(self) -> bool:
        """Whether the catalog is the demo, for which the demo lexicon and random weights are allowed.

        By the settings alone; a workspace with tracks has its recorded source (`stages.workspace_source.adopt`).
        """
        return self.collect.source == "demo"


def load(file: str | Path | None = None, assignments: Sequence[str] = ()) -> Config:
    """Defaults, then a YAML file, then ``a.b=value`` assignments (values in YAML).

    Relative paths of inputs start at the file's folder if they are in the file, and at the current folder if they are
    assigned; outputs (workspace, collect.cache, train.mlflow) always start at the current folder.

    Raises:
        ConfigError: With the file or the key.
    """
    try:
        return Config.model_validate(config_file.read(file, assignments))
    except ValidationError as error:
        origin = "settings" if file is None else str(file)
        errors = "; ".join(config_file.explain(dict(e), Config) for e in error.errors())
        raise ConfigError(f"{origin}: {errors}") from error
