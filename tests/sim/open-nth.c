/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Every Nth step of an open is made to fail, N = 1, 2, ... until a run passes untouched: each
 * allocation (ours and jansson's, on the sim engine and on a real one), each call of the engine (by
 * the simulated disk), once and with all that follow failing too. Whatever failed, one sentence says
 * so and nothing is left behind: no node, coroutine, descriptor, lock, handle or memory. This program is
 * linked with --wrap for the allocator (tests/meson.build); the sanitizer build looks for leaks once
 * more.
 */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "export/nbd/server.h"
#include "nth_heap.h"
#include "world.h"

/* ---- one open ---- */

enum fail { FAIL_MEMORY, FAIL_ENGINE };

struct attempt {
    const char *json;
    enum fail fail;
    const char *engine;
    bool sticky, sim;
    unsigned nth;
    /* results */
    int result;
    bool touched; /* the failure was reached */
};

static void arm(const struct attempt *a)
{
    if (a->fail == FAIL_ENGINE) {
        struct sim_fault f = {.op = SIM_ANY, .nth = a->nth, .sticky = a->sticky, .error = -EIO};
        sim_set_faults(NULL, &f, 1);
        return;
    }
    heap_arm(a->nth, a->sticky);
}

/* Back to a world without failures; returns whether there was one. */
static bool disarm(const struct attempt *a, uint64_t ops_before)
{
    if (a->fail == FAIL_ENGINE) {
        sim_set_faults(NULL, NULL, 0);
        return sim_op_count() - ops_before >= a->nth;
    }
    heap.armed = false;
    return heap.count >= heap.fail_at;
}

static void check_node_works(struct node *n)
{
    char data[512], back[512];
    memset(data, 'n', sizeof(data));
    CHECK_EQ(node_write(n, 512, data, sizeof(data), 0), 0);
    CHECK_EQ(node_read(n, 512, back, sizeof(back)), 0);
    CHECK(memcmp(data, back, sizeof(data)) == 0);
}

static const char rules_json[] = "{\"rules\": [{\"op\": \"flush\", \"action\": \"error\"}]}";
static const char rules_conf[] =
    "[inject-error \"id\"]\nevent = \"l2_load\"\nstate = \"2\"\nerrno = \"28\"\n";

static void put_text(const char *name, const char *text)
{
    struct sim_file *f = sim_file_create(name, &(struct sim_disk){.size = strlen(text)});
    CHECK(f != NULL);
    CHECK_EQ(sim_file_poke(f, 0, text, strlen(text)), 0);
}

static int attempt(void *arg)
{
    struct attempt *a = arg;
    struct world *w = calloc(1, sizeof(*w));
    struct err err = {0};
    AUTO_JSON json_t *options = json_loads(a->json, 0, NULL);

    CHECK(options != NULL);
    if (a->sim) {
        CHECK(sim_file_create("disk", &(struct sim_disk){.size = 64 * KiB}) != NULL);
        CHECK(sim_file_create("reference", &(struct sim_disk){.size = 64 * KiB}) != NULL);
        put_text("rules.json", rules_json);
        put_text("rules.conf", rules_conf);
    }
    world_init(w);
    uint64_t ops = a->sim ? sim_op_count() : 0;
    arm(a);
    a->result = node_open(&w->graph, options, OPEN_WRITE, &w->node, &err);
    a->touched = disarm(a, ops);
    if (a->result == 0) {
        check_node_works(w->node);
        node_unref(w->node);
    } else {
        CHECK(err.code < 0);
        CHECK(err.text[0] != 0);
    }
    CHECK(list_empty(&w->graph.nodes));
    if (a->sim) {
        CHECK_EQ(sim_file_handles(sim_file_find("disk")), 0);
        CHECK_EQ(sim_file_handles(sim_file_find("reference")), 0);
    }
    free(w);
    return 0;
}

static int count_fds(void)
{
    DIR *dir = opendir("/proc/self/fd");
    int n = 0;
    while (readdir(dir)) {
        n++;
    }
    closedir(dir);
    return n;
}

