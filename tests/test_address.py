"""The address book: every address is of one kind, comes back as it was written, and is shown without its secrets."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer_ray.io import address

SCHEMES = st.sampled_from(("s3", "GS", "abfss", "ftp", "sftp", "https", "HTTP", "webdav"))
SECRETS = st.text("abcXYZ019/%@:?#&=+ é", min_size=4).map(lambda secret: f"Q{secret}Q")


@pytest.mark.parametrize(
    ("uri", "scheme", "kind", "host"),
    [
        ("/music/a.mp3", "", "local", ""),
        ("music/http://x/a.mp3", "", "local", ""),
        ("file:///music/a.mp3", "file", "local", ""),
        ("http://x:8080/a.mp3", "http", "url", "x:8080"),
        ("HTTPS://me@x", "https", "url", "x"),
        ("http://[broken", "http", "url", ""),
        ("s3://key:pass@bucket/a.mp3", "s3", "object", "bucket"),
        ("GS://bucket/a.mp3", "gs", "object", "bucket"),
        ("abfss://c@a.dfs.core.windows.net/x", "abfss", "object", "a.dfs.core.windows.net"),
        ("zip://a::s3://bucket/b.zip", "zip", "", "a::s3:"),
        ("ftp://host/x::file:///etc/passwd", "ftp", "", "host"),
    ],
)
def test_each_address_is_of_one_kind(uri: str, scheme: str, kind: str, host: str) -> None:
    assert (address.scheme(uri), address.host(uri)) == (scheme, host)
    kinds = {"local": address.is_local(uri), "url": address.is_url(uri), "object": address.is_object(uri)}
    assert [name for name, is_so in kinds.items() if is_so] == ([kind] if kind else [])


@given(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=4))
def test_any_path_survives_as_text_that_can_be_stored(parts: list[bytes]) -> None:
    names = [p.replace(b"/", b"_").replace(b"\0", b"_") for p in parts]
    path = Path(os.fsdecode(b"/" + b"/".join(names)))
    uri = address.to_uri(path)
    assert uri.encode("utf-8")
    assert address.to_path(uri) == path
    assert address.is_local(uri)


def test_what_is_shown_of_an_address() -> None:
    assert address.shown("s3://key:pass@bucket/a@b/c.mp3?token=x#y") == "s3://bucket/a@b/c.mp3"
    assert address.shown("ftp://me@host/a\nb") == "ftp://host/a b"
    assert address.shown("foo://a:b@[broken/x") == "foo://[broken/x"
    assert address.shown("s3://me:geheim/x@bucket/a") == "s3://***"
    assert address.shown("http://u:123/x@host") == "http://***"
    assert address.shown("s3:/key:secret@bucket/a") == "s3:/***"
    assert address.shown("/music/s3:/key:secret@bucket/a") == "/music/s3:/***"
    assert address.shown("zip::s3://key:secret@bucket/a") == "zip::s3://***"
    assert address.shown("http://host:80/a") == "http://host:80/a"
    assert address.shown("/music/me@home.wav") == "/music/me@home.wav"


@pytest.mark.parametrize(
    "uri",
    [
        *("s3://key:secret@bucket/a", "s3://key@bucket/a", "S3A://key:@bucket", "gs://anonymous:secret@bucket"),
        *("s3://key:pa/ss@bucket/a", "s3:/key:secret@bucket/a", "/music/gs:/key:secret@bucket", "zip::s3://k:s@b/a"),
        *(
            "http://token@host/a",
            "https://u:p@host",
            "http://u:123/x@host",
            "ftp://u:p@host/a",
            "abfss://c:key@account/a",
            "odd://u:p@x",
        ),
        *("s3://bucket/a?secret_key=x", "az://c/a?sp=r&sig=x", "memory://b/a?key=", "gs://b/a?access_token=x"),
    ],
)
def test_credentials_are_found(uri: str) -> None:
    assert address.has_credentials(uri)


@pytest.mark.parametrize(
    "uri",
    [
        *("", "/music/me@home:1.wav", "a:b@c.wav", "file:///music/u:p@x.wav", "C:/me@home", "music/s3/u:p@x"),
        *("s3://bucket/me@home.wav", "s3://bucket/a:b@c.wav?region=x", "gs://anonymous@bucket/a", "s3://@bucket/a"),
        *("ftp://me@host/a", "sftp://me@nas:22/a@b", "abfss://container@account.dfs.core.windows.net/a@b"),
        *("http://host:80/a%40b?c@d", "http://[::1]:80/a@b", "https://web.test/http://x/@me"),
    ],
)
def test_an_address_without_credentials_is_not_refused(uri: str) -> None:
    assert not address.has_credentials(uri)


@given(SCHEMES, SECRETS, SECRETS, SECRETS, st.text(max_size=20))
def test_no_secret_is_shown(scheme: str, user: str, password: str, token: str, path: str) -> None:
    uri = f"{scheme}://{quote(user, safe='')}:{quote(password, safe='')}@host/{quote(path)}?token={quote(token)}"
    shown = address.shown(uri)
    assert shown.startswith(f"{scheme}://host/")
    message = address.without_secrets(f"the driver says: {uri}, {user}, {password}, {token}", uri)
    for secret in (user, password, token):
        for spelling in (secret, quote(secret, safe="")):
            assert spelling not in shown
            assert spelling not in message
