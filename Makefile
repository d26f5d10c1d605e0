# Everything that is done with this repository. "make" lists it; the scripts in hack/ have the details.
export GOTOOLCHAIN := auto
export CGO_ENABLED ?= 0

VERSION := $(shell git describe --tags --always --dirty 2>/dev/null)
LDFLAGS := -s -w -X main.release=$(VERSION)

.DEFAULT_GOAL := help
.PHONY: help setup quickstart stop test lint bench web build clean docs

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' Makefile | expand -t 20

quickstart: ## set up, build, start a server and open a first desktop; again at any time
	@hack/quickstart start

stop: ## end what quickstart has started, machines of fleets too; nothing is lost
	@hack/quickstart stop

test: build ## run all tests; those with machines need root, or an engine in ORIEL_TEST_ENGINE
	@hack/setup test
	@hack/test

lint: ## check form, rules and scripts
	@hack/setup lint
	@hack/lint

bench: build ## measure side by side with what each part is compared to, and print a table
	@hack/setup test
	@hack/test bench

build: ## build bin/oriel and bin/oriel-agent
	@go build -trimpath -ldflags '$(LDFLAGS)' -o bin/ ./cmd/oriel ./cmd/oriel-agent

web: ## build the browser's side again, after a change in web/ (needs node and npm)
	@hack/setup web
	@cd web && npm ci --no-audit --no-fund --loglevel=error && npm run --silent build

docs: ## write again what is generated: docs/states.md
	@go run ./internal/rules/statesgen docs/states.md

setup: ## install what is missing on this machine, from the distribution's packages
	@hack/setup run test lint

clean: ## remove all that was built and started here, machines included
	@hack/quickstart remove
	@rm -rf bin
