"""mer-ray: valence, arousal and dominance of soundtracks, at catalog scale.

The functions here need neither Ray nor a workspace:

    import mer_ray

    table = mer_ray.score(["a.ogg", "b.mp3"])                     # the packaged model; or model="work/mine/runs/NAME"
    prediction = mer_ray.load_model().predict(samples, rate)
    label = mer_ray.vad_from_tags({"sad": 80, "epic": 20}, mer_ray.load_lexicon("NRC-VAD-Lexicon.txt"))
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from mer_ray.labels.lexicon import Lexicon
    from mer_ray.labels.terms import Matcher
    from mer_ray.labels.vad import Label
    from mer_ray.scoring.predictor import Predictor

__version__ = "0.1.0"
__all__ = ["load_lexicon", "load_model", "score", "vad_from_tags"]


def load_model(path: str | os.PathLike[str] | None = None) -> Predictor:
    """A model folder (``runs/NAME`` of a workspace), or the packaged model, ready to predict. Raises ModelError."""
    from mer_ray.scoring.predictor import load

    return load(path)


def score(
    files: Iterable[str | os.PathLike[str]] | str | os.PathLike[str],
    model: Predictor | str | os.PathLike[str] | None = None,
    min_duration_s: float = 1.0,
    allow_partial: bool = False,
) -> pa.Table:
    """Score audio files: a table with the columns of ``scores``, one row a file, in order.

    files: paths, or one path. model: a loaded model, its folder, or None for the packaged one. allow_partial: score
    what there is of files that are cut or damaged; the column decoded_share says how much. Without Ray and without
    TensorFlow, unless the model's own feature needs it; the decoder has a process of its own, so that no file can end
    this one. Raises TrackError for the first file that cannot be scored.
    """
    import pyarrow as pa

    from mer_ray.audio.isolated import Decoder
    from mer_ray.audio.location import to_path, to_uri
    from mer_ray.features.batch import extract
    from mer_ray.schemas import SCHEMAS
    from mer_ray.scoring.catalog import file_id
    from mer_ray.scoring.predictor import Predictor
    from mer_ray.scoring.rows import scores_table
    from mer_ray.scoring.waveform import Waveform, duration_s
    from mer_ray.sources.folder import describe

    predictor = model if isinstance(model, Predictor) else load_model(model)
    extractors = predictor.extractors()
    feature = predictor.model.feature.name
    tables = [SCHEMAS["scores"].empty_table()]
    with Decoder(allow_partial=allow_partial) as decoder:
        for file in [files] if isinstance(files, str | os.PathLike) else files:
            path = to_path(os.fspath(file)).expanduser().absolute()
            uri = to_uri(path)
            track: dict[str, Any] = {"track_id": file_id(uri), "uri": uri}
            result = extract([(track["track_id"], uri, list(extractors))], extractors, min_duration_s, decoder.stream)
            for error in result.errors.values():
                raise error
            found = describe(path)
            track |= {"artist": found.artist, "title": found.title, "album": found.album or ""}
            track["decoded_share"] = result.shares[track["track_id"]]
            ((frames,), (peaks,)) = (list(result.frames[name].values()) for name in (feature, Waveform.NAME))
            predictions = predictor.predict_frames([frames])
            tables.append(scores_table([track], predictions, [duration_s(peaks)], predictor.name, [peaks]))
    return pa.concat_tables(tables)


def load_lexicon(path: str | os.PathLike[str], scale: tuple[float, float] | None = None) -> Lexicon:
    """NRC VAD (v1 or v2), Warriner's norms, or a table with a header and scores on a scale (lowest, highest).

    Raises InputError with file and line.
    """
    from mer_ray.labels import lexicon

    return lexicon.load(os.fspath(path), scale)


def vad_from_tags(tags: Mapping[str, float] | Iterable[tuple[str, float]], lexicon: Lexicon | Matcher) -> Label | None:
    """The weighted mean of the lexicon's scores over weighted tags, with its evidence; None if no tag is known.

    A lexicon alone takes exact matches; ``mer_ray.labels.terms.Matcher(lexicon, "careful")`` reads more spellings.
    """
    from mer_ray.labels import vad

    return vad.from_tags(tags.items() if isinstance(tags, Mapping) else tags, lexicon)
