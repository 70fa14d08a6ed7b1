"""One way to fetch from the web, for all checks: bounded in time, bytes and redirects."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit

from athena_prefect.errors import CheckError

if TYPE_CHECKING:
    import ssl

    import httpx

    from athena_prefect.assumptions.checks.base import CheckContext

MOST_BYTES = 10_000_000
"""Of one answer: far more than what a check looks for, and nothing to a machine's memory."""
MOST_REDIRECTS = 5
"""One after the other; more is a circle."""
_REDIRECTS = frozenset({301, 302, 303, 307, 308})


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """An answer of status 2xx: where it came from, its headers (lower case), and its bytes."""

    url: str
    shown: str
    """The address for messages, without secrets."""
    headers: Mapping[str, str]
    content: bytes

    def json(self) -> Any:
        """The body, decoded. Raises CheckError where it is not JSON."""
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            kind = self.headers.get("content-type", "").partition(";")[0] or "nothing that it names"
            raise CheckError(f"{self.shown}: the body is not JSON, but {kind}") from None


class Fetcher:
    """Fetches addresses until one check's patience is at its end. Errors rise as CheckError."""

    def __init__(
        self,
        context: CheckContext,
        seconds: float,
        *,
        headers: Mapping[str, str] | None = None,
        only_host: bool = False,
    ) -> None:
        self.headers = dict(headers or {})
        self._ticks, self._now = context.ticks, context.now
        self._secrets = context.secrets
        self._limit, self._until = seconds, context.ticks() + seconds
        self._only_host = only_host
        self._tls: ssl.SSLContext | None = None

    def get(self, url: str, parameters: Mapping[str, str | int] | None = None) -> Page:
        """GET `url`; redirects are followed, never to a weaker scheme, and to another
        host only without our headers.
        """
        import httpx

        headers = dict(self.headers)
        try:
            address = str(httpx.URL(url, params=dict(parameters)) if parameters else httpx.URL(url))
            # Reading the certificates takes longer than many an answer: once for all pages.
            self._tls = self._tls or httpx.create_ssl_context()
            plain = {"Accept-Encoding": "identity"}
            with httpx.Client(headers=plain, verify=self._tls) as client:
                for _ in range(MOST_REDIRECTS + 1):
                    answer = self._ask(client, address, headers)
                    if isinstance(answer, Page):
                        return answer
                    if _origin(answer) != _origin(address):
                        headers = {}
                    address = answer
        except httpx.TimeoutException:
            raise CheckError(f"{self.shown(url)}: {self._late()}") from None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            said = str(error) or type(error).__name__
            raise CheckError(f"{self.shown(url)}: {said}") from None
        raise CheckError(f"{self.shown(url)}: more than {MOST_REDIRECTS} redirects")

    def _ask(self, client: httpx.Client, address: str, headers: Mapping[str, str]) -> Page | str:
        """The answer, or where it redirects to."""
        shown = self.shown(address)
        with client.stream("GET", address, headers=headers, timeout=self._left(shown)) as answer:
            if answer.status_code in _REDIRECTS:
                return self._onward(address, answer.headers.get("location", ""))
            if not 200 <= answer.status_code < 300:
                raise CheckError(f"{shown}: {self._refusal(answer.status_code, answer.headers)}")
            content = b"".join(self._parts(answer, shown))
            return Page(url=address, shown=shown, headers=dict(answer.headers), content=content)

    def _parts(self, answer: httpx.Response, shown: str) -> Iterator[bytes]:
        length = 0
        for part in answer.iter_bytes():
            length += len(part)
            if length > MOST_BYTES:
                raise CheckError(f"{shown}: the body is longer than {MOST_BYTES // 10**6} MB")
            self._left(shown)
            yield part

    def _left(self, shown: str) -> float:
        left = self._until - self._ticks()
        if left <= 0:
            raise CheckError(f"{shown}: {self._late()}")
        return left

    def _late(self) -> str:
        return f"no whole answer within {self._limit:g} s"

    def _onward(self, address: str, location: str) -> str:
        target = urljoin(address, location)
        old, new = urlsplit(address).scheme, urlsplit(target).scheme
        if not location or new not in ("http", "https"):
            raise CheckError(
                f"{self.shown(address)}: a redirect to {new if location else 'nowhere'} is refused"
            )
        if old == "https" and new == "http":
            raise CheckError(f"{self.shown(address)}: a redirect from https to http is refused")
        return target

    def _refusal(self, status: int, headers: Mapping[str, str]) -> str:
        spent = any(
            headers.get(name) == "0" for name in ("x-ratelimit-remaining", "ratelimit-remaining")
        )
        if status == 429 or (status == 403 and (spent or "retry-after" in headers)):
            return f"HTTP {status}: the rate limit is used up{self._until_when(headers)}"
        if status in (401, 403):
            return f"HTTP {status}: the credentials are missing or refused"
        if status == 404:
            return "HTTP 404: there is no such thing, or it is hidden from these credentials"
        return f"HTTP {status}"

    def _until_when(self, headers: Mapping[str, str]) -> str:
        if headers.get("retry-after", "").isdecimal():
            return f"; to be tried again in {headers['retry-after']} s"
        reset = headers.get("x-ratelimit-reset") or headers.get("ratelimit-reset") or ""
        if reset.isdecimal() and len(reset) < 12:
            return f" until {datetime.fromtimestamp(int(reset), UTC):%Y-%m-%d %H:%M:%S} UTC"
        return ""

    def shown(self, url: str) -> str:
        """`url` for messages: without user, query and fragment; only its host where all of
        it is a secret.
        """
        try:
            parts = urlsplit(url)
            host = parts.hostname or ""
            port = f":{parts.port}" if parts.port else ""
        except ValueError:
            return "an address that is none"
        place = f"{parts.scheme}://{host}{port}"
        whole = place + parts.path
        secret = self._only_host or any(host and host in s for s in self._secrets)
        return place if secret else whole


def _origin(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.rpartition("@")[2]


def same_origin(url: str, other: str) -> bool:
    """Whether two addresses are of one server, so that what one may know the other may."""
    return _origin(url) == _origin(other)
