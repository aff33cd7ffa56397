"""The cases: what is asked of Apache Spark, whose answers are recorded, and of Headwater, whose answers are compared.

A case is SQL text or a function of `spark` that returns a DataFrame; its name is `group.name`. In the texts below a
line is a case, `name: SQL`; an indented line goes on with the one before it. In `EXPRESSIONS` a line is several,
`name: a ;; b`, short for `name.1: SELECT a AS c` and `name.2: SELECT b AS c`. `[key=value]` in front sets a conf for
this line alone. Rows are compared in order where the text ends with an ORDER BY or the function is marked `@ordered`,
and sorted otherwise. `function_cases.py` has more of the same, function by function.
"""

import datetime
import decimal
import re
import tempfile

import function_cases

# Temporary views that every case can read.
VIEWS = {
    "emp": """SELECT * FROM VALUES
        (1, 'Ann', 'eng', 100.0D, DATE'2020-01-15', true), (2, 'Bob', 'eng', 80.5D, DATE'2019-03-01', false),
        (3, 'Cid', 'ops', 70.0D, DATE'2021-07-30', NULL), (4, 'Dee', 'ops', NULL, NULL, true),
        (5, NULL, NULL, 55.25D, DATE'2022-12-31', false), (6, 'Eve', 'eng', 80.5D, DATE'2020-02-29', true)
        AS t(id, name, dept, pay, hired, active)""",
    "dept": "SELECT * FROM VALUES ('eng', 'Berlin', 10), ('hr', 'Oslo', 3), (NULL, 'Nowhere', NULL) AS t(dept, city, size)",
    "nums": """SELECT * FROM VALUES (1, 10L, 1.5D, 1.10BD), (2, -20L, -0.0D, -2.25BD), (NULL, NULL, NULL, NULL),
        (-3, 30L, double('NaN'), 3.999BD), (2147483647, 9223372036854775807L, double('Infinity'), 99.999BD)
        AS t(i, l, d, x)""",
    "strs": """SELECT * FROM VALUES (1, 'Hello World'), (2, ''), (3, NULL), (4, '  pad  '), (5, 'ünïcödé'),
        (6, 'a,b,,c'), (7, '42'), (8, 'x%y_z') AS t(k, s)""",
    "times": """SELECT k, CAST(ts AS TIMESTAMP) AS ts, CAST(d AS DATE) AS d, CAST(ts AS TIMESTAMP_NTZ) AS n FROM VALUES
        (1, '2024-02-29 12:34:56.789123', '2024-02-29'), (2, '1969-12-31 23:59:59.5', '1969-12-31'), (3, NULL, NULL),
        (4, '2024-03-31 02:30:00', '2024-12-30'), (5, '0001-01-01 00:00:00', '0001-01-01'),
        (6, '2021-01-03 00:00:00', '2021-01-03') AS t(k, ts, d)""",
    "nested": """SELECT * FROM VALUES
        (1, array(3, 1, NULL, 2), map('a', 1, 'b', NULL), named_struct('x', 1, 'y', 'one'), array(named_struct('p', 1, 'q', 'u'), named_struct('p', 2, 'q', 'v'))),
        (2, array(), map_from_arrays(CAST(array() AS ARRAY<STRING>), CAST(array() AS ARRAY<INT>)), named_struct('x', NULL, 'y', 'two'), array()),
        (3, NULL, NULL, NULL, NULL) AS t(k, a, m, s, l)""",
    "js": """SELECT * FROM VALUES (1, '{"a": 1, "b": {"c": [1, 2, {"d": "x"}]}, "e": null, "f": 1.5, "g": true}'), (2, '[1,2,3]'),
        (3, 'no json'), (4, NULL), (5, '{"a": "text", "b.c": 7}') AS t(k, j)""",
    "events": """SELECT k, CAST(ts AS TIMESTAMP) AS ts, v FROM VALUES (1, '2024-01-01 00:01:00', 1), (2, '2024-01-01 00:04:59', 2),
        (3, '2024-01-01 00:05:00', 3), (4, '2024-01-01 00:11:00', 4), (5, NULL, 5) AS t(k, ts, v)""",
    "sales": """SELECT * FROM VALUES (2023, 'Q1', 'a', 10), (2023, 'Q2', 'a', 20), (2024, 'Q1', 'a', 30), (2024, 'Q1', 'b', 5),
        (2024, 'Q4', 'b', NULL) AS t(year, quarter, item, amount)""",
    "lineitem": """SELECT CAST(k AS BIGINT) AS l_orderkey, CAST(k % 4 AS INT) AS l_linenumber, CAST(1 + k % 50 AS DECIMAL(15,2)) AS l_quantity,
        CAST(900.5 + k * 13.37 AS DECIMAL(15,2)) AS l_extendedprice, CAST((k % 11) / 100 AS DECIMAL(15,2)) AS l_discount,
        CAST((k % 9) / 100 AS DECIMAL(15,2)) AS l_tax, substring('ANR', CAST(k % 3 AS INT) + 1, 1) AS l_returnflag,
        substring('OF', CAST(k % 2 AS INT) + 1, 1) AS l_linestatus, date_add(DATE'1993-01-01', CAST(k * 7 % 2000 AS INT)) AS l_shipdate,
        elt(CAST(k % 4 AS INT) + 1, 'AIR', 'MAIL', 'SHIP', 'RAIL') AS l_shipmode, k % 20 AS l_partkey, k % 5 AS l_suppkey FROM (SELECT explode(sequence(1L, 400L)) AS k)""",
    "orders": """SELECT id AS o_orderkey, id % 30 AS o_custkey, CAST(1000 + id * 7.77 AS DECIMAL(15,2)) AS o_totalprice,
        date_add(DATE'1993-01-01', CAST(id * 5 % 1800 AS INT)) AS o_orderdate, elt(CAST(id % 3 AS INT) + 1, '1-URGENT', '2-HIGH', '5-LOW') AS o_orderpriority,
        concat('comment ', CASE WHEN id % 7 = 0 THEN 'special requests' ELSE 'plain' END) AS o_comment FROM (SELECT explode(sequence(1L, 400L)) AS id)""",
    "customer": """SELECT id AS c_custkey, concat('Customer#', lpad(id, 9, '0')) AS c_name, concat(CAST(10 + id % 25 AS STRING), '-555') AS c_phone,
        CAST(id * 31.5 - 200 AS DECIMAL(15,2)) AS c_acctbal, elt(CAST(id % 3 AS INT) + 1, 'BUILDING', 'MACHINERY', 'AUTOMOBILE') AS c_mktsegment,
        id % 5 AS c_nationkey FROM (SELECT explode(sequence(0L, 39L)) AS id)""",
}

