"""Nothing is imported from the folder that a command stands in, by it or by any process that it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import sounds

from mer_ray import child_process
from mer_ray.audio.isolated import Decoder
from mer_ray.audio.providers import savify

ROOT = str(Path(__file__).parents[1])
TRAPS = (
    *("json", "random", "typing", "collections", "contextlib", "socket", "tempfile", "select", "mmap", "resource"),
    *("dataclasses", "logging", "subprocess", "threading", "ssl", "struct", "uuid", "queue", "csv", "datetime"),
    *("numpy", "pyarrow", "click", "rich", "miniaudio", "soundfile", "av", "soxr", "scipy", "tinytag", "cffi"),
    *("mer_ray", "ray", "jax", "tensorflow", "spotipy", "yt_dlp", "psutil", "yaml", "pydantic", "httpx"),
)


@pytest.fixture
def trapped(tmp_path, monkeypatch) -> Path:
    """The current folder, full of modules that say so when they run; the file in which they do."""
    message = tmp_path / "message"
    for name in TRAPS:
        (tmp_path / f"{name}.py").write_text(
            f"open({str(message)!r}, 'a').write('{name} ')\nraise ImportError('trap')\n"
        )
    sounds.write(tmp_path / "a.wav", sounds.noise(1.5))
    monkeypatch.chdir(tmp_path)
    return message


def ran(message: Path) -> str:
    return message.read_text() if message.exists() else ""


@pytest.mark.parametrize("path", ["", ":", ".", f"{ROOT}:", f":{ROOT}", f".:{ROOT}", None])
def test_the_decoder_imports_nothing_from_here(trapped, monkeypatch, path):
    monkeypatch.delenv("PYTHONPATH", raising=False)
    if path is not None:
        monkeypatch.setenv("PYTHONPATH", path)
    with Decoder() as decoder:
        assert decoder.check("a.wav").channels == 1
    assert ran(trapped) == ""


@pytest.mark.parametrize(
    "module", ["audio.providers.savify_child", "features.vggish_import", "features.handles", "audio.isolated"]
)
def test_no_child_imports_from_here(trapped, monkeypatch, module):
    monkeypatch.setenv("PYTHONPATH", f"{os.environ.get('PYTHONPATH', '')}:")
    own = {**os.environ, child_process.VARIABLE: child_process.path()}
    child = child_process.child("-m", f"mer_ray.{module}")
    done = subprocess.run(child, capture_output=True, text=True, env=own, input="")
    assert done.returncode != 0  # it is told nothing to do
    assert (ran(trapped), "trap" in done.stderr) == ("", False)
    assert list(savify.CHILD) == child_process.child("-m", "mer_ray.audio.providers.savify_child")


def test_every_child_is_started_so():
    modules = (Path(ROOT) / "mer_ray").rglob("*.py")
    assert {m.name for m in modules if "sys.executable" in m.read_text(encoding="utf-8")} == {"child_process.py"}


@pytest.mark.parametrize(
    ("command", "path"),
    [
        (["-m", "mer_ray"], ROOT),
        ([f"{ROOT}/jobs/score.py"], f"{ROOT}:"),
        (["-P", "-c", "from mer_ray.__main__ import main; main()"], f":{ROOT}:"),
    ],
    ids=["-m", "job", "script"],
)
def test_a_command_imports_nothing_from_here(trapped, command, path):
    if "-m" in command:  # what Python itself imports for it is not ours to choose
        Path("mer_ray.py").unlink()
    own = {**os.environ, "PYTHONPATH": path}
    if path != ROOT:  # Python looks here for what it needs before the first line of ours
        for early in ("mer_ray", "typing", "collections", "contextlib"):
            Path(f"{early}.py").unlink()
    arguments = ["gone"] if "jobs" in command[0] else ["score", "gone"]
    done = subprocess.run([sys.executable, *command, *arguments], capture_output=True, text=True, env=own)
    assert (done.returncode, ran(trapped)) == (2, ""), done.stderr
    assert "catalog gone does not exist" in done.stderr


def test_a_worker_of_ray_imports_nothing_from_here(trapped):
    """In a process of its own: the tests' Ray has its own folder."""
    code = (
        "from mer_ray.stages import session; import ray, sys; session.connect('local');"
        "f = ray.remote(lambda: __import__('sys').path); told = ray.get(f.remote()); session.close(); print(told)"
    )
    own = {**os.environ, "PYTHONPATH": ROOT}
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, env=own)
    assert done.returncode == 0, done.stderr
    assert ran(trapped) == ""
    path = done.stdout.splitlines()[-1]
    assert f"'{Path.cwd()}'" not in path
    assert ROOT in path


def test_a_path_for_children(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    here = str(tmp_path)
    for given, left in {
        "": [],
        ":": [],
        ".:/x": ["/x"],
        "/x::/y:": ["/x", "/y"],
        "./.:sub/..:/x": ["/x"],
        "sub:/x": [f"{here}/sub", "/x"],
        f"{here}:/x": [here, "/x"],  # named in full, it is meant
    }.items():
        monkeypatch.setenv("PYTHONPATH", given)
        assert child_process.path().split(os.pathsep) == [child_process.ROOT, *left], given
        assert child_process.path(package=False) == os.pathsep.join(left), given


def test_a_folder_that_is_named_in_full_stays(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for given, stays in (f"{tmp_path}:/x", True), (":/x", False):
        monkeypatch.setenv("PYTHONPATH", given)
        monkeypatch.setattr(sys, "path", [str(tmp_path), "", "/y"])
        child_process.leave_current_folder()
        assert (str(tmp_path) in sys.path) == stays
        assert sys.path[-1] == "/y"


def test_the_package_s_own_folder_stays(monkeypatch):
    monkeypatch.chdir(child_process.ROOT)
    monkeypatch.setattr(sys, "path", [child_process.ROOT, "/y"])
    child_process.leave_current_folder()
    assert sys.path == [child_process.ROOT, "/y"]
