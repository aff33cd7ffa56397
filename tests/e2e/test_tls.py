"""Kafka and Cassandra that want TLS and a login: a stream from the one to the other, and what is said when it cannot be."""

import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest
import uuid

from cluster import ROOT, Cluster, wait_until

SERVICES = ROOT / "tests" / "services"
KAFKA_LOGIN = ("bob", "bob-secret")
CASSANDRA_LOGIN = ("cassandra", "cassandra")


def options(pairs):
    return ", ".join(f"'{name}' '{value}'" for name, value in pairs.items())


def jaas(user, password):
    module = "org.apache.kafka.common.security.scram.ScramLoginModule"
    return f'{module} required username="{user}" password="{password}";'


class Guarded(unittest.TestCase):
    """Services of its own, since those of the other tests ask for nothing."""

    needs = ("KAFKA_ADDRESS", "CASSANDRA_ADDRESS")

    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp(prefix="headwater-tls-"))
        cls.folder.chmod(0o711)
        cls.addClassCleanup(shutil.rmtree, cls.folder, ignore_errors=True)
        variables = {**os.environ, "KAFKA_SECURITY": "1", "CASSANDRA_SECURITY": "1"}
        variables["HEADWATER_SERVICES_OWNER"] = str(os.getpid())
        starts = []
        for service in ("kafka", "cassandra"):
            script, folder = SERVICES / f"{service}.sh", cls.folder / service
            cls.addClassCleanup(subprocess.run, [script, "stop", folder], env=variables, check=False)
            starts.append(subprocess.Popen([script, "start", folder], env=variables))
        statuses = [start.wait() for start in starts]
        assert statuses == [0, 0], "kafka.sh and cassandra.sh with security did not start"
        cls.cluster = Cluster("tls")
        cls.addClassCleanup(cls.cluster.stop)

    def address(self, file):
        return (self.folder / file).read_text().strip()

    def kafka(self, **others):
        user = {
            "kafka.bootstrap.servers": self.address("kafka/address.sasl_ssl"),
            "kafka.security.protocol": "SASL_SSL",
            "kafka.ssl.truststore.location": str(self.folder / "kafka/ca.pem"),
            "kafka.sasl.mechanism": "SCRAM-SHA-256",
            "kafka.sasl.jaas.config": jaas(*KAFKA_LOGIN),
        }
        return {**user, **others}

    def cassandra(self, table, **others):
        user, password = CASSANDRA_LOGIN
        secure = {
            "keyspace": "guarded",
            "table": table,
            "spark.cassandra.connection.host": self.address("cassandra/address"),
            "spark.cassandra.auth.username": user,
            "spark.cassandra.auth.password": password,
            "spark.cassandra.connection.ssl.enabled": "true",
            "spark.cassandra.connection.ssl.trustStore.path": str(self.folder / "cassandra/ca.pem"),
        }
        return {**secure, **others}

    def test_a_stream_from_scram_over_tls_to_cassandra_over_tls(self):
        name = f"guarded_{os.urandom(4).hex()}"
        plain = self.address("kafka/address")
        self.cluster.ok("topic", "create", name, "--partitions", 2, "--kafka", plain)
        ids = [str(uuid.uuid4()) for _ in range(200)]
        source = {**self.kafka(), "subscribe": name, "startingOffsets": "earliest"}
        # Java's PKCS12 of a trusted certificate, as the connector's users have it.
        store = self.folder / "trust.p12"
        subprocess.run(
            ["keytool", "-importcert", "-noprompt", "-alias", "ca", "-file", self.folder / "cassandra/ca.pem"]
            + ["-storetype", "PKCS12", "-keystore", store, "-storepass", "trust-secret"],
            check=True,
            capture_output=True,
        )
        sink = self.cassandra(
            name,
            **{
                "spark.cassandra.connection.ssl.trustStore.path": str(store),
                "spark.cassandra.connection.ssl.trustStore.password": "trust-secret",
                "headwater.ssl.verifyHost": "true",
                "headwater.createTable": "true",
                "headwater.primaryKey": "id",
                "createTableColumnTypes": "id uuid",
            },
        )
        self.cluster.ok(
            "sql",
            f"CREATE TABLE {name}_out USING kafka OPTIONS ({options({**self.kafka(), 'topic': name})})",
        )
        values = ", ".join(f"('{one}')" for one in ids)
        self.cluster.ok("sql", f"INSERT INTO {name}_out SELECT id AS value FROM VALUES {values} AS t(id)")
        self.cluster.submit_text(
            name,
            f"""CREATE TABLE {name}_in USING kafka OPTIONS ({options(source)});
            CREATE TABLE {name} USING cassandra OPTIONS ({options(sink)});
            CREATE FLOW {name} AS INSERT INTO {name} SELECT CAST(value AS STRING) AS id FROM STREAM({name}_in);""",
        )

        def settled():
            query = self.cluster.queries()[name]
            self.assertIn(query["state"], ("RUNNING", "WAITING"), query["message"])
            return query["lag"] == 0 and query["batchId"] >= 0

        wait_until("all records are carried over", settled)
        # Read back with the certificate's authority as PEM.
        self.cluster.ok("sql", f"CREATE TABLE {name}_back USING cassandra OPTIONS ({options(self.cassandra(name))})")
        found = self.cluster.sql(f"SELECT id FROM {name}_back")
        self.assertEqual(sorted(row["id"] for row in found), sorted(ids))

    def refusal(self, provider, pairs):
        name = f"wrong_{os.urandom(4).hex()}"
        self.cluster.ok("sql", f"CREATE TABLE {name} USING {provider} OPTIONS ({options(pairs)})")
        told = self.cluster.refused("sql", f"SELECT * FROM {name}")
        for _, password in (KAFKA_LOGIN, ("", "not-the-password")):
            self.assertNotIn(password, told)
        return told

    def test_what_is_wrong_is_said(self):
        other = str(self.folder / "cassandra/ca.pem")
        told = self.refusal("kafka", {**self.kafka(**{"kafka.ssl.truststore.location": other}), "subscribe": "t"})
        self.assertIn("KAFKA_NOT_AUTHENTICATED", told)
        self.assertIn("certificate", told)
        wrong = jaas("bob", "not-the-password")
        told = self.refusal("kafka", {**self.kafka(**{"kafka.sasl.jaas.config": wrong}), "subscribe": "t"})
        self.assertIn("KAFKA_NOT_AUTHENTICATED", told)
        trust = "spark.cassandra.connection.ssl.trustStore.path"
        told = self.refusal("cassandra", self.cassandra("t", **{trust: str(self.folder / "kafka/ca.pem")}))
        self.assertIn("CASSANDRA_TLS_FAILED", told)
        self.assertIn(trust, told)
        told = self.refusal("cassandra", self.cassandra("t", **{trust: "/nowhere.pem"}))
        self.assertIn("/nowhere.pem", told)
        told = self.refusal("cassandra", self.cassandra("t", **{"spark.cassandra.auth.password": "not-the-password"}))
        self.assertIn("CASSANDRA_AUTHENTICATION_FAILED", told)


if __name__ == "__main__":
    unittest.main()
