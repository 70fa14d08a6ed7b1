"""A folder that looks like site-packages, and what is wrong in it."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Site:
    """A site folder that tests install small distributions into."""

    path: Path

    def install(
        self,
        name: str,
        version: str = "1.0",
        *,
        requires: Sequence[str] = (),
        files: Mapping[str, str] | None = None,
        headers: Sequence[str] = (),
        record: Sequence[str] = (),
        texts: Mapping[str, str] | None = None,
    ) -> Path:
        """Install `name`, with a RECORD of its files and the rows `record`; its dist-info."""
        info = self.path / f"{name.replace('-', '_')}-{version}.dist-info"
        info.mkdir(parents=True)
        lines = ["Metadata-Version: 2.4", f"Name: {name}", f"Version: {version}", *headers]
        lines += [f"Requires-Dist: {requirement}" for requirement in requires]
        rows = [*record, f"{info.name}/RECORD,,"]
        written = {f"{info.name}/METADATA": "\n".join(lines) + "\n", **(files or {})}
        written |= {f"{info.name}/{place}": text for place, text in (texts or {}).items()}
        for place, text in written.items():
            target = self.path / place
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(text.encode())
            rows.append(recorded(place, text))
        (info / "RECORD").write_text("\n".join(rows) + "\n")
        return info


def recorded(place: str, text: str) -> str:
    """The RECORD row of a file with this text."""
    digest = hashlib.sha256(text.encode()).digest()
    shown = base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
    return f"{place},sha256={shown},{len(text.encode())}"
