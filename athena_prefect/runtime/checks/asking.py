"""Prefect's API for one check: as configured, with a time-out, without retries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, ClassVar

from athena_prefect.assumptions.checks.base import Check, CheckContext
from athena_prefect.errors import CheckError
from athena_prefect.plan.model import ValidationMethod

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient


class PrefectCheck(Check):
    """A check of something that Prefect's server knows."""

    method: ClassVar[ValidationMethod] = ValidationMethod.EXTERNAL
    can_hang: ClassVar[bool] = True  # looking a name up has no time-out of its own

    @contextmanager
    def asking(self, context: CheckContext) -> Iterator[SyncPrefectClient]:
        """A client within the block. What goes wrong there rises as CheckError."""
        from athena_prefect.runtime.connection import configured_api_url

        # Without one Prefect would start a server of its own, which knows of nothing.
        if not configured_api_url():
            raise CheckError("no Prefect API is configured; set PREFECT_API_URL")
        import httpx
        from prefect.client.orchestration import get_client
        from prefect.exceptions import ObjectNotFound
        from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

        try:
            with (
                temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}),
                get_client(httpx_settings={"timeout": self.patience}, sync_client=True) as client,
            ):
                yield client
        except ObjectNotFound:
            raise CheckError(f"Prefect's server knows no such {self._what()}") from None
        except httpx.TimeoutException:
            raise CheckError(f"Prefect's API: no answer within {self.patience:g} s") from None
        except httpx.HTTPStatusError as error:
            status = error.response.status_code
            refused = ": the credentials are missing or refused" if status in (401, 403) else ""
            raise CheckError(f"Prefect's API: HTTP {status}{refused}") from None
        except httpx.HTTPError as error:
            raise CheckError(f"Prefect's API: {type(error).__name__}: {error}") from None
        except ValueError as error:
            # What is no JSON, or JSON that says something else.
            raise CheckError(f"Prefect's API: {type(error).__name__}: no usable answer") from None

    def _what(self) -> str:
        raise NotImplementedError


def count_runs(client: SyncPrefectClient, **filters: Mapping[str, Any]) -> int:
    """The number of flow runs that the filters leave."""
    answer = client.request("POST", "/flow_runs/count", json=filters)
    return int(answer.json())
