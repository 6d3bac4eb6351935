# The menu. Logic lives in Rust; each line is a command that can be typed as it stands.

# What there is
default:
    @just --list

# The first lab: kill broker-1 and watch
lab NAME="kill-broker-1":
    cargo run --release -- run scenarios/labs/{{NAME}}.json

# The everyday tests
test:
    cargo test

# A thousand seeds of a lab
sweep NAME="kill-broker-1" SEEDS="1..1000":
    cargo run --release -- sweep scenarios/labs/{{NAME}}.json --seeds {{SEEDS}}

# Ratios against their baselines, in one run
bench:
    cargo bench

# Formatting, lints, documentation
check:
    cargo fmt --all --check
    cargo clippy --workspace --all-targets -- -D warnings

# The messages and records of wire, from its schema tables
wire:
    cargo run -p highwater-wire-gen

# Our encoder and decoder against two others
compat:
    cargo test --release --manifest-path wire-compat/Cargo.toml

# Everything that CI runs
ci:
    bash .ci/run
