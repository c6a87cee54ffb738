/* SPDX-License-Identifier: BSD-2-Clause */
/* Rows of the table of presets: rules as JSON text, in which "$NAME" stands for a parameter. */
#ifndef DRIVERS_FAULT_PRESET_H
#define DRIVERS_FAULT_PRESET_H

#include "drivers/fault/fault.h"

#define PRESET_PARAMS_MAX 4

struct fault_preset {
    const char *name, *help, *source;
    bool verified; /* the source was looked at for its numbers; else some are from memory, or ours */
    struct {
        const char *name, *def, *help; /* def: JSON text */
    } params[PRESET_PARAMS_MAX];
    const char *rules;
};
extern const struct fault_preset fault_presets[]; /* ends with {0} */

#endif
