"""`mer-ray report --html`: the page in a real browser, beside the Markdown that says the same; and recorded costs."""

from __future__ import annotations

import io
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from browsers import context, until
from markdown_it import MarkdownIt
from test_report import Catalog, typed

from mer_ray.evaluation import plots
from mer_ray.evaluation.page import markup
from mer_ray.io import costs
from mer_ray.io.advice import advice
from mer_ray.io.schemas import SCHEMAS
from mer_ray.io.tables import Workspace, failure, now
from mer_ray.scoring import report_page

EVIL = '</p><script>document.title="run"</script> ![x](http://127.0.0.1:9/x.png) [a](javascript:alert(1)) <img src=y>'


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """A reported workspace with a hostile name, failures and costs."""
    folder = tmp_path_factory.mktemp("w") / "a & <b>b {{style}}"
    workspace, catalog = Workspace(folder), Catalog.make()
    catalog.run(workspace, "cnn-mfcc", catalog.predicted(0.03, 1))
    catalog.run(workspace, "lstm-mfcc", catalog.predicted(0.1, 2))
    baselines = [catalog.table(catalog.predicted(0.1, 3), model=m) for m in ("ridge", "svr")]
    workspace.write_table(pa.concat_tables(baselines), "baselines", "mfcc.parquet")
    epoch = np.tile(np.arange(4), 6)
    whose = {"repeat": np.zeros(24, int), "fold": np.repeat([0, 1, 2], 8), "member": np.repeat([0, 1] * 3, 4)}
    curve = {"epoch": epoch, "train_loss": 1.0 / (1 + epoch), "valid_loss": 1.1 / (1 + epoch)}
    workspace.write_table(pa.table({**whose, **curve}), "runs", "cnn-mfcc", "curves.parquet")
    workspace.append_rows("failures", [failure("acquire", f"{i:x}", "missing", EVIL) for i in range(3)])
    cost = {"stage": "train", "at": now(), "seconds": 90.04, "cpu_s": 123.45, "made": 2, "failed": 0}
    rows = [{**cost, "place": "this machine", "cpus": 2}, {**cost, "stage": "score", "cpu_s": None, "place": "cluster"}]
    rows[1]["cpus"] = 2
    workspace.append("costs", pa.Table.from_pylist(rows, SCHEMAS["costs"]), "planted")
    code, out, err = typed("report", "--workspace", folder, "--html")
    assert code == 0, out + err
    assert f"page: {folder}/report/report.html" in out
    return folder


@pytest.fixture
def view(browser, folder):
    """The opened page. At the end: nothing was refused by the policy, no dialog, no request but for the page."""
    wrong: list[str] = []
    with context(browser, viewport={"width": 1400, "height": 900}) as opened:
        page = opened.new_page()
        page.on("dialog", lambda dialog: (wrong.append(dialog.message), dialog.dismiss()))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda r: wrong.append(r.url) if not r.url.startswith(("file:", "data:")) else None)
        page.goto((folder / "report" / "report.html").as_uri())
        yield page
    assert wrong == []


def cells(text: str) -> list[str]:
    """The cells of a Markdown text's tables, as a reader sees them."""
    tokens = MarkdownIt("commonmark").enable("table").parse(text)
    inside = (tokens[i + 1] for i, token in enumerate(tokens) if token.type in ("th_open", "td_open"))
    return ["".join(t.content for t in inline.children or []).replace(" ", "") for inline in inside]


def test_the_page_has_the_figures_of_the_markdown(view, folder):
    wanted = cells((folder / "report" / "report.md").read_text())
    found = view.evaluate("[...document.querySelectorAll('th, td')].map(e => e.textContent.replaceAll(' ', ''))")
    assert len(wanted) > 200
    assert found[: len(wanted)] == wanted
    assert view.locator("td strong").count() >= 3 * 6
    for drawn in view.locator(".forest g.best .value").all_text_contents():
        assert drawn in wanted or any(cell.startswith(drawn) for cell in wanted)
    assert view.locator(".forest").count() == 3


def test_pictures_are_inside_and_links_stay_on_the_page(view):
    sizes = view.evaluate("[...document.images].map(i => i.naturalWidth)")
    assert len(sizes) == 3 * 2 + 1
    assert min(sizes) > 300
    assert all(alt and "png" not in alt for alt in view.evaluate("[...document.images].map(i => i.alt)"))
    links = view.evaluate("[...document.links].map(a => a.getAttribute('href'))")
    assert all(link.startswith("#") and view.locator(f"[id='{link[1:]}']").count() == 1 for link in links)
    heads = view.locator("main h2").all_text_contents()
    assert heads == ["Metrics", "Intervals: held against nominal", "Models and data", "Failures", "Cost"]


def test_names_and_messages_are_text(view, folder):
    assert view.title() == "Report: a & <b>b {{style}}"
    assert view.locator("script, main a:not([href^='#']), main img:not([src^='data:'])").count() == 0
    shown = view.locator("td", has_text="document.title").inner_text()
    assert shown.startswith(f"{EVIL} / {EVIL[:40]}")  # a cell has 200 characters
    assert view.locator("td", has_text=advice("missing")).count() == 1
    policy = view.locator("meta[http-equiv=Content-Security-Policy]").get_attribute("content")
    assert "unsafe" not in policy
    assert "script-src" not in policy  # default-src 'none' holds


