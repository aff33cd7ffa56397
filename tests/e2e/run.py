"""Runs the end-to-end tests: test_*.py beside this file, or in another folder, which may use what is beside this file.

usage: run.py [-k PATTERN] [--report FILE] [--logs FOLDER] [--tests FOLDER] [--list]

HEADWATER_BIN names the binary. A test class lists in `needs` the environment variables (KAFKA_ADDRESS,
CASSANDRA_ADDRESS) without which it is skipped; under HEADWATER_REQUIRE_SERVICES=1 it fails instead. The report is
JSON: names that passed, names that failed, reasons of those skipped by name.
"""

import argparse
import json
import os
import pathlib
import signal
import sys
import time
import unittest

HERE = pathlib.Path(__file__).resolve().parent


class Results(unittest.TextTestResult):
    """Remembers each outcome, and says how long each test took."""

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.outcomes = {"passed": [], "failed": [], "skipped": {}}

    def startTest(self, test):
        self._began = time.monotonic()
        super().startTest(test)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.stream.writeln(f"    {time.monotonic() - self._began:.1f} s")
        self.outcomes["passed"].append(test.id())

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.outcomes["skipped"][test.id()] = reason

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.outcomes["failed"].append(test.id())
        self.stream.writeln(self._exc_info_to_string(error, test))

    def addError(self, test, error):
        super().addError(test, error)
        self.outcomes["failed"].append(test.id())
        self.stream.writeln(self._exc_info_to_string(error, test))


def cases(suite):
    for test in suite:
        if isinstance(test, unittest.TestSuite):
            yield from cases(test)
        else:
            yield test


def skip_what_lacks_services(suite):
    required = os.environ.get("HEADWATER_REQUIRE_SERVICES") == "1"
    for kind in {type(test) for test in cases(suite)}:
        missing = [name for name in getattr(kind, "needs", ()) if not os.environ.get(name)]
        if missing and required:
            sys.exit(f"{kind.__name__} needs {', '.join(missing)}, and HEADWATER_REQUIRE_SERVICES=1")
        if missing:
            unittest.skip(f"{', '.join(missing)} not set: no such service")(kind)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-k", dest="pattern")
    parser.add_argument("--report")
    parser.add_argument("--logs")
    parser.add_argument("--tests", type=pathlib.Path, default=HERE)
    parser.add_argument("--list", action="store_true", help="print the names of the tests, and run none")
    arguments = parser.parse_args()
    if arguments.logs:
        os.environ["HEADWATER_TEST_LOGS"] = arguments.logs
    sys.path[:0] = dict.fromkeys([str(arguments.tests.resolve()), str(HERE)])
    loader = unittest.TestLoader()
    if arguments.pattern:
        loader.testNamePatterns = [f"*{arguments.pattern}*"]
    # The demo first: it makes what it needs, which others have made once they have run.
    modules = sorted((path.stem for path in arguments.tests.glob("test_*.py")), key=lambda name: (name != "test_demo", name))
    suite = loader.loadTestsFromNames(modules)
    if arguments.list:
        print(*(test.id() for test in cases(suite)), sep="\n")
        return 0
    skip_what_lacks_services(suite)
    # Nothing is left behind when CI takes the job away: of all exceptions, unittest lets this one through.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    names = [test.id() for test in cases(suite)]
    results = unittest.TextTestRunner(sys.stdout, verbosity=2, resultclass=Results).run(suite)
    outcomes = results.outcomes
    # When a class could not be set up, none of its tests ran.
    told = {*outcomes["passed"], *outcomes["failed"], *outcomes["skipped"]}
    outcomes["failed"] += [name for name in names if name not in told]
    if arguments.report:
        with open(arguments.report, "w") as file:
            json.dump(outcomes, file, indent=2)
    return 0 if results.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
