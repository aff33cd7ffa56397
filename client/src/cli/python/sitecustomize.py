"""Python imports this at its start when `headwater submit` runs a script: it lets scripts that were written for
`spark-submit` run over Spark Connect as they are.

Nothing is imported and nothing changes unless the script imports pyspark; then, module by module as they are loaded:

* `spark.sparkContext` exists: `setLogLevel`, `appName`, `version`, `addPyFile` and the like work, RDDs say why not;
* `.master(...)` is ignored instead of refused, since `headwater submit` says where the script runs;
* settings of `--conf` are the session's, beneath those that the script sets itself;
* each streaming query that is started is written down, for `headwater submit` to list or to stop;
* with `--detach`, waiting for a query without a limit of time ends the script instead.

`settings.json` beside this file says what was asked for. A `sitecustomize` that would have been imported without this
one is imported too.
"""

import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(HERE, "settings.json"), encoding="utf-8") as _file:
    SETTINGS = json.load(_file)


# --- what stands in for a SparkContext ---


class Conf:
    """Settings of the session, as `SparkContext.getConf()` gives them: a copy, to be read."""

    def __init__(self, values):
        self._values = values

    def get(self, key, defaultValue=None):
        return self._values.get(key, defaultValue)

    def contains(self, key):
        return key in self._values

    def getAll(self):
        return list(self._values.items())

    def toDebugString(self):
        return "\n".join(f"{key}={value}" for key, value in sorted(self._values.items()))


class Context:
    """What a `SparkContext` can be without a JVM: facts of the session, and calls that ask for less than an RDD."""

    PACKAGE_EXTENSIONS = (".zip", ".egg", ".jar")

    def __init__(self, session):
        self._session = session
        self._properties = {}

    def _setting(self, key, default=None):
        value = self._session.conf.get(key, None)
        return default if value is None else value

    @property
    def appName(self):
        return self._setting("spark.app.name", "pyspark-shell")

    @property
    def version(self):
        return self._session.version

    @property
    def master(self):
        return os.environ.get("SPARK_REMOTE", "")

    @property
    def applicationId(self):
        return f"headwater-{self._session.session_id}"

    @property
    def uiWebUrl(self):
        return SETTINGS.get("ui")

    @property
    def defaultParallelism(self):
        return int(self._setting("spark.default.parallelism") or self._setting("spark.sql.shuffle.partitions") or 2)

    @property
    def defaultMinPartitions(self):
        return min(self.defaultParallelism, 2)

    @property
    def startTime(self):
        return SETTINGS["started"]

    @property
    def pythonVer(self):
        return "%d.%d" % sys.version_info[:2]

    @property
    def pythonExec(self):
        return sys.executable

    def sparkUser(self):
        import getpass

        return getpass.getuser()

    def getConf(self):
        known = getattr(self._session.conf, "getAll", None)
        if known is None:
            from pyspark.sql.connect.proto import ConfigRequest

            operation = ConfigRequest.Operation(get_all=ConfigRequest.GetAll())
            known = dict(self._session.client.config(operation).pairs)
        return Conf({**known, "spark.app.id": self.applicationId, "spark.master": self.master})

    def setLogLevel(self, logLevel):
        levels = ("ALL", "DEBUG", "ERROR", "FATAL", "INFO", "OFF", "TRACE", "WARN")
        if str(logLevel).upper() not in levels:
            raise ValueError(f"log level {logLevel} is none of {', '.join(levels)}")

    def addPyFile(self, path):
        self._session.addArtifacts(path, pyfile=True)
        place = path if path.endswith(self.PACKAGE_EXTENSIONS) else os.path.dirname(os.path.abspath(path))
        if place not in sys.path:
            sys.path.insert(1, place)

    def addFile(self, path, recursive=False):
        if recursive:
            raise ValueError("addFile(recursive=True) is not served over Spark Connect: add the files one by one")
        self._session.addArtifacts(path, file=True)

    def addArchive(self, path):
        self._session.addArtifacts(path, archive=True)

    def setLocalProperty(self, key, value):
        self._properties[key] = value

    def getLocalProperty(self, key):
        return self._properties.get(key)

    def setJobGroup(self, groupId, description, interruptOnCancel=False):
        self.clearJobTags()
        self._session.addTag(groupId)
        self.setJobDescription(description)

    def setJobDescription(self, value):
        self.setLocalProperty("spark.job.description", value)

    def cancelJobGroup(self, groupId):
        self._session.interruptTag(groupId)

    def cancelAllJobs(self):
        self._session.interruptAll()

    def addJobTag(self, tag):
        self._session.addTag(tag)

    def removeJobTag(self, tag):
        self._session.removeTag(tag)

    def getJobTags(self):
        return self._session.getTags()

    def clearJobTags(self):
        self._session.clearTags()

    def cancelJobsWithTag(self, tag):
        self._session.interruptTag(tag)

    def setCheckpointDir(self, dirName):
        """DataFrame.checkpoint() keeps its rows where the scheduler keeps its own state."""

    def stop(self):
        self._session.stop()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def __repr__(self):
        return f"<SparkContext master={self.master} appName={self.appName}>"

    def __getattr__(self, name):
        raise AttributeError(
            f"sparkContext.{name} needs a JVM, which Headwater has none of: use DataFrames, such as "
            "spark.createDataFrame in place of parallelize, spark.read.text in place of textFile"
        )


# --- what changes in each of PySpark's modules, once that is loaded ---