EXPRESSIONS = {
    "syntax": r"""
typed_wrong: DATE '2024-13-01' ;; TIMESTAMP 'xx' ;; TIMESTAMP_NTZ '2024-01-01 25:00:00' ;; DATE '' ;; TIMESTAMP_LTZ '2024-02-30 00:00:00'
typed_wrong_legacy: [spark.sql.ansi.enabled=false] DATE '2024-13-01' ;; TIMESTAMP 'xx'
typed_special: DATE 'epoch' ;; TIMESTAMP 'epoch' ;; DATE 'today' = current_date() ;; DATE 'tomorrow' - DATE 'yesterday' ;; TIMESTAMP 'now' >= TIMESTAMP 'today' ;; typeof(TIMESTAMP 'tomorrow') ;; DATE 'Now' = DATE 'today'
shifts: 1 + 1 << 2 ;; 1 << 2 + 1 ;; 6 & 1 << 1 ;; -8 >>> 1 ;; -8L >>> 1 ;; 5 ^ 3 | 8 & 12
not_bits: ~CAST(5 AS TINYINT) ;; ~-1L ;; typeof(~CAST(5 AS SMALLINT))
div: 10 DIV 3 + 1 ;; 2 * 7 DIV 2
strings: r'a\nb' ;; R"c\d" ;; 'a' 'b' "c" ;; 'it''s' ;; '\U0001F600' ;; '\101\102' ;; '50\%' ;; '\d'
like: 'a%c' LIKE 'a!%c' ESCAPE '!' ;; 'abc' LIKE 'a!bc' ESCAPE '!' ;; 'a_c' NOT LIKE 'a#_c' ESCAPE '#' ;; 'abc' NOT LIKE ALL ('x%', 'y%') ;; 'abc' ILIKE ANY ('X%', 'A%') ;; 'abc' LIKE SOME ('x', NULL)
units: timestampadd(QUARTER, 1, TIMESTAMP'2024-01-31 01:02:03') ;; timestampdiff(MINUTE, TIMESTAMP'2024-01-01 00:00:00', TIMESTAMP'2024-01-01 02:30:59') ;; date_add(DATE'2024-01-31', 1) ;; date_diff(WEEK, DATE'2024-01-01', DATE'2024-01-31') ;; dateadd(DAY, 1, DATE'2024-02-28')
extract: extract(DAYOFWEEK FROM DATE'2024-02-29') ;; extract(WEEK FROM DATE'2021-01-03') ;; extract(DOY FROM DATE'2024-12-31') ;; extract(SECOND FROM TIMESTAMP'2024-01-01 01:02:03.5')
intervals: INTERVAL '1 02' DAY TO HOUR ;; INTERVAL '1-2' YEAR TO MONTH ;; INTERVAL 2 YEARS ;; INTERVAL '3' MINUTE ;; INTERVAL 1 DAY 2 HOURS ;; INTERVAL '1 day 2 seconds' ;; INTERVAL '1' DAY + INTERVAL '1' HOUR ;; -INTERVAL '1' DAY ;; INTERVAL '4.5' SECOND ;; INTERVAL 1 WEEK
interval_texts: CAST(INTERVAL '10:30' HOUR TO MINUTE AS STRING) ;; CAST(INTERVAL '14' MONTH AS STRING) ;; CAST(INTERVAL '04.5' SECOND AS STRING) ;; CAST(-INTERVAL '1 02:03' DAY TO MINUTE AS STRING) ;; typeof(INTERVAL '1' YEAR) ;; typeof(DATE'2024-01-02' - DATE'2024-01-01')
interval_units: INTERVAL 1 MONTH 1 DAY ;; INTERVAL '1' FORTNIGHT
structs: struct(1 AS a, 2) ;; named_struct('a', 1).a ;; (1, 'x') ;; array(struct(1, 2), struct(3, 4)).col2 ;; struct(array(1, 2) AS x).x[1]
numbers: 1.5D ;; 2Y ;; 3S ;; 1.5F ;; 1.50BD ;; 1e3 ;; CAST(1e3 AS STRING) ;; 1.5e300 ;; typeof(1E-5) ;; -128Y
nested_casts: CAST(array('1', '2') AS ARRAY<INT>) ;; CAST(named_struct('a', '1') AS STRUCT<b: INT>).b ;; CAST(map(1, '2') AS MAP<STRING, DOUBLE>)
ceilings: ceil(-3.1411, 2) ;; floor(12345, -2) ;; ceil(2.5) ;; ceil(1234.5, -2)
quarters: date_format(DATE'2024-11-01', 'q') ;; date_format(DATE'2024-11-01', 'QQ') ;; date_format(DATE'2024-11-01', 'QQQQ')
identifier: IDENTIFIER('up' || 'per')('x') ;; IDENTIFIER('abs')(-1)
times: unix_timestamp(TIMESTAMP'1969-12-31 23:59:58.5') ;; size(NULL) ;; size(CAST(NULL AS ARRAY<INT>))
""",
    "arithmetic": """
int_add: 1 + 1 ;; 2 - 5 ;; 3 * 4 ;; -7
divide: 7 / 2 ;; 7 div 2 ;; -7 div 2 ;; 7 % 3 ;; -7 % 3 ;; 7.5 % 2
divide_double: 1.5D / 0.5D ;; 1 / 4 ;; 10L / 4
mixed: 1 + 1.5D ;; 1 + 2L ;; 1Y + 1S ;; 1.5BD + 1 ;; 1.5BD * 2 ;; 1.5F + 1
decimal_rules: 1.10BD + 2.205BD ;; 1.10BD * 2.205BD ;; 1.10BD / 3 ;; 10.0BD % 3 ;; CAST(1 AS DECIMAL(38,10)) * CAST(1 AS DECIMAL(38,10))
decimal_divide: CAST(10 AS DECIMAL(10,2)) / CAST(3 AS DECIMAL(10,2)) ;; CAST(1 AS DECIMAL(20,5)) / CAST(7 AS DECIMAL(20,5)) ;; 1.0 / 3
decimal_int: CAST(12.50 AS DECIMAL(15,2)) * (1 - CAST(0.05 AS DECIMAL(15,2))) ;; CAST(5 AS DECIMAL(10,2)) + 1L ;; CAST(5 AS DECIMAL(10,2)) + 1.5D
literals: 1 ;; 3000000000 ;; 1.5 ;; 1e3 ;; 1.5D ;; 2F ;; 1L ;; 1S ;; 1Y ;; 1.50BD
string_math: '3' + 4 ;; '3' * '4' ;; '10' / 4 ;; '7' % 2
null_math: NULL + 1 ;; NULL / 0 ;; 1 + CAST(NULL AS INT)
bits: 5 & 3 ;; 5 | 3 ;; 5 ^ 3 ;; ~5 ;; shiftleft(1, 4) ;; shiftright(-16, 2) ;; shiftrightunsigned(-16, 28) ;; 1 << 3 ;; -8 >> 1
bit_fn: bit_count(7) ;; bit_count(-1) ;; bit_get(5, 0) ;; getbit(5, 1)
negative: negative(5) ;; positive(-5) ;; abs(-5) ;; abs(-1.5BD) ;; sign(-3) ;; signum(2.5)
overflow_int: 2147483647 + 1
overflow_long: 9223372036854775807 + 1
overflow_mul: 1000000 * 1000000
overflow_byte: 127Y + 1Y
overflow_neg: -(-2147483648)
overflow_abs: abs(-2147483648)
by_zero: 1 / 0
by_zero_double: 1.0D / 0.0D
by_zero_div: 1 div 0
by_zero_mod: 1 % 0
by_zero_dec: 1.0BD / 0
overflow_off: [spark.sql.ansi.enabled=false] 2147483647 + 1 ;; 9223372036854775807 + 1 ;; 127Y + 1Y ;; 1000000 * 1000000 ;; -(-2147483648)
by_zero_off: [spark.sql.ansi.enabled=false] 1 / 0 ;; 1 div 0 ;; 1 % 0 ;; 1.0D / 0 ;; 0 / 0 ;; 1.0BD / 0
try_math: try_add(2147483647, 1) ;; try_subtract(-2147483648, 1) ;; try_multiply(1000000, 1000000) ;; try_divide(1, 0) ;; try_divide(3, 2) ;; try_mod(1, 0)
try_ok: try_add(1, 2) ;; try_add(1.5D, 2) ;; try_add(DATE'2021-01-01', 1) ;; try_multiply(2, 3)
pmod: pmod(-7, 3) ;; pmod(7, -3) ;; mod(-7, 3) ;; pmod(-7.5, 2)
precedence: 1 + 2 * 3 ;; (1 + 2) * 3 ;; 10 - 4 - 3 ;; 2 * 7 div 2 ;; NOT true AND false ;; 1 + 1 = 2 OR false
""",
    "math": """
round: round(2.5) ;; round(-2.5) ;; round(3.14159, 2) ;; round(2.5D) ;; round(1234, -2) ;; bround(2.5) ;; bround(3.5D) ;; round(2.345BD, 2)
ceil_floor: ceil(1.2) ;; ceil(-1.2D) ;; floor(1.8) ;; floor(-1.8D) ;; ceiling(5) ;; ceil(3.1411, 3) ;; floor(3.1411, 3)
powers: power(2, 10) ;; pow(2.0, 0.5) ;; sqrt(2) ;; cbrt(27) ;; exp(1) ;; expm1(0.001) ;; hypot(3, 4)
logs: ln(2.718281828459045) ;; log(2, 8) ;; log(10) ;; log10(1000) ;; log2(8) ;; log1p(1) ;; ln(0) ;; ln(-1) ;; log10(0)
trig: sin(1) ;; cos(1) ;; tan(1) ;; asin(0.5) ;; acos(0.5) ;; atan(1) ;; atan2(1, 2) ;; sinh(1) ;; cosh(1) ;; tanh(1) ;; cot(1) ;; sec(1) ;; csc(1)
inverse_hyp: asinh(1) ;; acosh(2) ;; atanh(0.5) ;; degrees(3.141592653589793) ;; radians(180) ;; pi() ;; e()
misc: factorial(5) ;; factorial(21) ;; greatest(1, 3, 2) ;; least(1, NULL, -2) ;; rint(2.5) ;; width_bucket(5.3, 0.2, 10.6, 5)
conv: conv('100', 2, 10) ;; conv(-10, 16, -10) ;; hex(255) ;; hex('Spark') ;; unhex('537061') ;; bin(13) ;; conv('ff', 16, 10)
nan: nanvl(double('NaN'), 1.0D) ;; isnan(double('NaN')) ;; isnan(1) ;; double('NaN') = double('NaN') ;; double('NaN') > 1e300D
specials: double('Infinity') ;; -double('inf') ;; float('-infinity') ;; double('NaN')
random_det: rand(42) IS NOT NULL ;; randn(1) IS NOT NULL ;; length(uuid())
greatest_mixed: greatest(1, 2.5) ;; least(1L, 2) ;; greatest('a', 'b') ;; greatest(DATE'2020-01-01', DATE'2021-01-01')
""",
    "cast": """
to_int: CAST('42' AS INT) ;; CAST(' 42 ' AS INT) ;; CAST(3.99 AS INT) ;; CAST(-3.99D AS INT) ;; CAST(true AS INT) ;; int('7') ;; bigint('8')
to_int_bad: CAST('abc' AS INT)
to_int_frac: CAST('3.7' AS INT)
to_int_big: CAST(3000000000 AS INT)
to_tiny_big: CAST(300 AS TINYINT)
to_int_nan: CAST(double('NaN') AS INT)
to_int_off: [spark.sql.ansi.enabled=false] CAST('abc' AS INT) ;; CAST('3.7' AS INT) ;; CAST(3000000000 AS INT) ;; CAST(300 AS TINYINT) ;; CAST(double('NaN') AS INT) ;; CAST(1e20D AS INT) ;; CAST('' AS INT)
try_cast: try_cast('abc' AS INT) ;; try_cast('12' AS INT) ;; try_cast(300 AS TINYINT) ;; try_cast('x' AS DATE) ;; try_cast('2020-1-1' AS DATE)
to_double: CAST('1.5' AS DOUBLE) ;; CAST('1e3' AS DOUBLE) ;; CAST('inf' AS DOUBLE) ;; CAST('1.5d' AS DOUBLE) ;; CAST(1 AS FLOAT) ;; CAST('NaN' AS FLOAT)
to_double_bad: CAST('1.5x' AS DOUBLE)
double_text: CAST(1.0D AS STRING) ;; CAST(0.1D AS STRING) ;; CAST(1e10D AS STRING) ;; CAST(1e7D AS STRING) ;; CAST(9999999D AS STRING) ;; CAST(1e-3D AS STRING) ;; CAST(1e-4D AS STRING) ;; CAST(-0.0D AS STRING)
double_text2: CAST(123456789.123D AS STRING) ;; CAST(1e300D AS STRING) ;; CAST(double('NaN') AS STRING) ;; CAST(double('-inf') AS STRING) ;; CAST(4.9E-324D AS STRING)
float_text: CAST(1.0F AS STRING) ;; CAST(0.1F AS STRING) ;; CAST(1e10F AS STRING) ;; CAST(3.4028235E38F AS STRING) ;; CAST(16777216F AS STRING)
decimal_text: CAST(1.50BD AS STRING) ;; CAST(CAST(0 AS DECIMAL(10,2)) AS STRING) ;; CAST(CAST(0.0000001 AS DECIMAL(10,8)) AS STRING) ;; CAST(-0.05BD AS STRING)
to_decimal: CAST('12.345' AS DECIMAL(10,2)) ;; CAST(12.345D AS DECIMAL(10,2)) ;; CAST(1 AS DECIMAL(5,2)) ;; CAST('1e2' AS DECIMAL(10,1)) ;; CAST(12.5 AS DECIMAL)
to_decimal_big: CAST(12345.6 AS DECIMAL(5,2))
to_decimal_bad: CAST('x' AS DECIMAL(5,2))
to_decimal_off: [spark.sql.ansi.enabled=false] CAST(12345.6 AS DECIMAL(5,2)) ;; CAST('x' AS DECIMAL(5,2))
bool_text: CAST(true AS STRING) ;; CAST('true' AS BOOLEAN) ;; CAST('T' AS BOOLEAN) ;; CAST('yes' AS BOOLEAN) ;; CAST('0' AS BOOLEAN) ;; CAST('n' AS BOOLEAN) ;; CAST(2 AS BOOLEAN) ;; CAST(0.0D AS BOOLEAN)
bool_bad: CAST('maybe' AS BOOLEAN)
bool_off: [spark.sql.ansi.enabled=false] CAST('maybe' AS BOOLEAN) ;; CAST('' AS BOOLEAN)
date_text: CAST(DATE'2024-02-29' AS STRING) ;; CAST('2024-2-9' AS DATE) ;; CAST('2024' AS DATE) ;; CAST('2024-03' AS DATE) ;; CAST('2024-02-29T10:00' AS DATE) ;; CAST(' 2024-02-29 ' AS DATE)
date_bad: CAST('2023-02-29' AS DATE)
date_off: [spark.sql.ansi.enabled=false] CAST('2023-02-29' AS DATE) ;; CAST('junk' AS TIMESTAMP)
ts_text: CAST(TIMESTAMP'2024-02-29 12:34:56' AS STRING) ;; CAST(TIMESTAMP'2024-02-29 12:34:56.7891' AS STRING) ;; CAST(TIMESTAMP'2024-01-01' AS STRING) ;; CAST(TIMESTAMP_NTZ'2024-01-01 01:02:03.5' AS STRING)
to_ts: CAST('2024-02-29 1:2:3' AS TIMESTAMP) ;; CAST('2024-02-29T01:02:03Z' AS TIMESTAMP) ;; CAST('2024-02-29 01:02:03+05:30' AS TIMESTAMP) ;; CAST('2024-02-29' AS TIMESTAMP) ;; CAST('2024-02-29 01:02:03.123456789' AS TIMESTAMP) ;; CAST(DATE'2024-02-29' AS TIMESTAMP)
ts_bad: CAST('2024-13-01' AS TIMESTAMP)
ts_numbers: CAST(TIMESTAMP'1970-01-02 00:00:01.5' AS BIGINT) ;; CAST(TIMESTAMP'1970-01-02 00:00:01.5' AS DOUBLE) ;; CAST(86400 AS TIMESTAMP) ;; CAST(1.5D AS TIMESTAMP) ;; CAST(TIMESTAMP'2024-02-29 23:59:59' AS DATE)
ts_zone: [spark.sql.session.timeZone=America/New_York] CAST('2024-02-29 12:00:00' AS TIMESTAMP) ;; CAST(CAST('2024-02-29 12:00:00Z' AS TIMESTAMP) AS STRING) ;; CAST(DATE'2024-02-29' AS TIMESTAMP) ;; CAST(TIMESTAMP'2024-02-29 23:30:00Z' AS DATE) ;; CAST(TIMESTAMP_NTZ'2024-02-29 12:00:00' AS TIMESTAMP)
binary: CAST('abc' AS BINARY) ;; CAST(CAST('abc' AS BINARY) AS STRING) ;; X'1F' ;; CAST(X'414243' AS STRING) ;; binary('é')
array_text: CAST(array(1, NULL, 3) AS STRING) ;; CAST(map('a', 1, 'b', NULL) AS STRING) ;; CAST(named_struct('a', 1, 'b', 'x', 'c', NULL) AS STRING) ;; CAST(array(array('a'), array()) AS STRING)
nested_cast: CAST(array('1', '2') AS ARRAY<INT>) ;; CAST(map('1', '2') AS MAP<INT, DOUBLE>) ;; CAST(named_struct('a', '1') AS STRUCT<b: BIGINT>)
nested_text: CAST(array(DATE'2020-01-01') AS STRING) ;; CAST(array(1.0D, 2e20D) AS STRING) ;; CAST(array(true) AS STRING) ;; CAST(array(TIMESTAMP'2020-01-01 00:00:00') AS STRING)
mismatch: CAST(array(1) AS INT)
mismatch2: CAST(DATE'2020-01-01' AS INT)
functions: string(1.5) ;; double('2') ;; boolean('true') ;; date('2020-01-01') ;; timestamp('2020-01-01 00:00:00') ;; decimal(5) ;; tinyint(1) ;; float(1)
colons: '12'::INT ;; 1.5::STRING ;; '2020-01-01'::DATE
interval_text: CAST(INTERVAL '1' DAY AS STRING) ;; CAST(INTERVAL '1-2' YEAR TO MONTH AS STRING) ;; CAST(INTERVAL '1 02:03:04.5' DAY TO SECOND AS STRING)
null_casts: CAST(NULL AS INT) ;; CAST(NULL AS STRING) ;; CAST(NULL AS ARRAY<INT>) ;; CAST(NULL AS STRUCT<a: INT>)
""",
    "compare": """
equal: 1 = 1.0 ;; 1 = '1' ;; '1.0' = 1.0D ;; 1 <=> NULL ;; NULL <=> NULL ;; NULL = NULL ;; 1 <> 2 ;; 1 != 1 ;; 1 == 1
strings: 'a' < 'b' ;; 'B' < 'a' ;; 'abc' <= 'abd' ;; '10' > 9 ;; '9' < '10'
string_bad: 'abc' = 1
string_bad_off: [spark.sql.ansi.enabled=false] 'abc' = 1 ;; 'abc' < 1
dates: DATE'2020-01-01' < '2020-01-02' ;; DATE'2020-01-01' = TIMESTAMP'2020-01-01 00:00:00' ;; TIMESTAMP'2020-01-01 10:00:00' > '2020-01-01'
between_in: 2 BETWEEN 1 AND 3 ;; 2 NOT BETWEEN 1 AND 3 ;; 2 IN (1, 2) ;; 2 IN (1, NULL) ;; 2 NOT IN (1, NULL) ;; '2' IN (1, 2)
logic: true AND NULL ;; false AND NULL ;; true OR NULL ;; NOT NULL ;; NULL OR false ;; true = 'true'
is: NULL IS NULL ;; 1 IS NOT NULL ;; isnull(NULL) ;; isnotnull(1) ;; true IS TRUE ;; NULL IS NOT TRUE ;; 1 IS DISTINCT FROM NULL
case: CASE WHEN 1 > 2 THEN 'a' WHEN 2 > 1 THEN 'b' ELSE 'c' END ;; CASE 3 WHEN 1 THEN 'x' WHEN 3 THEN 'y' END ;; CASE WHEN true THEN 1 ELSE 2.5 END
conditional: if(1 > 2, 'a', 'b') ;; ifnull(NULL, 2) ;; nvl(NULL, 'x') ;; nvl2(NULL, 1, 2) ;; nullif(1, 1) ;; nullif(1, 2) ;; coalesce(NULL, NULL, 3) ;; nullifzero(0) ;; zeroifnull(NULL)
decode: decode(2, 1, 'one', 2, 'two', 'other') ;; decode(9, 1, 'one') ;; decode(NULL, NULL, 'null') ;; decode(encode('abc', 'utf-8'), 'utf-8')
coerce: coalesce(1, 2.5) ;; coalesce(1L, 2) ;; if(true, 1, 2L) ;; array(1, 2L, 3.5) ;; nvl(1, 2.5D) ;; coalesce(NULL, '1')
like: 'abc' LIKE 'a%' ;; 'abc' LIKE '_b_' ;; 'a%c' LIKE 'a\\\\%c' ;; 'a_c' LIKE 'a/_c' ESCAPE '/' ;; 'ABC' ILIKE 'a%' ;; 'abc' NOT LIKE 'b%' ;; NULL LIKE 'a'
like_many: 'abc' LIKE ANY ('x%', 'a%') ;; 'abc' LIKE ALL ('a%', '%c') ;; 'abc' NOT LIKE ANY ('x%', 'a%')
rlike: 'abc123' RLIKE '[0-9]+' ;; 'abc' REGEXP '^b' ;; regexp_like('Steven', '^Ste(v|ph)en$') ;; rlike('a', 'A') ;; 'abc' NOT RLIKE 'x'
equal_null: equal_null(1, NULL) ;; equal_null(NULL, NULL) ;; equal_null(3, 3)
structs: named_struct('a', 1) = named_struct('a', 1) ;; array(1, 2) < array(1, 3) ;; array(1) = array(1)
""",
    "string": """
case: upper('aé') ;; lower('ÀB') ;; ucase('x') ;; lcase('X') ;; initcap('hello big world')
length: length('abc') ;; char_length('ünï') ;; octet_length('ünï') ;; bit_length('a') ;; len('ab ') ;; length(X'0102') ;; character_length('')
substr: substring('Spark SQL', 5) ;; substring('Spark SQL', -3) ;; substring('Spark SQL', 5, 1) ;; substr('abc', 0, 2) ;; substring('abc', -5, 4) ;; substring('abc' FROM 2 FOR 1) ;; left('abc', 2) ;; right('abc', 2)
trim: trim('  a  ') ;; ltrim('  a  ') ;; rtrim('  a  ') ;; trim(BOTH 'x' FROM 'xxaxx') ;; trim(LEADING 'x' FROM 'xax') ;; trim(TRAILING 'x' FROM 'xax') ;; btrim('xyaxy', 'xy') ;; ltrim('x', 'xa') ;; rtrim('ab', 'cb')
pad: lpad('hi', 5, '?') ;; rpad('hi', 5, 'xy') ;; lpad('hello', 2) ;; rpad('a', 3) ;; lpad('é', 3, '*') ;; lpad('a', -1, 'x')
concat: concat('a', 1, true) ;; concat('a', NULL) ;; concat_ws(',', 'a', NULL, 'b') ;; concat_ws('-', array('x', 'y'), 'z') ;; 'a' || 'b' || 1 ;; concat() ;; concat_ws(NULL, 'a')
search: instr('SparkSQL', 'SQL') ;; locate('bar', 'foobarbar') ;; locate('bar', 'foobarbar', 5) ;; position('bar' IN 'foobar') ;; position('z', 'foo') ;; charindex('b', 'abc') ;; locate('a', 'aaa', 0)
contains: contains('Spark SQL', 'Spark') ;; startswith('Spark', 'Sp') ;; endswith('Spark', 'rk') ;; startswith('a', NULL)
replace: replace('ABCabc', 'abc', 'DEF') ;; replace('ABC', 'B') ;; translate('AaBbCc', 'abc', '123') ;; translate('abc', 'ab', 'x') ;; overlay('Spark SQL' PLACING '_' FROM 6) ;; overlay('Spark SQL', 'tructured', 2, 4)
repeat: repeat('ab', 3) ;; repeat('a', 0) ;; repeat('a', -1) ;; reverse('abc') ;; reverse('é😀a') ;; space(3)
split: split('a,b,,c', ',') ;; split('oneAtwoBthree', '[ABC]') ;; split('oneAtwoBthree', '[ABC]', 2) ;; split('abc', '') ;; split_part('11.12.13', '.', 3) ;; split_part('a.b', '.', -1) ;; split_part('a', '.', 5) ;; split(',', ',')
split_part_zero: split_part('a', '.', 0)
regexp: regexp_replace('100-200', '(\\\\d+)', 'num') ;; regexp_replace('abcabc', 'b', 'X', 3) ;; regexp_extract('100-200', '(\\\\d+)-(\\\\d+)', 1) ;; regexp_extract('100-200', '(\\\\d+)-(\\\\d+)') ;; regexp_extract('x', '(\\\\d+)', 1) ;; regexp_extract_all('1a2b', '(\\\\d)([a-z])', 2)
regexp2: regexp_count('Steven Jones and Stephen Smith', 'Ste(v|ph)en') ;; regexp_substr('abc123', '[0-9]+') ;; regexp_instr('abc123', '[0-9]') ;; regexp_substr('abc', 'x') ;; regexp_replace('a1b2', '([a-z])(\\\\d)', '$2$1')
regexp_bad_group: regexp_extract('a', 'a', 1)
ascii: ascii('A') ;; ascii('') ;; chr(65) ;; char(97) ;; ascii('é') ;; chr(256)
base: base64('Spark') ;; unbase64('U3Bhcms=') ;; encode('é', 'utf-8') ;; hex('é') ;; base64(X'00FF')
format: format_number(12332.123456, 4) ;; format_number(12332, 0) ;; format_number(0.5, 2) ;; format_number(-1234567.891D, 1) ;; format_number(12332.123456, '##,###.##') ;; format_string('Hello %s %d %5.2f', 'x', 100, 1.5D) ;; printf('%05d|%-5s|%x', 42, 'a', 255)
soundex: soundex('Miller') ;; levenshtein('kitten', 'sitting') ;; levenshtein('kitten', 'sitting', 2) ;; soundex('')
find: find_in_set('ab', 'abc,b,ab,c,def') ;; find_in_set('x', 'a,b') ;; elt(1, 'scala', 'java') ;; elt(2, 'a', 'b')
sentences: substring_index('www.apache.org', '.', 2) ;; substring_index('www.apache.org', '.', -2) ;; substring_index('a', '.', 0) ;; sentences('Hi there! Good morning.')
url: parse_url('http://spark.apache.org/path?query=1#f', 'HOST') ;; parse_url('http://a.b/p?query=1&x=2', 'QUERY', 'x') ;; url_encode('a b&c') ;; url_decode('a+b%26c')
masks: mask('AbCD123-@$#') ;; mask('AbCD123', 'Q') ;; mask('AbCD123', 'Q', 'q', 'd', 'o')
to_number: to_number('454', '999') ;; to_number('$78.12', '$99.99') ;; to_char(454, '999') ;; to_char(78.12, '$99.99') ;; try_to_number('abc', '999')
misc: luhn_check('8112189876') ;; isnull('') ;; str_to_map('a:1,b:2') ;; str_to_map('a=1&b', '&', '=') ;; collate('a', 'UTF8_BINARY') ;; quote('don\\'t')
elt_out: elt(5, 'a', 'b')
elt_off: [spark.sql.ansi.enabled=false] elt(5, 'a', 'b') ;; elt(0, 'a')
hash: md5('Spark') ;; sha1('Spark') ;; sha('Spark') ;; sha2('Spark', 256) ;; sha2('Spark', 512) ;; crc32('Spark') ;; hash('Spark') ;; xxhash64('Spark')
hash2: hash(1) ;; hash(1L) ;; hash(1.5D) ;; hash(NULL) ;; hash('a', 1, true) ;; xxhash64(1, 'a') ;; hash(array(1, 2)) ;; hash(DATE'2020-01-01') ;; hash(1.5BD) ;; xxhash64(array('a')) ;; hash(named_struct('a', 1))
literals: 'a\\tb' ;; "double" ;; 'it\\'s' ;; r'raw\\n' ;; 'two' 'parts' ;; '\\u0041'
""",
    "datetime": """
parts: year(DATE'2024-02-29') ;; month(DATE'2024-02-29') ;; day(DATE'2024-02-29') ;; dayofmonth(DATE'2024-02-29') ;; dayofweek(DATE'2024-02-29') ;; weekday(DATE'2024-02-29') ;; dayofyear(DATE'2024-12-31') ;; weekofyear(DATE'2021-01-03') ;; quarter(DATE'2024-05-01')
time_parts: hour(TIMESTAMP'2024-01-01 12:34:56.7') ;; minute(TIMESTAMP'2024-01-01 12:34:56.7') ;; second(TIMESTAMP'2024-01-01 12:34:56.7') ;; hour('2024-01-01 05:00:00')
extract: extract(YEAR FROM DATE'2024-02-29') ;; extract(SECOND FROM TIMESTAMP'2024-01-01 12:34:56.789') ;; date_part('doy', DATE'2024-02-29') ;; extract(DOW FROM DATE'2024-02-29') ;; extract(WEEK FROM DATE'2024-01-01') ;; extract(YEAROFWEEK FROM DATE'2021-01-03') ;; datepart('MONTH', DATE'2024-02-29') ;; extract(DAYOFWEEK_ISO FROM DATE'2024-02-29')
extract_interval: extract(DAY FROM INTERVAL '3 04:05:06' DAY TO SECOND) ;; extract(HOUR FROM INTERVAL '3 04:05:06' DAY TO SECOND) ;; extract(MONTH FROM INTERVAL '1-2' YEAR TO MONTH)
names: monthname(DATE'2024-02-29') ;; dayname(DATE'2024-02-29')
add: date_add(DATE'2024-02-28', 2) ;; date_sub(DATE'2024-03-01', 1) ;; dateadd(DATE'2024-01-01', 5) ;; add_months(DATE'2024-01-31', 1) ;; add_months(DATE'2024-02-29', -12) ;; date_add('2024-02-28', 2) ;; DATE'2024-01-01' + 3 ;; DATE'2024-01-10' - 3
diff: datediff(DATE'2024-03-01', DATE'2024-02-28') ;; date_diff('2024-03-01', '2024-02-28') ;; months_between(TIMESTAMP'1997-02-28 10:30:00', DATE'1996-10-30') ;; months_between('2024-03-31', '2024-02-29') ;; months_between('1997-02-28 10:30:00', '1996-10-30', false) ;; DATE'2024-03-01' - DATE'2024-02-28'
units: timestampadd(HOUR, 5, TIMESTAMP'2024-01-01 00:00:00') ;; timestampdiff(DAY, TIMESTAMP'2024-01-01 00:00:00', TIMESTAMP'2024-01-03 12:00:00') ;; dateadd(MONTH, 1, DATE'2024-01-31') ;; datediff(MONTH, DATE'2024-01-31', DATE'2024-03-30')
last: last_day(DATE'2024-02-10') ;; next_day(DATE'2024-02-29', 'MON') ;; next_day('2015-07-27', 'Sunday') ;; last_day('2023-02-10')
next_day_bad: next_day(DATE'2024-02-29', 'xx')
trunc: trunc(DATE'2024-05-17', 'MM') ;; trunc(DATE'2024-05-17', 'YEAR') ;; trunc(DATE'2024-05-17', 'WEEK') ;; trunc(DATE'2024-05-17', 'QUARTER') ;; trunc('2024-05-17', 'bad') ;; date_trunc('HOUR', TIMESTAMP'2024-05-17 12:34:56') ;; date_trunc('DAY', TIMESTAMP'2024-05-17 12:34:56') ;; date_trunc('MILLISECOND', TIMESTAMP'2024-05-17 12:34:56.123456') ;; date_trunc('WEEK', TIMESTAMP'2024-05-17 12:34:56') ;; date_trunc('QUARTER', TIMESTAMP'2024-05-17 12:34:56')
format: date_format(TIMESTAMP'2024-02-29 15:04:05.123', 'yyyy-MM-dd HH:mm:ss.SSS') ;; date_format(DATE'2024-02-29', 'EEE, d MMM yyyy') ;; date_format(DATE'2024-02-29', 'EEEE MMMM D') ;; date_format(TIMESTAMP'2024-02-29 15:04:05', 'h:mm a') ;; date_format('2024-02-29', 'yy/M/d') ;; date_format(TIMESTAMP'2024-02-29 15:04:05', "yyyy-MM-dd'T'HH:mm:ssXXX") ;; date_format(DATE'2024-02-29', 'QQQ q')
format_bad: date_format(DATE'2024-02-29', 'YYYY')
parse: to_date('2024-02-29') ;; to_date('29/02/2024', 'dd/MM/yyyy') ;; to_timestamp('2024-02-29 01:02:03') ;; to_timestamp('29.02.2024 13:05', 'dd.MM.yyyy HH:mm') ;; to_timestamp('2024-02-29T01:02:03.5', "yyyy-MM-dd'T'HH:mm:ss.S") ;; to_date('20240229', 'yyyyMMdd') ;; to_timestamp_ntz('2024-01-01 00:00:00') ;; to_timestamp_ltz('2024-01-01 00:00:00')
parse_bad: to_date('xx', 'yyyy-MM-dd')
parse_bad_ts: to_timestamp('2024-02-30 00:00:00')
parse_try: try_to_timestamp('xx') ;; try_to_timestamp('2024-01-01', 'yyyy-MM-dd') ;; try_to_date('xx') ;; try_to_timestamp('2024-01-01 10:00:00')
parse_off: [spark.sql.ansi.enabled=false] to_date('xx', 'yyyy-MM-dd') ;; to_timestamp('xx') ;; unix_timestamp('xx')
unix: unix_timestamp('2024-02-29 00:00:00') ;; unix_timestamp('2024-02-29', 'yyyy-MM-dd') ;; to_unix_timestamp('2024-02-29', 'yyyy-MM-dd') ;; from_unixtime(0) ;; from_unixtime(1709164800, 'yyyy-MM-dd') ;; unix_timestamp(DATE'2024-02-29') ;; unix_date(DATE'1970-01-02') ;; date_from_unix_date(1)
unix2: timestamp_seconds(1.5) ;; timestamp_millis(1500) ;; timestamp_micros(1500000) ;; unix_seconds(TIMESTAMP'1970-01-01 00:00:01') ;; unix_millis(TIMESTAMP'1970-01-01 00:00:01.5') ;; unix_micros(TIMESTAMP'1970-01-01 00:00:01')
make: make_date(2024, 2, 29) ;; make_timestamp(2024, 2, 29, 12, 34, 56.789) ;; make_timestamp_ntz(2024, 2, 29, 12, 34, 56) ;; make_interval(0, 1, 0, 2, 0, 0, 0) ;; make_dt_interval(1, 2, 3, 4.5) ;; make_ym_interval(1, 2) ;; make_timestamp(2024, 2, 29, 12, 34, 56, 'CET') ;; make_timestamp_ltz(2024, 1, 1, 0, 0, 0)
make_bad: make_date(2023, 2, 29)
make_off: [spark.sql.ansi.enabled=false] make_date(2023, 2, 29) ;; make_timestamp(2023, 13, 1, 0, 0, 0) ;; try_make_timestamp(2023, 13, 1, 0, 0, 0)
zones: from_utc_timestamp(TIMESTAMP'2024-07-01 12:00:00', 'America/New_York') ;; to_utc_timestamp(TIMESTAMP'2024-07-01 12:00:00', 'Asia/Tokyo') ;; convert_timezone('America/New_York', 'Asia/Tokyo', TIMESTAMP_NTZ'2024-01-01 00:00:00') ;; current_timezone()
in_zone: [spark.sql.session.timeZone=Europe/Paris] hour(TIMESTAMP'2024-07-01 12:00:00Z') ;; date_trunc('DAY', TIMESTAMP'2024-07-01 23:00:00Z') ;; date_format(TIMESTAMP'2024-07-01 12:00:00Z', 'HH:mm XXX VV') ;; to_date(TIMESTAMP'2024-07-01 23:00:00Z') ;; from_unixtime(0) ;; unix_timestamp('2024-07-01 00:00:00') ;; extract(DAY FROM TIMESTAMP'2024-07-01 23:00:00Z')
in_zone_dst: [spark.sql.session.timeZone=Europe/Paris] TIMESTAMP'2024-03-31 02:30:00' ;; TIMESTAMP'2024-03-30 12:00:00' + INTERVAL '1' DAY ;; TIMESTAMP'2024-10-27 02:30:00' ;; make_timestamp(2024, 7, 1, 12, 0, 0)
intervals: DATE'2024-01-31' + INTERVAL '1' MONTH ;; TIMESTAMP'2024-01-01 00:00:00' + INTERVAL '1 02:00:00' DAY TO SECOND ;; DATE'2024-01-01' + INTERVAL 3 DAYS ;; TIMESTAMP'2024-01-02 00:00:00' - TIMESTAMP'2024-01-01 12:00:00' ;; INTERVAL '1' DAY * 2 ;; TIMESTAMP'2024-01-01 00:00:00' - INTERVAL 90 MINUTES
interval_lits: INTERVAL '1' DAY ;; INTERVAL '10:30' HOUR TO MINUTE ;; INTERVAL 2 HOURS 30 MINUTES ;; INTERVAL '1-6' YEAR TO MONTH ;; INTERVAL 5 YEARS ;; INTERVAL -3 DAYS
compare: TIMESTAMP'2024-01-01 00:00:00' = DATE'2024-01-01' ;; DATE'2024-01-01' BETWEEN '2023-12-31' AND '2024-01-02' ;; INTERVAL '1' DAY > INTERVAL '23' HOUR
now: current_date() = current_date ;; now() = current_timestamp() ;; current_timestamp() > TIMESTAMP'2020-01-01 00:00:00' ;; typeof(localtimestamp()) ;; typeof(curdate())
typeof: typeof(1) ;; typeof(1L) ;; typeof(1.5) ;; typeof('a') ;; typeof(array(1)) ;; typeof(map('a', 1)) ;; typeof(DATE'2020-01-01') ;; typeof(named_struct('a', 1, 'b', 'x')) ;; typeof(NULL) ;; typeof(INTERVAL '1' DAY)
""",
    "array": """
make: array(1, 2, 3) ;; array() ;; array('a', NULL) ;; array(array(1), array(2, 3)) ;; sequence(1, 5) ;; sequence(5, 1, -2) ;; sequence(DATE'2024-01-01', DATE'2024-03-01', INTERVAL 1 MONTH) ;; array_repeat('a', 3)
index: array(1, 2, 3)[0] ;; element_at(array(1, 2, 3), 1) ;; element_at(array(1, 2, 3), -1) ;; get(array(1, 2), 5) ;; try_element_at(array(1, 2), 5) ;; get(array(1, 2), 0)
index_out: array(1, 2, 3)[5]
index_neg: array(1, 2, 3)[-1]
element_out: element_at(array(1, 2), 5)
element_zero: element_at(array(1, 2), 0)
index_off: [spark.sql.ansi.enabled=false] array(1, 2, 3)[5] ;; array(1)[-1] ;; element_at(array(1, 2), 5)
size: size(array(1, 2)) ;; cardinality(array(1)) ;; array_size(array(1, 2, 3)) ;; size(NULL) ;; size(map('a', 1))
size_off: [spark.sql.ansi.enabled=false] size(CAST(NULL AS ARRAY<INT>))
contains: array_contains(array(1, 2), 2) ;; array_contains(array(1, NULL), 3) ;; array_position(array(3, 2, 1), 1) ;; array_position(array(1), 5) ;; arrays_overlap(array(1, 2), array(2, 3)) ;; arrays_overlap(array(1, NULL), array(2))
sets: array_union(array(1, 2), array(2, 3)) ;; array_intersect(array(1, 2), array(2, 3)) ;; array_except(array(1, 2, 2), array(2, 3)) ;; array_distinct(array(1, 2, 1, NULL, NULL))
sort: sort_array(array('b', NULL, 'a')) ;; sort_array(array(2, NULL, 1), false) ;; array_sort(array(3, NULL, 1)) ;; array_sort(array(3, 1, 2), (a, b) -> CASE WHEN a < b THEN 1 WHEN a > b THEN -1 ELSE 0 END) ;; reverse(array(1, 2, 3))
ends: array_min(array(3, NULL, 1)) ;; array_max(array(3, 1)) ;; slice(array(1, 2, 3, 4), 2, 2) ;; slice(array(1, 2, 3, 4), -2, 2) ;; slice(array(1), 3, 1)
change: array_append(array(1), 2) ;; array_prepend(array(1), 0) ;; array_insert(array(1, 3), 2, 2) ;; array_insert(array(1, 2), -1, 3) ;; array_insert(array(1), 4, 9) ;; array_remove(array(1, 2, 1), 1) ;; array_compact(array(1, NULL, 2)) ;; concat(array(1), array(2, 3))
flatten: flatten(array(array(1, 2), array(3))) ;; flatten(array(array(1), NULL)) ;; array_join(array('a', NULL, 'b'), ',') ;; array_join(array('a', NULL, 'b'), ',', '?') ;; arrays_zip(array(1, 2), array('a', 'b'))
shuffle: size(shuffle(array(1, 2, 3))) ;; sort_array(shuffle(array(3, 1, 2)))
transform: transform(array(1, 2, 3), x -> x + 1) ;; transform(array(1, 2), (x, i) -> x * i) ;; transform(array('a', 'b'), x -> upper(x)) ;; transform(array(1), x -> named_struct('v', x))
filter: filter(array(1, 2, 3), x -> x % 2 = 1) ;; filter(array(0, 2, 3), (x, i) -> x > i) ;; exists(array(1, 2), x -> x = 2) ;; forall(array(1, 2), x -> x > 0) ;; exists(array(1, NULL), x -> x > 5)
aggregate: aggregate(array(1, 2, 3), 0, (acc, x) -> acc + x) ;; aggregate(array(1, 2, 3), 0, (acc, x) -> acc + x, acc -> acc * 10) ;; reduce(array(1, 2), 10, (acc, x) -> acc - x) ;; zip_with(array(1, 2), array(3, 4), (x, y) -> x + y) ;; zip_with(array(1), array(2, 3), (x, y) -> coalesce(x, 0) + y)
nested_lambda: transform(array(array(1, 2), array(3)), a -> transform(a, x -> x * 10)) ;; transform(array(1, 2), x -> transform(array(10, 20), y -> x + y))
""",
    "map": """
make: map('a', 1, 'b', 2) ;; map() ;; map_from_arrays(array('a', 'b'), array(1, 2)) ;; map_from_entries(array(struct(1, 'a'), struct(2, 'b')))
get: map('a', 1)['a'] ;; map('a', 1)['z'] ;; element_at(map(1, 'x'), 1) ;; element_at(map(1, 'x'), 2) ;; try_element_at(map(1, 'x'), 2)
parts: map_keys(map('a', 1, 'b', 2)) ;; map_values(map('a', 1, 'b', 2)) ;; map_entries(map('a', 1)) ;; map_contains_key(map('a', 1), 'a') ;; map_contains_key(map('a', 1), 'b') ;; map_concat(map('a', 1), map('b', 2))
duplicate: map('a', 1, 'a', 2)
null_key: map(NULL, 1)
lambda: transform_keys(map('a', 1), (k, v) -> upper(k)) ;; transform_values(map('a', 1), (k, v) -> v + 1) ;; map_filter(map('a', 1, 'b', 2), (k, v) -> v > 1) ;; map_zip_with(map('a', 1), map('a', 2, 'b', 3), (k, x, y) -> coalesce(x, 0) + y)
""",
    "struct": """
make: struct(1, 'a') ;; named_struct('x', 1, 'y', NULL) ;; struct(1 AS p, 2 AS q) ;; named_struct('x', named_struct('y', 2)).x.y ;; named_struct('a', array(named_struct('b', 1))).a.b
fields: named_struct('x', 1).x ;; struct(1, 2).col1 ;; array(named_struct('p', 1), named_struct('p', 2)).p
""",
    "json": """
get: get_json_object('{"a": {"b": [1, 2]}}', '$.a.b[1]') ;; get_json_object('{"a": "x"}', '$.a') ;; get_json_object('{"a": {"b": 1}}', '$.a') ;; get_json_object('bad', '$.a') ;; get_json_object('[{"a": 1}, {"a": 2}]', '$[*].a') ;; get_json_object('{"a": null}', '$.a') ;; get_json_object('{"a.b": 1}', "$['a.b']")
from: from_json('{"a": 1, "b": "x"}', 'a INT, b STRING') ;; from_json('bad', 'a INT') ;; from_json('[1, 2]', 'ARRAY<INT>') ;; from_json('{"k": 1}', 'MAP<STRING, INT>') ;; from_json('{"t": "26/08/2015"}', 't TIMESTAMP', map('timestampFormat', 'dd/MM/yyyy'))
to: to_json(named_struct('a', 1, 'b', 'x', 'c', NULL)) ;; to_json(array(named_struct('a', 1))) ;; to_json(map('a', 1)) ;; to_json(named_struct('t', TIMESTAMP'2015-08-26 00:00:00', 'd', DATE'2020-01-01')) ;; to_json(named_struct('d', 1.0D, 'x', 1.50BD))
tuple: json_array_length('[1, 2, 3]') ;; json_array_length('{}') ;; json_object_keys('{"a": 1, "b": 2}') ;; json_object_keys('[]')
schema: schema_of_json('{"a": 1, "b": [1.5, 2], "c": {"d": "x"}}') ;; schema_of_json('[{"a": 1}, {"b": "s"}]')
csv: from_csv('1, 0.8', 'a INT, b DOUBLE') ;; to_csv(named_struct('a', 1, 'b', 'x,y')) ;; schema_of_csv('1,abc')
""",
    "misc": """
assert: assert_true(1 < 2) ;; typeof(version()) ;; current_database() ;; current_catalog() ;; current_user() IS NOT NULL
assert_bad: assert_true(1 > 2)
raise: raise_error('custom message')
monotonic: monotonically_increasing_id() >= 0 ;; spark_partition_id() >= 0 ;; input_file_name()
is_valid: is_valid_utf8('a') ;; make_valid_utf8('a') ;; validate_utf8('a')
uuid_like: length(uuid()) ;; uuid() <> uuid()
aes: CAST(aes_decrypt(aes_encrypt('Spark', '0000111122223333'), '0000111122223333') AS STRING)
bitmap: bitmap_bit_position(1) ;; bitmap_bucket_number(40000) ;; bitmap_count(X'FF')
variant: typeof(1) ;; typeof(1.5D)
""",
}

