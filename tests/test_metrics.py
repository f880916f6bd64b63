"""What is counted for Ray's dashboard, and the board that draws it. `test_journey_job` compares it with the tables."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer_ray.io.advice import ADVICE
from mer_ray.stages import counters

ROOT = Path(__file__).parents[1]
BOARD = json.loads((ROOT / "cluster" / "grafana.json").read_text(encoding="utf-8"))


def test_a_block_is_counted_with_all_that_it_brought():
    assert counters.tally("acquire", 14, 2_500.5, ["corrupt", "missing", "corrupt"], 0) == {
        ("mer_ray_blocks", ("acquire",)): 1,
        ("mer_ray_tracks", ("acquire",)): 14,
        ("mer_ray_audio_seconds", ("acquire",)): 2_500.5,
        ("mer_ray_failures", ("acquire", "corrupt")): 2,
        ("mer_ray_failures", ("acquire", "missing")): 1,
    }


def test_a_block_that_brought_nothing_is_none():
    assert counters.tally("label", 0, 0.0, [], 0) == {}


def test_each_counter_has_the_tags_that_are_counted():
    counted = counters.tally("train", 1, 1.0, ["trial_failed"], 1)
    assert {name: len(values) for name, values in counted} == {
        n: len(tags) for n, (_, tags) in counters.COUNTERS.items()
    }


@given(st.lists(st.sampled_from(sorted(ADVICE)) | st.integers(100, 599).map("http_{}".format) | st.text()))
def test_the_reasons_are_few_whatever_failed(reasons):
    codes = [counters.code(r) for r in reasons]
    assert all(c in ADVICE or c == "other" or re.fullmatch(r"http_\d{3}", c) for c in codes)
    known = [r for r in reasons if r in ADVICE]
    assert Counter(known) <= Counter(codes)


@pytest.mark.parametrize("reason", ["http_", "http_abc", "http_4040", "Artist – Title", "https://key@host/", "OTHER"])
def test_a_title_or_an_address_is_no_reason(reason):
    assert counters.code(reason) == "other"


def test_small_work_counts_without_ray(tmp_path):
    code = (
        "import sys; from mer_ray import cli\n"
        f"cli.main(['collect', '--workspace', {str(tmp_path / 'w')!r}, '--set', 'collect.demo.cues=3',"
        " '--set', 'collect.demo.seconds=1'], standalone_mode=False)\n"
        "from mer_ray.stages import counters\n"
        "assert counters._waiting['mer_ray_tracks', ('collect',)] == 3\n"
        "assert 'ray' not in sys.modules\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stderr


# the board -----------------------------------------------------------------------------------------------------------


def expressions() -> list[str]:
    """Every PromQL expression of the dashboard."""
    return [target["expr"] for panel in BOARD["panels"] for target in panel["targets"]]


def drawn() -> set[str]:
    """The names of the metrics that the dashboard draws, as Ray exports them."""
    return {name for e in expressions() for name in re.findall(r"\bray_\w+", e)}


def test_the_board_draws_each_counter_and_no_other_of_ours():
    assert {n for n in drawn() if n.startswith("ray_mer_ray")} == {f"ray_{n}_total" for n in counters.COUNTERS}


def test_the_panels_of_the_board_have_ids_and_places_of_their_own():
    panels = BOARD["panels"]
    assert len({p["id"] for p in panels}) == len(panels)
    cells = [
        (x, y)
        for p in panels
        for x in range(p["gridPos"]["x"], p["gridPos"]["x"] + p["gridPos"]["w"])
        for y in range(p["gridPos"]["y"], p["gridPos"]["y"] + p["gridPos"]["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert {x for x, _ in cells} == set(range(24))


def test_the_board_names_no_prometheus_of_anybodys():
    variables = {v["name"]: v for v in BOARD["templating"]["list"]}
    assert variables["datasource"]["query"] == "prometheus"
    sources = [p["datasource"] for p in BOARD["panels"]] + [
        t["datasource"] for p in BOARD["panels"] for t in p["targets"]
    ]
    assert all(s == {"type": "prometheus", "uid": "${datasource}"} for s in sources)
    assert set(re.findall(r"\$(\w+)", " ".join(expressions()))) <= {*variables, "__rate_interval"}


@pytest.mark.parametrize("expression", expressions())
def test_each_expression_is_of_one_session_and_closed(expression):
    assert expression.count('SessionName=~"$session"') == len(re.findall(r"\bray_\w+", expression))
    for opened, closed in ("()", "{}", "[]"):
        assert expression.count(opened) == expression.count(closed)
