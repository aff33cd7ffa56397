"""pytest's reports as tests/report.py reads them: names that passed, names that failed, reasons of those skipped by name.

usage: report.py FOLDER, in which each *.xml is one of pytest's --junitxml; JSON goes to stdout.
"""

import json
import pathlib
import sys
import xml.etree.ElementTree as xml


def main(folder):
    outcomes = {"passed": [], "failed": [], "skipped": {}}
    for file in sorted(pathlib.Path(folder).glob("*.xml")):
        for case in xml.parse(file).iter("testcase"):
            name = f"airflow {file.stem}: {case.get('classname')}.{case.get('name')}"
            skipped = case.find("skipped")
            if skipped is not None:
                outcomes["skipped"][name] = skipped.get("message", "no reason given")
            elif case.find("failure") is not None or case.find("error") is not None:
                outcomes["failed"].append(name)
            else:
                outcomes["passed"].append(name)
    json.dump(outcomes, sys.stdout, indent=2)


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