QUERIES = {
    "dialect": """
group_by_all: SELECT dept, count(*) AS n FROM emp GROUP BY ALL
order_by_all: SELECT dept, id FROM emp ORDER BY ALL
cluster_by: SELECT id FROM emp CLUSTER BY id
distribute_by: SELECT id FROM emp DISTRIBUTE BY dept SORT BY id DESC
sort_and_order: SELECT id FROM emp SORT BY id ORDER BY id
sample_all: SELECT id FROM emp TABLESAMPLE (100 PERCENT)
sample_rows: SELECT count(*) AS n FROM (SELECT * FROM emp TABLESAMPLE (2 ROWS))
sample_alias: SELECT e.id FROM emp TABLESAMPLE (100 PERCENT) AS e
identifier_table: SELECT id FROM IDENTIFIER('em' || 'p') WHERE IDENTIFIER('id') < 3
pipe_where: FROM emp |> WHERE pay > 75 |> SELECT id, name
pipe_aggregate: FROM emp |> AGGREGATE count(*) AS n, max(pay) AS m GROUP BY dept
pipe_extend: FROM emp |> EXTEND pay * 2 AS twice |> WHERE twice > 150 |> SELECT id, twice |> ORDER BY id |> LIMIT 2
pipe_drop: TABLE dept |> DROP size
pipe_join: FROM emp |> AS e |> JOIN dept AS d ON e.dept = d.dept |> SELECT e.id, d.city
pipe_union: VALUES (1), (2) |> UNION ALL VALUES (3)
pipe_pivot: FROM sales |> SELECT year, quarter, amount |> PIVOT (sum(amount) FOR quarter IN ('Q1', 'Q2'))
from_first: FROM emp SELECT id, name WHERE id < 3
table: TABLE dept
minus_all: SELECT dept FROM emp MINUS ALL SELECT dept FROM dept
values_alias: SELECT t.a FROM VALUES (1, 2) AS t(a, b)
values_union: VALUES (1, 'a') UNION ALL VALUES (2, 'b')
names_case: SELECT ID, Name AS n, UPPER(Name), Emp.PAY FROM emp WHERE id = 1
names_more: SELECT id + 1 > 2 AND active, -pay, NOT active OR id < 3, id % 2, id DIV 2, name || 'x', id IN (SELECT 1) FROM emp WHERE id = 1
names_casts: SELECT CAST('1' AS INT), CAST(id + 1 AS DECIMAL(10, 2)), TRY_CAST(name AS INT), name::string FROM emp WHERE id = 1
names_windows: SELECT row_number() OVER (PARTITION BY dept ORDER BY id DESC), sum(pay) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW), lag(id) OVER (ORDER BY id) FROM emp WHERE id = 1
names_texts: SELECT trim(name), ltrim('x', name), TRIM(BOTH 'x' FROM name), position('n' IN name), name RLIKE 'A', substr(name, 1), extract(YEAR FROM hired) FROM emp WHERE id = 1
names_lambdas: SELECT transform(a, x -> x + 1), aggregate(a, 0, (p, x) -> p + x), filter(a, x -> x > k) FROM nested WHERE k = 2
names_aggregates: SELECT count(DISTINCT dept, id), sum(pay) FILTER (WHERE id > 1), first(name), collect_list(id), round(avg(pay)) FROM emp
names_structs: SELECT struct(id, name), named_struct('a', id).a, array(id, 2)[0], map('k', id)['k'] FROM emp WHERE id = 1
names_subqueries: SELECT (SELECT max(id) FROM emp), EXISTS (SELECT 1 FROM emp) FROM emp WHERE id = 1
names_defaults: SELECT round(pay), split(name, 'n'), regexp_replace(name, 'n', 'm'), lpad(name, 5), months_between(hired, hired) FROM emp WHERE id = 1
same_twice: SELECT 1, 1
same_column: SELECT id, id FROM emp WHERE id = 1
lateral_chain: SELECT id AS a, a + 1 AS b, b + a AS c FROM emp ORDER BY c
having_alias: SELECT dept AS d, count(*) AS n FROM emp GROUP BY d HAVING n > 1
pivot_two: SELECT * FROM (SELECT year, quarter, item, amount FROM sales) PIVOT (sum(amount) AS s FOR (quarter, item) IN (('Q1', 'a') AS qa, ('Q1', 'b')))
pivot_count: SELECT * FROM (SELECT item, quarter FROM sales) PIVOT (count(*) FOR quarter IN ('Q1', 'Q9'))
unpivot_nulls: SELECT * FROM (SELECT 1 AS id, 10 AS a, CAST(NULL AS INT) AS b) UNPIVOT INCLUDE NULLS (v FOR name IN (a AS x, b))
unpivot_excludes: SELECT * FROM (SELECT 1 AS id, 10 AS a, CAST(NULL AS INT) AS b) UNPIVOT (v FOR name IN (a, b)) AS u
window_column: SELECT window, count(*) AS n FROM events GROUP BY window(ts, '10 minutes') ORDER BY window.start
window_select: SELECT k, window(ts, '10 minutes', '5 minutes') AS w FROM events
window_keys: SELECT k % 2 AS odd, window.end AS e, sum(v) AS v FROM events GROUP BY k % 2, window(ts, '10 minutes', '5 minutes')
window_time: SELECT window_time(w) AS t, v FROM (SELECT window(ts, '5 minutes') AS w, sum(v) AS v FROM events GROUP BY window(ts, '5 minutes'))
session_keys: SELECT k % 2 AS odd, session_window.start AS s, session_window.end AS e, count(*) AS n FROM events GROUP BY k % 2, session_window(ts, '5 minutes')
session_touch: SELECT session_window.start AS s, session_window.end AS e, sum(v) AS v FROM events GROUP BY session_window(ts, '239 seconds')
session_names: SELECT session_window.start AS s, max(`__reach`) AS r, sum(`__first`) AS f FROM (SELECT ts, v AS `__reach`, k AS `__first` FROM events) GROUP BY session_window(ts, '5 minutes')
window_wrong: SELECT window(ts, '5 minutes', '10 minutes') AS w FROM events
hints: SELECT /*+ BROADCAST(d), REPARTITION(3) */ e.id FROM emp e JOIN dept d ON e.dept = d.dept
fields_of_items: SELECT k, l.p AS p, get(l.q, 0) AS q, transform(l, i -> i.p + 1) AS t FROM nested
show_databases: SHOW DATABASES
show_columns: SHOW COLUMNS IN dept
describe_query: DESCRIBE QUERY SELECT id, name FROM emp
current_database: SELECT current_database(), current_schema()
set_value: SET spark.sql.headwater.test=1
use_default: USE default
use_missing: USE nope
count_columns: SELECT count(id, pay) AS n FROM emp
group_by_missing_expr: SELECT id + 1, count(*) FROM emp GROUP BY dept
union_mismatch: SELECT 1 UNION ALL SELECT 1, 2
except_mismatch: SELECT 1 EXCEPT SELECT 1, 2
where_not_boolean: SELECT id FROM emp WHERE id
pipe_parentheses: (SELECT id, dept FROM emp) |> WHERE id > 4
lambda_names: SELECT 1 AS x, transform(array(1, 2), x -> x + 1) AS y
lambda_columns: SELECT transform(A, X -> x + K) AS c, filter(a, K -> k > 1) AS d, transform(a, (x, I) -> X + i) AS e FROM nested
alias_subquery: SELECT id AS x, (SELECT max(x) FROM nums) AS m FROM emp
alias_seed: SELECT r = s AS same FROM (SELECT rand(7) AS r, r AS s FROM emp)
""",
    "select": """
all: SELECT * FROM emp
columns: SELECT id, NAME, Pay * 2 AS twice FROM emp
star_except: SELECT * EXCEPT (pay, hired) FROM emp
where: SELECT id FROM emp WHERE pay > 75 AND active
where_null: SELECT id FROM emp WHERE active IS NULL OR dept <> 'eng'
limit: SELECT id FROM emp ORDER BY id LIMIT 2
offset: SELECT id FROM emp ORDER BY id LIMIT 2 OFFSET 3
distinct: SELECT DISTINCT dept FROM emp
order_nulls: SELECT id, pay FROM emp ORDER BY pay, id
order_desc: SELECT id, pay FROM emp ORDER BY pay DESC, id
order_nulls_last: SELECT id, pay FROM emp ORDER BY pay ASC NULLS LAST, id
order_nulls_first: SELECT id, pay FROM emp ORDER BY pay DESC NULLS FIRST, id
order_position: SELECT dept, id FROM emp ORDER BY 1 DESC, 2
order_expr: SELECT id FROM emp ORDER BY pay * -1, id
order_nan: SELECT d FROM nums ORDER BY d
order_struct: SELECT k FROM nested ORDER BY s, k
order_array: SELECT k FROM nested ORDER BY a DESC, k
sort_by: SELECT id FROM emp SORT BY id
names: SELECT 1, 1 + 1, id + 1, upper(name), CAST(id AS STRING), count(*) OVER () FROM emp WHERE id = 1
names_lit: SELECT 'a', 1.5, true, NULL, DATE'2020-01-01', -1, 1L
names_agg: SELECT count(*), count(id), sum(id), max(pay), avg(pay), count(DISTINCT dept), min(id) + 1 FROM emp
names_fn: SELECT concat(name, 'x'), coalesce(pay, 0), substring(name, 1, 2), if(active, 1, 2), nvl(dept, 'q') FROM emp WHERE id = 1
names_ops: SELECT id = 1, id <> 1, NOT active, id IS NULL, id IS NOT NULL, id IN (1, 2), name LIKE 'A%', id BETWEEN 1 AND 2, -id FROM emp WHERE id = 1
names_nested: SELECT s.x, a[0], m['a'], l.p, size(a), s.x + 1 FROM nested WHERE k = 1
names_case: SELECT CASE WHEN id = 1 THEN 'a' ELSE 'b' END, CASE id WHEN 1 THEN 2 END FROM emp WHERE id = 1
lateral_alias: SELECT id AS a, a + 1 AS b, b * 2 AS c FROM emp
values: SELECT * FROM VALUES (1, 'a'), (2, 'b')
values_alone: VALUES (1, 'a'), (2, NULL)
inline_table: SELECT a + 1 AS x FROM VALUES (1), (2) AS t(a)
range: SELECT * FROM range(5)
range2: SELECT id * 2 AS x FROM range(1, 10, 3)
backticks: SELECT `id` AS `my id` FROM emp WHERE `my id` > 0 OR id < 3
qualified: SELECT e.id, e.name FROM emp e WHERE e.id < 3
struct_star: SELECT s.* FROM nested
nested_field: SELECT k, s.x AS x, s.y AS y, a[1] AS a1, m['a'] AS ma FROM nested WHERE k < 3
array_of_struct: SELECT k, l.q AS q, l[0].p AS p FROM nested WHERE k = 1
unresolved_column: SELECT nope FROM emp
unresolved_table: SELECT * FROM nope
unresolved_function: SELECT nope(1)
ambiguous: SELECT dept FROM emp JOIN dept ON emp.dept = dept.dept
wrong_args: SELECT substring('a')
wrong_type: SELECT id FROM emp WHERE name
syntax_error: SELECT FROM WHERE
group_by_missing: SELECT dept, id FROM emp GROUP BY dept
where_agg: SELECT id FROM emp WHERE sum(pay) > 1
case_types: SELECT id, CASE WHEN active THEN pay ELSE 0 END AS x FROM emp
cte: WITH a AS (SELECT id FROM emp WHERE id < 4), b AS (SELECT id * 10 AS x FROM a) SELECT * FROM b
cte_nested: WITH a AS (WITH b AS (SELECT 1 AS x) SELECT x + 1 AS y FROM b) SELECT * FROM a
recursive_cte: WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT * FROM t
ansi_column_overflow: SELECT i + 1 AS x FROM nums
ansi_column_cast: SELECT CAST(s AS INT) AS x FROM strs
off_column_overflow: [spark.sql.ansi.enabled=false] SELECT i + 1 AS x, CAST(l AS INT) AS y, i / 0 AS z FROM nums
off_column_cast: [spark.sql.ansi.enabled=false] SELECT k, CAST(s AS INT) AS x FROM strs
try_column: SELECT i, try_add(i, 1) AS x, try_divide(i, i - 1) AS y FROM nums
""",
    "columns": """
nums_math: SELECT i, abs(CAST(i AS BIGINT)) AS a, l div 7 AS b, x * 2 AS c, d + 1 AS e, -d AS f, CAST(i AS DOUBLE) / 3 AS g FROM nums
nums_round: SELECT i, round(x, 1) AS r, ceil(x) AS c, floor(d) AS f, bround(x, 1) AS b FROM nums WHERE i < 100 AND NOT isnan(d)
nums_text: SELECT CAST(i AS STRING) AS a, CAST(l AS STRING) AS b, CAST(d AS STRING) AS c, CAST(x AS STRING) AS e FROM nums
nums_compare: SELECT i, i > 1 AS a, d > 1 AS b, d = d AS c, x <=> NULL AS e, i IN (1, NULL) AS f FROM nums
nums_hash: SELECT hash(i, l, d, x) AS h, xxhash64(i, l, d, x) AS x FROM nums
nums_greatest: SELECT greatest(i, 5) AS g, least(d, 0.0D) AS l, coalesce(i, -1) AS c, nanvl(d, 0D) AS n FROM nums
strs_basic: SELECT k, upper(s) AS u, length(s) AS l, reverse(s) AS r, initcap(s) AS i, trim(s) AS t, md5(s) AS m FROM strs
strs_sub: SELECT k, substring(s, 2, 3) AS a, substring(s, -2) AS b, left(s, 2) AS c, right(s, 2) AS d, lpad(s, 4, '#') AS e, rpad(s, 4) AS f FROM strs
strs_split: SELECT k, split(s, ',') AS a, size(split(s, '')) AS b, split_part(s, ',', 2) AS c, instr(s, 'o') AS d, locate('l', s, 4) AS e FROM strs
strs_like: SELECT k, s LIKE '%o%' AS a, s LIKE '%\\\\_%' AS b, s RLIKE '^[a-z]' AS c, s ILIKE 'h%' AS d, contains(s, 'b') AS e FROM strs
strs_regexp: SELECT k, regexp_replace(s, '[aeiou]', '*') AS a, regexp_extract(s, '([a-z]+)', 1) AS b, regexp_extract_all(s, '([a-z])', 1) AS c, translate(s, 'lo', 'L') AS d FROM strs
strs_concat: SELECT k, concat(s, '-', k) AS a, concat_ws('|', s, CAST(k AS STRING)) AS b, s || k AS c, repeat(s, 2) AS d, coalesce(s, 'none') AS e FROM strs
strs_try: SELECT k, try_cast(s AS INT) AS a, try_cast(s AS DOUBLE) AS b, nullif(s, '') AS c, ascii(s) AS d, base64(s) AS e, hex(s) AS f, crc32(s) AS g FROM strs
times_parts: SELECT k, year(ts) AS a, month(d) AS b, day(d) AS c, hour(ts) AS e, minute(ts) AS f, second(ts) AS g, dayofweek(d) AS h, weekofyear(d) AS i, quarter(ts) AS j, dayofyear(d) AS l FROM times
times_zone: [spark.sql.session.timeZone=America/Los_Angeles] SELECT k, ts, CAST(ts AS STRING) AS a, CAST(ts AS DATE) AS b, hour(ts) AS c, CAST(n AS TIMESTAMP) AS e FROM times WHERE k <> 5
times_format: SELECT k, date_format(ts, 'yyyy-MM-dd HH:mm:ss.SSSSSS') AS a, date_format(d, 'dd MMM yyyy') AS b, CAST(ts AS STRING) AS c, CAST(d AS STRING) AS e FROM times
times_trunc: SELECT k, trunc(d, 'MONTH') AS a, date_trunc('WEEK', ts) AS b, date_trunc('MINUTE', ts) AS c, last_day(d) AS e, add_months(d, 1) AS f, next_day(d, 'FR') AS g FROM times WHERE k <> 5
times_math: SELECT k, d + INTERVAL '1' DAY AS a, ts - INTERVAL '1' HOUR AS b, datediff(DATE'2024-01-01', d) AS c, date_add(d, k) AS e, unix_timestamp(ts) AS f, ts - TIMESTAMP'2024-01-01 00:00:00' AS g FROM times WHERE k <> 5
times_ntz: SELECT k, n, year(n) AS a, hour(n) AS b, CAST(n AS STRING) AS c, CAST(n AS DATE) AS e FROM times
nested_basic: SELECT k, size(a) AS a, array_max(a) AS b, sort_array(a) AS c, array_contains(a, 2) AS d, map_keys(m) AS e, cardinality(m) AS f FROM nested
nested_lambda: SELECT k, transform(a, x -> x * k) AS a, filter(a, x -> x > 1) AS b, aggregate(filter(a, x -> x IS NOT NULL), 0, (p, x) -> p + x) AS c, exists(a, x -> x IS NULL) AS d, transform(l, x -> x.p) AS e FROM nested
nested_text: SELECT k, CAST(a AS STRING) AS a, CAST(m AS STRING) AS b, CAST(s AS STRING) AS c, to_json(s) AS d, to_json(l) AS e, to_json(m) AS f FROM nested
json_columns: SELECT k, get_json_object(j, '$.a') AS a, get_json_object(j, '$.b.c[2].d') AS b, get_json_object(j, '$[1]') AS c, get_json_object(j, '$.b') AS d, json_array_length(j) AS e FROM js
json_from: SELECT k, from_json(j, 'a STRING, f DOUBLE, g BOOLEAN') AS x FROM js
json_tuple: SELECT k, a, f, e FROM js LATERAL VIEW json_tuple(j, 'a', 'f', 'e') t AS a, f, e
""",
    "aggregate": """
moments_of_pairs: SELECT k, corr(a, b) AS corr, covar_pop(a, b) AS covar_pop, covar_samp(a, b) AS covar_samp, regr_count(a, b) AS regr_count, regr_avgx(a, b) AS regr_avgx, regr_avgy(a, b) AS regr_avgy, regr_slope(a, b) AS regr_slope, regr_intercept(a, b) AS regr_intercept, regr_r2(a, b) AS regr_r2, regr_sxx(a, b) AS regr_sxx, regr_syy(a, b) AS regr_syy, regr_sxy(a, b) AS regr_sxy FROM VALUES ('nan', 1D, 2D), ('nan', 3D, double('NaN')), ('nan', 4D, 5D), ('nan_first', double('NaN'), 2D), ('nan_first', 3D, 3D), ('nan_first', 4D, 5D), ('inf', 1D, 2D), ('inf', 3D, double('Infinity')), ('inf', 4D, 5D), ('inf_first', double('-Infinity'), 2D), ('inf_first', 3D, 3D), ('inf_first', 4D, 5D), ('one', 1D, 2D), ('one_nan', 1D, double('NaN')), ('one_inf', double('Infinity'), 2D), ('both_nan', double('NaN'), double('NaN')), ('both_nan', double('NaN'), double('NaN')), ('equal_y', 1D, 2D), ('equal_y', 1D, 3D), ('equal_x', 1D, 2D), ('equal_x', 2D, 2D), ('equal', 1D, 1D), ('equal', 1D, 1D), ('nulls', 1D, NULL), ('nulls', 2D, 3D), ('nulls', NULL, 4D), ('none', NULL, 1D), ('nan_null', double('NaN'), NULL), ('nan_null', 2D, 3D), ('nan_null', 4D, 7D), ('plain', 1D, 2D), ('plain', 2D, 3.5D), ('plain', 4D, 1D) AS t(k, a, b) GROUP BY k
moments: SELECT k, stddev(b) AS stddev, stddev_pop(b) AS stddev_pop, stddev_samp(b) AS stddev_samp, std(b) AS std, variance(b) AS variance, var_pop(b) AS var_pop, var_samp(b) AS var_samp, skewness(b) AS skewness, kurtosis(b) AS kurtosis FROM VALUES ('nan', 1D, 2D), ('nan', 3D, double('NaN')), ('nan', 4D, 5D), ('nan_first', double('NaN'), 2D), ('nan_first', 3D, 3D), ('nan_first', 4D, 5D), ('inf', 1D, 2D), ('inf', 3D, double('Infinity')), ('inf', 4D, 5D), ('inf_first', double('-Infinity'), 2D), ('inf_first', 3D, 3D), ('inf_first', 4D, 5D), ('one', 1D, 2D), ('one_nan', 1D, double('NaN')), ('one_inf', double('Infinity'), 2D), ('both_nan', double('NaN'), double('NaN')), ('both_nan', double('NaN'), double('NaN')), ('equal_y', 1D, 2D), ('equal_y', 1D, 3D), ('equal_x', 1D, 2D), ('equal_x', 2D, 2D), ('equal', 1D, 1D), ('equal', 1D, 1D), ('nulls', 1D, NULL), ('nulls', 2D, 3D), ('nulls', NULL, 4D), ('none', NULL, 1D), ('nan_null', double('NaN'), NULL), ('nan_null', 2D, 3D), ('nan_null', 4D, 7D), ('plain', 1D, 2D), ('plain', 2D, 3.5D), ('plain', 4D, 1D) AS t(k, a, b) GROUP BY k
moments_whole: SELECT corr(a, b) AS corr, covar_pop(a, b) AS covar_pop, covar_samp(a, b) AS covar_samp, regr_count(a, b) AS regr_count, regr_avgx(a, b) AS regr_avgx, regr_avgy(a, b) AS regr_avgy, regr_slope(a, b) AS regr_slope, regr_intercept(a, b) AS regr_intercept, regr_r2(a, b) AS regr_r2, regr_sxx(a, b) AS regr_sxx, regr_syy(a, b) AS regr_syy, regr_sxy(a, b) AS regr_sxy, stddev(b) AS stddev, stddev_pop(b) AS stddev_pop, stddev_samp(b) AS stddev_samp, std(b) AS std, variance(b) AS variance, var_pop(b) AS var_pop, var_samp(b) AS var_samp, skewness(b) AS skewness, kurtosis(b) AS kurtosis FROM VALUES (1D, double('NaN')) AS t(a, b)
moments_whole_nan: SELECT corr(a, b) AS corr, covar_pop(a, b) AS covar_pop, covar_samp(a, b) AS covar_samp, regr_count(a, b) AS regr_count, regr_avgx(a, b) AS regr_avgx, regr_avgy(a, b) AS regr_avgy, regr_slope(a, b) AS regr_slope, regr_intercept(a, b) AS regr_intercept, regr_r2(a, b) AS regr_r2, regr_sxx(a, b) AS regr_sxx, regr_syy(a, b) AS regr_syy, regr_sxy(a, b) AS regr_sxy, stddev(b) AS stddev, stddev_pop(b) AS stddev_pop, stddev_samp(b) AS stddev_samp, std(b) AS std, variance(b) AS variance, var_pop(b) AS var_pop, var_samp(b) AS var_samp, skewness(b) AS skewness, kurtosis(b) AS kurtosis FROM VALUES (double('NaN'), 2D), (3D, 3D), (4D, 5D) AS t(a, b)
moments_frames: SELECT a, b, corr(a, b) OVER (ORDER BY b, a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS corr, covar_pop(a, b) OVER (ORDER BY b, a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS covar_pop, covar_samp(a, b) OVER (ORDER BY b, a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS covar_samp, regr_count(a, b) OVER (ORDER BY b, a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS regr_count, regr_avgx(a, b) OVER (ORDER BY b, a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS regr_avgx, regr_avgy(a, b) OVER (ORDER BY b, a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS regr_avgy, regr_slope(a, b) OVER (ORDER BY b, a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS regr_slope, regr_intercept(a, b) OVER (ORDER BY b, a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS regr_intercept, regr_r2(a, b) OVER (ORDER BY b, a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS regr_r2, regr_sxx(a, b) OVER (ORDER BY b, a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS regr_sxx, regr_syy(a, b) OVER (ORDER BY b, a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS regr_syy, regr_sxy(a, b) OVER (ORDER BY b, a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS regr_sxy FROM VALUES (double('NaN'), 1D), (3D, 3D), (4D, 5D), (double('Infinity'), 6D), (1D, 7D), (2D, 9D) AS t(a, b)
moments_frames_of_one: SELECT a, b, stddev(a) OVER (ORDER BY b, a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS stddev, stddev_pop(a) OVER (ORDER BY b, a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS stddev_pop, stddev_samp(a) OVER (ORDER BY b, a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS stddev_samp, std(a) OVER (ORDER BY b, a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS std, variance(a) OVER (ORDER BY b, a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS variance, var_pop(a) OVER (ORDER BY b, a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS var_pop, var_samp(a) OVER (ORDER BY b, a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS var_samp, skewness(a) OVER (ORDER BY b, a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS skewness, kurtosis(a) OVER (ORDER BY b, a ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS kurtosis FROM VALUES (double('NaN'), 1D), (3D, 3D), (4D, 5D), (double('Infinity'), 6D), (1D, 7D), (2D, 9D) AS t(a, b)
moments_distinct: SELECT stddev(DISTINCT b) AS s, var_pop(DISTINCT b) AS v, corr(DISTINCT a, b) AS c FROM VALUES (1D, 2D), (1D, 2D), (2D, 3D), (4D, 7D) AS t(a, b)
moments_types: SELECT stddev('1.5') AS s, var_pop(CAST(1.5 AS DECIMAL(5,2))) AS d, corr(1, '2') AS c, covar_pop(1Y, 2L) AS p, regr_slope(1, 2.5) AS r, var_samp(NULL) AS n
basic: SELECT count(*) AS a, count(pay) AS b, sum(pay) AS c, avg(pay) AS d, min(pay) AS e, max(pay) AS f, sum(id) AS g, avg(id) AS h FROM emp
group: SELECT dept, count(*) AS n, sum(pay) AS s FROM emp GROUP BY dept
group_expr: SELECT id % 2 AS odd, collect_list(id) AS ids FROM (SELECT * FROM emp ORDER BY id) GROUP BY id % 2
group_alias: SELECT upper(dept) AS d, count(*) AS n FROM emp GROUP BY d
group_position: SELECT dept, count(*) AS n FROM emp GROUP BY 1
group_all: SELECT dept, active, count(*) AS n FROM emp GROUP BY ALL
having: SELECT dept, count(*) AS n FROM emp GROUP BY dept HAVING count(*) > 1
empty: SELECT count(*) AS a, sum(id) AS b, max(id) AS c, collect_list(id) AS d FROM emp WHERE id > 100
empty_group: SELECT dept, count(*) AS a FROM emp WHERE id > 100 GROUP BY dept
distinct: SELECT count(DISTINCT dept) AS a, sum(DISTINCT pay) AS b, count(DISTINCT dept, active) AS c FROM emp
filter: SELECT count(*) FILTER (WHERE active) AS a, sum(pay) FILTER (WHERE dept = 'eng') AS b FROM emp
count_if: SELECT count_if(active) AS a, bool_and(active) AS b, bool_or(active) AS c, every(id > 0) AS d, some(id > 5) AS e, any(id > 5) AS f FROM emp
stats: SELECT stddev(pay) AS a, stddev_pop(pay) AS b, variance(pay) AS c, var_pop(pay) AS d, skewness(pay) AS e, kurtosis(pay) AS f FROM emp
stats_one: SELECT stddev(pay) AS a, variance(pay) AS b, stddev_pop(pay) AS c FROM emp WHERE id = 1
corr: SELECT corr(id, pay) AS a, covar_samp(id, pay) AS b, covar_pop(id, pay) AS c, regr_slope(pay, id) AS d, regr_r2(pay, id) AS e, regr_count(pay, id) AS f, regr_intercept(pay, id) AS g FROM emp
collect: SELECT sort_array(collect_list(pay)) AS a, sort_array(collect_set(dept)) AS b, array_agg(id) IS NOT NULL AS c FROM emp
first_last: SELECT first(name) AS a, last(name) AS b, first(name, true) AS c, last(name, true) AS d, any_value(dept) AS e FROM (SELECT * FROM emp ORDER BY id)
first_ignore: SELECT first_value(dept) IGNORE NULLS AS a, last_value(dept) IGNORE NULLS AS b FROM (SELECT * FROM emp ORDER BY id)
max_by: SELECT max_by(name, pay) AS a, min_by(name, pay) AS b, max_by(name, id) AS c FROM emp
percentile: SELECT percentile(pay, 0.5) AS a, percentile(pay, array(0.25, 0.75)) AS b, percentile_approx(pay, 0.5) AS c, median(pay) AS d, approx_percentile(id, 0.5, 100) AS e FROM emp
percentile_within: SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY pay) AS a, percentile_disc(0.5) WITHIN GROUP (ORDER BY pay) AS b FROM emp
mode: SELECT mode(pay) AS a, approx_count_distinct(dept) AS b FROM emp
listagg: SELECT listagg(name, ',') WITHIN GROUP (ORDER BY name) AS a, string_agg(name, '-') WITHIN GROUP (ORDER BY name DESC) AS b FROM emp
bits: SELECT bit_and(id) AS a, bit_or(id) AS b, bit_xor(id) AS c FROM emp
decimals: SELECT sum(x) AS a, avg(x) AS b, min(x) AS c, max(x) AS d, sum(CAST(i AS DECIMAL(10,2))) AS e FROM nums
types: SELECT sum(i) AS a, avg(i) AS b, sum(CAST(i AS TINYINT)) AS c FROM nums WHERE i < 100
overflow: SELECT sum(l) AS a FROM nums
overflow_off: [spark.sql.ansi.enabled=false] SELECT sum(l) AS a FROM nums
try_sum: SELECT try_sum(l) AS a, try_avg(i) AS b FROM nums
nan: SELECT max(d) AS a, min(d) AS b, sum(d) AS c, count(DISTINCT d) AS e FROM nums
product: SELECT histogram_numeric(id, 3) IS NOT NULL AS a, count_min_sketch(id, 0.5d, 0.5d, 1) IS NOT NULL AS b FROM emp
max_struct: SELECT max(struct(pay, name)) AS a, min(hired) AS b, max(name) AS c, max(active) AS d FROM emp
grouping_sets: SELECT year, item, sum(amount) AS s FROM sales GROUP BY GROUPING SETS ((year, item), (year), ())
rollup: SELECT year, quarter, sum(amount) AS s, grouping_id() AS g FROM sales GROUP BY ROLLUP (year, quarter)
cube: SELECT year, item, count(*) AS n, grouping(year) AS g FROM sales GROUP BY CUBE (year, item)
with_rollup: SELECT item, sum(amount) AS s FROM sales GROUP BY item WITH ROLLUP
pivot: SELECT * FROM sales PIVOT (sum(amount) FOR quarter IN ('Q1', 'Q2', 'Q4'))
pivot_alias: SELECT * FROM (SELECT year, quarter, amount FROM sales) PIVOT (sum(amount) AS s, count(*) AS n FOR quarter IN ('Q1' AS first, 'Q4' AS last))
unpivot: SELECT * FROM (SELECT 1 AS id, 10 AS a, 20 AS b) UNPIVOT (v FOR name IN (a, b))
window_tumbling: SELECT window.start AS s, window.end AS e, sum(v) AS v FROM events GROUP BY window(ts, '5 minutes')
window_sliding: SELECT window.start AS s, count(*) AS n FROM events GROUP BY window(ts, '10 minutes', '5 minutes')
window_offset: SELECT window.start AS s, count(*) AS n FROM events GROUP BY window(ts, '5 minutes', '5 minutes', '1 minute')
session_window: SELECT session_window.start AS s, session_window.end AS e, count(*) AS n FROM events GROUP BY session_window(ts, '5 minutes')
sum_decimal: SELECT sum(x) AS a FROM (SELECT CAST('99999999999999999999999999999999999999' AS DECIMAL(38,0)) AS x FROM range(3))
sum_decimal_off: [spark.sql.ansi.enabled=false] SELECT sum(x) AS a, avg(x) AS b FROM (SELECT CAST('99999999999999999999999999999999999999' AS DECIMAL(38,0)) AS x FROM range(3))
try_sum_decimal: SELECT try_sum(x) AS a FROM (SELECT CAST('99999999999999999999999999999999999999' AS DECIMAL(38,0)) AS x FROM range(3))
avg_decimal: SELECT dept, avg(CAST(pay AS DECIMAL(10,2))) AS a, avg(DISTINCT CAST(pay AS DECIMAL(10,2))) AS b FROM emp GROUP BY dept
sum_distinct: SELECT sum(DISTINCT id % 3) AS a, avg(DISTINCT id % 3) AS b, sum(DISTINCT CAST(pay AS DECIMAL(10,2))) AS c FROM emp
sum_text: SELECT sum('3') AS a, avg('4') AS b, sum(CAST(id AS STRING)) AS c FROM emp
sum_types: SELECT sum(i) AS a, sum(CAST(i AS DOUBLE)) AS b, sum(CAST(i AS DECIMAL(12,2))) AS c FROM nums WHERE i < 100
moments_group: SELECT dept, skewness(pay) AS a, kurtosis(pay) AS b FROM emp GROUP BY dept
percentile_more: SELECT percentile(id, 0.3) AS a, percentile(id, array(0, 0.1, 1)) AS b, percentile(id, 0.5, id) AS c, median(id) AS d FROM emp
percentile_desc: SELECT percentile_cont(0.25) WITHIN GROUP (ORDER BY id DESC) AS a, percentile_disc(0.25) WITHIN GROUP (ORDER BY id DESC) AS b, percentile_disc(0.6) WITHIN GROUP (ORDER BY id) AS c FROM emp
percentile_group: SELECT dept, percentile(pay, 0.5) AS a, percentile_approx(id, array(0.1, 0.9)) AS b FROM emp GROUP BY dept
percentile_empty: SELECT percentile(id, 0.5) AS a, percentile_approx(id, 0.5) AS b, mode(id) AS c, max_by(id, pay) AS d, skewness(id) AS e FROM emp WHERE id > 100
percentile_bad: SELECT percentile(id, 1.5) AS a FROM emp
approx_types: SELECT approx_percentile(hired, 0.5) AS a, approx_percentile(CAST(pay AS DECIMAL(10,2)), 0.5) AS b, approx_percentile(id, 0.9, 10) AS c FROM emp
mode_order: SELECT mode(dept) AS a, mode(id > 1, true) AS b, mode() WITHIN GROUP (ORDER BY pay DESC) AS c FROM emp
max_by_types: SELECT max_by(name, named_struct('p', pay, 'i', id)) AS a, min_by(named_struct('i', id, 'n', name), hired) AS b, max_by(id, array(pay)) AS c FROM emp
max_by_group: SELECT dept, max_by(id, pay) AS a, min_by(id, pay) AS b FROM emp WHERE id <> 6 GROUP BY dept
min_struct: SELECT min(named_struct('p', pay, 'n', name)) AS a, max(named_struct('a', active, 'n', name)) AS b, max(array(id, 1)) AS c FROM emp
count_many: SELECT active, count(DISTINCT dept, pay) AS a, count(dept, pay) AS b FROM emp GROUP BY active
collect_struct: SELECT sort_array(collect_set(named_struct('d', dept, 'a', active))) AS a FROM emp
grouping_sets_id: SELECT year, item, grouping_id() AS g, grouping_id(year, item) AS h, grouping(item) AS i, count(*) AS n FROM sales GROUP BY GROUPING SETS ((year, item), (year), (item), ())
grouping_bad: SELECT year, grouping(year) AS g FROM sales GROUP BY year
with_cube: SELECT year, item, sum(amount) AS s FROM sales GROUP BY year, item WITH CUBE
rollup_position: SELECT year, item, sum(amount) AS s FROM sales GROUP BY 1, 2 WITH ROLLUP
grouping_sets_old: SELECT year, item, sum(amount) AS s FROM sales GROUP BY year, item GROUPING SETS ((year), (item))
histogram_numeric: SELECT histogram_numeric(pay, 10) AS a, histogram_numeric(id, 10) AS b FROM emp
count_min_sketch: SELECT hex(count_min_sketch(id, 0.5d, 0.5d, 1)) AS a, hex(count_min_sketch(name, 0.5d, 0.9d, 42)) AS b FROM emp
regr: SELECT regr_avgx(pay, id) AS a, regr_avgy(pay, id) AS b, regr_sxx(pay, id) AS c, regr_syy(pay, id) AS d, regr_sxy(pay, id) AS e FROM emp
bits_types: SELECT bit_and(CAST(id AS TINYINT)) AS a, bit_xor(CAST(id AS BIGINT)) AS b, bool_and(active) AS c FROM emp
filter_many: SELECT max_by(name, pay) FILTER (WHERE dept = 'ops') AS a, percentile(pay, 0.5) FILTER (WHERE id > 2) AS b, mode(pay) FILTER (WHERE active) AS c FROM emp
histogram: SELECT width_bucket(pay, 0, 100, 4) AS b, count(*) AS n FROM emp GROUP BY 1
grouping_sets_order: SELECT year, item, grouping_id() AS g FROM sales GROUP BY year, item GROUPING SETS ((item), (year)) ORDER BY grouping_id(), year, item
pivot_qualified: SELECT * FROM sales s PIVOT (sum(s.amount) FOR quarter IN ('Q1', 'Q2'))
unpivot_qualified: SELECT * FROM (SELECT 1 AS id, 10 AS a, 20 AS b) s UNPIVOT (v FOR name IN (s.a, s.b))
""",
    "report": """
top_per_group: SELECT dept, name, pay FROM (SELECT *, row_number() OVER (PARTITION BY dept ORDER BY pay DESC NULLS LAST, id) AS r FROM emp) WHERE r <= 2
qualify_like: WITH ranked AS (SELECT o_custkey, o_totalprice, rank() OVER (PARTITION BY o_custkey ORDER BY o_totalprice DESC) AS r FROM orders) SELECT c_name, o_totalprice FROM ranked JOIN customer ON o_custkey = c_custkey WHERE r = 1 AND o_totalprice > 3900
share: SELECT item, amount, round(amount / sum(amount) OVER (PARTITION BY year) * 100, 2) AS share FROM sales
running: SELECT o_orderdate, sum(o_totalprice) OVER (ORDER BY o_orderdate, o_orderkey ROWS BETWEEN 6 PRECEDING AND CURRENT ROW) AS week FROM orders WHERE o_custkey = 7
by_month: SELECT date_trunc('month', o_orderdate) AS month, count(*) AS orders, sum(o_totalprice) AS total, avg(o_totalprice) AS mean FROM orders GROUP BY date_trunc('month', o_orderdate) HAVING count(*) > 7 ORDER BY month
by_quarter: SELECT year(o_orderdate) AS y, quarter(o_orderdate) AS q, count(DISTINCT o_custkey) AS customers FROM orders GROUP BY 1, 2 ORDER BY 1, 2
growth: WITH m AS (SELECT year(o_orderdate) AS y, sum(o_totalprice) AS total FROM orders GROUP BY 1) SELECT y, total, lag(total) OVER (ORDER BY y) AS before, total - lag(total, 1, 0) OVER (ORDER BY y) AS more FROM m ORDER BY y
cohort: WITH first AS (SELECT o_custkey, min(o_orderdate) AS since FROM orders GROUP BY o_custkey) SELECT year(since) AS cohort, CAST(months_between(o_orderdate, since) / 12 AS INT) AS age, count(DISTINCT o.o_custkey) AS n FROM orders o JOIN first f ON o.o_custkey = f.o_custkey GROUP BY 1, 2
gaps: SELECT o_custkey, datediff(o_orderdate, lag(o_orderdate) OVER (PARTITION BY o_custkey ORDER BY o_orderdate, o_orderkey)) AS days FROM orders WHERE o_custkey < 3
sessions: SELECT k, ts, sum(fresh) OVER (ORDER BY ts ROWS UNBOUNDED PRECEDING) AS session FROM (SELECT k, ts, CASE WHEN ts - lag(ts) OVER (ORDER BY ts) < INTERVAL 5 MINUTES THEN 0 ELSE 1 END AS fresh FROM events WHERE ts IS NOT NULL)
median_by: SELECT c_mktsegment, percentile_approx(o_totalprice, 0.5) AS m, count_if(o_totalprice > 2500) AS many FROM orders JOIN customer ON o_custkey = c_custkey GROUP BY c_mktsegment
pivot_sums: SELECT * FROM (SELECT c_mktsegment, o_orderpriority, o_totalprice FROM orders JOIN customer ON o_custkey = c_custkey) PIVOT (sum(o_totalprice) AS total, count(1) AS n FOR o_orderpriority IN ('1-URGENT' AS urgent, '5-LOW' AS low))
conditional: SELECT l_shipmode, sum(CASE WHEN l_discount > 0.05 THEN 1 ELSE 0 END) AS high, sum(IF(l_discount <= 0.05, l_quantity, NULL)) AS low, max(l_extendedprice) FILTER (WHERE l_returnflag = 'R') AS returned FROM lineitem GROUP BY l_shipmode
exists_both: SELECT c_custkey FROM customer c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.o_custkey = c.c_custkey AND o_totalprice > 4000) AND NOT EXISTS (SELECT 1 FROM orders o WHERE o.o_custkey = c.c_custkey AND o_orderpriority = '2-HIGH')
exists_or: SELECT c_custkey FROM customer c WHERE c_acctbal > 900 OR EXISTS (SELECT 1 FROM orders o WHERE o.o_custkey = c.c_custkey AND o_totalprice > 4090)
in_or: SELECT c_custkey FROM customer WHERE c_nationkey = 3 OR c_custkey IN (SELECT o_custkey FROM orders WHERE o_totalprice > 4080)
not_in_or: SELECT c_custkey FROM customer WHERE c_nationkey = 3 OR c_custkey NOT IN (SELECT o_custkey FROM orders)
in_case: SELECT c_custkey, CASE WHEN c_custkey IN (SELECT o_custkey FROM orders) THEN 'buys' ELSE 'looks' END AS kind FROM customer WHERE c_custkey > 26 AND c_custkey < 33
in_select: SELECT id, dept IN (SELECT dept FROM dept) AS known FROM emp
in_select_plain: SELECT id, dept IN (SELECT dept FROM dept WHERE dept IS NOT NULL) AS known FROM emp
in_nulls: SELECT id, dept IN (SELECT dept FROM dept) AS a, dept NOT IN (SELECT dept FROM dept) AS b, dept NOT IN (SELECT dept FROM dept WHERE dept IS NOT NULL) AS c FROM emp
not_in_or_nulls: SELECT id FROM emp WHERE id = 1 OR dept NOT IN (SELECT dept FROM dept)
in_null: SELECT NULL IN (SELECT 1) AS a, NULL IN (SELECT 1 WHERE false) AS b, 1 IN (SELECT NULL) AS c, 1 NOT IN (SELECT 2) AS d
in_counts: SELECT d.dept, 2 IN (SELECT count(*) FROM emp e WHERE e.dept = d.dept) AS two, 0 IN (SELECT count(*) FROM emp e WHERE e.dept = d.dept) AS none FROM dept d
exists_not: SELECT id, NOT EXISTS (SELECT 1 FROM dept d WHERE d.dept = e.dept) AS a, EXISTS (SELECT 1 FROM dept d WHERE d.size > e.id) AS b, EXISTS (SELECT 1 FROM dept WHERE size > 100) AS c FROM emp e
exists_outer: SELECT e.id, d.city FROM emp e LEFT JOIN dept d ON e.dept = d.dept AND EXISTS (SELECT 1 FROM sales s WHERE s.amount > d.size)
exists_less: SELECT d.dept FROM dept d WHERE EXISTS (SELECT 1 FROM emp e WHERE e.pay > d.size * 8)
exists_select: SELECT d.dept, EXISTS (SELECT 1 FROM emp e WHERE e.dept = d.dept) AS used FROM dept d
exists_having: SELECT dept, count(*) AS n FROM emp e GROUP BY dept HAVING count(*) > 1 AND dept IN (SELECT dept FROM dept)
scalar_where: SELECT id, pay FROM emp e WHERE pay > (SELECT avg(pay) FROM emp f WHERE f.dept = e.dept)
scalar_select: SELECT d.city, (SELECT max(pay) FROM emp e WHERE e.dept = d.dept) AS best, (SELECT count(*) FROM emp) AS everybody FROM dept d
scalar_order: SELECT c_custkey FROM customer c ORDER BY (SELECT count(*) FROM orders o WHERE o.o_custkey = c.c_custkey) DESC, c_custkey LIMIT 5
union_totals: SELECT dept, sum(pay) AS pay FROM emp GROUP BY dept UNION ALL SELECT 'total', sum(pay) FROM emp
rollup_labels: SELECT coalesce(item, 'all items') AS item, CASE WHEN grouping(year) = 1 THEN 'all years' ELSE CAST(year AS STRING) END AS year, sum(amount) AS s FROM sales GROUP BY ROLLUP (year, item)
dedupe: SELECT * EXCEPT (r) FROM (SELECT *, row_number() OVER (PARTITION BY name ORDER BY hired DESC) AS r FROM emp) WHERE r = 1
latest_json: SELECT k, get_json_object(j, '$.b.c[2].d') AS d, from_json(j, 'a STRING, f DOUBLE, g BOOLEAN').* FROM js WHERE k <> 3
exploded: SELECT k, pos, col.p, upper(col.q) AS q FROM nested LATERAL VIEW OUTER posexplode(l) t AS pos, col
exploded_sum: SELECT k, sum(x) AS s, collect_list(x) AS xs FROM nested LATERAL VIEW explode(a) t AS x GROUP BY k
map_rows: SELECT k, key, value FROM nested LATERAL VIEW explode(m) t AS key, value
words: SELECT word, count(*) AS n FROM (SELECT explode(split(lower(trim(s)), '[^a-z0-9]+')) AS word FROM strs) WHERE word <> '' GROUP BY word ORDER BY n DESC, word
transform_filter: SELECT k, transform(filter(a, x -> x IS NOT NULL), (x, i) -> x * 10 + i) AS t, aggregate(filter(a, x -> x > 1), 0, (acc, x) -> acc + x) AS s FROM nested
array_of: SELECT dept, sort_array(collect_list(named_struct('pay', pay, 'name', name)), false) AS people FROM emp WHERE pay IS NOT NULL GROUP BY dept
struct_fields: SELECT dept, max(named_struct('pay', pay, 'name', name)).name AS best FROM emp WHERE dept IS NOT NULL GROUP BY dept
string_report: SELECT printf('%-8s|%6.2f|%05d', coalesce(name, '-'), coalesce(pay, 0), id) AS line FROM emp
buckets: SELECT width_bucket(o_totalprice, 1000, 4200, 4) AS b, ntile(3) OVER (ORDER BY min(o_totalprice)) AS t, count(*) AS n FROM orders GROUP BY 1
first_last: SELECT DISTINCT dept, first_value(name) OVER w AS a, last_value(name) OVER w AS b, nth_value(name, 2) OVER w AS c FROM emp WINDOW w AS (PARTITION BY dept ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING)
calendar: SELECT d, dayofweek(d) AS w, weekofyear(d) AS y, last_day(d) AS l, date_format(d, 'EEE, d MMM yyyy') AS t FROM (SELECT explode(sequence(DATE'2024-12-28', DATE'2025-01-02')) AS d)
fill_days: WITH days AS (SELECT explode(sequence(DATE'2024-01-01', DATE'2024-01-03')) AS day), n AS (SELECT CAST(ts AS DATE) AS day, count(*) AS n FROM events GROUP BY 1) SELECT days.day, coalesce(n, 0) AS n FROM days LEFT JOIN n ON days.day = n.day ORDER BY 1
age: SELECT name, floor(months_between(DATE'2024-03-01', hired) / 12) AS years, add_months(hired, 3) AS probation, make_date(year(hired) + 1, 1, 1) AS next FROM emp WHERE hired IS NOT NULL
null_safe_diff: SELECT a.id, a.pay, b.pay AS other FROM emp a FULL JOIN (SELECT id + 1 AS id, pay FROM emp) b ON a.id <=> b.id WHERE NOT (a.pay <=> b.pay)
recursive: WITH RECURSIVE t(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM t WHERE n < 5) SELECT sum(n) AS s, count(*) AS n FROM t
cte_twice: WITH big AS (SELECT * FROM orders WHERE o_totalprice > 3500) SELECT a.o_custkey, count(*) AS n FROM big a JOIN big b ON a.o_custkey = b.o_custkey AND a.o_orderkey < b.o_orderkey GROUP BY a.o_custkey
intersect_counts: SELECT count(*) AS n FROM (SELECT o_custkey FROM orders WHERE o_totalprice > 3000 INTERSECT SELECT o_custkey FROM orders WHERE o_totalprice < 1500)
anti_dates: SELECT c_custkey, c_name FROM customer LEFT ANTI JOIN (SELECT o_custkey FROM orders WHERE o_orderdate >= DATE'1997-01-01') r ON c_custkey = o_custkey WHERE c_custkey < 30
correlated_limit: SELECT d.dept, t.name FROM dept d JOIN LATERAL (SELECT name FROM emp e WHERE e.dept = d.dept ORDER BY pay DESC NULLS LAST, id LIMIT 2) t
decimal_maths: SELECT sum(l_extendedprice * (1 - l_discount) * (1 + l_tax)) AS charge, avg(l_extendedprice * l_discount) AS a, sum(l_quantity) / count(*) AS q FROM lineitem
percent_rank: SELECT id, round(percent_rank() OVER (ORDER BY pay), 3) AS p, round(cume_dist() OVER (ORDER BY pay), 3) AS c, dense_rank() OVER (ORDER BY pay DESC) AS d FROM emp
range_frame: SELECT id, count(*) OVER (ORDER BY pay RANGE BETWEEN 15 PRECEDING AND 15 FOLLOWING) AS near FROM emp
range_days: SELECT id, count(*) OVER (ORDER BY hired RANGE BETWEEN INTERVAL 365 DAYS PRECEDING AND CURRENT ROW) AS year FROM emp
case_insensitive: SELECT E.ID, e.Name AS NAME FROM Emp E WHERE e.DEPT = 'eng' ORDER BY E.Pay, e.ID
having_alias: SELECT dept AS d, avg(pay) AS mean FROM emp GROUP BY d HAVING mean > 60 ORDER BY mean
lateral_alias: SELECT id, pay * 12 AS yearly, yearly * 0.3 AS tax, yearly - tax AS net FROM emp WHERE id < 4
group_all: SELECT dept, active, count(*) AS n FROM emp GROUP BY ALL ORDER BY ALL
order_expr: SELECT name, pay FROM emp ORDER BY length(coalesce(name, '')) DESC, pay * -1, id LIMIT 4
offset: SELECT id FROM emp ORDER BY id DESC LIMIT 2 OFFSET 1
values_join: SELECT e.id, v.label FROM emp e JOIN VALUES ('eng', 'Engineering'), ('ops', 'Operations') AS v(code, label) ON e.dept = v.code
count_tuples: SELECT count(DISTINCT dept, active) AS n, count(DISTINCT dept) AS d, count(DISTINCT id, name) FILTER (WHERE id > 2) AS f FROM emp
two_sums: SELECT sum(i), sum(CAST(i AS BIGINT)), avg(i), avg(CAST(i AS DOUBLE)) FROM nums WHERE i < 100
nested_agg: SELECT dept, sum(sum(pay)) OVER (ORDER BY dept NULLS LAST) AS running, rank() OVER (ORDER BY count(*) DESC) AS r FROM emp GROUP BY dept
""",
    "join": """
inner: SELECT e.id, d.city FROM emp e JOIN dept d ON e.dept = d.dept
left: SELECT e.id, d.city FROM emp e LEFT JOIN dept d ON e.dept = d.dept
right: SELECT e.id, d.city FROM emp e RIGHT JOIN dept d ON e.dept = d.dept
full: SELECT e.id, d.city FROM emp e FULL OUTER JOIN dept d ON e.dept = d.dept
cross: SELECT e.id, d.city FROM emp e CROSS JOIN dept d WHERE e.id < 3
semi: SELECT id FROM emp e LEFT SEMI JOIN dept d ON e.dept = d.dept
anti: SELECT id FROM emp e LEFT ANTI JOIN dept d ON e.dept = d.dept
using: SELECT * FROM emp JOIN dept USING (dept)
using_left: SELECT dept, id, city FROM emp LEFT JOIN dept USING (dept)
using_full: SELECT dept, id, city FROM emp FULL JOIN dept USING (dept)
natural: SELECT * FROM emp NATURAL JOIN dept
null_safe: SELECT e.id, d.city FROM emp e JOIN dept d ON e.dept <=> d.dept
non_equi: SELECT a.id AS x, b.id AS y FROM emp a JOIN emp b ON a.pay < b.pay
self: SELECT a.id AS x, b.id AS y FROM emp a JOIN emp b ON a.dept = b.dept AND a.id < b.id
comma: SELECT e.id, d.size FROM emp e, dept d WHERE e.dept = d.dept
three: SELECT e.id, d.city, f.name FROM emp e JOIN dept d ON e.dept = d.dept JOIN emp f ON f.id = d.size - 8
types: SELECT e.id FROM emp e JOIN (SELECT '1' AS k UNION ALL SELECT '2') t ON e.id = t.k
lateral: SELECT e.id, t.x FROM emp e, LATERAL (SELECT e.id * 2 AS x) t
lateral_join: SELECT d.city, t.n FROM dept d LEFT JOIN LATERAL (SELECT count(*) AS n FROM emp e WHERE e.dept = d.dept) t
lateral_where: SELECT d.city, t.id FROM dept d, LATERAL (SELECT e.id FROM emp e WHERE e.dept = d.dept AND e.id > 1) t
lateral_limit: SELECT d.city, t.id FROM dept d, LATERAL (SELECT e.id FROM emp e WHERE e.dept = d.dept ORDER BY e.pay DESC, e.id LIMIT 1) t
lateral_chain: SELECT e.id, u.y FROM emp e, LATERAL (SELECT e.id + 1 AS x) t, LATERAL (SELECT t.x * 10 AS y) u
using_right: SELECT dept, id, city FROM emp RIGHT JOIN dept USING (dept)
using_full_star: SELECT * FROM emp FULL JOIN dept USING (dept)
using_order: SELECT id FROM emp FULL JOIN dept USING (dept) WHERE dept IS NOT NULL ORDER BY dept, id
using_three: SELECT * FROM (SELECT id, dept FROM emp) a JOIN dept b USING (dept) JOIN (SELECT dept, count(*) AS n FROM emp GROUP BY dept) c USING (dept)
using_group: SELECT dept, count(*) AS n, count(city) AS c FROM emp FULL JOIN dept USING (dept) GROUP BY dept
using_semi: SELECT * FROM emp LEFT SEMI JOIN dept USING (dept)
using_missing: SELECT * FROM emp JOIN dept USING (nope)
natural_left: SELECT * FROM emp NATURAL LEFT JOIN dept
left_no_condition: SELECT e.id, d.city FROM emp e LEFT JOIN dept d
lateral_explode: SELECT k, x FROM nested, LATERAL explode(a) AS t(x)
using_shared: SELECT * FROM (SELECT dept, id AS x FROM emp) a JOIN (SELECT dept, size AS x FROM dept) b USING (dept)
using_lambda: SELECT transform(array(dept), dept -> concat(dept, 'x')) AS c FROM emp JOIN dept USING (dept)
using_lateral: SELECT dept, c FROM emp FULL JOIN dept USING (dept) LATERAL VIEW explode(array(1, 2)) e AS c
using_lateral_star: SELECT * FROM emp FULL JOIN dept USING (dept) LATERAL VIEW explode(array(dept, 'z')) e AS c
using_parentheses: SELECT dept, id, city FROM (emp FULL JOIN dept USING (dept))
using_cte: WITH c AS (SELECT emp.id FROM emp FULL JOIN dept USING (dept) ORDER BY dept DESC, id LIMIT 1) SELECT s.* FROM (SELECT struct(id) AS s FROM c) q
""",
    "subquery": """
scalar: SELECT id, (SELECT max(pay) FROM emp) AS m FROM emp
scalar_corr: SELECT id, (SELECT max(pay) FROM emp b WHERE b.dept = a.dept) AS m FROM emp a
in: SELECT id FROM emp WHERE dept IN (SELECT dept FROM dept)
not_in: SELECT id FROM emp WHERE dept NOT IN (SELECT dept FROM dept WHERE dept IS NOT NULL)
not_in_null: SELECT id FROM emp WHERE dept NOT IN (SELECT dept FROM dept)
exists: SELECT id FROM emp e WHERE EXISTS (SELECT 1 FROM dept d WHERE d.dept = e.dept)
not_exists: SELECT id FROM emp e WHERE NOT EXISTS (SELECT 1 FROM dept d WHERE d.dept = e.dept)
having: SELECT dept, sum(pay) AS s FROM emp GROUP BY dept HAVING sum(pay) > (SELECT avg(pay) FROM emp)
from: SELECT x.dept, x.n FROM (SELECT dept, count(*) AS n FROM emp GROUP BY dept) x WHERE x.n > 1
too_many: SELECT (SELECT id FROM emp) AS x
too_many_where: SELECT id FROM emp WHERE id = (SELECT id FROM emp)
too_many_corr: SELECT d.dept, (SELECT e.id FROM emp e WHERE e.dept = d.dept) AS x FROM dept d
scalar_corr_count: SELECT d.dept, (SELECT count(*) FROM emp e WHERE e.dept = d.dept) AS n FROM dept d
scalar_corr_one: SELECT e.id, (SELECT d.city FROM dept d WHERE d.dept = e.dept) AS c FROM emp e
scalar_limit: SELECT d.dept, (SELECT e.name FROM emp e WHERE e.dept = d.dept ORDER BY e.pay DESC, e.id LIMIT 1) AS x FROM dept d
exists_non_equi: SELECT id FROM emp e WHERE EXISTS (SELECT 1 FROM dept d WHERE d.size > e.id * 3)
empty: SELECT (SELECT id FROM emp WHERE id > 100) AS x
""",
    "setop": """
union_all: SELECT id FROM emp UNION ALL SELECT size FROM dept
union: SELECT dept FROM emp UNION SELECT dept FROM dept
intersect: SELECT dept FROM emp INTERSECT SELECT dept FROM dept
intersect_all: SELECT dept FROM emp INTERSECT ALL SELECT dept FROM dept
except: SELECT dept FROM emp EXCEPT SELECT dept FROM dept
except_all: SELECT dept FROM emp EXCEPT ALL SELECT dept FROM dept
intersect_all_count: SELECT x FROM VALUES (1), (1), (1), (2), (NULL), (NULL) AS a(x) INTERSECT ALL SELECT x FROM VALUES (1), (1), (NULL), (3) AS b(x)
except_all_count: SELECT x FROM VALUES (1), (1), (1), (2), (NULL), (NULL) AS a(x) EXCEPT ALL SELECT x FROM VALUES (1), (NULL), (3) AS b(x)
except_all_two: SELECT dept, active FROM emp EXCEPT ALL SELECT dept, true FROM dept
minus_all: SELECT dept FROM emp MINUS ALL SELECT dept FROM dept
minus: SELECT dept FROM emp MINUS SELECT dept FROM dept
types: SELECT 1 AS x UNION ALL SELECT 2.5 UNION ALL SELECT 3L
types_text: SELECT 1 AS x UNION ALL SELECT 'a'
mismatch: SELECT 1, 2 UNION SELECT 1
null_type: SELECT NULL AS x UNION ALL SELECT 1
order: SELECT id FROM emp WHERE id < 3 UNION ALL SELECT 10 ORDER BY id DESC
""",
    "generator": """
explode: SELECT explode(array(1, 2, 3)) AS x
explode_default: SELECT explode(array(1, 2))
explode_map: SELECT explode(map('a', 1, 'b', 2))
explode_map_alias: SELECT explode(map('a', 1)) AS (key1, value1)
explode_column: SELECT k, explode(a) AS x FROM nested
explode_outer: SELECT k, explode_outer(a) AS x FROM nested
posexplode: SELECT k, posexplode(a) FROM nested
posexplode_outer: SELECT k, posexplode_outer(a) AS (p, v) FROM nested
inline: SELECT k, inline(l) FROM nested
inline_outer: SELECT k, inline_outer(l) AS (a, b) FROM nested
stack: SELECT stack(2, 1, 'a', 2, 'b') AS (n, s)
lateral_view: SELECT k, x FROM nested LATERAL VIEW explode(a) t AS x
lateral_view_outer: SELECT k, x FROM nested LATERAL VIEW OUTER explode(a) t AS x
lateral_view_map: SELECT k, mk, mv FROM nested LATERAL VIEW explode(m) t AS mk, mv
lateral_view_two: SELECT k, x, y FROM nested LATERAL VIEW explode(a) t AS x LATERAL VIEW explode(array(10, 20)) u AS y WHERE x > 1
lateral_view_pos: SELECT k, p, x FROM nested LATERAL VIEW posexplode(a) t AS p, x
table_function: SELECT * FROM explode(array(10, 20))
table_function_alias: SELECT t.x FROM explode(array(10, 20)) AS t(x)
explode_expr: SELECT id, explode(split(name, '')) AS c FROM emp WHERE id < 3
explode_agg: SELECT x, count(*) AS n FROM (SELECT explode(a) AS x FROM nested) GROUP BY x
explode_bad: SELECT explode(1)
explode_nested: SELECT explode(explode(array(array(1))))
split_words: SELECT w, count(*) AS n FROM (SELECT explode(split(lower('a B a b A'), ' ')) AS w) GROUP BY w
sequence: SELECT explode(sequence(1, 3)) AS i
lateral_left: SELECT k, p, c FROM nested LEFT JOIN LATERAL posexplode(a) AS e(p, c)
lateral_left_on: SELECT k, p, c FROM nested LEFT JOIN LATERAL posexplode(a) AS e(p, c) ON true
""",
    "window": """
row_number: SELECT id, row_number() OVER (PARTITION BY dept ORDER BY pay DESC, id) AS r FROM emp
rank: SELECT id, rank() OVER (ORDER BY pay) AS a, dense_rank() OVER (ORDER BY pay) AS b, percent_rank() OVER (ORDER BY pay) AS c, cume_dist() OVER (ORDER BY pay) AS d FROM emp
ntile: SELECT id, ntile(4) OVER (ORDER BY id) AS n FROM emp
lag_lead: SELECT id, lag(pay) OVER (ORDER BY id) AS a, lead(pay, 2, 0.0D) OVER (ORDER BY id) AS b, lag(id, 1, -1) OVER (PARTITION BY dept ORDER BY id) AS c FROM emp
lag_ignore: SELECT id, lag(dept) IGNORE NULLS OVER (ORDER BY id) AS a FROM emp
running: SELECT id, sum(pay) OVER (ORDER BY id) AS a, avg(pay) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) AS b FROM emp
range: SELECT id, count(*) OVER (ORDER BY id RANGE BETWEEN 2 PRECEDING AND CURRENT ROW) AS a FROM emp
whole: SELECT id, pay / sum(pay) OVER (PARTITION BY dept) AS share, max(pay) OVER () AS m FROM emp
first_last: SELECT id, first_value(name) OVER (PARTITION BY dept ORDER BY id) AS a, last_value(name) OVER (PARTITION BY dept ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND UNBOUNDED FOLLOWING) AS b, nth_value(name, 2) OVER (PARTITION BY dept ORDER BY id) AS c FROM emp
named: SELECT id, sum(id) OVER w AS s FROM emp WINDOW w AS (PARTITION BY dept ORDER BY id)
qualify: SELECT id, dept FROM emp QUALIFY row_number() OVER (PARTITION BY dept ORDER BY id) = 1
top_n: SELECT * FROM (SELECT id, dept, row_number() OVER (PARTITION BY dept ORDER BY id) AS r FROM emp) WHERE r <= 2
over_agg: SELECT dept, sum(pay) AS s, rank() OVER (ORDER BY sum(pay) DESC) AS r FROM emp GROUP BY dept
distinct_count: SELECT id, count(pay) OVER (PARTITION BY active) AS c, collect_list(id) OVER (PARTITION BY dept ORDER BY id) AS l FROM emp
range_dates: SELECT id, count(*) OVER (ORDER BY hired RANGE BETWEEN INTERVAL 1 YEAR PRECEDING AND CURRENT ROW) AS c FROM emp WHERE hired IS NOT NULL
nulls_order: SELECT id, row_number() OVER (ORDER BY dept NULLS LAST, id) AS r FROM emp
no_order: SELECT row_number() OVER () AS r FROM emp
no_order_lag: SELECT lag(id) OVER (PARTITION BY dept) AS r FROM emp
numbers: SELECT id, row_number() OVER (ORDER BY id) * 2 AS a, CAST(rank() OVER (ORDER BY dept) AS STRING) AS b FROM emp
sliding: SELECT id, sum(id) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) AS a, avg(CAST(pay AS DECIMAL(10,2))) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) AS b, max_by(name, pay) OVER (ORDER BY id ROWS BETWEEN 1 PRECEDING AND 1 FOLLOWING) AS c FROM emp
""",
    "tpch": """
q1: SELECT l_returnflag, l_linestatus, sum(l_quantity) AS sum_qty, sum(l_extendedprice) AS sum_base_price, sum(l_extendedprice * (1 - l_discount)) AS sum_disc_price,
    sum(l_extendedprice * (1 - l_discount) * (1 + l_tax)) AS sum_charge, avg(l_quantity) AS avg_qty, avg(l_extendedprice) AS avg_price, avg(l_discount) AS avg_disc, count(*) AS count_order
    FROM lineitem WHERE l_shipdate <= date '1998-12-01' - interval '90' day GROUP BY l_returnflag, l_linestatus ORDER BY l_returnflag, l_linestatus
q3: SELECT l_orderkey, sum(l_extendedprice * (1 - l_discount)) AS revenue, o_orderdate FROM customer, orders, lineitem WHERE c_mktsegment = 'BUILDING' AND c_custkey = o_custkey AND l_orderkey = o_orderkey
    AND o_orderdate < date '1995-03-15' AND l_shipdate > date '1995-03-15' GROUP BY l_orderkey, o_orderdate ORDER BY revenue DESC, o_orderdate LIMIT 10
q4: SELECT o_orderpriority, count(*) AS order_count FROM orders WHERE o_orderdate >= date '1993-07-01' AND o_orderdate < date '1993-07-01' + interval '3' month
    AND EXISTS (SELECT * FROM lineitem WHERE l_orderkey = o_orderkey AND l_shipdate < date '1996-01-01') GROUP BY o_orderpriority ORDER BY o_orderpriority
q6: SELECT sum(l_extendedprice * l_discount) AS revenue FROM lineitem WHERE l_shipdate >= date '1994-01-01' AND l_shipdate < date '1994-01-01' + interval '1' year AND l_discount BETWEEN 0.06 - 0.01 AND 0.06 + 0.01 AND l_quantity < 24
q10: SELECT c_custkey, c_name, sum(l_extendedprice * (1 - l_discount)) AS revenue FROM customer JOIN orders ON c_custkey = o_custkey JOIN lineitem ON l_orderkey = o_orderkey WHERE l_returnflag = 'R' GROUP BY c_custkey, c_name ORDER BY revenue DESC LIMIT 20
q12: SELECT l_shipmode, sum(CASE WHEN o_orderpriority = '1-URGENT' OR o_orderpriority = '2-HIGH' THEN 1 ELSE 0 END) AS high, sum(CASE WHEN o_orderpriority <> '1-URGENT' AND o_orderpriority <> '2-HIGH' THEN 1 ELSE 0 END) AS low
    FROM orders, lineitem WHERE o_orderkey = l_orderkey AND l_shipmode IN ('MAIL', 'SHIP') GROUP BY l_shipmode ORDER BY l_shipmode
q13: SELECT c_count, count(*) AS custdist FROM (SELECT c_custkey, count(o_orderkey) AS c_count FROM customer LEFT OUTER JOIN orders ON c_custkey = o_custkey AND o_comment NOT LIKE '%special%requests%' GROUP BY c_custkey) AS c_orders
    GROUP BY c_count ORDER BY custdist DESC, c_count DESC
q14: SELECT 100.00 * sum(CASE WHEN l_shipmode LIKE 'S%' THEN l_extendedprice * (1 - l_discount) ELSE 0 END) / sum(l_extendedprice * (1 - l_discount)) AS promo FROM lineitem
q15: WITH revenue AS (SELECT l_suppkey AS supplier_no, sum(l_extendedprice * (1 - l_discount)) AS total FROM lineitem GROUP BY l_suppkey) SELECT * FROM revenue WHERE total = (SELECT max(total) FROM revenue)
q17: SELECT sum(l_extendedprice) / 7.0 AS avg_yearly FROM lineitem l WHERE l_quantity < (SELECT 0.9 * avg(l_quantity) FROM lineitem m WHERE m.l_partkey = l.l_partkey)
q18: SELECT c_name, o_orderkey, sum(l_quantity) AS q FROM customer, orders, lineitem WHERE o_orderkey IN (SELECT l_orderkey FROM lineitem GROUP BY l_orderkey HAVING sum(l_quantity) > 49) AND c_custkey = o_custkey AND o_orderkey = l_orderkey GROUP BY c_name, o_orderkey ORDER BY o_orderkey LIMIT 10
q22: SELECT cntrycode, count(*) AS numcust, sum(c_acctbal) AS totacctbal FROM (SELECT substring(c_phone, 1, 2) AS cntrycode, c_acctbal FROM customer WHERE substring(c_phone, 1, 2) IN ('13', '31', '23', '29', '30', '18', '17')
    AND c_acctbal > (SELECT avg(c_acctbal) FROM customer WHERE c_acctbal > 0.00) AND NOT EXISTS (SELECT * FROM orders WHERE o_custkey = c_custkey AND o_orderkey % 3 = 0)) AS custsale GROUP BY cntrycode ORDER BY cntrycode
year: SELECT extract(year FROM o_orderdate) AS o_year, sum(CASE WHEN o_custkey < 10 THEN o_totalprice ELSE 0 END) / sum(o_totalprice) AS share FROM orders GROUP BY extract(year FROM o_orderdate) ORDER BY o_year
""",
}

