"""Last.fm's documented answers, read by us and by pylast; and what is no such answer."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any
from xml.sax.saxutils import escape

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from services import LastFm, Song

from mer_ray.io.track import Track
from mer_ray.sources import lastfm, lastfm_xml
from mer_ray.sources.lastfm_xml import Details, Page

# As on https://www.last.fm/api/show/tag.getTopTracks, with the attributes that the server adds today.
PAGE = """<?xml version="1.0" encoding="utf-8"?>
<lfm status="ok">
  <tracks tag="soundtrack" page="2" perPage="2" totalPages="4500" total="9000">
    <track rank="3">
      <name>Time</name>
      <duration>275</duration>
      <mbid>11111111-aaaa-4aaa-8aaa-111111111111</mbid>
      <url>https://www.last.fm/music/Hans+Zimmer/_/Time</url>
      <streamable fulltrack="0">0</streamable>
      <artist>
        <name>Hans Zimmer</name>
        <mbid>e6de1f3b-6484-491c-88dd-6d619f142abc</mbid>
        <url>https://www.last.fm/music/Hans+Zimmer</url>
      </artist>
      <image size="small">https://lastfm.example/34s.png</image>
    </track>
    <track rank="4">
      <name>Comptine d&apos;un autre &#233;t&#233;</name>
      <duration>0</duration>
      <mbid></mbid>
      <artist><name>Yann Tiersen</name><mbid>e6de1f3b-6484-491c-88dd-6d619f142abc</mbid></artist>
    </track>
  </tracks>
</lfm>
"""
TAGS = """<?xml version="1.0" encoding="utf-8"?>
<lfm status="ok">
<toptags artist="Cher" track="Believe">
  <tag><count>100</count><name>pop</name><url>www.last.fm/tag/pop</url></tag>
  <tag><name>90s</name><count>42</count><url>www.last.fm/tag/90s</url></tag>
  <tag><count>0</count><name>unused</name></tag>
</toptags>
</lfm>
"""
DETAILS = """<?xml version="1.0" encoding="utf-8"?>
<lfm status="ok">
<track>
  <id>1019817</id>
  <name>Believe</name>
  <mbid>22222222-aaaa-4aaa-8aaa-222222222222</mbid>
  <url>http://www.last.fm/music/Cher/_/Believe</url>
  <duration>240000</duration>
  <streamable fulltrack="1">1</streamable>
  <listeners>69572</listeners>
  <playcount>281445</playcount>
  <artist>
    <name>Cher</name>
    <mbid>bfcc6d75-a6a5-4bc6-8282-47aec8531818</mbid>
  </artist>
  <album position="1">
    <artist>Cher</artist>
    <title>Believe (Album)</title>
    <mbid>61bf0388-b8a9-48f4-81d1-7eb02706dfb0</mbid>
    <image size="small">http://userserve-ak.last.fm/serve/34/8674593.jpg</image>
  </album>
  <toptags><tag><name>pop</name><url>http://www.last.fm/tag/pop</url></tag></toptags>
  <wiki><published>Sun, 27 Jul 2008</published><summary>...</summary></wiki>
</track>
</lfm>
"""
ERROR = """<?xml version="1.0" encoding="utf-8"?>
<lfm status="failed">
  <error code="10">Invalid API key - You must be granted a valid key by last.fm</error>
