"""How far the packaged models can be trusted: accuracy, intervals and novelty on artists that they have not met.

    make models MANIFEST=../shared/data/panda4q/manifest.csv
    python benchmarks/trust.py --workspace work/models --work FOLDER --soundtracks FOLDER [--tables accuracy ...]

Models are trained for each fold from the workspace's features, with its folds and seeds; excerpts are cut from the
audio and extracted anew. What takes long is kept in --work: empty it when the code of the models has changed.
"""

from __future__ import annotations

import csv
import shutil
import subprocess
from argparse import Namespace
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import common

common.one_thread()

import numpy as np  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402
import scipy.signal  # noqa: E402
import soundfile  # noqa: E402

import mer_ray  # noqa: E402
from mer_ray import features, models  # noqa: E402
from mer_ray.audio import decode  # noqa: E402
from mer_ray.evaluation import against, bootstrap, metrics, predictions  # noqa: E402
from mer_ray.features import FeatureSpec, joined  # noqa: E402
from mer_ray.io.schemas import DIMENSIONS, ragged_arrays  # noqa: E402
from mer_ray.io.tables import Workspace  # noqa: E402
from mer_ray.models import passages, pooled, regressor, splits, windows  # noqa: E402
from mer_ray.scoring import excerpts, intervals, model_folder  # noqa: E402
from mer_ray.training import crossval, data, grouped, leakage, recipe, reference  # noqa: E402

RUNS = {"light": "kernel-logmel+rhythm+tonal", "default": "kernel-logmel+rhythm+tonal+musicnn"}
BEFORE = "logmel"
"""The network and feature of the model that was packaged before these two."""
FOLDS, REPEATS, PARTITIONS = 5, 3, 10
"""The packaged models' cross-validation, and the partitions that show how much R² depends on them."""
SECONDS, RATE = (1.0, 2.0, 5.0, 10.0), 22_050
NO_MUSIC = ("nolok_speech", "sara_airport_pa", "static-radio", "steamLocomotive")
BAND = scipy.signal.butter(6, [300, 3_400], "bandpass", fs=RATE, output="sos")
CHANGES: dict[str, Callable[[np.ndarray, np.random.Generator], np.ndarray]] = {
    "5 s of it": lambda x, rng: x[(a := rng.integers(0, 20 * RATE)) : a + 5 * RATE],
    "10 s of it": lambda x, rng: x[(a := rng.integers(0, 15 * RATE)) : a + 10 * RATE],
    "white noise at 0 dB": lambda x, rng: np.clip(x + rng.normal(0, np.sqrt(np.mean(x**2)), len(x)), -1, 1),
    "300 to 3,400 Hz": lambda x, rng: scipy.signal.sosfilt(BAND, x),
    "+30 dB, clipped": lambda x, rng: np.clip(x * 10**1.5, -1, 1),
}


@dataclass(frozen=True)
class Clips:
    """The labelled clips. data: without frames. tracks: name of a feature → frames, of each. fold: (PARTITIONS, N)."""

    data: data.Dataset
    files: list[str]
    tracks: list[dict[str, np.ndarray]]
    features: dict[str, FeatureSpec]
    fold: np.ndarray
    genres: dict[str, str]

    def of(self, model: str, tracks: Sequence[dict[str, np.ndarray]] | None = None) -> list[joined.Frames]:
        """Tracks, or the clips, as a model takes them."""
        return [joined.frames_of(self.features[model], t) for t in tracks or self.tracks]

    def fitted(self, model: str, rows: np.ndarray, seed: int) -> regressor.Regressor:
        """A model trained on some of the clips."""
        feature = self.features[model]
        window = windows.window_frames(models.defaults("kernel")["window_s"], feature.hop_s)
        how = recipe.Recipe("kernel", feature.hop_s, window, hops=joined.part_hops(feature))
        return crossval.whole(how, replace(self.data, frames=self.of(model)).of(rows), seed)

    def members(self, model: str, repeat: int) -> dict[int, regressor.Regressor]:
        """Fold of a partition → the model that was trained without it; the seeds are those of `mer-ray train`."""
        fold = self.fold[repeat]
        return {k: self.fitted(model, np.flatnonzero(fold != k), repeat * FOLDS + k) for k in range(FOLDS)}