FUNCTIONS = {}


def case(function):
    """Registers a DataFrame case under `df.<name>`."""
    FUNCTIONS["df." + function.__name__] = function
    return function


def ordered(function):
    """Marks a case whose rows are compared in order."""
    function.ordered = True
    return function


def f():
    from pyspark.sql import functions

    return functions


@case
def select_columns(spark):
    return spark.table("emp").select("id", f().col("pay") * 2, (f().col("id") + 1).alias("next"))


@case
def with_column(spark):
    return spark.table("emp").withColumn("x", f().lit(1)).withColumnRenamed("name", "n").drop("hired")


@case
def filter_expr(spark):
    return spark.table("emp").filter("pay > 75").where(f().col("active"))


@case
def filter_isin(spark):
    return spark.table("emp").filter(f().col("dept").isin("eng", "ops") & ~f().col("active"))


@case
@ordered
def order_by(spark):
    return spark.table("emp").orderBy(f().col("pay").desc(), f().asc("id"))


@case
@ordered
def order_nulls_last(spark):
    return spark.table("emp").orderBy(f().col("pay").asc_nulls_last(), "id").select("id")


@case
def group_agg(spark):
    return spark.table("emp").groupBy("dept").agg(f().sum("pay"), f().count("*").alias("n"), f().max("hired"))


