"""The settings of ``collect``: where tracks, tags and labels come from."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    ValidatorFunctionWrapHandler,
    WrapValidator,
    model_validator,
)

from mer_ray import config_checks, config_file
from mer_ray.io import address
from mer_ray.io.schemas import DIMENSIONS

IMPLIED = {"manifest": "manifest", "folder": "folder", "api_url": "lastfm"}
"""Settings of ``collect`` that imply its source."""
LASTFM_API = "https://ws.audioscrobbler.com/2.0/"
MAX_SEED = 2**31 - 1

Names = Annotated[list[str], BeforeValidator(config_file.names)]
Scale = tuple[float, float]


def _scales(value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
    try:
        return handler(value)
    except ValidationError as error:
        raise ValueError("[lowest, highest] is wanted, or one each, as in {deam: [1, 9], musav: [-1, 1]}") from error


def _manifests(value: Any) -> Any:
    """Accept ``a.csv,b.csv`` as a list, unless a file is called so."""
    is_list = isinstance(value, str) and "," in value and not Path(value).expanduser().is_file()
    return config_file.names(value) if is_list else value


def _called(path: Path) -> tuple[str, ...]:
    """What a manifest's data set can be called, the shortest first."""
    return path.stem, f"{path.parent.name}/{path.stem}", f"{path.parent.name}/{path.name}", path.as_posix()


class Section(BaseModel):
    """A group of settings. An unknown key is an error."""

    model_config = ConfigDict(
        extra="forbid", validate_default=False, allow_inf_nan=False, use_attribute_docstrings=True
    )


class DemoConfig(Section):
    """The synthetic demo catalog."""

    cues: int = Field(160, ge=1, le=100_000)
    """Soundtracks, four by each composer."""
    seconds: float = Field(20.0, ge=1.0, le=600.0)
    """Length of each, in seconds."""
    seed: int = Field(7, ge=0, le=MAX_SEED)
    """Another seed, another catalog."""


