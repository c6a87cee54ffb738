/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Disks that failed in the field, or in a paper, as rules. Each row names its source. Numbers that the source
 * does not give, or that nobody has looked up, make a row unverified: its help says which they are.
 */
#include "drivers/fault/preset.h"

#define LIMPLOCK "Do et al., Limplock, SoCC 2013"
#define FAILSLOW "Gunawi et al., Fail-Slow at Scale, FAST 2018"
#define FSYNC    "Rebello et al., Can Applications Recover from fsync Failures?, ATC 2020"
#define CORDS    "Ganesan et al., Redundancy Does Not Imply Fault Tolerance, FAST 2017"
#define LSE      "Bairavasundaram et al., An Analysis of Latent Sector Errors in Disk Drives, SIGMETRICS 2007"
#define ROT      "Bairavasundaram et al., An Analysis of Data Corruption in the Storage Stack, FAST 2008"
#define FLYING   "Zheng et al., PFE, errors of flash in the iSCSI target tgt"
#define ALICE    "Pillai et al., All File Systems Are Not Created Equal, OSDI 2014"
#define POWER    "Zheng et al., Understanding the Robustness of SSDs under Power Fault, FAST 2013"
#define LATE     "Ahmadian et al., Investigating Power Outage Effects on Reliability of SSDs, DATE 2018"
#define MITAKE   "Mitake, blkdebug rules over QMP (patches), qemu-devel 2014"
#define EBS      "Amazon EBS User Guide, Latency injection (AWS FIS aws:ebs:volume-io-latency)"
#define ADR      "One-Size-Fits-None: slow-fault tolerance (ADR), NSDI 2025"

