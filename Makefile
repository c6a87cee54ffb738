# A thin front on meson; see meson.build. `make help` lists what there is.
BUILD ?= build
MESON_FLAGS ?=
ASAN_FLAGS = -Db_sanitize=address,undefined -Db_lundef=false
export PATH := $(CURDIR)/$(BUILD):$(PATH)

all: $(BUILD)/.files ## build $(BUILD)/blkproof
	@ninja -C $(BUILD) --quiet

# Sources, tests and manual pages find themselves: set the build up again when the list of files changes.
$(BUILD)/.files: FORCE
	@command -v meson ninja >/dev/null || { echo "meson and ninja are missing: run scripts/install-deps build" >&2; exit 1; }
	@mkdir -p $(BUILD)
	@[ -f $(BUILD)/build.ninja ] || meson setup $(BUILD) $(MESON_FLAGS) >$(BUILD)/setup.log 2>&1 || \
	  { cat $(BUILD)/setup.log >&2; echo "the set-up failed: if a dependency is missing, run scripts/install-deps build" >&2; exit 1; }
	@find src tests docs bench -name '*.c' -o -name '*.scd' | sort >$@.new; \
	if cmp -s $@.new $@; then rm $@.new; else \
	  [ ! -f $@ ] || meson setup --reconfigure $(BUILD) $(MESON_FLAGS) >/dev/null; mv $@.new $@; fi

check: ## install what is missing, then every test there is; the last line is the result
	@scripts/install-deps all
	@scripts/check $(SUITES)

demo: ## install what is missing, build, and see the main job: a good run, then a bit flips
	@scripts/install-deps demo
	@$(MAKE) --no-print-directory all
	@scripts/demo

bench: ## we and the peers in one run: ratios, goals, a plot in bench/results
	@scripts/install-deps all
	@$(MAKE) --no-print-directory all
	@bench/run $(SCENARIOS)
	@[ -n "$(SCENARIOS)" ] || bench/img

sanitize: ## unit, sim and io tests with ASan, UBSan and the leak check
	@scripts/install-deps all
	@scripts/check asan

fuzz-smoke: ## each fuzz target for a moment
	@scripts/install-deps all
	@scripts/fuzz-smoke

soak: ## long runs: random clients on the simulator, fuzz targets (MINUTES=10 each)
	@scripts/install-deps all
	@$(MAKE) --no-print-directory all
	@scripts/soak $(MINUTES)

iotests: all ## QEMU's own test-suite on our qemu-img and qemu-io (IOTESTS=a checkout of QEMU)
	@scripts/iotests $(TESTS)

format: ## clang-format all sources in place
	@find src tests bench -name '*.[ch]' | xargs clang-format -i

install: all ## install the program, manual pages and completions (DESTDIR, MESON_FLAGS=--prefix=...)
	@meson install -C $(BUILD) --no-rebuild $(if $(DESTDIR),--destdir $(abspath $(DESTDIR)))

clean: ## remove everything that was built
	@rm -rf build build-*

help: ## this list
	@sed -nE 's/^([a-z-]+):.*## (.*)/make \1\t\2/p' Makefile | sed 's/\$$(BUILD)/build/; s/^make all/make/' | expand -t 18

FORCE:
.PHONY: all check demo bench sanitize fuzz-smoke soak iotests format install clean help FORCE
