# A thin front on meson; see meson.build. `make help` lists what there is.
BUILD ?= build
MESON_FLAGS ?=
export PATH := $(CURDIR)/$(BUILD):$(PATH)

all: $(BUILD)/.files
	@ninja -C $(BUILD) --quiet

# Sources and tests find themselves: set the build up again when the list of files changes.
$(BUILD)/.files: FORCE
	@[ -f $(BUILD)/build.ninja ] || meson setup $(BUILD) $(MESON_FLAGS) >/dev/null
	@find src tests -name '*.c' | sort >$@.new; \
	if cmp -s $@.new $@; then rm $@.new; else \
	  [ ! -f $@ ] || meson setup --reconfigure $(BUILD) $(MESON_FLAGS) >/dev/null; mv $@.new $@; fi

FORCE:
.PHONY: all FORCE