@case
def group_count(spark):
    return spark.table("emp").groupBy("dept").count()


@case
def group_dict(spark):
    return spark.table("emp").groupBy("dept").agg({"pay": "avg"})


@case
def group_pivot(spark):
    return spark.table("sales").groupBy("year").pivot("quarter", ["Q1", "Q2"]).sum("amount")


@case
def group_pivot_free(spark):
    return spark.table("sales").groupBy("year").pivot("quarter").agg(f().sum("amount"))


@case
def rollup(spark):
    return spark.table("sales").rollup("year", "item").agg(f().sum("amount").alias("s"))


@case
def cube(spark):
    return spark.table("sales").cube("year", "item").count()


@case
def join_on(spark):
    return spark.table("emp").join(spark.table("dept"), "dept", "left").select("id", "dept", "city")


@case
def join_columns(spark):
    emp, dept = spark.table("emp"), spark.table("dept")
    return emp.join(dept, emp.dept == dept.dept).select(emp.id, dept.dept, "city")


@case
def join_outer(spark):
    return spark.table("emp").join(spark.table("dept"), ["dept"], "outer")


@case
def join_semi(spark):
    return spark.table("emp").join(spark.table("dept"), "dept", "leftsemi").select("id")


@case
def join_cross(spark):
    return spark.table("dept").crossJoin(spark.range(2))


