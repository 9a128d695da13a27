# make demo    a whole move of a busy shop, on two private servers
# make test    the everyday suite on real MariaDB servers (under 15 minutes)
# make lint / make types / make ci
#
# Each works as the first command on a fresh Debian or Ubuntu machine with root or sudo; a second run finds all done.

PYTHON ?= $(firstword $(foreach name,python3.11 python3.12 python3.13 python3,$(shell command -v $(name) 2>/dev/null)))
VENV := .venv
READY := $(VENV)/.ready
# Tests mostly wait: for leases, for servers, for each other. Each worker has servers of its own.
PARALLEL := -n 2 --dist worksteal

.PHONY: demo test lint types ci servers

demo: $(READY) servers
	$(VENV)/bin/dbmigrate demo

test: $(READY) servers
	DBMIGRATE_MARIADB_PLUGINS=$$(.ci/mariadb-plugins | tail -n 1) \
		$(VENV)/bin/python -m pytest -q $(PARALLEL) -m "not slow and not containers and not mysql"

lint: $(READY)
	$(VENV)/bin/ruff check .

types: $(READY)
	$(VENV)/bin/mypy

ci:
	.ci/run

servers:
	@.ci/prepare $(PYTHON)

# The stamp is written last, so an interrupted installation is done again.
$(READY): pyproject.toml
	@.ci/prepare $(PYTHON)
	test -x $(VENV)/bin/pip || $(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install -q -e '.[dev]'
	@touch $@
