# Nothing but Go and make is needed for build, run and test.
GO ?= go
PORT ?= 3000
VERSION := $(shell git describe --always --dirty 2>/dev/null || echo dev)
FUZZTIME ?= 20s

.DEFAULT_GOAL := build
.PHONY: help build build-cuda run test test-all test-cuda gpu-check race lint fuzz bench generate kernels docker-binary nats-binary

help: ## what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "%-15s %s\n", $$1, $$2 }' Makefile

build: ## bin/lockstep, one static binary
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/lockstep ./launcher

build-cuda: ## bin/lockstep-cuda, which computes on NVIDIA cards too: it opens their driver's library and needs glibc
	@CGO_ENABLED=0 $(GO) build -tags cuda -trimpath -ldflags '-s -w -X main.version=$(VERSION)' -o bin/lockstep-cuda ./launcher

run: build ## the demo model on two shards
	@exec bin/lockstep serve --num-shard 2 --hostname 127.0.0.1 --port $(PORT)

test: ## fast, without network
	$(GO) vet ./...
	$(GO) test ./...

test-all: ## everything slower too; with the tag invariants the KV cache begins as NaN, so that a block used unzeroed shows
	$(GO) vet ./...
	LOCKSTEP_ALL=1 $(GO) test -count=1 -timeout 30m -p 1 ./...
	$(GO) test -count=1 -tags invariants -run 'RowInvariance|Metamorphic' ./shard
	$(GO) test -count=1 -tags invariants ./shard/model
	$(MAKE) test-cuda

test-cuda: ## what make build-cuda adds, over an imitation of the driver: no card is needed
	CGO_ENABLED=0 $(GO) vet -tags cuda ./launcher ./shard/... ./scripts/gpu/...
	CGO_ENABLED=0 $(GO) test -count=1 -tags cuda ./shard/gpu/driver
	CGO_ENABLED=0 $(GO) test -count=1 -tags cuda -run 'Card' ./launcher

gpu-check: ## bin/gpu-check, a folder to carry to a machine with a card, which examines it; further models of ../shared go with it
	@$(GO) run ./scripts/gpu/check build bin/gpu-check $(wildcard ../shared/golden/quant/*_* ../shared/golden/gguf/tiny_*.gguf)

race: ## with the race detector: all but kernels and the forward pass, which it slows down a hundred times; of those what is quick
	CGO_ENABLED=1 $(GO) test -race -p 1 ./launcher/... ./router/... ./protocol/... ./shard/collective ./shard/gpu/ptx ./shard/model/... ./shard/outbox \
		./shard/sample ./shard/schedule ./shard/sim ./shard/weights/... ./shard/workers
	CGO_ENABLED=1 $(GO) test -race -run 'MetamorphicSimulated|Routers|Reward|Endless' ./shard
	CGO_ENABLED=1 $(GO) test -race -run 'Pieces|Scaled|Bias' ./shard/host

lint: ## see .golangci.yml
	$(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0 run ./...
	$(GO) run github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.15.0 run --build-tags cuda ./shard/gpu/driver/... ./scripts/gpu/... ./launcher

fuzz: ## every fuzz target for FUZZTIME; that its time is up is no failure, though Go may say so (golang.org/issue/48591)
	@for package in $$($(GO) list ./...); do \
		for target in $$($(GO) test -list '^Fuzz' $$package | grep '^Fuzz'); do \
			echo "$$package $$target"; \
			output=$$($(GO) test -run '^$$' -fuzz "^$$target\$$" -fuzztime $(FUZZTIME) -fuzzminimizetime 1s $$package 2>&1) || case $$output in \
				*"Failing input"*) echo "$$output"; exit 1;; \
				*"context deadline exceeded"*) ;; \
				*) echo "$$output"; exit 1;; \
			esac; \
		done; \
	done

bench: ## every benchmark for a second
	$(GO) test -run '^$$' -bench . -benchtime 1s -p 1 ./...

generate: ## kernels and what else has a generator
	$(GO) generate ./...

kernels: ## those of cards, which the tree has compiled: whoever edits one runs this; it fetches the compiler
	$(GO) run ./scripts/kernels -nvrtc "$$(scripts/get-nvrtc)"

docker-binary: build bin/cluster.key ## what the Dockerfile copies, and what docker-compose.yml mounts
	@bin/lockstep nats-users --cluster-key @bin/cluster.key router node1 node2 >bin/nats-users.conf

bin/cluster.key: # made once: the secret of the compose file's nodes
	@umask 077 && mkdir -p bin && od -An -N32 -tx1 /dev/urandom | tr -d ' \n' >$@

nats-binary: ## bin/nats-server, for docker-compose.local-nats.yml
	@CGO_ENABLED=0 $(GO) build -trimpath -ldflags '-s -w' -o bin/nats-server github.com/nats-io/nats-server/v2
