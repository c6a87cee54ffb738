/* SPDX-License-Identifier: BSD-2-Clause */
/* A finding that is kept: seen again, and made small. */
#ifndef FUZZ_RUN_FINDING_H
#define FUZZ_RUN_FINDING_H

#include "fuzz/run/campaign.h"

struct finding {
    char *out, *dir; /* of the campaign, of the finding */
    struct campaign_config config;
    struct state state;
    char *id, *oracle, *title, *command;
    uint64_t n, needs; /* its smallest test, and the commands that show it */
};

/* @name: a finding's directory or one in it; or ORACLE-ID, of the campaign in @out. */
int finding_open(struct finding *f, const char *name, const char *out, struct err *err);
void finding_close(struct finding *f);

/* Make the finding's image in @p: from its seed; from what was kept if the generator makes another today,
 * which
 * *@ret_changed tells. */
int finding_image(const struct finding *f, struct place *p, bool *ret_changed, struct err *err);

/* ---- minimise.c ---- */

struct minimum {
    unsigned runs;                        /* tests it took */
    unsigned mutations_before, mutations; /* hostile fields */
    uint64_t bytes_before, bytes;         /* size of the image's files */
    unsigned zeroed, parts;               /* structures that do not matter, of so many */
    char sentence[1024];                  /* "l2[0].entry[3].offset = 0x200 crashes `qemu-img check ...`" */
};

/* Reduce the mutations, then the structures, then the file; what is left goes to DIR/minimal. -ENOENT: it
 * does not show itself any more. */
int finding_minimise(const struct finding *f, struct place *p, unsigned runs_max, struct minimum *ret,
                     struct err *err);

#endif
