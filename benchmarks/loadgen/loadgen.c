/* A load generator for S3 endpoints: one run of one kind of request, and a line of JSON about it.
 *
 *     AWS_ACCESS_KEY_ID=... AWS_SECRET_ACCESS_KEY=... loadgen OPERATION URL BUCKET [OPTIONS]
 *
 * OPERATION: put, get, range, head, list, delete or copy. Clients have a keep-alive connection and
 * one request on the way each. Status and length of every answer are checked, the contents of each
 * client's first answer and of every so many after it (--verify-every), the number of keys of
 * lists likewise. What fails is counted, its connection made anew, and the run goes on.
 *
 * The report counts requests that were on the way in the window [warm-up, warm-up + time], which ends
 * earlier where the first client finds no more requests to begin (but not where no time is given:
 * then it ends with the last of them); one that is only partly in it counts with that part of its time. Latencies are of those that ended in
 * it, or, where none did, of those that were on the way in it. `cpu_cores` is what this program itself used meanwhile: near its threads, it was the limit.
 * Exit 0: it ran, whatever was answered; 1: it could not; 2: wrong arguments.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "body.h"
#include "run.h"

enum { CLIENTS_MAX = 16384 };

static const char *const operations[] = {"put", "get", "range", "head", "list", "delete", "copy"};

static void usage(const char *why, const char *what) {
    fprintf(stderr, "loadgen: %s%s\n", why, what);
    fputs("usage: loadgen put|get|range|head|list|delete|copy URL BUCKET\n"
          "  --clients N   --threads N   --seconds S   --warm S   --requests N   --stall S\n"
          "  --size BYTES  --range BYTES --first N     --keys N   --prefix TEXT  --copy-from TEXT\n"
          "  --listed N    --verify-every N            --sign-body --ca FILE     --region NAME\n",
          stderr);
    exit(2);
}

static double number(const char *text, double least, double most) {
    char *end;
    double value = strtod(text, &end);
    if (*end || end == text || !(value >= least && value <= most))
        usage("not a number in range: ", text);
    return value;
}

static void read_option(struct plan *plan, int option, const char **ca) {
    const double most = 1e15;
    switch (option) {
    case 'c': plan->clients = (int)number(optarg, 1, CLIENTS_MAX); break;
    case 't': plan->threads = (int)number(optarg, 1, 1024); break;
    case 's': plan->run_ns = (int64_t)(number(optarg, 0, 1e6) * 1e9); break;
    case 'w': plan->warm_ns = (int64_t)(number(optarg, 0, 1e6) * 1e9); break;
    case 'n': plan->requests = (uint64_t)number(optarg, 0, most); break;
    case 'x': plan->stall_ns = (int64_t)(number(optarg, 0.01, 1e6) * 1e9); break;
    case 'b': plan->size_bytes = (uint64_t)number(optarg, 0, most); break;
    case 'r': plan->range_bytes = (uint64_t)number(optarg, 1, most); break;
    case 'f': plan->first = (uint64_t)number(optarg, 0, most); break;
    case 'k': plan->keys = (uint64_t)number(optarg, 1, 1e9); break;
    case 'p': plan->prefix = optarg; break;
    case 'o': plan->copy_from = optarg; break;
    case 'l': plan->listed = (int)number(optarg, 1, 1000); break;
    case 'v': plan->verify_every = (int)number(optarg, 0, 1e9); break;
    case 'g': plan->signs_body = 1; break;
    case 'a': *ca = optarg; break;
    case 'e': plan->region = optarg; break;
    default: exit(2);
    }
}

static void read_arguments(struct plan *plan, int argc, char **argv, const char **url,
                           const char **ca) {
    static const struct option options[] = {
        {"clients", 1, NULL, 'c'},   {"threads", 1, NULL, 't'}, {"seconds", 1, NULL, 's'},
        {"warm", 1, NULL, 'w'},      {"requests", 1, NULL, 'n'}, {"stall", 1, NULL, 'x'},
        {"size", 1, NULL, 'b'},      {"range", 1, NULL, 'r'},   {"first", 1, NULL, 'f'},
        {"keys", 1, NULL, 'k'},      {"prefix", 1, NULL, 'p'},  {"copy-from", 1, NULL, 'o'},
        {"listed", 1, NULL, 'l'},    {"verify-every", 1, NULL, 'v'}, {"sign-body", 0, NULL, 'g'},
        {"ca", 1, NULL, 'a'},        {"region", 1, NULL, 'e'},  {0}};
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1)
        read_option(plan, option, ca);
    if (argc - optind != 3) usage("an operation, a URL and a bucket are needed", "");
    int place = 0, count = (int)(sizeof operations / sizeof *operations);
    while (place < count && strcmp(operations[place], argv[optind])) place++;
    if (place == count) usage("no such operation: ", argv[optind]);
    plan->operation = (enum operation)place;
    *url = argv[optind + 1];
    plan->bucket = argv[optind + 2];
    plan->key_id = getenv("AWS_ACCESS_KEY_ID");
    plan->secret = getenv("AWS_SECRET_ACCESS_KEY");
    if (!plan->key_id || !plan->secret)
        usage("AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set", "");
    int has_range = plan->range_bytes > 0 && plan->range_bytes <= plan->size_bytes;
    if (plan->operation == RANGE && !has_range)
        usage("--range must lie within --size", "");
    if (plan->run_ns == 0 && plan->requests == 0) usage("neither --seconds nor --requests", "");
    if (plan->run_ns == 0) plan->warm_ns = 0;
    if (plan->threads > plan->clients) plan->threads = plan->clients;
    if (strlen(plan->bucket) + strlen(plan->prefix) + strlen(plan->copy_from) > 200)
        usage("bucket and prefixes are too long", "");
}

/* The SHA-256 of each body that will be signed, before the clock starts. */
static void digest_bodies(struct run *run) {
    const struct plan *plan = &run->plan;
    int large = plan->size_bytes >= PIECE_BYTES;
    uint64_t count = plan->keys;
    if (plan->requests && plan->requests < count) count = plan->requests;
    if (large && count > LARGE_BODIES) count = LARGE_BODIES;
    run->digests = calloc(large ? LARGE_BODIES : count, sizeof *run->digests);
    if (run->digests == NULL) exit(1);
    for (uint64_t i = 0; i < count; i++) {
        uint64_t number = plan->first + i;
        uint64_t place = large ? body_identity(number, plan->size_bytes) : i;
        body_digest(number, plan->size_bytes, run->digests[place]);
    }
}

