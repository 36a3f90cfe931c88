# Every door of the repository. `make` alone lists them.
.DEFAULT_GOAL := help

help: ## list these doors
	@echo "make run    start Pointsman on this machine; needs nothing beforehand"
	@echo "make test   lint, and every test"
	@echo
	@grep -hE '^[a-z]+:.*## ' Makefile | grep -vE '^(run|test):' | sed -E 's/^([a-z]+):[^#]*## (.*)/\1 \2/' | while read -r door what; do printf 'make %-7s%s\n' "$$door" "$$what"; done
	@echo
	@echo "Variables of make run: PORT, API_KEY, MODEL, SANDBOX, POINTSMAN_DATA_DIR, DATABASE_URL, a provider's key; also from .env"

run: setup ## start Pointsman on this machine
	@exec .venv/bin/python -m supervisor

test: setup lint ## lint, and every test
	@.venv/bin/pytest

lint: python ## ruff, mypy, buf, Biome, and whether generated files are fresh
	@deploy/setup/lint.sh

chaos: setup ## the tests in tests/chaos at the size that the guarantees are stated for; half an hour
	@CHAOS_FULL=1 .venv/bin/pytest tests/chaos

bench: setup ## every ratio against the bare thing, with its gate; under ten minutes on a quiet machine
	@.venv/bin/python bench

proto: python ## generate stubs and descriptors from protos/
	@.venv/bin/python libs/stubs/generate.py

deploy: images ## build the images and start them in containers, with docker compose
	@docker compose -f deploy/compose.yaml up --detach --wait

images: python ## build the container images that deploy/compose.yaml runs
	@deploy/images/build.sh

web: ## build the web client into web/dist; needs npm
	@deploy/setup/web.sh

setup: python ## everything that run and test need
	@deploy/setup/bubblewrap.sh
	@deploy/setup/web.sh

python: ## the Python environment .venv
	@deploy/setup/python.sh

lock: python ## pin requirements.in with hashes in requirements.lock
	@deploy/setup/lock.sh

clean: ## remove what can be made again; keeps data/ and .env
	@rm -rf .venv build web/dist web/node_modules .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help run test lint chaos bench proto deploy images web setup python lock clean
