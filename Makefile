# Short names for the commands that people and CI run. Logic belongs in scripts/.

.DEFAULT_GOAL := help
.PHONY: help new dev test clients conformance check contract coverage bench bench-database budget bench-proxies soak advisories build sbom deploy rollback verify-account deploy-code outputs destroy clean

PYTHON ?= python3
# The functions of FUNCTION=a,b; without it, all.
CHOSEN = $(if $(FUNCTION),--functions '$(FUNCTION)')

help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

new: ## Create a function from a template: make new NAME=weather; KIND=stateful: with a database
	@$(PYTHON) scripts/new.py "$(or $(NAME),$(FUNCTION))" $(if $(KIND),--kind '$(KIND)')

dev: ## Run the functions, or FUNCTION=a,b, on this machine, rebuilt on each change; AUTH=a: that one, with an issuer of tokens
	@$(PYTHON) scripts/dev.py $(CHOSEN) $(if $(AUTH),--auth $(AUTH))

test: ## Run all tests: Rust, the official clients, five programs, the conformance suite; FUNCTION=a,b: those of these functions
	$(PYTHON) scripts/test.py $(CHOSEN)

clients: ## Test third-party MCP clients against the functions, without a model; ONLY=opencode: only that one
	$(PYTHON) scripts/clients.py $(if $(ONLY),-k $(ONLY))

conformance: ## Run the official conformance suite (part of `make test`)
	$(PYTHON) scripts/conformance.py

check: ## Run the checks of CI other than tests: format, lints, docs, dependencies; FUNCTION=a,b: those of these functions
	$(PYTHON) scripts/check.py $(CHOSEN)

contract: ## Write the contract of FUNCTION=… and its lock file; ACCEPT='NAME …' accepts breaking changes (docs/contracts.md)
	@$(PYTHON) scripts/contract.py $(FUNCTION) $(if $(ACCEPT),--accept $(ACCEPT))

coverage: ## Report the line coverage of the Rust tests for each crate
	$(PYTHON) scripts/coverage.py

bench: ## Benchmark the functions against a bare one, with limits; PEERS=1: greeter against other MCP libraries
	$(PYTHON) scripts/$(if $(PEERS),bench_peers,bench).py

budget: ## Compare instructions, allocations and zip size with bench/budget.json (part of `make test`); ACCEPT=1 updates it
	$(PYTHON) scripts/budget.py $(if $(ACCEPT),--accept)

bench-database: ## Benchmark `log_event` against a bare function with the same insert, on one Postgres, in one run
	$(PYTHON) scripts/bench_database.py

bench-proxies: ## Benchmark the overhead of `mcpl proxy` and of other proxies, in one run
	$(PYTHON) scripts/bench_proxies.py

soak: ## Run the long tests: 10,000 calls with fault injection, an hour of 20 proxies, fuzzing, mutants
	$(PYTHON) scripts/soak.py

advisories: ## Check the dependencies against the advisory database (needs the network)
	$(PYTHON) scripts/check.py advisories

build: ## Build the functions for Lambda: zips for arm64 and x86-64, without and with `auth`; FUNCTION=a,b for some, FEATURES=…
	$(PYTHON) scripts/build.py $(if $(FUNCTION),'$(FUNCTION)') $(FEATURED)

sbom: ## Write an SBOM (CycloneDX) for each function and mcpl; FOLDER=… sets the output folder
	$(PYTHON) scripts/sbom.py $(FOLDER)

# The Python of the tool folder, which has the AWS SDK.
DEPLOY = "$$($(PYTHON) scripts/tools.py deploy)/venv/bin/python" scripts/deploy.py
CONFIRMED = $(if $(YES),--yes)
FEATURED = $(if $(FEATURES),--features '$(FEATURES)')
NAMED = $(if $(NAME),--name $(NAME))

ROLE = $(if $(ROLE_ARN),--role-arn '$(ROLE_ARN)')
REPLACED = $(if $(REPLACE),--replace '$(REPLACE)')
STAGE = $(if $(PARAMETERS_FILE),--parameters-file '$(PARAMETERS_FILE)') $(foreach own,$(TAGS),--tag '$(own)') $(if $(PROTECT),--protect $(PROTECT))
WATCHED = $(if $(CANARY),--canary $(CANARY)) $(if $(MINUTES),--minutes $(MINUTES))

deploy: ## Deploy STACK=… to AWS, with PARAMETERS="Name=value …", PARAMETERS_FILE=…, FEATURES=…, CANARY=0.1; YES=1 does not ask
	@$(DEPLOY) up $(STACK) $(NAMED) $(CONFIRMED) $(FEATURED) $(STAGE) $(WATCHED) $(REPLACED) $(ROLE) $(if $(DIGEST),--digest $(DIGEST)) $(if $(PLAN),--plan) $(foreach own,$(PARAMETERS),--parameter '$(own)')

rollback: ## Move the alias of STACK=… to an earlier version: the one before, or VERSION=…
	@$(DEPLOY) rollback $(STACK) $(NAMED) $(CONFIRMED) $(REPLACED) $(ROLE) $(if $(VERSION),--version $(VERSION)) $(if $(NO_CHECK),--no-check)

verify-account: ## Deploy greeter to a real account, with a bad canary, a rollback and a promotion, and destroy it
	$(PYTHON) scripts/build.py greeter --architecture arm64
	@"$$($(PYTHON) scripts/tools.py deploy)/venv/bin/python" scripts/verify_account.py --lambda-dir target/lambda/arm64 $(CONFIRMED)

deploy-code: ## Deploy FUNCTION=greeter without a stack, with `cargo lambda deploy`; ENV_FILE=… sets its variables
	@$(DEPLOY) code $(FUNCTION) $(CONFIRMED) $(FEATURED) $(if $(ENV_FILE),--env-file $(ENV_FILE))

outputs: ## Show the outputs of STACK=…: URLs, ids
	@$(DEPLOY) outputs $(STACK) $(NAMED)

destroy: ## Delete STACK=… from AWS; a database leaves a snapshot
	@$(DEPLOY) down $(STACK) $(NAMED) $(CONFIRMED) $(ROLE)

clean: ## Remove build output and installed tools
	rm -rf .tools
	cargo clean
