"""Addresses of audio, tables and workspaces, paths or URIs: their kind, and how to show them without secrets.

Nothing is opened: `mer_ray.io.objects` reads objects, `mer_ray.io.http` downloads, `mer_ray.io.store` has files.
"""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path
from urllib.parse import parse_qsl, unquote, unquote_to_bytes, urlsplit

from mer_ray.io.identity import one_line

OBJECT_SCHEMES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "hdfs", "webhdfs", "ftp", "sftp", "memory")
"""Schemes of file stores; none runs code, reads other processes or wraps another address."""
EXPOSED = "has credentials in its URI, which logs and tables would show"
INSTEAD = "give them to the store by its environment, a profile or a role, and leave them out of the address"
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_KINDS = "|".join((*OBJECT_SCHEMES, "https", "http"))
_HIDDEN = re.compile(rf"((?:(?:^|[/:])(?:{_KINDS}):/(?!/)|:(?:{_KINDS})://)).*@.*", re.IGNORECASE | re.DOTALL)
"""An address with a user that is no URI: a slash is missing, as in a normalised path, or it is inside another one."""
_NAMED = ("abfs", "abfss", "az", "ftp", "sftp", "hdfs", "webhdfs")
"""Schemes in which a name before ``@`` is no secret, but a container or an account."""
_SECRET_KEY = re.compile(r"secret|token|passw|signature|^sig$|^key$|(access|account|api)_?key", re.IGNORECASE)


def scheme(uri: str) -> str:
    """The part before ``://``, in lower case; empty for a path."""
    found = _SCHEME.match(uri)
    return found[1].lower() if found else ""


def is_local(uri: str) -> bool:
    """Whether it is a path or a ``file:`` URI."""
    return scheme(uri) in ("", "file")


def is_url(uri: str) -> bool:
    """Whether it is fetched over http(s)."""
    return uri.lower().startswith(("http://", "https://"))


def is_object(uri: str) -> bool:
    """Whether it is the address of an object that can be opened. Chained fsspec URIs (``a::b``) are not."""
    return scheme(uri) in OBJECT_SCHEMES and "::" not in uri


def host(uri: str) -> str:
    """Host and port, or bucket; empty where there is none."""
    try:
        return urlsplit(uri).netloc.rpartition("@")[2]
    except ValueError:
        return ""


def has_credentials(uri: str) -> bool:
    """Whether it contains a password, a key or the like; also in a misspelled address, such as ``s3:/key:secret@x``."""
    if _HIDDEN.search(uri):
        return True
    kind = scheme(uri)
    if kind in ("", "file"):
        return False
    authority, rest = re.fullmatch(r"([^/?#]*)(.*)", uri[len(kind) + 3 :], re.DOTALL).groups()  # type: ignore[union-attr]
    user, at, place = authority.rpartition("@")
    name, colon, _ = user.partition(":")
    if colon or (name not in ("", "anonymous") and kind not in _NAMED):
        return True
    port = "" if at or place.startswith("[") else place.partition(":")[2]
    if port and "@" in (bare(rest) if port.isdigit() else rest):  # an unencoded slash in a password: key:12/3@bucket
        return True
    query = rest.partition("#")[0].partition("?")[2]
    return any(_SECRET_KEY.search(key) for key, _ in parse_qsl(query, keep_blank_values=True))


def bare(uri: str) -> str:
    """A URI without query and fragment."""
    return re.split(r"[?#]", uri, maxsplit=1)[0]


def shown(uri: str) -> str:
    """A URI for messages: without user, password, query and fragment."""
    text = re.sub(r"^([^/]*//)[^/]*@", r"\1", bare(_HIDDEN.sub(r"\1***", uri)))
    # A password with an unencoded slash: "user:pa/ss@host". A port may be one too, where a @ follows: "user:12/3@host".
    text = re.sub(r"^([^/]*//)[^/:\[]*:([^/]*[^/\d]|\d*/.*@).*", r"\1***", text, flags=re.DOTALL)
    return one_line(text, 300)


def located(uri: str) -> str:
    """Where audio is, for lists: a file below the current folder relative to it, as one types it."""
    if not is_local(uri):
        return shown(uri)
    with suppress(ValueError, OSError):  # elsewhere; or the current folder is gone
        return one_line(str(to_path(uri).relative_to(Path.cwd())))
    return one_line(uri)


def without_secrets(text: str, uri: str) -> str:
    """A driver's message, without the URI's user, password and query."""
    try:
        parts = urlsplit(uri)
        secrets = [parts.username, parts.password, parts.query, *(value for _, value in parse_qsl(parts.query))]
    except ValueError:
        secrets = [uri]
    spellings = {s for secret in secrets if secret for s in (secret, unquote(secret)) if len(s) > 3}
    for spelling in sorted(spellings, key=len, reverse=True):
        text = text.replace(spelling, "***")
    return text


def parted(uri: str) -> tuple[str, str]:
    """(URI of the folder, name in it) of an object; the name is empty where the URI is a bucket's."""
    path, mark, query = uri.partition("?")
    folder, _, name = path.rstrip("/").rpartition("/")
    if folder.endswith((":/", "/")):
        return uri, ""
    return folder + mark + query, unquote(name)


def to_uri(path: str | Path) -> str:
    """A local path as text: itself, or a percent-encoded ``file:`` URI where its bytes are not UTF-8."""
    text = os.fspath(path)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return Path(text).absolute().as_uri()
    return text


def to_path(uri: str) -> Path:
    """The inverse of `to_uri`."""
    if uri.startswith("file://"):
        return Path(os.fsdecode(unquote_to_bytes(uri.removeprefix("file://"))))
    return Path(uri)
