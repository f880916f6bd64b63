"""README and tutorial do what they say; every page's commands parse, and the site builds without a warning."""

from __future__ import annotations

import ast
import re
import shlex
import subprocess
import sys
import tomllib
from contextlib import suppress
from pathlib import Path

import click
import mutagen.flac
import pyarrow as pa
import pytest
import soundfile
import yaml
from axe_playwright_python.sync_playwright import Axe
from browsers import context, until
from documents import ROOT, Block, Session, blocks, differences
from pydantic import BaseModel

import mer_ray
from mer_ray.audio.providers.demo import render
from mer_ray.cli import main
from mer_ray.config import Config
from mer_ray.io import schemas
from mer_ray.sources import demo

sys.path.insert(0, str(ROOT / "docs"))
import hooks

README, TUTORIAL = ROOT / "README.md", ROOT / "docs" / "tutorial.md"
PAGES = [README, ROOT / "CONTRIBUTING.md", ROOT / "cluster" / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LONG = "--workspace work/cnn"
"""In blocks of the tutorial that take two more starts of Ray; what they type parses, as on every page."""


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# what is shown is what happens --------------------------------------------------------------------------------------


@pytest.fixture
def session(tmp_path):
    """A shell in an empty folder."""
    (tmp_path / "folder").mkdir()
    opened = Session(tmp_path / "folder", tmp_path / "home")
    yield opened
    opened.close()


@pytest.fixture
def music(tmp_path) -> None:
    """Twelve pieces by six composers in ~/Music."""
    for track in list(demo.tracks(24, 20, 7))[::2]:
        file = tmp_path / "home" / "Music" / track.artist / (track.album or "Singles") / f"{track.title}.flac"
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, *render(track.uri))
        tags = mutagen.flac.FLAC(file)
        tags.update({"artist": track.artist, "title": track.title, "album": track.album or "Singles"})
        tags.save()


def left_to_type(block: Block) -> str:
    """A block without the lines that set up an environment, which the tests have: what they name is looked up here."""
    lines = []
    for line in block.text.splitlines():
        if made := re.match(r"make (\w+)", line):
            assert re.search(rf"^{made[1]}:", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE), line
        elif line.startswith("pip install"):
            assert shlex.split(line)[2].split("[")[0] == PROJECT["name"]
        else:
            lines.append(line)
    return "\n".join(lines)


def follow(page: Path, session: Session, without: str | None = None) -> None:
    """Run the blocks of a page in order, and compare what they print with what is shown."""
    wrong = []
    for block in blocks(page):
        assert block.language in ("bash", "python"), "a block that nobody runs"
        if without is not None and without in block.text:
            continue
        run = session.bash if block.language == "bash" else session.python
        printed = run(left_to_type(block))
        if block.shown is not None and (missing := differences(block.shown, printed, session.folder)):
            wrong.append(f"{name(page)}\n{block.text}\nprints\n{printed}\nand not\n" + "\n".join(missing))
    assert not wrong, "\n\n".join(wrong)


def test_the_readme_does_what_it_shows(music, session):
    follow(README, session)
    assert (session.folder / "explore.html").is_file()
    assert "#EXTM3U" in (session.folder / "tense.m3u8").read_text(encoding="utf-8")


def test_the_tutorial_does_what_it_shows(session):
    follow(TUTORIAL, session, without=LONG)
    assert (session.folder / "work" / "first" / "runs" / "kernel-mfcc+logmel" / "README.md").is_file()


def test_the_rest_of_the_tutorial(long_tests, session):
    follow(TUTORIAL, session)


def test_make_demo_is_the_demo():
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert "demo: $(READY)\n\t$(BIN)/mer-ray run -c configs/demo.yaml\n" in makefile


def test_differences_are_found():
    folder = Path("/x")
    assert differences("a 1.00 b\n...\nend", "a 1.01 b\nmore\nend\n", folder) == []
    assert differences("took 3 s, 9.1 kB", "took 88 s, 7 kB", folder) == []
    assert differences("a 1.00 b", "a 1.30 b", folder) == ["a 1.00 b", "(not shown) a 1.30 b"]
    assert differences("one\nthree", "one\ntwo\nthree", folder) == ["three", "(not shown) two", "(not shown) three"]
    assert differences("work/report", "/x/work/report", folder) == []
    assert differences("one", "", folder) == ["one"]


# the README ---------------------------------------------------------------------------------------------------------


def test_the_readme_is_short():
    lines = README.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
    assert max(len(line) for line in lines) <= 160


def test_a_newcomer_types_five_commands_at_most():
    text = README.read_text(encoding="utf-8")
    typed = [line for block in blocks(README) for line in block.text.splitlines() if not line.startswith("make ")]
    assert len(typed) <= 5
    order = [text.index(words) for words in ("pip install", "mer-ray score", "mer-ray playlist", "mer-ray explore")]
    assert order == sorted(order)


