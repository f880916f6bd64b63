"""The explorer's page as a file: what is packed into it, and what it allows; without a browser."""

from __future__ import annotations

import json
import re
from pathlib import Path
from urllib.parse import unquote

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner
from explorer_pages import scores, write
from hypothesis import given, settings
from hypothesis import strategies as st

from mer_ray.cli import main
from mer_ray.errors import InputError
from mer_ray.scoring.explorer import page as explorer
from mer_ray.scoring.explorer.pack import CURVE_BYTES, averaged, detail, links, peaks, quantise, script_json


def test_the_page_allows_its_own_scripts_and_no_network(tmp_path):
    text = write(tmp_path, scores(3)).read_text(encoding="utf-8")
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', text)[1]
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert not re.search(r"unsafe|https?:|\*|connect-src", policy)
    assert not re.search(r"<(script|link|img|iframe|audio|form)[^>]*\s(src|href|action)=", text)


def test_the_command_writes_a_page_that_names_no_absolute_path(tmp_path):
    pq.write_table(scores(3, uri=[str(tmp_path / "a.wav")] * 3), tmp_path / "scores.parquet")
    page = tmp_path / "page.html"
    done = CliRunner().invoke(
        main, ["explore", str(tmp_path / "scores.parquet"), "--out", str(page), "--title", "A & B"]
    )
    assert done.exit_code == 0, done.output
    assert f"{page}: 3 tracks" in done.output
    text = page.read_text(encoding="utf-8")
    assert "<title>A &amp; B</title>" in text
    assert str(tmp_path) not in text


def test_only_a_page_is_written(tmp_path):
    pq.write_table(scores(1), tmp_path / "scores.parquet")
    with pytest.raises(InputError, match=r"must end in \.html"):
        explorer.run(str(tmp_path / "scores.parquet"), str(tmp_path / "scores.parquet"), "x")


@settings(max_examples=30)
@given(
    st.recursive(
        st.text() | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner)
    )
)
def test_json_in_a_script_is_the_same_value_and_holds_no_markup(value):
    text = script_json(value)
    assert json.loads(text) == value
    assert not set("<>&\u2028\u2029") & set(text)


@given(st.lists(st.floats(0, 1, width=32), min_size=1, max_size=500), st.integers(1, 120))
def test_a_shorter_curve_keeps_mean_and_range(values, points):
    curve = np.array(values)[:, None]
    short = averaged(curve, points)
    assert len(short) == min(points, len(curve))
    assert short.mean() == pytest.approx(curve.mean(), abs=1e-9)
    assert curve.min() - 1e-9 <= short.min() <= short.max() <= curve.max() + 1e-9
    assert np.abs(quantise(curve, "u1") / 254 - curve).max() <= 0.5 / 254 + 1e-12
    highest = peaks((curve[:, 0] * 255).astype("u1"), points)
    assert highest.max() == (curve * 255).astype("u1").max()


@given(st.integers(0, 10**7), st.integers(1, 10))
def test_the_curves_of_a_large_catalog_are_coarser_and_those_of_a_small_one_are_not(n, n_dimensions):
    points, waveform = detail(n, n_dimensions)
    assert (8, 16) <= (points, waveform) <= (120, 200)
    size = n * (points * n_dimensions + waveform)
    assert size <= CURVE_BYTES or points == 8 or waveform == 16
    assert (points, waveform) == (120, 200) or size > 0.7 * CURVE_BYTES


@given(
    st.lists(
        st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=12),
        min_size=1,
        max_size=4,
    )
)
def test_a_link_leads_back_to_its_file(parts):
    path = Path("/music", *parts)
    (link,) = links([str(path)], Path("/pages/here"))
    assert re.fullmatch(r"[A-Za-z0-9_.~/%-]+", link)
    if not {".", ".."} & set(parts):
        assert Path("/pages/here", unquote(link)).as_posix().replace("/pages/here/../..", "") == path.as_posix()
