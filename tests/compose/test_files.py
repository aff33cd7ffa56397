"""The files of compose/: what can be said of them without running what they describe."""

import json
import os
import re
import subprocess
import unittest

from cluster import ROOT, cassandra, environment, kafka
from stack import COMPOSE_FILE, COMPOSES, NO_SETTINGS, needs_engine, run

FOLDER = ROOT / "compose"
PROFILES = ("ha", "zookeeper", "control-center", "monitoring")
# They run once and end.
ONCE = {"setup", "airflow-init"}


def runtime_stage(name):
    text = (FOLDER / name).read_text()
    return text[text.index("FROM ${BASE_IMAGE}") :].splitlines()


class Image(unittest.TestCase):
    def test_what_tests_run_is_what_users_build(self):
        """The two files are equal from the runtime stage on, but for where the binary comes from."""
        real, prebuilt = runtime_stage("Dockerfile"), runtime_stage("Dockerfile.prebuilt")
        self.assertEqual(real[:-1], prebuilt[:-1])
        self.assertEqual(real[-1], "COPY --from=build /headwater /usr/local/bin/headwater")
        self.assertEqual(prebuilt[-1], "COPY headwater /usr/local/bin/headwater")

    def test_any_builder_builds_it(self):
        for name in ("Dockerfile", "Dockerfile.prebuilt", "airflow.Dockerfile"):
            text = (FOLDER / name).read_text()
            for unwanted in ("# syntax", "<<", "--mount", "--link", "@sha256"):
                self.assertNotIn(unwanted, text, name)

    def test_what_the_dependencies_compile_with_is_in_it(self):
        """C++ for librdkafka, and make and perl for the OpenSSL below it."""
        text = (FOLDER / "Dockerfile").read_text()
        build = text[text.index(" AS build") : text.index("FROM ${BASE_IMAGE}")]
        installed = re.search(r"apt-get install .*?--no-install-recommends (.*?)\s*\\\n", build)[1].split()
        self.assertLessEqual({"g++", "make", "perl"}, set(installed))

    def test_every_crate_is_in_it(self):
        members = re.search(r"members = \[(.*?)\]", (ROOT / "Cargo.toml").read_text())[1]
        text = (FOLDER / "Dockerfile").read_text()
        for member in re.findall(r'"(.*?)"', members):
            self.assertIn(f"COPY {member}/Cargo.toml {member}/", text)
            self.assertIn(f"COPY {member}/src {member}/src", text)


class Settings(unittest.TestCase):
    def test_every_variable_is_in_the_example(self):
        used = set(re.findall(r"\$\{([A-Z0-9_]+)", COMPOSE_FILE.read_text()))
        # Without a value: as in .env, or not at all.
        used |= set(re.findall(r"^ +([A-Z0-9_]+):$", COMPOSE_FILE.read_text(), re.MULTILINE))
        told = set(re.findall(r"^(?:# )?([A-Z0-9_]+)=", (FOLDER / ".env.example").read_text(), re.MULTILINE))
        self.assertEqual(used, told)


def parsed(text):
    """YAML as an object, by the Python that Debian's Compose runs on: ours may have no parser."""
    program = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)"
    return json.loads(subprocess.run(["/usr/bin/python3", "-c", program], input=text, capture_output=True, text=True, check=True).stdout)


class Config(unittest.TestCase):
    """`config` of each Compose."""

    def config(self, compose, profiles=(), variables=None, env_file=NO_SETTINGS):
        settings = {**environment(), "COMPOSE_PROFILES": ",".join(profiles), **(variables or {})}
        command = [*COMPOSES[compose], "--env-file", env_file, "-f", str(COMPOSE_FILE), "config"]
        ended = subprocess.run(command, env=settings, capture_output=True, text=True)
        self.assertEqual(ended.returncode, 0, ended.stderr)
        return parsed(ended.stdout)


