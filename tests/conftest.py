"""What the tests share: one local Ray for all of them, a way to type commands, and small real music."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import numpy as np
import pyarrow.parquet as pq
import pytest
import soundfile

# Before any numeric library starts its threads: Ray's workers run beside this process.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("NPROC", "1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
# Small networks compile for seconds and run for milliseconds: fewer of the compiler's passes, a third less time.
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=1")
os.environ["COLUMNS"] = "200"  # what is printed is read by line

# The same examples in every run: what lands must not hang on a draw. MER_RAY_EXPLORE=1 draws others each time.
hypothesis.settings.register_profile("steady", deadline=None, derandomize=not os.environ.get("MER_RAY_EXPLORE"))
hypothesis.settings.load_profile("steady")

INTERRUPTIBLE = [
    sys.executable,
    "-c",
    "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])",
    sys.executable,
]
"""Python, for a command that Ctrl-C is to end: what a shell starts in the background ignores it, as do its children."""

RATE = 22_050
CACHE = "JAX_COMPILATION_CACHE_DIR"


def pytest_configure(config: pytest.Config) -> None:
    """Many processes compile the same networks, those of Ray too: what one has compiled serves all of this run."""
    if CACHE not in os.environ:  # else this is a worker of xdist, or somebody wants it elsewhere
        folder = tempfile.mkdtemp(prefix="mer-ray-jax-")
        os.environ |= {CACHE: folder, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.2"}
        config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))
    # Two processes that compile a function of librosa for different types at once can leave numba's index pointing at
    # the other's machine code, which crashes whoever loads it: each worker has its own.
    worker = os.environ.get("PYTEST_XDIST_WORKER", "alone")
    os.environ["NUMBA_CACHE_DIR"] = f"{os.environ[CACHE]}/numba-{worker}"


LONG = bool(os.environ.get("MER_RAY_LONG_TESTS"))


@pytest.fixture
def long_tests() -> None:
    """For a test that takes minutes, beside others that look at the same from nearer by."""
    if not LONG:
        pytest.skip("it takes minutes: MER_RAY_LONG_TESTS=1 runs it")


@pytest.fixture(scope="session")
def ray_session() -> Iterator[None]:
    """A local Ray that every journey of the session uses: to start one takes 10-20 s."""
    from mer_ray.stages import session

    with warnings.catch_warnings():
        # JAX's, where an earlier test has used it. What Ray forks here becomes another program at once.
        warnings.filterwarnings("ignore", r"os\.fork\(\) was called", RuntimeWarning)
        session.connect(None)
    close, session.close = session.close, lambda: None  # a command that is typed in this process does not end it
    yield
    session.close = close
    close()


@pytest.fixture
def mer_ray(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., tuple[int, str, str]]:
    """Types ``mer-ray ARGUMENTS`` in this process: (exit code, standard output, standard error)."""
    from mer_ray import cli
    from mer_ray.stages import session

    monkeypatch.setattr(session, "close", lambda: None)  # the session's Ray outlives a command

    def run(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        try:
            cli.main([str(a) for a in arguments], standalone_mode=True)
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(bool(stop.code))
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return run


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium. Of a module: the event loop of Playwright, which is that of the thread, ends with it."""
    from browsers import chromium

    with chromium() as opened:
        yield opened


@pytest.fixture
def view(browser: Any, tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Shows scores in the explorer: `explorer_pages.shown`."""
    from explorer_pages import shown

    with shown(browser, tmp_path) as show:
        yield show


def tune_of(seed: int, seconds: float = 1.5, rate: int = RATE) -> np.ndarray:
    """A few harmonic notes with a beat, another tune for each seed: (n,) float32, peak about 0.5."""
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * rate)) / rate
    melody = np.repeat(rng.choice([220.0, 247.0, 294.0, 330.0, 392.0], 8), -(-len(t) // 8))[: len(t)]
    phase = 2 * np.pi * np.cumsum(melody) / rate
    wave = sum(np.sin(k * phase) / k for k in range(1, 2 + seed % 5))
    beat = np.exp(-3 * ((t * (2 + seed % 3)) % 1))
    out: np.ndarray = (0.3 * wave * beat + 0.01 * rng.standard_normal(len(t))).astype(np.float32)
    return out


def write_tunes(folder: Path, n: int, seconds: float = 1.5, suffix: str = ".flac") -> list[Path]:
    """n different tunes as audio files."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"tune{i:03d}{suffix}" for i in range(n)]
    for i, path in enumerate(paths):
        soundfile.write(path, tune_of(i, seconds), RATE)
    return paths


def spoil(path: Path, group: int, column: str) -> None:
    """Make the end of a column's pages in one row group of a Parquet file unreadable, and nothing else."""
    about = pq.read_metadata(path).row_group(group)
    (chunk,) = [c for c in map(about.column, range(about.num_columns)) if c.path_in_schema.split(".")[0] == column]
    end = chunk.total_compressed_size + min(o for o in (chunk.dictionary_page_offset, chunk.data_page_offset) if o)
    size = min(400, chunk.total_compressed_size)
    data = bytearray(path.read_bytes())
    data[end - size : end] = b"\xff" * size
    path.write_bytes(data)
