#define _POSIX_C_SOURCE 200809L

#include "claviger_psk.h"

#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

/* Starts the command without a shell; its output is to be read from the descriptor that is returned. */
static int start(char *const arguments[], pid_t *child)
{
    posix_spawn_file_actions_t actions;
    int ends[2], error;

    if (pipe(ends) != 0)
        return -1;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
    posix_spawn_file_actions_addclose(&actions, ends[0]);
    posix_spawn_file_actions_addclose(&actions, ends[1]);
    error = posix_spawnp(child, arguments[0], &actions, NULL, arguments, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(ends[1]);
    if (error != 0) {
        close(ends[0]);
        return -1;
    }
    return ends[0];
}

static int decode_key(unsigned char key[32], const char *hex)
{
    for (size_t i = 0; i < 32; i++)
        if (sscanf(hex + 2 * i, "%2hhx", &key[i]) != 1)
            return -1;
    return 0;
}

/* Runs the command and reads the lines that it prints: a word, spaces, a value. */
static int ask(struct claviger_psk *psk, char *const arguments[])
{
    char line[2200], hex[65] = "";
    int output, status = -1;
    pid_t child;
    FILE *lines;

    memset(psk, 0, sizeof *psk);
    output = start(arguments, &child);
    if (output < 0)
        return -1;
    /* Not buffered: no copy of the key stays behind in the stream. */
    lines = fdopen(output, "r");
    if (lines != NULL) {
        setvbuf(lines, NULL, _IONBF, 0);
        while (fgets(line, sizeof line, lines) != NULL) {
            sscanf(line, "identity %25s", psk->identity);
            sscanf(line, "key %64s", hex);
            sscanf(line, "client %2048s", psk->client);
            sscanf(line, "purpose %128s", psk->purpose);
            memset(line, 0, sizeof line);
        }
        fclose(lines);
    }
    if (waitpid(child, &status, 0) != child || status != 0 || strlen(hex) != 64)
        return -1;
    return decode_key(psk->key, hex);
}

int claviger_psk_issue(struct claviger_psk *psk, const char *peer, const char *purpose)
{
    char *const arguments[] = {"claviger",   "psk",           "issue", "--peer", (char *)peer,
                               "--purpose", (char *)purpose, NULL};

    return ask(psk, arguments);
}

int claviger_psk_redeem(struct claviger_psk *psk, const void *identity, size_t length)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    char text[26] = "";
    char *const arguments[] = {"claviger", "psk", "redeem", "--identity", text, NULL};

    /* A stranger sent it: `p1.` and 22 characters, or it is not worth a process. */
    if (length != 25 || memcmp(identity, "p1.", 3) != 0)
        return -1;
    memcpy(text, identity, length);
    if (strspn(text + 3, alphabet) != 22)
        return -1;
    return ask(psk, arguments);
}