static void run_attempt(struct attempt *a)
{
    struct loop_config config = {.engine = a->engine, .seed = a->nth};
    struct loop *loop;
    int fds = count_fds();
    int live = heap.live;

    world_seed = a->nth;
    assert_int_equal(loop_create(&config, &loop, NULL), 0);
    assert_int_equal(loop_run(loop, attempt, a), 0);
    loop_destroy(loop);
    assert_int_equal(co_alive(), 0);
    assert_int_equal(count_fds(), fds);
    assert_true(heap.live <= live);
}

/* Fail step 1, 2, ... until none is reached. */
#define STEPS_MAX 5000

static void every_step(const char *json, enum fail fail, const char *engine)
{
    for (int sticky = 0; sticky < 2; sticky++) {
        unsigned failed = 0;
        struct attempt a = {.json = json,
                            .fail = fail,
                            .engine = engine,
                            .sim = strcmp(engine, "sim") == 0,
                            .sticky = sticky,
                            .nth = 1};
        for (run_attempt(&a); a.touched; run_attempt(&a)) {
            failed += a.result < 0;
            a.nth++;
            assert_true(a.nth < STEPS_MAX);
        }
        assert_int_equal(a.result, 0);
        assert_true(failed > 0);
    }
}

/* Many containers forbid io_uring. */
static bool engine_is_there(const char *engine)
{
    struct loop_config config = {.engine = engine};
    struct loop *loop;
    if (loop_create(&config, &loop, NULL) < 0) {
        return false;
    }
    loop_destroy(loop);
    return true;
}

static void every_step_everywhere(const char *json)
{
    every_step(json, FAIL_ENGINE, "sim");
    every_step(json, FAIL_MEMORY, "sim");
    every_step(json, FAIL_MEMORY, "threads");
    if (engine_is_there("uring")) {
        every_step(json, FAIL_MEMORY, "uring");
    }
}

/* ---- a server for the NBD client ---- */

struct nbd_process {
    const char *address;
    int ready; /* a byte goes here when it listens */
};

static int nbd_main(void *arg)
{
    struct nbd_process *p = arg;
    struct graph g;
    struct node *n;
    struct nbd_server *s;

    graph_init(&g);
    CHECK_EQ(node_open_name(&g, "mem://64k", "raw", OPEN_WRITE, &n, NULL), 0);
    CHECK_EQ(nbd_server_create(&(struct nbd_server_config){.handshake_timeout_ns = UINT64_MAX}, &s, NULL), 0);
    CHECK_EQ(nbd_server_export(s, "disk", n, false, NULL, NULL), 0);
    CHECK_EQ(nbd_server_listen(s, p->address, NULL), 0);
    CHECK_EQ(write(p->ready, "", 1), 1);
    nbd_server_wait(s); /* until it is killed */
    return 0;
}

static pid_t start_nbd_server(const char *address)
{
    struct loop *loop;
    char byte;
    int fds[2];

    assert_int_equal(pipe2(fds, O_CLOEXEC), 0);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(fds[0]);
        if (loop_create(&(struct loop_config){.engine = "threads"}, &loop, NULL) == 0) {
            loop_run(loop, nbd_main, &(struct nbd_process){.address = address, .ready = fds[1]});
        }
        _exit(1);
    }
    close(fds[1]);
    assert_int_equal(read(fds[0], &byte, 1), 1);
    close(fds[0]);
    return pid;
}

/* ---- graphs ---- */

#define FILE_DISK         "{\"driver\":\"file\",\"filename\":\"disk\"}"
#define FILE_REF          "{\"driver\":\"file\",\"filename\":\"reference\"}"
#define VERIFY(raw, test) "{\"driver\":\"blkverify\",\"raw\":" raw ",\"test\":" test "}"
#define RAW(file)         "{\"driver\":\"raw\",\"file\":" file "}"
#define DELAY(file)       "{\"driver\":\"delay\",\"file\":" file "}"
/* The rules concern nothing that the test does. */
#define FAULT(file)                                                                                          \
    "{\"driver\":\"fault\",\"rules\":[{\"op\":\"flush\",\"action\":\"error\"},"                              \
    "{\"op\":\"read\",\"ranges\":[\"60k+1k\",\"62k+1k\"],\"action\":\"error\"}],\"file\":" file "}"
