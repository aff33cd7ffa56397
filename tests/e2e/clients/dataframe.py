"""The DataFrame API, case by case: what stock PySpark gets from a server, as JSON by name of case.

usage: dataframe.py URL [PATTERN ...]       asks a server of Spark Connect
       dataframe.py record FILE             asks Apache Spark in this Python (4.3 carries it), and keeps its answers

Run by test_connect_dataframe.py under each client's Python; the answers of Apache Spark are in
tests/golden/spark-answers/dataframe-api.json. A case whose name ends in `_4` is for clients of 4.x.
"""

import datetime
import decimal
import json
import os
import re
import sys
import tempfile

import pyspark
from pyspark.sql import Row, SparkSession, Window
from pyspark.sql import functions as F
from pyspark.sql import types as T

CASES = {}


def case(function):
    CASES[function.__name__] = function
    return function


def people(spark):
    return spark.createDataFrame(
        [(1, "Ann", "eng", 100.0), (2, "Bob", "eng", 80.5), (3, "Cid", "ops", 70.0), (4, None, "ops", None), (5, "Eve", None, 55.25)],
        "id INT, name STRING, dept STRING, pay DOUBLE",
    )


def depts(spark):
    return spark.createDataFrame([("eng", "Berlin"), ("hr", "Oslo"), ("ops", "Rome")], "dept STRING, city STRING")


def nested(spark):
    schema = "k INT, a ARRAY<INT>, m MAP<STRING, INT>, s STRUCT<x: INT, y: STRING>, l ARRAY<STRUCT<p: INT, q: STRING>>"
    return spark.createDataFrame(
        [
            (1, [3, 1, None], {"a": 1}, Row(x=1, y="one"), [Row(p=1, q="u"), Row(p=2, q="v")]),
            (2, [], {}, Row(x=None, y="two"), []),
            (3, None, None, None, None),
        ],
        schema,
    )


@case
def schema_of_created(spark):
    return nested(spark)


@case
def create_types(spark):
    schema = T.StructType([
        T.StructField("b", T.BooleanType()), T.StructField("y", T.ByteType()), T.StructField("h", T.ShortType()),
        T.StructField("l", T.LongType(), False), T.StructField("f", T.FloatType()), T.StructField("d", T.DecimalType(10, 2)),
        T.StructField("x", T.BinaryType()), T.StructField("day", T.DateType()), T.StructField("t", T.TimestampType()),
        T.StructField("n", T.TimestampNTZType()),
    ])
    row = (True, 1, 2, 3, 1.5, decimal.Decimal("12.34"), bytearray(b"ab"), datetime.date(2024, 2, 29),
           datetime.datetime(2024, 1, 2, 3, 4, 5, 678), datetime.datetime(2024, 1, 2, 3, 4, 5))
    return spark.createDataFrame([row, tuple([None] * 3 + [9] + [None] * 6)], schema)


@case
def empty(spark):
    return spark.createDataFrame([], "a INT, b STRING")


@case
def range_(spark):
    return spark.range(3)


@case
def range_steps(spark):
    return spark.range(10, 0, -3)


@case
def range_count(spark):
    return spark.range(1000).count()


@case
def select_expressions(spark):
    return people(spark).select("id", F.col("pay") * 2, (F.col("id") + 1).alias("next"), F.lit("x"), F.upper("name"), "*")


@case
def select_case_insensitive(spark):
    return people(spark).select("ID", F.col("NAME"), F.col("Pay").cast("int"))


@case
def select_expr(spark):
    return people(spark).selectExpr("id", "pay / 2", "CAST(pay AS INT)", "id % 2 = 0 AS even", "upper(name)", "CASE WHEN id > 2 THEN 'big' ELSE 'small' END")


@case
def select_duplicate_names(spark):
    return people(spark).select("id", "id", F.lit(1).alias("id"))


@case
def operators(spark):
    c = F.col("id")
    return people(spark).select(-c, c - 1, c / 2, c % 2, ~(c > 2), (c > 1) & (c < 4), (c == 1) | (c == 2), c.eqNullSafe(3), c != 3, c.isin(1, 2), c.between(2, 3), 10 - c)


