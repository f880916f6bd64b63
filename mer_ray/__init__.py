"""mer-ray: valence, arousal and dominance of soundtracks, at catalog scale.

The functions here need no Ray, and the first ones no workspace:

    import mer_ray

    table = mer_ray.score(["a.ogg", "b.mp3"])                     # model="default", "light" or "work/mine/runs/NAME"
    prediction = mer_ray.load_model().predict(samples, rate)
    label = mer_ray.vad_from_tags({"sad": 80, "epic": 20}, mer_ray.load_lexicon("NRC-VAD-Lexicon.txt"))

and these bring music and labels to other libraries, such as scikit-learn (docs/notebook.ipynb is an example):

    ids, frames = mer_ray.read_features("work/mine", "mfcc")      # of a workspace
    labels = mer_ray.read_labels("work/mine", ids)
    embeddings = mer_ray.embed(["a.ogg", "b.mp3"])                # of any files
"""

from __future__ import annotations

import os

from mer_ray.version import __version__

TYPE_CHECKING = False  # not from typing: with `python -m mer_ray`, that could be imported from the current folder
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any, Literal, TypeVar

    import numpy as np
    import pyarrow as pa

    from mer_ray.labels.lexicon import Lexicon
    from mer_ray.labels.terms import Matcher
    from mer_ray.labels.vad import Label
    from mer_ray.scoring.predictor import Predictor

__all__ = [
    "__version__",
    "embed",
    "failures",
    "load_lexicon",
    "load_model",
    "read_features",
    "read_labels",
    "score",
    "vad_from_tags",
]


if TYPE_CHECKING:
    _F = TypeVar("_F", bound=Callable[..., Any])


