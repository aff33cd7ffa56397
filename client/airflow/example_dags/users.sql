-- User records from Kafka to Cassandra, as they arrive: what users_pipeline.py submits.
--
-- ${…} are the operator's variables; `headwater submit users.sql --set kafka=…` runs the same text.

CREATE OR REPLACE TABLE ${query}_topic USING kafka
  OPTIONS ('kafka.bootstrap.servers' '${kafka}', subscribe '${topic}', startingOffsets 'earliest');

CREATE OR REPLACE TABLE ${query}_table USING cassandra
  OPTIONS ('spark.cassandra.connection.host' '${cassandra}', keyspace '${keyspace}', table '${table}',
           'headwater.createTable' 'true', 'headwater.primaryKey' 'id', createTableColumnTypes 'id uuid');

CREATE FLOW ${query} AS INSERT INTO ${query}_table BY NAME
  SELECT data.*
  FROM (
    SELECT from_json(CAST(value AS STRING), 'id STRING, first_name STRING, last_name STRING, gender STRING,
             address STRING, post_code STRING, email STRING, username STRING, dob STRING, registered_date STRING,
             phone STRING, picture STRING, country STRING, city STRING, nat STRING, latitude DOUBLE,
             longitude DOUBLE') AS data
    FROM STREAM(${query}_topic)
  );
