-- Who is staged in PostgreSQL, and who of them is published: staging is a table like any other.
--
--   headwater ingest start --users 1000 --topic users_created --postgres postgresql://postgres@localhost/postgres
--   headwater sql -f examples/staging.sql --set postgres=postgresql://postgres@localhost/postgres

CREATE OR REPLACE TABLE staging USING postgres OPTIONS (url '${postgres}', dbtable 'headwater.users');

SELECT country, count(*) AS users, count(published_at) AS published
FROM staging
GROUP BY country
ORDER BY users DESC;
