"""Labels over time from a data set's copy to the report: songs whose affect changes as planted."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile
from dataset_copies import Song, write_deam
from parts import sets
from scipy import stats

from mer_ray.audio.providers import demo
from mer_ray.evaluation import protocol


def song(number: int, seed: int = 3) -> tuple[np.ndarray, int, np.ndarray, np.ndarray]:
    """Samples, their rate, every second (n,), and valence and arousal at it (n, 2) in 0..1."""
    rng = np.random.default_rng([seed, number])
    n = int(rng.integers(3, 6))
    seconds, centre = rng.uniform(7, 11, n), 0.5 * rng.normal(size=3)
    affect = 1 / (1 + np.exp(-1.3 * (centre + rng.normal(size=(n, 3)))))
    samples, rate = demo.render_sections(
        [(tuple(a), float(s)) for a, s in zip(affect, seconds, strict=True)], 3, number
    )
    time_s = np.arange(0.5, seconds.sum())
    at = np.minimum(np.searchsorted(np.cumsum(seconds), time_s, side="right"), n - 1)
    return samples, rate, time_s, affect[at, :2]


def test_a_song_of_sections_is_as_long_as_they_are_and_the_same_again():
    one = demo.render_sections([((0.9, 0.9, 0.5), 3.0), ((0.1, 0.1, 0.5), 2.5)], 7, 0)
    other = demo.render_sections([((0.9, 0.9, 0.5), 3.0), ((0.1, 0.1, 0.5), 2.5)], 7, 0)
    assert np.array_equal(one[0], other[0])
    assert len(one[0]) == round(5.5 * one[1])
    loud, soft = (np.sqrt(np.mean(part**2)) for part in (one[0][: 3 * one[1]], one[0][4 * one[1] :]))
    assert loud > 1.5 * soft


NUMBERS = [*range(1, 32), *range(2001, 2011)]  # the last ones are of the test set of 2015
N_SONGS = 41


@pytest.fixture(scope="module")
def deam(tmp_path_factory) -> Path:
    """A DEAM in miniature, in the layout of the real one: 41 songs, of 21 artists, with labels from 5 s on."""
    folder, songs = tmp_path_factory.mktemp("deam"), []
    for place, number in enumerate(NUMBERS, start=1):
        samples, rate, time_s, affect = song(place)
        file = io.BytesIO()
        soundfile.write(file, samples, rate, format="MP3")
        later = time_s > 5
        curves = {
            name: {round(1000 * t): round(2 * v - 1, 4) for t, v in zip(time_s[later], affect[later, d], strict=True)}
            for d, name in enumerate(("valence", "arousal"))
        }
        valence, arousal = 1 + 8 * affect.mean(axis=0)
        names = f"Artist {place // 2}", f"Song {place}"
        songs.append(Song(number, *names, (valence, 1.0), (arousal, 1.0), curves, file.getvalue()))
    write_deam(folder / "copy", songs)
    return folder


def test_two_commands_give_static_and_dynamic_tables_and_the_curve_follows_what_is_planted(ray_session, deam, mer_ray):
    code, out, err = mer_ray("dataset", "deam", deam / "copy", "--out", deam / "made")
    assert code == 0, out + err
    workspace = deam / "work"
    own = sets("train.split=groups", "train.targets=curve", "train.networks=[lstm, kernel]", "train.folds=3")
    more = sets("train.members=1", "train.epochs=30", "train.baselines=false", "extract.features=[mfcc]")
    code, out, err = mer_ray("run", "-c", deam / "made" / "config.yaml", "--workspace", workspace, *own, *more)
    assert code == 0, out + err
    report = (workspace / "report" / "report.md").read_text(encoding="utf-8")
    assert "## Labels over time" in report
    assert "Network | Feature | MSE" in report
    for name in ("valence", "arousal"):
        assert (workspace / "report" / f"{name}-over-time.png").read_bytes().startswith(b"\x89PNG")
    with (workspace / "report" / "curves.csv").open(encoding="utf-8-sig") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * 5
    followed = [r for r in rows if r["prediction"] == "curve"]
    assert {(r["dimension"], r["network"]) for r in followed} == {
        (d, n) for d in ("valence", "arousal") for n in ("lstm", "kernel")
    }
    for row in followed:
        assert int(row["tracks"]) == N_SONGS
        assert float(row["per_track_r"]) >= 0.6, row
        assert float(row["pooled_r"]) >= 0.6, row
        assert float(row["less_rmse_lower"]) > 0, row
    constant = next(r for r in rows if r["network"] == "constant mean")
    assert float(constant["pooled_rmse"]) > max(float(r["pooled_rmse"]) for r in followed)

    # The figures follow from the table of predictions.
    table = pq.read_table(workspace / "runs" / "kernel-mfcc" / "curves_predicted.parquet")
    assert table.num_rows == N_SONGS
    r = [
        stats.pearsonr(a, b)[0]
        for a, b in zip(table["valence"].to_pylist(), table["predicted_valence"].to_pylist(), strict=True)
    ]
    wanted = next(r for r in followed if (r["dimension"], r["network"]) == ("valence", "kernel"))
    assert np.mean(r) == pytest.approx(float(wanted["per_track_r"]))

    # The test set of 2015, whose songs' artists have none among the others but one.
    given = ["--set", "train.split=given", "--set", "train.networks=[kernel]"]
    with_test = ["-c", deam / "made" / "config.yaml", "--workspace", workspace, *own, *more, *given]
    for command in ("train", "report"):
        code, out, err = mer_ray(command, *with_test)
        assert code == 0, out + err
    with (workspace / "report" / f"curves{protocol.SUFFIX[protocol.TEST]}.csv").open(encoding="utf-8-sig") as file:
        tested = [r for r in csv.DictReader(file) if r["prediction"] == "curve"]
    assert {(r["network"], int(r["tracks"])) for r in tested} == {("kernel", 10)}
    assert min(float(r["pooled_r"]) for r in tested) >= 0.6

    # Nothing is trained twice, and other targets are other settings.
    again = ["-c", deam / "made" / "config.yaml", "--workspace", workspace, *more]
    code, out, err = mer_ray("train", *again, *own)
    assert code == 0, out + err
    assert "found everything done" in out
    code, out, err = mer_ray("train", *again, *own, *sets("train.targets=track"))
    assert code == 2
    assert "train.targets was 'curve', now 'track'" in err


def test_curves_are_wanted_but_there_are_none(ray_session, tmp_path, mer_ray):
    small = sets("collect.demo.cues=8", "collect.demo.seconds=2", "extract.features=[mfcc]", "train.folds=2")
    code, out, err = mer_ray("run", "--workspace", tmp_path, *small, *sets("train.targets=curve"))
    assert code == 2, out
    assert "no labelled track has labels over time" in err
