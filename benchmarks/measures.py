"""Tempo, key and loudness: against what the demo was composed in, FFmpeg, librosa and essentia; and what they cost.

    python benchmarks/measures.py [--cues 200] [--music FOLDER] [--tracks 40] [--json FILE] [--parts planted ...]

planted: the demo's cues of 30 s, of seed 12; profiles, weights and the two logistic functions of the confidence were
chosen on seed 11 (``--seed 11``). An answer is right in tempo within 4 %; in key where tonic and mode are both right.
cost: CPU seconds for an hour of the music, in turns, with and without what is measured.
loudness, agreement: tracks of --music, of which any format may be there (essentia and librosa are left out where they
are missing: ``pip install essentia librosa``).
"""

from __future__ import annotations

import importlib.util
import itertools
import re
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import common

PARTS = ("planted", "loudness", "cost", "agreement")
SHARPS = {"Db": "C#", "Eb": "D#", "Gb": "F#", "Ab": "G#", "Bb": "A#"}
MIREX = {"exact": 1.0, "fifth": 0.5, "relative": 0.3, "parallel": 0.2, "other": 0.0}
"""Weights of the MIREX audio key detection task."""
RATE = 22_050
EXCERPT_S = 180
BINS = (0.0, 0.5, 0.7, 0.8, 0.9, 0.97, 1.0)


def ours() -> Callable[[Any], dict[str, Any]]:
    """Mono samples at `RATE` → tempo, key, mode and confidences."""
    from mer_ray.features import rhythm
    from mer_ray.scoring.measures import measured

    made = measured.extractors(rhythm.resolve(rhythm.Params()), {})
    return lambda x: measured.values(made, {name: e([x])[0] for name, e in made.items()}, None)


def right_tempo(found: float | None, wanted: float, factors: Sequence[float] = (0.5, 1, 2)) -> bool:
    """Within 4 % of one of the multiples."""
    return found is not None and min(abs(found / (wanted * k) - 1) for k in factors) <= 0.04


def kinship(found: tuple[str, str] | None, wanted: tuple[str, str]) -> str:
    """Of two keys, by MIREX: exact, fifth, relative, parallel or other."""
    from mer_ray.scoring.measures.pitches import KEYS

    if found is None:
        return "other"
    steps = (KEYS.index(found[0]) - KEYS.index(wanted[0])) % 12
    if found[1] == wanted[1]:
        return "exact" if steps == 0 else "fifth" if steps in (5, 7) else "other"
    return "parallel" if steps == 0 else "relative" if steps == (3 if found[1] == "major" else 9) else "other"


def shares(kinds: Sequence[str]) -> dict[str, str]:
    """Per cent of each kind, and MIREX's weighted score."""
    count = Counter(kinds)
    row = {kind: f"{100 * count[kind] / len(kinds):.1f}" for kind in MIREX}
    return {**row, "weighted": f"{100 * sum(MIREX[k] for k in kinds) / len(kinds):.1f}"}


def planted(cues: int, seed: int) -> Iterator[dict[str, Any]]:
    """The tables of the demo."""
    from mer_ray.audio.providers import demo
    from mer_ray.scoring.measures.pitches import KEYS

    measure, tempi, keys = ours(), [], []
    for index in range(cues):
        uri = f"demo:{seed}/{index}/30"
        style, found = demo.planted(uri), measure(demo.render(uri)[0])
        mode = "major" if style.mode in ("ionian", "lydian", "mixolydian") else "minor"
        key = (found["key"], found["mode"]) if found["key"] else None
        exact = right_tempo(found["tempo"], style.tempo_bpm, (1,))
        tempi.append((found["tempo_confidence"], right_tempo(found["tempo"], style.tempo_bpm), exact))
        keys.append((found["key_confidence"], kinship(key, (KEYS[style.tonic % 12], mode)), style.mode))
    yield {
        "what": "tempo, % of cues",
        "within 4 %": f"{100 * sum(t[2] for t in tempi) / cues:.1f}",
        "or an octave": f"{100 * sum(t[1] for t in tempi) / cues:.1f}",
        "null": sum(t[0] is None for t in tempi),
    }
    yield {"what": "key, % of cues", **shares([k[1] for k in keys]), "null": sum(k[0] is None for k in keys)}
    for mode in dict.fromkeys(k[2] for k in keys):
        own = [k[1] for k in keys if k[2] == mode]
        yield {"what": f"key, {mode}", "cues": len(own), "exact": f"{100 * own.count('exact') / len(own):.0f}"}
    for low, high in itertools.pairwise(BINS):
        beats = [exact for c, _, exact in tempi if c is not None and low <= c < high + (high == 1)]
        tonal = [kind == "exact" for c, kind, _ in keys if c is not None and low <= c < high + (high == 1)]
        share = {n: f"{100 * sum(x) / len(x):.0f} % of {len(x)}" if x else "" for n, x in (("t", beats), ("k", tonal))}
        yield {"confidence": f"{low:g} to {high:g}", "right tempi": share["t"], "right keys": share["k"]}


