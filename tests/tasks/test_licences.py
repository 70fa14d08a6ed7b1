"""Licences: the most reliable source wins, and expressions are weighed as they are meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.audit import list_distributions, read_rows
from tasks.licences import MOST_TOKENS, Family, classify_licences, family_of, licence_of

NOTHING = {
    "license_expression": "",
    "license_classifiers": [],
    "license": "",
    "license_text": "",
}
MIT = "MIT License\n\nPermission is hereby granted, free of charge, to any\nperson obtaining a copy"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"license_expression": "MIT", "license": "GPL"}, ("MIT", "expression")),
        (
            {"license_classifiers": ["License :: OSI Approved :: MIT License"], "license": "GPL"},
            ("MIT", "classifier"),
        ),
        (
            {
                "license_classifiers": [
                    "License :: OSI Approved :: BSD License",
                    "License :: OSI Approved :: Apache Software License",
                ]
            },
            ("Apache-2.0 OR BSD-3-Clause", "classifier"),
        ),
        ({"license_classifiers": ["License :: OSI Approved"], "license": "Apache 2.0"},
         ("Apache-2.0", "field")),
        ({"license": "BSD-2-Clause"}, ("BSD-2-Clause", "field")),
        ({"license": "GNU LGPL v3"}, ("LGPL-2.0-or-later", "field")),
        ({"license": MIT * 5}, ("MIT", "field")),
        ({"license_text": MIT}, ("MIT", "text")),
        ({"license": "see file", "license_text": MIT}, ("MIT", "text")),
        ({"license_text": "All my own words"}, ("unknown", "none")),
        ({}, ("unknown", "none")),
    ],
)  # fmt: skip
def test_the_best_source_wins(said: dict[str, object], expected: tuple[str, str]) -> None:
    assert licence_of({**NOTHING, **said}) == expected


@pytest.mark.parametrize(
    ("expression", "family"),
    [
        ("MIT", Family.PERMISSIVE),
        ("MIT-0", Family.PUBLIC_DOMAIN),
        ("GPL-3.0-only", Family.STRONG_COPYLEFT),
        ("LGPL-3.0-only", Family.WEAK_COPYLEFT),
        ("GPL-2.0-only OR MIT", Family.PERMISSIVE),
        ("MPL-2.0 AND (Apache-2.0 OR MIT)", Family.WEAK_COPYLEFT),
        ("MIT AND GPL-3.0-only OR ISC", Family.PERMISSIVE),
        ("GPL-2.0-only WITH Classpath-exception-2.0", Family.STRONG_COPYLEFT),
        ("Apache-2.0 WITH LLVM-exception OR MIT", Family.PERMISSIVE),
        ("LicenseRef-Proprietary", Family.PROPRIETARY),
        ("Something-New", Family.UNKNOWN),
        ("unknown", Family.UNKNOWN),
        ("", Family.UNKNOWN),
        ("(MIT", Family.UNKNOWN),
        ("MIT GPL", Family.UNKNOWN),
        ("MIT OR", Family.UNKNOWN),
        ("(" * 5000, Family.UNKNOWN),
    ],
)
def test_families(expression: str, family: Family) -> None:
    assert family_of(expression) is family


@given(st.text("()MITGPLANDORWH -0.23", max_size=MOST_TOKENS))
def test_any_text_has_a_family(text: str) -> None:
    assert isinstance(family_of(text), Family)


def test_the_step_reads_what_is_installed(tmp_path: Path) -> None:
    from tests.tasks.sites import Site

    site = Site(tmp_path / "site-packages")
    site.path.mkdir()
    site.install("a", headers=["License-Expression: MPL-2.0"])
    site.install("b", headers=["License-File: LICENSE"], texts={"licenses/LICENSE": MIT})
    site.install("c", headers=["License-File: LICENSE"], texts={"LICENSE": "mine"})
    found = classify_licences(list_distributions(tmp_path, "run", [str(site.path)]))
    assert (found["count"], found["unknown"]) == (3, 1)
    assert [(r["licence"], r["family"]) for r in read_rows(found["path"])] == [
        ("MPL-2.0", "weak copyleft"),
        ("MIT", "permissive"),
        ("unknown", "unknown"),
    ]
