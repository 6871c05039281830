/* Clients of one thread: each has one request on the way at a time, on a connection of its own. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "answer.h"
#include "body.h"
#include "run.h"
#include "sign.h"

enum { OUT_BYTES = 20 << 10, FIRST_BYTES = 16 << 10, READ_BYTES = 256 << 10, EVENTS = 64 };

static const char empty_sha256[] =
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
static const char key_tag[] = "<Key>";

struct client {
    struct worker *worker;
    struct wire wire;
    struct signer signer;
    int idle, retired, waits_to_write;
    /* The request: its head and how its body begins; the rest is sent from the pool. */
    char out[OUT_BYTES], path[512], from[512];
    size_t out_bytes, out_sent;
    uint64_t number, body_sent, body_bytes, count;
    int64_t begun_ns, moved_ns;
    /* What is compared. */
    uint64_t compared_from;
    int sampled, differs;
    uint64_t listed;
    size_t tag_bytes; /* of <Key>, seen so far */
    struct answer answer;
};

static __thread uint8_t buffer[READ_BYTES];
static const char *const names[] = {"PUT", "GET", "GET", "HEAD", "GET", "DELETE", "PUT"};

static void fail(struct client *client, int is_wrong, const char *why);

static void compare(void *context, const uint8_t *data, size_t count) {
    struct client *client = context;
    const struct plan *plan = &client->worker->run->plan;
    if (!client->sampled || client->answer.status / 100 != 2) return;
    if (plan->operation == GET || plan->operation == RANGE) {
        uint64_t at = client->compared_from + client->answer.body_bytes;
        if (!body_has(client->number, plan->size_bytes, at, data, count)) client->differs = 1;
    } else if (plan->operation == LIST) {
        for (size_t i = 0; i < count; i++) {
            if (data[i] == key_tag[client->tag_bytes]) {
                if (key_tag[++client->tag_bytes] == 0) {
                    client->listed++;
                    client->tag_bytes = 0;
                }
            } else {
                client->tag_bytes = data[i] == key_tag[0];
            }
        }
    }
}

/* The number of the next request of all, or -1: there is none. */
static int64_t take_turn(struct run *run) {
    if (run->stop_at_ns && now_ns() >= run->stop_at_ns) return -1;
    uint64_t turn = atomic_fetch_add(&run->turns, 1);
    if (run->plan.requests && turn >= run->plan.requests) {
        int64_t not_yet = 0;
        atomic_fetch_sub(&run->turns, 1);
        atomic_compare_exchange_strong(&run->taken_at_ns, &not_yet, now_ns());
        return -1;
    }
    return (int64_t)turn;
}

static void retire(struct client *client) {
    wire_close(&client->wire);
    client->retired = 1;
    client->worker->alive--;
}

static void reopen(struct client *client) {
    wire_close(&client->wire);
    const char *why = wire_open(&client->wire, &client->worker->run->target);
    if (why == NULL) {
        struct epoll_event event = {EPOLLIN, {.ptr = client}};
        client->waits_to_write = 0;
        if (epoll_ctl(client->worker->epoll, EPOLL_CTL_ADD, client->wire.fd, &event) == 0) return;
        why = "epoll_ctl failed";
    }
    tally_error(&client->worker->tally, 0, why);
    retire(client);
}

/* The request can not be answered any more: its connection goes, and the next one has another. */
static void fail(struct client *client, int is_wrong, const char *why) {
    char text[REASON_BYTES];
    const struct plan *plan = &client->worker->run->plan;
    snprintf(text, sizeof text, "%s %.200s: %.400s", names[plan->operation], client->path, why);
    tally_error(&client->worker->tally, is_wrong, text);
    client->idle = 1;
    reopen(client);
}

static void name_object(char *out, size_t room, const char *bucket, const char *prefix,
                        uint64_t number) {
    snprintf(out, room, "/%s/%s%02llu/object-%08llu", bucket, prefix,
             (unsigned long long)(number % 97), (unsigned long long)number);
}

static const char *payload(const struct run *run, uint64_t turn, uint64_t number) {
    const struct plan *plan = &run->plan;
    if (plan->operation != PUT) return empty_sha256;
    if (!plan->signs_body) return "UNSIGNED-PAYLOAD";
    uint64_t place = turn % plan->keys;
    if (plan->size_bytes >= PIECE_BYTES) place = body_identity(number, plan->size_bytes);
    return run->digests[place];
}

static void encode_prefix(char *out, size_t room, const char *prefix) {
    size_t at = 0;
    for (; *prefix && at + 4 < room; prefix++) {
        if (*prefix == '/')
            at += (size_t)sprintf(out + at, "%%2F");
        else
            out[at++] = *prefix;
    }
    out[at] = 0;
}

