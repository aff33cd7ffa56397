"""A canary: a recognisable secret in every option that takes one, then a search for it in all that people can see.

The services of the tests ask for no login, so what they are given goes all the way and everything works. What fails
is tried too: a message of an error is where secrets get out.
"""

import os
import pathlib
import unittest
import urllib.request

import cql
import pg
from cluster import Cluster, cassandra, kafka, produce, wait_until

CANARY = f"canary{os.urandom(6).hex()}"
# Where nobody listens: discard.
NOWHERE = "127.0.0.1:9"


class Canary(unittest.TestCase):
    needs = ("KAFKA_ADDRESS", "CASSANDRA_ADDRESS", "POSTGRES_ADDRESS", "S3_ADDRESS", "REGISTRY_ADDRESS")

    def setUp(self):
        name = f"canary_{os.urandom(4).hex()}"
        self.topic, self.table, self.bucket = f"{name}_topic", name, name.replace("_", "-")
        endpoint = f"http://{os.environ['S3_ADDRESS']}"
        urllib.request.urlopen(urllib.request.Request(f"{endpoint}/{self.bucket}", method="PUT"), timeout=10).close()
        with cql.Connection(cassandra()) as connection:
            connection.execute(
                "CREATE KEYSPACE IF NOT EXISTS spark_streams WITH replication = "
                "{'class': 'SimpleStrategy', 'replication_factor': 1}"
            )
            connection.execute(f"CREATE TABLE spark_streams.{self.table} (id bigint PRIMARY KEY)")
        with pg.Connection(os.environ["POSTGRES_ADDRESS"]) as connection:
            connection.execute(f"CREATE TABLE {self.table} (id bigint PRIMARY KEY)")
            connection.execute(f"INSERT INTO {self.table} VALUES (1), (2)")
        self.cluster = Cluster(
            self._testMethodName,
            HEADWATER_LOG="debug",
            HEADWATER_CONNECT_TOKEN=f"token-{CANARY}",
            HEADWATER_POSTGRES=f"postgresql://postgres:{CANARY}@{os.environ['POSTGRES_ADDRESS']}/postgres",
        )
        self.addCleanup(self.cluster.stop)
        self.cluster.ok("topic", "create", self.topic, "--partitions", 2, "--kafka", kafka())
        secrets = self.cluster.folder / "secrets"
        secrets.mkdir()
        (secrets / "db").write_text(f"{CANARY}\n")
        # Values of another option of this kind, so that each place is searched for both forms.
        self.tables = f"""
            CREATE TABLE source USING kafka OPTIONS (
              'kafka.bootstrap.servers' '{kafka()}', subscribe '{self.topic}', startingOffsets 'earliest',
              'kafka.sasl.username' 'alice', 'kafka.sasl.password' '{CANARY}', 'kafka.ssl.key.password' '{CANARY}');
            CREATE TABLE sink USING cassandra OPTIONS (
              'spark.cassandra.connection.host' '{cassandra()}', keyspace 'spark_streams', table '{self.table}',
              'spark.cassandra.auth.username' 'alice', 'spark.cassandra.auth.password' '{CANARY}',
              'headwater.deadLetter.topic' '{self.topic}_dead',
              'headwater.deadLetter.kafka.bootstrap.servers' '{kafka()}',
              'headwater.deadLetter.kafka.sasl.password' '{CANARY}');
            CREATE TABLE database USING postgres OPTIONS (
              url 'postgresql://postgres:{CANARY}@{os.environ["POSTGRES_ADDRESS"]}/postgres', dbtable '{self.table}');
            CREATE TABLE jdbc USING jdbc OPTIONS (
              url 'jdbc:postgresql://{os.environ["POSTGRES_ADDRESS"]}/postgres?password={CANARY}',
              user 'postgres', dbtable '{self.table}');
            CREATE TABLE files USING parquet OPTIONS (
              path 's3://{self.bucket}/files', 'fs.s3a.access.key' 'AKIA{CANARY}', 'fs.s3a.secret.key' '{CANARY}',
              'fs.s3a.session.token' '{CANARY}', 'fs.s3a.endpoint' '{endpoint}', 'fs.s3a.endpoint.region' 'us-east-1',
              'fs.s3a.path.style.access' 'true');
        """
        self.seen = {}

    def see(self, what, text):
        self.seen[what] = self.seen.get(what, "") + text

    def run_and_see(self, *arguments):
        """Whatever the command does: both streams are kept."""
        result = self.cluster.run(*arguments)
        self.see(f"headwater {' '.join(str(argument)[:40] for argument in arguments)}", result.out + result.err)
        return result

    def test_a_secret_reaches_nothing_that_people_see(self):
        checkpoint = self.cluster.folder / "checkpoint"
        flow = self.cluster.file(
            "canary.sql",
            self.tables
            + """CREATE FLOW canary AS INSERT INTO sink SELECT CAST(CAST(value AS STRING) AS BIGINT) AS id
                 FROM STREAM(source);""",
        )
        started = self.run_and_see("submit", flow, "--detach", "--checkpoint", checkpoint.as_uri())
        self.assertEqual(started.status, 0, str(started))
        produce(self.cluster, self.topic, ["1", "2", "3"])
        wait_until("the stream has written", lambda: self.written() == 3)

        # What works.
        for statement in (
            "SELECT count(*) FROM database",
            "SELECT count(*) FROM jdbc",
            "INSERT INTO files SELECT * FROM database",
            "SELECT count(*) FROM files",
            "SELECT count(*) FROM sink",
            "SELECT count(*) FROM source",
            f"""SELECT from_avro(CAST('x' AS BINARY), 'none-value', map('schema.registry.url',
                'http://{os.environ["REGISTRY_ADDRESS"]}', 'confluent.schema.registry.basic.auth.credentials.source',
                'USER_INFO', 'confluent.schema.registry.basic.auth.user.info', 'alice:{CANARY}'))""",
        ):
            self.run_and_see("sql", statement)
        for table in ("source", "sink", "database", "jdbc", "files"):
            for statement in (
                f"SHOW CREATE TABLE {table}",
                f"DESCRIBE EXTENDED {table}",
                f"EXPLAIN SELECT * FROM {table}",
                f"EXPLAIN EXTENDED SELECT * FROM {table}",
            ):
                self.run_and_see("sql", statement)
        self.run_and_see("sql", "SHOW TABLES")
        self.assertEqual(self.cluster.sql("SELECT count(*) AS n FROM files"), [{"n": 2}])

        # What fails: nobody there, a login where none is served, an option that there is not, text that is no SQL.
        for statement in (
            f"CREATE TABLE away1 USING postgres OPTIONS (url 'postgresql://u:{CANARY}@{NOWHERE}/d?connect_timeout=1', "
            "dbtable 't', retries '0'); SELECT * FROM away1",
            f"CREATE TABLE away2 USING cassandra OPTIONS ('spark.cassandra.connection.host' '{NOWHERE}', keyspace 'k', "
            f"table 't', 'spark.cassandra.auth.username' 'u', 'spark.cassandra.auth.password' '{CANARY}', "
            "'spark.cassandra.connection.timeoutMS' '500'); SELECT * FROM away2",
            f"CREATE TABLE away3 USING kafka OPTIONS ('kafka.bootstrap.servers' '{kafka()}', subscribe '{self.topic}', "
            "'kafka.security.protocol' 'SASL_PLAINTEXT', 'kafka.sasl.mechanism' 'PLAIN', 'kafka.sasl.username' 'u', "
            f"'kafka.sasl.password' '{CANARY}', 'kafka.default.api.timeout.ms' '2000'); SELECT * FROM away3",
            f"CREATE TABLE odd1 USING kafka OPTIONS ('kafka.bootstrap.servers' '{kafka()}', subscribe 't', "
            f"'kafka.sasl.jaas.config' 'x required username=\"u\" password=\"{CANARY}\";'); SELECT * FROM odd1",
            f"CREATE TABLE odd2 USING cassandra OPTIONS (keyspace 'k', table 't', 'my.password' '{CANARY}'); "
            "SELECT * FROM odd2",
            f"CREATE TABLE odd3 USING parquet OPTIONS (path 's3://{self.bucket}/none', 'fs.s3a.secret.key' '{CANARY}', "
            f"'fs.s3a.access.key' '{CANARY}', 'fs.s3a.endpoint' 'http://{NOWHERE}', "
            "'fs.s3a.endpoint.region' 'us-east-1'); SELECT * FROM odd3",
        ):
            result = self.run_and_see("sql", statement)
            self.assertNotEqual(result.status, 0, str(result))
        self.run_and_see("ingest", "list")
        self.run_and_see(
            *("ingest", "start", "--users", "1", "--topic", "t", "--kafka", NOWHERE, "--source", f"http://{NOWHERE}/api/"),
            *("--postgres", f"postgresql://u:{CANARY}@{NOWHERE}/d?connect_timeout=1"),
        )

        for command in ("list", "status canary", "progress canary", "stop canary"):
            self.run_and_see("query", *command.split(), "--json")
            self.run_and_see("query", *command.split())
        for path in (
            *("/metrics", "/api/v1/queries", "/api/v1/queries/canary", "/api/v1/queries/canary/progress"),
            *("/api/v1/executors", "/api/v1/ingest"),
        ):
            self.see(path, self.cluster.get(path))
        for process in [self.cluster.scheduler, *self.cluster.executors]:
            self.see(f"log of {process.log.name}", process.text())
        for file in pathlib.Path(checkpoint).rglob("*"):
            if file.is_file():
                self.see(f"checkpoint file {file.relative_to(checkpoint)}", file.read_bytes().decode(errors="replace"))
        self.assertGreater(len([what for what in self.seen if what.startswith("checkpoint file")]), 3)
        self.assertIn("canary", self.seen["/api/v1/queries"], "something was looked at")
        leaks = {what: text for what, text in self.seen.items() if CANARY in text}
        excerpts = [f"{what}: …{text[max(0, text.index(CANARY) - 200) :][:400]}…" for what, text in leaks.items()]
        self.assertFalse(leaks, "\n".join(excerpts))

    def test_an_option_that_names_a_secret_is_kept_as_a_name(self):
        """The scheduler's folder of secrets; nothing in the state directory holds the text."""
        self.cluster.scheduler.terminate(30)
        self.cluster.start_scheduler(HEADWATER_SECRETS_DIR=str(self.cluster.folder / "secrets"))
        self.cluster.wait_for_executors(2)
        flow = self.cluster.file(
            "named.sql",
            f"""CREATE TABLE made USING `rate-micro-batch` OPTIONS (rowsPerBatch '10');
            CREATE TABLE kept USING postgres OPTIONS (
              url 'postgresql://postgres:${{secret:db}}@{os.environ["POSTGRES_ADDRESS"]}/postgres', dbtable '{self.table}');
            CREATE FLOW named AS INSERT INTO kept SELECT value AS id FROM STREAM(made);""",
        )
        self.cluster.ok("submit", flow, "--detach")
        wait_until("two batches", lambda: self.cluster.queries()["named"]["batchId"] >= 2)
        self.cluster.ok("query", "stop", "named")
        files = [file for file in pathlib.Path(self.cluster.state).rglob("*") if file.is_file()]
        self.assertGreater(len(files), 5)
        for file in files:
            self.assertNotIn(CANARY.encode(), file.read_bytes(), file)
        err = self.cluster.refused(
            "sql",
            "CREATE TABLE no USING postgres OPTIONS (url 'postgresql://h/d', user 'u', password '${secret:none}', "
            "dbtable 't'); SELECT * FROM no",
        )
        self.assertIn("SECRET_NOT_FOUND", err)
        self.assertIn("--secrets-dir", err)

    def written(self):
        with cql.Connection(cassandra()) as connection:
            return connection.execute(f"SELECT count(*) FROM spark_streams.{self.table}")[0][0]


if __name__ == "__main__":
    unittest.main()
