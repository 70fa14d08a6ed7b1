"""issues: how many issues are open in GitHub, GitLab or Jira."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, Literal, Self
from urllib.parse import quote, urljoin

from pydantic import Field, model_validator

from athena_prefect.assumptions.checks.base import Check, CheckContext, Observation
from athena_prefect.assumptions.checks.fetching import Fetcher, Page, same_origin
from athena_prefect.assumptions.checks.http import WebAddress
from athena_prefect.errors import CheckError
from athena_prefect.plan.model import Sense, ValidationMethod

PAGE_SIZE = 100
"""Issues a page: the most that all three give."""
MOST_PAGES = 50
"""Pages that are read; who has more open issues wants a query."""
_PUBLIC = {"github": "https://api.github.com", "gitlab": "https://gitlab.com"}


class Issues(Check):
    """Number of open issues with all of some labels, or that a query of the tracker finds."""

    kind: ClassVar[str] = "issues"
    sense: ClassVar[Sense] = Sense.AT_MOST
    method: ClassVar[ValidationMethod] = ValidationMethod.EXTERNAL
    can_hang: ClassVar[bool] = True  # looking a name up has no time-out of its own

    tracker: Literal["github", "gitlab", "jira", "jira_server"]
    """Which it is; ``jira`` is the cloud, ``jira_server`` one's own (Data Center)."""
    project: str = Field(pattern=r"^[^\s\"\\?#]+$")
    """``owner/repository`` of GitHub, ``group/project`` or number of GitLab, key of Jira."""
    labels: tuple[str, ...] = ()
    """Labels that an issue must have, all of them."""
    query: str = ""
    """In the tracker's own language: search words and qualifiers of GitHub, search words of
    GitLab, a condition in JQL."""
    url: WebAddress | None = None
    """Address of the tracker; by default the public one (GitHub's API, gitlab.com)."""
    token: str | None = Field(default=None, repr=False)
    """Access token, as ``{{ secret.NAME }}``."""
    user: str | None = None
    """The token's user, which Jira in the cloud wants to know: an e-mail address."""

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.url is None and self.tracker not in _PUBLIC:
            raise ValueError(f"{self.tracker} has no public address; write url: https://…")
        if self.tracker == "github" and not re.fullmatch(r"[^/]+/[^/]+", self.project):
            raise ValueError(f"{self.project!r} is not owner/repository")
        if any(not label or '"' in label or "," in label for label in self.labels):
            raise ValueError("a label is not empty, and has neither quotes nor commas")
        return self

    def observe(self, context: CheckContext) -> Observation:
        """Count them, page by page."""
        fetcher = Fetcher(context, self.patience, headers=self._headers())
        count = {
            "github": self._github, "gitlab": self._gitlab,
            "jira": self._jira_cloud, "jira_server": self._jira_server,
        }[self.tracker](fetcher)  # fmt: skip
        wanted = " ".join(filter(None, [*self.labels, self.query]))
        details = f"{count} open issues in {self.project}" + (f" ({wanted})" if wanted else "")
        return Observation(value=count, unit="issues", details=details)

    @property
    def _base(self) -> str:
        return (self.url or _PUBLIC[self.tracker]).rstrip("/")

    def _headers(self) -> Mapping[str, str]:
        headers = {"Accept": "application/json", "User-Agent": "athena-prefect"}
        if self.tracker == "github":
            headers |= {
                "Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28",
            }  # fmt: skip
        if self.token is None:
            return headers
        if self.tracker == "gitlab":
            return headers | {"PRIVATE-TOKEN": self.token}
        if self.tracker == "jira" and self.user:
            pair = base64.b64encode(f"{self.user}:{self.token}".encode()).decode()
            return headers | {"Authorization": f"Basic {pair}"}
        return headers | {"Authorization": f"Bearer {self.token}"}

    def _github(self, fetcher: Fetcher) -> int:
        if self.query:
            terms = [f"repo:{self.project}", "is:issue", "is:open"]
            terms += [f'label:"{label}"' for label in self.labels]
            page = fetcher.get(
                f"{self._base}/search/issues", {"q": " ".join([*terms, self.query]), "per_page": 1}
            )
            found = page.json()
            if _part(found, "incomplete_results", page, bool):
                raise CheckError(f"{page.shown}: the search was given up before its end")
            return int(_part(found, "total_count", page, int))
        parameters: dict[str, str | int] = {"state": "open", "per_page": PAGE_SIZE}
        if self.labels:
            parameters["labels"] = ",".join(self.labels)
        first = fetcher.get(f"{self._base}/repos/{self.project}/issues", parameters)
        # Pull requests are issues to this list.
        return sum(
            "pull_request" not in issue for page in _linked(fetcher, first) for issue in _list(page)
        )

    def _gitlab(self, fetcher: Fetcher) -> int:
        parameters: dict[str, str | int] = {"state": "opened", "per_page": PAGE_SIZE}
        if self.labels:
            parameters["labels"] = ",".join(self.labels)
        if self.query:
            parameters["search"] = self.query
        project = quote(self.project, safe="")
        page = fetcher.get(f"{self._base}/api/v4/projects/{project}/issues", parameters)
        # Of more than 10,000 the total is not told.
        total = page.headers.get("x-total", "")
        return (
            int(total) if total.isdecimal() else sum(len(_list(p)) for p in _linked(fetcher, page))
        )

    def _jql(self) -> str:
        terms = [f'project = "{self.project}"', "statusCategory != Done"]
        terms += [f'labels = "{label}"' for label in self.labels]
        return " AND ".join([*terms, f"({self.query})"] if self.query else terms)

    def _jira_server(self, fetcher: Fetcher) -> int:
        parameters: dict[str, str | int] = {"jql": self._jql(), "maxResults": 1, "fields": "key"}
        page = fetcher.get(f"{self._base}/rest/api/2/search", parameters)
        return int(_part(page.json(), "total", page, int))

    def _jira_cloud(self, fetcher: Fetcher) -> int:
        parameters: dict[str, str | int] = {
            "jql": self._jql(), "maxResults": PAGE_SIZE, "fields": "key",
        }  # fmt: skip
        count = 0
        for _ in range(MOST_PAGES):
            page = fetcher.get(f"{self._base}/rest/api/3/search/jql", parameters)
            found = page.json()
            count += len(_part(found, "issues", page, list))
            token = found.get("nextPageToken")
            if found.get("isLast") or not token:
                return count
            parameters["nextPageToken"] = str(token)
        raise _too_many()


def _linked(fetcher: Fetcher, page: Page) -> Iterator[Page]:
    """The page and those that its Link headers lead to."""
    for _ in range(MOST_PAGES):
        yield page
        following = re.search(r'<([^>]*)>\s*;[^,]*\brel="?next"?', page.headers.get("link", ""))
        if following is None:
            return
        target = urljoin(page.url, following[1])
        if not same_origin(target, page.url):
            raise CheckError(f"{page.shown}: its next page is on another server, and was refused")
        page = fetcher.get(target)
    raise _too_many()


def _too_many() -> CheckError:
    return CheckError(f"more than {MOST_PAGES * PAGE_SIZE} open issues; narrow them by a query")


def _list(page: Page) -> list[Any]:
    found = page.json()
    if not isinstance(found, list):
        raise CheckError(f"{page.shown}: the answer is no list of issues")
    return found


def _part(found: Any, name: str, page: Page, kind: type) -> Any:
    value = found.get(name) if isinstance(found, Mapping) else None
    if not isinstance(value, kind):
        raise CheckError(f"{page.shown}: the answer has no {name}")
    return value