def test_costs_are_summed_and_an_unknown_one_is_not_zero(view):
    rows = view.evaluate("[...document.querySelectorAll('tr')].map(r => r.innerText.split(/\\s*\\t\\s*/))")
    [train] = [r for r in rows if r[0] == "train"]
    [score] = [r for r in rows if r[0] == "score"]
    assert (train[1], train[3:]) == ("this machine", ["1", "2", "90.0", "123.5"])
    assert (score[1], score[-1]) == ("cluster", "–")
    assert next(r for r in rows if r[0] == "All") == ["All", "2", "180.1", "123.5"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_is_accessible(browser, folder, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright")
    with context(browser, color_scheme=scheme, bypass_csp=True) as opened:  # for axe's own script
        page = opened.new_page()
        page.goto((folder / "report" / "report.html").as_uri())
        found = axe.Axe().run(page, options={"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]})
        assert found.response["passes"]
        assert [v["id"] for v in found.response["violations"]] == []
        paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
        assert (sum(map(int, re.findall(r"\d+", paper)[:3])) < 300) == (scheme == "dark")


def test_a_phone_and_paper_have_room(browser, folder):
    with context(browser, viewport={"width": 390, "height": 800}) as opened:
        page = opened.new_page()
        page.goto((folder / "report" / "report.html").as_uri())
        assert page.evaluate("document.documentElement.scrollWidth") == 390
        page.set_viewport_size({"width": 720, "height": 1020})  # A4 with its margins
        page.emulate_media(media="print")
        until(page, "innerWidth === 720 && matchMedia('print').matches")
        assert page.evaluate("document.documentElement.scrollWidth") == 720
        assert not page.locator("nav").is_visible()


def test_a_comparison_has_a_page_of_its_own(folder, tmp_path):
    other, catalog = Workspace(tmp_path), Catalog.make()
    catalog.run(other, "cnn-mfcc", catalog.predicted(0.05, 9))
    before = (folder / "report" / "report.html").read_bytes()
    code, out, err = typed("report", "--workspace", folder, "--against", tmp_path, "--html")
    assert code == 0, out + err
    page = (folder / "report" / "against.html").read_text()
    assert page.count("<td>better</td>") == (folder / "report" / "against.md").read_text().count("| better |") > 0
    assert (folder / "report" / "report.html").read_bytes() == before


def test_unknown_pictures_are_words():
    assert markup.body("![a *b*](x.png)", {})[0] == "<p><em>a b</em></p>\n"
    assert "<img" not in markup.body("![a](data:image/png;base64,AAAA) <img src=x>", {})[0]


def test_coverage_is_that_of_its_level():
    rng = np.random.default_rng(0)
    labels, groups = rng.uniform(size=(400, 1)), [str(i // 2) for i in range(400)]
    predicted = labels[None] + rng.normal(0, 0.1, (1, 400, 1))
    held = [float(report_page.coverage(labels, predicted, groups, level=level)[0][0]) for level in report_page.LEVELS]
    assert held == pytest.approx(report_page.LEVELS, abs=0.05)


def test_many_tracks_show_their_density():
    """Where most of 10,000 tracks are, the picture is darker than where some are; points would be equally dark."""
    from matplotlib.image import imread

    rng = np.random.default_rng(0)
    labels = np.concatenate([rng.uniform(0.2, 0.3, 9_000), rng.uniform(0.6, 0.9, 1_000)])
    values = np.concatenate([rng.uniform(0.6, 0.7, 9_000), rng.uniform(0.2, 0.5, 1_000)])
    picture = imread(io.BytesIO(plots.predicted_against_labelled("V", labels, [("m", values, 0.5)], "")))[..., :3]
    blue = (picture[..., 2] - picture[..., 0] > 0.02) & (picture[..., 2] > picture[..., 1])
    width = blue.shape[1]
    dense, thin = (picture[:, side][blue[:, side]].mean() for side in (slice(0, width // 2), slice(width // 2, None)))
    assert dense < thin - 0.2


# costs ---------------------------------------------------------------------------------------------------------------


def test_stages_record_what_they_cost_once(tmp_path):
    own = ["--workspace", tmp_path, "--set", "collect.demo.cues=6"]
    for _ in range(2):
        for stage in ("collect", "label"):
            code, out, err = typed(stage, *own)
            assert code == 0, out + err
    found = costs.of(Workspace(tmp_path))
    assert [(row["stage"], row["made"], row["place"]) for row in found] == [
        ("collect", 6, "this machine"),
        ("label", 6, "this machine"),
    ]
    assert all(0 < row["cpu_s"] < 60 and 0 < row["seconds"] < 600 for row in found)


def test_many_costs_stay_one_each(tmp_path, monkeypatch):
    monkeypatch.setattr(costs, "MANY", 3)
    workspace, meter = Workspace(tmp_path), costs.Meter()
    for i in range(9):
        costs.record(workspace, f"stage{i}", meter, 1, 0)
    assert sorted(row["stage"] for row in costs.of(workspace)) == [f"stage{i}" for i in range(9)]
    assert len(workspace.names("costs")) <= 4
