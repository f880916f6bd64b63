"""The decoder in its own process: the same blocks, and whatever happens to it costs one file."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sounds

from mer_ray.audio.decode import Block, check, stream
from mer_ray.audio.excerpt import Excerpt
from mer_ray.audio.isolated import Decoder
from mer_ray.errors import TrackError

RATES = [16_000, 22_050]


@pytest.fixture
def decoder() -> Iterator[Decoder]:
    with Decoder() as opened:
        yield opened


def long_file(path: Path, seconds: float = 40.0) -> Path:
    """More blocks than the socket holds."""
    return sounds.write(path, sounds.noise(seconds, 44_100), 44_100)


def joined(blocks: Iterator[Block]) -> dict[tuple[int, int], np.ndarray]:
    parts: dict[tuple[int, int], list[np.ndarray]] = {}
    for block in blocks:
        for rate, samples in block.samples.items():
            parts.setdefault((block.piece, rate), []).append(samples)
    return {key: np.concatenate(samples) for key, samples in parts.items()}


def failed(decoder: Decoder, path: Path, **options: object) -> TrackError:
    with pytest.raises(TrackError) as caught:
        list(decoder.stream(path, RATES, **options))
    assert caught.value.message.isprintable()
    assert not caught.value.transient
    return caught.value


@pytest.mark.parametrize("excerpt", [None, Excerpt(3.0, "centre"), Excerpt(6.0, "spread", 3)])
def test_the_blocks_are_those_of_decoding_at_home(tmp_path, decoder, excerpt):
    path = long_file(tmp_path / "line\nbreak caf\udce9.flac")
    expected = list(stream(path, RATES, excerpt))
    got = list(decoder.stream(path, RATES, excerpt))
    assert [(b.piece, b.seconds) for b in got] == [(b.piece, b.seconds) for b in expected]
    for ours, theirs in zip(got, expected, strict=True):
        assert all(np.array_equal(ours.samples[rate], theirs.samples[rate]) for rate in RATES)
        assert all(samples.dtype == np.float32 for samples in ours.samples.values())


def test_one_child_serves_many_files(tmp_path, decoder):
    assert decoder.pid is None
    pids = set()
    for i in range(5):
        path = sounds.write(tmp_path / f"{i}.wav", sounds.tone(200 + i))
        assert len(joined(decoder.stream(path, [16_000]))[0, 16_000]) == 16_000
        pids.add(decoder.pid)
    assert len(pids) == decoder.starts == 1


def test_a_check_is_that_at_home(tmp_path, decoder):
    path = sounds.write(tmp_path / "a.flac", sounds.tone())
    assert decoder.check(path) == check(path)
    with pytest.raises(TrackError, match="truncated"):
        decoder.check(sounds.truncated(sounds.write(tmp_path / "b.wav", sounds.tone())))
    assert len(list(decoder.stream(path, [16_000]))) > 0
    assert decoder.starts == 1


def test_errors_are_those_of_decoding_at_home(tmp_path, decoder):
    assert failed(decoder, tmp_path / "gone.wav").reason == "missing"
    assert failed(decoder, sounds.text(tmp_path / "text.mp3")).reason == "corrupt"
    assert (
        failed(decoder, sounds.write(tmp_path / "short.wav", sounds.tone()), min_duration_s=2.0).reason == "too_short"
    )
    assert failed(decoder, sounds.not_finite(tmp_path / "nan.wav")).reason == "not_finite"
    assert decoder.starts == 1


def test_a_large_block_comes_whole(tmp_path, decoder):
    path = sounds.write(tmp_path / "slow.wav", sounds.noise(400.0, 1_000), 1_000)  # 131 s in a block
    got, expected = joined(decoder.stream(path, [48_000])), joined(stream(path, [48_000]))
    assert np.array_equal(got[0, 48_000], expected[0, 48_000])


@pytest.mark.parametrize("taken", [1, 2, 5])
def test_a_stream_can_be_given_up_half_way(tmp_path, decoder, taken):
    path, other = long_file(tmp_path / "x.wav"), sounds.write(tmp_path / "y.wav", sounds.tone())
    for _ in range(3):
        blocks = decoder.stream(path, RATES)
        for _ in range(taken):
            next(blocks)
        blocks.close()
        assert len(joined(decoder.stream(other, [16_000]))[0, 16_000]) == 16_000
    assert decoder.starts == 1


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGABRT])
def test_a_child_that_dies_costs_one_file(tmp_path, decoder, number):
    path = long_file(tmp_path / "x.wav")
    blocks = decoder.stream(path, RATES)
    next(blocks)
    os.kill(decoder.pid, number)
    with pytest.raises(TrackError, match=rf"crashed: .*x\.wav.*{number.name}") as caught:
        list(blocks)
    # No file sends SIGKILL: a job that is ended does, and its files are to be tried again.
    assert caught.value.transient == (number == signal.SIGKILL)
    assert len(list(decoder.stream(path, RATES))) > 5
    assert decoder.starts == 2


def test_a_child_that_died_between_two_files_costs_none(tmp_path, decoder):
    path = sounds.write(tmp_path / "x.wav", sounds.tone())
    list(decoder.stream(path, RATES))
    os.kill(decoder.pid, signal.SIGKILL)
    os.waitid(os.P_PID, decoder.pid, os.WEXITED | os.WNOWAIT)  # its socket closes with its last thread
    assert len(list(decoder.stream(path, RATES))) > 0
    assert decoder.starts == 2


def test_a_child_that_does_not_answer_is_stuck(tmp_path):
    path = long_file(tmp_path / "x.wav")
    with Decoder() as decoder:
        blocks = decoder.stream(path, RATES)
        next(blocks)
        pid = decoder.pid
        os.kill(pid, signal.SIGSTOP)
        usual_s, decoder.stall_s = decoder.stall_s, 1.0
        with pytest.raises(TrackError, match=r"stuck: .*x\.wav.* 1 s"):
            list(blocks)
        assert not alive(pid)
        decoder.stall_s = usual_s
        assert len(list(decoder.stream(path, RATES))) > 5


def test_a_child_that_wants_too_much_memory_is_refused(tmp_path):
    path = sounds.write(tmp_path / "x.wav", sounds.noise(1.0, 44_100, 200), 44_100)  # 105 MB a block
    with Decoder(memory_mb=150) as decoder:
        assert failed(decoder, path).reason == "too_big"
        assert len(list(decoder.stream(sounds.write(tmp_path / "y.wav", sounds.tone()), RATES))) > 0


LEFT = """
import sys
from pathlib import Path
from mer_ray.audio.isolated import Decoder