@case
def column_methods(spark):
    n = F.col("name")
    return people(spark).select(n.isNull(), n.isNotNull(), n.startswith("A"), n.endswith("b"), n.contains("v"), n.like("A%"), n.rlike("^[AB]"), n.substr(1, 2))


@case
def when_otherwise(spark):
    return people(spark).select(F.when(F.col("id") < 2, "one").when(F.col("id") < 4, "few").otherwise("many").alias("w"), F.when(F.col("id") == 1, 1))


@case
def filter_column(spark):
    return people(spark).filter(F.col("pay") > 60).select("id")


@case
def filter_text(spark):
    return people(spark).where("dept = 'eng' AND pay >= 80.5").select("name")


@case
def filter_after_select(spark):
    return people(spark).select("name").filter(F.col("id") > 3)


@case
def sort_by_what_is_not_selected(spark):
    return people(spark).select("name").orderBy(F.col("id").desc())


@case
def sort_nulls(spark):
    return people(spark).orderBy("dept", F.desc("pay")).select("id", "dept", "pay")


@case
def sort_nulls_last(spark):
    return people(spark).orderBy(F.col("dept").asc_nulls_last(), F.col("pay").desc_nulls_first()).select("id")


@case
def limit_offset(spark):
    return spark.range(10).orderBy("id").offset(2).limit(3)


@case
def head_tail(spark):
    df = spark.range(10).orderBy("id")
    return [str(df.head(2)), str(df.tail(2)), str(df.first()), str(df.take(1))]


@case
def group_aggregate(spark):
    return people(spark).groupBy("dept").agg(F.count("*"), F.sum("pay"), F.avg("pay").alias("mean"), F.max("name"), F.countDistinct("name")).orderBy("dept")


@case
def group_short(spark):
    return people(spark).groupBy("dept").count().orderBy("dept")


@case
def group_dict(spark):
    return people(spark).groupBy("dept").agg({"pay": "max"}).orderBy("dept")


@case
def group_by_expression(spark):
    return people(spark).groupBy((F.col("id") % 2).alias("odd"), F.col("dept").isNull()).agg(F.sum("id")).orderBy("odd", "sum(id)")


@case
def group_expression_over_aggregates(spark):
    return people(spark).groupBy("dept").agg((F.sum("pay") / F.count("pay")).alias("r"), (F.max("id") - F.min("id"))).orderBy("dept")


@case
def aggregate_all(spark):
    return people(spark).agg(F.sum("id"), F.min("pay"), F.first("name"))


@case
def select_aggregate(spark):
    return people(spark).select(F.count("pay"), F.max("id") + 1)


@case
def rollup(spark):
    return people(spark).rollup("dept", "name").agg(F.sum("id")).orderBy("dept", "name", "sum(id)")


@case
def cube(spark):
    return people(spark).cube("dept").agg(F.sum("id"), F.grouping("dept")).orderBy("dept", "sum(id)")


@case
def pivot_values(spark):
    return people(spark).groupBy("id").pivot("dept", ["eng", "ops"]).agg(F.sum("pay")).orderBy("id")


@case
def pivot_found(spark):
    return people(spark).filter("dept IS NOT NULL").groupBy("id").pivot("dept").agg(F.max("pay").alias("m"), F.count("name").alias("n")).orderBy("id")


@case
def distinct(spark):
    return people(spark).select("dept").distinct().orderBy("dept")


@case
def drop_duplicates(spark):
    return people(spark).dropDuplicates(["dept"]).groupBy().count()


@case
def with_column(spark):
    return people(spark).withColumn("double", F.col("pay") * 2).withColumn("ID", F.col("id") * 10).withColumnRenamed("name", "who").drop("dept", "nope")


@case
def with_columns(spark):
    return spark.range(2).withColumns({"a": F.col("id") + 1, "b": F.lit("x")})


@case
def drop_column(spark):
    df = people(spark)
    return df.drop(df.pay).drop(F.col("name"))


@case
def to_df(spark):
    return spark.range(2).toDF("n")


@case
def join_using(spark):
    return people(spark).join(depts(spark), "dept").orderBy("id")