def read(options: Namespace) -> Clips:
    """The clips of a workspace that `make models` has made."""
    workspace = Workspace(options.workspace)
    known = {name: model_folder.load(workspace.at("runs", run)).feature for name, run in RUNS.items()}
    own = data.load(workspace, known["default"], grouped.read(workspace).of)
    every = joined.parts(known["default"])
    tracks = [{part.name: x for part, x in zip(every, track.parts, strict=True)} for track in own.frames]
    uris = {r["track_id"]: r["uri"] for r in workspace.require("tracks", "collect", ["track_id", "uri"]).to_pylist()}
    with (options.data / "manifest.csv").open() as file:
        genres = {Path(row["path"]).name: row["genres"].split(";")[0].strip() for row in csv.DictReader(file)}
    fold = crossval.partitions(own.groups, own.labels, FOLDS, range(PARTITIONS))
    files = [uris[i] for i in own.ids]
    return Clips(replace(own, frames=[]), files, tracks, {**known, BEFORE: every[0]}, fold, genres)


def cached(path: Path, make: Callable[[], Mapping[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Arrays by name, made once."""
    if not path.exists():
        part = path.with_name(f"part-{path.name}")
        np.savez(part, **make())
        part.rename(path)
    with np.load(path, allow_pickle=False) as found:
        return dict(found)


def predicted(members: dict[int, regressor.Regressor], fold: np.ndarray, frames: Sequence[joined.Frames]) -> np.ndarray:
    """(N, 3), each clip by the model that was trained without its fold."""
    out = np.empty((len(fold), len(DIMENSIONS)))
    for k, member in members.items():
        rows = np.flatnonzero(fold == k)
        out[rows] = [p.value for p in member.predict([frames[i] for i in rows])]
    return out


def samples(path: str, rates: Sequence[int]) -> dict[int, np.ndarray]:
    """A file's mono audio at each rate."""
    blocks = [{rate: b.samples[rate].copy() for rate in rates} for b in decode.stream(path, rates)]
    return {rate: np.concatenate([b[rate] for b in blocks]) for rate in rates}


def cut(clips: Clips, options: Namespace) -> dict[float, list[dict[str, np.ndarray]]]:
    """Seconds → an excerpt of each clip, at a random place: its frames, from audio that begins and ends there."""
    own = {part.name: features.load(part) for part in joined.parts(clips.features["default"])}
    rates = sorted({e.spec.sample_rate_hz for e in own.values()})

    def make() -> dict[str, np.ndarray]:
        rng, made = np.random.default_rng(3), dict[str, list[np.ndarray]]()
        for file in clips.files:
            audio = samples(file, rates)
            for s in SECONDS:
                at = rng.uniform(0, max(0.0, len(audio[rates[0]]) / rates[0] - s))
                for name, extractor in own.items():
                    rate = extractor.spec.sample_rate_hz
                    piece = audio[rate][int(at * rate) : int((at + s) * rate)]
                    made.setdefault(f"{name} {s:g}", []).append(extractor([piece])[0])
        counts = {f"{key} n": np.array([len(x) for x in found]) for key, found in made.items()}
        return {**{key: np.concatenate(found) for key, found in made.items()}, **counts}

    found = cached(options.work / "excerpts.npz", make)
    split = {k: np.split(v, np.cumsum(found[f"{k} n"])[:-1]) for k, v in found.items() if not k.endswith(" n")}
    return {s: [{n: split[f"{n} {s:g}"][i] for n in own} for i in range(len(clips.files))] for s in SECONDS}


def partition(clips: Clips, options: Namespace, model: str, repeat: int) -> dict[str, np.ndarray]:
    """Out-of-fold predictions of a partition, of whole clips and, of the first ones, of excerpts."""

    def make() -> dict[str, np.ndarray]:
        members, fold, frames = clips.members(model, repeat), clips.fold[repeat], clips.of(model)
        out = {"whole": predicted(members, fold, frames)}
        if repeat < REPEATS and model in RUNS:
            trained, hop_s = {k: [m] for k, m in members.items()}, clips.features[model].hop_s
            _, heard, whole_s = excerpts.predictions(frames, fold, trained, hop_s, 0)
            out |= {"whole_s": np.array(whole_s), **{f"frames {s:g}": p for s, p in heard.items()}}
            for s, pieces in cut(clips, options).items():
                out[f"audio {s:g}"] = predicted(members, fold, clips.of(model, pieces))
        return out

    return cached(options.work / f"{model}-partition{repeat}.npz", make)


def accuracy(clips: Clips, options: Namespace) -> None:
    """R² and paired differences on the workspace's partitions; and the mean over more of them."""
    d, fold, workspace = clips.data, clips.fold[:REPEATS], Workspace(options.workspace)
    out_of_fold = partial(predictions.Predictions, d.ids, d.artists, d.titles, list(d.groups), d.labels, fold)
    whole = {m: [partition(clips, options, m, r)["whole"] for r in range(PARTITIONS)] for m in (*RUNS, BEFORE)}
    every = {model: np.stack(values) for model, values in whole.items()}
    found = {model: out_of_fold(values[:REPEATS]) for model, values in every.items()}
    for model, run in RUNS.items():
        own = predictions.read(workspace, "runs", run, "predictions.parquet")[""]
        print(f"{model}: {np.abs(own.predicted - found[model].predicted).max():.1e} from the workspace's predictions")
        path = "baselines", f"{clips.features[model].name}.parquet"
        found[f"SVR, inputs of {model}"] = predictions.read(workspace, *path)["svr"]
    table = pq.read_table(options.data / "yamnet.parquet")
    frames = dict(zip([Path(p).name for p in table["path"].to_pylist()], ragged_arrays(table["frames"]), strict=True))
    x = pooled.mean_sd([frames[Path(file).name] for file in clips.files])
    found["YAMNet + SVR"] = out_of_fold(leakage.out_of_fold("svr", x, d.labels, fold))
    rows, index = [], metrics.INDEX["r2"]
    for model, p in found.items():
        of = [bootstrap.resample(d.labels[:, i], [p.predicted[..., i]], d.groups)[0] for i in range(len(DIMENSIONS))]
        more = ["{:.3f} [{:.2f}, {:.2f}]".format(r.value[index], *bootstrap.interval(r)[index]) for r in of]
        if model in every:
            each = 1 - np.square(every[model] - d.labels).mean(axis=1) / d.labels.var(axis=0)
            more += [f"{v:.3f} ± {e:.3f}" for v, e in zip(each.mean(axis=0), each.std(axis=0), strict=True)]
        rows.append([model, *more, *[""] * (6 - len(more))])
    heads = ["model", *(f"{d}, {n} partitions" for n in (REPEATS, PARTITIONS) for d in "VAD")]
    common.show("R² out of fold: 95 % intervals; over more partitions ± their SD", heads, rows)
    pairs = [(m, o) for m in RUNS for o in (BEFORE, f"SVR, inputs of {m}", "YAMNet + SVR")] + [("default", "light")]
    rows = []
    for a, b in pairs:
        r2 = [x for x in against.compare(found[a], found[b], (a, b)) if x.figure == "r2"]
        rows.append([f"{a} − {b}", *(f"{x.value:+.3f} [{x.lower:+.3f}, {x.upper:+.3f}]" for x in r2)])
    common.show("Differences in R²", ["pair", *"VAD"], rows)


def percent(shares: Iterable[float]) -> list[str]:
    """As texts."""
    return [f"{100 * share:.1f}" for share in shares]


def coverage(clips: Clips, options: Namespace, model: str) -> None:
    """What the intervals hold of clips that neither the model nor they were fitted to."""
    d, runs = clips.data, [partition(clips, options, model, r) for r in range(REPEATS)]
    whole = np.stack([run["whole"] for run in runs])
    inside = {s: np.zeros(whole.shape, bool) for s in (*SECONDS, 0.0)}  # 0: whole clips
    width = {s: np.zeros(whole.shape) for s in inside}
    for r, run in enumerate(runs):
        for k in range(FOLDS):
            out, rest = clips.fold[r] == k, clips.fold[r] != k
            known = intervals.intervals(d.labels[rest], whole[:, rest], np.asarray(d.groups, object)[rest].tolist())
            heard = {s: run[f"frames {s:g}"][rest] for s in excerpts.SECONDS if f"frames {s:g}" in run}
            known = intervals.with_excerpts(known, d.labels[rest], whole[r, rest], heard, float(run["whole_s"]))
            for s in inside:
                p = run[f"audio {s:g}" if s else "whole"][out]
                width[s][r, out] = known.radius(p, np.full(len(p), s) if s else None)
                inside[s][r, out] = np.abs(p - d.labels[out]) <= width[s][r, out]
    rows = []
    for s, found in inside.items():
        widths = " / ".join(f"{v:.3f}" for v in np.median(width[s], axis=(0, 1)))
        shares = [*found.mean(axis=(0, 1)), found.all(axis=2).mean()]
        rows.append([f"{s:g} s" if s else "whole", *percent(shares), widths])
    third = np.argsort(np.argsort(whole, axis=1), axis=1) * 3 // whole.shape[1]
    for t, name in enumerate(("lowest", "middle", "highest")):
        shares = [inside[0.0][..., i][third[..., i] == t].mean() for i in range(len(DIMENSIONS))]
        rows.append([f"whole, {name} third of predictions", *percent(shares), "", ""])
    common.show(f"90 % intervals of {model}, % that hold", ["audio", *"VAD", "all three", "half-width"], rows)


def left_out(clips: Clips, model: str, out: np.ndarray, rest: np.ndarray) -> dict[str, np.ndarray]:
    """Predictions of the clips ``out`` by a model trained on ``rest``, and out of fold of these."""
    fold = splits.grouped_folds([clips.data.groups[i] for i in rest], FOLDS, 0, clips.data.labels[rest])
    members = {k: clips.fitted(model, rest[fold != k], k) for k in range(FOLDS)}
    frames = clips.of(model)
    whole = clips.fitted(model, rest, 0).predict([frames[i] for i in out])
    return {"out": np.stack([p.value for p in whole]), "rest": predicted(members, fold, [frames[i] for i in rest])}


def genres(clips: Clips, options: Namespace, model: str) -> None:
    """The intervals on genres whose clips and artists are left out of everything, with and without their margin."""
    own = np.array([clips.genres[Path(file).name] for file in clips.files], object)
    frequent = [g for g, _ in Counter(own.tolist()).most_common(7)]
    own[~np.isin(own, frequent)] = "other"
    d, groups = clips.data, np.asarray(clips.data.groups, object)
    inside, rows = {0.0: [], intervals.MARGIN: []}, []
    for genre in [*frequent, "other"]:
        out = np.flatnonzero(own == genre)
        rest = np.flatnonzero((own != genre) & ~np.isin(groups, groups[out]))
        path = options.work / f"{model}-without-{genre.replace('/', '-')}.npz"
        found = cached(path, partial(left_out, clips, model, out, rest))
        for margin in inside:
            intervals.MARGIN = margin
            known = intervals.intervals(d.labels[rest], found["rest"][None], groups[rest].tolist())
            inside[margin].append(np.abs(found["out"] - d.labels[out]) <= known.radius(found["out"]))
        rows.append([genre, len(out), *(" / ".join(percent(v[-1].mean(axis=0))) for v in inside.values())])
    rows.append(["all", len(own), *(" / ".join(percent(np.concatenate(v).mean(axis=0))) for v in inside.values())])
    heads = ["left out", "clips", *(f"margin {margin:g}: V / A / D" for margin in inside)]
    common.show(f"90 % intervals of {model} on genres left out, % that hold", heads, rows)


def flagged(clips: Clips, options: Namespace) -> None:
    """Novelty of changed clips by references without their artists. It looks at log-mel only, in either model."""
    names = list(clips.genres)  # in the manifest's order
    seen = {names[i] for i in np.random.default_rng(5).choice(len(names), 60, replace=False)}
    own = np.array([Path(file).name not in seen for file in clips.files])
    feature, frames, fold = clips.features[BEFORE], clips.of(BEFORE), clips.fold[0]
    extractor, rng, hop_s = features.load(feature), np.random.default_rng(11), feature.hop_s
    blocks = passages.level_blocks([(feature.n_dims, hop_s)])
    novelty = {kind: np.full(len(fold), np.nan) for kind in ("as it is", *CHANGES)}
    for k, member in clips.members(BEFORE, 0).items():
        statistics, rest = member.statistics, np.flatnonzero(fold != k)
        means = np.stack([statistics.mean(frames[i], member.window, hop_s) for i in rest])
        known = reference.fit(statistics, means, [clips.data.groups[i] for i in rest], 0, blocks)
        for i in np.flatnonzero(fold == k):
            novelty["as it is"][i] = known.novelty(statistics.mean(frames[i], member.window, hop_s))
            audio = samples(clips.files[i], [RATE])[RATE] if own[i] else None
            for kind, change in CHANGES.items() if audio is not None else ():
                x = extractor([change(audio, rng).astype(np.float32)])[0]
                novelty[kind][i] = known.novelty(statistics.mean(x, member.window, hop_s))
    of = {f"as it is, all {len(own)}": novelty["as it is"], **{kind: v[own] for kind, v in novelty.items()}}
    rows = [[kind, *percent([(v > 1).mean()]), f"{np.median(v):.2f}"] for kind, v in of.items()]
    common.show(f"{own.sum()} left-out clips", ["clip", "flagged, %", "median novelty"], rows)


def no_music(clips: Clips, options: Namespace) -> None:
    """How many pieces of what is no music the packaged models flag."""
    rng, t = np.random.default_rng(12), np.arange(30 * RATE) / RATE
    found = {
        "white noise, −14 to −50 dBFS": [rng.normal(0, 10 ** (-level / 20), len(t)) for level in range(14, 54, 4)],
        "silence, noise at −100 dBFS": [rng.normal(0, 1e-5, len(t)) for _ in range(10)],
        "sine, 55 Hz to 4 kHz": [0.3 * np.sin(2 * np.pi * 55 * 2 ** (0.69 * i) * t) for i in range(10)],
        "sweep, 50 Hz to 8 kHz": [0.3 * scipy.signal.chirp(t % k, 50, k, 8_000, "log") for k in range(3, 33, 3)],
    }
    sounds = {name: [(x, RATE) for x in pieces] for name, pieces in found.items()}
    text = "The committee will meet again on Thursday, after the members have read the report. " * 5
    for voice in ("en-gb", "en-us", "de", "fr", "es") if shutil.which("espeak-ng") else ():
        subprocess.run(["espeak-ng", "-v", voice, "-w", options.work / "speech.wav", text], check=True, timeout=60)
        sounds.setdefault("espeak-ng's speech", []).append(soundfile.read(options.work / "speech.wav", dtype="float32"))
    loaded, rows = {name: mer_ray.load_model(name) for name in RUNS}, []
    for name, pieces in sounds.items():
        new = (sum(not m.predict(x, rate).in_distribution for x, rate in pieces) for m in loaded.values())
        rows.append([name, len(pieces), *new])
    common.show("No music", ["sound", "pieces", *(f"flagged by {name}" for name in loaded)], rows)


def soundtracks(clips: Clips, options: Namespace) -> None:
    """What the packaged models say of soundtracks: spread, what is flagged, and the ends of each dimension."""
    rows = []
    for name in RUNS:
        path = options.work / f"soundtracks-{name}.parquet"
        if not path.exists():
            pq.write_table(mer_ray.score([p for p, _ in common.soundtracks(options.soundtracks)], name), path)
        found = pq.read_table(path).to_pylist()
        table = [row for row in found if Path(row["uri"]).stem not in NO_MUSIC]
        values = np.array([[row[d] for d in DIMENSIONS] for row in table])
        print(f"\n{name} flags: {', '.join(row['title'] for row in found if not row['in_distribution'])}")
        new = [sum(not row["in_distribution"] for row in of) for of in (table, found)]
        rows.append([name, len(table), *(f"{v:.3f}" for v in values.std(axis=0)), new[0], len(found), new[1]])
        for i, dimension in enumerate(DIMENSIONS):
            titles = [f"{table[j]['title']} {values[j, i]:.2f}" for j in np.argsort(values[:, i])]
            print(f"{dimension}: least {', '.join(titles[:10])}; most {', '.join(titles[:-11:-1])}")
    heads = ["model", "tracks", *(f"SD of {d}" for d in "VAD"), "flagged", "with what is no music", "flagged"]
    common.show("Soundtracks", heads, rows)


def main() -> None:
    """Print the tables."""
    parser = common.arguments(__doc__ or "", music=False)
    parser.add_argument("--workspace", required=True, help="made by `make models`")
    parser.add_argument("--work", type=Path, required=True, help="a folder for what takes long")
    parser.add_argument("--data", type=Path, default=Path("../shared/data/panda4q"), help="of the clips")
    parser.add_argument("--soundtracks", type=Path, help="a folder of Ogg files")
    parser.add_argument("--models", nargs="+", choices=list(RUNS), default=list(RUNS), help="of coverage and genres")
    tables = {f.__name__: f for f in (accuracy, coverage, genres, flagged, no_music, soundtracks)}
    parser.add_argument("--tables", nargs="+", choices=list(tables), default=list(tables))
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    clips = read(options)
    for table in options.tables:
        for each in [[m] for m in options.models] if table in ("coverage", "genres") else [[]]:
            tables[table](clips, options, *each)


if __name__ == "__main__":
    main()