@pytest.mark.parametrize("model", ["default", "light"])
def test_its_figures_are_those_of_the_cards(model):
    card = (ROOT / "mer_ray" / "packaged_models" / model / "README.md").read_text(encoding="utf-8")
    of_card = [re.findall(r"\d\.\d{3}", row[4]) for row in (r.split("|")[1:] for r in _rows(card, "Label SD"))]
    for page, digits in ((README, 2), (ROOT / "docs" / "explanation" / "models-and-evaluation.md", 3)):
        (row,) = [r for r in page.read_text(encoding="utf-8").splitlines() if r.startswith(f"| `{model}`")]
        figures = [float(x) for x in re.findall(r"\d\.\d+", row)]
        assert figures == [pytest.approx(float(x), abs=0.51 * 10**-digits) for three in of_card for x in three]
    assert len(of_card) == 3


def _rows(text: str, heading: str) -> list[str]:
    after = text[text.index(heading) :].splitlines()[2:]
    return after[: next(i for i, line in enumerate(after) if not line.startswith("|"))]


# every page ---------------------------------------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", h.lower()).strip().replace(" ", "-") for h in headings}


@pytest.mark.parametrize("page", PAGES[:3], ids=name)
def test_links_lead_somewhere(page):
    """Those of the site are checked by its build."""
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            target = (page.parent / path) if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def commands(page: Path) -> tuple[list[list[str]], list[list[str]]]:
    """The words of each ``mer-ray ...`` that the page's blocks type, and of those that its sentences name."""
    text = page.read_text(encoding="utf-8").replace("\\\n", " ")
    fenced = re.findall(r"^```(?:bash|sh)\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    typed = [line for block in fenced for line in block.splitlines()] + re.findall(r"^    +(mer-ray .*)$", text, re.M)
    prose = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    named = [" ".join(code.split()) for code in re.findall(r"`(mer-ray [^`]*)`", prose)]
    return [w for line in typed if (w := words(line))], [w for line in named if (w := words(line))]


def words(line: str) -> list[str]:
    """The command and its arguments of a line that begins with ``mer-ray``, else none."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|;&<>")
    lexer.whitespace_split = True
    found = list(lexer)
    end = next((i for i, word in enumerate(found) if set(word) <= set("|;&<>")), len(found))
    is_one = found[:1] == ["mer-ray"] and len(found) > 1 and re.fullmatch("[a-z]+", found[1])
    return found[1:end] if is_one else []


def keys() -> set[str]:
    """All settings, with NAME for a user's names."""
    return {f"{key}.{n}".lstrip(".") for key, model in hooks.sections(Config) for n in model.model_fields}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_command_of_a_page_parses(page):
    typed, named = commands(page)
    for command, *arguments in typed:
        if command == "dataset" and arguments[0] == "NAME":
            continue  # a data set of the reader's choice
        main.commands[command].make_context(command, arguments, parent=click.Context(main))
    for command, *arguments in named:  # perhaps without what it needs: its options are there
        own = main.commands[command]
        with suppress(click.BadOptionUsage):
            own.make_parser(click.Context(own, parent=click.Context(main))).parse_args(arguments)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_every_setting_of_a_page_is_one(page):
    text = page.read_text(encoding="utf-8")
    named = re.findall(r"--set[ \n]+[\"']?([a-z_]+(?:\.[A-Za-z_]+)+)[ =]", text)
    named += re.findall(
        r"`((?:collect|label|acquire|extract|train|score)\.[a-z_]+(?:\.[A-Za-z_]+)*)(?:=[^`]*|: [^`]*)?`", text
    )
    named = [re.sub(r"(hub|precomputed)\.[A-Za-z]+", r"\1.NAME", key) for key in named if not key.endswith(".py")]
    assert set(named) - keys() <= {"extract.NAME", "extract.hub.NAME", "extract.precomputed.NAME"}


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_python_and_yaml_of_a_page_are_such(page):
    for block in blocks(page):
        if block.language == "python":
            tree = ast.parse(block.text)
            used = {
                n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and ast.unparse(n.value) == "mer_ray"
            }
            assert used <= set(mer_ray.__all__)
        elif block.language == "yaml":
            settings = yaml.safe_load(block.text)
            if "plugins" not in settings:  # else they are of beets
                Config.model_validate(settings)


def test_every_command_has_a_place_in_a_page():
    typed, named = zip(*map(commands, PAGES), strict=True)
    assert {found[0] for page in (*typed, *named) for found in page} == set(main.commands)


# the reference ------------------------------------------------------------------------------------------------------


def test_every_command_option_and_argument_has_its_text():
    page = hooks.commands()
    for command in main.commands.values():
        assert f"## mer-ray {command.name}\n" in page
        for option in command.params:
            if isinstance(option, click.Option):
                assert f"{option.opts[-1]}" in page
            else:
                assert option.make_metavar(click.Context(command)).strip("[].") in page
    with pytest.raises(ValueError, match="--new of score has no text"):
        hooks._option("score", click.Option(["--new"]))


def test_every_setting_has_its_text():
    page = hooks.settings()
    shown = set(re.findall(r"^\| `([\w.]+)` \|", page, re.MULTILINE))
    groups = {key for key, _ in hooks.sections(Config)}
    assert keys() - shown <= groups | {"extract.hub", "extract.precomputed"}
    assert len(shown) > 100

    class Undescribed(BaseModel):
        new: int = 1

    with pytest.raises(ValueError, match=r"train\.new has no text"):
        hooks._setting("train.new", Undescribed.model_fields["new"])


def test_every_column_has_its_text():
    page = hooks.tables()
    for schema in (*schemas.SCHEMAS.values(), schemas.catalog_scores_schema(), schemas.features_schema(2)):
        for field in schema:
            assert f"| `{field.name}` |" in page
    with pytest.raises(ValueError, match=r"scores\.new has no text"):
        hooks.column("scores", pa.field("new", pa.int8()))


def test_every_reason_has_its_advice():
    page = hooks.reasons()
    raised = set()
    for file in (ROOT / "mer_ray").rglob("*.py"):
        raised |= set(re.findall(r'TrackError\(\s*"([a-z_]+)"', file.read_text(encoding="utf-8")))
    assert [reason for reason in sorted(raised) if f"| `{reason}` |" not in page] == []


def test_every_environment_variable_has_its_text():
    read, written = set(), set()
    for file in (ROOT / "mer_ray").rglob("*.py"):
        for line in file.read_text(encoding="utf-8").splitlines():
            if "environ" in line:
                into = written if re.search(r"setdefault|environ\[|update", line) else read
                into |= set(re.findall(r'"([A-Z][A-Z0-9]*(?:_[A-Z0-9]+)+)"', line))
    assert read <= set(hooks.ENVIRONMENT)
    assert written >= hooks.SET_IF_UNSET
    code = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "mer_ray").rglob("*.py"))
    assert [n for n in (*hooks.ENVIRONMENT, *hooks.SET_IF_UNSET) if f'"{n}"' not in code] == []


