"""A Cassandra of two nodes: requests go to the node that holds the rows, and one node's death stops nothing."""

import os
import signal
import unittest

import cql
import users
from cluster import Cluster, Flow, wait_until
from services import Service

USERS = 10_000
# Of the bytes that are written or read, what may pass between the nodes: gossip and schema, not rows. Half the rows
# would pass if their coordinator were chosen without a look at the key.
PASSED_ON_MAX = 0.1


class TwoNodes(unittest.TestCase):
    needs = ("KAFKA_ADDRESS", "CASSANDRA_ADDRESS")

    def start(self, copies, **options):
        self.cassandra = Service(self, "cassandra", CASSANDRA_NODES="2")
        self.nodes = self.cassandra.address.split(",")
        self.assertEqual(len(self.nodes), 2)
        replication = f"{{'class': 'SimpleStrategy', 'replication_factor': {copies}}}"
        self.execute(self.nodes[0], f"CREATE KEYSPACE spark_streams WITH replication = {replication}")
        self.cluster = Cluster(self._testMethodName)
        self.addCleanup(self.cluster.stop)
        self.flow = Flow(self._testMethodName, cassandra_options=options)
        self.flow.set_up(self.cluster)

    def execute(self, node, statement):
        with cql.Connection(node) as connection:
            return connection.execute(statement)

    def bytes_passed_on(self):
        """Bytes that the nodes have sent to one another."""
        statement = "SELECT sent_bytes FROM system_views.internode_outbound"
        return sum(sent for node in self.nodes for (sent,) in self.execute(node, statement))

    def written_on(self, node):
        """Writes of the table that this node has carried out."""
        statement = "SELECT keyspace_name, table_name, count FROM system_views.local_write_latency"
        rows = self.execute(node, statement)
        return sum(count for keyspace, table, count in rows if (keyspace, table) == ("spark_streams", self.flow.table))

    def caught_up(self):
        query = self.cluster.queries()[self.flow.name]
        self.assertNotEqual(query["state"], "FAILED", query["message"])
        return query["lag"] == 0 and query["state"] == "WAITING"

    def test_requests_go_to_the_node_that_holds_the_rows(self):
        self.start(copies=1)
        made = list(users.make(USERS, "two nodes"))
        self.flow.produce(self.cluster, made)
        size = sum(len(str(list(user.values()))) for user in made)
        before = self.bytes_passed_on()
        self.cluster.submit(self.flow)
        # Not by a count of the rows: that is what would pass between the nodes.
        wait_until("every user is written", lambda: sum(map(self.written_on, self.nodes)) >= USERS and self.caught_up())
        passed_on = self.bytes_passed_on() - before
        self.assertLess(passed_on, size * PASSED_ON_MAX, f"of {size} bytes written")
        for node in self.nodes:
            self.assertGreater(self.written_on(node), USERS / 10, f"{node} holds its share")

        columns = ", ".join(name for name in made[0] if name != "post_code")
        before = self.bytes_passed_on()
        [row] = self.cluster.sql(
            f"SELECT count(*) AS users, count(DISTINCT id) AS ids, max(length(concat_ws(' ', {columns}))) AS longest "
            f"FROM {self.flow.table}"
        )
        passed_on = self.bytes_passed_on() - before
        self.assertEqual((row["users"], row["ids"]), (USERS, USERS))
        self.assertGreater(row["longest"], 100)
        self.assertLess(passed_on, size * PASSED_ON_MAX, f"of {size} bytes read")
        self.flow.wait_for_ledger(self.cluster, users.ids(made))

    def test_a_query_goes_on_when_one_of_two_nodes_dies(self):
        levels = [f"spark.cassandra.{way}.consistency.level" for way in ("output", "input")]
        self.start(copies=2, **dict.fromkeys(levels, "ONE"))
        made = list(users.make(2000, "before"))
        self.flow.produce(self.cluster, made)
        self.cluster.submit(self.flow)
        wait_until("rows arrive", self.flow.has_rows)
        # The second: the first is whom the ledger is read from.
        os.kill(int((self.cassandra.folder / "cassandra-2.pid").read_text()), signal.SIGKILL)
        more = list(users.make(2000, "while it is dead"))
        self.flow.produce(self.cluster, more)
        made += more
        self.flow.wait_for_ledger(self.cluster, users.ids(made))
        [row] = self.cluster.sql(f"SELECT count(DISTINCT id) AS ids FROM {self.flow.table}")
        self.assertEqual(row["ids"], len(made))

        self.cassandra.revive()
        more = list(users.make(500, "when it is back"))
        self.flow.produce(self.cluster, more)
        self.flow.wait_for_ledger(self.cluster, users.ids(made + more))
