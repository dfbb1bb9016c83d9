# `make help` lists the targets. Everything that is installed on the way goes to the cache folder, outside the tree.

SHELL := /usr/bin/env bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

CARGO ?= cargo
CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/timescaledb-policy-operator

KUBERNETES := tests/support/kubernetes/build.sh
TIMESCALEDB := tests/support/timescaledb/install.sh
HELM := tests/support/helm/install.sh
CHART := charts/timescaledb-policy-operator
PROMETHEUS := tests/support/prometheus/build.sh
# Where the tests find their servers: each script prints its folder. In the recipe, when they are there.
WITH_TOOLS = KUBEBUILDER_ASSETS="$$($(KUBERNETES))" TIMESCALEDB_WASM="$$($(TIMESCALEDB))" HELM="$$($(HELM))"
# Where they find promtool, too, which nobody else needs.
WITH_TEST_TOOLS = $(WITH_TOOLS) PROMETHEUS="$$($(PROMETHEUS))"

CARGO_DENY_VERSION := 0.20.2
CARGO_DENY := $(CACHE)/cargo-deny-$(CARGO_DENY_VERSION)/bin/cargo-deny

# The part of the operator that decides: plain functions of their arguments.
PURE := $(wildcard src/api src/catalog* src/check src/desired.rs src/error.rs src/forecast src/import src/monitoring src/plan \
  src/recommend src/resources.rs src/sql.rs src/status.rs)