@case
def join_types(spark):
    left, right = people(spark).select("id", "dept"), depts(spark)
    return [
        str(left.join(right, "dept", how).orderBy("dept", *(["id"] if how not in () else [])).collect())
        for how in ("left", "right", "full", "leftsemi", "leftanti")
    ]


@case
def join_condition(spark):
    left, right = people(spark), depts(spark)
    return left.join(right, left.dept == right.dept, "left").select(left.id, right.dept, "city").orderBy("id")


@case
def join_condition_all_columns(spark):
    left, right = people(spark), depts(spark)
    return left.join(right, (left.dept == right.dept) & (left.id > 1)).orderBy("id")


@case
def join_self(spark):
    a, b = people(spark).alias("a"), people(spark).alias("b")
    return a.join(b, F.col("a.dept") == F.col("b.dept")).where("a.id < b.id").select("a.id", "b.id", "a.name")


@case
def join_self_by_frame(spark):
    df = people(spark)
    other = df.filter(df.id > 1).select((df.id - 1).alias("before"), "name")
    return df.join(other, df.id == other.before).select(df.name, other.name).orderBy(df.id)


@case
def join_using_hidden(spark):
    left, right = people(spark), depts(spark)
    return left.join(right, "dept", "left").select("id", right.dept).orderBy("id")


@case
def join_cross(spark):
    return spark.range(2).crossJoin(spark.range(2).toDF("n")).orderBy("id", "n")


@case
def union(spark):
    return people(spark).select("id").union(spark.range(2)).orderBy("id")


@case
def union_by_name(spark):
    one = spark.createDataFrame([(1, "a")], "x INT, y STRING")
    two = spark.createDataFrame([("b", 2)], "y STRING, X INT")
    return one.unionByName(two).orderBy("x")


@case
def union_missing(spark):
    one = spark.createDataFrame([(1, "a")], "x INT, y STRING")
    two = spark.createDataFrame([(2, 2.5)], "x INT, z DOUBLE")
    return one.unionByName(two, allowMissingColumns=True).orderBy("x")


@case
def set_operations(spark):
    one = spark.createDataFrame([(1,), (1,), (2,), (None,)], "x INT")
    two = spark.createDataFrame([(1,), (None,), (3,)], "x INT")
    return [str(sorted(df.collect(), key=str)) for df in (one.intersect(two), one.exceptAll(two), one.intersectAll(two), one.subtract(two))]


@case
def window_functions(spark):
    w = Window.partitionBy("dept").orderBy(F.col("pay").desc())
    return people(spark).select("id", F.row_number().over(w).alias("n"), F.rank().over(w), F.lag("id").over(w).alias("before"), F.sum("pay").over(Window.partitionBy("dept")).alias("all")).orderBy("id")


@case
def window_frames(spark):
    w = Window.orderBy("id").rowsBetween(-1, Window.currentRow)
    return spark.range(4).select("id", F.sum("id").over(w), F.max("id").over(Window.orderBy("id").rangeBetween(-1, 1))).orderBy("id")


@case
def explode(spark):
    return nested(spark).select("k", F.explode("a"))


@case
def explode_outer(spark):
    return nested(spark).select("k", F.explode_outer("a").alias("x")).orderBy("k", "x")


@case
def explode_map(spark):
    return nested(spark).select("k", F.explode("m"))


@case
def explode_map_named(spark):
    return nested(spark).select(F.explode("m").alias("name", "value"), "k")


@case
def posexplode(spark):
    return nested(spark).select("k", F.posexplode("a"))


@case
def inline(spark):
    return nested(spark).select("k", F.inline("l"))


@case
def explode_in_with_column(spark):
    return nested(spark).withColumn("x", F.explode("a")).select("k", "x")


@case
def nested_fields(spark):
    return nested(spark).filter("k = 1").select("s.x", F.col("s")["y"], F.col("s.y").alias("z"), F.col("a")[0], F.col("m")["a"], "l.p", F.col("s").getField("x"))


@case
def star_of_struct(spark):
    return nested(spark).select("k", "s.*")


@case
def with_field(spark):
    return nested(spark).select(F.col("s").withField("z", F.lit(1)).alias("s"), F.col("s").dropFields("x").alias("t"))


