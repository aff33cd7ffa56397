-- Batch queries over the tables of users.sql: Cassandra as it is now, and Kafka as a table.

SELECT country, count(*) AS users FROM created_users GROUP BY country ORDER BY users DESC, country LIMIT 10;

SELECT first_name, last_name, city, registered_date FROM created_users ORDER BY registered_date DESC LIMIT 5;

-- What is in the topic and not yet in the table: nothing, once the query has caught up.
SELECT count(*) AS missing
FROM (
  SELECT data.id AS id
  FROM (SELECT from_json(CAST(value AS STRING), 'id STRING') AS data FROM users_created)
) AS produced
LEFT ANTI JOIN created_users ON created_users.id = produced.id;
