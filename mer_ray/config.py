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
    lexicon: str | None = None
    scale: tuple[float, float] | None = None
    recipe: Annotated[str, AfterValidator(known_recipe)] = "original"
    exclude: Names = Field([])
    keep: Names = Field([])
    words: bool = False
    negation: Literal["drop", "reflect"] = "drop"
    min_coverage: float = Field(0.0, ge=0, le=1)
    min_terms: int = Field(1, ge=1)
    report: bool = True

    @model_validator(mode="after")
    def _consistent(self) -> LabelConfig:
        if self.scale is not None and not self.scale[0] < self.scale[1]:
            raise ValueError("scale must be [lowest, highest]")
        defaults = LabelConfig.model_fields
        check_options(self.recipe, {n for n in ("words", "negation") if getattr(self, n) != defaults[n].default})
        return self


class AcquireConfig(Section):
    """How audio is obtained, from the first provider that has it.

    per_host: simultaneous requests to a host, cluster-wide. allow_private: tracks' URLs may lead into private networks
    (`io.private`). duration_tolerance: share by which savify's results may be longer or shorter than expected.
    min_similarity: lowest similarity of artist and title.
    """

    providers: Names = Field(["uri", "folder"])
    folder: str | None = None
    timeout_s: float = Field(180.0, gt=0)
    max_mb: float = Field(200.0, gt=0)
    per_host: int = Field(4, ge=1)
    allow_private: bool = False
    duration_tolerance: float = Field(0.1, gt=0, le=1)
    min_similarity: float = Field(0.6, ge=0, le=1)
    workers: int | None = Field(None, ge=1)

    @model_validator(mode="after")
    def _known(self) -> AcquireConfig:
        config_file.check_names("provider", self.providers, PROVIDERS)
        return self


class ExcerptConfig(Section):
    """The part of each track that is used: see `audio.excerpt.Excerpt`."""

    seconds: float = Field(gt=0)
    place: Position = "centre"
    windows: int = Field(1, ge=1, le=1_000)

    @model_validator(mode="after")
    def _spread(self) -> ExcerptConfig:
        if self.windows > 1 and self.place != "spread":
            raise ValueError("several windows need place=spread")
        return self


class _ExtractConfig(Section):
    """Which features are computed, and how: ``extract.NAME`` has the settings of each registered feature.

    hub, precomputed: features from TensorFlow Hub modules and from tables of frames, under the user's names. excerpt:
    None for whole tracks. batch_minutes: audio of a shard, which a killed worker loses.
    """

    features: Names = Field(["mfcc", "vggish"])
    excerpt: ExcerptConfig | None = None
    min_duration_s: float = Field(1.0, gt=0)
    batch_minutes: float = Field(60.0, gt=0, le=10_000)
    workers: int | None = Field(None, ge=1)
    gpus_per_worker: float = Field(0.0, ge=0)

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
    """The hyperparameter search within each fold's training tracks. Reproducible by the seed.

    Attributes:
        trials: Of each fold; 0 for no search.
        method: Optuna's random sampler, or (optuna) its TPE.
        scheduler: Optuna's pruner: asha (successive halving) stops the worst trials after ``grace_epochs``, three times
            as many, and so on; median stops trials below the median of earlier ones from ``grace_epochs`` on.
    """

    trials: int = Field(0, ge=0, le=10_000)
    method: Literal["random", "optuna"] = "random"
    scheduler: Literal["asha", "median", "none"] = "asha"
    grace_epochs: int = Field(5, ge=1)


class TrainConfig(Section):
    """Which networks are trained on which features, and how.

    None stands for the network's own default (`models.defaults`). Not every network uses all settings (`models.uses`).

    Attributes:
        inputs: The features that a model reads together; None for each of ``extract.features`` alone.
        targets: ``track`` for one label a track; ``curve`` for labels over time, of the tracks that have them.
        split: ``groups`` for folds of whole groups; ``given`` for the split or the folds that the source gives.
        repeats: Cross-validations, each with other folds; trainings on a given split.
        seed: Of the first repeat; others have the following numbers.
        seeds: One for each repeat, instead of ``seed`` and ``repeats``.
        members: Networks per fold, whose predictions are averaged.
        heads: One network for V, A and D, or one each.
        weigh_labels: By their standard errors, if labels have any.
        source_bias: Train on labels without the bias of their data set (`training.source_bias`).
        workers: Processes that train one network together.
        mlflow: A tracking URI or a folder, to log the trials there, too.
        about: A line on the tracks and their labels, for the model card.
    """

    networks: Names = Field(["cnn", "lstm", "kernel"])
    inputs: Annotated[list[list[str]] | None, BeforeValidator(config_checks.input_lists)] = None
    targets: Literal["track", "curve"] = "track"
    split: Literal["groups", "given"] = "groups"
    folds: int = Field(5, ge=2, le=50)
    repeats: int = Field(1, ge=1, le=20)
    members: int = Field(2, ge=1, le=20)
    seed: int = Field(0, ge=0, le=MAX_SEED)
    seeds: Annotated[list[Annotated[int, Field(ge=0, le=MAX_SEED)]] | None, Field(min_length=1, max_length=20)] = None
    heads: Literal["joint", "separate"] = "joint"
    loss: Literal["mse", "huber", "ccc", "nll"] | None = None
    window_s: float | None = Field(None, gt=0)
    epochs: int | None = Field(None, ge=1)
    patience: int | None = Field(None, ge=1)
    batch_size: int | None = Field(None, ge=1)
    learning_rate: float | None = Field(None, gt=0)
    weight_decay: float | None = Field(None, ge=0)
    mask_share: float | None = Field(None, ge=0, le=0.5)
    mixup: float | None = Field(None, ge=0, le=10)
    ema: float | None = Field(None, ge=0, lt=1)
    weigh_labels: bool = True
    source_bias: bool = False
    baselines: bool = True
    search: SearchConfig = SearchConfig()
    workers: int = Field(1, ge=1, le=1_024)
    cpus_per_trial: float = Field(1.0, gt=0)
    gpus_per_trial: float = Field(0.0, ge=0)
    mlflow: str | None = None
    about: str | None = None

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
    batch_minutes: float = Field(60.0, gt=0)
    workers: int | None = Field(None, ge=1)
    gpus_per_worker: float = Field(0.0, ge=0)


class Config(Section):
    """All settings of a run.

    cpu_share: of this machine's CPUs, which work on this machine may take. nice: the niceness of long work on it.
    allow_partial: use the decodable part of truncated or damaged audio files, instead of failing them. max_lost: a
    command ends with exit code 3 if more of the catalog's tracks failed for reasons beside the files themselves.
    """

    workspace: str = "work/demo"
    address: str | None = None
    retry_failed: bool = False
    cpu_share: float = Field(1.0, gt=0, le=1)
    nice: int = Field(10, ge=0, le=19)
    allow_partial: bool = False
    max_lost: float = Field(0.2, ge=0, le=1)
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
