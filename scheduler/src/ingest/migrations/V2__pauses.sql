-- Until when a source wants to be left alone, as it told one run or another.
CREATE TABLE headwater.ingest_pauses (
    source        text PRIMARY KEY,
    until         timestamptz NOT NULL
);

-- What was granted and did not come is given back.
ALTER TABLE headwater.ingest_grants ADD COLUMN id bigint GENERATED ALWAYS AS IDENTITY;