@needs_engine
class ConfigOfEveryProfile(Config):
    def test_every_profile(self):
        for compose in COMPOSES:
            always = set(self.config(compose)["services"])
            self.assertLessEqual({"scheduler", "executor", "kafka", "cassandra", "postgres", "schema-registry"}, always)
            # Compose 1 prints the services of every profile, whichever is asked for.
            for profiles in [*[(profile,) for profile in PROFILES], PROFILES]:
                services = self.config(compose, profiles)["services"]
                self.assertLessEqual(always, set(services))
                for name, service in services.items():
                    with self.subTest(compose, profiles=profiles, service=name):
                        self.check(name, service)

    def check(self, name, service):
        self.assertIn("mem_limit", service)
        self.assertIn("max-size", service["logging"]["options"])
        if name in ONCE:
            self.assertEqual(service["restart"], "no")
        else:
            self.assertEqual(service["restart"], "unless-stopped")
            self.assertTrue(service["healthcheck"]["test"])
            # What starts is given time, and not by more tries, in which what hangs would pass for healthy.
            self.assertLessEqual(service["healthcheck"]["retries"], 3)
            self.assertIn(service["healthcheck"]["start_period"], ("300s", "5m", "5m0s"))
        for dependency, how in (service.get("depends_on") or {}).items():
            expected = "service_completed_successfully" if dependency in ONCE else "service_healthy"
            self.assertEqual(how["condition"], expected, dependency)
        for port in service.get("ports") or []:
            host = port["host_ip"] if isinstance(port, dict) else port.rsplit(":", 2)[0]
            self.assertEqual(host, "127.0.0.1", "published on loopback alone")

    def test_the_example_has_the_defaults(self):
        example = str(FOLDER / ".env.example")
        for compose in COMPOSES:
            self.assertEqual(self.config(compose, PROFILES), self.config(compose, PROFILES, env_file=example), compose)

    def test_what_is_set_arrives_and_what_is_not_is_absent(self):
        optional = {
            "HEADWATER_MEMORY_LIMIT": "1g",
            "HEADWATER_OTLP_ENDPOINT": "http://traces:4318",
            "HEADWATER_HA": "state-dir",
        }
        defaults = {"HEADWATER_DRAIN_TIMEOUT": "5 seconds", "HEADWATER_SCHEDULER": "scheduler:50050,scheduler-2:50050"}
        both = {*defaults, "HEADWATER_OTLP_ENDPOINT"}
        expected = {
            "scheduler": {*both, "HEADWATER_HA"},
            "scheduler-2": {*both, "HEADWATER_HA"},
            "executor": {*both, "HEADWATER_MEMORY_LIMIT"},
        }
        variables = {**optional, **defaults, "STOP_GRACE_PERIOD": "10s", "KAFKA_ADVERTISED_HOST": "machine"}
        for compose in COMPOSES:
            unset = self.config(compose, PROFILES)["services"]
            services = self.config(compose, PROFILES, variables)["services"]
            for name, names in expected.items():
                environment = services[name]["environment"]
                for variable in names:
                    self.assertEqual(environment[variable], variables[variable], f"{variable} of {name}")
                for variable in optional:
                    self.assertIsNone(unset[name]["environment"].get(variable), f"{variable} of {name}")
                self.assertEqual(services[name]["stop_grace_period"], "10s")
                self.assertIn(unset[name]["stop_grace_period"], ("75s", "1m15s"))
                self.assertEqual(unset[name]["environment"]["HEADWATER_DRAIN_TIMEOUT"], "1 minute")
            self.assertEqual(services["scheduler"]["volumes"], services["scheduler-2"]["volumes"])
            self.assertIn("HOST://machine:9092", services["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"])
            airflow = services["airflow-scheduler"]["environment"]
            connection = json.loads(airflow["AIRFLOW_CONN_HEADWATER_DEFAULT"])
            self.assertEqual(connection["host"], defaults["HEADWATER_SCHEDULER"])
            self.assertEqual(airflow["AIRFLOW__CORE__TEST_CONNECTION"], "Enabled")

    def test_every_secret_can_be_set(self):
        """With each of them set, no default of one is left anywhere."""
        canaries = {
            name: f"canary{name.lower().replace('_', '')}"
            for name in (
                *("POSTGRES_PASSWORD", "AIRFLOW_PASSWORD", "AIRFLOW_JWT_SECRET", "AIRFLOW_SECRET_KEY"),
                *("AIRFLOW_FERNET_KEY", "GRAFANA_PASSWORD", "HEADWATER_CONNECT_TOKEN"),
            )
        }
        secret = re.compile(r"PASSWORD$|SECRET|FERNET|TOKEN$|SQL_ALCHEMY_CONN|POSTGRES$")
        for compose in COMPOSES:
            config = self.config(compose, PROFILES, canaries)
            for name, service in config["services"].items():
                for key, value in (service.get("environment") or {}).items():
                    if secret.search(key) and not key.startswith("AWS_"):
                        self.assertRegex(value or "", "canary", f"{key} of {name}")
            text = json.dumps(config)
            for canary in canaries.values():
                self.assertIn(canary, text)
            self.assertNotIn("change-this", text)


