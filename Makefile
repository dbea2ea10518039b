# Short names for the commands that people and CI run. Logic belongs in $(SCRIPTS)/.

.DEFAULT_GOAL := help
.PHONY: help new new-workspace dev test clients conformance check contract coverage bench bench-database budget bench-proxies soak advisories build sbom move-events deploy rollback verify-account deploy-code outputs delete-subject rotate-state-key revoke-grants rotate-keys destroy clean

PYTHON ?= python3
# Beside this file, which the Makefile of another workspace reads, too (`make new-workspace`).
SCRIPTS := $(patsubst ./%,%,$(dir $(lastword $(MAKEFILE_LIST))))scripts

ifeq ($(origin PATH),command line)
$(error PATH is the search path for programs: name a folder by FOLDER=…)
endif
# A misspelled option would do nothing. The options are the words in capital letters of this file.
GIVEN := $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name)))
ifneq ($(strip $(GIVEN)),)
UNKNOWN := $(filter-out $(shell grep -oh '[A-Z][A-Z_]*' $(MAKEFILE_LIST)),$(GIVEN))
ifneq ($(strip $(UNKNOWN)),)
$(error $(UNKNOWN): there is no such option. See `make help`)
endif
endif

# The functions of FUNCTION=a,b; without it, all.
CHOSEN = $(if $(FUNCTION),--functions '$(FUNCTION)')

help: ## List the targets
	@awk -F':.*## ' '/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

new: ## Create a function from a template: make new NAME=weather; KIND=stateful: with a database
	@$(PYTHON) $(SCRIPTS)/new.py "$(or $(FUNCTION),$(NAME))" $(if $(KIND),--kind '$(KIND)')

new-workspace: ## Create a repository of your own on these crates: make new-workspace FOLDER=../mine; GIT_URL=… in place of origin
	@$(PYTHON) $(SCRIPTS)/new_workspace.py "$(FOLDER)" $(if $(GIT_URL),--git-url '$(GIT_URL)')

dev: ## Run the functions, or FUNCTION=a,b, on this machine, rebuilt on each change; AUTH=a: that one, behind the authorization server; DATABASE=dsql: event-logger on the emulator of Aurora DSQL; TASKS=a: that one, and a second function that runs its tasks
	@$(PYTHON) $(SCRIPTS)/dev.py $(CHOSEN) $(if $(AUTH),--auth $(AUTH)) $(if $(DATABASE),--database $(DATABASE)) $(if $(TASKS),--tasks $(TASKS))

test: ## Run all tests: Rust, the official clients, five programs, the conformance suite; FUNCTION=a,b: those of these functions
	$(PYTHON) $(SCRIPTS)/test.py $(CHOSEN)

clients: ## Test third-party MCP clients against the functions, without a model; ONLY=opencode: only that one
	$(PYTHON) $(SCRIPTS)/clients.py $(if $(ONLY),-k $(ONLY))

conformance: ## Run the official conformance suite (part of `make test`)
	$(PYTHON) $(SCRIPTS)/conformance.py

check: ## Run the checks of CI other than tests: format, lints, docs, dependencies; FUNCTION=a,b: those of these functions
	$(PYTHON) $(SCRIPTS)/check.py $(CHOSEN)

contract: ## Write the contract of FUNCTION=… and its lock file; ACCEPT='NAME …' accepts breaking changes; SINCE=REVISION only compares lock files with a revision (docs/contracts.md)
	@$(PYTHON) $(SCRIPTS)/contract.py $(FUNCTION) $(if $(SINCE),--since $(SINCE),$(if $(ACCEPT),--accept $(ACCEPT)))

coverage: ## Report the line coverage of the Rust tests for each crate
	$(PYTHON) $(SCRIPTS)/coverage.py

bench: ## Benchmark the functions against a bare one, with limits; PEERS=1: greeter against other MCP libraries
	$(PYTHON) $(SCRIPTS)/$(if $(PEERS),bench_peers,bench).py

budget: ## Compare instructions, allocations and zip size with bench/budget.json (part of `make test`); ACCEPT=1 updates it
	$(PYTHON) $(SCRIPTS)/budget.py $(if $(ACCEPT),--accept)

bench-database: ## Benchmark `log_event` against a bare function with the same insert, on one Postgres, in one run
	$(PYTHON) $(SCRIPTS)/bench_database.py

bench-proxies: ## Benchmark the overhead of `mcpl proxy` and of other proxies, in one run
	$(PYTHON) $(SCRIPTS)/bench_proxies.py

soak: ## Run the long tests: 10,000 calls and 10,000 tasks with fault injection, Postgres 14 to 18, an hour of 20 proxies, fuzzing, mutants
	$(PYTHON) $(SCRIPTS)/soak.py

advisories: ## Check the dependencies against the advisory database (needs the network)
	$(PYTHON) $(SCRIPTS)/check.py advisories

