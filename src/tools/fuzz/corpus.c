/* SPDX-License-Identifier: BSD-2-Clause */
/* corpus export: images of a campaign as seeds for other fuzzers, with a dictionary of what its formats know.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "base/json.h"
#include "base/size.h"
#include "fuzz/run/campaign.h"
#include "tools/fuzz/fuzz.h"

#define OUT_DEFAULT "fuzz-campaign"
#define COUNT       100
#define LAYOUTS_MAX 64

struct export
{
    struct tool *tool;
    const char *out, *to;
    uint64_t count, limit;
    bool opened, findings;
};

enum { OPT_OUT = TOOL_OPT_FIRST_FREE, OPT_COUNT, OPT_MAX, OPT_ALL, OPT_FINDINGS };

static const struct option options[] = {
    TOOL_COMMON_LONG_OPTIONS,
    {"out", required_argument, NULL, OPT_OUT},
    {"count", required_argument, NULL, OPT_COUNT},
    {"max", required_argument, NULL, OPT_MAX},
    {"all", no_argument, NULL, OPT_ALL},
    {"findings", no_argument, NULL, OPT_FINDINGS},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static void print_help(void)
{
    printf("Usage: blkproof fuzz corpus [OPTIONS] export DIR\n"
           "Write images of a campaign into DIR, as seeds for AFL++, libFuzzer and others, and the words "
           "that its formats\n"
           "know into DIR.dict.\n"
           "\n"
           "Options:\n"
           "      --out=DIR          the campaign (default: ./" OUT_DEFAULT ")\n"
           "      --count=N          at most so many images (default %d)\n"
           "      --max=SIZE         no image is larger (default 1M)\n"
           "      --all              also images that were not opened\n"
           "      --findings         only those that showed a finding\n"
           "  -h, --help             this text\n",
           COUNT);
}

/* ---- the dictionary ---- */

static void put_word(FILE *f, const struct layout *l, const struct field *d, uint64_t value)
{
    uint8_t bytes[16] = {0};
    struct field at_zero = *d;

    at_zero.offset = 0;
    field_put(&at_zero, bytes, value);
    for (const char *p = l->name; *p; p++) {
        fputc(*p == ' ' ? '_' : *p, f);
    }
    fprintf(f, "_%s=\"", d->name);
    for (uint32_t i = 0; i < d->width; i++) {
        fprintf(f, "\\x%02x", bytes[i]);
    }
    fprintf(f, "\"\n");
}

/* Magics and limits of every structure in the image. */
static void put_words(FILE *f, const struct fuzz_image *img, const struct layout *seen[LAYOUTS_MAX],
                      size_t *nseen)
{
    for (int i = 1; i < img->parts; i++) {
        const struct layout *l = img->part[i].layout;
        bool known = !l || *nseen == LAYOUTS_MAX;
        for (size_t k = 0; k < *nseen; k++) {
            known = known || seen[k] == l;
        }
        if (known) {
            continue;
        }
        seen[(*nseen)++] = l;
        for (const struct field *d = l->fields; d->name; d++) {
            if (d->width == 0 || d->width > 8 || d->mask) {
                continue;
            }
            if (d->kind == FIELD_MAGIC || d->min > 1) {
                put_word(f, l, d, d->min);
            }
            if (d->max > 1) {
                put_word(f, l, d, d->max);
            }
        }
    }
}

/* ---- images ---- */

/* The image of test @n; -ENOENT: with --coverage only those that were kept can be made again. */
static int make(const struct export *e, struct source *s, uint64_t n, struct err *err)
{
    AUTO_JSON json_t *record = s->config->coverage ? coverage_record(e->out, n) : NULL;

    return record ? source_take(s, record, err) : s->config->coverage ? -ENOENT : source_make(s, n, err);
}

static int write_images(const struct export *e, struct source *s, json_t *rows, FILE *dict, uint64_t *ret_n,
                        struct err *err)
{
    const struct layout *seen[LAYOUTS_MAX];
    size_t nseen = 0, i;
    const json_t *row;

    json_array_foreach(rows, i, row)
    {
        uint64_t n = (uint64_t)json_integer_value(json_object_get(row, "n"));
        AUTO_FREE char *path = NULL;
        int r = make(e, s, n, err);
        if (r == -ENOENT && s->config->coverage) {
            continue;
        }
        if (r < 0) {
            return r;
        }
        put_words(dict, s->img, seen, &nseen);
        if (s->img->file[0].size > e->limit || *ret_n == e->count) {
            continue;
        }
        if (asprintf(&path, "%s/%08" PRIu64 ".%s", e->to, n, s->ext) < 0) {
            return err_set(err, -ENOMEM, "no memory");
        }
        s->img->files = 1; /* other fuzzers give one file to a target */
        r = fuzz_image_write(s->img, path, err);
        if (r < 0) {
            return r;
        }
        ++*ret_n;
    }
    return 0;
}

