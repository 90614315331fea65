# Needs Go (the version in go.mod) and make; `make test` says what else it wants.
# `make help` lists the targets.

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

GO       ?= go
FUZZTIME ?= 10s
# Folder of the log's state for `make run`.
DATA     ?= ./data

BUF      := bin/tools/buf
LINT     := bin/tools/golangci-lint
# Static binaries that are the same wherever the tree lies.
GOBUILD  := CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w'

# In CI a skipped test is a failure and no result comes from the cache.
GOTEST   := $(GO) run ./tools/gotest $(if $(CI),-complete) --
COUNT    := $(if $(CI),-count=1)
# Services are concurrent: their tests run under the race detector, once; it needs a C compiler.
RACE      = $(shell command -v cc >/dev/null 2>&1 && echo -race)

##@ Use

.PHONY: run
run: build ## a log on this machine and a sample trial in it, state in $(DATA)
	examples/demo.sh $(DATA)

.PHONY: build
build: ## build bin/trialog, bin/trialogd, bin/trialog-witness and bin/hammer, static
	$(GOBUILD) -o bin/trialog ./tools/trialog
	$(GOBUILD) -o bin/hammer ./tools/hammer
	$(GOBUILD) -o bin/trialogd ./services/cmd/trialogd
	$(GOBUILD) -o bin/trialog-witness ./services/cmd/trialog-witness

.PHONY: build-pkcs11
build-pkcs11: ## build programs with -pkcs11 in their names, which take keys from PKCS#11 tokens; needs a C compiler, not static
	CGO_ENABLED=1 $(GO) build -tags pkcs11 -trimpath -ldflags '-s -w' -o bin/trialogd-pkcs11 ./services/cmd/trialogd
	CGO_ENABLED=1 $(GO) build -tags pkcs11 -trimpath -ldflags '-s -w' -o bin/trialog-witness-pkcs11 ./services/cmd/trialog-witness

.PHONY: build-kms
build-kms: ## build programs with -kms in their names, static, which take keys from Vault and from the KMS of clouds
	$(GOBUILD) -tags kms -o bin/trialogd-kms ./services/cmd/trialogd
	$(GOBUILD) -tags kms -o bin/trialog-witness-kms ./services/cmd/trialog-witness

##@ Check

.PHONY: test
test: test-needs lint check-generate test-go ## pass everything: lint, generated code, all tests

.PHONY: test-needs
test-needs:
	@tools/testneeds.sh

.PHONY: test-go
test-go: test-race test-plain test-keys test-e2e test-bench ## all Go tests, without the linters

# The three groups are disjoint; together they are every package of the module.
.PHONY: test-race
test-race:
	$(GOTEST) $(RACE) $(COUNT) -timeout 30m ./services/... $(if $(wildcard api/client),./api/client/...)

.PHONY: test-plain
test-plain:
	$(GOTEST) $(COUNT) -timeout 20m $$($(GO) list ./... | grep -v -E '^[^/]+/[^/]+/[^/]+/(services|e2e|api/client)(/|$$)')

# Keys in a PKCS#11 token and in a KMS, which only builds with these tags know.
.PHONY: test-keys
test-keys:
	$(GOTEST) $(RACE) $(COUNT) -timeout 20m -tags pkcs11,kms ./services/internal/signing/...
	$(GOTEST) $(COUNT) -timeout 20m -tags pkcs11 -run '^TestWitnessWithToken$$|^TestScripts$$/^key$$' ./services/cmd/trialogd

# Never from the cache: the harness builds and starts programs that the cache does not see.
.PHONY: test-e2e
test-e2e:
	$(if $(wildcard e2e),$(GOTEST) -count=1 -timeout 30m ./e2e/...,@echo 'no e2e here')

.PHONY: fault
fault: ## every fault and scenario at full length, against real processes (half an hour)
	TRIALOG_LONG=1 $(GOTEST) -count=1 -timeout 2h ./e2e/...

# That the benchmark works and gives every row; its figures mean nothing.
.PHONY: test-bench
test-bench:
	$(if $(CI),$(GO) run ./tools/bench -short -out $(or $(TMPDIR),/tmp)/trialog-bench,@echo 'the short benchmark runs in CI only: make bench')

.PHONY: lint
lint: $(LINT) $(BUF) ## go vet, golangci-lint, lint and breaking changes of the protos
	$(GO) vet ./...
	$(LINT) run
	$(LINT) run --build-tags pkcs11,kms ./services/internal/signing/... ./services/cmd/trialogd/...
	$(BUF) lint
	tools/protobreaking.sh $(BUF)

.PHONY: fmt
fmt: $(LINT) ## format all Go files
	$(LINT) fmt

.PHONY: fuzz
fuzz: ## run each fuzz target for FUZZTIME (10s)
	tools/fuzz.sh $(FUZZTIME)

##@ Measure

.PHONY: bench
bench: ## our paths against peers and limits, into out/bench.json (10 minutes, quiet machine)
	$(GO) run ./tools/bench

.PHONY: bench-growth
bench-growth: ## cost as the log grows to 10^7 entries, into out/growth.json
	$(GO) run ./tools/bench -growth 1e5,1e6,1e7 -only memory

##@ Generate

.PHONY: generate
generate: $(BUF) ## write api/gen and api/openapi from proto/, and the imported protos
	$(GO) run ./tools/protodeps
	$(BUF) generate

.PHONY: check-generate
check-generate: $(BUF) ## say whether generated files are what generate would write
	tools/checkgenerate.sh $(BUF)

.PHONY: vectors
vectors: ## write the vectors of api/vectors anew
	$(GO) run ./tools/genvectors

##@ Other

# Tools live in modules of their own, so that their dependencies are not ours.
$(BUF): tools/buf/go.mod tools/buf/go.sum
	$(GO) -C tools/buf build -trimpath -ldflags '-s -w' -o $(CURDIR)/bin/tools/ tool
	@touch $@

$(LINT): tools/lint/go.mod tools/lint/go.sum
	$(GO) -C tools/lint build -trimpath -ldflags '-s -w' -o $(CURDIR)/bin/tools/ tool
	@touch $@

.PHONY: clean
clean: ## remove what was built (never the log's state)
	rm -rf bin

.PHONY: help
help: ## show this list
	@awk 'BEGIN { FS = ":.*## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z0-9-]+:.*## / { printf "  %-16s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
