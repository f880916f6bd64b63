"""What makes two rows the same track, and what makes text from outside fit for a line."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer_ray.io.identity import file_digest, normalise, one_line, track_id

ANY_TEXT = st.text(st.characters(exclude_categories=[]), max_size=40)  # lone surrogates too


@pytest.mark.parametrize(
    "variant",
    [
        "Don't – Stop",
        "DON'T - STOP",
        "don’t — stop",
        "don´t ‐ stop",
        "  Don`t\t−  Stop\n",
        "Dön't - Stóp",
        "ｄｏｎ＇ｔ - stop",
    ],
)
def test_what_people_write_differently_is_one_track(variant):
    assert track_id("Someone", variant) == track_id("SOMEONE", "don't - stop")


@pytest.mark.parametrize(
    ("one", "other"),
    [(("ab", "c"), ("a", "bc")), (("a", "b"), ("b", "a")), (("a", "b"), ("a", "b (live)")), (("", "ab"), ("ab", ""))],
)
def test_different_tracks_have_different_ids(one, other):
    assert track_id(*one) != track_id(*other)


def test_the_id_is_the_same_in_every_process_and_version():
    assert track_id("Hans Zimmer", "Time") == hashlib.sha256(b"hans zimmer\x1ftime").hexdigest()[:16]
    code = "from mer_ray.io.identity import track_id; print(track_id('Björk', 'Jóga'))"
    for seed in "1", "2":
        message = subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True
        )
        assert message.stdout.strip() == track_id("Bjork", "Joga")


@given(st.text(max_size=40))
def test_what_is_normalised_stays_as_it_is(text):
    once = normalise(text)
    assert normalise(once) == once


@given(ANY_TEXT, st.integers(2, 60))
def test_one_line_is_one_printable_line_that_can_be_stored(text, limit):
    line = one_line(text, limit)
    assert line.isprintable()
    assert len(line.splitlines()) <= 1
    assert len(line) <= limit
    assert line == line.strip()
    assert line.encode("utf-8").decode("utf-8") == line


def test_one_line_disarms_what_terminals_obey():
    line = one_line("red \x1b[31malert\x07\r\n\x00 \u202eevil \udcff end")
    assert line == "red [31malert evil \\udcff end"
    assert one_line("x" * 600).endswith("…")


def test_a_file_is_known_by_its_bytes(tmp_path):
    file = tmp_path / "file"
    file.write_bytes(b"abc" * 100_000)
    assert file_digest(file) == hashlib.sha256(b"abc" * 100_000).hexdigest()
