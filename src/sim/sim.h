/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The simulated world behind the sim engine, for tests: disks that are slow, err, forget what was
 * not flushed and lose power; a network that delays, cuts and breaks; one virtual clock; and one
 * generator, seeded, behind every choice. The same seed and the same program give the same run,
 * and sim_trace_hash proves it. docs/testing.md shows how a scenario is written.
 *
 * All functions act on the sim loop of the calling thread and may be called inside coroutines;
 * none of them waits.
 */
#ifndef SIM_SIM_H
#define SIM_SIM_H

#include "loop/loop.h"

struct sim_file;

/* Run @fn(@arg) on a fresh loop with the sim engine and @seed. If then everything that is left
 * waits for something that cannot happen, the process says so, with the seed, and aborts.
 * @ret_trace: the hash of the run; may be NULL. Returns fn's result, or -ENOMEM. */
int sim_run(uint64_t seed, int (*fn)(void *arg), void *arg, uint64_t *ret_trace);

/* ---- what can be slow or fail ---- */

enum sim_op {
    SIM_OPEN,
    SIM_READ,
    SIM_WRITE,
    SIM_SYNC,
    SIM_FALLOCATE,
    SIM_TRUNCATE,
    SIM_SIZE, /* size, allocated bytes and extents */
    SIM_RECV,
    SIM_SEND,
    SIM_POLL,
    SIM_ANY, /* in a fault: each of the above */
};

/* How long an operation takes: uniform between the bounds, and sometimes much longer. The order in
 * which operations complete follows from it. */
struct sim_latency {
    uint64_t min_ns, max_ns;
    uint32_t slow_ppm; /* chance of slow_ns on top */
    uint64_t slow_ns;
};

#define SIM_FAULTS_MAX 8 /* per file, and for all files; scenarios use one or two */

struct sim_fault {
    enum sim_op op;
    uint64_t nth;           /* fires at the nth matching operation from now on, from 1; 0: see ppm */
    uint32_t ppm;           /* nth 0: chance at each matching operation */
    bool sticky;            /* nth: also at every one after it */
    bool partial;           /* WRITE: a part chosen by the seed lands before the error */
    int error;              /* what the operation returns, -errno; 0: nothing but the delay */
    uint64_t delay_ns;      /* on top of the latency */
    uint64_t offset, bytes; /* only operations that touch this range; 0 bytes: anywhere */
    uint64_t seen;          /* matching operations so far; the engine counts here */
};

/* Replace the faults of @file, or with NULL those of everything (sockets too). 0 faults clear. */
void sim_set_faults(struct sim_file *file, const struct sim_fault *faults, unsigned nfaults);

/* Matching operations that the fault at @index has seen: whether an nth was reached. */
uint64_t sim_fault_seen(struct sim_file *file, unsigned index);

/* Operations started so far: one is counted for each call of the engine that could fail. */
uint64_t sim_op_count(void);

/* ---- disks ---- */

struct sim_disk {
    uint64_t size;
    struct sim_latency latency; /* all zero: 1 to 100 us */
    bool write_through;         /* no volatile cache: what is written is durable */
    bool tear;                  /* larger writes land in two parts at two times, in either order */
    bool block_device;          /* fixed size, LFILE_BLOCK */
    uint32_t align;             /* bytes, demanded of handles opened with O_DIRECT; 0: 1 */
};

/* Make a file that lfile_open finds under @path; NULL if there is no memory. open with O_CREAT makes
 * one like sim_disk{0}. Files live as long as the loop. */
struct sim_file *sim_file_create(const char *path, const struct sim_disk *disk);
struct sim_file *sim_file_find(const char *path);
void sim_file_set_latency(struct sim_file *file, const struct sim_latency *latency);

/* Look at or change what is stored, past all faults and latency; reads beyond the end give zeroes.
 * Poked bytes are durable at once. */
void sim_file_peek(struct sim_file *file, uint64_t offset, void *buf, uint64_t bytes);
int sim_file_poke(struct sim_file *file, uint64_t offset, const void *buf, uint64_t bytes);
uint64_t sim_file_size(const struct sim_file *file);
/* Handles open on it, those from before a power cut included. */
unsigned sim_file_handles(const struct sim_file *file);
/* Operations under way on it. */
unsigned sim_file_in_flight(const struct sim_file *file);

/* Which of the sectors that were written but not flushed are there after a power cut. Writes not
 * yet answered count too; a sector is never torn. */
enum sim_survivors { SIM_SURVIVE_NONE, SIM_SURVIVE_ALL, SIM_SURVIVE_RANDOM };

/* Cut the power of @file, or with NULL of all files: operations under way and all later ones on
 * handles open now give -EIO; what a new open finds is what survived. */
void sim_power_cut(struct sim_file *file, enum sim_survivors survivors);

/* ---- network ---- */

struct sim_net {
    struct sim_latency latency; /* of every send and receive; all zero: 1 to 100 us */
    uint32_t chunk_max;         /* bytes one call moves at most; the seed picks fewer; 0: no cut */
};

/* A connection: two connected stream sockets, non-blocking, that the caller closes with close(2).
 * Their bytes pass in this process; sim decides when, and how many at once. */
int sim_pair(const struct sim_net *net, int ret_fd[2]);
/* Break the connection of @fd as a dying network does: both ends get -ECONNRESET and -EPIPE. */
void sim_net_break(int fd);

/* ---- traces ---- */

/* Hash of all that happened so far: every operation, its range, result and time. */
uint64_t sim_trace_hash(void);
/* Add a number of the test's own (a result, a decision) to the trace. */
void sim_trace_add(uint64_t value);
/* Have every record told as it happens, to find where two runs part. NULL: stop. */
typedef void sim_tracer(void *opaque, uint64_t at_ns, const char *what, unsigned object, uint64_t offset,
                        uint64_t bytes, int result);
void sim_set_tracer(sim_tracer *tracer, void *opaque);

#endif
