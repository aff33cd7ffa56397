"""PostgreSQL over TLS, by servers of the test's own: what each sslmode checks, in SQL and in an ingest run."""

import os
import pathlib
import random
import shutil
import subprocess
import tempfile
import unittest

from cluster import ROOT, Cluster, kafka

PASSWORD = "canary+word"
SCRIPT = ROOT / "tests/services/postgres.sh"


def openssl(*arguments):
    subprocess.run(["openssl", *map(str, arguments)], check=True, capture_output=True)


class Authority:
    """Signs certificates."""

    def __init__(self, folder, name):
        self.folder = folder
        self.certificate, self._key = folder / f"{name}.pem", folder / f"{name}-key.pem"
        openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", 2, "-subj", f"/CN={name}", "-keyout", self._key,
                "-out", self.certificate)  # fmt: skip

    def sign(self, name, alternative):
        """Certificate and key of a server by this name, such as `IP:127.0.0.1`."""
        certificate, key, request, extensions = (self.folder / f"{name}.{part}" for part in ("pem", "key", "csr", "cnf"))
        extensions.write_text(f"subjectAltName={alternative}\nbasicConstraints=CA:FALSE\n")
        openssl("req", "-new", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        openssl("x509", "-req", "-in", request, "-days", 2, "-CA", self.certificate, "-CAkey", self._key,
                "-CAcreateserial", "-extfile", extensions, "-out", certificate)  # fmt: skip
        return certificate, key


class Server:
    """A PostgreSQL with a certificate and a password, at a loopback address of its own."""

    def __init__(self, folder, authority, name, alternative):
        self.host = f"127.{random.randint(2, 250)}.{random.randint(2, 250)}.{random.randint(2, 250)}"
        certificate, key = authority.sign(name, alternative or f"IP:{self.host}")
        self._folder = folder / name
        self._environment = {
            **os.environ,
            "POSTGRES_CERTIFICATE": str(certificate),
            "POSTGRES_KEY": str(key),
            "POSTGRES_PASSWORD": PASSWORD,
            "HEADWATER_SERVICES_HOST": self.host,
            "HEADWATER_SERVICES_OWNER": str(os.getpid()),
        }
        self._run("start")
        self.address = (self._folder / "address").read_text().strip()

    def _run(self, what):
        # To a file: what watches over the server would keep a pipe open.
        log = self._folder.with_suffix(".log")
        with open(log, "wb") as output:
            done = subprocess.run([SCRIPT, what, self._folder], env=self._environment, stdout=output, stderr=output)
        assert done.returncode == 0, f"postgres.sh {what}: {log.read_text(errors='replace')}"

    def stop(self):
        self._run("stop")

    def url(self, mode, root=None):
        """An address for this sslmode and file of authorities."""
        more = f"&sslrootcert={root}" if root else ""
        return f"postgresql://postgres:{PASSWORD}@{self.address}/postgres?sslmode={mode}{more}"


class Encrypted(unittest.TestCase):
    # Where there is a PostgreSQL, there are its binaries.
    needs = ("POSTGRES_ADDRESS", "KAFKA_ADDRESS")

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="headwater-tls-"))
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        cls.folder.chmod(0o711)  # the server may run as another user
        cls.ours, cls.others = Authority(cls.folder, "ours"), Authority(cls.folder, "others")
        cls.server = Server(cls.folder, cls.ours, "itself", None)
        cls.addClassCleanup(cls.server.stop)
        cls.elsewhere = Server(cls.folder, cls.ours, "elsewhere", "DNS:elsewhere.example")
        cls.addClassCleanup(cls.elsewhere.stop)
        cls.cluster = Cluster("encrypted")
        cls.addClassCleanup(cls.cluster.stop)

    def table(self, url):
        """A table on what the server says of our connection."""
        name = f"t_{os.urandom(4).hex()}"
        query = "SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()"
        self.cluster.ok("sql", f"CREATE TABLE {name} USING postgres OPTIONS (url '{url}', query '{query}')")
        return name

    def encrypted(self, url):
        """Whether an executor's connection is."""
        [row] = self.cluster.sql(f"SELECT ssl, version FROM {self.table(url)}")
        self.assertEqual(bool(row["version"] or ""), row["ssl"], row)
        return row["ssl"]

    def refused(self, url):
        """Why a read was, without what must not be shown."""
        name = f"t_{os.urandom(4).hex()}"
        made = f"CREATE TABLE {name} USING postgres OPTIONS (url '{url}', query 'SELECT 1 AS one')"
        error = self.cluster.refused("sql", f"{made}; SELECT * FROM {name}")
        self.assertNotIn(PASSWORD, error)
        return error

    def test_what_each_mode_checks(self):
        ours, others = self.ours.certificate, self.others.certificate
        self.assertFalse(self.encrypted(self.server.url("disable")))
        for mode, root in [
            ("prefer", None),
            ("require", None),
            ("require", ours),
            ("verify-ca", ours),
            ("verify-full", ours),
        ]:
            with self.subTest(mode, root=root):
                self.assertTrue(self.encrypted(self.server.url(mode, root)))
        # Who is not to be trusted is not, and the user hears what to look at.
        for mode, root in [("require", others), ("verify-ca", others), ("verify-full", others), ("verify-full", None)]:
            with self.subTest(mode, root=root):
                error = self.refused(self.server.url(mode, root))
                self.assertIn("POSTGRES_TLS_FAILED", error)
                self.assertIn("sslrootcert", error)
        # Trusted, and not who was asked for: verify-full alone minds.
        self.assertTrue(self.encrypted(self.elsewhere.url("verify-ca", ours)))
        error = self.refused(self.elsewhere.url("verify-full", ours))
        self.assertIn("POSTGRES_TLS_FAILED", error)
        self.assertIn(self.elsewhere.host, error)
        error = self.refused(self.server.url("verify-full", self.folder / "nowhere.pem"))
        self.assertIn("nowhere.pem", error)

    def test_an_ingest_run(self):
        """State, staging and both jobs of a run go through TLS; by a wrong authority none is started."""
        topic = f"tls_{os.urandom(4).hex()}"
        replay = subprocess.Popen(
            ["python3", str(ROOT / "tests/services/randomuser.py"), "--owner-stdin"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        self.addCleanup(replay.communicate)
        source = f"http://{replay.stdout.readline().decode().strip()}/api/"
        start = ("ingest", "start", "--source", source, "--users", 200, "--topic", topic, "--kafka", kafka())
        wrong = self.cluster.refused(*start, "--postgres", self.server.url("verify-full", self.others.certificate))
        self.assertIn("POSTGRES_TLS_FAILED", wrong)
        self.assertNotIn(PASSWORD, wrong)
        done = self.cluster.run(*start, "--postgres", self.server.url("verify-full", self.ours.certificate))
        self.assertEqual(done.status, 0, str(done))
        self.assertIn("FINISHED: 200 fetched, 200 staged, 200 published", done.err)
        for log in self.cluster.logs.glob("*.log"):
            self.assertNotIn(PASSWORD, log.read_text(errors="replace"), log)


if __name__ == "__main__":
    unittest.main()
