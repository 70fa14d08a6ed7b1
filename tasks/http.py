"""A step for plans: JSON over HTTP, with a time-out and a bound on what is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, TypedDict

import httpx

READ_BYTES = 10 * 1024 * 1024
"""Of one answer: a larger one belongs into a file, not into a task's result."""


class HttpError(RuntimeError):
    """A request that got no usable answer; says where without query or headers."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message, status)
        self.message = message
        self.status = status

    def __str__(self) -> str:
        return self.message


class JsonResponse(TypedDict):
    """An answer: its status and its decoded body, null where it has none."""

    status: int
    body: Any


def get_json(
    url: str,
    *,
    parameters: Mapping[str, str | int | float | bool] | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 30.0,
    max_bytes: int = READ_BYTES,
) -> JsonResponse:
    """GET `url` and decode its JSON. Raises HttpError."""
    return _request("GET", url, parameters, headers, None, timeout, max_bytes)


def post_json(
    url: str,
    body: Any,
    *,
    parameters: Mapping[str, str | int | float | bool] | None = None,
    headers: Mapping[str, str] | None = None,
    timeout: float = 30.0,
    max_bytes: int = READ_BYTES,
) -> JsonResponse:
    """POST `body` as JSON and decode the answer's. Raises HttpError.

    A task that posts may be cut off and made again: give
    `athena_prefect.idempotency_token()` to receivers that take a key.
    """
    return _request("POST", url, parameters, headers, body, timeout, max_bytes)


def _request(
    method: str,
    url: str,
    parameters: Mapping[str, str | int | float | bool] | None,
    headers: Mapping[str, str] | None,
    body: Any,
    timeout: float,
    max_bytes: int,
) -> JsonResponse:
    shown = f"{method} {_without_secrets(url)}"
    try:
        with (
            httpx.Client(timeout=timeout) as client,
            client.stream(
                method, url, params=parameters, headers=headers,
                json=body if method == "POST" else None,
            ) as response,
        ):  # fmt: skip
            content = _content(response, shown, max_bytes)
            status = response.status_code
    except httpx.TimeoutException:
        raise HttpError(f"{shown}: no answer within {timeout:g} s") from None
    except httpx.HTTPError as error:
        raise HttpError(f"{shown}: {type(error).__name__}: {error}") from None
    if not 200 <= status < 300:
        # A redirect is not followed: it would take headers to where nobody sent them.
        raise HttpError(f"{shown}: HTTP {status}", status)
    try:
        return JsonResponse(status=status, body=json.loads(content) if content.strip() else None)
    except (json.JSONDecodeError, UnicodeDecodeError):
        raise HttpError(f"{shown}: HTTP {status}, but the body is not JSON", status) from None


def _content(response: httpx.Response, shown: str, max_bytes: int) -> bytes:
    content = bytearray()
    for part in response.iter_bytes():
        content += part
        if len(content) > max_bytes:
            raise HttpError(
                f"{shown}: the answer is longer than {max_bytes} bytes", response.status_code
            )
    return bytes(content)


def _without_secrets(url: str) -> str:
    """`url` without user, password, query and fragment."""
    try:
        place = httpx.URL(url)
        return str(place.copy_with(username=None, password=None, query=None, fragment=None))
    except (httpx.InvalidURL, TypeError) as error:
        raise HttpError(f"not a URL: {type(error).__name__}") from None
