"""Counts the tests of a run and lists those that failed or were skipped. Called by tests/run.

usage: report.py LOGS [FAILED_STEP...]

LOGS/cargo.log is what `cargo test -- --show-output` printed; LOGS/e2e.json, LOGS/compose.json and LOGS/airflow.json what
tests/e2e/run.py, tests/compose/run and tests/airflow/run wrote. A test that prints a line `skipped: REASON` was skipped,
although the harness says that it passed. The last line printed is the count; the exit status is 1 when a test or a step
failed.
"""

import json
import os
import re
import sys


def cargo_results(text):
    """(passed, failed, skipped): names, names, (name, reason)."""
    passed, failed, skipped = [], [], {}
    binary = output_of = None
    for line in text.splitlines():
        if match := re.match(r"\s+(?:Running .*\(.*?([^/]+)-[0-9a-f]+\)|Doc-tests (\S+))$", line):
            binary, output_of = match[1] or f"{match[2]}, documentation", None
        elif match := re.match(r"test (.+?)(?: - should panic)? \.\.\. (ok|FAILED|ignored)(?:, (.*))?$", line):
            name = (binary, match[1])
            if match[2] == "ok":
                passed.append(name)
            elif match[2] == "FAILED":
                failed.append(name)
            else:
                skipped[name] = match[3] or "ignored"
        elif match := re.match(r"---- (.+) stdout ----$", line):
            output_of = (binary, match[1])
        elif line.startswith("test result:"):
            output_of = None
        elif line.startswith("skipped: ") and output_of in passed:
            skipped.setdefault(output_of, line[len("skipped: ") :])
    return [name for name in passed if name not in skipped], failed, skipped


def main(logs, failed_steps):
    passed, failed, skipped = [], [], {}
    if os.path.exists(path := os.path.join(logs, "cargo.log")):
        with open(path, errors="replace") as file:
            passed, failed, skipped = cargo_results(file.read())
    end_to_end = {"passed": [], "failed": [], "skipped": {}}
    for report in ("e2e.json", "compose.json", "airflow.json"):
        if os.path.exists(path := os.path.join(logs, report)):
            with open(path) as file:
                told = json.load(file)
            for outcome in ("passed", "failed"):
                end_to_end[outcome] += told[outcome]
            end_to_end["skipped"] |= told["skipped"]
    reasons = {}
    for (_, name), reason in skipped.items():
        reasons.setdefault(reason, []).append(name)
    for name, reason in end_to_end["skipped"].items():
        reasons.setdefault(reason, []).append(name)
    for reason, names in sorted(reasons.items()):
        print(f"skipped: {reason}")
        for name in names:
            print(f"    {name}")
    for binary, name in failed:
        print(f"failed: {name} ({binary})")
    for name in end_to_end["failed"]:
        print(f"failed: {name}")
    for name in failed_steps:
        print(f"failed step: {name}")
    failures = len(failed) + len(end_to_end["failed"])
    print(
        f"{len(passed) + len(end_to_end['passed'])} passed, {failures} failed, "
        f"{len(skipped) + len(end_to_end['skipped'])} skipped"
    )
    return 1 if failures or failed_steps else 0


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2:]))