#define LIMP(k, name)                                                                                        \
    {                                                                                                        \
        name,                                                                                                \
            "every request takes " #k                                                                        \
            " times as long; the factor of the paper is one to three orders of magnitude",                   \
            LIMPLOCK, false, {{"factor", #k, "so many times as long"}},                                      \
            "[{\"op\": \"any\", \"action\": \"delay\", \"times\": \"$factor\"}]"                             \
    }

/* A step of a curve: reads and writes with a share each are delayed for a while. */
#define STEP(n, from, until, reads, writes, delay)                                                           \
    "{\"id\": \"r" n "\", \"op\": \"read\", \"from\": \"" from "\", \"until\": \"" until                     \
    "\", \"probability\": \"" reads "\", \"action\": \"delay\", \"delay\": \"" delay "\"},"                  \
    "{\"id\": \"w" n "\", \"op\": [\"write\", \"zero\"], \"from\": \"" from "\", \"until\": \"" until        \
    "\", \"probability\": \"" writes "\", \"action\": \"delay\", \"delay\": \"" delay "\"}"

#define SWEEP(n, from, until, delay)                                                                         \
    "{\"id\": \"" n "\", \"op\": \"$op\", \"from\": \"" from "\", \"until\": \"" until                       \
    "\", \"action\": \"delay\", \"delay\": \"" delay "\"}"

const struct fault_preset fault_presets[] = {
    LIMP(10, "limp-10x"),
    LIMP(100, "limp-100x"),
    LIMP(1000, "limp-1000x"),
    {"ssd-fw-250us",
     "requests are held for multiples of 250 us, up to 3 ms, as by a firmware bug; how many is ours",
     FAILSLOW,
     false,
     {{"share", "\"1%\"", "of the requests"}, {"most", "\"3ms\"", "the longest"}},
     "[{\"op\": [\"read\", \"write\"], \"probability\": \"$share\", \"action\": \"delay\","
     "  \"distribution\": \"uniform\", \"delay-max\": \"$most\", \"quantum\": \"250us\"}]"},
    {"ssd-stop-seconds",
     "the device stops for seconds, then all that waited completes; how often is ours",
     FAILSLOW,
     false,
     {{"stop", "\"1s-10s\"", "how long it stops"}, {"run", "\"30s-90s\"", "how long it runs"}},
     "[{\"on-for\": \"$stop\", \"off-for\": \"$run\", \"op\": \"any\", \"action\": \"stall\"}]"},
    {"read-retry",
     "reads are tried again up to four times; the time of a try and how many reads it takes are ours",
     FAILSLOW,
     false,
     {{"share", "\"5%\"", "of the reads"},
      {"try", "\"100us\"", "one more try"},
      {"most", "\"400us\"", "the last one"}},
     "[{\"op\": \"read\", \"probability\": \"$share\", \"action\": \"delay\", \"distribution\": \"uniform\","
     "  \"delay-max\": \"$most\", \"quantum\": \"$try\"}]"},
    {"hdd-jitter",
     "every few seconds requests are slow for a moment; how slow and how long is ours",
     FAILSLOW,
     false,
     {{"every", "\"3s-5s\"", "between two pulses"},
      {"pulse", "\"500ms\"", "length of one"},
      {"least", "\"50ms\"", "least delay"},
      {"most", "\"500ms\"", "longest delay"}},
     "[{\"on-for\": \"$pulse\", \"off-for\": \"$every\", \"action\": \"delay\", \"distribution\": "
     "\"uniform\","
     "  \"delay-min\": \"$least\", \"delay-max\": \"$most\"}]"},
    {"hdd-tens-of-seconds",
     "now and then a controller needs tens of seconds; how often is ours",
     FAILSLOW,
     false,
     {{"share", "\"0.1%\"", "of the requests"},
      {"least", "\"10s\"", "least delay"},
      {"most", "\"60s\"", "longest delay"}},
     "[{\"probability\": \"$share\", \"action\": \"delay\", \"distribution\": \"uniform\","
     "  \"delay-min\": \"$least\", \"delay-max\": \"$most\"}]"},
    {"flap-good-bad",
     "good and bad times by turns (states 1 and 2); their lengths and the factor are ours",
     FAILSLOW,
     false,
     {{"good", "\"30s-60s\"", "how long it is good"},
      {"bad", "\"10s-30s\"", "how long it is bad"},
      {"factor", "100", "so many times as long, when bad"}},
     "[{\"id\": \"worsens\", \"state\": 1, \"action\": \"state\", \"timer\": \"$good\", \"new-state\": 2},"
     " {\"id\": \"recovers\", \"state\": 2, \"action\": \"state\", \"timer\": \"$bad\", \"new-state\": 1},"
     " {\"id\": \"slow\", \"state\": 2, \"action\": \"delay\", \"times\": \"$factor\"}]"},
    {"vanish-reappear",
     "the device vanishes, and comes back; when and for how long is ours",
     FAILSLOW,
     false,
     {{"after", "\"30s\"", "it vanishes at the first request behind this time"},
      {"down", "\"10s\"", "how long"}},
     "[{\"op\": \"any\", \"at\": \"$after\", \"action\": \"disconnect\", \"down\": \"$down\"}]"},
    {"lse",
     "latent bad sectors near each other, in 10 MB as in the paper, that a write repairs; how many, and the "
     "tries, are ours",
     LSE,
     false,
     {{"where", "\"0+10M\"", "ranges in which they lie"},
      {"one-in", "2048", "one sector in so many is bad"},
      {"repair", "\"write\"", "write, or never"},
      {"tries", "10", "the drive tries up to so often before it gives up"}},
     "[{\"op\": [\"read\", \"write\", \"zero\"], \"ranges\": \"$where\", \"action\": \"bad-sectors\", "
     "\"one-in\": \"$one-in\","
     "  \"repair\": \"$repair\", \"retries\": \"$tries\", \"retry-time\": \"8ms\"}]"},
    {"bitrot-4k",
     "a block of 4 KiB has decayed when it is next read, and stays so",
     ROT,
     true,
     {{"block", "\"0+4k\"", "which one"}, {"mode", "\"random\"", "random or zero"}},
     "[{\"op\": \"read\", \"ranges\": \"$block\", \"overlap\": \"split\", \"count\": 1, \"action\": "
     "\"corrupt\","
     "  \"mode\": \"$mode\", \"length\": 4096, \"where\": \"media\"}]"},
    {"lost-write",
     "a write is acknowledged and never done",
     ROT,
     true,
     {{"nth", "1", "which write"}},
     "[{\"op\": \"write\", \"nth\": \"$nth\", \"action\": \"lost\"}]"},
    {"misdirected-write",
     "a write goes to another place, and is lost at its own; 8 KiB away is what PFE does",
     ROT "; " FLYING,
     false,
     {{"nth", "1", "which write"}, {"by", "\"8k\"", "how far away"}},
     "[{\"op\": \"write\", \"nth\": \"$nth\", \"action\": \"misdirect\", \"by\": \"$by\"}]"},
    {"torn-512",
     "of a write only the first sectors are done",
     ALICE,
     false,
     {{"nth", "1", "which write of two sectors or more"}},
     "[{\"op\": \"write\", \"request-size\": \"1k+\", \"nth\": \"$nth\", \"action\": \"torn\", \"unit\": "
     "512}]"},
    {"torn-4k",
     "of a write only the first blocks of 4 KiB are done",
     ALICE,
     false,
     {{"nth", "1", "which write of two blocks or more"}},
     "[{\"op\": \"write\", \"request-size\": \"8k+\", \"nth\": \"$nth\", \"action\": \"torn\", \"unit\": "
     "4096}]"},
    {"fsyncgate-once",
     "one write fails, and the disk is good again: the file system marks its pages clean",
     FSYNC,
     true,
     {{"nth", "1", "which write"}, {"errno", "\"EIO\"", "the error"}},
     "[{\"op\": \"write\", \"nth\": \"$nth\", \"action\": \"error\", \"errno\": \"$errno\"}]"},
    {"flush-fail-once",
     "one flush fails, and the disk is good again",
     FSYNC,
     true,
     {{"nth", "1", "which flush"}, {"errno", "\"EIO\"", "the error"}},
     "[{\"op\": \"flush\", \"nth\": \"$nth\", \"action\": \"error\", \"errno\": \"$errno\"}]"},
    {"deferred-write-error",
     "a write is accepted, its data is lost, and the next flush fails",
     FSYNC,
     true,
     {{"nth", "1", "which write"}, {"report", "\"once\"", "one flush fails; or always: all"}},
     "[{\"op\": \"write\", \"nth\": \"$nth\", \"action\": \"deferred-error\", \"data\": \"drop\", "
     "\"report\": \"$report\"}]"},
    {"power-honest",
     "the power goes: of what no flush has covered some survives, and the rest is lost (a write-cache(7) is "
     "needed)",
     POWER,
     true,
     {{"nth", "1000", "at which write"}, {"off", "\"0s\"", "how long it is off"}},
     "[{\"op\": \"write\", \"nth\": \"$nth\", \"when\": \"after\", \"action\": \"power-cut\","
     "  \"cut\": {\"survivors\": \"random\", \"off\": \"$off\"}}]"},
    {"power-shorn",
     "the power goes: writes survive in part, in units of 512 bytes (the paper saw 3/8 and 7/8 of 4 KiB)",
     POWER,
     false,
     {{"nth", "1000", "at which write"}, {"off", "\"0s\"", "how long it is off"}},
     "[{\"op\": \"write\", \"nth\": \"$nth\", \"when\": \"after\", \"action\": \"power-cut\","
     "  \"cut\": {\"survivors\": \"random\", \"torn\": \"512\", \"off\": \"$off\"}}]"},
    {"power-unserializable",
     "the power goes: what was written several times may fall back to any of its writes",
     POWER,
     true,
     {{"nth", "1000", "at which write"}, {"off", "\"0s\"", "how long it is off"}},
     "[{\"op\": \"write\", \"nth\": \"$nth\", \"when\": \"after\", \"action\": \"power-cut\","
     "  \"cut\": {\"survivors\": \"older\", \"off\": \"$off\"}}]"},
    {"power-lying-flush",
     "the power goes, of a disk that lies about flushes and FUA: the last 700 ms are lost, promised or not",
     POWER "; " LATE,
     true,
     {{"nth", "1000", "at which write"},
      {"age", "\"700ms\"", "what is older is on the media"},
      {"off", "\"0s\"", "how long it is off"}},
     "[{\"op\": \"write\", \"nth\": \"$nth\", \"when\": \"after\", \"action\": \"power-cut\","
     "  \"lie\": [\"flush\", \"fua\"], \"lie-age\": \"$age\", \"cut\": {\"survivors\": \"none\", \"off\": "
     "\"$off\"}}]"},
    {"reorder-epoch",
     "the power goes between two flushes: the writes behind the first are on the media in no order",
     ALICE,
     true,
     {{"flushes", "\"10+\"", "behind so many"}, {"write", "5", "at which write behind the flush"}},
     "[{\"op\": \"write\", \"flush-epoch\": \"$flushes\", \"epoch-write\": \"$write\", \"count\": 1, "
     "\"when\": \"after\","
     "  \"action\": \"power-cut\", \"cut\": {\"survivors\": \"random\"}}]"},
    {"silent",
     "requests are accepted and never answered, until they are released",
     MITAKE,
     true,
     {{0}},
     "[{\"op\": \"any\", \"action\": \"hang\"}]"},
    {"silent-after-N",
     "the same, behind so many requests",
     MITAKE,
     true,
     {{"n", "1000", "requests that are answered before"}},
     "[{\"op\": \"any\", \"skip\": \"$n\", \"action\": \"hang\"}]"},
    {"cords-one",
     "one fault in one block: one request to it fails, once (the paper: EIO for reads; EIO, ENOSPC, EDQUOT "
     "for writes)",
     CORDS,
     true,
     {{"block", "\"0+4k\"", "which one"},
      {"op", "\"read\"", "read or write"},
      {"errno", "\"EIO\"", "the error"}},
     "[{\"op\": \"$op\", \"ranges\": \"$block\", \"count\": 1, \"action\": \"error\", \"errno\": "
     "\"$errno\"}]"},
    {"cords-zero",
     "one fault in one block: it reads as zeroes",
     CORDS,
     true,
     {{"block", "\"0+4k\"", "which one"}},
     "[{\"op\": \"read\", \"ranges\": \"$block\", \"overlap\": \"split\", \"count\": 1, \"action\": "
     "\"corrupt\","
     "  \"mode\": \"zero\", \"length\": 4096, \"where\": \"media\"}]"},
    {"cords-junk",
     "one fault in one block: it reads as junk",
     CORDS,
     true,
     {{"block", "\"0+4k\"", "which one"}},
     "[{\"op\": \"read\", \"ranges\": \"$block\", \"overlap\": \"split\", \"count\": 1, \"action\": "
     "\"corrupt\","
     "  \"mode\": \"random\", \"length\": 4096, \"where\": \"media\"}]"},
    {"fis-sustained",
     "500 ms for half of the reads and all writes, 15 minutes",
     EBS,
     true,
     {{0}},
     "[" STEP("1", "0s", "900s", "50%", "100%", "500ms") "]"},
    {"fis-increasing",
     "50, 200, 700 ms, 1 s, 15 s for 10 % of reads and 25 % of writes, 3 minutes each",
     EBS,
     true,
     {{0}},
     "[" STEP("1", "0s", "180s", "10%", "25%", "50ms") "," STEP(
         "2", "180s", "360s", "10%", "25%",
         "200ms") "," STEP("3", "360s", "540s", "10%", "25%",
                           "700ms") "," STEP("4", "540s", "720s", "10%", "25%",
                                             "1s") "," STEP("5", "720s", "900s", "10%", "25%", "15s") "]"},
    {"fis-intermittent",
     "spikes for 0.1 % of requests: 30 s for a minute, 10 s and 20 s for two; 5 minutes between them",
     EBS,
     true,
     {{0}},
     "[" STEP("1", "0s", "60s", "0.1%", "0.1%", "30s") "," STEP("2", "360s", "480s", "0.1%", "0.1%",
                                                                "10s") "," STEP("3", "780s", "900s", "0.1%",
                                                                                "0.1%", "20s") "]"},
    {"fis-decreasing",
     "20, 5 s, 900, 300, 40 ms for 10 % of requests, 3 minutes each",
     EBS,
     true,
     {{0}},
     "[" STEP("1", "0s", "180s", "10%", "10%", "20s") "," STEP(
         "2", "180s", "360s", "10%", "10%",
         "5s") "," STEP("3", "360s", "540s", "10%", "10%",
                        "900ms") "," STEP("4", "540s", "720s", "10%", "10%",
                                          "300ms") "," STEP("5", "720s", "900s", "10%", "10%", "40ms") "]"},
    {"sweep",
     "1, 10, 100 ms and 1 s for 30 s each, with 30 s before each to recover: damage need not grow with the "
     "delay",
     ADR,
     true,
     {{"op", "[\"read\", \"write\", \"zero\", \"discard\", \"flush\"]", "which operations"}},
     "[" SWEEP("1ms", "30s", "60s", "1ms") "," SWEEP("10ms", "90s", "120s", "10ms") "," SWEEP(
         "100ms", "150s", "180s", "100ms") "," SWEEP("1s", "210s", "240s", "1s") "]"},
    {0},
};
