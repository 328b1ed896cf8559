# The doors to everything: `make` alone lists them.
.DEFAULT_GOAL := help
.PHONY: help demo demo-down build check test test-nightly test-sanitizer fuzz bench bench-micro bench-scale bench-failover deb rpm image sbom packages \
	reproduce version linked static deny test-packages test-docs test-pair test-image test-overload test-attack test-hostile \
	test-soak test-misroute test-writes test-judgements reload-stress fmt clean
export HOME ?= $(shell getent passwd "$$(id -u)" | cut -d: -f6)
# Debian keeps haproxy, pgbouncer and their like in sbin.
export PATH := $(HOME)/.cargo/bin:$(PATH):/usr/local/sbin:/usr/sbin:/sbin

help: ## list what can be made
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: ## a real cluster, pilotfish in front of it, an application on top; Ctrl-C ends it
	@deploy/demo/run

demo-down: ## end what a demo left behind that was itself killed
	@deploy/demo/run down

build: ## the release binary, target/release/pilotfish
	@deploy/setup rust
	cargo build --release --locked

check: ## the inner loop: format, lints, and all tests that need no cluster (fewer random traces)
	@deploy/setup rust test
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	PILOTFISH_TRACES=$${PILOTFISH_TRACES:-5000} cargo test --locked --lib --bins --test it

test: ## everything: the inner loop, the documentation's examples, and end to end on a real cluster
	@deploy/setup rust cluster test browser clients
	$(MAKE) deny
	cargo fmt --check
	cargo clippy --all-targets --locked -- -D warnings
	cargo test --locked --lib --bins --test it
	PILOTFISH_RELOADS=1000 cargo test --locked --test it reload::stress -- --nocapture
	cargo test --locked --doc
	cargo test --locked --test e2e -- --test-threads=1
	$(MAKE) test-judgements test-packages test-docs test-pair test-hostile

test-nightly: ## a million made-up traces and failover drills, optimised; about half an hour
	@deploy/setup rust
	PILOTFISH_TRACES=$${PILOTFISH_TRACES:-1000000} cargo test --locked --release --test it -- made_up nobody_is_misled --nocapture

test-sanitizer: ## the splice file, the only one with unsafe code, under AddressSanitizer; needs a nightly compiler
	@deploy/setup rust fuzz
	RUSTFLAGS=-Zsanitizer=address ASAN_OPTIONS=detect_leaks=0 cargo +nightly test --locked --target-dir target/sanitizer \
		--target "$$(rustc -vV | sed -n 's/^host: //p')" --test it -- proxy::splice

fuzz: ## look for hostile inputs with libFuzzer, a minute of CPU a target; ARGS='30 config'; needs a nightly compiler
	@deploy/setup rust fuzz
	fuzz/run $(ARGS)

bench: build ## the data plane beside HAProxy's and nginx's, on loopback; ARGS='--quick --rows ping,bulk8'
	@deploy/setup bench
	cargo build --release --locked --features uncounted --example load --example uncounted
	benches/dataplane/run $(ARGS)

bench-micro: ## what runs for each session or each check, in nanoseconds; ARGS=pick
	@deploy/setup rust
	cargo bench --locked --bench micro -- $(ARGS)

reload-stress: ## a thousand reloads, half of them broken, while new connections come without a pause; optimised
	PILOTFISH_RELOADS=1000 cargo test --release --locked --test it reload::stress -- --nocapture

bench-scale: build ## a thousand clusters polled each second: CPU, memory, delay to the table; ARGS='--quick'
	cargo build --release --locked --example load
	benches/scale/run $(ARGS)

bench-failover: build ## real failovers through pilotfish, HAProxy and libpq alone; ARGS='--quick --rows switchover'
	@deploy/setup cluster bench
	benches/failover/run $(ARGS)

test-overload: build ## twice the limit of open files in connections, for ten minutes; ARGS='--seconds 60'
	@deploy/setup test
	cargo build --release --locked --example load
	benches/hostile/overload $(ARGS)