def files(folder: Path | None, tracks: int) -> list[Path]:
    """So many audio files, evenly from a folder."""
    if folder is None or not folder.is_dir():
        raise SystemExit("give --music FOLDER, with audio files of 30 s or more")
    kinds = (".ogg", ".mp3", ".flac", ".wav", ".opus", ".m4a", ".wma", ".aiff", ".mka")
    found = [p for p in sorted(folder.rglob("*")) if p.suffix.lower() in kinds and p.stat().st_size > 200_000]
    return found[:: max(1, len(found) // tracks)][:tracks]


def of_ffmpeg(path: Path) -> tuple[float, float] | None:
    """LUFS and dBTP, by the filter ebur128 of the program; None where it cannot read the file."""
    command = ["ffmpeg", "-nostats", "-nostdin", "-i", str(path), "-map", "0:a:0", "-af", "ebur128=peak=true"]
    said = subprocess.run([*command, "-f", "null", "-"], capture_output=True, text=True, check=False).stderr
    if "Summary" not in said:
        return None
    summary = said[said.rindex("Summary") :]
    loudness, peak = (float(re.search(rf"{n}:\s+(\S+) ", summary)[1]) for n in ("I", "Peak"))  # type: ignore[index]
    return loudness, peak


def loudness(paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """Differences from FFmpeg."""
    from mer_ray.audio.decode import stream

    differences = []
    for path in paths:
        *_, last = stream(path, [RATE], loudness=True, allow_partial=True)
        measured, reference = last.loudness, of_ffmpeg(path)
        if reference and measured is not None and measured.integrated is not None and measured.true_peak is not None:
            differences.append((measured.integrated - reference[0], measured.true_peak - reference[1]))
    for what, values in zip(("loudness, LU", "true peak, dB"), zip(*differences, strict=True), strict=True):
        absolute = sorted(map(abs, values))
        yield {
            "what": what,
            "files": len(values),
            "median": f"{absolute[len(absolute) // 2]:.3f}",
            "largest": f"{absolute[-1]:.3f}",
        }


def cost(paths: Sequence[Path], model: str) -> Iterator[dict[str, Any]]:
    """CPU seconds an hour, of decoding and features in one process."""
    from mer_ray.features.batch import extract
    from mer_ray.scoring.predictor import load
    from mer_ray.scoring.waveform import Waveform

    loaded = load(model)
    every, own = loaded.extractors(), [*loaded.features, Waveform.NAME]
    ways = {"scores alone": (own, False), "and loudness": (own, True), "and tempo and key": ([*every], True)}
    spent = dict.fromkeys(ways, 0.0)
    seconds = 0.0
    for path in paths:
        for way, (names, loud) in ways.items():
            began = time.process_time()
            done = extract([("a", str(path), names)], {n: every[n] for n in names}, 0.0, loudness=loud)
            spent[way] += time.process_time() - began
        seconds += done.seconds
    for way, own_s in spent.items():
        yield {
            "model": model,
            "what": way,
            "hours": f"{seconds / 3600:.2f}",
            "CPU-s/h": f"{own_s * 3600 / seconds:.1f}",
        }


def agreement(paths: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """How often two programs say the same of the first three minutes."""
    import numpy as np

    from mer_ray.audio.decode import stream

    measure, answers = ours(), []
    for path in paths:
        blocks = [b.samples for b in stream(path, [RATE, 44_100], allow_partial=True)]
        low, high = (np.concatenate([b[rate] for b in blocks])[: EXCERPT_S * rate] for rate in (RATE, 44_100))
        mine = measure(low)
        said = {"ours": (mine["tempo"], (mine["key"], mine["mode"]) if mine["key"] else None)}
        if importlib.util.find_spec("librosa"):
            import librosa

            said["librosa"] = (float(np.atleast_1d(librosa.feature.tempo(y=low, sr=RATE))[0]), None)
        if importlib.util.find_spec("essentia"):
            import essentia.standard as es

            key, mode, _ = es.KeyExtractor()(high)
            bpm = es.RhythmExtractor2013(method="multifeature")(high)[0]
            said["essentia"] = (float(bpm), (SHARPS.get(key, key), mode))
        answers.append((mine, said))
    for one, other in (("ours", "librosa"), ("ours", "essentia"), ("librosa", "essentia")):
        pairs = [(s[one], s[other]) for _, s in answers if one in s and other in s and s[one][0] is not None]
        if not pairs:
            continue
        same = [right_tempo(a[0], b[0], (1,)) for a, b in pairs]
        octaves = [right_tempo(a[0], b[0]) for a, b in pairs]
        row = {"pair": f"{one}, {other}", "tracks": len(pairs)}
        row |= {"tempo within 4 %": f"{100 * sum(same) / len(same):.0f}"}
        row |= {"or an octave": f"{100 * sum(octaves) / len(octaves):.0f}"}
        keys = [kinship(a[1], b[1]) for a, b in pairs if a[1] and b[1]]
        yield {**row, **({f"key: {k}": v for k, v in shares(keys).items()} if keys else {})}


def main() -> None:
    parser = common.arguments(__doc__ or "")
    parser.add_argument("--cues", type=int, default=200)
    parser.add_argument("--seed", type=int, default=12)
    parser.add_argument("--tracks", type=int, default=40)
    parser.add_argument("--model", default="light")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    given = parser.parse_args()
    common.one_thread()
    made: dict[str, Callable[[], Iterator[dict[str, Any]]]] = {
        "planted": lambda: planted(given.cues, given.seed),
        "loudness": lambda: loudness(files(given.music, given.tracks)),
        "cost": lambda: cost(files(given.music, given.tracks), given.model),
        "agreement": lambda: agreement(files(given.music, given.tracks)),
    }
    found = {part: list(made[part]()) for part in given.parts}
    for part, rows in found.items():
        print(f"\n{part}\n")
        for row in rows:
            print("; ".join(f"{k} {v}" for k, v in row.items() if v != ""))
    common.save(given.json, found)


if __name__ == "__main__":
    main()
