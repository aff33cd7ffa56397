-- Runs of ingestion, and the users that they stage. Everything that changes together is in one transaction.

-- A run: what was asked for (without secrets), and how far it is.
CREATE TABLE headwater.ingest_runs (
    run_id        text PRIMARY KEY,
    state         text NOT NULL
                  CHECK (state IN ('PENDING', 'FETCHING', 'PUBLISHING', 'FINISHED', 'FAILED', 'CANCELLED')),
    request       jsonb NOT NULL,
    source        text NOT NULL,
    topic         text NOT NULL,
    seed          text NOT NULL,
    requested     bigint NOT NULL,
    -- Users of other runs that this one publishes.
    claimed       bigint NOT NULL DEFAULT 0,
    published     bigint NOT NULL DEFAULT 0,
    -- By partition of the topic, the offset behind the last published record.
    end_offsets   jsonb NOT NULL DEFAULT '{}',
    message       text NOT NULL DEFAULT '',
    error_class   text NOT NULL DEFAULT '',
    started_at    timestamptz NOT NULL DEFAULT now(),
    updated_at    timestamptz NOT NULL DEFAULT now(),
    ended_at      timestamptz
);
CREATE INDEX ingest_runs_started ON headwater.ingest_runs (started_at DESC);

-- The pages of a run, written before the first is fetched. A page is settled once, with its counts.
CREATE TABLE headwater.ingest_pages (
    run_id        text NOT NULL REFERENCES headwater.ingest_runs ON DELETE CASCADE,
    page          integer NOT NULL,
    users         integer NOT NULL,
    staged_at     timestamptz,
    fetched       integer NOT NULL DEFAULT 0,
    staged        integer NOT NULL DEFAULT 0,
    rejected      integer NOT NULL DEFAULT 0,
    duplicates    integer NOT NULL DEFAULT 0,
    PRIMARY KEY (run_id, page)
);

-- Users that were asked of a source, and when: what its limit is measured by, over all runs.
CREATE TABLE headwater.ingest_grants (
    source        text NOT NULL,
    granted_at    timestamptz NOT NULL DEFAULT clock_timestamp(),
    users         bigint NOT NULL
);
CREATE INDEX ingest_grants_source ON headwater.ingest_grants (source, granted_at);

-- What executors have fetched of pages that are not settled yet. A page whose rows are lost is fetched again: hence
-- unlogged.
CREATE UNLOGGED TABLE headwater.ingest_arrivals (
    run_id          text NOT NULL,
    page            integer NOT NULL,
    position        integer NOT NULL,
    id              text,
    first_name      text,
    last_name       text,
    gender          text,
    address         text,
    post_code       text,
    email           text,
    username        text,
    dob             text,
    registered_date text,
    phone           text,
    picture         text,
    country         text,
    city            text,
    nat             text,
    latitude        double precision,
    longitude       double precision,
    ingested_at     timestamptz,
    raw             text,
    rejected        text,
    PRIMARY KEY (run_id, page, position)
);

-- Users that came and cannot be used.
CREATE TABLE headwater.ingest_rejected (
    run_id        text NOT NULL REFERENCES headwater.ingest_runs ON DELETE CASCADE,
    page          integer NOT NULL,
    position      integer NOT NULL,
    reason        text NOT NULL,
    user_id       text,
    raw           json,
    rejected_at   timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, page, position)
);

-- Staging: everybody once, whichever run brought them. `publisher` is the run that publishes them.
CREATE TABLE headwater.users (
    id                  uuid PRIMARY KEY,
    first_name          text,
    last_name           text,
    gender              text,
    address             text,
    post_code           text,
    email               text,
    username            text,
    dob                 text,
    registered_date     text,
    phone               text,
    picture             text,
    country             text,
    city                text,
    nat                 text,
    latitude            double precision,
    longitude           double precision,
    ingested_at         timestamptz,
    raw                 json,
    run_id              text NOT NULL,
    page                integer NOT NULL,
    position            integer NOT NULL,
    staged_at           timestamptz NOT NULL DEFAULT now(),
    publisher           text NOT NULL,
    published_at        timestamptz,
    published_topic     text,
    published_partition integer,
    published_offset    bigint
);
CREATE INDEX users_unpublished ON headwater.users (publisher, id) WHERE published_at IS NULL;
CREATE INDEX users_run ON headwater.users (run_id);
CREATE INDEX users_publisher ON headwater.users (publisher) WHERE publisher <> run_id;

-- One try to publish the unpublished users of a run up to `last_id`. Its starting offsets are written before anything
-- is sent, so that whatever arrived can be found.
--   OPEN: slices may be claimed and sent · CLOSED: no more are · RESOLVED: everything that arrived is marked
CREATE TABLE headwater.ingest_attempts (
    run_id        text NOT NULL REFERENCES headwater.ingest_runs ON DELETE CASCADE,
    attempt       integer NOT NULL,
    state         text NOT NULL CHECK (state IN ('OPEN', 'CLOSED', 'RESOLVED')),
    topic         text NOT NULL,
    start_offsets jsonb NOT NULL,
    last_id       uuid NOT NULL,
    users         bigint NOT NULL,
    slices        integer NOT NULL,
    opened_at     timestamptz NOT NULL DEFAULT now(),
    closed_at     timestamptz,
    resolved_at   timestamptz,
    PRIMARY KEY (run_id, attempt)
);

-- A slice of an attempt is sent by one task, once: whoever claims it.
CREATE TABLE headwater.ingest_claims (
    run_id        text NOT NULL,
    attempt       integer NOT NULL,
    slice         integer NOT NULL,
    claimed_at    timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (run_id, attempt, slice),
    FOREIGN KEY (run_id, attempt) REFERENCES headwater.ingest_attempts ON DELETE CASCADE
);

-- Users that were found in the topic, before they are marked.
CREATE TABLE headwater.ingest_deliveries (
    run_id          text NOT NULL,
    attempt         integer NOT NULL,
    topic_partition integer NOT NULL,
    record_offset   bigint NOT NULL,
    user_id         uuid NOT NULL,
    PRIMARY KEY (run_id, attempt, topic_partition, record_offset)
);
CREATE INDEX ingest_deliveries_user ON headwater.ingest_deliveries (user_id);

-- Claims a slice for the task that calls, or fails. A closed attempt has nothing to claim; closing waits for claims
-- that are being made.
CREATE FUNCTION headwater.claim_slice(run text, number integer, part integer) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM 1 FROM headwater.ingest_attempts
        WHERE run_id = run AND attempt = number AND state = 'OPEN' FOR SHARE;
    IF NOT FOUND THEN
        RAISE EXCEPTION '[INGEST_SLICE_CLAIMED] publish attempt % of run % is closed', number, run;
    END IF;
    INSERT INTO headwater.ingest_claims (run_id, attempt, slice) VALUES (run, number, part) ON CONFLICT DO NOTHING;
    IF NOT FOUND THEN
        RAISE EXCEPTION '[INGEST_SLICE_CLAIMED] slice % of publish attempt % of run % has been claimed by a task before', part, number, run;
    END IF;
END
$$;
