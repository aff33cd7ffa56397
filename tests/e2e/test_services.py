"""`tests/services/with-services.sh` leaves nothing behind, however it ends."""

import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import unittest

from cluster import ROOT, in_child, wait_until


def listens(address):
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), 1).close()
        return True
    except OSError:
        return False


class Teardown(unittest.TestCase):
    needs = ("ZOOKEEPER_ADDRESS",)  # where one can be had, so can another

    def start(self):
        """A ZooKeeper around a command that waits for its end; its address."""
        folder = tempfile.TemporaryDirectory(prefix="headwater-services-")
        self.addCleanup(folder.cleanup)
        self.told = pathlib.Path(folder.name, "told")
        waits = 'echo "$ZOOKEEPER_ADDRESS $$" >"$0.part" && mv "$0.part" "$0" && exec tail -f /dev/null'
        environment = {name: value for name, value in os.environ.items() if name != "ZOOKEEPER_ADDRESS"}
        self.script = subprocess.Popen(
            [ROOT / "tests/services/with-services.sh", "zookeeper", "--", "sh", "-c", waits, self.told],
            env={**environment, "TMPDIR": folder.name},
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            preexec_fn=in_child,
        )
        self.addCleanup(self.script.wait)
        self.addCleanup(self.script.kill)
        wait_until("the command runs", self.told.exists)
        address, command = self.told.read_text().split()
        self.command = int(command)
        self.addCleanup(self.end_command)
        self.assertTrue(listens(address))
        self.folder = folder.name
        return address

    def end_command(self):
        if self.command_runs():
            os.kill(self.command, signal.SIGKILL)

    def command_runs(self):
        try:
            return b"tail" in pathlib.Path(f"/proc/{self.command}/cmdline").read_bytes()
        except OSError:
            return False

    def test_terminated(self):
        for what, status in [(signal.SIGTERM, 143), (signal.SIGINT, 130)]:
            with self.subTest(what.name):
                address = self.start()
                self.script.send_signal(what)
                self.assertEqual(self.script.wait(60), status)
                self.assertFalse(listens(address), "the service outlived it")
                self.assertFalse(self.command_runs(), "the command outlived it")
                self.assertEqual(list(pathlib.Path(self.folder).glob("services.*")), [], "its folder is left")

    def test_killed(self):
        """Nobody is left to stop the service: it ends by itself."""
        address = self.start()
        self.script.kill()
        self.script.wait()
        wait_until("the service has ended", lambda: not listens(address))
