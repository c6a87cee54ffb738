/* SPDX-License-Identifier: BSD-2-Clause */
/* merge: the parts of a campaign (--shard) into one directory. */
#include "fuzz/run/merge.h"

#include "base/json.h"
#include "tools/fuzz/fuzz.h"

enum { OPT_OUT = TOOL_OPT_FIRST_FREE };

static const struct option options[] = {
    TOOL_COMMON_LONG_OPTIONS,
    {"out", required_argument, NULL, OPT_OUT},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static void print_help(void)
{
    printf("Usage: blkproof fuzz merge --out=DIR PART...\n"
           "Put the parts of a campaign together that were run with --shard=K/N.\n"
           "\n"
           "Options:\n"
           "      --out=DIR          the whole campaign; made if it is not there\n"
           "  -h, --help             this text\n");
}

static int merge(const char *out, char **parts, int n, struct campaign *c, struct campaign_config *config,
                 struct err *err)
{
    AUTO_JSON json_t *first = NULL, *kept = NULL;

    int r = merge_config(parts[0], &first, err);
    r = r < 0 ? r : campaign_config_from_json(config, first, err);
    r = r < 0 ? r : campaign_open(c, out, config, &kept, err);
    if (r == 0 && kept && !json_equal(kept, first)) {
        r = err_set(err, -EINVAL, "'%s' is another campaign than the one in '%s'", parts[0], out);
    }
    for (int i = 0; i < n && r == 0; i++) {
        r = merge_part(c, parts[i], err);
    }
    r = r < 0 ? r : state_totals(&c->state, &c->totals, err);
    return r;
}

int fuzz_cmd_merge(struct tool *t, int argc, char **argv)
{
    struct campaign c = {.lock_fd = -1};
    struct campaign_config config;
    struct err err = {0};
    const char *out = NULL;
    int opt;

    while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (opt == 'h') {
            print_help();
            return 0;
        }
        if (opt == '?') {
            return FUZZ_EXIT_USAGE;
        }
        out = opt == OPT_OUT ? optarg : out;
    }
    if (!out || optind == argc) {
        err_set(&err, -EINVAL, "%s", out ? "a part is missing" : "--out is missing");
        return fuzz_usage(t, "merge", &err);
    }
    campaign_config_init(&config);
    free(TAKE_PTR(config.fuzz.decoy));
    int r = merge(out, argv + optind, argc - optind, &c, &config, &err);
    if (r == 0) {
        printf("%llu tests, %llu findings seen %llu times\n", (unsigned long long)c.totals.tests,
               (unsigned long long)c.totals.findings, (unsigned long long)c.totals.hits);
    } else {
        tool_error(t, "fuzz merge: %s", err.text);
    }
    campaign_close(&c, NULL);
    campaign_config_finish(&config);
    return r < 0 ? EXIT_FAILURE : 0;
}
