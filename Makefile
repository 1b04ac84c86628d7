# swift-s3-sync: `make help` lists what there is.
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/swift-s3-sync/target
PREFIX ?= /usr/local
PYTHON ?= /usr/bin/python3

.DEFAULT_GOAL := help
.PHONY: help setup build install install-filter package demo test lint bench fuzz screenshots docs

help: ## List the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 16

setup: ## Install what a fresh Debian 12 lacks for building and testing (minutes; seconds when nothing is missing)
	@scripts/setup.sh

BINARIES = swift-s3-sync swift-s3-shunt swift-s3-control swift-s3ctl swift-s3-verify

build: ## Build the release binaries
	cargo build --release -p swift-s3-worker -p swift-s3-control -p swift-s3-shunt
	@echo "built $(addprefix $(CARGO_TARGET_DIR)/release/,$(BINARIES))"

install: build ## Install the release binaries under PREFIX (default /usr/local)
	install -d "$(DESTDIR)$(PREFIX)/bin"
	install -m 0755 $(addprefix "$(CARGO_TARGET_DIR)"/release/,$(BINARIES)) "$(DESTDIR)$(PREFIX)/bin/"

package: setup ## Build the Debian packages, in debian/ of the folder of build products
	cargo build --release -p swift-s3-worker -p swift-s3-control -p swift-s3-shunt -p swift-s3-packaging --bins
	packaging/build.sh release "$(CARGO_TARGET_DIR)/debian" --strip
	@ls -l "$(CARGO_TARGET_DIR)"/debian/*.deb

FILTER_DIR ?= $(PREFIX)/lib/python$(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])')/dist-packages

install-filter: ## Install the filter for the pipeline of Swift's proxy (Debian's Python; FILTER_DIR for another folder)
	$(PYTHON) shunt/wsgi/install.py "$(DESTDIR)$(FILTER_DIR)"

demo: setup ## A three-node Swift, an S3 store, a control plane, three workers and the shunt on this machine, until Ctrl-C (first build about 10 minutes); MODE=etcd adds three members of etcd
	@echo "demo: building; about ten minutes the first time on two cores, seconds afterwards"
	@cargo build --quiet -p swift-s3-worker -p swift-s3-control -p swift-s3-shunt -p swift-s3-tests --bins
	@exec "$(CARGO_TARGET_DIR)/debug/swift-demo" $(if $(MODE),--$(MODE))

test: setup ## Run every test, end-to-end scenarios included (about 30 minutes, plus 15 for the first build)
	@echo "test: building and running everything; half an hour on two cores, and a quarter more the first time"
	cargo build --workspace --all-targets
	@scripts/previous-version.sh
	cargo test --workspace

# Targets run side by side, so a minute of the clock is a minute for each.
FUZZ_SECONDS ?= 60

fuzz: ## Throw random and damaged input at the shunt's parsers, for FUZZ_SECONDS (60) each
	SWIFT_S3_FUZZ_SECONDS=$(FUZZ_SECONDS) cargo test --workspace --test fuzz -- --nocapture

lint: ## Check formatting and lints
	cargo fmt --all --check
	cargo clippy --workspace --all-targets -- -D warnings

bench: setup ## Measure against rclone and the raw limit, side by side on this machine (about 10 minutes)
	cargo build --release -p swift-s3-worker -p swift-s3-control -p swift-s3-shunt -p swift-s3-tests --bins
	"$(CARGO_TARGET_DIR)/release/swift-bench"

screenshots: setup ## Make the pictures of the README anew, from the running program
	cargo build -p swift-s3-worker -p swift-s3-control -p swift-s3-shunt -p swift-s3-tests --bins
	cargo test -p swift-s3-tests --test scenarios the_pictures_of_the_readme
	install -d docs/images
	install -m 0644 "$(CARGO_TARGET_DIR)/screenshots/readme-overview.png" docs/images/overview.png
	install -m 0644 "$(CARGO_TARGET_DIR)/screenshots/readme-object.png" docs/images/object.png

docs: ## Make the reference of the handbook and the dashboard anew, from the code
	cargo run --quiet -p swift-s3-packaging --bin swift-s3-generate -- reference .
