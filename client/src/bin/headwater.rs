//! The one binary.

use std::process::ExitCode;

/// Record batches are many middle-sized allocations from many threads, which the system's allocator serves worst.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    headwater::cli::main()
}
