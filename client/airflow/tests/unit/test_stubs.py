"""The generated stubs are those of the protos beside them."""

from __future__ import annotations

import json
import pathlib
import runpy

TOOL = pathlib.Path(__file__).resolve().parents[2] / "tools" / "generate_stubs.py"


def test_stubs_are_up_to_date():
    tool = runpy.run_path(str(TOOL))
    found = json.loads((tool["OUT"] / "manifest.json").read_text())
    assert found == tool["manifest"](), f"run {TOOL.relative_to(TOOL.parents[3])}"


def test_comments_do_not_matter():
    fingerprint = runpy.run_path(str(TOOL))["fingerprint"]
    assert fingerprint("message A {\n  // b\n  int32 c = 1; // d\n}") == fingerprint("message A { int32 c = 1; }")
    assert fingerprint("message A { int32 c = 1; }") != fingerprint("message A { int32 c = 2; }")
