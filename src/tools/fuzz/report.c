/* SPDX-License-Identifier: BSD-2-Clause */
/* report: what a campaign found, as Markdown, JSON, JUnit or one HTML page. A campaign that runs can be
 * reported on. */
#include "tools/fuzz/report.h"

#include <time.h>

#include "base/json.h"
#include "fuzz/run/campaign.h"
#include "tools/fuzz/fuzz.h"

#define OUT_DEFAULT "fuzz-campaign"

/* ---- collecting ---- */

/* What `fuzz min` said. */
static void add_sentence(const char *dir, json_t *finding)
{
    AUTO_FREE char *found = artefact_dir(dir, report_text(finding, "oracle"), report_text(finding, "id"));
    AUTO_FREE char *path = NULL;
    char text[2048];

    if (!found || asprintf(&path, "%s/minimal/minimal.txt", found) < 0) {
        return;
    }
    FILE *f = fopen(path, "re");
    if (f && fgets(text, sizeof(text), f)) {
        text[strcspn(text, "\n")] = '\0';
        json_object_set_new(finding, "minimal", json_string(text));
    }
    if (f) {
        fclose(f);
    }
}

static int collect_from(struct state *s, const char *dir, json_t *report, struct err *err)
{
    static const struct {
        const char *name, *sql;
    } parts[] = {
        {"totals",
         "SELECT count(*) AS tests, coalesce(sum(executed), 0) AS processes, coalesce(sum(opened), 0) AS "
         "opened,"
         " (SELECT count(*) FROM finding) AS findings, (SELECT count(*) FROM hit) AS hits FROM test"},
        {"findings",
         "SELECT id, oracle, title, key, command, shell, first_n, newest_n, smallest_n, smallest_mutations,"
         " smallest_bytes, first_time, seen, again, (SELECT count(*) FROM hit WHERE hit.id = finding.id) AS"
         " count FROM finding ORDER BY oracle, count DESC, id"},
        {"fields", "SELECT * FROM field ORDER BY hits DESC, mutated DESC, path"},
        {"history", "SELECT * FROM history ORDER BY time"},
    };
    size_t i;
    json_t *finding;

    for (i = 0; i < ARRAY_SIZE(parts); i++) {
        json_t *rows;
        int r = state_query(s, parts[i].sql, &rows, err);
        if (r < 0) {
            return r;
        }
        json_object_set_new(report, parts[i].name, rows);
    }
    json_object_set(report, "totals", json_array_get(json_object_get(report, "totals"), 0));
    json_array_foreach(json_object_get(report, "findings"), i, finding)
    {
        add_sentence(dir, finding);
    }
    AUTO_FREE char *config = state_get(s, "config");
    json_object_set_new(report, "config", config ? json_loads(config, 0, NULL) : json_object());
    return 0;
}

int report_collect(const char *dir, json_t **ret_report, struct err *err)
{
    struct state s;
    AUTO_JSON json_t *report = json_object();

    int r = state_open(&s, dir, false, true, err);
    if (r == 0) {
        r = collect_from(&s, dir, report, err);
        state_close(&s, NULL);
    }
    if (r == 0) {
        *ret_report = TAKE_PTR(report);
    }
    return r;
}

/* ---- what renderers share ---- */

const char *report_text(const json_t *j, const char *key)
{
    const char *text = json_string_value(json_object_get(j, key));
    return text ? text : "";
}

long long report_number(const json_t *j, const char *key)
{
    return (long long)json_integer_value(json_object_get(j, key));
}

void report_escaped(FILE *f, const char *text)
{
    for (const char *p = text; *p; p++) {
        const char *entity = *p == '&'   ? "&amp;"
                             : *p == '<' ? "&lt;"
                             : *p == '>' ? "&gt;"
                             : *p == '"' ? "&quot;"
                                         : NULL;
        if (entity) {
            fputs(entity, f);
        } else {
            fputc((unsigned char)*p < 0x20 || *p == 0x7f ? '?' : *p, f);
        }
    }
}

void report_time(FILE *f, long long seconds)
{
    char text[32] = "";
    time_t t = (time_t)seconds;
    struct tm tm;

    if (gmtime_r(&t, &tm)) {
        strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &tm);
    }
    fputs(text, f);
}

/* ---- Markdown ---- */

/* In a cell of a table. */
static void put_cell(FILE *f, const char *text)
{
    for (const char *p = text; *p; p++) {
        if (*p == '|') {
            fputs("\\|", f);
        } else {
            fputc((unsigned char)*p < 0x20 ? ' ' : *p, f);
        }
    }
}

void report_markdown(FILE *f, const json_t *report)
{
    const json_t *t = json_object_get(report, "totals"), *finding, *field;
    long long tests = report_number(t, "tests");
    size_t i;

    fprintf(f,
            "# blkproof fuzz\n\n%lld tests, %lld processes, %.1f %% of the images opened, %lld findings seen "
            "%lld times\n\n",
            tests, report_number(t, "processes"),
            tests ? 100.0 * (double)report_number(t, "opened") / (double)tests : 0.0,
            report_number(t, "findings"), report_number(t, "hits"));
    fprintf(f, "| finding | seen | steady | what | smallest |\n|---|---|---|---|---|\n");
    json_array_foreach(json_object_get(report, "findings"), i, finding)
    {
        const char *minimal = report_text(finding, "minimal");
        fprintf(f, "| %s-%s | %lld | %lld of %lld | ", report_text(finding, "oracle"),
                report_text(finding, "id"), report_number(finding, "count"), report_number(finding, "seen"),
                report_number(finding, "again"));
        put_cell(f, report_text(finding, "title"));
        fprintf(f, " | ");
        if (*minimal) {
            put_cell(f, minimal);
        } else {
            fprintf(f, "test %lld: %lld fields, %lld bytes", report_number(finding, "smallest_n"),
                    report_number(finding, "smallest_mutations"), report_number(finding, "smallest_bytes"));
        }
        fprintf(f, " |\n");
    }
    fprintf(f, "\n| field | mutated | opened | with findings |\n|---|---|---|---|\n");
    json_array_foreach(json_object_get(report, "fields"), i, field)
    {
        fprintf(f, "| ");
        put_cell(f, report_text(field, "path"));
        fprintf(f, " | %lld | %lld | %lld |\n", report_number(field, "mutated"),
                report_number(field, "opened"), report_number(field, "hits"));
    }
}

