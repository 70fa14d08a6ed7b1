"""Checks that fetch: JSON, and all that can be answered instead of it."""

from __future__ import annotations

import socket
from typing import Any

import httpx
import pytest
from pydantic import ValidationError

from athena_prefect.assumptions.checks import extras
from athena_prefect.assumptions.checks.base import CheckContext
from athena_prefect.assumptions.checks.fetching import MOST_BYTES, Fetcher
from athena_prefect.assumptions.checks.registry import kind_named
from athena_prefect.errors import CheckError
from tests.assumptions.checks.observing import NOW, SECRET, error, value
from tests.assumptions.checks.web import Reply, Site

JOBS = {"jobs": [{"n": 3, "state": "open"}, {"n": 4, "state": "done"}, {"n": 5, "state": "open"}]}


def test_a_value_out_of_a_document(web: Site) -> None:
    web.answers["/jobs"] = Reply(JOBS)
    url = f"{web.url}/jobs"
    assert value("http_json", url=url, path="$.jobs[0].n") == 3
    assert value("http_json", url=url, path="$.jobs[?@.state == 'open']", take="count") == 2
    assert value("http_json", url=url, path="$.jobs[?@.state == 'gone']", take="count") == 0
    assert value("http_json", url=url, path="$.jobs[*].n", take="sum") == 12
    assert value("http_json", url=url, path="$..n", take="min") == 3
    assert value("http_json", url=url, path="$..n", take="max") == 5
    assert value("http_json", url=url, path="$.jobs[1]") == {"n": 4, "state": "done"}


def test_what_is_no_single_value(web: Site) -> None:
    web.answers["/a"] = Reply({"a": [1, "x"], "null": None})
    url = f"{web.url}/a"
    assert "2 values at $.a[*]" in error("http_json", url=url, path="$.a[*]")
    assert "nothing at $.b" in error("http_json", url=url, path="$.b")
    assert "null is at" in error("http_json", url=url, path="$.null")
    assert "is a number" in error("http_json", url=url, path="$.a[*]", take="sum")
    with pytest.raises(ValidationError, match="is no JSONPath"):
        kind_named("http_json").model_validate({"url": url, "path": "$.a["})


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply(b"no", 401), "HTTP 401: the credentials are missing or refused"),
        (Reply(b"no", 403), "HTTP 403: the credentials are missing or refused"),
        (Reply(b"no", 404), "HTTP 404: there is no such thing"),
        (Reply(b"no", 500), "HTTP 500"),
        (Reply(b"no", 429, {"Retry-After": "30"}), "used up; to be tried again in 30 s"),
        (Reply(b"<html>hello</html>"), "the body is not JSON, but text/html"),
        (Reply(b""), "the body is not JSON"),
        (Reply(b"[" * 200_000), "the body is not JSON"),
        (Reply(b"", 302, {"Location": "ftp://127.0.0.1/x"}), "a redirect to ftp is refused"),
        (Reply(b"", 302, {"Location": "file:///etc/passwd"}), "a redirect to file is refused"),
        (Reply(b"", 302), "a redirect to nowhere is refused"),
        (Reply(b"", 302, {"Location": "/bad?x=1"}), "more than 5 redirects"),
    ],
)
def test_hostile_answers(web: Site, reply: Reply, said: str) -> None:
    web.answers["/bad"] = reply
    told = error(
        "http_json",
        url=f"{web.url}/bad?token=hunter3",
        headers={"Authorization": "Bearer {{ secret.token }}"},
    )
    assert said in told and f"{web.url}/bad" in told and "hunter" not in told


def test_values_that_no_journal_keeps(web: Site) -> None:
    web.answers["/a"] = Reply({"long": "x" * 20_000, "nul": ["a\0b"], "half": "\ud800"})
    url = f"{web.url}/a"
    assert "too large to be kept (20000 characters)" in error("http_json", url=url, path="$.long")
    assert "too large" in error("http_json", url=url)
    for path, name in (("$.nul", "U+0000"), ("$.nul[0]", "U+0000"), ("$.half", "U+D800")):
        assert f"has the character {name}" in error("http_json", url=url, path=path)


def test_a_body_of_a_gigabyte_is_not_read(web: Site) -> None:
    told = error("http_json", url=f"{web.url}/endless")
    assert f"longer than {MOST_BYTES // 10**6} MB" in told
    # What had been sent when it hung up: the limit, and what the sockets' buffers hold.
    assert web.sent < 10 * MOST_BYTES


@pytest.mark.parametrize("path", ["/slow", "/drip"])
def test_slow_answers(web: Site, path: str) -> None:
    told = error("http_json", url=f"{web.url}{path}", timeout="500ms")
    assert "no whole answer within 0.4 s" in told


def test_nobody_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "refused" in error("http_json", url=f"http://me:{SECRET}@127.0.0.1:{port}/").lower()


def test_a_redirect_to_another_server_goes_without_our_headers(web: Site) -> None:
    web.answers["/there"] = Reply({"n": 1})
    web.answers["/near"] = Reply(b"", 302, {"Location": "/there"})
    elsewhere = web.url.replace("127.0.0.1", "localhost")
    web.answers["/far"] = Reply(b"", 307, {"Location": f"{elsewhere}/there"})
    for path, sent in (("/near", True), ("/far", False)):
        web.asked.clear()
        headers = {"Authorization": "Bearer {{ secret.token }}"}
        assert value("http_json", url=f"{web.url}{path}", headers=headers, path="$.n") == 1
        assert web.asked[0].headers["authorization"] == f"Bearer {SECRET}"
        assert ("authorization" in web.asked[1].headers) is sent


def test_a_redirect_from_https_to_http_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(str(request.url))
        return httpx.Response(302, headers={"Location": "http://safe.example/"})

    real = httpx.Client

    def client(**options: Any) -> httpx.Client:
        return real(transport=httpx.MockTransport(answer), **options)

    monkeypatch.setattr(httpx, "Client", client)
    with pytest.raises(CheckError, match="from https to http is refused"):
        Fetcher(CheckContext(now=NOW), 5).get("https://safe.example/a")
    assert asked == ["https://safe.example/a"]


def test_an_address_that_is_a_secret_is_not_told() -> None:
    secrets = frozenset({"https://hooks.example/T000/B000?x=1"})
    fetcher = Fetcher(CheckContext(now=NOW, secrets=secrets), 5)
    assert fetcher.shown("https://hooks.example/T000/B000?x=1") == "https://hooks.example"
    assert fetcher.shown("https://me:pw@other.example:8/a?b#c") == "https://other.example:8/a"


def test_a_library_that_is_not_there_is_named(web: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    web.answers["/a"] = Reply({"a": 1})

    def absent(name: str) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)

    monkeypatch.setattr(extras, "import_module", absent)
    told = error("http_json", url=f"{web.url}/a", path="$.a")
    assert told == (
        "checks of kind 'http_json' need jsonpath_rfc9535, which is not installed; "
        "pip install 'athena-prefect[checks]'"
    )