static size_t write_head(struct client *client, uint64_t turn) {
    const struct run *run = client->worker->run;
    const struct plan *plan = &run->plan;
    char range[64], query[400], prefix[256];
    struct request request = {names[plan->operation], client->path, NULL,
                              payload(run, turn, client->number), NULL, NULL, -1};
    if (plan->operation == LIST) {
        encode_prefix(prefix, sizeof prefix, plan->prefix);
        snprintf(client->path, sizeof client->path, "/%s", plan->bucket);
        snprintf(query, sizeof query, "list-type=2&max-keys=%d&prefix=%s", plan->listed, prefix);
        request.query = query;
    } else {
        name_object(client->path, sizeof client->path, plan->bucket, plan->prefix, client->number);
    }
    if (plan->operation == PUT) request.content_bytes = (int64_t)plan->size_bytes;
    if (plan->operation == COPY) {
        name_object(client->from, sizeof client->from, plan->bucket, plan->copy_from,
                    client->number);
        request.copy_source = client->from;
        request.content_bytes = 0;
    }
    if (plan->operation == RANGE) {
        uint64_t places = plan->size_bytes - plan->range_bytes + 1;
        client->compared_from = turn * 2654435761u % places;
        snprintf(range, sizeof range, "bytes=%llu-%llu", (unsigned long long)client->compared_from,
                 (unsigned long long)(client->compared_from + plan->range_bytes - 1));
        request.range = range;
    }
    return sign_head(&client->signer, &request, client->out, OUT_BYTES - FIRST_BYTES);
}

static void want_writes(struct client *client, int wanted) {
    if (client->waits_to_write == wanted) return;
    struct epoll_event event = {EPOLLIN | (wanted ? EPOLLOUT : 0), {.ptr = client}};
    epoll_ctl(client->worker->epoll, EPOLL_CTL_MOD, client->wire.fd, &event);
    client->waits_to_write = wanted;
}

/* Sends until the request is out, or the peer takes no more for now. */
static void pump(struct client *client) {
    const struct plan *plan = &client->worker->run->plan;
    for (;;) {
        const void *data = client->out + client->out_sent;
        size_t count = client->out_bytes - client->out_sent;
        int from_pool = count == 0;
        if (from_pool) {
            if (client->body_sent == client->body_bytes) break;
            data = body_at(client->number, plan->size_bytes, client->body_sent, &count);
        }
        int more = !from_pool && client->body_sent < client->body_bytes;
        ssize_t sent = wire_write(&client->wire, data, count, more);
        if (sent < 0) {
            fail(client, 0, "the connection ended while the request was sent");
            return;
        }
        if (sent == 0) {
            want_writes(client, 1);
            return;
        }
        client->moved_ns = now_ns();
        if (from_pool)
            client->body_sent += (uint64_t)sent;
        else
            client->out_sent += (size_t)sent;
    }
    want_writes(client, 0);
}

static void begin(struct client *client) {
    struct run *run = client->worker->run;
    const struct plan *plan = &run->plan;
    int64_t turn = take_turn(run);
    if (turn < 0) {
        retire(client);
        return;
    }
    client->idle = 0;
    client->number = plan->first + (uint64_t)turn % plan->keys;
    client->sampled = plan->verify_every && client->count % (uint64_t)plan->verify_every == 0;
    client->count++;
    client->differs = 0;
    client->listed = client->compared_from = client->tag_bytes = 0;
    client->begun_ns = client->moved_ns = now_ns();
    client->out_bytes = write_head(client, (uint64_t)turn);
    client->out_sent = client->body_sent = 0;
    client->body_bytes = plan->operation == PUT ? plan->size_bytes : 0;
    answer_begin(&client->answer, plan->operation == HEAD_OBJECT);
    if (client->out_bytes == 0) {
        fail(client, 0, "its head is too long");
        return;
    }
    while (client->body_sent < client->body_bytes && client->body_sent < FIRST_BYTES) {
        size_t count, room = FIRST_BYTES - client->body_sent;
        const uint8_t *data =
            body_at(client->number, plan->size_bytes, client->body_sent, &count);
        if (count > room) count = room;
        memcpy(client->out + client->out_bytes, data, count);
        client->out_bytes += count;
        client->body_sent += count;
    }
    pump(client);
}

/* What is wrong with an answer that is complete; NULL: nothing. */
static const char *fault(struct client *client, int *is_wrong, char *text, size_t room) {
    const struct plan *plan = &client->worker->run->plan;
    struct answer *answer = &client->answer;
    int wanted = plan->operation == DELETE ? 204 : plan->operation == RANGE ? 206 : 200;
    *is_wrong = 0;
    if (answer->status != wanted) {
        snprintf(text, room, "answered with %d: %.300s", answer->status, answer->kept);
        return text;
    }
    if (client->out_sent < client->out_bytes || client->body_sent < client->body_bytes)
        return "answered before the request was sent";
    int64_t length = answer->announced_bytes < 0 ? (int64_t)answer->body_bytes
                                                 : answer->announced_bytes;
    int64_t due = plan->operation == RANGE ? (int64_t)plan->range_bytes
                  : plan->operation == GET || plan->operation == HEAD_OBJECT
                      ? (int64_t)plan->size_bytes
                      : length;
    if (length != due) {
        snprintf(text, room, "answered with %lld bytes, not %lld", (long long)length,
                 (long long)due);
        return text;
    }
    if (plan->operation == COPY && strstr(answer->kept, "<CopyObjectResult") == NULL) {
        snprintf(text, room, "answered with 200 and %.300s", answer->kept);
        return text;
    }
    *is_wrong = 1;
    if (client->differs) return "answered with other bytes than were put";
    if (plan->operation == LIST && client->sampled && client->listed != (uint64_t)plan->listed) {
        snprintf(text, room, "listed %llu keys, not %d", (unsigned long long)client->listed,
                 plan->listed);
        return text;
    }
    return NULL;
}

