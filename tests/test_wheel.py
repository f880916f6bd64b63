"""The wheel in a bare environment: what ``pip install mer-ray`` brings, and what runs there without a network."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from conftest import write_tunes

from mer_ray import extras

ROOT = Path(__file__).parents[1]
BUILT_FROM = ("pyproject.toml", "README.md", "LICENSE", "mer_ray")
NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
MOST_MB = 520
"""Of a bare environment, with pip, setuptools and bytecode, which are 70 of it (bokeh and what it brings: 72)."""
MOST_OF_UV_MB = 450
"""Of the same without these three, as uv installs it."""


def run(*command: object, **how) -> subprocess.CompletedProcess[str]:
    own = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME")} | how.pop("environment", {})
    words = [str(word) for word in command]
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=500, env=own, **how)


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> tuple[Path, Path]:
    """(sdist, the wheel that was made from it)."""
    folder = tmp_path_factory.mktemp("build")
    for name in BUILT_FROM:  # not in the repository itself, where a build folder would stay
        source, target = ROOT / name, folder / "source" / name
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            target.parent.mkdir(exist_ok=True)
            shutil.copy(source, target)
    # Needs a backend that knows licences by their name; one that is too old here is fetched.
    here = int(version("setuptools").split(".")[0]) >= 77
    isolation = ["--no-isolation"] if here else []
    done = run(sys.executable, "-m", "build", *isolation, "--outdir", folder / "dist", folder / "source")
    if done.returncode and not here and re.search(r"(?i)could not find a version|connection|network", done.stdout):
        pytest.skip("the package index cannot be reached, and setuptools here is too old to build with")
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr[-3_000:]
    [sdist], [wheel] = (folder / "dist").glob("*.tar.gz"), (folder / "dist").glob("*.whl")
    return sdist, wheel


def test_the_wheel_has_all_that_the_package_reads(built):
    sdist, wheel = built
    here = {
        p.relative_to(ROOT).as_posix()
        for p in (ROOT / "mer_ray").rglob("*")
        if p.is_file() and "__pycache__" not in p.parts
    }
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("mer_ray/")}
        text = archive.read(next(n for n in archive.namelist() if n.endswith(".dist-info/METADATA"))).decode()
    assert packed == here
    assert set(re.findall(r"^Provides-Extra: (.+)$", text, re.MULTILINE)) == {"all", "cuda", "dev", *extras.EXTRAS}
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert here <= names


@dataclass(frozen=True)
class Bare:
    """An environment with the wheel and nothing else, and a folder with music."""

    folder: Path
    python: Path
    music: Path

    def type(self, *arguments: object) -> subprocess.CompletedProcess[str]:
        """``mer-ray ARGUMENTS`` there, where no network can be reached."""
        return run(self.python.with_name("mer-ray"), *arguments, cwd=self.folder, environment=NO_NETWORK)


@pytest.fixture(scope="module")
def bare(built, tmp_path_factory) -> Bare:
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input")
    done = run(*pip, "-c", ROOT / "constraints.txt", built[1])
    if done.returncode and re.search(r"(?i)No matching distribution|Connection|Temporary failure", done.stderr):
        pytest.skip("the package index cannot be reached")
    assert done.returncode == 0, done.stderr[-3_000:]
    write_tunes(folder / "music", 24, 20.0)
    return Bare(folder, python, folder / "music")


def installed(bare: Bare) -> set[str]:
    listed = run(bare.python, "-m", "pip", "list", "--format=json", "--disable-pip-version-check")
    return {about["name"].lower().replace("_", "-") for about in json.loads(listed.stdout)}


def test_nothing_comes_that_an_extra_is_for(bare):
    modules = sorted({module for modules in extras.EXTRAS.values() for module in modules} | {"jaxlib", "torch"})
    code = "import sys, importlib.util as u; print(*[m for m in sys.argv[1:] if u.find_spec(m)])"
    assert run(bare.python, "-c", code, *modules, cwd=bare.folder).stdout.split() == []
    assert "mer-ray" in installed(bare)
    assert run(bare.python, "-m", "pip", "check").returncode == 0
    own = [f"--exclude={name}" for name in ("__pycache__", "pip", "setuptools", "pkg_resources")]
    for excluded, most in (([], MOST_MB), (own, MOST_OF_UV_MB)):
        assert int(run("du", "-sm", *excluded, bare.folder / "venv").stdout.split()[0]) < most


def test_it_scores_searches_and_exports_there_without_a_network(bare):
    shown = bare.type("--help")
    assert (shown.returncode, "playlist" in shown.stdout) == (0, True), shown.stderr
    one = bare.type("score", bare.music / "tune000.flac", "--out", "one.parquet")
    assert one.returncode == 0, one.stderr
    assert pq.read_metadata(bare.folder / "one.parquet").num_rows == 1
    many = bare.type("score", bare.music, "--model", "light", "--set", "score.workers=2")  # over a tenth of an hour
    assert many.returncode == 0, many.stderr
    scores = pq.read_table(bare.folder / "scores.parquet")
    assert scores.num_rows == 24
    listed = bare.type("playlist", "scores.parquet", "--where", "valence > 0", "--out", "list.m3u8")
    assert listed.returncode == 0, listed.stderr
    assert (bare.folder / "list.m3u8").read_text(encoding="utf-8").count("tune") >= 24
    for words in (
        ("playlist", "scores.parquet", "--arc", "calm-tense", "-n", 5),
        ("neighbours", "scores.parquet", "tune003"),
        ("explore", "scores.parquet"),
        ("collect", "--workspace", "w", "--set", "collect.source=folder", "--set", f"collect.folder={bare.music}"),
        ("status", "--workspace", "w"),
    ):
        done = bare.type(*words)
        assert done.returncode == 0, done.stderr
    assert (bare.folder / "explore.html").stat().st_size > 10_000
    code = f"import mer_ray; print(mer_ray.score([{str(bare.music / 'tune000.flac')!r}])['valence'][0].as_py())"
    alone = run(bare.python, "-c", code, cwd=bare.folder, environment=NO_NETWORK)
    assert float(alone.stdout) == pytest.approx(pq.read_table(bare.folder / "one.parquet")["valence"][0].as_py())


def test_its_scores_are_those_of_scipys_transforms(bare, mer_ray, tmp_path):
    """One is made here, where SciPy is installed, the other there."""
    assert bare.type("score", bare.music / "tune001.flac", "--out", "there.parquet").returncode == 0
    assert mer_ray("score", bare.music / "tune001.flac", "--out", tmp_path / "here.parquet")[0] == 0
    here, there = (pq.read_table(p) for p in (tmp_path / "here.parquet", bare.folder / "there.parquet"))
    for name in ("valence", "arousal", "dominance", "lower_valence", "upper_valence"):
        assert here[name].to_numpy() == pytest.approx(there[name].to_numpy(), abs=1e-5)


@pytest.mark.parametrize(
    ("words", "package", "extra"),
    [
        (("train",), "jax", "train"),
        (("label",), "matplotlib", "train"),
        (("score", "music", "--address", "127.0.0.1:1", "--out", "x.parquet"), "ray", "cluster"),
        (("collect", "--workspace", "x", "--set", "collect.source=lastfm"), "pylast", "harvest"),
        (("tag", "scores.parquet"), "mutagen", "tag"),
    ],
)
def test_a_missing_extra_is_one_line_there(bare, words, package, extra):
    done = bare.type(*words)
    assert done.returncode == 2, done.stderr
    assert done.stderr == f"mer-ray: error: this needs {package}: pip install 'mer-ray[{extra}]'\n"
