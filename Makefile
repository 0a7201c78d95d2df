# Two commands: `make demo` and `make test`. Both set everything up first; the second time that takes no time.
.PHONY: demo up monitoring test test-fast check check-page page-tools setup format clean

# Where Python may not keep what it compiled, every process compiles vLLM and torch anew: 15 s each.
unexport PYTHONDONTWRITEBYTECODE

PLUMBLINE := .venv/bin/plumbline
PYTEST := .venv/bin/pytest
METHOD := dpo
FAST := not engine and not faults and not browser
PARALLEL := -n auto --dist loadfile

demo: setup  ## the main job, visibly; then the stack stays up until Ctrl-C. METHOD=ppo trains by PPO instead of DPO
	$(PLUMBLINE) demo --method $(METHOD)

up: setup  ## the stack alone
	$(PLUMBLINE) up

monitoring: setup  ## Prometheus (from PATH), and Grafana where present, against the stack on this machine, until Ctrl-C
	.venv/bin/python -m k8s.monitoring.local

setup:  ## .venv from the lock file, the chat page from web/app; idempotent
	@sh requirements/setup.sh
	@sh web/app/build.sh

page-tools: setup  ## what the tests and checks of the chat page need beside what its build needs
	@sh web/app/build.sh --tools

check-page: page-tools  ## types, lint and unit tests of the chat page
	cd web/app && PATH="$$PATH:$(CURDIR)/.venv/bin" npm --silent run check && PATH="$$PATH:$(CURDIR)/.venv/bin" npm --silent test

test: page-tools  ## everything: fast tests, then the real engine, the browser and the faults
	$(PYTEST) $(PARALLEL) -m "$(FAST)"
	$(PYTEST) -m "not ($(FAST))"

test-fast: setup
	$(PYTEST) $(PARALLEL) -q -m "$(FAST)"

check: setup  ## what a change must pass before it is sent: format, lint, types, fast tests
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	$(PYTEST) $(PARALLEL) -q -m "$(FAST)"

format: setup
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

clean:  ## the environment and caches; data under PLUMBLINE_HOME stays
	rm -rf .venv web/page web/app/node_modules build *.egg-info .pytest_cache .mypy_cache .ruff_cache