@case
def join_self(spark):
    emp = spark.table("emp")
    return emp.alias("a").join(emp.alias("b"), f().col("a.id") == f().col("b.id") - 1).select("a.id", "b.name")


@case
def union(spark):
    return spark.range(3).union(spark.range(5, 6))


@case
def union_by_name(spark):
    left = spark.sql("SELECT 1 AS a, 'x' AS b")
    return left.unionByName(spark.sql("SELECT 'y' AS b, 2 AS a"))


@case
def union_by_name_missing(spark):
    return spark.sql("SELECT 1 AS a").unionByName(spark.sql("SELECT 2 AS b"), allowMissingColumns=True)


@case
def set_operations(spark):
    return spark.range(5).intersect(spark.range(3, 9)).union(spark.range(3).subtract(spark.range(2)))


@case
def except_all(spark):
    return spark.sql("SELECT explode(array(1, 1, 2)) AS x").exceptAll(spark.sql("SELECT 1 AS x"))


@case
def distinct(spark):
    return spark.table("emp").select("dept").distinct()


@case
def drop_duplicates(spark):
    return spark.table("emp").select("dept", "active").dropDuplicates(["dept", "active"])


@case
@ordered
def limit_offset(spark):
    return spark.range(10).orderBy("id").offset(2).limit(3)