@case
def higher_order(spark):
    return nested(spark).select(F.transform("a", lambda x: x + 1), F.filter("a", lambda x: x > 1).alias("f"), F.exists("a", lambda x: x == 3).alias("e"))


@case
def struct_and_array(spark):
    return spark.range(1).select(F.struct("id", (F.col("id") + 1).alias("n"), F.lit("x")).alias("s"), F.array("id", F.lit(5)).alias("a"), F.create_map(F.lit("k"), "id").alias("m"))


@case
def na_fill(spark):
    return people(spark).na.fill({"name": "?", "pay": 0.0}).na.fill("none", ["dept"])


@case
def na_fill_all(spark):
    return people(spark).fillna(0)


@case
def na_drop(spark):
    return [people(spark).dropna().count(), people(spark).dropna("all").count(), people(spark).dropna(thresh=3).count(), people(spark).dropna(subset=["dept"]).count()]


@case
def na_replace(spark):
    return people(spark).replace({"Ann": "Anna", "Bob": None}, subset=["name"]).replace(1, 100)


@case
def describe(spark):
    return people(spark).describe("id", "name")


@case
def summary(spark):
    return people(spark).select("id", "pay").summary("count", "min", "50%", "max")


@case
def statistics(spark):
    df = spark.createDataFrame([(1, 2.0), (2, 4.5), (3, 5.0)], "a INT, b DOUBLE")
    return [round(df.stat.cov("a", "b"), 9), round(df.stat.corr("a", "b"), 9), df.stat.approxQuantile("a", [0.0, 0.5, 1.0], 0.0), df.approxQuantile(["a", "b"], [0.5], 0.0)]


@case
def crosstab(spark):
    return people(spark).crosstab("dept", "id").orderBy("dept_id")


@case
def freq_items(spark):
    df = spark.createDataFrame([(1,), (1,), (1,), (2,)], "a INT")
    return df.freqItems(["a"], 0.6)


@case
def sample(spark):
    df = spark.range(1000)
    one, two = df.sample(0.1, seed=7).count(), df.sample(0.1, seed=7).count()
    return [one == two, 50 < one < 160]


@case
def random_split(spark):
    one, two = spark.range(100).randomSplit([0.5, 0.5], seed=3)
    return [one.count() + two.count(), one.intersect(two).count()]


@case
def unpivot(spark):
    df = spark.createDataFrame([(1, 10, 20.5), (2, 30, None)], "id INT, a INT, b DOUBLE")
    return df.unpivot("id", ["a", "b"], "what", "value").orderBy("id", "what")


@case
def melt_all(spark):
    return spark.createDataFrame([(1, 10, 20)], "id INT, a INT, b INT").melt(["id"], None, "what", "value").orderBy("what")


@case
def to_schema(spark):
    return spark.range(2).withColumn("s", F.lit("x")).to(T.StructType([T.StructField("s", T.StringType()), T.StructField("id", T.StringType()), T.StructField("new", T.IntegerType())]))


@case
def sql_text(spark):
    return spark.sql("SELECT 1 AS a, 'x' AS b")


@case
def sql_parameters(spark):
    return [str(spark.sql("SELECT :n + 1 AS a, :s AS s", args={"n": 4, "s": "it's"}).collect()), str(spark.sql("SELECT ? AS a", args=[2.5]).collect())]


@case
def temp_views(spark):
    people(spark).createOrReplaceTempView("people")
    first = spark.sql("SELECT dept, count(*) AS n FROM people GROUP BY dept ORDER BY dept")
    spark.table("people").filter("id > 3").createOrReplaceTempView("people")
    return [str(first.collect()), spark.table("PEOPLE").count(), str(spark.sql("SELECT p.name FROM people p WHERE p.ID = 5").collect())]


@case
def global_view(spark):
    spark.range(2).createOrReplaceGlobalTempView("some_global")
    return spark.table("global_temp.some_global")


