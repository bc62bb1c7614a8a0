# Wattloop: build, test, bench, demo, install. `make help` explains the targets.
MAKEFLAGS += -r
.DELETE_ON_ERROR:
.SECONDARY:
.DEFAULT_GOAL := all

SAN    ?=
comma  := ,
CC     := $(if $(filter default,$(origin CC)),gcc,$(CC))
CLANG  ?= clang
B      := build$(if $(SAN),/$(subst $(comma),-,$(SAN)))$(if $(findstring clang,$(CC)),/clang)
PREFIX     ?= /usr/local
SYSCONFDIR ?= /etc
BPFTOOL ?= PATH="$$PATH:/usr/sbin:/usr/local/sbin" bpftool
Q      := $(if $(V),,@)
say     = $(if $(V),,@printf '  %-7s %s\n' '$1' '$2')

PROGRAMS := collector trainer-client model-server updater estimator
SHARED   := common config schema model
DIRS_model-server := model-server model-server/convert model-server/ingest model-server/data model-server/train model-server/learn model-server/serve
dirs      = $(or $(DIRS_$1),$1)
sources   = $(filter-out %/main.c,$(foreach d,$(call dirs,$1),$(wildcard $d/*.c)))
objects   = $(patsubst %.c,$(B)/%.o,$(call sources,$1))
MIGRATED := $(sort $(foreach f,$(wildcard schema/*.sql),$(firstword $(subst ., ,$(notdir $f)))))
BPF      := $(patsubst bpf/%.bpf.c,%,$(wildcard bpf/*.bpf.c))
PROTO    := $(patsubst schema/%.proto,%,$(wildcard schema/*.proto))
GEN      := $(MIGRATED:%=$(B)/gen/%_sql.h) $(BPF:%=$(B)/gen/%.skel.h) $(PROTO:%=$(B)/gen/%.pb-c.h)
LIB      := $(B)/lib/libwattloop.a

# Debian packages: what the build needs, then what the tests and lint need.
PACKAGES := gcc make pkg-config clang llvm bpftool libbpf-dev libelf-dev libcurl4-openssl-dev libarchive-dev \
	libsqlite3-dev libyaml-dev libjansson-dev zlib1g-dev libsodium-dev nettle-dev libmicrohttpd-dev liblapacke-dev libseccomp-dev libxgboost-dev libhdf5-dev \
	libcmocka-dev libdeflate-dev libprotobuf-c-dev protobuf-c-compiler libsnappy-dev sqlite3 curl jq unzip python3 procps util-linux
PACKAGES_CI := valgrind clang-format cppcheck mandoc libclang-rt-14-dev python3-sklearn chromium victoria-metrics prometheus python3-xgboost minisign nginx-light qemu-system-x86 cron

# Libraries by program; nothing is linked that the program does not use.
PC_common         := jansson yaml-0.1 sqlite3 zlib libsodium nettle
PC_collector      := jansson yaml-0.1 sqlite3 libsodium nettle libbpf libmicrohttpd
PC_trainer-client := jansson yaml-0.1 sqlite3 zlib libsodium nettle libdeflate libprotobuf-c
LIBS_trainer-client := -lsnappy
PC_model-server   := jansson yaml-0.1 sqlite3 zlib libsodium nettle libmicrohttpd libarchive lapacke xgboost
PC_updater        := jansson yaml-0.1 sqlite3 libsodium nettle libarchive
PC_estimator      := jansson yaml-0.1 libsodium nettle libarchive
PC_model          := jansson libsodium nettle libarchive
PC_collector/redfish := jansson yaml-0.1 libsodium nettle
PC_collector/kubelet := jansson yaml-0.1 libsodium nettle
PC_config         := jansson yaml-0.1
PC_schema         := jansson libsodium nettle
pc_libs = $(shell pkg-config --libs $(PC_$1) 2>/dev/null) $(LIBS_$1) -lm -pthread

WARN := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wformat=2 -Wvla -Wundef \
	$(if $(WERROR),-Werror)
CFLAGS ?= -O2 -g
ALL_CFLAGS := -std=c17 -D_GNU_SOURCE $(WARN) $(CFLAGS) -fno-omit-frame-pointer -fstack-protector-strong \
	$(if $(SAN),-fsanitize=$(SAN) -fno-sanitize-recover=all,-D_FORTIFY_SOURCE=2) -fPIE -pthread
ALL_CPPFLAGS := -I. -I$(B)/gen $(CPPFLAGS)
ALL_LDFLAGS := -pie -Wl,--as-needed -Wl,-z,relro -Wl,-z,now $(if $(SAN),-fsanitize=$(SAN)) $(LDFLAGS)

# .h5 and .keras files in `wattloop-model-server convert`; the library is loaded when one is read. WITH_HDF5= leaves it out.
WITH_HDF5 ?= $(shell pkg-config --exists hdf5 && echo 1)
$(B)/model-server/convert/hdf5.o: ALL_CPPFLAGS += $(if $(WITH_HDF5),-DWITH_HDF5 $(shell pkg-config --cflags hdf5))

DEMO_PROGRAMS := $(patsubst deploy/demo/%.c,$(B)/bin/wattloop-demo-%,$(wildcard deploy/demo/*.c))
# Helpers that a program starts: collector/redfish is wattloop-collector-redfish.
HELPERS  := collector/redfish collector/kubelet
BINARIES := $(PROGRAMS:%=$(B)/bin/wattloop-%) $(foreach h,$(HELPERS),$(B)/bin/wattloop-$(subst /,-,$h))
UNIT  := $(patsubst tests/unit/%.c,$(B)/tests/unit/%,$(wildcard tests/unit/*/test_*.c))
TOOLS := $(patsubst tests/system/%.c,$(B)/tests/system/%,$(wildcard tests/system/*.c))
SYSTEM := $(filter-out %/lib.sh,$(sort $(wildcard tests/system/*.sh)))
BENCH := $(patsubst tests/bench/bench_%.c,%,$(wildcard tests/bench/bench_*.c))
FUZZ  := $(patsubst tests/fuzz/fuzz_%.c,%,$(wildcard tests/fuzz/fuzz_*.c))

## all: the programs, in build/bin/
all: have-build $(BINARIES)

$(B)/flags: FORCE
	@mkdir -p $(@D); echo '$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(ALL_LDFLAGS)' | cmp -s - $@ || \
	echo '$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) $(ALL_LDFLAGS)' >$@

$(B)/%.o: %.c $(B)/flags | have-build $(GEN)
	$(call say,CC,$<)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -MMD -MP -c $< -o $@

# schema/NAME.NNN.sql, in order, become NAME_migrations[] in gen/NAME_sql.h
$(B)/gen/%_sql.h: $(wildcard schema/*.sql) schema/embed.awk
	$(call say,SQL,$@)
	@mkdir -p $(@D)
	$(Q)awk -v name=$* -f schema/embed.awk $(sort $(wildcard schema/$*.*.sql)) >$@

# schema/NAME.proto becomes gen/NAME.pb-c.[ch]; its object goes into the library of the program that speaks it
$(B)/gen/%.pb-c.h: schema/%.proto | have-build
	$(call say,PROTO,$<)
	@mkdir -p $(@D)
	$(Q)protoc-c -Ischema --c_out=$(@D) $<
$(B)/gen/%.pb-c.o: $(B)/gen/%.pb-c.h $(B)/flags
	$(call say,CC,$(@:.o=.c))
	$(Q)$(CC) $(ALL_CPPFLAGS) $(ALL_CFLAGS) -w -c $(@:.o=.c) -o $@
$(B)/lib/trainer-client.a: $(B)/gen/remote_write.pb-c.o

COMPILE_BPF_FOR = $(CLANG) -target bpf -O2 -g -Wall -Werror -I. -MMD -MP -D__TARGET_ARCH_$1 -I$2
COMPILE_BPF = $(call COMPILE_BPF_FOR,$(patsubst aarch64,arm64,$(patsubst x86_64,x86,$(shell uname -m))),/usr/include/$(shell uname -m)-linux-gnu)
$(B)/bpf/%.bpf.o: bpf/%.bpf.c | have-build
	$(call say,BPF,$<)
	@mkdir -p $(@D)
	$(Q)$(COMPILE_BPF) -c $< -o $@

$(B)/gen/%.skel.h: $(B)/bpf/%.bpf.o
	$(call say,SKEL,$@)
	@mkdir -p $(@D)
	$(Q)$(BPFTOOL) gen skeleton $< name $*_bpf >$@

# On an arm64 machine its own kernel headers, elsewhere those for cross compilers.
ARM64_INCLUDE = $(firstword $(wildcard /usr/include/aarch64-linux-gnu /usr/aarch64-linux-gnu/include) /usr/aarch64-linux-gnu/include)
PACKAGES_ARM64 := $(if $(wildcard /usr/include/aarch64-linux-gnu),,linux-libc-dev-arm64-cross)
PACKAGES_CI += $(PACKAGES_ARM64)
## bpf-arm64: the kernel side and its skeletons for arm64, in build/arm64/bpf/
bpf-arm64: $(BPF:%=$(B)/arm64/bpf/%.skel.h)
have-arm64: have-build
	@tests/deps ensure $(PACKAGES_ARM64)
$(B)/arm64/bpf/%.bpf.o: bpf/%.bpf.c | have-arm64
	$(call say,BPF,$< (arm64))
	@mkdir -p $(@D)
	$(Q)$(call COMPILE_BPF_FOR,arm64,$(ARM64_INCLUDE)) -c $< -o $@
$(B)/arm64/bpf/%.skel.h: $(B)/arm64/bpf/%.bpf.o
	$(call say,SKEL,$@)
	$(Q)$(BPFTOOL) gen skeleton $< name $*_bpf >$@
.PHONY: bpf-arm64 have-arm64

$(LIB): $(foreach d,$(SHARED),$(call objects,$d))
	$(call say,AR,$@)
	@mkdir -p $(@D); rm -f $@
	$(Q)ar rcs $@ $^

define program_rules
$(B)/lib/$1.a: $(call objects,$1)
	$$(call say,AR,$$@)
	@mkdir -p $$(@D); rm -f $$@
	$(Q)ar rcs $$@ $$^
$(B)/bin/wattloop-$1: $(B)/$1/main.o $(B)/lib/$1.a $(LIB)
	$$(call say,LD,$$@)
	@mkdir -p $$(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) $$^ $$(call pc_libs,$1) -o $$@
endef
$(foreach p,$(PROGRAMS),$(eval $(call program_rules,$p)))

define helper_rules
$(B)/bin/wattloop-$(subst /,-,$1): $(B)/$1/main.o $(call objects,$1) $(LIB)
	$$(call say,LD,$$@)
	@mkdir -p $$(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) $$^ $$(call pc_libs,$1) -o $$@
endef
$(foreach h,$(HELPERS),$(eval $(call helper_rules,$h)))

$(B)/bin/wattloop-demo-%: $(B)/deploy/demo/%.o
	$(call say,LD,$@)
	@mkdir -p $(@D)
	$(Q)$(CC) $(ALL_LDFLAGS) $^ -lm -o $@

# A unit test of folder F links F's objects: tests/unit/F/test_x.c. Wrapped functions come from its prototypes.
wraps = $(shell sed -n 's/^.*__wrap_\([A-Za-z0-9_]*\)(.*).*;$$/-Wl,--wrap=\1/p' $1 | sort -u)
component = $(firstword $(subst /, ,$1))
.SECONDEXPANSION:
$(B)/tests/unit/%: $(B)/tests/unit/%.o $(LIB) $$(filter $(PROGRAMS:%=$(B)/lib/%.a),$(B)/lib/$$(call component,$$*).a)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) $(call wraps,tests/unit/$*.c) $< $(wildcard $(B)/lib/$(call component,$*).a) $(LIB) \
	$(call pc_libs,$(call component,$*)) -lcmocka -o $@

$(B)/tests/system/%: $(B)/tests/system/%.o $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) $< $(LIB) $(call pc_libs,common) -o $@

$(B)/tests/system/metric_families: $(B)/tests/system/metric_families.o $(B)/lib/collector.a $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) $^ $(call pc_libs,collector) -o $@

# The updater's own objects, with every call that changes the disk wrapped.
$(B)/tests/system/updater_faults: $(B)/tests/system/updater_faults.o $(B)/updater/main.o $(B)/lib/updater.a $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) $(call wraps,tests/system/updater_faults.c) $^ $(call pc_libs,updater) -o $@

$(B)/tests/bench/%.bpf.o: tests/bench/%.bpf.c | have-build
	$(call say,BPF,$<)
	@mkdir -p $(@D)
	$(Q)$(COMPILE_BPF) -c $< -o $@
$(B)/gen/%.skel.h: $(B)/tests/bench/%.bpf.o
	$(call say,SKEL,$@)
	@mkdir -p $(@D)
	$(Q)$(BPFTOOL) gen skeleton $< name $*_bpf >$@
$(B)/tests/bench/bench_collector.o: $(B)/gen/switch.skel.h
$(B)/tests/bench/%: $(B)/tests/bench/%.o $(B)/tests/bench/results.o $(LIB) $(PROGRAMS:%=$(B)/lib/%.a)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) $^ $(LIB) $(call pc_libs,common) $(call pc_libs,model) $(call pc_libs,collector) -o $@

## check: unit, system and failure tests; ends with 'N passed, N failed, N skipped'
check: have-build $(BINARIES) $(DEMO_PROGRAMS) $(UNIT) $(TOOLS)
	@B=$(B) tests/run $(UNIT) $(SYSTEM)

check-unit: have-build $(UNIT)
	@B=$(B) tests/run $(UNIT)

# The long forms of tests that also run, short, in `check`.
SECONDS_EACH ?= 30
SEED         ?= 1
## soak-cputime: recorded CPU time against the kernel's exact counter, five kinds of load for SECONDS_EACH (30) each
soak-cputime: have-build $(BINARIES) $(TOOLS)
	@B=$(B) SECONDS_EACH=$(SECONDS_EACH) SEED=$(SEED) INTERVAL=1s tests/system/collector_cputime.sh

## check-valgrind: unit tests and a run of each program under valgrind
check-valgrind: have-ci $(BINARIES) $(UNIT)
	@B=$(B) tests/valgrind $(UNIT)

PACKAGES_CI += python3-h5py $(if $(shell command -v npm),,nodejs npm) # a node from elsewhere brings its npm
## check-networks: networks of TensorFlow.js (npm) and Keras's files, converted and evaluated: the same answers; ends with 'N passed, N failed, N skipped'
check-networks: have-build $(BINARIES) $(TOOLS)
	@tests/deps ensure python3-h5py
	@B=$(B) JOBS=1 tests/run tests/networks/networks.sh tests/system/network_chain.sh # the former installs what the latter uses
.PHONY: check-networks

PACKAGES_QEMU := qemu-system-x86 acpica-tools busybox-static cpio apt debootstrap
## check-qemu: the collector on Debian's kernel in qemu, with an ACPI power meter and CPU hotplug; the systemd units started (3 minutes)
check-qemu: have-build $(BINARIES)
	@tests/deps ensure $(PACKAGES_QEMU)
	@B=$(B) SYSTEM_SECONDS=660 tests/run tests/qemu/kernel.sh tests/qemu/units.sh

SECONDS ?= 1800
SEED ?= 1
## soak-collector: SECONDS (1800) of container churn, kill -9 and full disks with SEED (1)
soak-collector: have-build $(B)/bin/wattloop-collector
	@B=$(B) tests/soak/collector.py $(SECONDS) $(SEED)

KILLS ?= 300
## soak-kills: kill -9 of collector, trainer-client and model-server KILLS (300) times with SEED (1); make check does 20
soak-kills: have-build $(BINARIES) $(DEMO_PROGRAMS)
	@KILLS=$(KILLS) SEED=$(SEED) B=$(B) SYSTEM_SECONDS=3600 tests/run tests/system/kill_loop.sh
.PHONY: soak-kills

SOAK_ROUNDS ?= 100
SOAK_SEED   ?= 1
## soak-model-server: kill -9 during ingest and publishing, SOAK_ROUNDS (100) times from SOAK_SEED; make check does a twentieth
soak-model-server: have-build $(BINARIES)
	@SOAK_ROUNDS=$(SOAK_ROUNDS) SOAK_SEED=$(SOAK_SEED) B=$(B) tests/system/model_server_kill.sh
.PHONY: soak-model-server
PACKAGES_CI += openssl # tests/system/model_server_pipelines.sh: a certificate
PACKAGES_CI += python3-yaml python3-kubernetes $(if $(shell command -v kubectl),,kubernetes-client) # tests/system/monitoring.sh, kubernetes.sh

ROUNDS ?= 1000
## soak-updater: the updater killed before each of its steps and at ROUNDS (1000) random moments from SEED (1); make check does a twentieth
soak-updater: have-build $(BINARIES) $(TOOLS)
	@B=$(B) ROUNDS=$(ROUNDS) SEED=$(SEED) tests/system/updater_kill.sh
.PHONY: soak-updater have-refresh

## docs-metrics: docs/metrics.md, the table of all metrics, from what the programs export
docs-metrics: have-build $(BINARIES) $(B)/tests/system/metric_families
	@B=$(B) tests/system/monitoring.sh write docs/metrics.md
.PHONY: docs-metrics

## demo: the whole loop on this machine's real activity and simulated power; the same as demo-full
## demo-full: training node, model server, updater, estimator and estimating node: all five programs
## demo-minimum: one program: the collector evaluates a weight file (WEIGHT=FILE for another one)
## demo-minimum-server: the same, with weights kept up to date from a model server by the updater
## demo-sidecar: the collector asks the estimator, which serves an archive on disk, over a unix socket
DEMOS := demo demo-full demo-minimum demo-minimum-server demo-sidecar
$(DEMOS): have-build $(BINARIES) $(DEMO_PROGRAMS)
	@B=$(B) DEMO_NAME=$@ deploy/demo/$(patsubst demo-%,%,$(@:demo=demo-full)).sh

## bench, bench-NAME: benchmarks; tables, and build/bench/NAME.json
bench: $(BENCH:%=bench-%)
bench-%: $(B)/tests/bench/bench_% $(BINARIES)
	@mkdir -p build/bench; B=$(B) $< build/bench/$*.json

bench-estimator: $(B)/tests/system/estimator_load
bench-delivery: $(B)/tests/system/recording have-delivery
# REFRESHES (1000): the model swaps under 64 clients
bench-refresh: have-refresh
$(B)/tests/bench/bench_refresh: $(B)/tests/bench/programs.o
have-refresh: have-build
	@tests/deps ensure nginx-light openssl
# what only the proofs of delivery need: the real receivers
have-delivery: have-build
	@tests/deps ensure victoria-metrics prometheus

SEED    ?= 1
BATCHES ?= 10000
DAYS    ?= 30
## soak-chaos: BATCHES (10000) batches through cutting, lying proxies with SEED (1), the client killed every few seconds
soak-chaos: have-delivery $(BINARIES) $(B)/tests/system/recording
	@mkdir -p build/soak
	@python3 tests/system/delivery_chaos.py $(B)/bin $(B)/tests/system/recording build/soak/chaos $(BATCHES) $(SEED) build/soak/chaos.json
	@cat build/soak/chaos.json
## soak-delivery: the benchmark of delivery with DAYS (30) days of recording; 30 need 10 GB
soak-delivery: $(B)/tests/bench/bench_delivery $(B)/tests/system/recording have-delivery $(BINARIES)
	@mkdir -p build/soak; B=$(B) DAYS=$(DAYS) $< build/soak/delivery.json

# DATA is a recording; GROUP and COMPONENT choose from it.
DATA ?= ../shared/nx12
$(B)/tests/bench/bench_model-server: $(B)/tests/bench/training.o $(B)/tests/bench/results.o
$(B)/tests/bench/tune $(B)/tests/bench/bench_model-server: %: %.o $(B)/lib/model-server.a $(LIB)
	$(call say,LD,$@)
	$(Q)$(CC) $(ALL_LDFLAGS) $(filter %.o,$^) $(filter %.a,$^) $(call pc_libs,model-server) -o $@

## tune: compare hyper-parameters of general models on a recording (DATA, GROUP, COMPONENT)
.PHONY: tune
tune: $(B)/tests/bench/tune
	@$< '$(DATA)' '$(GROUP)' '$(COMPONENT)'

# A fuzz target links libFuzzer (clang); FUZZ_SECONDS each, over tests/data/fuzz/NAME when it is there.
FUZZ_SECONDS ?= 10
## fuzz: every fuzz target for FUZZ_SECONDS (10) each
fuzz: have-ci
	@$(MAKE) --no-print-directory CC=$(CLANG) SAN=address,undefined FUZZING=1 CFLAGS='-O1 -g -fsanitize=fuzzer-no-link' fuzz-run
fuzz-run: $(FUZZ:%=$(B)/tests/fuzz/fuzz_%)
	@tests/fuzz/run $(FUZZ_SECONDS) $^
FUZZ_COMPONENT = $(firstword $(subst _, ,$1))
# whose objects a target means where several programs have the name (store.c)
FUZZ_OF_import := model-server
FUZZ_OF_convert := model-server
$(B)/tests/fuzz/fuzz_%: $(B)/tests/fuzz/fuzz_%.o $(LIB) $(PROGRAMS:%=$(B)/lib/%.a)
	$(call say,LD,$@)
	$(Q)$(CC) -fsanitize=fuzzer $(ALL_LDFLAGS) $< $(FUZZ_OF_$*:%=$(B)/lib/%.a) $(PROGRAMS:%=$(B)/lib/%.a) $(LIB) \
	$(foreach p,$(PROGRAMS),$(call pc_libs,$p)) -o $@

## lint: formatting, forbidden functions, static analysis, manual pages, shell syntax
lint: have-ci $(GEN)
	@B=$(B) tests/lint

## install: programs, manual pages, example configuration, systemd units (DESTDIR, PREFIX, SYSCONFDIR); keeps existing configuration
install: all
	@$(MAKE) --no-print-directory install-files
UNITS := $(wildcard deploy/systemd/wattloop-*)
install-files:
	install -d $(DESTDIR)$(PREFIX)/sbin $(DESTDIR)$(PREFIX)/share/man/man8 $(DESTDIR)$(SYSCONFDIR)/wattloop
	install -m 755 $(BINARIES) $(DESTDIR)$(PREFIX)/sbin/
	install -m 644 $(foreach p,$(PROGRAMS) $(HELPERS),$p/wattloop-$(subst /,-,$p).8) $(DESTDIR)$(PREFIX)/share/man/man8/
	for f in config/*.yaml; do t=$(DESTDIR)$(SYSCONFDIR)/wattloop/$${f##*/}; [ -e $$t ] || install -m 644 $$f $$t; done
	install -d $(foreach d,systemd/system sysusers.d tmpfiles.d,$(DESTDIR)$(PREFIX)/lib/$d)
	for f in $(UNITS); do sed 's|=/usr/sbin/wattloop-|=$(PREFIX)/sbin/wattloop-|' $$f >$(DESTDIR)$(PREFIX)/lib/systemd/system/$${f##*/} || exit; done
	install -m 644 deploy/systemd/sysusers.conf $(DESTDIR)$(PREFIX)/lib/sysusers.d/wattloop.conf
	install -m 644 deploy/systemd/tmpfiles.conf $(DESTDIR)$(PREFIX)/lib/tmpfiles.d/wattloop.conf
.PHONY: install-files

## deb: Debian packages, in build/deb/
deb: have-build
	@tests/deps ensure $(PACKAGES_DEB)
	rm -rf build/deb && mkdir -p build/deb/wattloop
	tar -c --exclude=./build --exclude=./.git . | tar -x -C build/deb/wattloop
	cd build/deb/wattloop && CCACHE_DIR=$${CCACHE_DIR:-$$HOME/.cache/ccache} DEB_BUILD_OPTIONS="noautodbgsym parallel=2" dpkg-buildpackage -us -uc -b >../build.log 2>&1 || \
	{ tail -n 30 ../build.log; exit 1; }
	@rm -rf build/deb/wattloop; ls build/deb/*.deb
## check-packages: install, upgrade and purge the packages of `make deb`, and run the programs as their containers do (root)
check-packages: deb $(BINARIES)
	@tests/deps ensure debootstrap lintian jq
	@B=$(B) SYSTEM_SECONDS=900 tests/run tests/packages/packages.sh tests/packages/containers.sh
.PHONY: deb check-packages
PACKAGES_DEB := debhelper dpkg-dev fakeroot

## deps: install the Debian packages (needs root and apt-get; else prints the command)
deps:
	@tests/deps install $(PACKAGES) $(PACKAGES_CI)
have-build:
	@tests/deps ensure $(PACKAGES)
have-ci: have-build
	@tests/deps ensure $(PACKAGES_CI)

## clean: remove build/
clean:
	rm -rf build

## help: this text
help:
	@sed -n 's/^## //p' Makefile | sort

.PHONY: all check check-unit check-valgrind check-qemu soak-collector $(DEMOS) bench have-delivery soak-chaos soak-delivery fuzz fuzz-run lint install deps have-build have-ci clean help FORCE soak-cputime
FORCE:
DEPS := $(shell find $(B) \( -name qemu -o -name deb \) -prune -o -name '*.d' -type f -print 2>/dev/null)
$(DEPS): ;
-include $(DEPS)
