"""What decoding costs, by format and library, and whether the samples are right.

    python benchmarks/decode.py --music FOLDER [--hours 1] [--work FOLDER] [--json FILE]

Ogg Vorbis soundtracks (see benchmarks/common.py), an hour of them, are encoded to every other format and decoded to
mono by each candidate in turn, `mer_ray.audio` among them: alone ("ours"), and in a process of its own ("isolated").
Each file is decoded by all of them one after the other, ``--repeat`` times, and the least CPU time of each counts, so
that what else the machine does falls on all alike. "difference" is the largest from the first candidate's samples.

Expect, in CPU-seconds per hour of audio, about 7-9 for Vorbis, 6 for FLAC and MP3, 1 for WAV, 11 for AAC, 22 for Opus;
isolation adds about 5 %. Used plainly, PyAV and miniaudio leave in what Vorbis and Opus files want discarded at the
start (so ours differs by as many samples from PyAV's Opus), and miniaudio clips MP3. Encoding takes some minutes
the first time, decoding an hour of music about 15.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import common
import numpy as np

if TYPE_CHECKING:
    from mer_ray.audio.isolated import Decoder

FORMATS = {
    "Vorbis": (".ogg", None),
    "MP3": (".mp3", ["-b:a", "192k"]),
    "FLAC": (".flac", []),
    "WAV": (".wav", []),
    "Opus": (".opus", ["-c:a", "libopus", "-b:a", "128k"]),
    "AAC": (".m4a", ["-c:a", "aac", "-b:a", "160k"]),
}
UNKNOWN_TO = {"libsndfile": ("AAC", "Opus"), "miniaudio": ("AAC", "Opus")}
Decode = Callable[[Path], tuple[np.ndarray, float]]


def main() -> None:
    parser = common.arguments(__doc__ or "")
    parser.add_argument("--hours", type=float, default=1.0, help="of music, at most")
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--work", type=Path, help="a folder in which the encoded files stay")
    options = parser.parse_args()
    common.one_thread()
    music = common.soundtracks(options.music, options.hours)
    with TemporaryDirectory() as temporary:
        figures = {}
        for name, (suffix, encoding) in FORMATS.items():
            files = (
                music if encoding is None else common.encoded(music, options.work or Path(temporary), suffix, *encoding)
            )
            figures[name] = measured(name, files, options.repeat)
    common.save(options.json, {"hours": sum(seconds for _, seconds in music) / 3600, "formats": figures})


def measured(name: str, files: list[tuple[Path, float]], repeat: int) -> dict[str, dict[str, float]]:
    """CPU-seconds per hour of audio and the largest difference from the first candidate, of each."""
    from mer_ray.audio.isolated import Decoder

    hours = sum(seconds for _, seconds in files) / 3600
    with Decoder() as decoder:
        candidates: dict[str, Decode] = {
            "libsndfile": in_process(libsndfile),
            "PyAV": in_process(pyav),
            "miniaudio": in_process(miniaudio),
            "ours": in_process(ours),
            "isolated": lambda path: isolated(decoder, path),
        }
        candidates = {key: c for key, c in candidates.items() if name not in UNKNOWN_TO.get(key, ())}
        least = dict.fromkeys(candidates, 0.0)
        difference = dict.fromkeys(candidates, 0.0)
        extra = dict.fromkeys(candidates, 0)
        isolated(decoder, files[0][0])  # the child's start is no part of a file
        for path, _ in files:
            costs: dict[str, list[float]] = {key: [] for key in candidates}
            for _ in range(repeat):
                expected: np.ndarray | None = None
                for key, candidate in candidates.items():
                    samples, cpu_s = candidate(path)
                    costs[key].append(cpu_s)
                    expected = samples if expected is None else expected
                    n = min(len(samples), len(expected))
                    difference[key] = max(difference[key], float(np.abs(samples[:n] - expected[:n]).max()))
                    extra[key] = max(extra[key], abs(len(samples) - len(expected)))
            for key in candidates:
                least[key] += min(costs[key])
    rows = [(key, least[key] / hours, difference[key], extra[key]) for key in candidates]
    common.show(f"{name}: {hours:.2f} h", ["decoder", "CPU-s per hour", "difference", "more or fewer samples"], rows)
    return {key: {"cpu_s_per_hour": cost, "difference": off, "samples": n} for key, cost, off, n in rows}


def in_process(blocks: Callable[[Path], Iterator[np.ndarray]]) -> Decode:
    """A candidate, with its CPU time."""

    def decode(path: Path) -> tuple[np.ndarray, float]:
        start = time.process_time()
        decoded = list(blocks(path))
        spent = time.process_time() - start
        return np.concatenate(decoded), spent

    return decode


def libsndfile(path: Path) -> Iterator[np.ndarray]:
    import soundfile

    with soundfile.SoundFile(path) as sound:
        block = np.empty((1 << 17, sound.channels), np.float32)
        while len(got := sound.read(out=block)):
            yield mono(got)


def pyav(path: Path) -> Iterator[np.ndarray]:
    import av

    with av.open(path) as container:
        stream = container.streams.audio[0]
        stream.codec_context.thread_count = 1
        for frame in container.decode(stream):
            values, channels = frame.to_ndarray(), len(frame.layout.channels)
            scale = {"s16": 2.0**-15, "s32": 2.0**-31}.get(frame.format.name.removesuffix("p"), 1.0)
            samples = values.T if frame.format.is_planar else values.reshape(-1, channels)
            yield mono(samples.astype(np.float32, copy=False)) * np.float32(scale)


def miniaudio(path: Path) -> Iterator[np.ndarray]:
    import miniaudio

    info = miniaudio.get_file_info(str(path))
    blocks = miniaudio.stream_file(
        str(path), miniaudio.SampleFormat.FLOAT32, info.nchannels, info.sample_rate, frames_to_read=1 << 14
    )
    for block in blocks:
        yield mono(np.frombuffer(block, np.float32).reshape(-1, info.nchannels))


def ours(path: Path) -> Iterator[np.ndarray]:
    from mer_ray.audio.decode import stream

    rate = own_rate(path)
    for block in stream(path, [rate]):
        yield block.samples[rate]


def isolated(decoder: Decoder, path: Path) -> tuple[np.ndarray, float]:
    """The same in a child, whose CPU time is added to this process's."""
    rate = own_rate(path)
    theirs, start = child_cpu_s(decoder.pid), time.process_time()
    decoded = [block.samples[rate] for block in decoder.stream(path, [rate])]
    spent = time.process_time() - start + child_cpu_s(decoder.pid) - theirs
    return np.concatenate(decoded), spent


@functools.cache
def own_rate(path: Path) -> int:
    """A file's own rate, so that nothing is resampled."""
    from mer_ray.audio.decode import probe

    return probe(path).sample_rate


def child_cpu_s(pid: int | None) -> float:
    """User and system time of a living process; Linux only."""
    if pid is None:
        return 0.0
    total = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        total += int((task / "schedstat").read_text().split()[0])
    return total / 1e9


def mono(samples: np.ndarray) -> np.ndarray:
    """(n, channels) → (n,)."""
    channels = samples.shape[1]
    return samples @ np.full(channels, 1 / channels, np.float32)


if __name__ == "__main__":
    main()
