"""Which licence each distribution says that it has, and what kind of licence that is.

The most reliable source wins: the SPDX expression (PEP 639), then the
classifiers, then the free License field, then the licence's own text.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from enum import IntEnum
from pathlib import Path
from typing import Any, TypedDict

from tasks.audit import Inventory, read_distributions, write_rows

FIELDS = ("distribution", "licence", "family", "source")
UNKNOWN = "unknown"
MOST_TOKENS = 200
"""Of an expression: no sound one is near it, and metadata is anybody's text."""


class Family(IntEnum):
    """How much a licence asks of those who pass the work on; larger asks more."""

    PUBLIC_DOMAIN = 0
    PERMISSIVE = 1
    WEAK_COPYLEFT = 2
    STRONG_COPYLEFT = 3
    PROPRIETARY = 4
    UNKNOWN = 5

    @property
    def label(self) -> str:
        """The name as people write it."""
        return self.name.lower().replace("_", " ")


class Licences(TypedDict):
    """Licences in figures. `path`: a CSV with each distribution's."""

    path: str
    count: int
    unknown: int
    families: dict[str, int]


_PREFIXES = (
    (Family.STRONG_COPYLEFT, ("GPL-", "AGPL-", "SSPL-", "OSL-", "EUPL-", "CC-BY-SA-")),
    (Family.WEAK_COPYLEFT, ("LGPL-", "MPL-", "EPL-", "CDDL-", "CPL-")),
    (Family.PUBLIC_DOMAIN, ("CC0-", "Unlicense", "0BSD", "MIT-0", "LicenseRef-Public-Domain")),
    (Family.PROPRIETARY, ("LicenseRef-Proprietary", "BUSL-")),
    (
        Family.PERMISSIVE,
        (
            "MIT", "BSD", "Apache-", "ISC", "PSF-", "Python-", "CNRI-", "Zlib", "HPND", "ZPL-",
            "BSL-", "Artistic-", "AFL-", "Unicode-", "FTL", "NCSA", "WTFPL", "CC-BY-", "X11",
        ),
    ),
)  # fmt: skip

_CLASSIFIERS = {
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "BSD License": "BSD-3-Clause",
    "Apache Software License": "Apache-2.0",
    "ISC License (ISCL)": "ISC",
    "Python Software Foundation License": "PSF-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "GNU General Public License (GPL)": "GPL-1.0-or-later",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "GNU Library or Lesser General Public License (LGPL)": "LGPL-2.0-or-later",
    "GNU Lesser General Public License v2 (LGPLv2)": "LGPL-2.0-only",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "Eclipse Public License 2.0 (EPL-2.0)": "EPL-2.0",
    "Historical Permission Notice and Disclaimer (HPND)": "HPND",
    "The Unlicense (Unlicense)": "Unlicense",
    "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
    "Public Domain": "LicenseRef-Public-Domain",
    "zlib/libpng License": "Zlib",
    "Zope Public License": "ZPL-2.1",
    "Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "Other/Proprietary License": "LicenseRef-Proprietary",
}
"""End of a classifier → SPDX. "BSD License" names no variant; the usual one stands for it."""

_NAMES = (
    (r"\b(affero|agpl)", "AGPL-3.0-or-later"),
    (r"\b(lesser general|lgpl)", "LGPL-2.0-or-later"),
    (r"\b(general public|gpl)", "GPL-1.0-or-later"),
    (r"\b(mozilla|mpl)", "MPL-2.0"),
    (r"\bapache", "Apache-2.0"),
    (r"\bmit\b|\bexpat\b", "MIT"),
    (r"\b(2.clause|simplified) bsd|\bbsd.2", "BSD-2-Clause"),
    (r"\bbsd", "BSD-3-Clause"),
    (r"\bisc\b", "ISC"),
    (r"\b(psf|python software foundation)", "PSF-2.0"),
    (r"\bunlicen[sc]e", "Unlicense"),
    (r"\bzlib\b", "Zlib"),
    (r"\bpublic domain\b", "LicenseRef-Public-Domain"),
    (r"\bproprietary|all rights reserved", "LicenseRef-Proprietary"),
)

