/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Large buffered writes to a regular file. The kernel lets one at a time into a file; what else is
 * under way would only spin for the file's lock, on cores that others could use. So each file has a
 * queue, and while there is something in it, one worker thread writes it out, from one to the next
 * without the loop. Of writes that belong to a bulk job the loop hears by and by: waking it for each costs
 * as much as a small one.
 */
#include "loop/posix.h"

struct write_job { /* in the frame of the coroutine that waits for it */
    struct write_job *next;
    const struct iovec *iov;
    int niov;
    bool bulk;
    uint64_t offset;
    ssize_t result;
    struct loop *loop;
    struct co *co;
};

struct posix_writer {
    int fd;
    pthread_mutex_t lock;
    struct write_job *head, **tail;
    unsigned queued;
    bool running; /* a thread is in write_all */
    bool closed;  /* the thread frees the queue when it leaves */
};

struct posix_writer *posix_writer_new(int fd)
{
    struct posix_writer *w = calloc(1, sizeof(*w));

    if (w) {
        w->fd = fd;
        w->tail = &w->head;
        pthread_mutex_init(&w->lock, NULL);
    }
    return w;
}

static void destroy(struct posix_writer *w)
{
    pthread_mutex_destroy(&w->lock);
    free(w);
}

void posix_writer_free(struct posix_writer *w)
{
    if (!w) {
        return;
    }
    pthread_mutex_lock(&w->lock);
    assert(!w->head);
    bool running = w->running;
    w->closed = true;
    pthread_mutex_unlock(&w->lock);
    if (!running) {
        destroy(w);
    }
}

static void job_done(void *arg)
{
    co_wake(((struct write_job *)arg)->co);
}

/* NULL: the queue is empty, and the caller no longer the one who serves it. */
static struct write_job *next_job(struct posix_writer *w, unsigned *ret_queued, bool *ret_closed)
{
    pthread_mutex_lock(&w->lock);
    struct write_job *j = w->head;
    if (!j) {
        w->running = false;
        *ret_closed = w->closed;
    } else {
        w->queued--;
        if (!(w->head = j->next)) {
            w->tail = &w->head;
        }
    }
    *ret_queued = w->queued;
    pthread_mutex_unlock(&w->lock);
    return j;
}

static void write_all(void *arg)
{
    struct posix_writer *w = arg;
    struct write_job *j;
    unsigned queued, untold = 0;
    bool closed = false;

    while ((j = next_job(w, &queued, &closed))) {
        j->result = posix_prw_now(w->fd, true, j->iov, j->niov, j->offset, 0);
        /* Half of a queue is time enough for the loop to fill it again. */
        bool tell = !j->bulk || ++untold >= queued;
        untold = tell ? 0 : untold;
        loop_post_batch(j->loop, job_done, j, tell);
    }
    if (closed) {
        destroy(w);
    }
}

ssize_t posix_writer_write(struct posix_writer *w, const struct iovec *iov, int niov, uint64_t offset,
                           bool bulk)
{
    struct write_job j = {
        .iov = iov, .niov = niov, .bulk = bulk, .offset = offset, .loop = loop_self(), .co = co_self()};

    pthread_mutex_lock(&w->lock);
    *w->tail = &j;
    w->tail = &j.next;
    w->queued++;
    bool running = w->running;
    w->running = true;
    pthread_mutex_unlock(&w->lock);
    if (!running && workers_submit(j.loop, write_all, w) < 0) {
        write_all(w); /* no thread is to be had */
    }
    co_suspend();
    return j.result;
}