test-attack: build ## the admin port under attack: what sessions and failovers feel, and what can be changed; ARGS='--kinds silent'
	@deploy/setup test
	cargo build --release --locked --example load
	benches/hostile/attack $(ARGS)

test-hostile: ## short forms of these two; part of test
	@deploy/setup rust test
	cargo build --locked --bin pilotfish --example load
	PILOTFISH_PROFILE=debug benches/hostile/overload --seconds 15
	PILOTFISH_PROFILE=debug benches/hostile/attack --requests-only

deb: linked ## target/packages/pilotfish_*.deb, with the user, the unit, man pages and completions
	@deploy/setup packages
	deploy/packages/build deb $(DIST)/release/pilotfish

rpm: linked ## the same as an rpm
	@deploy/setup packages
	deploy/packages/build rpm $(DIST)/release/pilotfish

image: static ## the container image, target/packages/pilotfish-*.oci.tar: the static binary and nothing else
	@deploy/setup packages
	deploy/container/build $(DIST)/$(HOST)/release/pilotfish

sbom: ## every crate inside, with licence and checksum: target/packages/pilotfish-*.cdx.json (CycloneDX)
	@deploy/setup rust release
	deploy/release/sbom

packages: deb rpm image sbom ## all that a release has, with SHA256SUMS, in target/packages
	deploy/release/sums

reproduce: packages ## build all of them again in another folder: the same bytes, or it fails
	deploy/release/reproduce

version: ## tell the version of these sources
	@deploy/release/version

# What is shipped is built apart from `make build`: without a path of this machine inside.
DIST = target/dist
HOST = $(shell rustc -vV | sed -n 's/^host: //p')
linked static:
	@deploy/setup rust
	deploy/release/build $@

deny: ## judge the dependencies: licences, sources, bans, known faults; part of test
	@deploy/setup rust deny
	@deploy/deny

test-packages: ## the unit, the packages' life from installation to purge, compose file and manifests; part of test
	@deploy/setup rust packages release
	cargo build --locked --bin pilotfish
	PILOTFISH_BINARY=target/debug/pilotfish $${PILOTFISH_VENV:-/var/tmp/pilotfish-$$(id -u)/venv}/bin/python -B tests/packages/test_deploy.py

test-pair: ## two pilotfish before a real cluster, killed, cut off, upgraded and stopped: libpq, DNS, keepalived; part of test
	@deploy/setup rust cluster pair
	cargo build --locked --bin pilotfish
	tests/pair/run $(ARGS)

test-soak: build ## a failover each minute, reloads, clients of all kinds: descriptors and memory back at their start; ARGS='--minutes 120'
	@deploy/setup cluster
	tests/endurance/run soak $(ARGS)

test-misroute: build ## 200 real failovers: sessions on the wrong node, stale sessions, HAProxy beside it; root; ARGS='--failovers 200'
	@deploy/setup cluster bench pair
	tests/endurance/run misroute $(ARGS)

test-writes: build ## acknowledged writes under faults of nodes, etcd and pilotfish, libpq alone beside it; root; ARGS='--minutes 30'
	@deploy/setup cluster pair
	tests/endurance/run writes $(ARGS)

test-judgements: ## what those three judge by, on stories that are made up; part of test
	@deploy/setup cluster
	$${PILOTFISH_VENV:-/var/tmp/pilotfish-$$(id -u)/venv}/bin/python -B tests/endurance/test_judgements.py

test-docs: ## every command and configuration that the documentation shows; part of test
	@deploy/setup rust packages cluster
	cargo build --locked --bin pilotfish
	PILOTFISH_BINARY=target/debug/pilotfish $${PILOTFISH_VENV:-/var/tmp/pilotfish-$$(id -u)/venv}/bin/python -B tests/docs/test_docs.py

test-image: image ## the image, unpacked and run without an engine
	tests/packages/sandbox python3 -B tests/packages/image.py $$(ls -t target/packages/*.oci.tar | head -n 1)

fmt: ## format the code
	@deploy/setup rust test
	cargo fmt

clean: ## remove what was built
	cargo clean