/* ---- JUnit: each oracle is a test, each finding a failure of it ---- */

void report_junit(FILE *f, const json_t *report)
{
    const json_t *findings = json_object_get(report, "findings"), *finding;
    unsigned mask = (unsigned)report_number(json_object_get(report, "config"), "oracles"), clean = 0;
    size_t n = json_array_size(findings), i;
    bool hit[ORACLES] = {false};

    json_array_foreach(findings, i, finding)
    {
        enum oracle o = oracle_find(report_text(finding, "oracle"));
        if (o < ORACLES) {
            hit[o] = true;
        }
    }
    for (i = 0; i < ORACLES; i++) {
        clean += (mask & 1u << i) && !hit[i];
    }
    fprintf(f,
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<testsuite name=\"blkproof fuzz\" tests=\"%zu\" "
            "failures=\"%zu\">\n",
            n + clean, n);
    for (i = 0; i < ORACLES; i++) {
        if ((mask & 1u << i) && !hit[i]) {
            fprintf(f, "  <testcase classname=\"fuzz\" name=\"%s\"/>\n", oracle_words[i].name);
        }
    }
    json_array_foreach(findings, i, finding)
    {
        fprintf(f, "  <testcase classname=\"fuzz.%s\" name=\"%s-%s\">\n    <failure message=\"",
                report_text(finding, "oracle"), report_text(finding, "oracle"), report_text(finding, "id"));
        report_escaped(f, report_text(finding, "title"));
        fprintf(f, "\">");
        report_escaped(f, report_text(finding, "shell"));
        fprintf(f, "</failure>\n  </testcase>\n");
    }
    fprintf(f, "</testsuite>\n");
}

static void report_json(FILE *f, const json_t *report)
{
    json_dumpf(report, f, JSON_INDENT(1));
    fputc('\n', f);
}

/* ---- the command ---- */

enum { OPT_OUT = TOOL_OPT_FIRST_FREE, OPT_FORMAT };

static const struct option options[] = {
    TOOL_COMMON_LONG_OPTIONS,
    {"out", required_argument, NULL, OPT_OUT},
    {"format", required_argument, NULL, OPT_FORMAT},
    {"help", no_argument, NULL, 'h'},
    {0},
};

static const struct {
    const char *name;
    void (*write)(FILE *f, const json_t *report);
} forms[] = {
    {"markdown", report_markdown},
    {"json", report_json},
    {"junit", report_junit},
    {"html", report_html},
};

static void print_help(void)
{
    printf("Usage: blkproof fuzz report [OPTIONS] [FILE]\n"
           "Write what a campaign found, to FILE or to standard output.\n"
           "\n"
           "Options:\n"
           "      --out=DIR          the campaign (default: ./" OUT_DEFAULT ")\n"
           "      --format=FORM      markdown (default), json, junit or html\n"
           "  -h, --help             this text\n");
}

static int write_report(const char *dir, const char *file, size_t form, struct err *err)
{
    AUTO_JSON json_t *report = NULL;

    int r = report_collect(dir, &report, err);
    if (r < 0) {
        return r;
    }
    FILE *f = file ? fopen(file, "we") : stdout;
    if (!f) {
        return err_set_errno(err, -errno, "write '%s'", file);
    }
    forms[form].write(f, report);
    return !file || fclose(f) == 0 ? 0 : err_set_errno(err, -errno, "write '%s'", file);
}

int fuzz_cmd_report(struct tool *t, int argc, char **argv)
{
    const char *out = OUT_DEFAULT;
    struct err err = {0};
    size_t form = 0;
    int opt;

    while ((opt = getopt_long(argc, argv, "h", options, NULL)) != -1) {
        if (opt == 'h') {
            print_help();
            return 0;
        }
        if (opt == '?') {
            return FUZZ_EXIT_USAGE;
        }
        if (opt == OPT_OUT) {
            out = optarg;
        }
        for (form = opt == OPT_FORMAT ? 0 : form; opt == OPT_FORMAT && form < ARRAY_SIZE(forms); form++) {
            if (strcmp(forms[form].name, optarg) == 0) {
                break;
            }
        }
        if (form == ARRAY_SIZE(forms)) {
            err_set(&err, -EINVAL, "--format=%s: expected markdown, json, junit or html", optarg);
            return fuzz_usage(t, "report", &err);
        }
    }
    if (optind + 1 < argc) {
        err_set(&err, -EINVAL, "unexpected argument '%s'", argv[optind + 1]);
        return fuzz_usage(t, "report", &err);
    }
    if (write_report(out, argv[optind], form, &err) < 0) {
        tool_error(t, "fuzz report: %s", err.text);
        return EXIT_FAILURE;
    }
    return 0;
}
