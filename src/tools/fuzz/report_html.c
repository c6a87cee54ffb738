/* SPDX-License-Identifier: BSD-2-Clause */
/* The report as one HTML page: no script, no font, no picture from elsewhere. Everything that came from an
 * image or a program is escaped. */
#include "tools/fuzz/report.h"

#define CHART_WIDTH  860
#define CHART_HEIGHT 160

static const char head[] =
    "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>blkproof fuzz</title>\n<style>\n"
    "body{font:15px/1.45 system-ui,sans-serif;max-width:62em;margin:2em auto;padding:0 "
    "1em;color:#222;background:#fff}\n"
    "table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.25em .6em;border-bottom:1px "
    "solid #ddd;"
    "vertical-align:top}\n"
    "code{font:13px "
    "ui-monospace,monospace;word-break:break-word}.n{text-align:right;font-variant-numeric:tabular-nums}\n"
    ".figures b{font-size:1.6em;display:block}.figures span{display:inline-block;margin-right:2.5em}\n"
    "svg{width:100%;height:auto}.bar{display:inline-block;height:.8em;background:#c33}\n"
    "</style></head><body>\n<h1>blkproof fuzz</h1>\n";

static void put_figures(FILE *f, const json_t *t)
{
    long long tests = report_number(t, "tests");

    fprintf(
        f,
        "<p class=\"figures\"><span><b>%lld</b>tests</span><span><b>%lld</b>processes</span><span><b>%.1f "
        "%%</b>opened</span><span><b>%lld</b>findings</span><span><b>%lld</b>times seen</span></p>\n",
        tests, report_number(t, "processes"),
        tests ? 100.0 * (double)report_number(t, "opened") / (double)tests : 0.0,
        report_number(t, "findings"), report_number(t, "hits"));
}

/* One column of the history as a line, over time from left to right. */
static void put_line(FILE *f, const json_t *history, const char *column, const char *colour)
{
    const json_t *row, *first = json_array_get(history, 0),
                       *last = json_array_get(history, json_array_size(history) - 1);
    double begin = (double)report_number(first, "time"), span = (double)report_number(last, "time") - begin;
    double top = (double)report_number(last, column);
    size_t i;

    fprintf(f, "<polyline fill=\"none\" stroke=\"%s\" stroke-width=\"2\" points=\"", colour);
    json_array_foreach(history, i, row)
    {
        double x = span > 0 ? ((double)report_number(row, "time") - begin) / span : 0;
        double y = top > 0 ? (double)report_number(row, column) / top : 0;
        fprintf(f, "%.1f,%.1f ", x * CHART_WIDTH, CHART_HEIGHT - 4 - y * (CHART_HEIGHT - 8));
    }
    fprintf(f, "\"/>\n");
}

static void put_timeline(FILE *f, const json_t *history)
{
    size_t n = json_array_size(history);

    if (n < 2) {
        return;
    }
    fprintf(f,
            "<h2>Time</h2>\n<svg viewBox=\"0 0 %d %d\" role=\"img\" aria-label=\"findings and tests over "
            "time\">\n",
            CHART_WIDTH, CHART_HEIGHT);
    put_line(f, history, "tests", "#999");
    put_line(f, history, "findings", "#c33");
    fprintf(f, "</svg>\n<p>From ");
    report_time(f, report_number(json_array_get(history, 0), "time"));
    fprintf(f, " to ");
    report_time(f, report_number(json_array_get(history, n - 1), "time"));
    fprintf(f, " UTC; red: findings (up to %lld), grey: tests (up to %lld).</p>\n",
            report_number(json_array_get(history, n - 1), "findings"),
            report_number(json_array_get(history, n - 1), "tests"));
}

static void put_findings(FILE *f, const json_t *findings)
{
    const json_t *finding;
    size_t i;

    fprintf(f, "<h2>Findings</h2>\n<table><tr><th>finding</th><th "
               "class=\"n\">seen</th><th>steady</th><th>what</th></tr>\n");
    json_array_foreach(findings, i, finding)
    {
        const char *minimal = report_text(finding, "minimal");
        fprintf(
            f, "<tr id=\"%s\"><td><code>%s-%s</code></td><td class=\"n\">%lld</td><td>%lld of %lld</td><td>",
            report_text(finding, "id"), report_text(finding, "oracle"), report_text(finding, "id"),
            report_number(finding, "count"), report_number(finding, "seen"), report_number(finding, "again"));
        report_escaped(f, report_text(finding, "title"));
        if (*minimal) {
            fprintf(f, "<br><b>");
            report_escaped(f, minimal);
            fprintf(f, "</b>");
        }
        fprintf(f, "<br><code>");
        report_escaped(f, report_text(finding, "shell"));
        fprintf(f, "</code><br>smallest: test %lld, %lld hostile fields, %lld bytes; first seen ",
                report_number(finding, "smallest_n"), report_number(finding, "smallest_mutations"),
                report_number(finding, "smallest_bytes"));
        report_time(f, report_number(finding, "first_time"));
        fprintf(f, "</td></tr>\n");
    }
    fprintf(f, "</table>\n");
}

/* The redder, the more of its tests had a finding; the bar is how often it was opened in spite of the
 * mutation. */
static void put_fields(FILE *f, const json_t *fields)
{
    const json_t *field;
    size_t i;

    fprintf(f, "<h2>Fields</h2>\n<table><tr><th>field</th><th class=\"n\">mutated</th><th "
               "class=\"n\">opened</th><th "
               "class=\"n\">findings</th><th></th></tr>\n");
    json_array_foreach(fields, i, field)
    {
        double mutated = (double)report_number(field, "mutated");
        double hits = (double)report_number(field, "hits"), opened = (double)report_number(field, "opened");
        double heat = mutated > 0 ? hits / mutated : 0;
        heat = heat > 1 ? 1 : heat;
        fprintf(f, "<tr style=\"background:rgba(204,51,51,%.2f)\"><td><code>", heat * 0.6);
        report_escaped(f, report_text(field, "path"));
        fprintf(f,
                "</code></td><td class=\"n\">%.0f</td><td class=\"n\">%.0f</td><td class=\"n\">%.0f</td><td "
                "style=\"width:12em\"><span class=\"bar\" "
                "style=\"width:%.0f%%;background:#6a6\"></span></td></tr>\n",
                mutated, opened, hits, mutated > 0 ? 100 * opened / mutated : 0);
    }
    fprintf(f, "</table>\n<p>A row is the redder the more of its tests had a finding; the bar is the share "
               "of images that "
               "were opened.</p>\n");
}

static void put_config(FILE *f, const json_t *config)
{
    char *text = json_dumps(config, JSON_INDENT(1) | JSON_ENSURE_ASCII);

    fprintf(f, "<h2>Configuration</h2>\n<pre><code>");
    for (char *p = text, *end; p && *p; p = end + 1) { /* lines stay lines */
        end = p;
        while (*end && *end != '\n') {
            end++;
        }
        char last = *end;
        *end = '\0';
        report_escaped(f, p);
        fputc('\n', f);
        if (!last) {
            break;
        }
    }
    fprintf(f, "</code></pre>\n");
    free(text);
}

void report_html(FILE *f, const json_t *report)
{
    fputs(head, f);
    put_figures(f, json_object_get(report, "totals"));
    put_findings(f, json_object_get(report, "findings"));
    put_timeline(f, json_object_get(report, "history"));
    put_fields(f, json_object_get(report, "fields"));
    put_config(f, json_object_get(report, "config"));
    fputs("</body></html>\n", f);
}
