"""Services of a test's own, to be stopped, cut off and revived: the scripts of tests/services."""

import contextlib
import os
import pathlib
import signal
import subprocess
import tempfile
import unittest.mock

from cluster import ROOT


class Service:
    """One instance, started at an address of its own; for the length of a test `NAME_ADDRESS` is that."""

    def __init__(self, test, name, **settings):
        self.name, self.settings = name, settings
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"headwater-{name}-"))
        self.folder.chmod(0o711)  # PostgreSQL runs as another user
        test.addCleanup(self._script, "stop")
        test.addCleanup(self.thaw)
        self.revive()
        self.address = (self.folder / "address").read_text().strip()
        patch = unittest.mock.patch.dict(os.environ, {f"{name.upper()}_ADDRESS": self.address})
        patch.start()
        test.addCleanup(patch.stop)

    def _script(self, what):
        environment = {**os.environ, "HEADWATER_SERVICES_OWNER": str(os.getpid()), **self.settings}
        subprocess.run(
            [ROOT / "tests" / "services" / f"{self.name}.sh", what, self.folder],
            check=True,
            env=environment,
            stdout=subprocess.DEVNULL,
            timeout=120,
        )

    def revive(self):
        """Starts what does not run, with its data."""
        self._script("start")

    def _processes(self):
        """What was started and all below it."""
        parents = {}
        for status in pathlib.Path("/proc").glob("[0-9]*/status"):
            with contextlib.suppress(OSError):
                fields = dict(line.split(":\t", 1) for line in status.read_text().splitlines() if ":\t" in line)
                parents.setdefault(int(fields["PPid"]), []).append(int(fields["Pid"]))
        found = [int(file.read_text()) for file in self.folder.glob("*.pid")]
        for process in found:
            found.extend(parents.get(process, []))
        return found

    def _signal(self, what):
        for process in self._processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, what)

    def freeze(self):
        """It answers nothing any more, and its connections stay open."""
        self._signal(signal.SIGSTOP)

    def thaw(self):
        self._signal(signal.SIGCONT)

    def kill(self):
        self._signal(signal.SIGKILL)
