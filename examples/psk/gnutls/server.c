/* server PURPOSE PORT
 *
 * How does a program that uses GnuTLS accept connections authenticated by one-time keys? Listens on this
 * machine, prints who calls, and answers the first line of each caller by a greeting.
 *
 *     cc -o server server.c ../claviger_psk.c -lgnutls
 */

#define _POSIX_C_SOURCE 200809L

#include <arpa/inet.h>
#include <gnutls/gnutls.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "../claviger_psk.h"

/* TLS 1.3 by a key and Diffie-Hellman, suites of SHA-256, and nothing by certificates. */
static const char priority[] = "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+ECDHE-PSK:+DHE-PSK:"
                               "-CIPHER-ALL:+AES-128-GCM:+CHACHA20-POLY1305";

/* One process serves one connection. */
static const char *purpose;
static struct claviger_psk psk;

static void die(const char *what, int error)
{
    fprintf(stderr, "%s: %s\n", what, gnutls_strerror(error));
    exit(EXIT_FAILURE);
}

/* GnuTLS asks again if it made the client retry its ClientHello; the key is spent by then. */
static int redeem(gnutls_session_t session, const char *identity, gnutls_datum_t *key)
{
    (void)session;
    if (psk.identity[0] == '\0' && claviger_psk_redeem(&psk, identity, strlen(identity)) != 0) {
        memset(&psk, 0, sizeof psk);
        return -1;
    }
    if (strcmp(identity, psk.identity) != 0 || strcmp(psk.purpose, purpose) != 0)
        return -1;
    key->data = gnutls_malloc(sizeof psk.key);
    if (key->data == NULL)
        return -1;
    key->size = sizeof psk.key;
    memcpy(key->data, psk.key, sizeof psk.key);
    return 0;
}

static gnutls_session_t shake_hands(int connection)
{
    gnutls_psk_server_credentials_t credentials;
    gnutls_session_t session;
    int error;

    /* No session ticket is sent, since it would open a second connection. There are no credentials for
       certificates, so a client without a key is refused. */
    if ((error = gnutls_psk_allocate_server_credentials(&credentials)) < 0 ||
        (error = gnutls_init(&session, GNUTLS_SERVER | GNUTLS_NO_TICKETS)) < 0 ||
        (error = gnutls_priority_set_direct(session, priority, NULL)) < 0 ||
        (error = gnutls_credentials_set(session, GNUTLS_CRD_PSK, credentials)) < 0)
        die("cannot set GnuTLS up", error);
    gnutls_psk_set_server_credentials_function(credentials, redeem);
    gnutls_transport_set_int(session, connection);
    do
        error = gnutls_handshake(session);
    while (error < 0 && !gnutls_error_is_fatal(error));
    if (error >= 0 && gnutls_auth_get_type(session) != GNUTLS_CRD_PSK)
        error = GNUTLS_E_INSUFFICIENT_CREDENTIALS;
    if (error < 0) {
        gnutls_alert_send_appropriate(session, error);
        die("refused", error);
    }
    return session;
}

static void serve(int connection)
{
    gnutls_session_t session = shake_hands(connection);
    char line[1024], answer[2100];

    gnutls_memset(psk.key, 0, sizeof psk.key);
    printf("%s for %s\n", psk.client, psk.purpose);
    fflush(stdout);
    if (gnutls_record_recv(session, line, sizeof line) > 0) {
        int length = snprintf(answer, sizeof answer, "hello %s\n", psk.client);

        gnutls_record_send(session, answer, (size_t)length);
    }
    gnutls_bye(session, GNUTLS_SHUT_WR);
    exit(EXIT_SUCCESS);
}

int main(int count, char **arguments)
{
    struct sockaddr_in here = {.sin_family = AF_INET};
    int listener = socket(AF_INET, SOCK_STREAM, 0), again = 1, connection;

    if (count != 3) {
        fprintf(stderr, "server PURPOSE PORT\n");
        return EXIT_FAILURE;
    }
    purpose = arguments[1];
    here.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    here.sin_port = htons((unsigned short)atoi(arguments[2]));
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &again, sizeof again);
    if (bind(listener, (struct sockaddr *)&here, sizeof here) != 0 || listen(listener, 16) != 0) {
        perror("cannot listen");
        return EXIT_FAILURE;
    }
    printf("listening\n");
    fflush(stdout);

    signal(SIGCHLD, SIG_IGN); /* Nobody waits for the processes of connections. */
    while ((connection = accept(listener, NULL, NULL)) >= 0) {
        if (fork() == 0) {
            signal(SIGCHLD, SIG_DFL); /* They wait for the command. */
            alarm(30);                /* A caller that says nothing does not stay. */
            serve(connection);
        }
        close(connection);
    }
    perror("cannot accept");
    return EXIT_FAILURE;
}
