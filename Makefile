# Everything runs in `.venv`, made from requirements/dev.txt: one environment for `make demo` and `make test`.

PYTHON ?=
ARGS ?=
UV ?= uv

COMPILE = $(UV) pip compile setup.cfg --universal --python-version 3.11 --generate-hashes --no-header \
	--no-emit-index-url --no-emit-find-links --quiet $(ARGS)

.PHONY: help demo test check chaos bench lock clean

help: ## what can be made
	@sed -n 's/^\([a-z]*\):.*## /make \1|/p' Makefile | awk -F'|' '{ printf "%-12s %s\n", $$1, $$2 }'

demo: .venv/ready ## watch Aegis decide simulated payments, on a real Kafka; Ctrl-C ends it
	@.venv/bin/aegis demo $(ARGS)

test: check ## all tests, those on a real Kafka included
	@.venv/bin/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder $(ARGS)

check: .venv/ready ## the static part of `make test`: ruff, mypy, import-linter
	@.venv/bin/python -m ruff check .
	@.venv/bin/python -m ruff format --check .
	@.venv/bin/python -m mypy
	@.venv/bin/lint-imports

chaos: .venv/ready ## the long test: workers and broker killed, stopped and revived under load
	@.venv/bin/python -m bench.chaos $(ARGS)

bench: .venv/ready ## payments a second, latency, CPU; docs/benchmarks.md says on what machine
	@.venv/bin/python -m bench $(ARGS)

lock: .venv/ready ## write requirements/*.txt and aegis_app/kafka.lock anew; ARGS=--upgrade raises versions (needs uv)
	@command -v $(UV) >/dev/null || { echo "make lock needs uv: pip install uv, or make lock UV=/path/to/uv" >&2; exit 2; }
	$(COMPILE) --extra dev --output-file requirements/dev.txt
	$(COMPILE) --constraint requirements/dev.txt --extra local --output-file requirements/local.txt
	$(COMPILE) --constraint requirements/dev.txt --extra data --output-file requirements/data.txt
	$(COMPILE) --constraint requirements/dev.txt --extra gateway --output-file requirements/gateway.txt
	$(COMPILE) --constraint requirements/dev.txt --extra train --output-file requirements/train.txt
	$(COMPILE) --constraint requirements/dev.txt --output-file requirements/base.txt
	printf 'setuptools>=77\nwheel\n' | $(UV) pip compile - --python-version 3.11 --universal --generate-hashes --no-header --no-emit-index-url \
		--no-emit-find-links --no-annotate --quiet --constraint requirements/dev.txt --output-file requirements/build.txt $(ARGS)
	.venv/bin/python -m aegis_app.kafka.lock

clean: ## remove what make and the tools made here; data in var/ stays
	rm -rf .venv build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A pyenv shim may exist and yet fail, Debian may have split off ensurepip: so every candidate is tried by running it.
.venv/bin/python:
	@for python in $(if $(PYTHON),"$(PYTHON)",python3.13 python3.12 python3.11 python3); do \
		"$$python" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 14))' >/dev/null 2>&1 || continue; \
		found="$$python"; \
		"$$python" -c 'import ensurepip, venv' >/dev/null 2>&1 || continue; \
		exec "$$python" -m venv --clear .venv; \
	done; \
	if [ -n "$$found" ]; then \
		echo "Aegis needs Python's venv module, which $$found lacks: on Debian and Ubuntu, apt install $$(basename "$$found")-venv" >&2; \
	else \
		echo "Aegis needs Python 3.11, 3.12 or 3.13, and none runs here: install one, or name it: make PYTHON=/path/to/python" >&2; \
	fi; exit 2

.venv/ready: requirements/dev.txt setup.cfg pyproject.toml | .venv/bin/python
	@echo "Installing the packages of requirements/dev.txt into .venv: about 565 MB to download, once (half of it TensorFlow)"
	@.venv/bin/python -m pip install --disable-pip-version-check --require-hashes -r requirements/dev.txt
	@.venv/bin/python -m pip install --disable-pip-version-check --quiet --no-deps --no-build-isolation -e .
	@touch .venv/ready