@case
def catalog_calls(spark):
    people(spark).createOrReplaceTempView("v_catalog")
    found = [t.name for t in spark.catalog.listTables() if t.name == "v_catalog"]
    columns = [(c.name, c.dataType, c.nullable) for c in spark.catalog.listColumns("v_catalog")]
    answers = [found, str(columns), spark.catalog.currentDatabase(), spark.catalog.tableExists("v_catalog"), spark.catalog.tableExists("nope")]
    answers += [spark.catalog.databaseExists("default"), spark.catalog.databaseExists("nope"), spark.catalog.functionExists("upper")]
    return answers + [spark.catalog.dropTempView("v_catalog"), spark.catalog.tableExists("v_catalog")]


@case
def observe_names(spark):
    return people(spark).select(F.count("*"), F.count(F.lit(1)), F.countDistinct("id", "dept"), F.sum_distinct("id"), F.avg("pay"), F.stddev("pay").alias("s"), F.collect_list("id").alias("l"))


@case
def names_of_casts(spark):
    return people(spark).select(F.col("id").cast("string"), (F.col("id") + 1).cast("long"), F.concat(F.col("id").cast("string"), F.lit("x")))


@case
def dates(spark):
    df = spark.createDataFrame([(datetime.date(2024, 2, 29),)], "d DATE")
    return df.select(F.year("d"), F.date_add("d", 1), F.datediff(F.lit("2024-03-01"), "d"), F.to_date(F.lit("2024-01-02")), F.last_day("d"))


@case
def write_and_read(spark):
    folder = tempfile.mkdtemp()
    answers = []
    for form in ("parquet", "json", "csv"):
        path = f"{folder}/{form}"
        writer = people(spark).write.format(form)
        (writer.option("header", True) if form == "csv" else writer).save(path)
        reader = spark.read.format(form).schema("id INT, name STRING, dept STRING, pay DOUBLE")
        df = (reader.option("header", True) if form == "csv" else reader).load(path)
        answers.append(str(df.orderBy("id").collect()))
    return answers


@case
def write_modes(spark):
    path = tempfile.mkdtemp() + "/t"
    spark.range(2).write.parquet(path)
    answers = [error_class(lambda: spark.range(2).write.parquet(path))]
    spark.range(3).write.mode("append").parquet(path)
    answers.append(spark.read.parquet(path).count())
    spark.range(5).write.mode("ignore").parquet(path)
    answers.append(spark.read.parquet(path).count())
    spark.range(1).write.mode("overwrite").parquet(path)
    return answers + [spark.read.parquet(path).count()]


@case
def write_partitioned(spark):
    path = tempfile.mkdtemp() + "/t"
    people(spark).filter("dept IS NOT NULL").write.partitionBy("dept").parquet(path)
    return [sorted(name for name in os.listdir(path) if name.startswith("dept=")), str(spark.read.parquet(path).select("id", "dept").orderBy("id").collect())]


@case
def write_empty(spark):
    folder = tempfile.mkdtemp()
    nobody = people(spark).filter("id > 9").select("id", "name")
    nobody.write.parquet(folder + "/parquet")
    nobody.write.option("header", True).csv(folder + "/csv")
    nobody.write.json(folder + "/json")
    answers = [str(spark.read.parquet(folder + "/parquet").schema), str(spark.read.option("header", True).csv(folder + "/csv").schema)]
    answers.append([len([name for name in os.listdir(f"{folder}/{form}") if name.startswith("part-")]) for form in ("parquet", "csv", "json")])
    answers.append([spark.read.parquet(folder + "/parquet").count(), spark.read.json(folder + "/json").count()])
    people(spark).write.parquet(folder + "/full")
    people(spark).filter("id > 9").write.mode("append").parquet(folder + "/full")
    answers.append(spark.read.parquet(folder + "/full").count())
    people(spark).filter("id > 9").write.mode("overwrite").parquet(folder + "/full")
    return answers + [spark.read.parquet(folder + "/full").count(), spark.read.parquet(folder + "/full").columns]


@case
def write_unknown_format(spark):
    path = tempfile.mkdtemp() + "/t"
    writer = lambda mode: spark.range(1).write.format("nope").mode(mode)  # noqa: E731
    return [error_class(lambda: writer(mode).save(path)) for mode in ("error", "append", "overwrite", "ignore")] + [os.path.exists(path)]


