/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Latent bad sectors: which ones they are follows from the seed, the rule and the sector, so that they are
 * there before anybody looks; a read fails, after retries of the drive that take their time. A write remaps a
 * sector, as long as there are spare ones.
 */
#include "drivers/fault/actions.h"

#define REPAIRED_FIRST 64u
#define REPAIRED_MAX   65536u /* sectors that a drive may remap: 1 MiB for each rule */

/* ---- the repaired ones: a hash set of sector + 1 ---- */

static uint32_t place(const struct fault_run *run, uint64_t sector)
{
    uint64_t x = sector;
    uint32_t at = (uint32_t)splitmix64(&x) & (run->repaired_max - 1);

    while (run->repaired[at] && run->repaired[at] != sector + 1) {
        at = (at + 1) & (run->repaired_max - 1);
    }
    return at;
}

static bool is_repaired(const struct fault_run *run, uint64_t sector)
{
    return run->nrepaired && run->repaired[place(run, sector)];
}

static bool grow(struct fault_run *run)
{
    struct fault_run bigger = {.repaired_max = run->repaired_max ? 2 * run->repaired_max : REPAIRED_FIRST};

    bigger.repaired = calloc(bigger.repaired_max, sizeof(*bigger.repaired));
    if (!bigger.repaired) {
        return false;
    }
    for (uint32_t i = 0; i < run->repaired_max; i++) {
        if (run->repaired[i]) {
            bigger.repaired[place(&bigger, run->repaired[i] - 1)] = run->repaired[i];
        }
    }
    free(run->repaired);
    run->repaired = bigger.repaired;
    run->repaired_max = bigger.repaired_max;
    return true;
}

/* False: there are no spare ones left. */
static bool repair(struct fault_run *run, uint64_t sector)
{
    if (run->nrepaired == REPAIRED_MAX || (2 * run->nrepaired >= run->repaired_max && !grow(run))) {
        return false;
    }
    run->repaired[place(run, sector)] = sector + 1;
    run->nrepaired++;
    return true;
}

/* ---- which ones are bad ---- */

static bool in_ranges(const struct fault_rule *rule, uint64_t sector)
{
    unsigned i = fault_range_at(rule, sector * SECTOR_SIZE);

    return rule->nranges == 0 || (i < rule->nranges && rule->ranges[i].start < (sector + 1) * SECTOR_SIZE);
}

static bool is_bad(const struct fault_engine *e, const struct fault_rule *rule, uint64_t sector)
{
    uint64_t n = rule->how.one_in;

    return (n < 2 || fault_draw(e, rule, sector, n) % n == 0) && in_ranges(rule, sector) &&
           !is_repaired(&rule->run, sector);
}

/* The first bad one of the request, from @sector on; UINT64_MAX: there is none. */
static uint64_t next_bad(const struct fault_engine *e, const struct fault_rule *rule, const struct req *r,
                         uint64_t sector)
{
    uint64_t end = div_up(r->offset + r->bytes, SECTOR_SIZE);

    while (sector < end && !is_bad(e, rule, sector)) {
        sector++;
    }
    return sector < end ? sector : UINT64_MAX;
}

/* ---- the action ---- */

FAULT_CHECK(fault_bad_check)
{
    if (!rule->how.retries != !rule->how.retry_ns) {
        return err_set(err, -EINVAL, "retries and retry-time belong together");
    }
    fault_sort_ranges(rule); /* for in_ranges */
    return 0;
}

FAULT_CONCERNS(fault_bad_concerns)
{
    if (r->op != REQ_READ && rule->how.repair == REPAIR_NEVER) {
        return false;
    }
    return next_bad(e, rule, r, r->offset / SECTOR_SIZE) != UINT64_MAX;
}

static co_fn int write_over(struct fault_engine *e, struct fault_rule *rule, struct req *r)
{
    int ret = fault_pass(e, r);
    uint64_t s = div_up(r->offset, SECTOR_SIZE), end = r->offset + r->bytes;
    uint64_t size = node_size(e->node);

    for (s = next_bad(e, rule, r, s); ret == 0 && s != UINT64_MAX; s = next_bad(e, rule, r, s + 1)) {
        if (MIN((s + 1) * SECTOR_SIZE, size) > end) {
            break; /* only a part of the sector: a drive would have to read the rest */
        }
        if (!repair(&rule->run, s)) {
            fault_damage_result(e, rule, r, -rule->error);
            return -rule->error;
        }
    }
    return ret;
}

FAULT_PERFORM(fault_bad_perform)
{
    if (r->op != REQ_READ) {
        return write_over(e, rule, r);
    }
    if (rule->how.retries) {
        struct rng rng = fault_rng(e, rule, r);
        fault_delay(e, (1 + rng_below(&rng, rule->how.retries)) * rule->how.retry_ns);
    }
    fault_damage_result(e, rule, r, -rule->error);
    return -rule->error;
}
