"""Issue trackers, in the shapes that their APIs answer in: pages, limits, and what is not open."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from athena_prefect.assumptions.checks.registry import kind_named
from tests.assumptions.checks.observing import SECRET, error, seen, value
from tests.assumptions.checks.web import Asked, Reply, Site

TOKEN = "{{ secret.token }}"


def github_issue(number: int, *, pull: bool = False) -> dict[str, Any]:
    url = f"https://api.github.com/repos/acme/shop/issues/{number}"
    issue: dict[str, Any] = {
        "id": 1000 + number, "number": number, "state": "open", "url": url,
        "title": f"Issue {number}", "labels": [{"id": 1, "name": "blocker"}],
        "user": {"login": "octocat", "id": 1},
    }  # fmt: skip
    return issue | {"pull_request": {"url": url.replace("issues", "pulls")}} if pull else issue


def test_github_by_label_over_pages(web: Site) -> None:
    def answer(asked: Asked) -> Reply:
        assert asked.query["state"] == "open" and asked.query["labels"] == "blocker,p1"
        assert asked.headers["authorization"] == f"Bearer {SECRET}"
        page = int(asked.query.get("page", "1"))
        following = f"{web.url}/repos/acme/shop/issues?state=open&labels=blocker,p1&page={page + 1}"
        last = f'<{web.url}/repos/acme/shop/issues?page=3>; rel="last"'
        link = {"Link": f'<{following}>; rel="next", {last}'} if page < 3 else {}
        numbers = range(page * 10, page * 10 + 4)
        return Reply([github_issue(n, pull=n % 10 == 0) for n in numbers], headers=link)

    web.answers["/repos/acme/shop/issues"] = answer
    asked: dict[str, Any] = {
        "tracker": "github",
        "project": "acme/shop",
        "url": web.url,
        "token": TOKEN,
    }
    found = seen("issues", labels=["blocker", "p1"], **asked).observation
    assert found is not None and found.value == 9
    assert found.details == "9 open issues in acme/shop (blocker p1)"
    assert len(web.asked) == 3


def test_github_by_query(web: Site) -> None:
    body = {"total_count": 7, "incomplete_results": False, "items": [github_issue(1)]}
    web.answers["/search/issues"] = Reply(body)
    options: dict[str, Any] = {"tracker": "github", "project": "acme/shop", "url": web.url}
    assert value("issues", query="milestone:v1", labels=["p 1"], **options) == 7
    assert web.asked[0].query["q"] == 'repo:acme/shop is:issue is:open label:"p 1" milestone:v1'
    web.answers["/search/issues"] = Reply(body | {"incomplete_results": True})
    assert "given up before its end" in error("issues", query="x", **options)


def test_github_s_limits_and_refusals(web: Site) -> None:
    options: dict[str, Any] = {
        "tracker": "github",
        "project": "acme/shop",
        "url": web.url,
        "token": TOKEN,
    }
    path = "/repos/acme/shop/issues"
    spent = {"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1795780800"}
    web.answers[path] = Reply({"message": "API rate limit exceeded"}, 403, spent)
    told = error("issues", **options)
    assert "rate limit is used up until 2026-11-27 12:00:00 UTC" in told
    web.answers[path] = Reply({"message": "Bad credentials"}, 401)
    assert "credentials" in error("issues", **options)
    web.answers[path] = Reply({"message": "Not an issue list"})
    assert "no list of issues" in error("issues", **options)
    away = {"Link": '<http://other.example/repos?page=2>; rel="next"'}
    web.answers[path] = Reply([github_issue(1)], headers=away)
    assert "on another server" in error("issues", **options)
    circle = {"Link": f'<{web.url}{path}>; rel="next"'}
    web.answers[path] = Reply([github_issue(1)], headers=circle)
    assert "more than 5000 open issues" in error("issues", **options)


def test_gitlab(web: Site) -> None:
    path = "/api/v4/projects/group%2Fshop/issues"
    issue = {"id": 1, "iid": 1, "project_id": 3, "state": "opened", "labels": ["blocker"]}
    web.answers[path] = Reply([issue], headers={"X-Total": "41", "X-Next-Page": "2"})
    options: dict[str, Any] = {
        "tracker": "gitlab",
        "project": "group/shop",
        "url": web.url,
        "token": TOKEN,
    }
    assert value("issues", labels=["blocker"], query="login", **options) == 41
    first = web.asked[0]
    assert first.headers["private-token"] == SECRET
    assert first.query == {
        "state": "opened", "per_page": "100", "labels": "blocker", "search": "login",
    }  # fmt: skip

    def without_total(asked: Asked) -> Reply:
        more = asked.query.get("page") != "2"
        link = {"Link": f'<{web.url}{path}?page=2>; rel="next"'} if more else {}
        return Reply([issue] * 3, headers=link)

    web.answers[path] = without_total
    assert value("issues", **options) == 6
    web.answers[path] = Reply({"message": "429 Too Many Requests"}, 429, {"Retry-After": "12"})
    assert "to be tried again in 12 s" in error("issues", **options)


def test_jira_in_the_cloud(web: Site) -> None:
    def answer(asked: Asked) -> Reply:
        assert asked.headers["authorization"].startswith("Basic ")
        jql = (
            'project = "SHOP" AND statusCategory != Done AND labels = "blocker" AND (fixVersion=1)'
        )
        assert asked.query["jql"] == jql
        if asked.query.get("nextPageToken") == "abc":
            return Reply({"issues": [{"id": "3", "key": "SHOP-3"}], "isLast": True})
        issues = [{"id": "1", "key": "SHOP-1"}, {"id": "2", "key": "SHOP-2"}]
        return Reply({"issues": issues, "nextPageToken": "abc", "isLast": False})

    web.answers["/rest/api/3/search/jql"] = answer
    options: dict[str, Any] = {"tracker": "jira", "project": "SHOP", "url": web.url, "token": TOKEN}
    count = value(
        "issues", labels=["blocker"], query="fixVersion=1", user="me@example.org", **options
    )
    assert count == 3
    web.answers["/rest/api/3/search/jql"] = Reply({"errorMessages": ["no"], "errors": {}}, 400)
    assert "HTTP 400" in error("issues", **options)
    web.answers["/rest/api/3/search/jql"] = Reply({"something": "else"})
    assert "no issues" in error("issues", **options)


def test_jira_on_a_server_of_one_s_own(web: Site) -> None:
    body = {"expand": "names", "startAt": 0, "maxResults": 1, "total": 12, "issues": [{"id": "1"}]}
    web.answers["/jira/rest/api/2/search"] = Reply(body)
    options: dict[str, Any] = {
        "tracker": "jira_server",
        "project": "SHOP",
        "url": f"{web.url}/jira/",
    }
    assert value("issues", token=TOKEN, **options) == 12
    assert web.asked[0].headers["authorization"] == f"Bearer {SECRET}"


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tracker": "jira", "project": "A"}, "no public address"),
        ({"tracker": "github", "project": "acme"}, "not owner/repository"),
        ({"tracker": "github", "project": "a/b", "labels": ['x"y']}, "neither quotes nor commas"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ValidationError, match=said):
        kind_named("issues").model_validate(options)