class CollectConfig(Section):
    """The source of tracks and tags, by default implied by manifest, folder or api_url, else the workspace's own."""

    source: Literal["lastfm", "manifest", "folder", "demo"] = "demo"
    """Implied by `manifest`, `folder` or `api_url`, where one is set; else by what the workspace knows."""
    manifest: Annotated[str | list[str] | None, BeforeValidator(_manifests)] = None
    """Path of a table of tracks (CSV, TSV, JSON, Parquet), or several that are collected together."""
    folder: str | None = None
    """A folder of music, whose audio files become the tracks."""
    tag: str | list[str] = "soundtrack"
    """Last.fm: the tag whose tracks are collected, or several."""
    combine: Literal["union", "intersection"] = "union"
    """Last.fm: the tracks of any of several tags, or of all."""
    limit: int | None = Field(None, ge=1)
    """At most so many tracks."""
    min_tag_weight: float = Field(0.0, ge=0, le=100)
    """Last.fm: lighter tags of a track are left out (weights go from 0 to 100)."""
    min_seed_weight: float = Field(0.0, ge=0, le=100)
    """Last.fm: tracks on which `tag` weighs less are the failure `off_topic`."""
    details: bool = False
    """Last.fm: also ask for album and MusicBrainz id, which doubles the requests."""
    api_url: str = LASTFM_API
    """A server that speaks Last.fm's protocol."""
    requests_per_s: float = Field(5.0, gt=0)
    """Last.fm: most requests in any one second."""
    timeout_s: float = Field(10.0, gt=0)
    """Last.fm: longest wait for an answer, in seconds."""
    workers: int | None = Field(None, ge=1, le=256)
    """Has no effect (older settings)."""
    cache: str | None = None
    """Folder of Last.fm's stored answers; by default `cache/lastfm` in the workspace."""
    offline: bool = False
    """Make the tables from the stored answers alone, as `--offline`."""
    dimensions: Annotated[Names, AfterValidator(config_checks.dimensions)] = list(DIMENSIONS)
    """What labels describe, in the order of tables and arrays."""
    scale: Annotated[Scale | dict[str, Scale], WrapValidator(_scales)] = (0.0, 1.0)
    """The lowest and highest possible label of a manifest, which become 0 and 1. Of several manifests, also one
    each, by file name or stem."""
    curves: Names = []
    """Tables of labels over time, beside a manifest."""
    curve_scale: Scale | None = None
    """Their scale; by default `scale`."""
    keep_gone: bool = False
    """Tracks that the source no longer has stay in the workspace, as with `--keep-gone`."""
    demo: DemoConfig = DemoConfig()

    @model_validator(mode="before")
    @classmethod
    def _implied(cls, values: Any) -> Any:
        """``manifest``, ``folder`` and ``api_url`` imply the source."""
        if not isinstance(values, dict):
            return values
        implied = {source: key for key, source in IMPLIED.items() if values.get(key) not in (None, LASTFM_API)}
        source = str(values.get("source") or next(iter(implied), ""))
        others = [key for other, key in implied.items() if other != source]
        if others:
            stated = f"source is {source}" if values.get("source") else f"{implied[source]} is set"
            raise ValueError(f"{stated}, but {others[0]} is set too, for another source: leave one of them out")
        return {**values, "source": source} if source else values

    @model_validator(mode="after")
    def _scale(self) -> CollectConfig:
        scales = [*self.scale.values()] if isinstance(self.scale, dict) else [self.scale]
        if not all(low < high for low, high in (*scales, *filter(None, [self.curve_scale]))):
            raise ValueError("scale and curve_scale must be [lowest, highest]")
        self._check_manifests()
        if not self.tags or not all(tag.strip() for tag in self.tags):
            raise ValueError("tag must be a name, or a list of names")
        for path in filter(None, (*self.manifests, *self.curves, self.folder)):
            if address.scheme(path) or address.has_credentials(path):
                raise ValueError(f"manifest, curves and folder are paths of this machine, not {address.shown(path)}")
        if address.has_credentials(self.api_url):
            raise ValueError("api_url may hold no user or password: it is written into the workspace")
        return self

    @property
    def tags(self) -> list[str]:
        """The tags whose tracks are collected, each once, in their order."""
        return list(dict.fromkeys([self.tag] if isinstance(self.tag, str) else self.tag))

    @property
    def manifests(self) -> list[str]:
        """The paths of the manifests, in their order."""
        return [self.manifest] if isinstance(self.manifest, str) else list(self.manifest or ())

    def scale_of(self, manifest: str) -> Scale:
        """The scale of one of the manifests."""
        if not isinstance(self.scale, dict):
            return self.scale
        return self.scale[next(name for name in (Path(manifest).name, Path(manifest).stem) if name in self.scale)]

    def dataset_of(self, manifest: str) -> str | None:
        """What the rows of one of several manifests belong to, where they do not say; None for a single manifest."""
        path = Path(manifest).expanduser()
        if len(self.manifests) < 2:
            return None
        ways = [_called(Path(other).expanduser().absolute()) for other in self.manifests]
        own = _called(path.absolute())
        return next((name for i, name in enumerate(own) if [w[i] for w in ways].count(name) == 1), own[-1])

    def _check_manifests(self) -> None:
        if self.curves and "source" in self.model_fields_set and self.source != "manifest":
            raise ValueError("curves are labels of the tracks of a manifest: set manifest as well")
        names = [Path(file).name for file in self.manifests]
        if len(set(names)) < len(names) and isinstance(self.scale, dict):
            raise ValueError("scale names manifests by their files' names, and two of them have the same")
        if len({Path(file).expanduser().resolve() for file in self.manifests}) < len(names):
            raise ValueError("a manifest is named twice")
        if not isinstance(self.scale, dict) or not names:
            return
        known = {*names, *(Path(name).stem for name in names)}
        if unknown := next((name for name in self.scale if name not in known), None):
            raise ValueError(f"scale names {unknown}, which is none of the manifests: {', '.join(names)}")
        if missing := next((n for n in names if n not in self.scale and Path(n).stem not in self.scale), None):
            raise ValueError(f"scale has no entry for the manifest {missing}")
        if self.curves and self.curve_scale is None:
            raise ValueError("curve_scale must be set where scale has an entry for each manifest")
