#include "sign.h"

#include <stdio.h>
#include <string.h>

enum { HASH = 32, BLOCK = 64 };

static void hmac_begin(SHA256_CTX *inner, SHA256_CTX *outer, const void *key, size_t bytes) {
    unsigned char padded[BLOCK] = {0}, pad[BLOCK];
    if (bytes > BLOCK)
        SHA256(key, bytes, padded);
    else
        memcpy(padded, key, bytes);
    for (int i = 0; i < BLOCK; i++) pad[i] = padded[i] ^ 0x36;
    SHA256_Init(inner);
    SHA256_Update(inner, pad, BLOCK);
    for (int i = 0; i < BLOCK; i++) pad[i] = padded[i] ^ 0x5c;
    SHA256_Init(outer);
    SHA256_Update(outer, pad, BLOCK);
}

static void hmac_end(SHA256_CTX inner, SHA256_CTX outer, const void *data, size_t bytes,
                     unsigned char out[HASH]) {
    SHA256_Update(&inner, data, bytes);
    SHA256_Final(out, &inner);
    SHA256_Update(&outer, out, HASH);
    SHA256_Final(out, &outer);
}

static void hmac(const void *key, size_t key_bytes, const char *text, unsigned char out[HASH]) {
    SHA256_CTX inner, outer;
    hmac_begin(&inner, &outer, key, key_bytes);
    hmac_end(inner, outer, text, strlen(text), out);
}

static void to_hex(const unsigned char hash[HASH], char hex[2 * HASH + 1]) {
    static const char digits[] = "0123456789abcdef";
    for (int i = 0; i < HASH; i++) {
        hex[2 * i] = digits[hash[i] >> 4];
        hex[2 * i + 1] = digits[hash[i] & 15];
    }
    hex[2 * HASH] = 0;
}

/* The day's key: HMACs of day, region, service and a constant, one with the other. */
static void derive(struct signer *signer) {
    char first[512];
    unsigned char key[HASH];
    int bytes = snprintf(first, sizeof first, "AWS4%s", signer->secret);
    hmac(first, (size_t)bytes, signer->day, key);
    hmac(key, HASH, signer->region, key);
    hmac(key, HASH, "s3", key);
    hmac(key, HASH, "aws4_request", key);
    hmac_begin(&signer->inner, &signer->outer, key, HASH);
}

static void tick(struct signer *signer) {
    time_t now = time(NULL);
    if (now == signer->second) return;
    struct tm parts;
    char day[9];
    gmtime_r(&now, &parts);
    strftime(signer->date, sizeof signer->date, "%Y%m%dT%H%M%SZ", &parts);
    strftime(day, sizeof day, "%Y%m%d", &parts);
    signer->second = now;
    if (strcmp(day, signer->day) != 0) {
        memcpy(signer->day, day, sizeof day);
        derive(signer);
    }
}

void signer_setup(struct signer *signer) {
    signer->second = 0;
    signer->day[0] = 0;
    tick(signer);
}

size_t sign_head(struct signer *signer, const struct request *request, char *out, size_t room) {
    char text[4096], hex[2 * HASH + 1], copied[1280] = "", length[64] = "", range[96] = "";
    unsigned char hash[HASH];
    const char *names = "host;x-amz-content-sha256;x-amz-date";
    tick(signer);
    if (request->copy_source) {
        names = "host;x-amz-content-sha256;x-amz-copy-source;x-amz-date";
        snprintf(copied, sizeof copied, "x-amz-copy-source:%s\n", request->copy_source);
    }
    int bytes = snprintf(text, sizeof text,
                         "%s\n%s\n%s\nhost:%s\nx-amz-content-sha256:%s\n%sx-amz-date:%s\n\n%s\n%s",
                         request->method, request->path, request->query ? request->query : "",
                         signer->host, request->payload, copied, signer->date, names,
                         request->payload);
    if (bytes >= (int)sizeof text) return 0;
    SHA256((unsigned char *)text, (size_t)bytes, hash);
    to_hex(hash, hex);
    bytes = snprintf(text, sizeof text, "AWS4-HMAC-SHA256\n%s\n%s/%s/s3/aws4_request\n%s",
                     signer->date, signer->day, signer->region, hex);
    hmac_end(signer->inner, signer->outer, text, (size_t)bytes, hash);
    to_hex(hash, hex);
    if (request->content_bytes >= 0)
        snprintf(length, sizeof length, "content-length: %lld\r\n",
                 (long long)request->content_bytes);
    if (request->range) snprintf(range, sizeof range, "range: %s\r\n", request->range);
    if (request->copy_source)
        snprintf(copied, sizeof copied, "x-amz-copy-source: %s\r\n", request->copy_source);
    bytes = snprintf(out, room,
                     "%s %s%s%s HTTP/1.1\r\nhost: %s\r\nx-amz-content-sha256: %s\r\n"
                     "x-amz-date: %s\r\n%s%s%sauthorization: AWS4-HMAC-SHA256 Credential="
                     "%s/%s/%s/s3/aws4_request, SignedHeaders=%s, Signature=%s\r\n\r\n",
                     request->method, request->path, request->query ? "?" : "",
                     request->query ? request->query : "", signer->host, request->payload,
                     signer->date, copied, length, range, signer->key_id, signer->day,
                     signer->region, names, hex);
    return bytes < (int)room ? (size_t)bytes : 0;
}
