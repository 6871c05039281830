#define _GNU_SOURCE
#include "wire.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

enum { OPEN_S = 10, READ_AHEAD_BYTES = 64 << 10 };

static const char *tls_setup(struct target *target, const char *ca) {
    target->tls = SSL_CTX_new(TLS_client_method());
    if (target->tls == NULL) return "no TLS";
    SSL_CTX_set_min_proto_version(target->tls, TLS1_2_VERSION);
    SSL_CTX_set_verify(target->tls, SSL_VERIFY_PEER, NULL);
    SSL_CTX_set_mode(target->tls,
                     SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(target->tls, 1); /* else two system calls for each record */
    SSL_CTX_set_default_read_buffer_len(target->tls, READ_AHEAD_BYTES);
    if (ca ? !SSL_CTX_load_verify_locations(target->tls, ca, NULL)
           : !SSL_CTX_set_default_verify_paths(target->tls))
        return "no certificates to trust in the file of --ca";
    return NULL;
}

const char *target_setup(struct target *target, const char *url, const char *ca) {
    struct addrinfo hints = {0}, *found;
    int tls = strncmp(url, "https://", 8) == 0;
    if (!tls && strncmp(url, "http://", 7) != 0) return "the URL begins with no http[s]://";
    const char *at = url + (tls ? 8 : 7), *usual = tls ? "443" : "80";
    size_t bytes = strcspn(at, "/"), host = bytes;
    if (at[bytes] && at[bytes + 1]) return "the URL has a path";
    for (size_t i = bytes; i-- > 0 && at[i] != ']';)
        if (at[i] == ':') {
            host = i;
            break;
        }
    size_t port = host < bytes ? bytes - host - 1 : 0;
    if (host == 0 || host >= sizeof target->host || port >= sizeof target->service)
        return "the URL has no host, or one that is too long";
    strcpy(target->service, usual);
    if (port) {
        memcpy(target->service, at + host + 1, port);
        target->service[port] = 0;
    }
    memcpy(target->authority, at, host);
    target->authority[host] = 0;
    if (strcmp(target->service, usual) != 0)
        strcat(strcat(target->authority, ":"), target->service);
    int brackets = at[0] == '[';
    memcpy(target->host, at + brackets, host - 2 * (size_t)brackets);
    target->host[host - 2 * (size_t)brackets] = 0;
    hints.ai_socktype = SOCK_STREAM;
    if (getaddrinfo(target->host, target->service, &hints, &found) != 0)
        return "the host of the URL is not known";
    memcpy(&target->address, found->ai_addr, found->ai_addrlen);
    target->address_bytes = found->ai_addrlen;
    freeaddrinfo(found);
    target->tls = NULL;
    return tls ? tls_setup(target, ca) : NULL;
}

static const char *handshake(struct wire *wire, const struct target *target) {
    unsigned char number[16];
    wire->ssl = SSL_new(target->tls);
    if (wire->ssl == NULL) return "no TLS";
    if (inet_pton(AF_INET, target->host, number) == 1 ||
        inet_pton(AF_INET6, target->host, number) == 1) {
        X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(wire->ssl), target->host);
    } else {
        SSL_set1_host(wire->ssl, target->host);
        SSL_set_tlsext_host_name(wire->ssl, target->host);
    }
    SSL_set_fd(wire->ssl, wire->fd);
    if (SSL_connect(wire->ssl) == 1) return NULL;
    long verified = SSL_get_verify_result(wire->ssl);
    if (verified != X509_V_OK) return X509_verify_cert_error_string(verified);
    return "the TLS handshake failed";
}

const char *wire_open(struct wire *wire, const struct target *target) {
    struct timeval limit = {OPEN_S, 0}, none = {0, 0};
    int on = 1;
    wire->ssl = NULL;
    wire->fd = socket(target->address.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (wire->fd < 0) return strerror(errno);
    setsockopt(wire->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit); /* of connect, too */
    setsockopt(wire->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    setsockopt(wire->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    const char *why = NULL;
    if (connect(wire->fd, (const struct sockaddr *)&target->address, target->address_bytes) != 0)
        why = strerror(errno);
    else if (target->tls)
        why = handshake(wire, target);
    if (why == NULL) {
        setsockopt(wire->fd, SOL_SOCKET, SO_SNDTIMEO, &none, sizeof none);
        setsockopt(wire->fd, SOL_SOCKET, SO_RCVTIMEO, &none, sizeof none);
        if (fcntl(wire->fd, F_SETFL, O_NONBLOCK) == 0) return NULL;
        why = strerror(errno);
    }
    wire_close(wire);
    return why;
}

static ssize_t moved(struct wire *wire, int result) {
    if (result > 0) return result;
    int error = SSL_get_error(wire->ssl, result);
    ERR_clear_error();
    return error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE ? 0 : -1;
}

ssize_t wire_write(struct wire *wire, const void *data, size_t count, int more) {
    if (wire->ssl) return moved(wire, SSL_write(wire->ssl, data, (int)count));
    ssize_t sent = send(wire->fd, data, count, MSG_NOSIGNAL | (more ? MSG_MORE : 0));
    if (sent >= 0) return sent;
    return errno == EAGAIN || errno == EINTR ? 0 : -1;
}

ssize_t wire_read(struct wire *wire, void *data, size_t room) {
    if (wire->ssl) return moved(wire, SSL_read(wire->ssl, data, (int)room));
    ssize_t came = recv(wire->fd, data, room, 0);
    if (came > 0) return came;
    return came < 0 && (errno == EAGAIN || errno == EINTR) ? 0 : -1;
}

int wire_holds_bytes(const struct wire *wire) { return wire->ssl && SSL_has_pending(wire->ssl); }

void wire_close(struct wire *wire) {
    if (wire->ssl) SSL_free(wire->ssl);
    if (wire->fd >= 0) close(wire->fd);
    wire->ssl = NULL;
    wire->fd = -1;
}