</lfm>
"""
LAUGHS = (
    '<?xml version="1.0"?><!DOCTYPE lfm [<!ENTITY l0 "'
    + "ha" * 500
    + '">'
    + "".join(f'<!ENTITY l{i} "{f"&l{i - 1};" * 10}">' for i in range(1, 12))
    + ']><lfm status="ok"><toptags><tag><name>&l11;</name><count>1</count></tag></toptags></lfm>'
)
READERS: list[Callable[[str], object]] = [lastfm_xml.page, lastfm_xml.tags, lastfm_xml.details, lastfm_xml.error]


def test_a_page_as_documented() -> None:
    assert lastfm_xml.page(PAGE) == Page(
        (
            Track("Hans Zimmer", "Time", mbid="11111111-aaaa-4aaa-8aaa-111111111111", duration_s=275.0),
            Track("Yann Tiersen", "Comptine d'un autre été"),
        ),
        pages=4500,
        total=9000,
    )


def test_tags_as_documented() -> None:
    assert lastfm_xml.tags(TAGS) == (("pop", 100.0), ("90s", 42.0))


def test_details_as_documented() -> None:
    mbid = "22222222-aaaa-4aaa-8aaa-222222222222"
    assert lastfm_xml.details(DETAILS) == Details("Believe (Album)", mbid, 240.0)


def test_details_that_say_nothing() -> None:
    bare = '<lfm status="ok"><track><name>x</name><artist><mbid>an artist\'s</mbid></artist></track></lfm>'
    assert lastfm_xml.details(bare) == Details(None, None, None)
    empty = '<lfm status="ok"><track><mbid/><duration>0</duration><album><title> </title></album></track></lfm>'
    assert lastfm_xml.details(empty) == Details(None, None, None)


def test_an_error_as_documented() -> None:
    assert lastfm_xml.error(ERROR) == ("10", "Invalid API key - You must be granted a valid key by last.fm")


@pytest.mark.parametrize("text", [PAGE, TAGS, DETAILS])
def test_an_answer_is_no_error(text: str) -> None:
    assert lastfm_xml.error(text) is None


def test_an_error_is_none_of_the_answers() -> None:
    for read in (lastfm_xml.page, lastfm_xml.tags, lastfm_xml.details):
        with pytest.raises(ValueError, match="the answer has no"):
            read(ERROR)


@pytest.mark.parametrize("text", ['<lfm status="failed"/>', "<lfm/>", '<lfm status="failed"><x/></lfm>'])
def test_an_error_without_its_code_is_broken(text: str) -> None:
    with pytest.raises(ValueError, match="without its code"):
        lastfm_xml.error(text)


def test_the_other_name_of_a_listing() -> None:
    other = PAGE.replace("<tracks ", "<toptracks ").replace("</tracks>", "</toptracks>")
    assert lastfm_xml.page(other) == lastfm_xml.page(PAGE)


@pytest.mark.parametrize(
    ("attributes", "pages", "total"),
    [
        ("", None, None),
        ('totalPages="" total=""', None, None),
        ('totalPages="-1" total="1e3"', None, None),
        ('totalPages="٣" total="²"', None, None),
        ('totalpages="3" total="120"', 3, 120),
        ('totalPages="0" total="0"', 0, 0),
    ],
)
def test_totals_that_are_absent_or_odd(attributes: str, pages: int | None, total: int | None) -> None:
    assert lastfm_xml.page(f'<lfm status="ok"><tracks {attributes}></tracks></lfm>') == Page((), pages, total)


def test_an_artist_without_elements_is_its_text() -> None:
    listed = '<lfm status="ok"><tracks><track><name>One</name><artist> Ann </artist></track></tracks></lfm>'
    assert lastfm_xml.page(listed).tracks == (Track("Ann", "One"),)


def test_a_track_without_anything_is_a_nameless_track() -> None:
    assert lastfm_xml.page('<lfm status="ok"><tracks><track/></tracks></lfm>').tracks == (Track("", ""),)


def test_names_that_are_escaped_twice_are_read_once() -> None:
    tags = "<tag><name>R&amp;amp;B</name><count>9</count></tag><tag><name>a &amp;lt; b</name><count>8</count></tag>"
    assert lastfm_xml.tags(f'<lfm status="ok"><toptags>{tags}</toptags></lfm>') == (("R&B", 9.0), ("a < b", 8.0))
    listed = (
        '<lfm status="ok"><tracks><track><name>Rock &amp;amp; Roll</name>'
        "<artist><name>Simon &amp; Garfunkel</name></artist></track></tracks></lfm>"
    )
    assert lastfm_xml.page(listed).tracks == (Track("Simon & Garfunkel", "Rock & Roll"),)


@pytest.mark.parametrize("count", ["", "0", "-5", "nan", "inf", "-inf", "many", "1e999", "0x10", "1,5"])
def test_weights_that_are_no_positive_numbers_are_left_out(count: str) -> None:
    assert lastfm_xml.tags(TAGS.replace("<count>42</count>", f"<count>{count}</count>")) == (("pop", 100.0),)


def test_tags_without_name_or_count_are_left_out() -> None:
    tags = "<tag><count>9</count></tag><tag><name/><count>9</count></tag><tag><name>x</name></tag><tag/>"
    assert lastfm_xml.tags(f'<lfm status="ok"><toptags>{tags}</toptags></lfm>') == ()


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "no XML",
        "<html><head><title>Log in</title><br></head></html>",
        '<?xml version="1.0"?><feed><entry/></feed>',
        PAGE[:-30],
        PAGE + "<more/>",
        '<lfm status="ok"><tracks>&undefined;</tracks></lfm>',
        "<lfm",
        "{}",
    ],
)
def test_what_is_no_answer_of_lastfm_is_a_value_error(read: Callable[[str], object], text: str) -> None:
    with pytest.raises(ValueError):
        read(text)


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        *[(f"Ti{raw}me", "Time") for raw in "\x00\x01\x03\x08\x0b\x0c\x0e\x1b\x1f\ufffe\uffff\ud800\udfff"],
        *[(f"Ti&#{n};me", "Time") for n in (0, 1, 3, 8, 11, 12, 31, 55296, 57343, 65534, 65535, 1114112, 10**30)],
        *[(f"Ti&#x{n};me", "Time") for n in ("0", "3", "0003", "1F", "1f", "D800", "dfff", "FFFE", "110000", "F" * 99)],
        ("Ti&#" + "9" * 5_000 + ";me", "Time"),
        ("Ti&#\x033;me", "Time"),
        ("<![CDATA[Ti\x03me & more]]>", "Time & more"),
        ("\x03", ""),
        # what XML allows stays
        ("Ti\x7f\x85\ufffd\U0010ffff\U0001fffeme", "Ti\x7f\x85\ufffd\U0010ffff\U0001fffeme"),
        ("&#9835; &#x1F3AC;&#0065;\u00a0Ω", "♫ 🎬A\u00a0Ω"),
        ("a&#9;b", "a\tb"),
        ("<![CDATA[x&#3;]]>", "x"),  # as Last.fm escapes twice
        # references that are none
        ("Simon & Garfunkel", "Simon & Garfunkel"),
        ("R&B", "R&B"),
        ("&", "&"),
        ("AT&#;T &#x; &;", "AT&#;T &#x; &;"),
        ("caf&eacute;&nbsp;&LT;b&gt;", "café\u00a0<b>"),
    ],
)
def test_what_xml_forbids_is_taken_out_and_nothing_else(sent: str, read: str) -> None:
    listed = PAGE.replace("Time", sent).replace("Yann Tiersen", sent)
    assert [(t.artist, t.title) for t in lastfm_xml.page(listed).tracks] == [
        ("Hans Zimmer", read),
        (read, "Comptine d'un autre été"),
    ]
    assert lastfm_xml.tags(TAGS.replace("pop", sent)) == ((read, 100.0), ("90s", 42.0))[not read :]
    assert lastfm_xml.details(DETAILS.replace("Believe (Album)", sent)).album == (read or None)
    assert lastfm_xml.error(ERROR.replace("Invalid API key", f"a {sent}."))[1].startswith(f"a {read}.")


def test_attributes_are_cleaned_too() -> None:
    assert lastfm_xml.tags(TAGS.replace('"Believe"', '"Be\x03lie&#3;ve & more"')) == lastfm_xml.tags(TAGS)


@pytest.mark.parametrize(
    "before", ["\ufeff", "\n \n", "\x00", "\ufeff\n", "\x1b\ufeff"], ids=["BOM", "blanks", "NUL", "both", "escape"]
)
def test_what_stands_before_an_answer_does_not_matter(before: str) -> None:
    assert lastfm_xml.tags(before + TAGS) == lastfm_xml.tags(TAGS)


@pytest.mark.parametrize("claimed", ["utf-8", "iso-8859-1", "utf-16", "nonsense", None])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be"])
def test_unicode_is_read_whatever_it_claims_to_be(encoding: str, claimed: str | None) -> None:
    head = f'<?xml version="1.0" encoding="{claimed}"?>' if claimed else ""
    sent = f'{head}<lfm status="ok"><toptags><tag><name>Björk 久石譲 🎬</name><count>1</count></tag></toptags></lfm>'
    assert lastfm_xml.tags(lastfm_xml.decode(sent.encode(encoding), claimed)) == (("Björk 久石譲 🎬", 1.0),)


@pytest.mark.parametrize(
    ("declared", "charset", "read"),
    [
        ("windows-1252", None, "Björk “x”"),
        ("windows-1252", "utf-8", "Björk “x”"),
        ("utf-8", "windows-1252", "Björk “x”"),
        ("utf-8", "utf-8", "Bj\ufffdrk \ufffdx\ufffd"),
        ("nonsense", "rot13", "Bj\ufffdrk \ufffdx\ufffd"),
    ],
)
def test_what_is_not_unicode_is_what_it_claims_to_be(declared: str, charset: str | None, read: str) -> None:
    sent = TAGS.replace('encoding="utf-8"', f'encoding="{declared}"').replace("pop", "Björk “x”").encode("cp1252")
    assert lastfm_xml.tags(lastfm_xml.decode(sent, charset))[0] == (read, 100.0)


@given(st.text(st.characters(exclude_categories=())))
def test_cleaning_twice_is_cleaning_once(text: str) -> None:
    cleaned = lastfm_xml.clean(text)
    assert lastfm_xml.clean(cleaned) == cleaned


@pytest.mark.parametrize("hostile", ["<![CDATA[", "<!--", "&#1", "&#", "&a"])
def test_cleaning_takes_time_in_proportion(hostile: str) -> None:
    lastfm_xml.clean(hostile * 200_000)  # in proportion to the square, it would take hours


@pytest.mark.parametrize("read", [lastfm_xml.page, lastfm_xml.tags, lastfm_xml.details])
def test_the_answer_to_another_question_is_a_value_error(read: Callable[[str], object]) -> None:
    right = {lastfm_xml.page: PAGE, lastfm_xml.tags: TAGS, lastfm_xml.details: DETAILS}[read]
    read(right)
    for text in {PAGE, TAGS, DETAILS} - {right}:
        with pytest.raises(ValueError, match="the answer has no"):
            read(text)


@pytest.mark.parametrize("read", READERS, ids=lambda read: read.__name__)
def test_a_billion_laughs_are_not_laughed(read: Callable[[str], object]) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="broken XML"):
            read(LAUGHS)
        assert tracemalloc.get_traced_memory()[1] < 100e6  # of 100 TB
    finally:
        tracemalloc.stop()


def test_files_of_this_machine_are_not_read() -> None:
    text = TAGS.replace("<lfm", '<!DOCTYPE lfm [<!ENTITY x SYSTEM "file:///etc/hostname">]><lfm', 1)
    with pytest.raises(ValueError, match="broken XML"):
        lastfm_xml.tags(text.replace("pop", "&x;"))


@settings(deadline=None)
@given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    for read in READERS:
        for wrapped in (text, f'<lfm status="ok"><toptags><tag>{text}</tag></toptags><tracks/><track/></lfm>'):
            with suppress(ValueError):  # any other error would end the test
                read(wrapped)


# beside pylast ----------------------------------------------------------------------------------------------------

# What XML 1.0 can hold.
NAMES = st.text(st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), max_size=30)
HOSTILE = NAMES | st.sampled_from(
    ["R&amp;B", "&lt;b&gt;", "]]>", "<![CDATA[x]]>", "&#0;", "&notanentity", "a\tb", " x ", "\xa0", "🎬", "שלום", "é"]
)
WEIGHTS = st.integers(0, 100)


@pytest.fixture(scope="module")
def service() -> Iterator[LastFm]:
    with LastFm() as running:
        yield running


@pytest.fixture(scope="module")
def client(service: LastFm) -> Iterator[lastfm.Client]:
    with lastfm.Client(service.url, api_key=service.key) as connected:
        yield connected


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(tags=st.lists(st.tuples(HOSTILE, WEIGHTS), max_size=8))
def test_pylast_reads_the_same_tags(service: LastFm, client: lastfm.Client, tags: list[tuple[str, int]]) -> None:
    service.songs = [Song("A", "One", tuple(tags))]
    track = Track("A", "One")
    ours = lastfm_xml.tags(client.about(track, lastfm.tags_request(track)))
    theirs = [(item.item.name, item.weight) for item in pylasts(client).get_track("A", "One").get_top_tags()]
    # pylast keeps tags of no weight and of no name, and blanks that an entity stood for.
    named = [((name or "").strip(), float(weight)) for name, weight in theirs]
    assert ours == tuple((name, weight) for name, weight in named if name and weight)
    assert len(theirs) == len(tags)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(songs=st.lists(st.builds(Song, HOSTILE, HOSTILE), max_size=6))
def test_pylast_reads_the_same_listing(service: LastFm, client: lastfm.Client, songs: list[Song]) -> None:
    service.songs = songs
    page = lastfm_xml.page(client.listing("soundtrack", 1))
    theirs = [item.item for item in pylasts(client).get_tag("soundtrack").get_top_tracks(limit=50)]
    ours = [(track.artist, track.title) for track in page.tracks]
    assert ours == [((t.artist.name or "").strip(), (t.title or "").strip()) for t in theirs]
    assert (page.pages, page.total) == (-(-len(songs) // lastfm.PAGE_SIZE), len(songs))


@given(HOSTILE)
def test_a_name_is_what_it_was_before_it_was_escaped_twice(name: str) -> None:
    text = f'<lfm status="ok"><toptags><tag><name>{escape(escape(name))}</name><count>1</count></tag></toptags></lfm>'
    expected = name.strip()
    assert lastfm_xml.tags(text) == (((expected, 1.0),) if expected else ())


def pylasts(client: lastfm.Client) -> Any:
    """pylast's own network, whose requests the client carries."""
    return client._network