static void ended(struct client *client) {
    struct tally *tally = &client->worker->tally;
    const struct plan *plan = &client->worker->run->plan;
    char text[400];
    int is_wrong;
    const char *why = fault(client, &is_wrong, text, sizeof text);
    if (why) {
        fail(client, is_wrong, why);
        return;
    }
    uint64_t bytes = plan->operation == PUT || plan->operation == COPY ? plan->size_bytes
                                                                       : client->answer.body_bytes;
    int is_compared = plan->operation == GET || plan->operation == RANGE || plan->operation == LIST;
    tally->verified += client->sampled && is_compared;
    if (!tally_add(tally, client->begun_ns, now_ns(), bytes))
        tally_error(tally, 0, "more requests than this program keeps count of: a shorter run");
    client->idle = 1;
    if (client->answer.closes) reopen(client);
}

static void came(struct client *client) {
    do {
        ssize_t count = wire_read(&client->wire, buffer, sizeof buffer);
        if (count < 0) {
            fail(client, 0, "the connection ended before the answer");
            return;
        }
        if (count == 0) return;
        client->moved_ns = now_ns();
        size_t taken = answer_feed(&client->answer, buffer, (size_t)count, compare, client);
        if (client->answer.state == BROKEN) {
            fail(client, 0, client->answer.why);
            return;
        }
        if (client->answer.state == DONE) {
            if (taken < (size_t)count)
                fail(client, 0, "answered with more than it announced");
            else
                ended(client);
            return;
        }
    } while (wire_holds_bytes(&client->wire));
}

static void look_for_stalls(struct worker *worker) {
    int64_t before = now_ns() - worker->run->plan.stall_ns;
    for (int i = 0; i < worker->count; i++) {
        struct client *client = &worker->clients[i];
        if (client->retired || client->moved_ns > before) continue;
        fail(client, 0, "nothing came, or was taken, for too long");
        while (client->idle && !client->retired) begin(client);
    }
}

const char *worker_setup(struct worker *worker, struct run *run, int count) {
    worker->run = run;
    worker->clients = calloc((size_t)count, sizeof *worker->clients);
    worker->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (worker->clients == NULL || worker->epoll < 0) return "no memory, or no epoll";
    for (; worker->count < count; worker->count++) {
        struct client *client = &worker->clients[worker->count];
        client->worker = worker;
        client->signer.key_id = run->plan.key_id;
        client->signer.secret = run->plan.secret;
        client->signer.region = run->plan.region;
        client->signer.host = run->target.authority;
        signer_setup(&client->signer);
        const char *why = wire_open(&client->wire, &run->target);
        if (why) return why;
        struct epoll_event event = {EPOLLIN, {.ptr = client}};
        if (epoll_ctl(worker->epoll, EPOLL_CTL_ADD, client->wire.fd, &event)) return "epoll_ctl";
    }
    worker->alive = count;
    return NULL;
}

void *worker_run(void *given) {
    struct worker *worker = given;
    struct run *run = worker->run;
    struct epoll_event events[EVENTS];
    int64_t looked_ns = now_ns();
    for (int i = 0; i < worker->count; i++) {
        struct client *client = &worker->clients[i];
        client->idle = 1;
        while (client->idle && !client->retired) begin(client);
    }
    while (worker->alive > 0) {
        int count = epoll_wait(worker->epoll, events, EVENTS, 100);
        for (int i = 0; i < count; i++) {
            struct client *client = events[i].data.ptr;
            if (client->retired) continue;
            if (events[i].events & (EPOLLIN | EPOLLHUP | EPOLLERR)) came(client);
            if (!client->idle && !client->retired && events[i].events & EPOLLOUT) pump(client);
            while (client->idle && !client->retired) begin(client);
        }
        if (now_ns() - looked_ns > run->plan.stall_ns / 4) {
            look_for_stalls(worker);
            looked_ns = now_ns();
        }
    }
    pthread_mutex_lock(&run->lock);
    if (--run->threads_left == 0) pthread_cond_signal(&run->ended);
    pthread_mutex_unlock(&run->lock);
    return NULL;
}