static int export_from(const struct export *e, struct state *state, struct err *err)
{
    struct campaign_config config;
    struct source source = {0};
    struct executor exec = {.output_fd = -1, .dir = "/tmp"};
    AUTO_JSON json_t *rows = NULL;
    AUTO_FREE char *text = state_get(state, "config"), *dict_path = NULL;
    AUTO_JSON json_t *j = text ? json_loads(text, 0, NULL) : NULL;
    char sql[256];
    uint64_t written = 0;

    campaign_config_init(&config);
    free(TAKE_PTR(config.fuzz.decoy));
    int r = j ? campaign_config_from_json(&config, j, err) : err_set(err, -EINVAL, "no campaign");
    uint64_t rows_max = config.coverage ? INT64_MAX : e->count * 8; /* few of many are kept */
    snprintf(sql, sizeof(sql), "SELECT n FROM test WHERE %s%s ORDER BY n LIMIT %" PRIu64,
             e->opened ? "opened" : "1", e->findings ? " AND n IN (SELECT n FROM hit)" : "", rows_max);
    r = r < 0 ? r : state_query(state, sql, &rows, err);
    config.limits.file_bytes = UINT64_MAX;
    exec.limits = config.limits;
    r = r < 0 ? r : executor_init(&exec, err);
    r = r < 0 ? r : source_init(&source, &config, &exec, "/tmp", err);
    if (r == 0 && mkdir(e->to, 0777) < 0 && errno != EEXIST) {
        r = err_set_errno(err, -errno, "make '%s'", e->to);
    }
    FILE *dict = r == 0 && asprintf(&dict_path, "%s.dict", e->to) > 0 ? fopen(dict_path, "we") : NULL;
    if (r == 0) {
        r = dict ? write_images(e, &source, rows, dict, &written, err)
                 : err_set_errno(err, -errno, "write '%s.dict'", e->to);
    }
    if (dict && fclose(dict) != 0 && r == 0) {
        r = err_set_errno(err, -errno, "write '%s'", dict_path);
    }
    source_finish(&source);
    executor_finish(&exec);
    campaign_config_finish(&config);
    if (r == 0) {
        printf("%" PRIu64 " images in %s, words in %s\n", written, e->to, dict_path);
    }
    return r;
}

static int take(struct export *e, int opt, const char *arg, struct err *err)
{
    switch (opt) {
    case OPT_OUT:
        e->out = arg;
        return 0;
    case OPT_COUNT:
        return fuzz_number(arg, &e->count) < 0 || e->count == 0 || e->count > 100000000
                   ? err_set(err, -EINVAL, "--count=%s: expected a number", arg)
                   : 0;
    case OPT_MAX:
        return size_parse(arg, &e->limit) < 0 ? err_set(err, -EINVAL, "--max=%s: expected a size", arg) : 0;
    case OPT_ALL:
        e->opened = false;
        return 0;
    default:
        e->findings = true;
        e->opened = false;
        return 0;
    }
}

int fuzz_cmd_corpus(struct tool *t, int argc, char **argv)
{
    struct export e = {.tool = t, .out = OUT_DEFAULT, .count = COUNT, .limit = MiB, .opened = true};
    struct err err = {0};
    struct state state;
    int opt;

    while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (opt == 'h') {
            print_help();
            return 0;
        }
        if (opt == '?') {
            return FUZZ_EXIT_USAGE;
        }
        if (opt >= TOOL_OPT_FIRST_FREE && take(&e, opt, optarg, &err) < 0) {
            return fuzz_usage(t, "corpus", &err);
        }
    }
    if (argc - optind != 2 || strcmp(argv[optind], "export") != 0) {
        err_set(&err, -EINVAL, "expected 'export DIR'");
        return fuzz_usage(t, "corpus", &err);
    }
    e.to = argv[optind + 1];
    int r = state_open(&state, e.out, false, true, &err);
    if (r == 0) {
        r = export_from(&e, &state, &err);
        state_close(&state, NULL);
    }
    if (r < 0) {
        tool_error(t, "fuzz corpus: %s", err.text);
    }
    return r < 0 ? EXIT_FAILURE : 0;
}