def n_opened():
    return len(list(Path("/proc/self/fd").iterdir()))

before = n_opened()
for give_up in (False, True):
    with Decoder() as decoder:
        blocks = decoder.stream(sys.argv[1], [16_000, 22_050])
        next(blocks)
        print(decoder.pid)
        if not give_up:
            list(blocks)
        blocks.close()
print(n_opened() - before)
"""
"""In a process of its own: threads of other tests, Ray's among them, open and close what they need."""


def test_nothing_is_left_behind(tmp_path):
    path = long_file(tmp_path / "x.wav", 20.0)
    done = subprocess.run([sys.executable, "-c", LEFT, path], capture_output=True, text=True, check=True, timeout=240)
    *pids, more = map(int, done.stdout.split())
    assert len(set(pids)) == 2
    assert not any(map(alive, pids))
    assert more == 0


ORPHAN = """
import sys, time
from mer_ray.audio.isolated import Decoder
decoder = Decoder()
blocks = decoder.stream(sys.argv[1], [16000])
next(blocks)
print(decoder.pid, flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("stopped", [False, True])
def test_the_child_goes_when_its_parent_is_killed(tmp_path, stopped):
    path = long_file(tmp_path / "x.wav")
    parent = subprocess.Popen([sys.executable, "-c", ORPHAN, path], stdout=subprocess.PIPE, text=True)
    child = int(parent.stdout.readline())
    assert alive(child)
    if stopped:  # as one that is busy in a decoder; it goes as soon as it can run at all
        os.kill(child, signal.SIGSTOP)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    if stopped:
        os.kill(child, signal.SIGCONT)
    for _ in range(1_000):
        if not alive(child):
            break
        time.sleep(0.1)
    assert not alive(child)


def alive(pid: int) -> bool:
    """Whether a process runs; one that waits to be buried does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# fuzz --------------------------------------------------------------------------------------------------------------

MUTATED = 2_000


def mutated(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """A damaged copy: bytes flipped anywhere or in the header, cut, spliced with another, repeated, or blanked."""
    out, kind = bytearray(data), rng.integers(6)
    at, to = sorted(int(i) for i in rng.integers(0, len(data), 2))
    if kind == 0:
        for i in rng.integers(0, len(out), rng.integers(1, 30)):
            out[i] = rng.integers(256)
    elif kind == 1:
        for i in rng.integers(0, min(200, len(out)), rng.integers(1, 6)):
            out[i] = rng.choice([0, 1, 0x7F, 0x80, 0xFF, rng.integers(256)])
    elif kind == 2:
        del out[at:]
    elif kind == 3:
        out[at:to] = other[at:to]
    elif kind == 4:
        out[at:at] = out[at:to]
    else:
        out[at:to] = bytes(to - at)
    return bytes(out)


def test_two_thousand_damaged_files_leave_the_parent_alive(tmp_path, capsys):
    source = sounds.write(tmp_path / "source.wav", sounds.noise(1.0, 16_000, 2), 16_000)
    originals = []
    for name, options in sounds.CODECS.items():
        path = sounds.ffmpeg(source, tmp_path / name, *options)
        originals.append((name, path.read_bytes()))
    rng = np.random.default_rng(20_261_122)
    ends: Counter[str] = Counter()
    path = tmp_path / "damaged"
    with Decoder(stall_s=20.0) as decoder:
        for i in range(MUTATED):
            name, data = originals[i % len(originals)]
            path.write_bytes(mutated(data, originals[rng.integers(len(originals))][1], rng))
            excerpt = Excerpt(0.3, "spread", 2) if i % 3 == 0 else None
            try:
                blocks = list(decoder.stream(path, [16_000], excerpt))
                assert all(np.isfinite(block.samples[16_000]).all() for block in blocks)
                ends["decoded"] += 1
            except TrackError as error:
                ends[error.reason] += 1
                if error.reason in ("crashed", "stuck", "too_big"):
                    ends[f"{error.reason} by {name}"] += 1
        starts = decoder.starts
    with capsys.disabled():
        print(f"\n{MUTATED:,} damaged files, {starts} children: {dict(ends.most_common())}")
    assert ends["decoded"] > MUTATED // 10
    assert ends["corrupt"] > MUTATED // 10