def _explained(function: _F) -> _F:
    """Decorate: a package that comes with an extra, and is missing, is a MissingExtra with the line to type."""

    def wrapper(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except ModuleNotFoundError as error:
            from mer_ray import extras

            if (missing := extras.explained(error)) is None:
                raise
            raise missing from error

    # Not functools.wraps: with `python -m mer_ray`, functools could be imported from the current folder.
    for name in ("__module__", "__name__", "__qualname__", "__doc__", "__annotations__"):
        setattr(wrapper, name, getattr(function, name))
    wrapper.__wrapped__ = function  # type: ignore[attr-defined]
    return wrapper  # type: ignore[return-value]


@_explained
def load_model(path: str | os.PathLike[str] | None = None) -> Predictor:
    """A model, ready to predict.

    Args:
        path: A model folder (``runs/NAME`` of a workspace), or the name of a packaged model: "default", which is also
            the one without a path, or "light", which takes a fraction of the time.

    Raises:
        ModelError: There is no such model, or it cannot be loaded.
    """
    from mer_ray.scoring.predictor import load

    return load(path)


@_explained
def score(
    files: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
    model: Predictor | str | os.PathLike[str] | None = None,
    min_duration_s: float = 1.0,
    errors: Literal["warn", "raise", "ignore"] = "warn",
    allow_partial: bool = False,
) -> pa.Table:
    """Score audio files: a table with the columns of ``scores``, one row a file that could be scored, in order.

    The percentiles and mood words compare the files of this one call with each other.

    Needs no Ray, and no TensorFlow unless the model's feature does. Files are decoded in a child process, so that none
    can crash this one.

    Args:
        files: Paths, or one path; a folder stands for the audio files in it and below.
        model: A loaded model, its folder, or the name of a packaged one, "default" (as without) or "light".
        min_duration_s: Shorter files fail.
        errors: For files that cannot be scored: "warn" leaves them out with one UserWarning, "ignore" without one, and
            `failures` lists them; "raise" raises the first one's TrackError.
        allow_partial: Score the decodable part of truncated or damaged files; the column decoded_share has its share.

    Raises:
        InputError: For another ``errors``.
        ModelError: The model cannot be loaded.
    """
    import warnings

    import pyarrow as pa

    from mer_ray.errors import InputError
    from mer_ray.io.schemas import scores_schema
    from mer_ray.scoring import files as scoring
    from mer_ray.scoring import standing
    from mer_ray.scoring.predictor import Predictor

    if errors not in ("warn", "raise", "ignore"):
        raise InputError(f"errors={errors!r} is not known", 'give "warn", "raise" or "ignore"')
    predictor = model if isinstance(model, Predictor) else load_model(model)
    tables, failed = [scores_schema(predictor.dimensions).empty_table()], []
    paths = [files] if isinstance(files, str | bytes | os.PathLike) else files
    for found in scoring.scored(paths, predictor, min_duration_s, allow_partial):
        if isinstance(found, pa.Table):
            tables.append(found)
        elif errors == "raise":
            raise found["error"]
        else:
            failed.append(found)
    if failed and errors == "warn":
        warnings.warn(scoring.warning(failed, len(tables) - 1), stacklevel=3)
    return scoring.with_failures(standing.added(pa.concat_tables(tables)), failed)


def failures(table: pa.Table) -> pa.Table:
    """The files that `score` could not score: columns uri, reason (a short code) and message.

    They are in the metadata of the schema of `score`'s table, also after it was written as Parquet and read again.
    """
    from mer_ray.scoring.files import failures

    return failures(table)


@_explained
def embed(
    files: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
    model: Predictor | str | os.PathLike[str] | None = None,
    min_duration_s: float = 1.0,
    allow_partial: bool = False,
) -> np.ndarray:
    """What a model hears in audio files, as numbers for other learners: (N, P) float32, one row a file, in order.

    P statistics of the model's features (means, deviations and modulation of their frames), of passages of the model's
    window, averaged over the passages of the file. Each is standardised by its mean and deviation over the passages
    that the model was trained on; unlike ``sound``, nothing is left out. P is the model's own: other models, other
    columns.

    Args:
        files: Paths, or one path; a folder stands for the audio files in it and below, in the order of their paths.
        model: As of `score`.
        min_duration_s: Shorter files are errors.
        allow_partial: Use the decodable part of truncated or damaged files.

    Raises:
        TrackError: A file cannot be used; the message names it.
        ModelError: The model cannot be loaded, or reads precomputed frames instead of audio.
    """
    from mer_ray.scoring import files as scoring
    from mer_ray.scoring.predictor import Predictor

    predictor = model if isinstance(model, Predictor) else load_model(model)
    paths = [files] if isinstance(files, str | bytes | os.PathLike) else files
    return scoring.embedded(paths, predictor, min_duration_s, allow_partial)


@_explained
def read_features(
    workspace: str | os.PathLike[str], feature: str, ids: Iterable[str] | None = None
) -> tuple[list[str], list[np.ndarray]]:
    """The frames that `mer-ray extract` has computed: ``(ids, frames)``, all in memory.

    Args:
        workspace: A path, s3:// or gs://.
        feature: Such as "mfcc"; `mer-ray status` lists those that there are.
        ids: Tracks to read, in this order; by default all that have frames, in the order of their ids.

    Returns:
        The N track_ids, and N read-only arrays (n_i, F) float32, hop after hop.

    Raises:
        WorkspaceError: There is no such workspace or feature.
        InputError: An id has no frames.
    """
    from mer_ray.training import arrays

    return arrays.read_features(workspace, feature, ids)


@_explained
def read_labels(workspace: str | os.PathLike[str], ids: Iterable[str] | None = None) -> pa.Table:
    """The labels of a workspace's tracks, one row each.

    Columns: track_id, artist, title, album; ``group``, which a split must not separate (tracks of an artist, album or
    composer and, once models were trained, near-duplicates); each dimension in 0..1 and its standard error as in
    se_valence, null where unknown (``.to_numpy()`` makes it NaN); curves, the labels over time; dataset, split and
    fold, as the source says; uri of the audio, which `embed` and `score` take, null where there is none.

    Args:
        workspace: A path, s3:// or gs://.
        ids: Tracks, in this order, such as those of `read_features`; those without a label have nulls. By default all
            with a label, in the order of their ids.

    Raises:
        WorkspaceError: There is no such workspace, or it has no labels.
        InputError: An id is no track of the workspace.
    """
    from mer_ray.training import arrays

    return arrays.read_labels(workspace, ids)


@_explained
def load_lexicon(path: str | os.PathLike[str], scale: tuple[float, float] | None = None) -> Lexicon:
    """NRC VAD (v1 or v2), Warriner's norms, or a table with a header and scores on a scale (lowest, highest).

    Raises InputError with file and line.
    """
    from mer_ray.labels import lexicon

    return lexicon.load(os.fspath(path), scale)


@_explained
def vad_from_tags(tags: Mapping[str, float] | Iterable[tuple[str, float]], lexicon: Lexicon | Matcher) -> Label | None:
    """The weighted mean of the lexicon's scores over weighted tags, with its evidence; None if no tag is known.

    A plain lexicon matches exactly; ``mer_ray.labels.terms.Matcher(lexicon, "careful")`` reads more spellings.
    """
    from collections.abc import Mapping

    from mer_ray.labels import vad

    return vad.from_tags(tags.items() if isinstance(tags, Mapping) else tags, lexicon)