build: ## Build the functions for Lambda: zips for arm64 and x86-64, without and with `auth`; FUNCTION=a,b for some, FEATURES=…
	$(PYTHON) $(SCRIPTS)/build.py $(if $(FUNCTION),'$(FUNCTION)') $(FEATURED)

sbom: ## Write an SBOM (CycloneDX) for each function and mcpl; FOLDER=… sets the output folder
	$(PYTHON) $(SCRIPTS)/sbom.py $(FOLDER)

move-events: ## Copy the events of FROM=… to the Aurora DSQL of TO=…, by their stacks; VERIFY=1 compares (docs/database.md)
	@"$$($(PYTHON) $(SCRIPTS)/tools.py move)/venv/bin/python" $(SCRIPTS)/move_events.py --from-stack '$(FROM)' --to-stack '$(TO)' $(if $(VERIFY),--verify) $(CONFIRMED)

# The Python of the tool folder, which has the AWS SDK.
DEPLOY = "$$($(PYTHON) $(SCRIPTS)/tools.py deploy)/venv/bin/python" $(SCRIPTS)/deploy.py
CONFIRMED = $(if $(YES),--yes)
FEATURED = $(if $(FEATURES),--features '$(FEATURES)')
NAMED = $(if $(NAME),--name $(NAME))

ROLE = $(if $(ROLE_ARN),--role-arn '$(ROLE_ARN)')
REPLACED = $(if $(REPLACE),--replace '$(REPLACE)')
STAGE = $(if $(PARAMETERS_FILE),--parameters-file '$(PARAMETERS_FILE)') $(foreach own,$(TAGS),--tag '$(own)') $(if $(PROTECT),--protect $(PROTECT))
WATCHED = $(if $(CANARY),--canary $(CANARY)) $(if $(MINUTES),--minutes $(MINUTES))

deploy: ## Deploy STACK=… to AWS, or the stacks of FUNCTION=a,b, or of all functions, with PARAMETERS="Name=value …", PARAMETERS_FILE=…, FEATURES=…, CANARY=0.1; YES=1 does not ask
	@$(DEPLOY) up $(STACK) $(CHOSEN) $(NAMED) $(CONFIRMED) $(FEATURED) $(STAGE) $(WATCHED) $(REPLACED) $(ROLE) $(if $(DIGEST),--digest $(DIGEST)) $(if $(PLAN),--plan) $(foreach own,$(PARAMETERS),--parameter '$(own)')

rollback: ## Move the alias of STACK=… to an earlier version: the one before, or VERSION=…
	@$(DEPLOY) rollback $(STACK) $(NAMED) $(CONFIRMED) $(REPLACED) $(ROLE) $(if $(VERSION),--version $(VERSION)) $(if $(NO_CHECK),--no-check)

verify-account: ## Deploy greeter to a real account, with a bad canary, a rollback and a promotion, and destroy it; DATABASE=dsql: event-logger
	$(PYTHON) $(SCRIPTS)/build.py $(if $(DATABASE),event-logger --features tasks,greeter) --architecture arm64
	@"$$($(PYTHON) $(SCRIPTS)/tools.py move)/venv/bin/python" $(SCRIPTS)/verify_account.py --lambda-dir target/lambda/arm64 $(if $(DATABASE),--database $(DATABASE)) $(CONFIRMED)

deploy-code: ## Deploy FUNCTION=greeter without a stack, with `cargo lambda deploy`; ENV_FILE=… sets its variables
	@$(DEPLOY) code $(FUNCTION) $(CONFIRMED) $(FEATURED) $(if $(ENV_FILE),--env-file $(ENV_FILE))

outputs: ## Show the outputs of STACK=…: URLs, ids
	@$(DEPLOY) outputs $(STACK) $(NAMED)

delete-subject: ## Delete the rows that the server of STACK=… has of a person: ISSUER=…, SUBJECT=… (docs/state.md)
	@$(DEPLOY) delete-subject $(STACK) $(NAMED) $(CONFIRMED) --issuer '$(ISSUER)' --subject '$(SUBJECT)'

rotate-state-key: ## Write a new version of the state key of STACK=… (docs/operations.md)
	@$(DEPLOY) rotate-state-key $(STACK) $(NAMED) $(CONFIRMED)

revoke-grants: ## Revoke all grants of the authorization server of STACK=authorization-server (docs/authorization-server.md)
	@$(DEPLOY) revoke-grants $(STACK) $(NAMED) $(CONFIRMED)

rotate-keys: ## Add a signing key to the authorization server of STACK=authorization-server; REPLACE_KEYS=1 replaces all at once
	@$(DEPLOY) rotate-keys $(STACK) $(NAMED) $(CONFIRMED) $(if $(REPLACE_KEYS),--replace-keys)

destroy: ## Delete STACK=… from AWS; a database leaves a snapshot
	@$(DEPLOY) down $(STACK) $(NAMED) $(CONFIRMED) $(ROLE)

clean: ## Remove build output and installed tools
	rm -rf .tools
	cargo clean