@case
def required_fields(spark):
    inner = T.StructType([T.StructField("a", T.IntegerType(), False), T.StructField("b", T.StringType(), False)])
    schema = T.StructType([T.StructField("k", T.IntegerType()), T.StructField("s", inner), T.StructField("l", T.ArrayType(inner))])
    path = tempfile.mkdtemp() + "/t"
    spark.createDataFrame([(1, (5, "x"), [(1, "y"), None]), (2, None, None)], schema).write.parquet(path)
    read = spark.read.parquet(path)
    answers = [str(read.select("k", "s.a", "s.b", F.isnull("s.b"), "l.a").orderBy("k").collect())]
    return answers + [read.filter("s.a = 0").count(), str(read.select(F.inline("l")).collect())]


def intervals(spark):
    return spark.sql("SELECT INTERVAL '1 00:00:05' DAY TO SECOND AS t, INTERVAL '1-2' YEAR TO MONTH AS m, named_struct('l', array(INTERVAL '0 00:00:01.5' DAY TO SECOND, NULL)) AS n, CAST(NULL AS INTERVAL DAY TO SECOND) AS z")


@case
def show_intervals(spark):
    texts = [intervals(spark)._show_string(20, False, False), intervals(spark)._show_string(20, False, True)]
    return texts + [spark.sql("SELECT INTERVAL '1' DAY AS d, INTERVAL '05' SECOND AS s, INTERVAL '3' MONTH AS m, make_interval(1, 2, 0, 3) AS c")._show_string(20, False, False)]


@case
def write_intervals(spark):
    folder = tempfile.mkdtemp()
    intervals(spark).write.parquet(folder + "/parquet")
    read = spark.read.parquet(folder + "/parquet")
    answers = [str(read.schema), str(read.select("t", "n", "z").collect()), str(read.selectExpr("CAST(m AS STRING)").collect())]
    answers.append(read.filter("t > INTERVAL '1' DAY AND m < INTERVAL '2' YEAR").count())
    intervals(spark).write.json(folder + "/json")
    intervals(spark).select("t", "m").write.csv(folder + "/csv")
    answers += [[tuple(row) for row in spark.read.text(folder + form).collect()] for form in ("/json", "/csv")]
    calendar = spark.sql("SELECT make_interval(1, 2, 0, 3) AS c")
    return answers + [error_class(lambda: getattr(calendar.write, form)(f"{folder}/no/{form}")) for form in ("parquet", "json", "csv")]


@case
def intervals_as_json(spark):
    return intervals(spark).select(F.to_json(F.struct("t", "m", "n")).alias("j"))


@case
def save_as_table(spark):
    spark.sql("DROP TABLE IF EXISTS df_saved")
    people(spark).write.saveAsTable("df_saved")
    answers = [spark.table("df_saved").count(), error_class(lambda: people(spark).write.saveAsTable("df_saved"))]
    people(spark).write.mode("append").saveAsTable("df_saved")
    answers.append(spark.table("df_saved").count())
    people(spark).limit(1).write.mode("overwrite").saveAsTable("df_saved")
    answers.append(spark.table("df_saved").count())
    spark.table("df_saved").limit(0).write.insertInto("df_saved")
    spark.sql("DROP TABLE df_saved")
    return answers + [spark.catalog.tableExists("df_saved")]


@case
def show_text(spark):
    return people(spark)._show_string(3, 20, False)


@case
def show_truncated(spark):
    return spark.createDataFrame([("a text that is quite long, really", 1.0)], "a STRING, b DOUBLE")._show_string(20, 10, False)


@case
def show_whole(spark):
    return nested(spark)._show_string(20, False, False)


@case
def show_vertical(spark):
    return people(spark)._show_string(2, 20, True)


@case
def show_values(spark):
    df = spark.sql("SELECT 1.0D AS d, 1e20D AS e, CAST(1.50 AS DECIMAL(5,2)) AS x, true AS t, DATE'2024-01-02' AS day, X'4142' AS b, CAST(NULL AS INT) AS n, array(1, NULL) AS a")
    return df._show_string(20, 20, False)


@case
def print_schema(spark):
    return spark.createDataFrame([], nested(spark).schema).schema.treeString() if hasattr(T.StructType, "treeString") else None


