# Short names for the commands that people and CI run. What needs logic lives in scripts/.

.DEFAULT_GOAL := help
.PHONY: help new dev test clients conformance check coverage bench bench-database budget bench-proxies soak advisories build sbom deploy deploy-code outputs destroy clean

PYTHON ?= python3

help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

new: ## Make a new function from a template: make new FUNCTION=weather
	@$(PYTHON) scripts/new.py "$(FUNCTION)"

dev: ## Run the functions on this machine, rebuilt on each change; AUTH=event-logger: that one alone, and an issuer of tokens
	@$(PYTHON) scripts/dev.py $(if $(AUTH),--auth $(AUTH))

test: ## Run every test: Rust, the official clients, five programs of others, the official conformance suite
	$(PYTHON) scripts/test.py

clients: ## Drive other people's programs against the functions, without a model; ONLY=opencode: that one alone
	$(PYTHON) scripts/clients.py $(if $(ONLY),-k $(ONLY))

conformance: ## Run the official conformance suite (part of `make test`)
	$(PYTHON) scripts/conformance.py

check: ## What CI checks besides the tests: format, lints, docs, dependencies
	$(PYTHON) scripts/check.py

coverage: ## Say how many of each crate's lines the Rust tests run
	$(PYTHON) scripts/coverage.py

bench: ## Measure the functions against a bare one, beside limits; PEERS=1: greeter beside other people's libraries
	$(PYTHON) scripts/$(if $(PEERS),bench_peers,bench).py

budget: ## Compare what can be counted of greeter's cost with bench/budget.json (part of `make test`); ACCEPT=1 accepts it
	$(PYTHON) scripts/budget.py $(if $(ACCEPT),--accept)

bench-database: ## Measure `log_event` against a bare function with the same insert, on one Postgres, in one run
	$(PYTHON) scripts/bench_database.py

bench-proxies: ## Measure what `mcpl proxy` adds to a call, beside other proxies, in one run
	$(PYTHON) scripts/bench_proxies.py

soak: ## Run what takes longer than a test may: 10,000 calls while everything breaks, an hour of 20 proxies, fuzzing, mutants
	$(PYTHON) scripts/soak.py

advisories: ## Look up the dependencies in the advisory database (needs the network)
	$(PYTHON) scripts/check.py advisories

build: ## Build the functions for Lambda: zips for arm64 and x86-64, without and with `auth`; or FUNCTION=… alone, FEATURES=…
	$(PYTHON) scripts/build.py $(FUNCTION) $(FEATURED)

sbom: ## Say what is linked into each function and mcpl, as CycloneDX; FOLDER=… says where to
	$(PYTHON) scripts/sbom.py $(FOLDER)

# By the Python that has the AWS SDK.
DEPLOY = "$$($(PYTHON) scripts/tools.py deploy)/venv/bin/python" scripts/deploy.py
CONFIRMED = $(if $(YES),--yes)
FEATURED = $(if $(FEATURES),--features '$(FEATURES)')
NAMED = $(if $(NAME),--name $(NAME))

deploy: ## Deploy STACK=…, a template of infra/, to AWS, with PARAMETERS="Name=value …", FEATURES=…; YES=1 does not ask
	@$(DEPLOY) up $(STACK) $(NAMED) $(CONFIRMED) $(FEATURED) $(foreach own,$(PARAMETERS),--parameter '$(own)')

deploy-code: ## Deploy FUNCTION=greeter alone, by `cargo lambda deploy`; ENV_FILE=… has its variables
	@$(DEPLOY) code $(FUNCTION) $(CONFIRMED) $(FEATURED) $(if $(ENV_FILE),--env-file $(ENV_FILE))

outputs: ## Show what STACK=… tells: URLs, ids
	@$(DEPLOY) outputs $(STACK) $(NAMED)

destroy: ## Delete STACK=… from AWS; a database leaves a snapshot
	@$(DEPLOY) down $(STACK) $(NAMED) $(CONFIRMED)

clean: ## Remove what was built and installed
	rm -rf .tools
	cargo clean
