"""Runs the end-to-end tests: test_*.py beside this file, or in another folder, which may use what is beside this file.

usage: run.py [-k PATTERN] [--jobs N] [--report FILE] [--logs FOLDER] [--tests FOLDER] [--list]

Modules run beside each other, as many as there are processors unless --jobs says otherwise, each in a process of its
own whose output is printed when it has ended.

HEADWATER_BIN names the binary. A test class lists in `needs` the environment variables (KAFKA_ADDRESS,
CASSANDRA_ADDRESS) without which it is skipped; under HEADWATER_REQUIRE_SERVICES=1 it fails instead. The report is
JSON: names that passed, names that failed, reasons of those skipped by name.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
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


def load(modules, pattern):
    loader = unittest.TestLoader()
    if pattern:
        loader.testNamePatterns = [f"*{pattern}*"]
    return loader.loadTestsFromNames(modules)


def run_here(suite):
    """Runs the tests in this process; their outcomes."""
    names = [test.id() for test in cases(suite)]
    results = unittest.TextTestRunner(sys.stdout, verbosity=2, resultclass=Results).run(suite)
    outcomes = results.outcomes
    # When a class could not be set up, none of its tests ran.
    told = {*outcomes["passed"], *outcomes["failed"], *outcomes["skipped"]}
    outcomes["failed"] += [name for name in names if name not in told]
    return outcomes


def run_apart(tests, module, names, pattern):
    """Runs a module in a process of its own, prints what it printed when it has ended; its outcomes."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="headwater-e2e-") as folder:
        report, output = pathlib.Path(folder, "report.json"), pathlib.Path(folder, "output")
        command = [sys.executable, "-u", __file__, "--tests", tests, "--module", module, "--report", report]
        with open(output, "wb") as file:
            status = subprocess.run(
                [*command, *(["-k", pattern] if pattern else [])], stdout=file, stderr=subprocess.STDOUT, check=False
            ).returncode
        text = output.read_text(errors="replace")
        print(f"-- {module}, {time.monotonic() - began:.0f} s\n{text}", end="", flush=True)
        if not report.exists():
            print(f"{module} ended with status {status} before its report", flush=True)
            return {"passed": [], "failed": names, "skipped": {}}
        outcomes = json.loads(report.read_text())
    if status != 0 and not outcomes["failed"]:
        outcomes["failed"].append(f"{module}: exit status {status}")
    return outcomes


def run_beside(tests, modules, jobs, pattern):
    """Runs the modules, `jobs` at a time; the outcomes of all."""
    names = {module: [test.id() for test in cases(load([module], pattern))] for module in modules}
    modules = [module for module in modules if names[module]]
    together = {"passed": [], "failed": [], "skipped": {}}

    def add(outcomes):
        together["passed"] += outcomes["passed"]
        together["failed"] += outcomes["failed"]
        together["skipped"].update(outcomes["skipped"])

    # The demo first and alone: it makes what it needs, which others have made once they have run.
    for module in [module for module in modules if module == "test_demo"]:
        add(run_apart(tests, module, names[module], pattern))
    # The largest next, so that it is not the last to end.
    rest = sorted(
        (module for module in modules if module != "test_demo"),
        key=lambda module: -(tests / f"{module}.py").stat().st_size,
    )
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        for outcomes in pool.map(lambda module: run_apart(tests, module, names[module], pattern), rest):
            add(outcomes)
    return together


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("-k", dest="pattern")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--module", help="this module alone, in this process")
    parser.add_argument("--report")
    parser.add_argument("--logs")
    parser.add_argument("--tests", type=pathlib.Path, default=HERE)
    parser.add_argument("--list", action="store_true", help="print the names of the tests, and run none")
    arguments = parser.parse_args()
    if arguments.logs:
        os.environ["HEADWATER_TEST_LOGS"] = arguments.logs
    sys.path[:0] = dict.fromkeys([str(arguments.tests.resolve()), str(HERE)])
    modules = [arguments.module] if arguments.module else sorted(path.stem for path in arguments.tests.glob("test_*.py"))
    suite = load(modules, arguments.pattern)
    if arguments.list:
        print(*(test.id() for test in cases(suite)), sep="\n")
        return 0
    skip_what_lacks_services(suite)
    # Nothing is left behind when CI takes the job away: of all exceptions, unittest lets this one through. The modules'
    # processes are in our group and get the signal themselves.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if arguments.module:
        outcomes = run_here(suite)
    else:
        outcomes = run_beside(arguments.tests, modules, max(arguments.jobs, 1), arguments.pattern)
    if arguments.report:
        with open(arguments.report, "w") as file:
            json.dump(outcomes, file, indent=2)
    counts = {name: len(which) for name, which in outcomes.items()}
    print(f"end to end: {counts['passed']} passed, {counts['failed']} failed, {counts['skipped']} skipped")
    for name in outcomes["failed"]:
        print(f"  failed: {name}")
    return 1 if outcomes["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
