# Shortcuts. `just check` is what CI runs.

# Everything, against real Kafka and Cassandra; a service that cannot be had is a failure.
check:
    .ci/run

# Everything; services that cannot be had are skipped.
test *arguments:
    tests/run {{arguments}}

# What needs nothing but this checkout.
hermetic:
    tests/run hermetic

# The whole pipeline in one process.
demo *arguments:
    cargo run -- demo {{arguments}}
