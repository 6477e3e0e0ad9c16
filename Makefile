# Run `make` for the list of targets.

VERSION ?= $(shell git describe --tags --always --dirty 2>/dev/null || echo development)
COMMIT  := $(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
DATE    := $(shell git log -1 --format=%cI 2>/dev/null || echo unknown)
PKG     := github.com/lanepost/lanepost/cmd/internal/version
LDFLAGS := -s -w -funcalign=1 -X $(PKG).number=$(VERSION) -X $(PKG).commit=$(COMMIT) -X $(PKG).date=$(DATE)
# Functions are copied into their callers only where the time goes: the box has little room
# (docs/decisions/0001). And a function begins where the one before ends, in place of the next 32 bytes.
INLINE  := runtime $(addprefix github.com/lanepost/lanepost/, agent/spool protocol/event protocol/tsa)
GOBUILD := CGO_ENABLED=0 go build -trimpath -tags nethttpomithttp2 -gcflags=all=-l $(INLINE:%=-gcflags=%=) -ldflags '$(LDFLAGS)'

# golangci-lint is built from source at this version; it needs no installation.
GOLANGCI := github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.12.2

# So is nfpm, which makes the packages (docs/decisions/0019).
NFPM := github.com/goreleaser/nfpm/v2/cmd/nfpm@v2.44.0

.DEFAULT_GOAL := help

.PHONY: help
help: ## List the targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: build
build: ## Build lanepost and lanesim for this machine into bin/
	$(GOBUILD) -o bin/lanepost ./cmd/lanepost
	$(GOBUILD) -o bin/lanesim ./cmd/lanesim

.PHONY: program
program: ## Build lanepost for this machine as it is released, to OUT
	$(GOBUILD) -o $(or $(OUT),bin/lanepost) ./cmd/lanepost

.PHONY: demo
demo: build ## Run a simulated lane, a broker and the agent (ARGS="--for 30s --speed 5x")
	@bin/lanesim demo $(ARGS)

# What the race detector makes too slow to be worth it (cmd/lanepost/race_test.go).
WITHOUT_RACE := TestIdentifyEverySimulatedDevice|TestXray|TestOpaque|TestDICOS|TestKilledUnderLoad|TestPagesNameCommandsThatExist

# Many tests wait for what they started, so that more than one for each core run side by
# side.
.PHONY: test
test: test-tools ## Run all the tests with the race detector
	go vet ./...
	CGO_ENABLED=0 go test ./drivers/link
	go test -parallel 4 -run '$(WITHOUT_RACE)' ./cmd/lanepost
	go test $(RACE) -parallel 4 -timeout 14m ./...

# The race detector needs a C compiler. Where there is none and none can be
# fetched, the tests run without it.
RACE = $(shell command -v "$$(go env CC)" >/dev/null && echo -race)

.PHONY: test-tools
test-tools:
	@.ci/install-test-tools

.PHONY: package-test
package-test: test-tools ## Build and look into the packages for every machine
	LANEPOST_PACKAGES=1 go test -count=1 -v ./deploy/package

.PHONY: torture
torture: ## Kill the agent ROUNDS times under load, play SEEDS simulated hours and bad lines
	LANEPOST_KILL_ROUNDS=$(or $(ROUNDS),1000) go test -count=1 -timeout 0 -v -run TestKilledUnderLoad ./cmd/lanepost
	@set -e; for seed in $$(seq 1 $(or $(SEEDS),50)); do \
		LANEPOST_SEED=$$seed go test -count=1 -run TestSimulatedHour ./cmd/lanepost; \
		LANEPOST_SEED=$$seed LANEPOST_FAULT_TIME=20s go test -count=1 -run TestFaults ./agent/uplink; \
	done

.PHONY: fuzz
fuzz: ## Fuzz every decoder, FUZZTIME each (default 1m)
	@set -e; for pkg in $$(go list ./...); do \
		for f in $$(go test -list '^Fuzz' $$pkg | grep '^Fuzz' || true); do \
			echo "== $$pkg $$f"; \
			go test -run '^$$' -fuzz "^$$f\$$" -fuzzminimizetime 10x -fuzztime $(or $(FUZZTIME),1m) $$pkg; \
		done; \
	done

.PHONY: bench
bench: ## Run the benchmarks
	go test -run '^$$' -bench . -benchmem ./...

.PHONY: bench-e2e
bench-e2e: test-tools ## Measure the whole way, LINES events, beside a publisher that keeps nothing
	LANEPOST_END_TO_END=1 LINES=$(or $(LINES),100000) go test -run '^$$' -bench EndToEnd -benchtime 1x -timeout 30m ./cmd/lanepost

.PHONY: generate
generate: ## Write docs/events.md and docs/schemas anew
	go generate ./...

.PHONY: lint
lint: ## Run golangci-lint (builds it on the first run)
	GOLANGCI_LINT_CACHE=$${GOLANGCI_LINT_CACHE:-$${XDG_CACHE_HOME:-$$HOME/.cache}/golangci-lint$(subst /,-,$(CURDIR))} go run $(GOLANGCI) run ./...

.PHONY: release
release: ## Build every release binary with checksums into dist/
	rm -rf dist && mkdir -p dist
	@set -e; \
	for target in linux/amd64 linux/arm64 linux/arm darwin/amd64 darwin/arm64 windows/amd64; do \
		os=$${target%/*}; arch=$${target#*/}; name=$$arch; exe=; \
		[ $$arch = arm ] && name=armv7; \
		[ $$os = windows ] && exe=.exe; \
		commands=lanesim; \
		[ $$os = linux ] && commands="lanepost lanesim"; \
		for c in $$commands; do \
			echo "dist/$$c-$$os-$$name$$exe"; \
			GOOS=$$os GOARCH=$$arch GOARM=7 $(GOBUILD) -o dist/$$c-$$os-$$name$$exe ./cmd/$$c; \
		done; \
	done
	cd dist && sha256sum * > SHA256SUMS

# A Debian version: 1.2.3, 1.2.3~rc1 before it and 1.2.3+4.g0123abc after it; the date
# where there is no tag yet. Each is higher than the ones before.
PACKAGE_VERSION ?= $(shell echo '$(VERSION)' | sed -En '/^v?[0-9]+(\.[0-9]+)+(-|$$)/{s/^v//; s/-rc/~rc/; s/-/+/; s/-/./g; p}')
DIST ?= dist
ifeq ($(PACKAGE_VERSION),)
override PACKAGE_VERSION := 0.0.0+$(shell TZ=UTC git log -1 --format=%cd --date=format-local:%Y%m%d%H%M%S 2>/dev/null || echo 0).$(shell git rev-parse --short=12 HEAD 2>/dev/null || echo unknown)
endif

.PHONY: package
package: ## Build the Debian packages into dist/ (ARCHS="amd64 arm64 armhf")
	mkdir -p $(DIST)/package
	gzip -9nc deploy/package/lanepost.8 >$(DIST)/package/lanepost.8.gz
	@set -e; export SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct 2>/dev/null || echo 0); \
	for arch in $(or $(ARCHS),amd64 arm64 armhf); do \
		goarch=$$arch; [ $$arch = armhf ] && goarch=arm; \
		GOOS=linux GOARCH=$$goarch GOARM=7 $(GOBUILD) -o $(DIST)/package/lanepost-$$arch ./cmd/lanepost; \
		PACKAGE_VERSION='$(PACKAGE_VERSION)' PACKAGE_ARCH=$$arch PACKAGE_FILES=$(DIST)/package \
			go run $(NFPM) package --config deploy/package/nfpm.yaml --packager deb --target $(DIST)/; \
	done

.PHONY: clean
clean: ## Remove what was built
	rm -rf bin dist
