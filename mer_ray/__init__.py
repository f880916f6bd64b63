"""mer-ray: valence, arousal and dominance of soundtracks, at catalog scale.

The functions here need neither Ray nor a workspace:

    import mer_ray

    table = mer_ray.score(["a.ogg", "b.mp3"])                     # model="default", "light" or "work/mine/runs/NAME"
    prediction = mer_ray.load_model().predict(samples, rate)
    label = mer_ray.vad_from_tags({"sad": 80, "epic": 20}, mer_ray.load_lexicon("NRC-VAD-Lexicon.txt"))
"""

from __future__ import annotations

import os

from mer_ray.version import __version__

TYPE_CHECKING = False  # not from typing: with `python -m mer_ray`, that could be imported from the current folder
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Literal

    import pyarrow as pa

    from mer_ray.labels.lexicon import Lexicon
    from mer_ray.labels.terms import Matcher
    from mer_ray.labels.vad import Label
    from mer_ray.scoring.predictor import Predictor

__all__ = ["__version__", "failures", "load_lexicon", "load_model", "score", "vad_from_tags"]


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
        warnings.warn(scoring.warning(failed, len(tables) - 1), stacklevel=2)
    return scoring.with_failures(standing.added(pa.concat_tables(tables)), failed)


def failures(table: pa.Table) -> pa.Table:
    """The files that `score` could not score: columns uri, reason (a short code) and message.

    They are in the metadata of the schema of `score`'s table, also after it was written as Parquet and read again.
    """
    from mer_ray.scoring.files import failures

    return failures(table)


def load_lexicon(path: str | os.PathLike[str], scale: tuple[float, float] | None = None) -> Lexicon:
    """NRC VAD (v1 or v2), Warriner's norms, or a table with a header and scores on a scale (lowest, highest).

    Raises InputError with file and line.
    """
    from mer_ray.labels import lexicon

    return lexicon.load(os.fspath(path), scale)


def vad_from_tags(tags: Mapping[str, float] | Iterable[tuple[str, float]], lexicon: Lexicon | Matcher) -> Label | None:
    """The weighted mean of the lexicon's scores over weighted tags, with its evidence; None if no tag is known.

    A plain lexicon matches exactly; ``mer_ray.labels.terms.Matcher(lexicon, "careful")`` reads more spellings.
    """
    from collections.abc import Mapping

    from mer_ray.labels import vad

    return vad.from_tags(tags.items() if isinstance(tags, Mapping) else tags, lexicon)
