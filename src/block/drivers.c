/* SPDX-License-Identifier: BSD-2-Clause */
/* The list of drivers: a new one adds its line here. */
#include "block/driver.h"

extern const struct driver driver_file, driver_mem, driver_nbd, driver_null; /* protocols */
extern const struct driver driver_blkdebug, driver_copy_on_read, driver_delay, driver_fault, driver_verify,
    driver_oracle, driver_write_cache;                           /* filters */
extern const struct driver driver_raw, driver_qcow2, driver_cow; /* formats */
extern const struct driver driver_sim_device;                    /* for tests */

const struct driver *const drivers[] = {
    &driver_file,     &driver_mem,          &driver_nbd,         &driver_null,
    &driver_blkdebug, &driver_copy_on_read, &driver_delay,       &driver_fault,
    &driver_verify,   &driver_oracle,       &driver_write_cache, &driver_raw,
    &driver_qcow2,    &driver_cow,          &driver_sim_device,  NULL,
};

/* QEMU's names for what is one driver here. */
static const struct {
    const char *alias, *name;
} aliases[] = {
    {"host_device", "file"},
    {"null-co", "null"},
    {"null-aio", "null"},
};

const struct driver *driver_find(const char *name)
{
    for (size_t i = 0; i < ARRAY_SIZE(aliases); i++) {
        if (strcmp(aliases[i].alias, name) == 0) {
            name = aliases[i].name;
        }
    }
    for (int i = 0; drivers[i]; i++) {
        if (strcmp(drivers[i]->name, name) == 0) {
            return drivers[i];
        }
    }
    return NULL;
}