static double cpu_s(void) {
    struct timespec used;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
    return (double)used.tv_sec + (double)used.tv_nsec / 1e9;
}

/* Waits for the threads, until `at_ns` at most (0: as long as it takes). 0: the time was over. */
static int wait_until(struct run *run, int64_t at_ns) {
    struct timespec at = {at_ns / 1000000000, at_ns % 1000000000};
    int is_over = 0;
    pthread_mutex_lock(&run->lock);
    while (run->threads_left > 0 && !is_over) {
        if (at_ns == 0)
            pthread_cond_wait(&run->ended, &run->lock);
        else
            is_over = pthread_cond_timedwait(&run->ended, &run->lock, &at) == ETIMEDOUT;
    }
    pthread_mutex_unlock(&run->lock);
    return !is_over;
}

static void carry_out(struct run *run, struct worker *workers) {
    const struct plan *plan = &run->plan;
    int64_t start = now_ns(), opens = start + plan->warm_ns, closes;
    run->stop_at_ns = plan->run_ns ? opens + plan->run_ns : 0;
    run->threads_left = plan->threads;
    double first = cpu_s(), before = first, after;
    for (int i = 0; i < plan->threads; i++)
        if (pthread_create(&workers[i].thread, NULL, worker_run, &workers[i])) exit(1);
    if (plan->warm_ns) {
        wait_until(run, opens);
        before = cpu_s();
    }
    int is_done = wait_until(run, run->stop_at_ns);
    after = cpu_s();
    closes = is_done ? now_ns() : run->stop_at_ns;
    if (run->stop_at_ns) { /* with clients that have nothing left to do, it would say too little */
        if (run->taken_at_ns && closes > run->taken_at_ns) closes = run->taken_at_ns;
        if (closes > run->stop_at_ns) closes = run->stop_at_ns;
    }
    if (closes <= opens) { /* all was over within the warm-up: then that is what there is */
        opens = start;
        before = first;
    }
    wait_until(run, 0);
    struct tally all = {0};
    for (int i = 0; i < plan->threads; i++) {
        pthread_join(workers[i].thread, NULL);
        tally_join(&all, &workers[i].tally);
    }
    tally_report(&all, opens, closes, (after - before) / ((double)(closes - opens) / 1e9),
                 run->turns, stdout);
}

int main(int argc, char **argv) {
    struct run run = {.plan = {.prefix = "bench/",
                               .copy_from = "bench/",
                               .region = "us-east-1",
                               .keys = 1024,
                               .warm_ns = 500000000,
                               .stall_ns = 60000000000,
                               .listed = 1000,
                               .clients = 1,
                               .threads = 1,
                               .verify_every = 16}};
    const char *url, *ca = NULL;
    pthread_condattr_t attributes;
    struct rlimit files;
    read_arguments(&run.plan, argc, argv, &url, &ca);
    signal(SIGPIPE, SIG_IGN);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    pthread_mutex_init(&run.lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&run.ended, &attributes);
    body_setup();
    if (run.plan.operation == PUT && run.plan.signs_body) digest_bodies(&run);
    const char *why = target_setup(&run.target, url, ca);
    struct worker *workers = calloc((size_t)run.plan.threads, sizeof *workers);
    if (workers == NULL) return 1;
    for (int i = 0, left = run.plan.clients; i < run.plan.threads && why == NULL; i++) {
        int count = left / (run.plan.threads - i);
        left -= count;
        why = worker_setup(&workers[i], &run, count);
    }
    if (why) {
        fprintf(stderr, "loadgen: %s: %s\n", url, why);
        return 1;
    }
    carry_out(&run, workers);
    return 0;
}