def patch_connect_session(module):
    session = module.SparkSession

    def context(self):
        known = self.__dict__.get("_headwater_context")
        if known is None:
            known = self.__dict__["_headwater_context"] = Context(self)
        return known

    session.sparkContext = property(context)

    def with_conf(build):
        def wrapped(self):
            active = getattr(session, "getActiveSession", None)
            # What the script has set at run time stays.
            if build.__name__ == "create" or active is None or active() is None:
                for key, value in SETTINGS["conf"].items():
                    self._options.setdefault(key, value)
            return build(self)

        wrapped.__name__ = build.__name__
        wrapped.__doc__ = build.__doc__
        return wrapped

    for name in ("getOrCreate", "create"):
        if hasattr(session.Builder, name):
            setattr(session.Builder, name, with_conf(getattr(session.Builder, name)))


def patch_session(module):
    builder = module.SparkSession.Builder
    validate = builder._validate_startup_urls

    def without_master(self):
        self._options.pop("spark.master", None)
        return validate(self)

    builder._validate_startup_urls = without_master


def patch_context(module):
    context = module.SparkContext

    def get_or_create(cls, conf=None):
        from pyspark.sql import SparkSession

        builder = SparkSession.builder
        for key, value in conf.getAll() if conf is not None else []:
            builder = builder.config(key, value)
        return builder.getOrCreate().sparkContext

    def refused(self, *_, **__):
        raise RuntimeError(
            "SparkContext(...) needs a JVM, which Headwater has none of: use SparkSession.builder.getOrCreate(), whose "
            "sparkContext has what does without RDDs"
        )

    context.getOrCreate = classmethod(get_or_create)
    context.__init__ = refused


def patch_writer(module):
    start = module.DataStreamWriter._start_internal
    names = [SETTINGS["name"]] if SETTINGS.get("name") else []

    def recorded(self, *arguments, **options):
        # The first query that the script gives no name is the one that the command line names.
        if names and not options.get("queryName") and not self._write_proto.query_name:
            self.queryName(names.pop())
        query = start(self, *arguments, **options)
        line = json.dumps({"id": query.id, "runId": query.runId, "name": query.name or None}) + "\n"
        place = os.open(os.path.join(HERE, "queries.jsonl"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(place, line.encode())
        finally:
            os.close(place)
        return query

    module.DataStreamWriter._start_internal = recorded


def patch_query(module):
    if not SETTINGS.get("detach"):
        return

    def leaving(wait):
        def wrapped(self, timeout=None):
            if timeout is not None:
                return wait(self, timeout)
            sys.stdout.flush()
            sys.stderr.flush()
            # Not an exception: a `finally` of the script would stop the query that is to go on.
            os._exit(0)

        wrapped.__doc__ = wait.__doc__
        return wrapped

    module.StreamingQuery.awaitTermination = leaving(module.StreamingQuery.awaitTermination)
    module.StreamingQueryManager.awaitAnyTermination = leaving(module.StreamingQueryManager.awaitAnyTermination)


PATCHES = {
    "pyspark.sql.connect.session": patch_connect_session,
    "pyspark.sql.session": patch_session,
    "pyspark.sql.connect.streaming.readwriter": patch_writer,
    "pyspark.sql.connect.streaming.query": patch_query,
    # Where the class is in 3.5, and in 4.x.
    "pyspark.context": patch_context,
    "pyspark.core.context": patch_context,
}


class Patching(importlib.abc.Loader):
    """The module's own loader, and the patch once it has run."""

    def __init__(self, loader, patch):
        self._loader = loader
        self._patch = patch

    def create_module(self, spec):
        return self._loader.create_module(spec)

    def exec_module(self, module):
        self._loader.exec_module(module)
        self._patch(module)

    def __getattr__(self, name):
        return getattr(self._loader, name)


class Finder(importlib.abc.MetaPathFinder):
    """Finds what the other finders find."""

    def find_spec(self, name, path, target=None):
        patch = PATCHES.get(name)
        if patch is None:
            return None
        for finder in sys.meta_path:
            find = None if finder is self else getattr(finder, "find_spec", None)
            spec = find(name, path, target) if find else None
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = Patching(spec.loader, patch)
                return spec
        return None


# --- a Python without PySpark ---

PACKAGES = ("pyspark", "grpc", "grpc_status", "google", "pandas", "pyarrow", "numpy", "zstandard", "distutils")


def is_incomplete(error):
    if isinstance(error, ModuleNotFoundError):
        return (error.name or "").split(".")[0] in PACKAGES
    return isinstance(error, ImportError) and ("PACKAGE_NOT_INSTALLED" in str(error) or "must be installed" in str(error))


def with_hint(show):
    def hook(kind, error, trace):
        show(kind, error, trace)
        if is_incomplete(error):
            extra = " setuptools" if getattr(error, "name", None) == "distutils" else ""
            print(
                f"\nheadwater: {sys.executable} lacks a part of PySpark's Spark Connect client; install it with:\n"
                f"  {sys.executable} -m pip install 'pyspark[connect]'{extra}\n"
                "or name another Python with --python",
                file=sys.stderr,
            )

    return hook


def chain():
    """The sitecustomize that this one stands before."""
    places = [place for place in sys.path if os.path.abspath(place or os.curdir) != HERE]
    spec = importlib.machinery.PathFinder.find_spec("sitecustomize", places)
    if spec is not None and spec.loader is not None:
        module = importlib.util.module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


sys.meta_path.insert(0, Finder())
sys.excepthook = with_hint(sys.excepthook)
chain()
