# Two commands: `make demo` and `make test`. Both set everything up first; the second time that takes no time.
.PHONY: demo up test test-fast check setup format clean

PLUMBLINE := .venv/bin/plumbline
PYTEST := .venv/bin/pytest
METHOD := dpo
FAST := not engine and not faults and not browser

demo: setup  ## the main job, visibly; then the stack stays up until Ctrl-C. METHOD=ppo trains by PPO instead of DPO
	$(PLUMBLINE) demo --method $(METHOD)

up: setup  ## the stack alone
	$(PLUMBLINE) up

setup:  ## .venv from the lock file; idempotent
	@sh requirements/setup.sh

test: setup  ## everything: fast tests, then the real engine, the browser and the faults
	$(PYTEST) -m "$(FAST)"
	$(PYTEST) -m "not ($(FAST))"

test-fast: setup
	$(PYTEST) -q -m "$(FAST)"

check: setup  ## what a change must pass before it is sent: format, lint, types, fast tests
	.venv/bin/ruff format --check .
	.venv/bin/ruff check .
	.venv/bin/mypy
	$(PYTEST) -q -m "$(FAST)"

format: setup
	.venv/bin/ruff format .
	.venv/bin/ruff check --fix .

clean:  ## the environment and caches; data under PLUMBLINE_HOME stays
	rm -rf .venv build *.egg-info .pytest_cache .mypy_cache .ruff_cache
