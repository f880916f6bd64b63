"""mer-ray: valence, arousal and dominance of soundtracks, at catalog scale.

The functions here need neither Ray nor a workspace:

    import mer_ray

    table = mer_ray.score(["a.ogg", "b.mp3"], model="work/demo/runs/lstm-mfcc")
    prediction = mer_ray.load_model("work/demo/runs/lstm-mfcc").predict(samples, rate)
    label = mer_ray.vad_from_tags({"sad": 80, "epic": 20}, mer_ray.load_lexicon("NRC-VAD-Lexicon.txt"))
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

    from mer_ray.labels.lexicon import Lexicon
    from mer_ray.labels.terms import Matcher
    from mer_ray.labels.vad import Label
    from mer_ray.scoring.predictor import Predictor

__version__ = "0.1.0"
__all__ = ["load_lexicon", "load_model", "score", "vad_from_tags"]


def load_model(path: str | os.PathLike[str]) -> Predictor:
    """A model folder (``runs/NAME`` of a workspace), ready to predict. Raises ModelError."""
    from mer_ray.scoring.predictor import load

    return load(os.fspath(path))


def score(
    files: Iterable[str | os.PathLike[str]], model: Predictor | str | os.PathLike[str], min_duration_s: float = 1.0
) -> pa.Table:
    """Score audio files in this process: a table with the columns of ``scores``, one row a file, in order.

    model: a loaded model or its folder. Raises TrackError for the first file that cannot be scored.
    """
    import pyarrow as pa

    from mer_ray.audio.location import to_uri
    from mer_ray.features.batch import extract
    from mer_ray.identity import digest
    from mer_ray.scoring.predictor import Predictor, score_row
    from mer_ray.tables import SCHEMAS

    predictor = model if isinstance(model, Predictor) else load_model(model)
    feature = predictor.model.feature.name
    rows = []
    for file in files:
        uri = to_uri(os.fspath(file))
        track_id = digest(uri.encode())[:16]
        result = extract([(track_id, uri, [feature])], {feature: predictor.extractor}, min_duration_s)
        for error in result.errors.values():
            raise error
        prediction = predictor.predict_frames([result.frames[feature][track_id]])[0]
        rows.append(score_row(track_id, "", "", uri, prediction, predictor.name))
    return pa.Table.from_pylist(rows, schema=SCHEMAS["scores"])


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