_TEXTS = (
    (r"gnu affero general public license", "AGPL-3.0-or-later"),
    (r"gnu lesser general public license", "LGPL-2.0-or-later"),
    (r"gnu general public license", "GPL-1.0-or-later"),
    (r"mozilla public license,? version 2\.0|mozilla public license version 2", "MPL-2.0"),
    (r"apache license,?\s+version 2\.0", "Apache-2.0"),
    (r"permission is hereby granted, free of charge, to any person obtaining a copy", "MIT"),
    (
        r"redistribution and use in source and binary forms.*neither the name",
        "BSD-3-Clause",
    ),
    (r"redistribution and use in source and binary forms", "BSD-2-Clause"),
    (
        r"permission to use, copy, modify, and(/or)? distribute this software for any purpose",
        "ISC",
    ),
    (r"python software foundation license", "PSF-2.0"),
    (r"this is free and unencumbered software released into the public domain", "Unlicense"),
)


def classify_licences(inventory: Inventory) -> Licences:
    """Classify the licence of every distribution, into ``licences.csv``."""
    rows = []
    for entry in read_distributions(inventory):
        licence, source = licence_of(entry)
        row = {"distribution": entry["distribution"], "licence": licence, "source": source}
        rows.append({**row, "family": family_of(licence).label})
    target = Path(inventory["folder"]) / "licences.csv"
    write_rows(target, FIELDS, rows)
    families = Counter(row["family"] for row in rows)
    return Licences(
        path=str(target),
        count=len(rows),
        unknown=families[Family.UNKNOWN.label],
        families=dict(families),
    )


def licence_of(entry: Mapping[str, Any]) -> tuple[str, str]:
    """A distribution's licence as an SPDX expression, and which source says so.

    Several classifiers are read as a choice. ``unknown`` where nothing says.
    """
    if entry["license_expression"]:
        return entry["license_expression"], "expression"
    ends = [c.rpartition(" :: ")[2] for c in entry["license_classifiers"]]
    named = sorted({_CLASSIFIERS[end] for end in ends if end in _CLASSIFIERS})
    if named:
        return " OR ".join(named), "classifier"
    # Some put the whole licence into the field.
    field = entry["license"].strip()
    found = _first(_TEXTS if len(field) > 200 else _NAMES, field)
    if found:
        return found, "field"
    found = _first(_TEXTS, entry["license_text"])
    return (found, "text") if found else (UNKNOWN, "none")


def _first(patterns: tuple[tuple[str, str], ...], text: str) -> str:
    flat = re.sub(r"\s+", " ", text.lower())
    return next((spdx for pattern, spdx in patterns if re.search(pattern, flat)), "")


def family_of(expression: str) -> Family:
    """The family of an SPDX expression: the strictest of what AND joins, the mildest of OR's.

    An exception (WITH) is read as the licence without it. What is no expression
    is of an unknown family.
    """
    tokens = re.findall(r"\(|\)|[^\s()]+", expression)
    if len(tokens) > MOST_TOKENS:
        return Family.UNKNOWN
    try:
        family = _either(tokens)
    except IndexError:
        return Family.UNKNOWN
    return Family.UNKNOWN if tokens else family


def _either(tokens: list[str]) -> Family:
    family = _both(tokens)
    while tokens and tokens[0].upper() == "OR":
        tokens.pop(0)
        family = min(family, _both(tokens))
    return family


def _both(tokens: list[str]) -> Family:
    family = _one(tokens)
    while tokens and tokens[0].upper() == "AND":
        tokens.pop(0)
        family = max(family, _one(tokens))
    return family


def _one(tokens: list[str]) -> Family:
    token = tokens.pop(0)
    if token == "(":
        family = _either(tokens)
        tokens.pop(0)
        return family
    if tokens and tokens[0].upper() == "WITH":
        del tokens[:2]
    for family, prefixes in _PREFIXES:
        # "MIT-0" is of another family than "MIT": the families stand in that order.
        if token.startswith(prefixes):
            return family
    return Family.UNKNOWN