#define BLKDEBUG(file)                                                                                       \
    "{\"driver\":\"blkdebug\",\"config\":\"rules.conf\",\"inject-error\":[{\"event\":\"l2_load\","           \
    "\"sector\":3,\"iotype\":\"read\",\"once\":true}],\"set-state\":{\"event\":\"l2_load\",\"new_state\":2}" \
    ","                                                                                                      \
    "\"image\":" file "}"

static void file(void **state)
{
    every_step_everywhere(FILE_DISK);
}

static void raw_over_file(void **state)
{
    every_step_everywhere(RAW(FILE_DISK));
}

static void a_plain_name_that_is_probed(void **state)
{
    every_step_everywhere("{\"filename\":\"disk\"}");
}

static void verify_over_two_files(void **state)
{
    every_step_everywhere(VERIFY(FILE_REF, FILE_DISK));
}

static void verify_by_name(void **state)
{
    every_step_everywhere("{\"filename\":\"blkverify:reference:disk\"}");
}

static void nested(void **state)
{
    every_step_everywhere(
        RAW(DELAY(VERIFY(FILE_REF, RAW(VERIFY("{\"driver\":\"mem\",\"size\":65536}", RAW(FILE_DISK)))))));
}

static void fault_rules(void **state)
{
    every_step_everywhere(FAULT(FILE_DISK));
    every_step_everywhere("{\"driver\":\"fault\",\"rules\":\"rules.json\",\"file\":" FILE_DISK "}");
}

static void blkdebug(void **state)
{
    every_step_everywhere(BLKDEBUG(FILE_DISK));
}

static void simulated_device(void **state)
{
    const char *json = "{\"driver\":\"sim-device\",\"discard-reads\":\"fickle\",\"file\":" FILE_DISK "}";
    every_step(json, FAIL_ENGINE, "sim");
    every_step(json, FAIL_MEMORY, "sim");
}

/* The server is a process of its own: its memory is not counted, and does not fail. */
static void nbd_client(void **state)
{
    const char *json = "{\"driver\":\"nbd\",\"path\":\"nbd.sock\"}";
    pid_t server = start_nbd_server("unix:nbd.sock");
    every_step(json, FAIL_MEMORY, "threads");
    if (engine_is_there("uring")) {
        every_step(json, FAIL_MEMORY, "uring");
    }
    kill(server, SIGKILL);
    waitpid(server, NULL, 0);
    unlink("nbd.sock");
}

/* ---- where it happens ---- */

static void make_file(const char *name, const char *text)
{
    int fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(ftruncate(fd, text ? 0 : 64 * KiB), 0);
    if (text) {
        assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    }
    close(fd);
}

static char directory[] = "/tmp/open-nth-XXXXXX";

static int set_up(void **state)
{
    json_set_alloc_funcs(__wrap_malloc, __wrap_free);
    if (!mkdtemp(directory) || chdir(directory) < 0) {
        return -1;
    }
    make_file("disk", NULL);
    make_file("reference", NULL);
    make_file("rules.json", rules_json);
    make_file("rules.conf", rules_conf);
    return 0;
}

static int tear_down(void **state)
{
    unlink("disk");
    unlink("reference");
    unlink("rules.json");
    unlink("rules.conf");
    return chdir("/") < 0 ? -1 : rmdir(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(file),
        cmocka_unit_test(raw_over_file),
        cmocka_unit_test(a_plain_name_that_is_probed),
        cmocka_unit_test(simulated_device),
        cmocka_unit_test(verify_over_two_files),
        cmocka_unit_test(verify_by_name),
        cmocka_unit_test(nested),
        cmocka_unit_test(fault_rules),
        cmocka_unit_test(blkdebug),
        cmocka_unit_test(nbd_client),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