IMPURE := \b(tokio|tokio_postgres|rand|fastrand|SystemTime|Instant)\b|\basync (fn|move|\{)|(Timestamp|Zoned)::now
IMPURE := $(IMPURE)|\bkube::(Client|Api|client|runtime)\b|\bkube::\{.*\b(Client|Api)\b|\bApi(<|::<)|\bClient::

.PHONY: help
help: ## List the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-18s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))


.PHONY: build
build: ## Build the operator (release)
	$(CARGO) build --release --locked

.PHONY: demo
demo: tools ## Start both servers and the operator, apply examples/ms5 and show what it does (DEMO_ONESHOT=1: then stop)
	$(CARGO) build --locked
	$(WITH_TOOLS) $(CARGO) run --locked --quiet --example ms5

.PHONY: generate
generate: tools-helm ## Write crds/, docs/api.md and docs/metrics.md from the sources, the chart's copies, dashboards and deploy/ from them
	$(CARGO) run --locked --quiet -- crd --output-dir crds
	$(CARGO) run --locked --quiet -- crd --reference > docs/api.md
	$(CARGO) run --locked --quiet -- metrics > docs/metrics.md
	cp crds/*.yaml $(CHART)/files/crds/
	readme=$$(charts/values-table.sh $(CHART)) && printf '%s\n' "$$readme" > $(CHART)/README.md
	deploy/render.sh "$$($(HELM))/helm" deploy
	charts/dashboards.mjs

.PHONY: bless
bless: ## Rewrite the expectations in tests/scenarios
	BLESS=1 $(CARGO) test --locked --test scenarios

.PHONY: fmt
fmt: ## Format the sources
	$(CARGO) fmt

# ---- checks

.PHONY: test
test: tools tools-prometheus lint verify-generated ## Everything that CI checks; the tests come last
	$(CARGO) test --locked --doc
	$(WITH_TEST_TOOLS) $(CARGO) test --locked --lib --bins --tests

.PHONY: unit
unit: ## The tests that need no server
	$(CARGO) test --locked --lib --bins
	$(CARGO) test --locked --doc

.PHONY: integration
integration: tools tools-prometheus ## The tests against a Kubernetes API server and a TimescaleDB (TIMESCALEDB_URL: a native one)
	$(WITH_TEST_TOOLS) $(CARGO) test --locked --test integration

.PHONY: perturbation
perturbation: tools ## Crash the operator after every SQL statement and API write (PERTURBATION=sql:17,api:3: after these)
	PERTURBATION=$(or $(PERTURBATION),all) $(WITH_TOOLS) $(CARGO) test --locked --test perturbation -- --nocapture

.PHONY: campaign
campaign: tools ## Every generated operation on every field, with its oracles (CAMPAIGN_SEED, CAMPAIGN_OPERATIONS, CAMPAIGN_ONLY)
	$(WITH_TOOLS) CAMPAIGN_OPERATIONS=$${CAMPAIGN_OPERATIONS:-all} CAMPAIGN_SEED=$${CAMPAIGN_SEED:-$$(date +%s)} \
	  $(CARGO) test --locked --test campaign -- --nocapture

.PHONY: bench
bench: tools-kubernetes tools-timescaledb ## What the operator costs beside the raw cost, into docs/benchmarks.md (TIMESCALEDB_URL: a native server)
	KUBEBUILDER_ASSETS="$$($(KUBERNETES))" TIMESCALEDB_WASM="$$($(TIMESCALEDB))" $(CARGO) bench --locked --bench operator

.PHONY: lint
lint: lint-format lint-clippy lint-dependencies lint-purity lint-links lint-chart lint-argocd lint-alerts ## Formatting, clippy, dependencies, purity of the core, links, chart, alerts, dashboards

.PHONY: lint-format
lint-format:
	$(CARGO) fmt --check

.PHONY: lint-clippy
lint-clippy:
	$(CARGO) clippy --all-targets --locked -- -D warnings

.PHONY: lint-dependencies
lint-dependencies: $(CARGO_DENY)
	$(CARGO_DENY) --log-level error check --hide-inclusion-graph licenses bans sources

.PHONY: lint-purity
lint-purity:
	@if grep -rnE '$(IMPURE)' $(PURE) | grep -vE '^[^:]+:[0-9]+:[[:space:]]*//'; then \
	  echo "These files decide and do nothing else: no async, client, socket, clock or randomness. Pass what they need as an argument."; \
	  exit 1; \
	fi

.PHONY: lint-links
lint-links:
	@docs/check-links.sh

.PHONY: lint-chart
lint-chart: tools-helm
	@helm=$$($(HELM))/helm; for values in $(CHART)/ci/*.yaml; do \
	  "$$helm" lint --strict --quiet $(CHART) -f "$$values"; \
	  "$$helm" template lint $(CHART) --namespace lint -f "$$values" >/dev/null; \
	done

.PHONY: lint-argocd
lint-argocd:
	@cd tests/support/argocd && GOFLAGS=-mod=readonly GOWORK=off go test -count=1 ./...

.PHONY: lint-alerts
lint-alerts: tools-prometheus
	@promtool="$$($(PROMETHEUS))/promtool"; \
	"$$promtool" check rules --lint=all --lint-fatal charts/*/alerts/*.yaml; \
	"$$promtool" test rules tests/alerts/*_test.yaml; \
	charts/dashboards.mjs --check; \
	charts/dashboards.mjs --rules | "$$promtool" check rules

.PHONY: verify-generated
verify-generated: tools-helm ## Check that what make generate writes is what its sources say
	@fresh=$$(mktemp -d); trap 'rm -rf "$$fresh"' EXIT; mkdir "$$fresh/crds" "$$fresh/deploy"; \
	$(CARGO) run --locked --quiet -- crd --output-dir "$$fresh/crds"; \
	$(CARGO) run --locked --quiet -- crd --reference > "$$fresh/api.md"; \
	$(CARGO) run --locked --quiet -- metrics > "$$fresh/metrics.md"; \
	charts/values-table.sh $(CHART) > "$$fresh/README.md"; \
	deploy/render.sh "$$($(HELM))/helm" "$$fresh/deploy"; \
	diff -r crds "$$fresh/crds" && diff docs/api.md "$$fresh/api.md" && diff -r crds $(CHART)/files/crds \
	  && diff docs/metrics.md "$$fresh/metrics.md" \
	  && diff $(CHART)/README.md "$$fresh/README.md" \
	  && diff -r --exclude=render.sh --exclude=resource_customizations deploy "$$fresh/deploy" \
	  || { echo "generated files are not what their sources say: run make generate"; exit 1; }

# ---- tools

.PHONY: tools tools-kubernetes tools-timescaledb tools-helm tools-prometheus
tools: tools-kubernetes tools-timescaledb tools-helm ## Install the servers of the tests (the first time: some minutes)

tools-kubernetes:
	@$(KUBERNETES) >/dev/null

tools-timescaledb:
	@$(TIMESCALEDB) >/dev/null

tools-helm:
	@$(HELM) >/dev/null

tools-prometheus:
	@$(PROMETHEUS) >/dev/null

$(CARGO_DENY):
	@echo "Installing cargo-deny $(CARGO_DENY_VERSION) (once; about 2 minutes)"
	@$(CARGO) install --locked --quiet --version $(CARGO_DENY_VERSION) --root $(CACHE)/cargo-deny-$(CARGO_DENY_VERSION) cargo-deny

.PHONY: clean-cache
clean-cache: ## Remove the installed tools
	rm -rf "$(CACHE)"
