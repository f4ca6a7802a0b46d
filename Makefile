# make demo   the example, from packages to four commands' output, on this machine
# make test   everything that is checked: style, types, unit and end-to-end tests
# make quick  the same without the slow end-to-end tests

VENV := .venv
PYTHON := $(shell for p in /usr/bin/python3 python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)

.PHONY: demo test quick lint packages bench

demo: packages $(VENV)/ready
	$(VENV)/bin/python scripts/demo.py

test: packages $(VENV)/ready lint
	$(VENV)/bin/pytest

quick: packages $(VENV)/ready lint
	$(VENV)/bin/pytest -m "not slow"

bench: packages $(VENV)/ready
	$(VENV)/bin/python benchmarks/example.py

lint: $(VENV)/ready
	$(VENV)/bin/ruff check src tests scripts benchmarks
	$(VENV)/bin/ruff format --check src tests scripts benchmarks
	$(VENV)/bin/mypy

packages:
	./scripts/packages.sh

# The environment is whole when `ready` is there, and is made again when pyproject.toml changes.
$(VENV)/ready: pyproject.toml | packages
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --editable '.[test]'
	touch $@