@case
def columns_and_types(spark):
    df = nested(spark)
    return [df.columns, [list(t) for t in df.dtypes], df.isEmpty(), df.filter("k > 9").isEmpty()]


@case
def col_regex(spark):
    return people(spark).select(people(spark).colRegex("`(id|name)`"))


@case
def session_zone(spark):
    spark.conf.set("spark.sql.session.timeZone", "America/New_York")
    try:
        return spark.sql("SELECT TIMESTAMP'2024-07-01 12:00:00' AS t")._show_string(20, 20, False)
    finally:
        spark.conf.set("spark.sql.session.timeZone", "UTC")


def error_class(work):
    """The class of what is raised. Clients of 3.5 know it by the message alone."""
    try:
        work()
    except Exception as error:
        ask = getattr(error, "getCondition", None) or getattr(error, "getErrorClass", None)
        told = re.match(r"\W*\[([A-Z0-9_.]+)\]", str(error))
        return (ask() if ask else None) or (told.group(1) if told else type(error).__name__)
    return None


@case
def errors(spark):
    df, other = people(spark), depts(spark)
    return {
        "column": error_class(lambda: df.select("nope").schema),
        "ambiguous": error_class(lambda: df.join(other, df.dept == other.dept).select("dept").schema),
        "table": error_class(lambda: spark.table("no_such_table").schema),
        "function": error_class(lambda: df.select(F.expr("no_such_function(id)")).schema),
        "union": error_class(lambda: df.union(other).schema),
        "not grouped": error_class(lambda: df.groupBy("dept").agg(F.col("id")).schema),
        "syntax": error_class(lambda: df.filter("id >").schema),
        "using": error_class(lambda: df.join(other, "nope").schema),
        "boolean": error_class(lambda: df.filter(F.col("name")).schema),
        "view": error_class(lambda: (df.createOrReplaceTempView("v_twice"), df.createTempView("v_twice"))),
    }


@case
def to_pandas(spark):
    return str(people(spark).select("id", "name").orderBy("id").toPandas().to_dict("list"))


@case
def checkpoint(spark):
    return spark.range(3).localCheckpoint().orderBy("id")


@case
def chained(spark):
    df = spark.range(1)
    for n in range(40):
        df = df.withColumn(f"c{n}", F.col("id") + n)
    return [len(df.columns), str(df.select("c39").collect())]


def shown(value):
    """An answer that JSON can hold: of a DataFrame its columns and rows."""
    if hasattr(value, "collect"):
        # 3.5 has no conf for what binary values are.
        rows = [str(row).replace("bytearray(b'ab')", "b'ab'") for row in value.collect()]
        return {"schema": value.schema.simpleString(), "rows": rows}
    return value


def answer(spark, work):
    try:
        # Numbers of NumPy, which 3.5 returns for some, are numbers.
        return json.loads(json.dumps(shown(work(spark)), default=lambda value: value.item()))
    except Exception as error:
        return {"error": error_class(lambda: (_ for _ in ()).throw(error)), "message": str(error).split("\n")[0][:300]}


def main():
    new = pyspark.__version__.startswith("4")
    target, *patterns = sys.argv[1:]
    builder = SparkSession.builder.config("spark.sql.session.timeZone", "UTC")
    if target == "record":
        # Spark's own server of Spark Connect, in a process that ends with this one.
        folder = tempfile.mkdtemp()
        builder = builder.config("spark.sql.shuffle.partitions", "1").config("spark.ui.enabled", "false")
        builder = builder.config("spark.sql.warehouse.dir", folder + "/warehouse").config("spark.checkpoint.dir", folder)
        spark = builder.remote("local[1]").getOrCreate()
    else:
        spark = builder.remote(target).getOrCreate()
        spark.conf.set("spark.sql.session.timeZone", "UTC")
    names = [name for name in CASES if (new or not name.endswith("_4")) and (target == "record" or not patterns or any(p in name for p in patterns))]
    answers = {name: answer(spark, CASES[name]) for name in names}
    if target == "record":
        with open(patterns[0], "w") as file:
            json.dump(answers, file, indent=1, ensure_ascii=False, sort_keys=True)
            file.write("\n")
    else:
        print(json.dumps(answers))


if __name__ == "__main__":
    main()