@needs_engine
class ForeignHealth(Config):
    """Health commands of services whose images are not to be had, on the services themselves."""

    def command(self, service):
        test = self.config("v1", PROFILES)["services"][service]["healthcheck"]["test"]
        self.assertEqual(test[0], "CMD")
        return [argument.replace("$$", "$") for argument in test[1:]]

    def check(self, service, place, good, bad):
        command = self.command(service)
        at = lambda where: [argument.replace(place, where) for argument in command]  # noqa: E731
        self.assertNotEqual(at(good), command)
        run(*at(good))
        for wrong in bad:
            ended = subprocess.run(at(wrong), capture_output=True, timeout=30)
            self.assertNotEqual(ended.returncode, 0, f"{wrong} is not {service}")

    def test_kafka_and_cassandra(self):
        if missing := [name for name in ("KAFKA_ADDRESS", "CASSANDRA_ADDRESS") if not os.environ.get(name)]:
            self.skipTest(f"{', '.join(missing)} not set: no such service")
        tcp = lambda address: "/dev/tcp/" + address.replace(":", "/")  # noqa: E731
        closed = "/dev/tcp/127.0.0.1/1"
        self.check("kafka", "/dev/tcp/localhost/9092", tcp(kafka()), [closed, tcp(cassandra())])
        self.check("cassandra", "/dev/tcp/localhost/9042", tcp(cassandra()), [closed, tcp(kafka())])

    def test_schema_registry(self):
        if not (registry := os.environ.get("REGISTRY_ADDRESS")):
            self.skipTest("REGISTRY_ADDRESS not set: no such service")
        self.check("schema-registry", "http://localhost:8081", registry, ["http://127.0.0.1:1"])


class Dashboard(unittest.TestCase):
    """What dashboards show is there."""

    @unittest.skipUnless((ROOT / "docs" / "metrics.md").exists(), "there is no docs/metrics.md")
    def test_every_metric_is_documented(self):
        documented = set(re.findall(r"`(headwater_[a-z0-9_]+)", (ROOT / "docs" / "metrics.md").read_text()))
        self.assertLessEqual(shown(), documented | {f"{name}{part}" for name in documented for part in ("_bucket", "_sum", "_count")})


def shown():
    """Metrics in the expressions of dashboards."""
    names = set()
    for path in (FOLDER / "grafana" / "dashboards").glob("*.json"):
        dashboard = json.loads(path.read_text())
        expressions = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", [])]
        expressions += [variable["query"] for variable in dashboard["templating"]["list"] if variable["type"] == "query"]
        found = {name for text in expressions for name in re.findall(r"headwater_[a-z0-9_]+", text)}
        assert found, f"{path} shows nothing of ours"
        names |= found
    return names