def test_every_public_function_is_there():
    assert {f"mer_ray.{n}" for n in mer_ray.__all__ if n != "__version__"} == set(hooks.API["Functions"])


# the site -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet", "--site-dir", str(folder)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, env=None, timeout=300)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_the_site_builds_and_has_every_page(site):
    pages = {p.relative_to(ROOT / "docs").with_suffix(".html") for p in PAGES if "docs" in p.relative_to(ROOT).parts}
    made = {p.relative_to(site) for p in site.rglob("*.html")}
    assert pages | {Path(p).with_suffix(".html") for p in hooks.PAGES} | {Path("how-to/notebook.html")} <= made
    assert not list(site.rglob("*.py"))


def test_the_site_fetches_nothing_from_elsewhere(site):
    for page in site.rglob("*.html"):
        text = page.read_text(encoding="utf-8")
        assert re.findall(r"<(?:script|img|iframe)[^>]* src=\"?(?:https?:)?//[^\s>]+", text) == []
        assert (
            re.findall(r"<link[^>]* rel=\"?(?:stylesheet|preconnect|icon)[^>]* href=\"?(?:https?:)?//[^>]+", text) == []
        )


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_site_is_accessible(browser, site, scheme):
    """WCAG 2, levels A and AA, by axe-core."""
    with context(browser, color_scheme=scheme) as opened:
        page = opened.new_page()
        for path in ("index.html", "reference/commands.html"):
            page.goto((site / path).as_uri())
            until(page, "document.body.dataset.mdColorScheme && !document.getAnimations().length")
            found = Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa"]}).response
            nodes = [(v["id"], n["html"][:200]) for v in found["violations"] for n in v["nodes"]]
            assert nodes == [], path
            assert found["passes"]
        assert page.evaluate("document.body.dataset.mdColorScheme") == {"light": "default", "dark": "slate"}[scheme]


# what else is at the top of the repository --------------------------------------------------------------------------


def test_versions_agree():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    releases = re.findall(r"^## \[(.+?)\](?: - (\d{4}-\d\d-\d\d))?$", changelog, re.MULTILINE)
    assert releases[0] == ("Unreleased", "")
    assert releases[1][0] == mer_ray.__version__
    assert releases[1][1]
    assert PROJECT.get("version", mer_ray.__version__) == mer_ray.__version__
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert str(citation["version"]) == mer_ray.__version__
    assert str(citation["date-released"]) == releases[1][1]
    assert citation["license"] == PROJECT["license"]
    assert citation["cff-version"] == "1.2.0"
    assert citation["title"] == PROJECT["name"]
    assert citation["authors"] == [{"name": "mer-ray developers"}]
    assert citation["message"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_can_complete_the_command(shell):
    done = subprocess.run(
        [Path(sys.executable).parent / "mer-ray"],
        env={"PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "_MER_RAY_COMPLETE": f"{shell}_source"},
        capture_output=True, text=True, timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "_mer_ray_completion" in done.stdout