@case
def na_fill(spark):
    return spark.table("emp").na.fill({"pay": 0.0, "name": "?"}).select("id", "name", "pay")


@case
def na_drop(spark):
    return spark.table("emp").na.drop().select("id")


@case
def na_drop_subset(spark):
    return spark.table("emp").dropna(subset=["pay"]).select("id")


@case
def na_replace(spark):
    return spark.table("emp").replace("eng", "engineering", subset=["dept"]).select("id", "dept")


@case
def create_rows(spark):
    return spark.createDataFrame([(1, "a"), (2, None)], ["id", "name"])


@case
def create_schema(spark):
    return spark.createDataFrame([(1, 2.5), (None, None)], "a INT, b DOUBLE")


@case
def create_types(spark):
    row = (1, 1.5, "s", True, datetime.date(2020, 1, 1), datetime.datetime(2020, 1, 1, 12), decimal.Decimal("1.50"), bytearray(b"x"), [1, 2], {"a": 1})
    return spark.createDataFrame([row], "a INT, b DOUBLE, c STRING, d BOOLEAN, e DATE, f TIMESTAMP, g DECIMAL(10,2), h BINARY, i ARRAY<INT>, j MAP<STRING, INT>")


@case
def create_nested(spark):
    return spark.createDataFrame([(1, (2, "x"))], "a INT, b STRUCT<c: INT, d: STRING>").select("a", "b.c", "b.d")


