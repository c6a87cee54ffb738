/* SPDX-License-Identifier: BSD-2-Clause */
/* `blkproof serve`: what its arguments (serve_args.c) and its run (serve.c) share. */
#ifndef TOOLS_SERVE_H
#define TOOLS_SERVE_H

#include <signal.h>

#include "export/metrics/metrics.h"
#include "qmp/qmp.h"
#include "tools/tools.h"

struct image {
    const char *text; /* as given */
    const char *name; /* export name */
    size_t name_len;
    const char *format;      /* or NULL */
    bool opts;               /* --image-opts */
    const char *id;          /* --id, or NULL */
    const char *write_cache; /* options of --write-cache, or NULL */
    char *export_name;       /* owned */
    struct node *node;
};

struct fuse_place { /* one --fuse, or one that the monitor made */
    struct list link;
    struct serve *serve;
    const char *name; /* the image's export name, in the argument */
    size_t name_len;
    const char *file;
    const struct image *image; /* NULL: the monitor's */
    struct node *node;
    struct fuse_export *export; /* NULL: not mounted yet */
    bool growable;
    bool gone; /* unmounted by somebody */
};

struct serve {
    struct tool *tool;
    struct graph graph;
    double time_scale; /* of fault rules; 0: 1 */
    struct nbd_server_config config;
    struct nbd_server *server;

    /* the command line */
    struct image *images;
    unsigned nimages;
    const char **addresses;
    unsigned naddresses;
    const char **qmp_addresses;
    unsigned nqmp;
    struct list places; /* of struct fuse_place */
    bool fuse_growable, fuse_allow_other;
    const char *description, *report, *power_report, *pid_file, *run, *metrics_address;
    const char *decision_log, *replay_decisions;
    struct verify_settings verify;
    unsigned open_flags;
    bool read_only, once, scrub, progress, json, quiet;

    /* the run */
    sigset_t old_mask;
    int signal_fd;
    bool opened;          /* all images are */
    bool watching;        /* the coroutine that waits for signals is alive */
    bool releasing;       /* so is release_held */
    bool scrubbing;       /* so is a scrub */
    bool finished;        /* both shall end */
    bool hung;            /* some requests will never end */
    bool draining;        /* what is in flight is being finished */
    unsigned fuse_ending; /* coroutines in serve_fuse_end */
    char *private_dir;
    char *private_address;
    pid_t child;
    bool child_alive;
    int child_status;
    int signal;
    bool pid_written;
    bool end; /* wind down */
    struct co_queue changed;
    bool failed;
    struct metrics_server *metrics; /* NULL: no --metrics */
    struct qmp_server *qmp;         /* NULL: no --qmp */
    struct list shells;             /* serve_qmp.c: what human-monitor-command keeps of nodes */
    bool shell_busy;                /* and whether it is running */
};

/* Fill in the command line. 0; or -1 with *@ret_status set: all is said, exit with it. */
int serve_parse(struct serve *s, int argc, char **argv, int *ret_status);
/* NAME=REST: how long NAME is; 0 if @text does not look like that. */
size_t serve_name_len(const char *text);

/* End, as on a signal. */
void serve_wind_down(struct serve *s);
/* With --once: was it the last? */
void serve_client_left(struct serve *s);

/* ---- serve_verify.c: the verifiers among the disks ---- */

/* What --report and --scrub need is there; the report goes where it was told to. */
co_fn int serve_set_report(struct serve *s, struct err *err);
/* Scrub while clients go on (s->scrubbing until it has ended); the images stay open meanwhile. */
void serve_scrub_begin(struct serve *s);
/* At the end: what it finds is a failure. */
co_fn void serve_scrub_all(struct serve *s);
/* Let go of the requests that on-mismatch=pause holds. */
void serve_release(struct serve *s);

/* ---- serve_power.c: write caches ---- */

/* @options (nested; used up) become those of a write cache above them, if the image is to have one. */
int serve_add_cache(json_t **options, const struct image *im, struct err *err);
int serve_set_power_report(struct serve *s, struct err *err);

/* ---- serve_qmp.c: the monitor ---- */

/* Make it and tell it about the disks, before clients can come; does nothing without --qmp. */
co_fn int serve_qmp_begin(struct serve *s, struct err *err);
/* When everything else is ready: listen. */
co_fn int serve_qmp_listen(struct serve *s, struct err *err);
/* Let nobody in any more, and answer what is being executed. */
void serve_qmp_stop(struct serve *s);
/* After the NBD server's last client. */
co_fn void serve_qmp_finish(struct serve *s);

#endif
