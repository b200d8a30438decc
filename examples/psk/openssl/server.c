/* server PURPOSE HOST:PORT
 *
 * How does a program that uses OpenSSL accept connections authenticated by one-time keys? Prints who calls,
 * and answers the first line of each caller by a greeting.
 *
 *     cc -o server server.c ../claviger_psk.c -lssl -lcrypto
 */

#define _POSIX_C_SOURCE 200809L

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "../claviger_psk.h"

/* One process serves one connection. */
static const char *purpose;
static struct claviger_psk psk;

static void die(const char *what)
{
    fprintf(stderr, "%s\n", what);
    ERR_print_errors_fp(stderr);
    exit(EXIT_FAILURE);
}

/* OpenSSL asks again if it made the client retry its ClientHello; the key is spent by then. */
static int redeem(const unsigned char *identity, size_t length)
{
    if (psk.identity[0] == '\0' && claviger_psk_redeem(&psk, identity, length) != 0) {
        memset(&psk, 0, sizeof psk);
        return -1;
    }
    if (length != strlen(psk.identity) || memcmp(identity, psk.identity, length) != 0)
        return -1;
    return strcmp(psk.purpose, purpose);
}

static int find_session(SSL *ssl, const unsigned char *identity, size_t length, SSL_SESSION **session)
{
    static const unsigned char TLS_AES_128_GCM_SHA256[] = {0x13, 0x01};

    *session = NULL;
    if (redeem(identity, length) != 0)
        return 1; /* No key: the handshake fails, because there is no certificate either. */
    *session = SSL_SESSION_new();
    if (*session == NULL ||
        !SSL_SESSION_set1_master_key(*session, psk.key, sizeof psk.key) ||
        !SSL_SESSION_set_cipher(*session, SSL_CIPHER_find(ssl, TLS_AES_128_GCM_SHA256)) ||
        !SSL_SESSION_set_protocol_version(*session, TLS1_3_VERSION)) {
        SSL_SESSION_free(*session);
        *session = NULL;
        return 0;
    }
    return 1;
}

static SSL_CTX *configure(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());

    /* OpenSSL picks the suite before it looks at the key, which is for SHA-256. No session ticket is sent,
       since it would open a second connection. And no certificate is loaded: with one, a client without a
       key would be let in. */
    if (context == NULL || !SSL_CTX_set_min_proto_version(context, TLS1_3_VERSION) ||
        !SSL_CTX_set_ciphersuites(context, "TLS_AES_128_GCM_SHA256:TLS_CHACHA20_POLY1305_SHA256") ||
        !SSL_CTX_set_num_tickets(context, 0))
        die("cannot set OpenSSL up");
    SSL_CTX_set_session_cache_mode(context, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_psk_find_session_callback(context, find_session);
    return context;
}

static void serve(SSL_CTX *context, BIO *connection)
{
    SSL *ssl = SSL_new(context);
    char line[1024], answer[2100];
    int length;

    if (ssl == NULL)
        die("out of memory");
    SSL_set_bio(ssl, connection, connection);
    if (SSL_accept(ssl) != 1 || !SSL_session_reused(ssl))
        die("refused");
    OPENSSL_cleanse(psk.key, sizeof psk.key);
    printf("%s for %s\n", psk.client, psk.purpose);
    fflush(stdout);

    if (SSL_read(ssl, line, sizeof line) > 0) {
        length = snprintf(answer, sizeof answer, "hello %s\n", psk.client);
        SSL_write(ssl, answer, length);
    }
    SSL_shutdown(ssl);
    SSL_free(ssl);
    exit(EXIT_SUCCESS);
}

int main(int count, char **arguments)
{
    SSL_CTX *context = configure();
    BIO *listener;

    if (count != 3)
        die("server PURPOSE HOST:PORT");
    purpose = arguments[1];
    listener = BIO_new_accept(arguments[2]);
    if (listener == NULL || BIO_set_bind_mode(listener, BIO_BIND_REUSEADDR) != 1 ||
        BIO_do_accept(listener) != 1)
        die("cannot listen");
    printf("listening\n");
    fflush(stdout);

    signal(SIGCHLD, SIG_IGN); /* Nobody waits for the processes of connections. */
    while (BIO_do_accept(listener) == 1) {
        BIO *connection = BIO_pop(listener);

        if (fork() == 0) {
            signal(SIGCHLD, SIG_DFL); /* They wait for the command. */
            alarm(30);                /* A caller that says nothing does not stay. */
            serve(context, connection);
        }
        BIO_free(connection);
    }
    die("cannot accept");
}
