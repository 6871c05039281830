#include "answer.h"

#include <stdlib.h>
#include <string.h>
#include <strings.h>

void answer_begin(struct answer *answer, int bodiless) {
    memset(answer, 0, offsetof(struct answer, line));
    answer->kept[0] = 0;
    answer->bodiless = bodiless;
}

static void broken(struct answer *answer, const char *why) {
    answer->state = BROKEN;
    answer->why = why;
}

/* The value of a header, or NULL. The head is one text, its lines end with CRLF. */
static const char *header(const char *head, const char *name) {
    size_t bytes = strlen(name);
    for (const char *line = strstr(head, "\r\n"); line && line[2]; line = strstr(line, "\r\n")) {
        line += 2;
        if (strncasecmp(line, name, bytes) == 0 && line[bytes] == ':') {
            line += bytes + 1;
            return line + strspn(line, " \t");
        }
    }
    return NULL;
}

static void head_ended(struct answer *answer) {
    const char *head = answer->line, *value;
    if (strncmp(head, "HTTP/1.1 ", 9) != 0) {
        broken(answer, "no HTTP/1.1 answer");
        return;
    }
    answer->status = atoi(head + 9);
    value = header(head, "connection");
    answer->closes = value && strncasecmp(value, "close", 5) == 0;
    if (answer->status / 100 == 1) { /* 100 Continue, and then the answer */
        answer->line_bytes = 0;
        return;
    }
    int chunked = (value = header(head, "transfer-encoding")) && !strncasecmp(value, "chunked", 7);
    value = header(head, "content-length");
    int empty = answer->bodiless || answer->status == 204 || answer->status == 304;
    if (!chunked && value == NULL && !empty) {
        broken(answer, "an answer without a length");
        return;
    }
    answer->announced_bytes = chunked ? -1 : value ? strtoll(value, NULL, 10) : 0;
    answer->left = chunked || empty ? 0 : (uint64_t)answer->announced_bytes;
    answer->state = empty ? DONE : chunked ? CHUNK_HEAD : answer->left ? BODY : DONE;
    answer->line_bytes = 0;
}

/* Takes up to the end of a line, or of the head, into `line`. */
static size_t take_line(struct answer *answer, const uint8_t *data, size_t count,
                        const char *ends, int *complete) {
    size_t taken = 0, end = strlen(ends);
    *complete = 0;
    while (taken < count) {
        if (answer->line_bytes == HEAD_BYTES_MAX) {
            broken(answer, "a head without an end");
            return taken;
        }
        /* A head comes in one piece as a rule: copy to the next line feed at once. */
        const uint8_t *feed = memchr(data + taken, '\n', count - taken);
        size_t bytes = feed ? (size_t)(feed - data) + 1 - taken : count - taken;
        if (bytes > HEAD_BYTES_MAX - answer->line_bytes)
            bytes = HEAD_BYTES_MAX - answer->line_bytes;
        memcpy(answer->line + answer->line_bytes, data + taken, bytes);
        taken += bytes;
        answer->line_bytes += bytes;
        answer->line[answer->line_bytes] = 0;
        if (answer->line_bytes >= end &&
            memcmp(answer->line + answer->line_bytes - end, ends, end) == 0) {
            *complete = 1;
            return taken;
        }
    }
    return taken;
}

static size_t take_body(struct answer *answer, const uint8_t *data, size_t count, sink *to,
                        void *context) {
    size_t bytes = count < answer->left ? count : answer->left;
    size_t kept = KEPT_BYTES - answer->kept_bytes;
    if (kept > bytes) kept = bytes;
    memcpy(answer->kept + answer->kept_bytes, data, kept);
    answer->kept_bytes += kept;
    answer->kept[answer->kept_bytes] = 0;
    to(context, data, bytes);
    answer->body_bytes += bytes;
    answer->left -= bytes;
    if (answer->left == 0) answer->state = answer->state == BODY ? DONE : CHUNK_END;
    return bytes;
}

static size_t take_lines(struct answer *answer, const uint8_t *data, size_t count) {
    int complete;
    const char *ends = answer->state == HEAD ? "\r\n\r\n" : "\r\n";
    size_t taken = take_line(answer, data, count, ends, &complete);
    if (!complete || answer->state == BROKEN) return taken;
    if (answer->state == HEAD) {
        head_ended(answer);
        return taken;
    }
    char *end;
    switch (answer->state) {
    case CHUNK_HEAD:
        answer->left = strtoull(answer->line, &end, 16);
        if (end == answer->line) broken(answer, "a chunk without a size");
        else answer->state = answer->left ? CHUNK : TRAILER;
        break;
    case CHUNK_END:
        if (answer->line_bytes != 2) broken(answer, "a chunk that does not end");
        else answer->state = CHUNK_HEAD;
        break;
    default: /* TRAILER: ends with an empty line */
        if (answer->line_bytes == 2) answer->state = DONE;
    }
    answer->line_bytes = 0;
    return taken;
}

size_t answer_feed(struct answer *answer, const uint8_t *data, size_t count, sink *to,
                   void *context) {
    size_t taken = 0;
    while (taken < count && answer->state != DONE && answer->state != BROKEN) {
        if (answer->state == BODY || answer->state == CHUNK)
            taken += take_body(answer, data + taken, count - taken, to, context);
        else
            taken += take_lines(answer, data + taken, count - taken);
    }
    return taken;
}
