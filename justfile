# Recipes for working on ReYNa Studio. Each brings the packages it needs.

set shell := ["bash", "-euo", "pipefail", "-c"]

# Under `uv run` the variable UV names the uv in use, which need not be on PATH.
uv := env("UV", "uv")
in_env := quote(uv) + " run --active --extra local --group dev"
python_code := "src projections processors schemas templates tests"

# Show the recipes
default:
    @just --list --unsorted

# Start everything on this machine (options as for `reyna up`)
up *options:
    {{ in_env }} reyna up {{ options }}

# Check style and formatting
lint:
    {{ in_env }} ruff check
    {{ in_env }} ruff format --check

# Mend what ruff can mend by itself
format:
    {{ in_env }} ruff check --fix
    {{ in_env }} ruff format

# Check types
types:
    {{ in_env }} mypy {{ python_code }}

# Check that imports keep to the floors of docs/architecture.md
contracts:
    {{ in_env }} lint-imports

# Run the Python tests, all or those named
test *options:
    scripts/ensure-browser
    {{ in_env }} pytest {{ options }}

# Run the page's tests
web-test: page-packages
    cd web && {{ in_env }} npm test

# Install the packages of the page, unless they are there
[private]
page-packages:
    [ web/node_modules/.package-lock.json -nt web/package-lock.json ] \
        || (cd web && {{ in_env }} npm ci --no-audit --no-fund)

# Build the wheel, install it alone in a fresh environment and start it
wheel:
    {{ in_env }} python scripts/check_wheel.py

# Run all Python tests, two files at a time
[private]
all-tests:
    scripts/ensure-browser
    {{ in_env }} pytest --numprocesses 2 --dist loadfile

# Everything that must pass before a change lands; pytest has the last word
ci: lint types contracts web-test wheel all-tests
