-- User records from Kafka to Cassandra, as they arrive.
--
--   headwater submit examples/users.sql --set kafka=localhost:9092 --set cassandra=localhost:9042
--
-- The topic must exist; the table is made when it does not.

CREATE OR REPLACE TABLE users_created USING kafka
  OPTIONS ('kafka.bootstrap.servers' '${kafka}', subscribe 'users_created', startingOffsets 'earliest');

CREATE OR REPLACE TABLE created_users USING cassandra
  OPTIONS ('spark.cassandra.connection.host' '${cassandra}', keyspace 'spark_streams', table 'created_users',
           'headwater.createTable' 'true', 'headwater.primaryKey' 'id', createTableColumnTypes 'id uuid');

CREATE FLOW users AS INSERT INTO created_users BY NAME
  SELECT data.*
  FROM (
    SELECT from_json(CAST(value AS STRING), 'id STRING, first_name STRING, last_name STRING, gender STRING,
             address STRING, post_code STRING, email STRING, username STRING, dob STRING, registered_date STRING,
             phone STRING, picture STRING, country STRING, city STRING, nat STRING, latitude DOUBLE,
             longitude DOUBLE') AS data
    FROM STREAM(users_created)
  );