def _null_structs(spark):
    """Rows of a client, which leaves a value in each field of a struct that is null."""
    rows = [(1, [("q", 1, ("i",)), None], {"k": ("v", 1), "n": None}), (2, [None], None), (3, None, {})]
    return spark.createDataFrame(rows, "id INT, l ARRAY<STRUCT<z: STRING, n: INT, d: STRUCT<e: STRING>>>, m MAP<STRING, STRUCT<a: STRING, n: INT>>")


@case
def null_structs_inline(spark):
    return _null_structs(spark).select("id", f().inline("l"))


@case
def null_structs_inline_outer(spark):
    return _null_structs(spark).select("id", f().inline_outer("l"))


@case
def null_structs_explode(spark):
    return _null_structs(spark).select("id", f().explode("l").alias("s")).select("id", "s.*", "s.d.e", f().isnull("s.z").alias("z_null"), f().isnull("s").alias("s_null"))


@case
def null_structs_explode_map(spark):
    return _null_structs(spark).select("id", f().explode("m").alias("k", "v")).select("id", "k", "v.a", "v.n")


@case
def null_structs_fields(spark):
    return _null_structs(spark).select("id", "l.z", f().col("l.d.e").alias("e"), f().get("l", f().lit(1))["z"].alias("second"), f().col("m")["n"]["a"].alias("a"))


@case
def null_structs_lambdas(spark):
    l = f().col("l")
    return _null_structs(spark).select("id", f().transform(l, lambda x: x["z"]).alias("t"), f().size(f().filter(l, lambda x: x["z"].isNull())).alias("n"), f().transform(f().map_values("m"), lambda x: x["n"]).alias("v"))


@case
def null_structs_text(spark):
    return _null_structs(spark).select("id", f().to_json("l").alias("j"), f().col("l").cast("string").alias("s"), f().transform("l", lambda x: f().coalesce(x["z"], f().lit("none"))).alias("c"))


@case
def null_structs_cast(spark):
    return _null_structs(spark).select("id", f().explode("l").alias("s")).select("id", f().col("s").cast("STRUCT<z: STRING, n: BIGINT, d: STRUCT<e: STRING>>").alias("s")).select("id", "s.n", "s.z")


@case
def null_structs_group(spark):
    return _null_structs(spark).select(f().explode("l").alias("s")).groupBy("s.z").agg(f().max("s.n").alias("n"), f().count("s").alias("c"))


@case
def null_structs_required(spark):
    from pyspark.sql import types as t

    inner = t.StructType([t.StructField("a", t.IntegerType(), False)])
    schema = t.StructType([t.StructField("s", inner), t.StructField("l", t.ArrayType(inner))])
    return spark.createDataFrame([((5,), [(1,), None]), (None, None)], schema).select("s.a", f().col("l.a").alias("l"))


@case
def range_step(spark):
    return spark.range(1, 10, 3)


@case
def select_expr(spark):
    return spark.table("emp").selectExpr("id", "upper(name) AS n", "CAST(pay AS INT)", "id % 2 = 0")


@case
def cast_column(spark):
    return spark.table("emp").select(f().col("id").cast("string"), f().col("pay").cast("int").alias("p"), f().col("id").cast("double"))


@case
def when_otherwise(spark):
    return spark.table("emp").select("id", f().when(f().col("pay") > 80, "high").when(f().col("pay") > 60, "mid").otherwise("low").alias("c"))


@case
def string_functions(spark):
    c = f().col("s")
    return spark.table("strs").select("k", f().upper(c), f().length(c), c.substr(1, 3), f().concat_ws("-", c, "k"), f().regexp_replace(c, "o", "0"), c.contains("o"), c.startswith("H"), f().trim(c), f().split(c, ","))


@case
def date_functions(spark):
    c = f().col("d")
    return spark.table("times").filter("k <> 5").select("k", f().year(c), f().date_format("ts", "yyyy/MM/dd"), f().date_add(c, 1), f().datediff(f().lit("2024-03-01").cast("date"), c), f().last_day(c), f().trunc(c, "year"), f().date_trunc("hour", "ts"))


@case
def array_functions(spark):
    c = f().col("a")
    return spark.table("nested").select("k", f().size(c), f().array_contains(c, 2), f().sort_array(c), f().transform(c, lambda x: x + 1), f().filter(c, lambda x: x > 1), f().get(c, 0), f().array_join(c.cast("array<string>"), ","))


@case
def explode(spark):
    return spark.table("nested").select("k", f().explode("a"))


@case
def explode_outer(spark):
    return spark.table("nested").select("k", f().explode_outer("m"))


@case
def posexplode(spark):
    return spark.table("nested").select("k", f().posexplode("a").alias("p", "v"))


@case
def struct_columns(spark):
    return spark.table("nested").select("k", "s.*", f().struct("k", "a").alias("z"), f().col("s").getField("y").alias("y2"))


@case
def with_field(spark):
    return spark.table("nested").select("k", f().col("s").withField("z", f().lit(5)).alias("w"), f().col("s").dropFields("x").alias("d"))


@case
def from_json_schema(spark):
    return spark.table("js").select("k", f().from_json("j", "a STRING, b STRUCT<c: STRING>").alias("p")).select("k", "p.a", "p.b.c")


@case
def to_json(spark):
    return spark.table("emp").select(f().to_json(f().struct("id", "name", "hired")).alias("j"))


@case
def window_functions(spark):
    from pyspark.sql import Window

    w = Window.partitionBy("dept").orderBy(f().desc("pay"), "id")
    return spark.table("emp").select("id", f().row_number().over(w).alias("r"), f().lag("id").over(w).alias("l"), f().sum("pay").over(w.rowsBetween(Window.unboundedPreceding, 0)).alias("s"))


@case
def window_time(spark):
    return spark.table("events").groupBy(f().window("ts", "5 minutes")).agg(f().sum("v").alias("v")).select("window.start", "window.end", "v")


@case
def agg_functions(spark):
    return spark.table("emp").agg(f().countDistinct("dept"), f().collect_set("active"), f().first("name", ignorenulls=True), f().stddev("pay"), f().expr("percentile(pay, 0.5)"), f().max_by("name", "pay"))


@case
def agg_functions_more(spark):
    f_ = f()
    return spark.table("emp").agg(f_.skewness("pay"), f_.kurtosis("pay"), f_.median("pay"), f_.mode("dept"), f_.percentile("id", 0.3), f_.try_sum("id"), f_.approx_count_distinct("dept"), f_.count_distinct("dept", "active"), f_.min_by("name", "hired"), f_.avg(f_.col("pay").cast("decimal(10,2)")))


@case
def grouping_functions(spark):
    f_ = f()
    return spark.table("sales").cube("year", "item").agg(f_.grouping("year"), f_.grouping_id("year", "item"), f_.sum("amount"))


@case
def describe(spark):
    return spark.table("emp").select("id", "pay", "name").describe()


@case
def summary(spark):
    return spark.table("emp").select("id", "pay").summary("count", "min", "50%", "max")


@case
def crosstab(spark):
    return spark.table("emp").na.drop(subset=["dept"]).crosstab("dept", "active")


@case
def unpivot(spark):
    return spark.sql("SELECT 1 AS id, 10 AS a, 20 AS b").unpivot("id", ["a", "b"], "name", "v")


@case
def sample_all(spark):
    return spark.range(5).sample(1.0)


@case
def to_df(spark):
    return spark.range(2).toDF("x")


@case
def replace_columns(spark):
    return spark.table("emp").withColumns({"id": f().col("id") * 2, "z": f().lit(None)}).select("id", "z")


@case
def temp_view(spark):
    spark.range(3).createOrReplaceTempView("three")
    return spark.sql("SELECT sum(id) AS s FROM three")


@case
def sql_args(spark):
    return spark.sql("SELECT :a + 1 AS x, :b AS y", args={"a": 1, "b": "t"})


@case
def sql_positional(spark):
    return spark.sql("SELECT ? + 1 AS x", args=[41])


@case
def column_operators(spark):
    c = f().col("id")
    return spark.range(3).select(c + 1, c - 1, c * 2, c / 2, c % 2, -c, c > 1, (c > 0) & (c < 2), (c == 0) | (c == 2), ~(c == 1), c.between(0, 1), c.eqNullSafe(None), c.bitwiseAND(1), c.isNull())


@case
def literals(spark):
    lit = f().lit
    return spark.range(1).select(lit(1), lit(1.5), lit("a"), lit(True), lit(None), lit(datetime.date(2020, 1, 1)), lit(decimal.Decimal("1.5")), lit(2**40), f().array(lit(1), lit(2)), lit(b"x"))


@case
def to_timestamp_formats(spark):
    return spark.createDataFrame([("2024-02-29 10:00:00", "29/02/2024")], ["a", "b"]).select(f().to_timestamp("a"), f().to_date("b", "dd/MM/yyyy"), f().unix_timestamp("a"), f().from_unixtime(f().lit(0)))


@case
def word_count(spark):
    lines = spark.createDataFrame([("a b a",), ("b c",)], ["line"])
    return lines.select(f().explode(f().split("line", " ")).alias("w")).groupBy("w").count()


@case
def unresolved(spark):
    return spark.table("emp").select("nope")


@case
def string_plus(spark):
    return spark.table("strs").filter("k = 7").select(f().col("s") + 1)


@case
def divide_by_zero(spark):
    return spark.range(3).select(f().lit(1) / f().col("id"))


@case
def correlations(spark):
    return spark.table("emp").agg(f().corr("id", "pay"), f().covar_samp("id", "pay"))


@case
def correlations_odd(spark):
    rows = {
        "nan": [(1.0, 2.0), (3.0, float("nan")), (4.0, 5.0)],
        "one": [(1.0, 2.0)],
        "one_nan": [(1.0, float("nan"))],
        "equal": [(1.0, 2.0), (1.0, 3.0)],
        "nulls": [(1.0, None), (2.0, 3.0), (None, 4.0)],
        "empty": [],
    }
    frames = {name: spark.createDataFrame(each, "a DOUBLE, b DOUBLE") for name, each in rows.items()}
    return spark.createDataFrame([(name, frame.stat.corr("a", "b"), frame.stat.cov("a", "b")) for name, frame in frames.items()], "name STRING, corr DOUBLE, cov DOUBLE")


@case
def map_functions(spark):
    m = f().create_map(f().lit("a"), f().col("id"), f().lit("b"), f().col("id") + 1)
    return spark.range(2).select(m.alias("m"), f().map_keys(m).alias("k"), m["a"].alias("v"), f().map_filter(m, lambda k, v: v > 1).alias("f"))


@case
def nested_lambda(spark):
    return spark.range(2).select(f().transform(f().sequence(f().lit(0), f().col("id")), lambda x, i: x * 10 + i).alias("t"), f().aggregate(f().array(f().lit(1), f().lit(2)), f().lit(0), lambda a, x: a + x).alias("s"))


def _told(spark, answers):
    """Answers of calls as rows, each with its number; of a call that is refused the error class."""
    from pyspark.errors import PySparkException

    told = []
    for number, answer in enumerate(answers):
        try:
            told.append((number, str(answer())))
        except PySparkException as error:
            told.append((number, getattr(error, "getCondition", error.getErrorClass)()))
    return spark.createDataFrame(told, "number INT, told STRING")


@case
def managed_tables(spark):
    def created(value):
        spark.sql(f"CREATE TABLE df_managed USING parquet AS SELECT {value} AS a")
        told = spark.table("df_managed").collect(), spark.catalog.getTable("df_managed").tableType
        spark.sql("DROP TABLE df_managed")
        return told

    def emptied():
        spark.sql("CREATE TABLE df_managed (a INT) USING parquet")
        told = spark.table("df_managed").collect()
        spark.sql("DROP TABLE df_managed")
        return told

    def of_database():
        spark.sql("CREATE DATABASE df_database")
        spark.sql("CREATE TABLE df_database.t USING json AS SELECT 1 AS a")
        spark.sql("DROP DATABASE df_database CASCADE")

    spark.sql("DROP TABLE IF EXISTS df_managed")
    spark.sql("DROP DATABASE IF EXISTS df_database CASCADE")
    named = lambda: spark.sql("CREATE TABLE `df-managed` (a INT) USING parquet")  # noqa: E731
    return _told(spark, [lambda: created(1), lambda: created(2), emptied, of_database, of_database, named])


@case
def external_tables(spark):
    place = tempfile.mkdtemp() + "/t"

    def reading():
        spark.sql(f"CREATE TABLE df_external (a INT) USING json LOCATION '{place}'")
        return spark.table("df_external").collect(), spark.catalog.getTable("df_external").tableType

    def again():
        spark.sql("INSERT INTO df_external VALUES (7)")
        spark.sql("DROP TABLE df_external")
        return reading()

    def refused():
        spark.sql("DROP TABLE df_external")
        spark.sql(f"CREATE TABLE df_external USING json LOCATION '{place}' AS SELECT 1 AS a")

    spark.sql("DROP TABLE IF EXISTS df_external")
    read = lambda: spark.read.schema("a INT").json(place + "/nope").collect()  # noqa: E731
    inferred = lambda: spark.catalog.createTable("df_inferred", place + "/nope").collect()  # noqa: E731
    answers = _told(spark, [reading, again, refused, read, inferred])
    spark.sql("DROP TABLE IF EXISTS df_external")
    return answers


@case
def new_tables(spark):
    def made():
        # Over Spark Connect what is returned would make the table once more.
        spark.catalog.createTable("df_new", schema=spark.range(1).schema)
        return spark.table("df_new").collect(), spark.catalog.getTable("df_new").tableType

    def inserted():
        spark.sql("INSERT INTO df_new VALUES (7)")
        return spark.table("df_new").collect()

    spark.sql("DROP TABLE IF EXISTS df_new")
    answers = _told(spark, [made, inserted, lambda: spark.catalog.createTable("df_columns", source="json").collect()])
    spark.sql("DROP TABLE IF EXISTS df_new")
    return answers


@case
def appended_tables(spark):
    def append(query, format=None, **more):
        writer = spark.sql(query).write.mode("append").options(**more)
        (writer.format(format) if format else writer).saveAsTable("df_appended")

    spark.sql("DROP TABLE IF EXISTS df_appended")
    spark.sql("CREATE TABLE df_appended (a INT, b INT) USING json")
    answers = _told(
        spark,
        [
            lambda: append("SELECT 1 AS a", "json"),
            lambda: append("SELECT 1 AS a, 2 AS b, 3 AS c", "json"),
            lambda: append("SELECT 1 AS a, 2 AS c", "json"),
            lambda: append("SELECT 1 AS a, 2 AS b", "csv"),
            lambda: append("SELECT 1 AS a, 2 AS b"),
            lambda: append("SELECT 1 AS a, 2 AS b", "json", path=tempfile.gettempdir() + "/df_elsewhere"),
            lambda: spark.sql("SELECT 1 AS a, 2 AS b").write.format("json").partitionBy("a").mode("append").saveAsTable("df_appended"),
            lambda: append("SELECT 1 AS B, 2 AS A", "json"),
            lambda: spark.table("df_appended").collect(),
        ],
    )
    spark.sql("DROP TABLE df_appended")
    return answers


def _lines(text):
    name, parts = None, []
    for line in text.strip("\n").split("\n"):
        if line.startswith(" "):
            parts.append(line.strip())
            continue
        if name:
            yield name, " ".join(parts)
        name, _, rest = line.partition(": ")
        parts = [rest]
    if name:
        yield name, " ".join(parts)


def _ordered(sql):
    tail = re.split(r"\border by\b", sql, flags=re.IGNORECASE)
    return len(tail) > 1 and tail[-1].count("(") >= tail[-1].count(")")


class Case:
    """One case; exactly one of `sql` and `function` is set."""

    def __init__(self, name, sql=None, function=None, conf=None, ordered=False):
        self.name, self.sql, self.function, self.conf, self.ordered = name, sql, function, conf or {}, ordered


def all_cases():
    """Every case, in the order of this file."""
    cases = []
    everything = ((EXPRESSIONS, True), (QUERIES, False), (function_cases.EXPRESSIONS, True), (function_cases.QUERIES, False))
    for texts, expressions in everything:
        for group, text in texts.items():
            for name, sql in _lines(text):
                conf = {}
                while sql.startswith("["):
                    setting, _, sql = sql[1:].partition("] ")
                    key, _, value = setting.partition("=")
                    conf[key] = value
                if not expressions:
                    cases.append(Case(f"{group}.{name}", sql=sql, conf=conf, ordered=_ordered(sql)))
                    continue
                each = [expression.strip() for expression in sql.split(" ;; ")]
                for number, expression in enumerate(each, 1):
                    own = f"{group}.{name}" + (f".{number}" if len(each) > 1 else "")
                    cases.append(Case(own, sql=f"SELECT {expression} AS c", conf=conf))
    for name, function in FUNCTIONS.items():
        cases.append(Case(name, function=function, ordered=getattr(function, "ordered", False)))
    for name, function in function_cases.FRAMES.items():
        cases.append(Case(f"frame.{name}", function=function))
    names = [case.name for case in cases]
    assert len(names) == len(set(names)), "names of cases must differ"
    return cases
